//! `[control]`: where the control surface listens, and that it is not open to more users than the proxy is.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::listen::{Taken, claim, claim_socket, localhost, loopbacks, single};
use super::{Settings, socket};
use crate::config::file::Control;
use crate::config::findings::Review;
use crate::config::problem::KeyPath;
use crate::control::ControlSettings;
use crate::net::local_address::{LocalAddress, UNIX};
use crate::token::StoreSettings;

/// Resolves the section. `usual` is the default address, `sockets` and `taken` are where the others listen.
pub(super) fn resolve(
    control: &Control,
    usual: &str,
    sockets: &[(KeyPath, PathBuf)],
    taken: &mut Taken,
    review: &mut Review<'_>,
) -> Option<ControlSettings> {
    let unix_mode = mode(control, review);
    let path = KeyPath::from(LISTEN);
    let localhost = localhost(&control.listen);
    let listen = match control.listen.strip_prefix(UNIX) {
        _ if control.listen == NONE => None,
        Some(name) if name.starts_with('@') => Some(abstract_name(&path, &name[1..], review)?),
        Some(text) => {
            let socket = socket::path(&path, text, review)?;
            claim_socket(&path, &socket, sockets, review);
            Some(LocalAddress::Path(socket))
        }
        None if let Some(port) = localhost => {
            let [first, other] = loopbacks(port);
            claim(&path, first, taken, review);
            claim(&path, other, taken, review);
            Some(LocalAddress::Tcp(first))
        }
        None if control.listen.parse::<SocketAddr>().is_err() => {
            let forms = format!(
                "must be an IP address and a port (\"{usual}\"), a Unix socket (\"unix:PATH\", \"unix:@NAME\") or \"{NONE}\""
            );
            review.error(&path, forms, format!("write \"{}\"", meant(&control.listen, usual)));
            return None;
        }
        None => {
            let (path, address) = single(LISTEN, &control.listen, usual, taken, review)?;
            if !address.ip().to_canonical().is_loopback() {
                review.error(
                    &path,
                    format!("{address} can be reached from other machines, and this listener changes state"),
                    format!("listen on 127.0.0.1:{}", address.port()),
                );
            }
            Some(LocalAddress::Tcp(address))
        }
    };
    Some(ControlSettings { listen, both_loopbacks: localhost.is_some(), unix_mode: unix_mode? })
}

/// What is meant by `text`, which is none of the forms.
fn meant(text: &str, usual: &str) -> String {
    let port = text.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
    match (text, port) {
        (text, _) if text.trim().eq_ignore_ascii_case(NONE) => NONE.to_owned(),
        (text, _) if text.starts_with(['@', '/', '.']) && text.len() > 1 => format!("{UNIX}{text}"),
        (_, Some(port)) => format!("127.0.0.1:{port}"),
        _ => usual.to_owned(),
    }
}

fn abstract_name(path: &KeyPath, name: &str, review: &mut Review<'_>) -> Option<LocalAddress> {
    let (what, help) = if !cfg!(target_os = "linux") {
        let what = "is in the abstract namespace, which Linux alone has";
        (what.to_owned(), "write the path of a file, such as \"unix:/run/cupbearer/control.sock\"")
    } else if name.is_empty() {
        ("names no socket".to_owned(), "write a name, as in \"unix:@cupbearer\"")
    } else if name.contains('\0') {
        ("has a zero byte".to_owned(), "take it out")
    } else if name.len() > socket::MAX_SOCKET_PATH_BYTES {
        let most = socket::MAX_SOCKET_PATH_BYTES;
        let what = format!("is {} bytes long, and the name of a socket has at most {most}", name.len());
        (what, "choose a shorter name")
    } else {
        return Some(LocalAddress::Abstract(name.to_owned()));
    };
    review.error(path, what, help);
    None
}

/// Whether it listens on a Unix socket with a path.
pub(super) fn has_socket(control: &Control) -> bool {
    control.listen.strip_prefix(UNIX).is_some_and(|path| !path.starts_with('@'))
}

fn mode(control: &Control, review: &mut Review<'_>) -> Option<u32> {
    let path = KeyPath::from("control.unix_mode");
    if review.is_spoken_for(&path) {
        return None;
    }
    let mode = socket::mode(&path, &control.unix_mode, review)?;
    // A sidecar's environment has the address, and says nothing of the file's mode.
    let is_moved = review.is_override(&LISTEN.into());
    if !has_socket(control)
        && !is_moved
        && review.is_given(&path)
        && review.is_whole()
        && !review.is_spoken_for(&LISTEN.into())
    {
        let what = "has no meaning: the control surface listens on no Unix socket with a path";
        review.error(&path, what, "set `listen` to one (\"unix:/run/control.sock\"), or take it out");
    }
    Some(mode)
}

/// Says so where users can connect to the control surface whom the proxy would refuse.
pub(super) fn as_restricted_as_the_proxy(settings: &Settings, review: &mut Review<'_>) {
    if ["server.listen", LISTEN].into_iter().any(|key| review.is_spoken_for(&key.into())) {
        return;
    }
    let Some(what) = settings.control.read_only(&settings.access()) else { return };
    let (key, help) = if matches!(settings.control.listen, Some(LocalAddress::Path(_))) {
        ("control.unix_mode", "set it to \"0600\", or list the users in `allowed_uids` of [guard]")
    } else {
        let help = "set `listen` in [control] to \"unix:/run/cupbearer/control.sock\", or to \"unix:@cupbearer\" for the proxy's \
                    own user; \"none\" for no control surface";
        (LISTEN, help)
    };
    review.warning(&key.into(), what, help);
}

/// Says so where a login has no way in, or no page renews it in a browser.
pub(super) fn serves_logins(settings: &Settings, review: &mut Review<'_>) {
    let ControlSettings { listen, .. } = &settings.control;
    let read_only = settings.control.read_only(&settings.access());
    let logins = settings.tokens.iter().filter_map(|(name, token)| Some((name, token.login()?)));
    for (name, login) in logins {
        let path = KeyPath::from("tokens").key(name);
        let closed = match (&listen, &read_only) {
            (None, _) => "there is no control surface (`listen` in [control] is \"none\")",
            (_, Some(_)) => "the control surface is read-only",
            _ => "",
        };
        if !closed.is_empty() && settings.store == StoreSettings::Memory {
            let what = format!(
                "no person can log in for it: {closed}, and a login in the memory of `cupbearer login` does not reach the proxy"
            );
            let help = "set `kind` in [store] to \"file\" or \"keyring\", or `listen` in [control] to an address that changes \
                        state, such as \"unix:@cupbearer\"";
            review.error(&path.key("grant"), what, help);
        }
        let has_page = matches!(listen, Some(LocalAddress::Tcp(_))) && read_only.is_none();
        if login.renews_in_browser() && !has_page {
            let what =
                "no browser can renew it: no dashboard that may change state is served on a TCP address";
            let help = "set `listen` in [control] to \"127.0.0.1:9902\" in a configuration that does not restrict the proxy, or \
                        `renew_via` to \"refresh_token\"";
            review.warning(&path.key("renew_via"), what, help);
        }
    }
}

const LISTEN: &str = "control.listen";
/// In place of an address: there is no control surface.
const NONE: &str = "none";
