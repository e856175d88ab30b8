//! The platform's keyring: it keeps the key that the files of a folder are encrypted with.
//!
//! A keyring takes small secrets, one at a time, and knows no lease; a folder has all that. So only the key is put into
//! it, and a login is worth nothing to a copier of the folder. The way there is `secret-tool` of libsecret, which
//! talks to whatever keeps secrets on a desktop: GNOME Keyring, `KWallet`, `KeePassXC`. It blocks, within bounds.

use std::ffi::{OsStr, OsString};
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_lc_rs::rand;
use data_encoding::HEXLOWER;
use tokio::time::Instant;
use tracing::{info, warn};
use zeroize::Zeroizing;

use crate::clock;
use crate::lifecycle::process::start_child;
use crate::secret::{Secret, SecretSource};

use super::folder::Folder;
use super::store_error::{KeyringFault, StoreError};

/// The key of a folder, as far as the keyring has given it. A keyring that is locked, or not there yet, is asked again when
/// the key is needed.
#[derive(Clone, Debug)]
pub(super) struct KeyringKey(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    program: OsString,
    folder: Folder,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    key: Option<SecretSource>,
    /// Why there was none, and when that was found.
    refused: Option<(Instant, StoreError)>,
}

impl KeyringKey {
    /// Asks the keyring of this session.
    ///
    /// # Errors
    /// [`StoreError`] where the folder is at fault. A keyring that gives no key is none: see [`KeyringKey::get`].
    pub(super) fn open(folder: &Folder) -> Result<Self, StoreError> {
        Self::open_by(OsStr::new(PROGRAM), folder)
    }

    fn open_by(program: &OsStr, folder: &Folder) -> Result<Self, StoreError> {
        let shared = Shared { program: program.to_owned(), folder: folder.clone(), state: Mutex::default() };
        let this = Self(Arc::new(shared));
        match this.get() {
            Ok(Some(_)) => {}
            Err(cause @ StoreError::Keyring(_)) => {
                let folder = folder.path().display();
                warn!(%cause, %folder, "the stored tokens cannot be read until the keyring gives their key");
            }
            Ok(None) => {
                let cause = this.state().refused.as_ref().map(|(_, cause)| cause.to_string());
                let folder = folder.path().display();
                warn!(cause, %folder, "the keyring is not to be had; tokens are kept in files alone");
            }
            Err(error) => return Err(error),
        }
        Ok(this)
    }

    /// The key; `None`: the keyring gives none, and nothing in the folder needs one. The keyring is asked not more often than
    /// every `ASK_GAP`. Blocks, within bounds.
    ///
    /// # Errors
    /// [`StoreError::Keyring`] where the keyring gives none and something in the folder is encrypted; others where the folder
    /// is at fault.
    pub(super) fn get(&self) -> Result<Option<SecretSource>, StoreError> {
        let mut state = self.state();
        if let Some(key) = &state.key {
            return Ok(Some(key.clone()));
        }
        let now = clock::now();
        let known = state.refused.as_ref().filter(|(at, _)| now.saturating_duration_since(*at) < ASK_GAP);
        let refused = match known {
            Some((_, error)) => error.clone(),
            None => match key_by(&self.0.program, &self.0.folder) {
                Ok(key) => {
                    if state.refused.take().is_some() {
                        let folder = self.0.folder.path().display();
                        info!(%folder, "the keyring gives the key of the stored tokens");
                    }
                    state.key = Some(key.clone());
                    return Ok(Some(key));
                }
                Err(error) => {
                    // From its end on: it may have waited for a person.
                    state.refused = Some((clock::now(), error.clone()));
                    error
                }
            },
        };
        drop(state);
        match refused {
            StoreError::Keyring(_) if !self.0.folder.has_sealed()? => Ok(None),
            error => Err(error),
        }
    }

