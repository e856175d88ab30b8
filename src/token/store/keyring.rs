//! The platform's keyring: it keeps the key that the files of a folder are encrypted with.
//!
//! A keyring takes small secrets, one at a time, and knows no lease; a folder has all that. So only the key is put into
//! it, and a login is worth nothing to whoever copies the folder. The way there is `secret-tool` of libsecret, which
//! talks to whatever keeps secrets on a desktop: GNOME Keyring, `KWallet`, `KeePassXC`. It blocks, within bounds.

use std::ffi::OsStr;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use aws_lc_rs::rand;
use zeroize::Zeroizing;

use crate::clock;
use crate::secret::{Secret, SecretSource};

use super::folder::Folder;
use super::{KeyringFault, StoreError};

/// The key for `folder`: the keyring's, or a new one that it has given back once before it is relied on.
pub(super) fn key(folder: &Folder) -> Result<SecretSource, StoreError> {
    key_by(OsStr::new(PROGRAM), folder)
}

fn key_by(program: &OsStr, folder: &Folder) -> Result<SecretSource, StoreError> {
    // Of two processes that come first, one makes the key.
    let deadline = clock::now() + KEYRING_WAIT;
    let _turn = loop {
        match folder.try_lock(TURN)? {
            Some(lease) => break lease,
            None if clock::now() >= deadline => return Err(StoreError::Busy(folder.lock_file(TURN))),
            None => pause(),
        }
    };
    if let Some(known) = look_up(program, folder.path())? {
        return Ok(SecretSource::Inline(known));
    }
    // With another key they could never be read again; the old one may be in a keyring that is locked or not there.
    if folder.has_sealed()? {
        return Err(StoreError::Keyring(KeyringFault::Unfaithful));
    }
    let mut bytes = Zeroizing::new([0; 32]);
    rand::fill(&mut *bytes).map_err(|_| StoreError::Keyring(KeyringFault::Refused))?;
    let made = Secret::new(super::folder::hexadecimal(&*bytes));
    put(program, folder.path(), &made)?;
    match look_up(program, folder.path())? {
        Some(kept) if kept == made => Ok(SecretSource::Inline(made)),
        _ => Err(StoreError::Keyring(KeyringFault::Unfaithful)),
    }
}

fn look_up(program: &OsStr, folder: &Path) -> Result<Option<Secret<String>>, StoreError> {
    let answer = ask(program, &["lookup"], folder, None)?;
    match (answer.succeeded, answer.complained) {
        (true, _) => {
            let text = std::str::from_utf8(&answer.said).unwrap_or_default().trim_end();
            Ok((!text.is_empty()).then(|| Secret::new(text.to_owned())))
        }
        // It says nothing where there is nothing.
        (false, false) => Ok(None),
        (false, true) => Err(StoreError::Keyring(KeyringFault::Absent)),
    }
}

fn put(program: &OsStr, folder: &Path, key: &Secret<String>) -> Result<(), StoreError> {
    let answer = ask(program, &["store", "--label", LABEL], folder, Some(key))?;
    if answer.succeeded { Ok(()) } else { Err(StoreError::Keyring(KeyringFault::Refused)) }
}

/// What the program answered.
struct Answer {
    succeeded: bool,
    complained: bool,
    said: Zeroizing<Vec<u8>>,
}

/// Runs the program once. A secret goes through its standard input alone: arguments are for all to see.
fn ask(
    program: &OsStr,
    words: &[&str],
    folder: &Path,
    input: Option<&Secret<String>>,
) -> Result<Answer, StoreError> {
    let absent = |_| StoreError::Keyring(KeyringFault::Absent);
    let mut child = Command::new(program)
        .args(words)
        .args(["application", "cupbearer", "purpose", "store-key", "folder"])
        .arg(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(absent)?;
    if let Some(mut stdin) = child.stdin.take()
        && let Some(input) = input
    {
        // An error says that it has ended already; how, its status tells.
        let _ = stdin.write_all(input.expose().as_bytes());
    }
    let succeeded = end_of(&mut child)?;
    // It has ended: what is left to read lies in the pipes.
    let mut said = Zeroizing::new(Vec::with_capacity(MAX_ANSWER_BYTES));
    if let Some(stdout) = child.stdout.take() {
        stdout.take(MAX_ANSWER_BYTES as u64).read_to_end(&mut said).map_err(absent)?;
    }
    let mut complaint = [0; 1];
    let complained =
        child.stderr.take().is_some_and(|mut stderr| stderr.read(&mut complaint).unwrap_or(0) > 0);
    Ok(Answer { succeeded, complained, said })
}

/// Waits for the end, and brings it about where it does not come: a keyring that is locked asks a person.
fn end_of(child: &mut Child) -> Result<bool, StoreError> {
    let deadline = clock::now() + KEYRING_WAIT;
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Ok(status.success()),
            Ok(None) if clock::now() < deadline => pause(),
            Ok(None) | Err(_) => {
                // Errors say that it has just ended.
                let _ = child.kill();
                let _ = child.wait();
                return Err(StoreError::Keyring(KeyringFault::Locked));
            }
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "this runs once, when the program starts, and is bounded")]
fn pause() {
    std::thread::sleep(LOOK_INTERVAL);
}

