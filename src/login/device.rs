//! A login on another device (RFC 8628): asks until the person has finished there.

use std::sync::Arc;
use std::time::Duration;

use super::progress::{Ending, Step};
use crate::clock::{BootInstant, sleep_until};
use crate::oauth::{Class, DeviceAuthorization, ErrorCode, Identity};
use crate::token::Error;
use crate::token::{Account, LoginError};

/// A login that goes on elsewhere.
pub(super) struct DeviceLogin {
    account: Arc<Account>,
    device: DeviceAuthorization,
    until: BootInstant,
}

impl DeviceLogin {
    pub(super) async fn open(account: Arc<Account>) -> Result<Self, Error> {
        let asked = BootInstant::now();
        let device = account.authorize_device().await?;
        let until = asked + device.expires_in;
        Ok(Self { account, device, until })
    }

    /// Until when the code is good.
    pub(super) const fn until(&self) -> BootInstant {
        self.until
    }

    /// What the person is to do.
    pub(super) fn step(&self) -> Step {
        let DeviceAuthorization { user_code, verification_uri, verification_uri_complete, .. } = &self.device;
        Step::Device {
            user_code: user_code.clone(),
            verification_uri: verification_uri.clone(),
            verification_uri_complete: verification_uri_complete.clone(),
        }
    }

    /// Asks, not sooner than it may, until there is an outcome.
    pub(super) async fn finish(self) -> Result<Option<Identity>, Ending> {
        let mut pace = Pace::of(self.device.interval);
        loop {
            let next = BootInstant::now() + pace.gap;
            if next >= self.until {
                sleep_until(self.until).await;
                return Err(Ending {
                    kept: false,
                    cause: "expired_token",
                    message:
                        "the code has expired before the login was finished on the other device; begin again"
                            .to_owned(),
                });
            }
            sleep_until(next).await;
            match self.account.redeem_device(&self.device).await {
                Ok(user) => return Ok(user),
                Err(LoginError::Protocol(error)) if pace.goes_on(&error) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// How long to wait between two questions, and how many responses in a row said nothing.
struct Pace {
    gap: Duration,
    unread: u32,
}

impl Pace {
    const fn of(gap: Duration) -> Self {
        Self { gap, unread: 0 }
    }

    /// Whether to ask again after this answer, and from then on how seldom (RFC 8628 section 3.5).
    fn goes_on(&mut self, error: &Error) -> bool {
        let unread = std::mem::take(&mut self.unread);
        match error.code() {
            Some(ErrorCode::AuthorizationPending) => {}
            Some(ErrorCode::SlowDown) => self.gap += SLOWER,
            _ if error.class() == Class::Transient => self.slow_down(error),
            // It may say that it is too early in words that are not known.
            _ if error.is_unexplained() && unread < MOST_UNREAD => {
                self.unread = unread + 1;
                self.slow_down(error);
            }
            _ => return false,
        }
        true
    }

    fn slow_down(&mut self, error: &Error) {
        let hold = error.retry_after().unwrap_or_default();
        self.gap = self.gap.saturating_mul(2).min(SLOWEST).max(self.gap).max(hold);
    }
}

/// What `slow_down` adds, for this and all later questions.
const SLOWER: Duration = Duration::from_secs(5);
/// Failures make it no slower than this.
const SLOWEST: Duration = Duration::from_mins(1);
/// So many responses in a row may say nothing that can be read.
const MOST_UNREAD: u32 = 5;

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;
    use crate::oauth::{ErrorKind, TransportFault};

    fn denied(code: &str) -> Error {
        Error::from(ErrorKind::Denied(StatusCode::BAD_REQUEST, ErrorCode::parse(code)))
    }

    #[test]
    fn it_slows_down_where_it_is_told_to_and_for_good() {
        let mut pace = Pace::of(Duration::from_secs(5));
        assert!(pace.goes_on(&denied("authorization_pending")));
        assert_eq!(pace.gap, Duration::from_secs(5));
        assert!(pace.goes_on(&denied("slow_down")));
        assert!(pace.goes_on(&denied("authorization_pending")));
        assert!(pace.goes_on(&denied("slow_down")));
        assert_eq!(pace.gap, Duration::from_secs(15));
    }

    #[test]
    fn a_failing_network_makes_it_ask_ever_less_often() {
        let mut pace = Pace::of(Duration::from_secs(5));
        for want in [10, 20, 40, 60, 60] {
            assert!(pace.goes_on(&Error::from(TransportFault::Dns)));
            assert_eq!(pace.gap, Duration::from_secs(want));
        }
    }

    #[test]
    fn a_response_that_says_nothing_is_borne_a_few_times_in_a_row() {
        let nothing = || Error::from(ErrorKind::Status(StatusCode::BAD_REQUEST));
        let mut pace = Pace::of(Duration::from_secs(5));
        for _ in 0..2 {
            for _ in 0..MOST_UNREAD {
                assert!(pace.goes_on(&nothing()));
            }
            assert!(pace.goes_on(&denied("authorization_pending")), "it counts anew");
        }
        let asked = (0..100).take_while(|_| pace.goes_on(&nothing())).count();
        assert_eq!(asked, MOST_UNREAD as usize);
        for status in [401, 404] {
            let error = Error::from(ErrorKind::Status(StatusCode::from_u16(status).unwrap()));
            assert!(!Pace::of(Duration::from_secs(5)).goes_on(&error), "{status}");
        }
    }

    #[test]
    fn a_refusal_ends_it_at_once() {
        for code in ["access_denied", "expired_token", "invalid_grant", "invalid_client", "unheard_of"] {
            assert!(!Pace::of(Duration::from_secs(5)).goes_on(&denied(code)), "{code}");
        }
    }
}
