//! `[control]`: where the control surface listens, and that it is not open to more users than the proxy is.

use std::path::PathBuf;

use super::listen::{Taken, claim_socket, single};
use super::{Settings, socket};
use crate::config::file::Control;
use crate::config::findings::Review;
use crate::config::problem::KeyPath;
use crate::control::ControlSettings;
use crate::net::local_address::{LocalAddress, UNIX};

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
    let listen = match control.listen.strip_prefix(UNIX) {
        _ if control.listen == NONE => None,
        Some(name) if name.starts_with('@') => Some(abstract_name(&path, &name[1..], review)?),
        Some(text) => {
            let socket = socket::path(&path, text, review)?;
            claim_socket(&path, &socket, sockets, review);
            Some(LocalAddress::Path(socket))
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
    Some(ControlSettings { listen, unix_mode: unix_mode? })
}

fn abstract_name(path: &KeyPath, name: &str, review: &mut Review<'_>) -> Option<LocalAddress> {
    let (what, mend) = if !cfg!(target_os = "linux") {
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
    review.error(path, what, mend);
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
    let (key, mend) = if matches!(settings.control.listen, Some(LocalAddress::Path(_))) {
        ("control.unix_mode", "set it to \"0600\" or \"0660\", or `allowed_uids` in [guard]")
    } else {
        let mend = "set `listen` in [control] to \"unix:/run/cupbearer/control.sock\", or to \"unix:@cupbearer\" for the proxy's \
                    own user; \"none\" for no control surface";
        (LISTEN, mend)
    };
    review.warning(&key.into(), what, mend);
}

const LISTEN: &str = "control.listen";
/// In place of an address: there is no control surface.
const NONE: &str = "none";
