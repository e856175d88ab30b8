//! Whatever restricts the proxy restricts the control surface too: which processes may connect to it, and what those may do that
//! the proxy would refuse.
//!
//! TCP does not report the user of a peer: where the configuration restricts who may use the proxy, a TCP listener is for reading
//! alone.
//! A Unix socket's file has a mode, and a name in the abstract namespace is for the program's own user in its own container.

use http::StatusCode;

use super::problem::Problem;
use super::routes::Asked;
use crate::net::local_address::LocalAddress;
use crate::net::unix_peer::Peer;

/// Where the control surface listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ControlSettings {
    /// The address; `None`: there is no control surface.
    pub listen: Option<LocalAddress>,
    /// Whether that is 127.0.0.1, and stands for `[::1]`, too: where there is IPv6, it listens there at the same port.
    pub both_loopbacks: bool,
    /// Who may connect to a Unix socket with a path, as a file's mode: `0o600`.
    pub unix_mode: u32,
}

/// Who may use the proxy, as far as the control surface has to know it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Access {
    /// The keys that keep other users of this machine from the proxy; empty: none does.
    pub restricted_by: Vec<&'static str>,
    /// Users that may connect to Unix sockets with a path; empty: all that the mode lets in.
    pub allowed_uids: Vec<u32>,
    /// Whether a Unix socket of the proxy serves its group, without a secret.
    pub serves_group: bool,
}

impl ControlSettings {
    /// Whether users can connect whom the proxy would refuse, and why, as a sentence: then the control surface is for reading
    /// alone.
    #[must_use]
    pub(crate) fn read_only(&self, access: &Access) -> Option<String> {
        let address = self.listen.as_ref()?;
        if access.restricted_by.is_empty() {
            return None;
        }
        let lets_in = |class: u32| self.unix_mode & class != 0 && access.allowed_uids.is_empty();
        let users = match address {
            LocalAddress::Tcp(_) => "every user of this machine",
            LocalAddress::Path(_) if lets_in(OTHERS_WRITE) => "every user of this machine",
            LocalAddress::Path(_) if lets_in(GROUP_WRITE) && !access.serves_group => {
                "every user of its group"
            }
            LocalAddress::Path(_) | LocalAddress::Abstract(_) => return None,
        };
        let verb = if access.restricted_by.len() == 1 { "restricts" } else { "restrict" };
        Some(format!(
            "{users} can connect to {address}, and {} {verb} who may use the proxy: no token is handed out here, \
             and nothing is changed",
            listed(&access.restricted_by)
        ))
    }

    /// Judges the process at the other end of a connection; `None`: the kernel does not report it.
    pub(super) fn judge(&self, access: &Access, peer: Option<&Peer>) -> Result<(), Problem> {
        let detail = match (&self.listen, peer) {
            (None | Some(LocalAddress::Tcp(_)), _) => return Ok(()),
            (Some(_), None) => "The system does not report the user of this process.".to_owned(),
            (Some(LocalAddress::Path(_)), Some(peer)) => {
                if access.allowed_uids.is_empty()
                    || access.allowed_uids.contains(&peer.uid)
                    || peer.is_this_user()
                {
                    return Ok(());
                }
                format!(
                    "User {} is not in allowed_uids of [guard], and is not the one that cupbearer runs as.",
                    peer.uid
                )
            }
            (Some(LocalAddress::Abstract(_)), Some(peer)) if peer.is_own() => return Ok(()),
            (Some(LocalAddress::Abstract(_)), Some(peer)) if peer.same_pid_namespace => format!(
                "A socket in the abstract namespace is for the user that cupbearer runs as, and this is user {}. Run the command \
                 as that user, or set `listen` in [control] to the path of a socket.",
                peer.uid
            ),
            (Some(LocalAddress::Abstract(_)), Some(_)) => {
                "A socket in the abstract namespace is for processes of cupbearer's own container (its PID namespace), and this one is \
                 of another. Run the command there: kubectl exec, docker exec."
                    .to_owned()
            }
        };
        Err(Problem::new(StatusCode::FORBIDDEN, "Not for this process", detail))
    }
}

/// Why what would change something, or hand out a token, is refused.
pub(super) fn refusal(read_only: &str) -> Problem {
    let mut detail = format!("{read_only}. {WAY_OUT}");
    // A sentence begins with a capital.
    detail.replace_range(..1, &detail[..1].to_uppercase());
    Problem::new(StatusCode::FORBIDDEN, "Read-only", detail)
}

/// Whether a read-only control surface serves `asked`. A login's progress holds addresses and codes that are for the person who
/// began it.
pub(super) const fn is_reading(asked: &Asked<'_>) -> bool {
    match asked {
        Asked::Page | Asked::Events | Asked::Status | Asked::OtherMethod(_) | Asked::Unknown => true,
        Asked::Reload
        | Asked::Renew(_)
        | Asked::Logout(_)
        | Asked::AccessToken(_)
        | Asked::Login(_)
        | Asked::LoginProgress(_)
        | Asked::LoginCancel(_)
        | Asked::LoginCallback(_)
        | Asked::Silent(_)
        | Asked::SilentMessage
        | Asked::SilentFrame => false,
    }
}