const PROGRAM: &str = "secret-tool";
const LABEL: &str = "Cupbearer: the key of the token store";

/// The name of the lock that one holds while looking for the key.
const TURN: &str = "%keyring";

/// How long one answer of the keyring may take.
const KEYRING_WAIT: Duration = Duration::from_secs(5);

/// How long between two looks whether it has ended.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);

/// More than a key in hexadecimal; less than a pipe holds.
const MAX_ANSWER_BYTES: usize = 1024;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// A program that does what `script` says in the place of `secret-tool`.
    fn program(top: &Path, script: &str) -> std::path::PathBuf {
        let path = top.join("tool");
        std::fs::write(&path, format!("#!/bin/sh\nkept={}/kept\n{script}\n", top.display())).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    const FAITHFUL: &str = r#"case $1 in store) cat > "$kept";; lookup) cat "$kept" 2>/dev/null;; esac"#;

    fn text(key: &SecretSource) -> String {
        key.read().unwrap().expose().clone()
    }

    #[test]
    fn a_keyring_keeps_one_key_for_a_folder() {
        let top = tempfile::tempdir().unwrap();
        let folder = Folder::open(&top.path().join("store")).unwrap();
        let program = program(top.path(), FAITHFUL);
        let made = key_by(program.as_os_str(), &folder).unwrap();
        assert_eq!(text(&made).len(), 64);
        assert_eq!(text(&key_by(program.as_os_str(), &folder).unwrap()), text(&made));
    }

    #[test]
    fn a_keyring_that_is_not_there_or_forgets_is_not_relied_on() {
        let top = tempfile::tempdir().unwrap();
        let folder = Folder::open(&top.path().join("store")).unwrap();
        let none = key_by(OsStr::new("/nowhere/secret-tool"), &folder);
        assert_eq!(none.unwrap_err(), StoreError::Keyring(KeyringFault::Absent));
        for (script, fault) in [
            ("echo 'no bus' >&2; exit 1", KeyringFault::Absent),
            ("cat > /dev/null; exit $([ $1 = store ])", KeyringFault::Unfaithful),
            ("[ $1 = lookup ] && exit 1; exit 2", KeyringFault::Refused),
        ] {
            let program = program(top.path(), script);
            assert_eq!(
                key_by(program.as_os_str(), &folder).unwrap_err(),
                StoreError::Keyring(fault),
                "{script}"
            );
        }
    }

    #[test]
    fn no_new_key_is_made_while_files_wait_for_the_old_one() {
        let top = tempfile::tempdir().unwrap();
        let folder = Folder::open(&top.path().join("store")).unwrap();
        folder.write(&folder.file("api"), b"cupbearer sealed\n\x01...").unwrap();
        let program = program(top.path(), FAITHFUL);
        let error = key_by(program.as_os_str(), &folder).unwrap_err();
        assert_eq!(error, StoreError::Keyring(KeyringFault::Unfaithful));
        assert!(!top.path().join("kept").exists());
    }

    /// This test starts itself again, in a session of its own with a real keyring.
    #[test]
    fn a_real_secret_service_keeps_the_key() {
        const INSIDE: &str = "CUPBEARER_TEST_KEYRING_SESSION";
        let top = tempfile::tempdir().unwrap();
        if std::env::var_os(INSIDE).is_some() {
            let folder = Folder::open(&top.path().join("store")).unwrap();
            let made = key(&folder).unwrap();
            assert_eq!(text(&key(&folder).unwrap()), text(&made));
            return;
        }
        let session = Command::new("dbus-run-session")
            .args(["--", "sh", "-c", SESSION, "sh"])
            .arg(std::env::current_exe().unwrap())
            .arg("token::store::keyring::tests::a_real_secret_service_keeps_the_key")
            .env(INSIDE, "1")
            .env("HOME", top.path())
            .env("XDG_RUNTIME_DIR", top.path())
            .output()
            .expect("dbus-run-session is not installed, and this test needs it: apt-get install dbus gnome-keyring libsecret-tools");
        let said = String::from_utf8_lossy(&session.stdout);
        assert!(session.status.success() && said.contains("1 passed"), "{session:?}");
    }

    /// Unlocks a new keyring, runs the test in it, and ends the keyring.
    const SESSION: &str = r#"
        printf password | gnome-keyring-daemon --foreground --unlock --components=secrets >/dev/null 2>&1 &
        keyring=$!
        for _ in $(seq 100); do
          secret-tool lookup cupbearer probe 2>&1 | grep -q . || break
          sleep 0.1
        done
        "$1" --exact "$2" --nocapture
        status=$?
        kill "$keyring"
        exit "$status""#;
}
