//! Small files, read whole: the configuration, secrets, keys, certificates.
//!
//! What stands at a path is looked at before it is read, and no read is without an end, whatever that is: a directory, a
//! socket and a device are refused, a pipe is waited for within bounds, and a file has a most of bytes. Only a file system
//! that hangs can hold up a read of a file: a caller that must not wait reads on a thread of `net::threads`.
//!
//! A pipe delivers once. What came out of it is kept in memory until the end of the program, so that `<(...)` of a shell and
//! `/dev/stdin` may stand where a file is read at each use.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use zeroize::Zeroizing;

use super::Lack;
use crate::clock;

/// What a file held.
#[derive(Debug)]
pub(crate) struct Contents {
    /// All of it. Zeroed when it is dropped: it may be a secret.
    pub bytes: Zeroizing<Vec<u8>>,
    /// When it was written last; `None`: no file is behind it.
    pub modified: Option<SystemTime>,
}

/// Why a file could not be read, as the end of a sentence that begins with its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unreadable {
    /// There is nothing at the path.
    #[error("does not exist")]
    Missing,
    /// Something else than a file is.
    #[error("is {0}, not a file")]
    NotAFile(&'static str),
    /// A pipe without a writer.
    #[error("is a pipe that no program writes to")]
    NoWriter,
    /// A pipe whose writer took too long.
    #[error("is a pipe whose writer did not finish within {} s", PIPE_PATIENCE.as_secs())]
    SlowWriter,
    /// There is more than was wanted.
    #[error("is larger than {0} bytes")]
    TooLarge(usize),
    /// This machine lacks what it takes to open it, which passes.
    #[error("cannot be opened: {0}")]
    Lacking(Lack),
    /// What the system said.
    #[error("cannot be read: {0}")]
    System(io::ErrorKind),
}

impl Unreadable {
    /// Whether the file may be read at another time: once it, or its writer, is there.
    #[must_use]
    pub(crate) const fn may_pass(&self) -> bool {
        matches!(self, Self::Missing | Self::NoWriter | Self::SlowWriter | Self::Lacking(_))
    }
}

impl From<io::Error> for Unreadable {
    fn from(error: io::Error) -> Self {
        match (error.kind(), Lack::of(&error)) {
            (io::ErrorKind::NotFound, _) => Self::Missing,
            (io::ErrorKind::IsADirectory, _) => Self::NotAFile(DIRECTORY),
            (_, Some(lack)) => Self::Lacking(lack),
            (kind, None) => Self::System(kind),
        }
    }
}

/// Reads the file at `path`, of at most `most` bytes. Blocks for one read of a small file, and `PIPE_PATIENCE` at most for a
/// pipe.
///
/// # Errors
/// [`Unreadable`]
pub(crate) fn read(path: &Path, most: usize) -> Result<Contents, Unreadable> {
    // Before it is opened: to open a device may set something going.
    let facts = std::fs::metadata(path)?;
    if let Some(kind) = not_a_file(&facts) {
        return Err(Unreadable::NotAFile(kind));
    }
    let pipe = facts.file_type().is_fifo().then(|| Pipe::at(path, &facts));
    if let Some(bytes) = pipe.as_ref().and_then(Pipe::kept) {
        return if bytes.len() > most {
            Err(Unreadable::TooLarge(most))
        } else {
            Ok(Contents { bytes, modified: None })
        };
    }
    // To open a pipe waits for its writer otherwise, and a terminal may become this process's own.
    let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    // Of what was opened, not of what has taken its place meanwhile.
    let facts = file.metadata()?;
    if let Some(kind) = not_a_file(&facts) {
        return Err(Unreadable::NotAFile(kind));
    }
    if facts.file_type().is_fifo() {
        let pipe = Pipe::at(path, &facts);
        let bytes = drain(&file, most)?;
        pipe.keep(&bytes);
        return Ok(Contents { bytes, modified: None });
    }
    // One allocation of the full size: a growing buffer would leave copies that are not zeroed.
    let room = most.min(usize::try_from(facts.len()).unwrap_or(most).max(LEAST_ROOM));
    let mut bytes = Zeroizing::new(Vec::with_capacity(room + 1));
    file.take(most as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > most {
        return Err(Unreadable::TooLarge(most));
    }
    Ok(Contents { bytes, modified: facts.modified().ok() })
}

/// What it is, where it is neither a file nor a pipe. The null device counts as an empty file.
fn not_a_file(facts: &Metadata) -> Option<&'static str> {
    let kind = facts.file_type();
    if kind.is_dir() {
        Some(DIRECTORY)
    } else if kind.is_socket() {
        Some("a socket")
    } else if kind.is_block_device() || kind.is_char_device() && !is_null(facts) {
        Some("a device")
    } else {
        None
    }
}

fn is_null(facts: &Metadata) -> bool {
    std::fs::metadata("/dev/null").is_ok_and(|null| null.rdev() == facts.rdev())
}

/// Reads a pipe, opened without waiting, until its writers have closed it.
fn drain(mut pipe: &File, most: usize) -> Result<Zeroizing<Vec<u8>>, Unreadable> {
    let begun = clock::now();
    let mut bytes = Zeroizing::new(Vec::with_capacity(most.min(PIPE_ROOM) + 1));
    let mut chunk = Zeroizing::new([0; 4096]);
    let mut is_over = false;
    loop {
        let is_open = match pipe.read(&mut *chunk) {
            Ok(0) if is_over || !bytes.is_empty() => return Ok(bytes),
            // No writer has opened it: one may be about to.
            Ok(0) => false,
            Ok(count) => {
                bytes.extend_from_slice(&chunk[..count]);
                if bytes.len() > most {
                    return Err(Unreadable::TooLarge(most));
                }
                continue;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => true,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error.into()),
        };
        let patience = if is_open { PIPE_PATIENCE } else { WRITER_PATIENCE };
        let left = Timespec::try_from(patience.saturating_sub(begun.elapsed())).unwrap_or_default();
        let mut polled = [PollFd::new(&pipe, PollFlags::IN)];
        match poll(&mut polled, Some(&left)) {
            Ok(0) => return Err(if is_open { Unreadable::SlowWriter } else { Unreadable::NoWriter }),
            Ok(_) => is_over = polled[0].revents().contains(PollFlags::HUP),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(io::Error::from(error).into()),
        }
    }
}