    /// Whether the keyring has given the key.
    pub(super) fn is_there(&self) -> bool {
        self.state().key.is_some()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(all(test, feature = "peers"))]
fn key(folder: &Folder) -> Result<SecretSource, StoreError> {
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
    // With another key they could never be read again. A keyring that is locked says nothing.
    if folder.has_sealed()? {
        return Err(StoreError::Keyring(KeyringFault::Locked));
    }
    let mut bytes = Zeroizing::new([0; 32]);
    rand::fill(&mut *bytes).map_err(|_| StoreError::Keyring(KeyringFault::Refused))?;
    let made = Secret::new(HEXLOWER.encode(&*bytes));
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
    match (answer.succeeded, answer.names_a_lock) {
        (true, _) => Ok(()),
        (false, true) => Err(StoreError::Keyring(KeyringFault::Locked)),
        (false, false) => Err(StoreError::Keyring(KeyringFault::Refused)),
    }
}

/// What the program answered.
struct Answer {
    succeeded: bool,
    complained: bool,
    /// It complained of something that is locked.
    names_a_lock: bool,
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
    let mut helper = Command::new(program);
    helper
        .args(words)
        .args(["application", "cupbearer", "purpose", "store-key", "folder"])
        .arg(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = start_child(|| helper.spawn(), |child| Some(child.id())).map_err(absent)?;
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
    let mut complaint = Vec::new();
    if let Some(stderr) = child.stderr.take() {
        // What cannot be read is no complaint.
        let _ = stderr.take(MAX_ANSWER_BYTES as u64).read_to_end(&mut complaint);
    }
    let names_a_lock = complaint.windows(LOCKED.len()).any(|part| part == LOCKED);
    Ok(Answer { succeeded, complained: !complaint.is_empty(), names_a_lock, said })
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

#[expect(clippy::disallowed_methods, reason = "this runs where blocking is allowed, and is bounded")]
fn pause() {
    std::thread::sleep(LOOK_INTERVAL);
}

const PROGRAM: &str = "secret-tool";
/// What `secret-tool` writes of a collection that is locked and was not unlocked.
const LOCKED: &[u8] = b"locked collection";
const LABEL: &str = "Cupbearer: the key of the token store";

/// The name of the lock that one holds while looking for the key.
const TURN: &str = "%keyring";

/// How long one answer of the keyring may take: less than a use of the store may, so that the keyring is what is reported.
const KEYRING_WAIT: Duration = Duration::from_secs(4);

/// How long the keyring is left alone after it gave no key: it may open a window each time.
const ASK_GAP: Duration = Duration::from_secs(10);

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
            (
                "[ $1 = lookup ] && exit 1; echo 'secret-tool: Cannot create an item in a locked collection' >&2; exit 1",
                KeyringFault::Locked,
            ),
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
        assert_eq!(error, StoreError::Keyring(KeyringFault::Locked));
        assert!(!top.path().join("kept").exists());
    }

    #[tokio::test(start_paused = true)]
    async fn a_keyring_that_was_locked_is_asked_again_when_its_key_is_needed() {
        let top = tempfile::tempdir().unwrap();
        let folder = Folder::open(&top.path().join("store")).unwrap();
        folder.write(&folder.file("api"), b"cupbearer sealed\n\x01...").unwrap();
        let program = program(top.path(), FAITHFUL);
        let late = KeyringKey::open_by(program.as_os_str(), &folder).unwrap();
        let locked = StoreError::Keyring(KeyringFault::Locked);
        assert!(locked.to_string().contains("unlock the keyring"));
        assert_eq!(late.get().unwrap_err(), locked);
        std::fs::write(top.path().join("kept"), "ab".repeat(32)).unwrap();
        assert_eq!(late.get().unwrap_err(), locked, "it was asked a moment ago");
        tokio::time::advance(ASK_GAP).await;
        assert_eq!(text(&late.get().unwrap().unwrap()), "ab".repeat(32));
        assert!(late.is_there());
    }

    #[tokio::test(start_paused = true)]
    async fn files_are_not_encrypted_while_the_keyring_is_away_and_nothing_needs_it() {
        let top = tempfile::tempdir().unwrap();
        let folder = Folder::open(&top.path().join("store")).unwrap();
        let away = program(top.path(), "echo 'no bus' >&2; exit 1");
        let late = KeyringKey::open_by(away.as_os_str(), &folder).unwrap();
        assert!(late.get().unwrap().is_none() && !late.is_there());
        program(top.path(), FAITHFUL);
        tokio::time::advance(ASK_GAP).await;
        assert!(late.get().unwrap().is_some() && late.is_there(), "the next write encrypts");
    }

