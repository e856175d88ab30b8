//! A token that a helper program prints: the bare token, or JSON as `text` reads it.
//!
//! No shell reads the command. Of the environment the program gets [`INHERITED`] and nothing else: no secret that this
//! process was given. What needs more names it, as in `["env", "KUBECONFIG=/etc/kube", "kubectl", ...]`. It
//! runs in the working folder of this process, without its descriptors, in a process group of its own, so that at the
//! end of its time all that it started ends with it.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use futures_util::future::{BoxFuture, join};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};
use zeroize::Zeroizing;

use crate::lifecycle::process::start_child;
use crate::token::error::{CommandFault, Error, Said, SourceFault, TextFlaw, TokenHolder};
use crate::token::settings::CommandSettings;

use super::text;
use super::token_source::{Fetched, Source};

/// A helper program, started anew for each token.
#[derive(Debug)]
pub(super) struct CommandSource {
    settings: CommandSettings,
}

impl CommandSource {
    pub(super) const fn new(settings: CommandSettings) -> Self {
        Self { settings }
    }

    async fn run(&self) -> Result<Fetched, Error> {
        let printed = self.output().await.map_err(|fault| Error::from(SourceFault::Command(fault)))?;
        let flawed = |flaw| Error::from(SourceFault::Text(TokenHolder::Command, flaw));
        let printed = std::str::from_utf8(&printed).map_err(|_| flawed(TextFlaw::NotAWord))?;
        Ok(text::read(printed, TokenHolder::Command)?.into())
    }

    /// What the program printed, where it ended well.
    async fn output(&self) -> Result<Zeroizing<Vec<u8>>, CommandFault> {
        let mut program = Running::start(&self.settings.command)?;
        let (mut printed, mut said) = (Printed::new(), StderrTail::default());
        let ended = timeout(self.settings.timeout, program.end(&mut printed, &mut said)).await;
        let said = || Said::new(said.bytes(), &printed.bytes);
        if printed.bytes.len() > MAX_OUTPUT_BYTES {
            return Err(CommandFault::TooMuch(MAX_OUTPUT_BYTES));
        }
        let status = match ended {
            Ok(Ok(status)) => status,
            Ok(Err(error)) => return Err(CommandFault::Start(self.name(), error.kind())),
            Err(_elapsed) => {
                program.stop().await;
                return Err(CommandFault::TimedOut(said()));
            }
        };
        match (status.code(), status.signal()) {
            (Some(0), _) if printed.bytes.trim_ascii().is_empty() => Err(CommandFault::Silent(said())),
            (Some(0), _) => Ok(printed.bytes),
            (Some(code), _) => Err(CommandFault::Exit(code, said())),
            (None, signal) => Err(CommandFault::Signal(signal.unwrap_or_default(), said())),
        }
    }

    fn name(&self) -> String {
        self.settings.command.first().cloned().unwrap_or_default()
    }
}

impl Source for CommandSource {
    fn fetch(&self) -> BoxFuture<'_, Result<Fetched, Error>> {
        Box::pin(self.run())
    }

    fn patience(&self) -> Duration {
        self.settings.timeout.saturating_add(TERM_GRACE).saturating_add(BACKSTOP)
    }
}

/// A program under way. Dropped before it has ended, it is killed with all that it started.
struct Running {
    child: Child,
    /// Its process group, as long as its number is ours: until its leader has been waited for.
    group: Option<Pid>,
}

impl Running {
    fn start(command: &[String]) -> Result<Self, CommandFault> {
        let (name, arguments) = command.split_first().ok_or(CommandFault::Missing(String::new()))?;
        let mut program = Command::new(name);
        program
            .args(arguments)
            .env_clear()
            .envs(std::env::vars_os().filter(|(name, _)| is_inherited(name)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        let child = start_child(|| program.spawn(), Child::id);
        let child = child.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => CommandFault::Missing(name.clone()),
            io::ErrorKind::PermissionDenied => CommandFault::Forbidden(name.clone()),
            // EAGAIN of fork(2).
            io::ErrorKind::WouldBlock => CommandFault::NoProcess(name.clone()),
            kind => CommandFault::Start(name.clone(), kind),
        })?;
        let group = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        Ok(Self { child, group })
    }