fn listed(keys: &[&str]) -> String {
    match keys {
        [] => String::new(),
        [only] => (*only).to_owned(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

/// What to do where the control surface is for reading alone.
const WAY_OUT: &str = "Set `listen` in [control] to a Unix socket: \"unix:/run/cupbearer/control.sock\" with `unix_mode`, or \
    \"unix:@cupbearer\" for the user that cupbearer runs as.";
const GROUP_WRITE: u32 = 0o020;
const OTHERS_WRITE: u32 = 0o002;

#[cfg(test)]
mod tests {
    use super::*;

    fn at(address: &str, unix_mode: u32) -> ControlSettings {
        ControlSettings { listen: LocalAddress::parse(address), both_loopbacks: false, unix_mode }
    }

    #[test]
    fn a_restricted_proxy_is_read_only_where_every_user_can_connect() {
        let by = |restricted_by: &[&'static str], allowed_uids: &[u32]| Access {
            restricted_by: restricted_by.to_vec(),
            allowed_uids: allowed_uids.to_vec(),
            serves_group: false,
        };
        let sockets = by(&["server.listen, on Unix sockets alone,"], &[]);
        let group = Access { serves_group: true, ..sockets.clone() };
        let secret = by(&["guard.shared_secret"], &[]);
        for (address, mode, access, open) in [
            ("127.0.0.1:9902", 0o600, by(&[], &[]), false),
            ("127.0.0.1:9902", 0o600, secret.clone(), true),
            ("[::1]:9902", 0o600, by(&["guard.allowed_uids"], &[0]), true),
            ("unix:/run/c.sock", 0o600, secret.clone(), false),
            ("unix:/run/c.sock", 0o660, secret.clone(), true),
            ("unix:/run/c.sock", 0o660, sockets.clone(), true),
            ("unix:/run/c.sock", 0o620, sockets.clone(), true),
            ("unix:/run/c.sock", 0o640, sockets, false),
            ("unix:/run/c.sock", 0o660, group.clone(), false),
            ("unix:/run/c.sock", 0o666, group, true),
            ("unix:/run/c.sock", 0o660, by(&["guard.allowed_uids"], &[0]), false),
            ("unix:/run/c.sock", 0o666, secret.clone(), true),
            ("unix:/run/c.sock", 0o602, secret.clone(), true),
            ("unix:/run/c.sock", 0o666, by(&["guard.allowed_uids"], &[0]), false),
            ("unix:/run/c.sock", 0o666, by(&[], &[]), false),
            ("unix:@cupbearer", 0o666, secret, false),
            ("none", 0o666, by(&["guard.allowed_uids"], &[]), false),
        ] {
            let told = at(address, mode).read_only(&access);
            assert_eq!(told.is_some(), open, "{address} {mode:o} {access:?}");
        }
        let two = by(&["guard.allowed_uids", "server.tls.client_ca_file"], &[]);
        let told = refusal(&at("127.0.0.1:1", 0o600).read_only(&two).unwrap()).detail;
        for words in [
            "Every user",
            "guard.allowed_uids and server.tls.client_ca_file restrict ",
            "127.0.0.1:1",
            "unix:",
        ] {
            assert!(told.contains(words), "{words} in {told}");
        }
    }

    #[test]
    fn each_kind_of_socket_has_its_own_processes() {
        let own = rustix::process::geteuid().as_raw();
        let peer = |uid, same_pid_namespace| Some(Peer { uid, same_pid_namespace });
        let listed = Access { allowed_uids: vec![own + 2], ..Access::default() };
        for (address, access, peer, says) in [
            ("127.0.0.1:1", listed.clone(), None, None),
            ("unix:/run/c.sock", Access::default(), peer(own + 1, false), None),
            ("unix:/run/c.sock", listed.clone(), peer(own + 2, true), None),
            ("unix:/run/c.sock", listed.clone(), peer(own, true), None),
            ("unix:/run/c.sock", listed.clone(), peer(own + 1, true), Some("is not in allowed_uids")),
            ("unix:/run/c.sock", listed.clone(), None, Some("does not report")),
            ("unix:@c", Access::default(), peer(own, true), None),
            ("unix:@c", Access::default(), peer(own, false), Some("another")),
            ("unix:@c", listed.clone(), peer(own + 2, true), Some("is for the user that cupbearer runs as")),
            ("unix:@c", listed, None, Some("does not report")),
        ] {
            let told = at(address, 0o600).judge(&access, peer.as_ref()).err().map(|problem| problem.detail);
            match (&told, says) {
                (None, None) => {}
                (Some(told), Some(says)) => assert!(told.contains(says), "{told}"),
                _ => panic!("{address} {peer:?}: {told:?}"),
            }
        }
    }
}