    /// This test starts itself again, in a session of its own with a real keyring.
    #[cfg(feature = "peers")]
    #[test]
    fn a_real_secret_service_keeps_the_key() {
        let top = tempfile::tempdir().unwrap();
        if std::env::var_os(INSIDE).is_some() {
            let folder = Folder::open(&top.path().join("store")).unwrap();
            let made = key(&folder).unwrap();
            assert_eq!(text(&key(&folder).unwrap()), text(&made));
            return;
        }
        in_session(SESSION, "a_real_secret_service_keeps_the_key", top.path());
    }

    /// Likewise: the session has a keyring that is locked, and another one comes that is not.
    #[cfg(feature = "peers")]
    #[test]
    fn a_real_secret_service_that_was_locked_gives_the_key_once_it_is_unlocked() {
        let Some(top) = std::env::var_os(INSIDE).map(std::path::PathBuf::from) else {
            let top = tempfile::tempdir().unwrap();
            let name = "a_real_secret_service_that_was_locked_gives_the_key_once_it_is_unlocked";
            in_session(LOCKED_SESSION, name, top.path());
            return;
        };
        let folder = Folder::open(&top.join("store")).unwrap();
        // Nothing needs the key, but a service that is there and locked is named.
        assert_eq!(key(&folder).unwrap_err(), StoreError::Keyring(KeyringFault::Locked));
        folder.write(&folder.file("api"), b"cupbearer sealed\n\x01...").unwrap();
        let late = KeyringKey::open(&folder).unwrap();
        assert_eq!(late.get().unwrap_err(), StoreError::Keyring(KeyringFault::Locked));
        folder.remove(&folder.file("api")).unwrap();
        std::fs::write(top.join("unlock"), "").unwrap();
        let start = clock::now();
        while late.get().unwrap().is_none() {
            assert!(start.elapsed() < Duration::from_mins(1), "it is asked again");
            pause();
        }
    }

    #[cfg(feature = "peers")]
    /// Where the session's folder is, inside it.
    const INSIDE: &str = "CUPBEARER_TEST_KEYRING_SESSION";

    #[cfg(feature = "peers")]
    fn in_session(script: &str, test: &str, top: &Path) {
        let session = Command::new("dbus-run-session")
            .args(["--", "sh", "-c", script, "sh"])
            .arg(std::env::current_exe().unwrap())
            .arg(format!("token::store::keyring::tests::{test}"))
            .env(INSIDE, top)
            .env("HOME", top)
            .env("XDG_RUNTIME_DIR", top)
            .output()
            .expect("dbus-run-session is not installed, and this test needs it: apt-get install dbus gnome-keyring libsecret-tools");
        let said = String::from_utf8_lossy(&session.stdout);
        assert!(session.status.success() && said.contains("1 passed"), "{session:?}");
    }

    #[cfg(feature = "peers")]
    /// Makes a keyring, starts it again locked, runs the test, and unlocks it when the test wants that.
    const LOCKED_SESSION: &str = r#"
        served() { for _ in $(seq 100); do
          secret-tool lookup cupbearer probe 2>&1 | grep -q autolaunch || gdbus introspect --session \
            --dest org.freedesktop.secrets --object-path /org/freedesktop/secrets >/dev/null 2>&1 && break
          sleep 0.1
        done; }
        printf password | gnome-keyring-daemon --foreground --unlock --components=secrets >/dev/null 2>&1 &
        keyring=$!
        served
        for _ in $(seq 100); do
          printf made | secret-tool store --label made cupbearer made 2>/dev/null && break
          sleep 0.1
        done
        kill "$keyring"; wait "$keyring"
        gnome-keyring-daemon --foreground --components=secrets >/dev/null 2>&1 &
        keyring=$!
        served
        "$1" --exact "$2" --nocapture &
        test=$!
        while [ ! -e "$CUPBEARER_TEST_KEYRING_SESSION/unlock" ] && kill -0 "$test" 2>/dev/null; do sleep 0.1; done
        kill "$keyring"; wait "$keyring"
        printf password | gnome-keyring-daemon --foreground --unlock --components=secrets >/dev/null 2>&1 &
        keyring=$!
        wait "$test"
        status=$?
        kill "$keyring"
        exit "$status""#;

    #[cfg(feature = "peers")]
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