/// Which pipe it is: its path, the kernel's numbers for it, and when it was made, as the numbers may be given again.
#[derive(PartialEq, Eq)]
struct Pipe {
    path: PathBuf,
    device: u64,
    inode: u64,
    created: Option<SystemTime>,
}

impl Pipe {
    fn at(path: &Path, facts: &Metadata) -> Self {
        Self { path: path.to_owned(), device: facts.dev(), inode: facts.ino(), created: facts.created().ok() }
    }

    /// What came out of it before.
    fn kept(&self) -> Option<Zeroizing<Vec<u8>>> {
        let kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter().find(|(pipe, _)| pipe == self).map(|(_, bytes)| bytes.clone())
    }

    fn keep(self, bytes: &Zeroizing<Vec<u8>>) {
        let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
        // Another pipe at the same path has taken its place.
        kept.retain(|(pipe, _)| pipe.path != self.path);
        kept.push((self, bytes.clone()));
    }
}

/// As many as the configuration names pipes.
static KEPT: Mutex<Vec<(Pipe, Zeroizing<Vec<u8>>)>> = Mutex::new(Vec::new());

const DIRECTORY: &str = "a directory";
/// How long the writer of a pipe may take: a password manager that asks its server.
const PIPE_PATIENCE: Duration = Duration::from_secs(10);
/// How long a pipe may have no writer at all.
const WRITER_PATIENCE: Duration = Duration::from_secs(1);
/// What is read of a pipe without copying it to a larger buffer: more than any secret.
const PIPE_ROOM: usize = 64 * 1024;
/// Of files that report no size, as procfs'.
const LEAST_ROOM: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::fd::AsRawFd as _;
    use std::os::unix::net::UnixListener;

    use super::*;

    fn fifo(dir: &Path) -> PathBuf {
        let path = dir.join("pipe");
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        path
    }

    fn why(path: impl AsRef<Path>, most: usize) -> Unreadable {
        read(path.as_ref(), most).map(|contents| contents.bytes.len()).unwrap_err()
    }

    #[test]
    fn what_is_no_file_is_named_and_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("socket");
        let _listener = UnixListener::bind(&socket).unwrap();
        for (path, kind) in [
            (dir.path(), "a directory"),
            (socket.as_path(), "a socket"),
            (Path::new("/dev/zero"), "a device"),
            (Path::new("/dev/urandom"), "a device"),
        ] {
            assert_eq!(why(path, 100), Unreadable::NotAFile(kind), "{}", path.display());
        }
        assert_eq!(why(dir.path().join("gone"), 100), Unreadable::Missing);
        assert!(read(Path::new("/dev/null"), 100).unwrap().bytes.is_empty(), "an empty file");
        let link = dir.path().join("link");
        std::os::unix::fs::symlink("/dev/zero", &link).unwrap();
        assert_eq!(why(&link, 100).to_string(), "is a device, not a file");
    }

    #[test]
    fn a_file_is_read_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "12345").unwrap();
        let contents = read(&file, 5).unwrap();
        assert_eq!(&contents.bytes[..], b"12345");
        assert!(contents.modified.is_some());
        assert_eq!(why(&file, 4), Unreadable::TooLarge(4));
        // Reports no size, and has one.
        assert!(!read(Path::new("/proc/self/stat"), 4096).unwrap().bytes.is_empty());
    }

    #[test]
    fn a_pipe_without_a_writer_is_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(why(fifo(dir.path()), 100), Unreadable::NoWriter);
    }

    #[test]
    fn what_comes_out_of_a_pipe_is_there_at_each_use() {
        let dir = tempfile::tempdir().unwrap();
        let path = fifo(dir.path());
        let writer = {
            let path = path.clone();
            std::thread::spawn(move || {
                let mut pipe = OpenOptions::new().write(true).open(path).unwrap();
                pipe.write_all(b"s3cret").unwrap();
            })
        };
        for _ in 0..3 {
            assert_eq!(&read(&path, 100).unwrap().bytes[..], b"s3cret");
        }
        writer.join().unwrap();
        assert_eq!(why(&path, 3), Unreadable::TooLarge(3));
        std::fs::remove_file(&path).unwrap();
        assert_eq!(
            why(fifo(dir.path()), 100),
            Unreadable::NoWriter,
            "another pipe at the same path is another"
        );
    }

    #[test]
    fn a_pipe_of_a_shell_is_read_to_its_end_and_is_bounded() {
        for (written, most, want) in
            [(100_000, 200_000, Some(100_000)), (100_000, 1000, None), (0, 1000, Some(0))]
        {
            let (reader, mut writer) = io::pipe().unwrap();
            let writing = std::thread::spawn(move || {
                // An error says that it was not read to its end.
                let _ = writer.write_all(&vec![b'x'; written]);
            });
            let path = PathBuf::from(format!("/dev/fd/{}", reader.as_raw_fd()));
            let got = read(&path, most).map(|contents| contents.bytes.len());
            assert_eq!(got, want.ok_or(Unreadable::TooLarge(most)));
            drop(reader);
            writing.join().unwrap();
        }
    }
}
