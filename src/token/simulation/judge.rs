//! What must never happen, each looked at where it would show: at the server for calls, at a reader for tokens, at the
//! store for refresh tokens.

use std::time::Duration;

use super::world::{Inner, Kind, Weather};
use crate::clock::BootInstant;
use crate::oauth::Class;
use crate::token::error::Error;
use crate::token::schedule::{MIN_RENEWAL_GAP, MIN_RETRY_GAP, renew_after};
use crate::token::{Policy, TokenState};

/// What the judge remembers of a token.
#[derive(Debug, Default)]
pub(super) struct Account {
    under_way: u32,
    /// The last call of this process.
    last: Option<Record>,
    /// When someone last asked for a token: the schedule does not bind the call that follows.
    asked: Option<BootInstant>,
    /// Refresh tokens that were lost on the way, for which no store can be blamed.
    excuses: u32,
    /// Its authorization server took the grant away.
    taken: bool,
    /// The process knows that nothing but a login helps.
    refused: bool,
}

#[derive(Debug)]
struct Record {
    started: BootInstant,
    /// `None`: it is under way.
    ended: Option<(BootInstant, End)>,
    /// For how long the token that it brought counts, where that is the usual.
    lifetime: Option<Duration>,
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Token,
    Failed {
        class: Class,
        hold: Duration,
    },
    /// The process ended, or gave it up.
    Dropped,
}

impl End {
    pub(super) fn failed(error: &Error) -> Self {
        Self::Failed { class: error.class(), hold: error.retry_after().unwrap_or_default() }
    }
}

impl Account {
    /// Someone asks for a token, or says that something was mended.
    pub(super) fn ask(&mut self) {
        self.asked = Some(BootInstant::now());
    }

    /// A refresh token was lost that could not have been kept.
    pub(super) fn excuse(&mut self) {
        self.excuses += 1;
    }

    /// Its server takes the grant away.
    pub(super) fn take_away(&mut self) {
        self.taken = true;
    }

    pub(super) fn logged_in(&mut self) {
        (self.excuses, self.taken, self.refused, self.asked) = (0, false, false, Some(BootInstant::now()));
    }

    /// Another process: it knows nothing of the calls before.
    pub(super) fn restart(&mut self) {
        (self.last, self.refused) = (None, false);
    }

    /// A token came out of the store.
    pub(super) fn begin_without_a_call(&mut self) {
        self.last = None;
    }

    pub(super) fn refused(&self) -> bool {
        self.refused
    }

    pub(super) fn ended(&mut self, end: End, lifetime: Duration, odd: bool) {
        self.under_way -= 1;
        self.refused = matches!(end, End::Failed { class: Class::Refused, .. });
        if let Some(last) = &mut self.last {
            last.ended = Some((BootInstant::now(), end));
            last.lifetime = (!odd).then_some(lifetime);
        }
    }
}

impl Inner {
    /// Whether a call may start now.
    pub(super) fn judge_call(&mut self, token: usize) -> Option<String> {
        let now = BootInstant::now();
        let policy = self.policy.clone();
        let account = &mut self.grants[token].account;
        let broken = if account.under_way > 0 {
            Some(format!("token {token}: two token requests at once"))
        } else {
            account.last.as_ref().and_then(|last| too_soon(last, account.asked, now, &policy)).map(|rule| {
                format!("token {token}: a call {rule}; before it: {:?}, now {now:?}", account.last)
            })
        };
        account.under_way += 1;
        account.last = Some(Record { started: now, ended: None, lifetime: None });
        broken
    }

    /// Whether the server may refuse the refresh token: not twice for one reason.
    pub(super) fn judge_refusal(&mut self, token: usize) -> Option<String> {
        let grant = &mut self.grants[token];
        if grant.account.taken || grant.account.excuses > 0 || grant.revoked {
            return None;
        }
        Some(format!(
            "token {token}: its refresh token was lost: an old one was spent, and nothing excuses it"
        ))
    }

    /// Whether the newest refresh token is safe while no request is under way.
    pub(super) fn judge_store(&mut self, token: usize) -> Option<String> {
        let grant = &mut self.grants[token];
        if grant.account.under_way > 0 || grant.account.excuses > 0 || grant.keeps_the_newest() {
            return None;
        }
        Some(format!(
            "token {token}: its refresh token {} was lost: the store has {}",
            grant.newest, grant.stored.refresh
        ))
    }

    /// Whether a reader may see this.
    pub(super) fn judge_state(&mut self, token: usize, state: &TokenState) -> Option<String> {
        let now = BootInstant::now();
        let Some(credentials) = state.usable(now) else { return self.judge_absence(token, state) };
        let text = credentials.value.to_str().unwrap();
        let serial = text.rsplit('-').next().unwrap().parse().unwrap();
        let (end, truth) = (self.grants[token].end_of(serial), self.truth());
        // Between a step of the wall clock and the look that notices it, it cannot be known.
        if truth < end || self.unseen > Duration::ZERO {
            return None;
        }
        Some(format!("token {token}: {text} has expired {:?} ago and is handed out", truth - end))
    }

    /// Whether a reader may find no token.
    fn judge_absence(&mut self, token: usize, state: &TokenState) -> Option<String> {
        let grant = &self.grants[token];
        let now = BootInstant::now();
        if self.weather != Weather::Well || grant.revoked || grant.account.taken {
            return None;
        }
        // Its server will refuse it, and no user has logged in.
        if grant.kind != Kind::Client && grant.account.excuses > 0 {
            return None;
        }
        let mut well_since = self.since;
        if let Some(last) = &grant.account.last {
            match last.ended {
                // It started in bad weather and may not have come to an end.
                None if last.started < self.since => return None,
                Some((at, End::Failed { hold, .. })) if last.started < self.since => {
                    well_since = well_since.max(at + hold);
                }
                Some((at, End::Dropped)) => well_since = well_since.max(at),
                _ => {}
            }
        }
        let well_for = now - well_since;
        if well_for <= self.policy.retry.max + A_BIT {
            return None;
        }
        Some(format!(
            "token {token}: no token although the server has been well for {well_for:?}; {:?}, next attempt in {:?}, \
             last call {:?}, now {now:?}",
            state.last_error,
            state.next_attempt.map(|at| at - now),
            grant.account.last,
        ))
    }
}

/// The rule that a call at `now` breaks.
fn too_soon(
    last: &Record,
    asked: Option<BootInstant>,
    now: BootInstant,
    policy: &Policy,
) -> Option<&'static str> {
    let (ended, end) = last.ended?;
    let floor = (policy.retry.initial / 2).max(MIN_RETRY_GAP);
    let apart = now - last.started >= MIN_RENEWAL_GAP;
    match end {
        End::Failed { hold, .. } if now < ended + hold => Some("while the server asked to be left alone"),
        _ if apart && asked.is_some_and(|at| at >= last.started) => None,
        End::Failed { class: Class::Refused, .. } => Some("too soon: only a login helps"),
        End::Failed { .. } if now < ended + floor => Some("too soon after a failure"),
        End::Failed { .. } | End::Dropped => None,
        // A token that is over when it comes counts as a failure.
        End::Token if last.lifetime.is_none() && now >= ended + floor => None,
        End::Token if !apart => Some("too soon after a token, whatever its lifetime"),
        End::Token => {
            let earliest = last.started + renew_after(last.lifetime?, policy, 1.0);
            (now < earliest).then_some("too soon: the token had long to live")
        }
    }
}

/// Beyond `retry.max`, for the answer and its write.
const A_BIT: Duration = Duration::from_secs(5);