    /// Reads until the program has ended. What it leaves behind may hold its output open: that is not waited for.
    async fn end(&mut self, printed: &mut Printed, said: &mut StderrTail) -> io::Result<ExitStatus> {
        let (out, err) = (self.child.stdout.take(), self.child.stderr.take());
        let reading = async {
            join(printed.read(out), said.read(err)).await;
        };
        tokio::pin!(reading);
        let status = tokio::select! {
            status = self.child.wait() => {
                // From here on the group's number may be another's, whatever the time that is left.
                self.group = None;
                // Both pipes hold the last of it already; only a stranger keeps them open longer.
                let _ = timeout(DRAIN_GRACE, reading).await;
                status
            }
            () = &mut reading => self.child.wait().await,
        };
        self.group = None;
        status
    }

    /// Ends the program and all that it started: asks first.
    async fn stop(&mut self) {
        let Some(group) = self.group else { return };
        // An error says that none is left.
        let _ = kill_process_group(group, Signal::TERM);
        let asked = async {
            // Looked at, not waited for: until then the group's number cannot be another's.
            let look = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
            while let Ok(None) = waitid(WaitId::Pid(group), look) {
                sleep(LOOK_INTERVAL).await;
            }
        };
        let _ = timeout(TERM_GRACE, asked).await;
        let _ = kill_process_group(group, Signal::KILL);
        self.group = None;
        let _ = timeout(TERM_GRACE, self.child.wait()).await;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(group) = self.group {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

/// What a program printed, up to a byte more than it may.
struct Printed {
    bytes: Zeroizing<Vec<u8>>,
}

impl Printed {
    fn new() -> Self {
        // In one allocation: a growing buffer would leave copies that are not zeroed.
        Self { bytes: Zeroizing::new(Vec::with_capacity(MAX_OUTPUT_BYTES + 1)) }
    }

    /// Takes the pipe, so that a program that prints too much is told by its closing.
    async fn read(&mut self, pipe: Option<impl AsyncRead + Unpin>) {
        let Some(pipe) = pipe else { return };
        let _ = pipe.take(MAX_OUTPUT_BYTES as u64 + 1).read_to_end(&mut self.bytes).await;
    }
}

/// The end of what a program said on its standard error.
#[derive(Default)]
struct StderrTail {
    bytes: Zeroizing<Vec<u8>>,
}

impl StderrTail {
    async fn read(&mut self, pipe: Option<impl AsyncRead + Unpin>) {
        let Some(mut pipe) = pipe else { return };
        let mut chunk = Zeroizing::new(vec![0; MAX_WORDS_BYTES]);
        while let Ok(count @ 1..) = pipe.read(&mut chunk).await {
            self.bytes.extend_from_slice(&chunk[..count]);
            let over = self.bytes.len().saturating_sub(MAX_WORDS_BYTES);
            self.bytes.drain(..over);
        }
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// Whether a helper program gets the variable `name`.
fn is_inherited(name: &OsString) -> bool {
    name.to_str().is_some_and(|name| INHERITED.contains(&name) || name.starts_with("LC_"))
}

/// What a program needs to be found, to find its own files, to speak the user's language and to reach the network. No
/// variable of this program's own, and none of a cloud's: those may be secrets.
const INHERITED: [&str; 23] = [
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "LANG",
    "LANGUAGE",
    "TZ",
    "TMPDIR",
    "XDG_RUNTIME_DIR",
    "XDG_CONFIG_HOME",
    "XDG_CACHE_HOME",
    "XDG_DATA_HOME",
    "XDG_STATE_HOME",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "no_proxy",
];

/// No token is longer.
const MAX_OUTPUT_BYTES: usize = 64 * 1024;

/// Of what is said, this much is looked at for its end.
const MAX_WORDS_BYTES: usize = 4 * 1024;

/// How long the output of a program that has ended is read on.
const DRAIN_GRACE: Duration = Duration::from_millis(200);

/// How long a program that was asked to end is given to do so.
const TERM_GRACE: Duration = Duration::from_secs(1);

/// Between two looks whether it has ended.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// What an attempt gets beyond the times above before it is given up.
const BACKSTOP: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::Path;

    use super::*;
    use crate::clock;
    use crate::oauth::{Class, Lifetime};

    fn program(command: &[&str], timeout: Duration) -> CommandSource {
        let command = command.iter().map(|&word| word.to_owned()).collect();
        CommandSource::new(CommandSettings { command, timeout })
    }

    fn script(text: &str) -> CommandSource {
        program(&["sh", "-c", text], Duration::from_secs(20))
    }

    async fn token(source: &CommandSource) -> String {
        source.fetch().await.unwrap().response.access_token.expose().clone()
    }

    async fn failure(source: &CommandSource) -> String {
        source.fetch().await.unwrap_err().to_string()
    }

    async fn appears(path: &Path) -> String {
        for _ in 0..500 {
            match std::fs::read_to_string(path) {
                Ok(text) if text.ends_with('\n') => return text.trim().to_owned(),
                _ => sleep(Duration::from_millis(10)).await,
            }
        }
        panic!("{} does not appear", path.display());
    }

    /// Whether a process is there and is no zombie.
    fn lives(id: &str) -> bool {
        let state = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        state.rsplit(')').next().is_some_and(|rest| !rest.trim().is_empty() && !rest.trim().starts_with('Z'))
    }

    async fn ends(id: &str) {
        for _ in 0..500 {
            if !lives(id) {
                return;
            }
            sleep(Duration::from_millis(10)).await;
        }
        panic!("the process {id} is still there");
    }

    #[tokio::test]
    async fn what_a_program_prints_is_the_token() {
        assert_eq!(token(&script("echo t0ken")).await, "t0ken");
        let fetched = script(r#"echo '{"access_token":"t0ken","expires_in":90}'; echo words >&2"#)
            .fetch()
            .await
            .unwrap();
        assert_eq!(fetched.response.lifetime, Lifetime::ExpiresIn(Duration::from_secs(90)));
    }

    #[tokio::test]
    async fn no_shell_reads_the_command() {
        assert_eq!(token(&program(&["echo", "$HOME;`id`"], Duration::from_secs(20))).await, "$HOME;`id`");
    }

    #[tokio::test]
    async fn a_program_gets_no_variable_descriptor_or_input_that_it_does_not_need() {
        let names = token(&script("env | cut -d= -f1 | sort | tr '\\n' ,")).await;
        for name in names.split(',').filter(|name| !name.is_empty()) {
            let shells_own = ["PWD", "OLDPWD", "SHLVL", "_"].contains(&name);
            assert!(shells_own || is_inherited(&name.into()), "{name}");
        }
        for name in ["CUPBEARER_CLIENT_SECRET", "AWS_SECRET_ACCESS_KEY", "CARGO_MANIFEST_DIR"] {
            assert!(!is_inherited(&name.into()), "{name}");
        }
        let _socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let _file = std::fs::File::open("/proc/self/status").unwrap();
        assert_eq!(
            token(&script("readlink /proc/self/fd/* | grep -c -e socket -e status || true")).await,
            "0"
        );
        assert_eq!(token(&script("wc -c")).await, "0");
        assert_eq!(token(&script("test \"$(cut -d' ' -f5 /proc/self/stat)\" = $$ && echo own")).await, "own");
    }

    #[tokio::test]
    async fn what_went_wrong_is_said_with_the_last_words_and_how_to_mend_it() {
        for (text, want) in [
            ("exit 3", "the helper program ended with the exit code 3"),
            ("echo not logged in >&2; exit 1", "exit code 1; it said: not logged in"),
            ("kill -9 $$", "was ended by the signal 9"),
            ("true", "printed nothing; the token belongs on its standard output"),
            ("echo; echo hm >&2", "standard output; it said: hm"),
            ("printf '\\377\\376'", "what the helper program printed is no token"),
            ("echo two words", "what the helper program printed is no token"),
            ("echo '{\"token\":1}'", "is JSON without an `access_token`"),
            ("head -c 100000 /dev/zero", "printed more than 64 KiB"),
        ] {
            let error = script(text).fetch().await.unwrap_err();
            assert!(error.to_string().contains(want), "{text}: {error}");
            assert_eq!(error.class(), Class::Transient, "{text}");
        }
    }

    #[tokio::test]
    async fn a_token_that_a_program_also_says_is_not_repeated() {
        let error = failure(&script("echo sentinel-token; echo got sentinel-token >&2; exit 1")).await;
        assert!(error.ends_with("it said: got ***"), "{error}");
        let long = failure(&script("yes 'a word' | head -c 1000000 >&2; exit 1")).await;
        assert!(long.len() < 400, "{long}");
    }

    #[tokio::test]
    async fn a_program_that_is_missing_or_may_not_run_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("helper");
        let source = program(&[path.to_str().unwrap()], Duration::from_secs(5));
        let error = source.fetch().await.unwrap_err();
        assert_eq!((error.class(), error.cause()), (Class::Misconfigured, "command"));
        assert!(error.to_string().contains("does not exist") && error.to_string().contains("helper"));
        std::fs::write(&path, "#!/bin/sh\necho t\n").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(failure(&source).await.contains("may not be executed"));
        assert!(
            failure(&program(&["no-such-program-anywhere"], Duration::from_secs(5))).await.contains("PATH")
        );
    }

    #[tokio::test]
    async fn a_program_that_hangs_is_ended_with_all_that_it_started() {
        let dir = tempfile::tempdir().unwrap();
        let pids = dir.path().join("pids");
        let text = format!(
            "trap '' TERM; sh -c 'trap \"\" TERM; sleep 60' & echo thinking >&2; echo $$ $! > {}; wait; sleep 60",
            pids.display()
        );
        let start = clock::now();
        let error = failure(&program(&["sh", "-c", &text], Duration::from_millis(500))).await;
        assert!(error.ends_with("was ended; it said: thinking"), "{error}");
        assert!(start.elapsed() < Duration::from_secs(5));
        for id in appears(&pids).await.split(' ') {
            ends(id).await;
        }
    }

    #[tokio::test]
    async fn a_program_that_ends_when_asked_is_not_waited_for_longer() {
        let start = clock::now();
        failure(&program(&["sleep", "60"], Duration::from_millis(200))).await;
        assert!(start.elapsed() < Duration::from_millis(900), "{:?}", start.elapsed());
    }

    #[tokio::test]
    async fn a_token_that_is_let_go_takes_its_program_along() {
        let dir = tempfile::tempdir().unwrap();
        let pids = dir.path().join("pids");
        let source = script(&format!("sleep 60 & echo $$ $! > {}; wait", pids.display()));
        let fetch = tokio::spawn(async move { source.fetch().await.map(drop) });
        let ids = appears(&pids).await;
        fetch.abort();
        for id in ids.split(' ') {
            ends(id).await;
        }
    }

    #[tokio::test]
    async fn what_a_program_leaves_in_the_background_is_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let pids = dir.path().join("pids");
        let start = clock::now();
        let got = token(&script(&format!("sleep 30 & echo $! > {}; echo t0ken", pids.display()))).await;
        assert_eq!(got, "t0ken");
        assert!(start.elapsed() < Duration::from_secs(10));
        let id = appears(&pids).await;
        assert!(lives(&id), "an agent that a helper starts is its own affair");
        let _ = std::process::Command::new("kill").arg(id).status();
    }
}
