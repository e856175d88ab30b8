//! Unix sockets: that a path can be one, and a mode its.

use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileTypeExt;
use std::path::PathBuf;

use crate::config::findings::Review;
use crate::config::problem::KeyPath;

/// The socket at the path `text`, which may not be there yet.
pub(super) fn path(path: &KeyPath, text: &str, review: &mut Review<'_>) -> Option<PathBuf> {
    let (what, help) = if text.is_empty() {
        ("names no Unix socket".to_owned(), "write its path")
    } else if text.starts_with('@') {
        let what = "must be a path: a socket without one can be reached by every user of the machine";
        (what.to_owned(), "write the path of a file, such as \"/run/cupbearer/proxy.sock\"")
    } else if text.contains('\0') {
        ("has a zero byte, which no path can have".to_owned(), "take it out")
    } else {
        let file = review.file(path, text);
        let length = file.as_os_str().as_bytes().len();
        if length > MAX_SOCKET_PATH_BYTES {
            let what = format!(
                "is {length} bytes long, and the path of a Unix socket has at most {MAX_SOCKET_PATH_BYTES}"
            );
            (what, "choose a shorter path, such as one below /run")
        } else if std::fs::metadata(&file).is_ok_and(|facts| !facts.file_type().is_socket()) {
            (
                format!("{} is there, and is no socket", file.display()),
                "choose another path, or take that away",
            )
        } else {
            return Some(file);
        }
    };
    review.error(path, what, help);
    None
}

/// The mode of a socket's file: three octal digits, and a zero before them for who likes.
pub(super) fn mode(path: &KeyPath, text: &str, review: &mut Review<'_>) -> Option<u32> {
    let digits = text.strip_prefix('0').filter(|rest| rest.len() == MODE_DIGITS).unwrap_or(text);
    let octal = digits.len() == MODE_DIGITS && digits.bytes().all(|digit| (b'0'..=b'7').contains(&digit));
    let Some(mode) = u32::from_str_radix(digits, 8).ok().filter(|_| octal) else {
        let help = "write it as in \"0600\" (its owner), \"0660\" (the group too)";
        review.error(path, "must be a file's mode, in octal digits", help);
        return None;
    };
    if mode & ANYBODY_WRITES == 0 {
        let what = "lets no user connect: that takes the right to write";
        review.error(path, what, "set it to \"0600\", or to \"0660\" for the group too");
        return None;
    }
    Some(mode)
}

const MODE_DIGITS: usize = 3;
const ANYBODY_WRITES: u32 = 0o222;
/// What the system's address of a Unix socket holds, less the zero at its end.
pub(super) const MAX_SOCKET_PATH_BYTES: usize = 107;
