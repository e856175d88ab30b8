//! A program that a test starts: its log is kept in a file, and it ends with the test.

use std::fs::{self, File};
use std::future::Future;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

use super::clock;

/// How long anything that a test waits for may take, on a machine that does much else.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A running program; killed where it is dropped.
#[derive(Debug)]
pub struct Program {
    name: &'static str,
    child: Child,
    log: PathBuf,
}

impl Program {
    /// Starts `command`; both its outputs go to one file in `dir`.
    pub fn spawn(name: &'static str, mut command: Command, dir: &Path) -> Self {
        let log = dir.join(format!("{name}.log"));
        let file = File::create(&log).unwrap();
        command.stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file).kill_on_drop(true);
        let child = command.spawn().unwrap_or_else(|error| panic!("{name} does not start: {error}"));
        Self { name, child, log }
    }

    /// A command for a peer: found on the path, or where Debian keeps what is for administrators. `package` is
    /// what to install where it is missing.
    pub fn peer(program: &str, package: &str) -> Command {
        let path = std::env::var("PATH").unwrap_or_default();
        let found = path
            .split(':')
            .chain(["/usr/sbin", "/usr/local/sbin", "/sbin"])
            .map(|folder| Path::new(folder).join(program))
            .find(|file| file.is_file());
        let Some(found) = found else {
            panic!("{program} is not installed, and this test needs it: apt-get install {package}");
        };
        let mut command = Command::new(found);
        command.env_clear().env("PATH", path);
        command
    }

    /// All that it has logged so far.
    pub fn log(&self) -> String {
        self.until_written();
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Waits until the thread that writes its log, where it has one, waits for more: all before that is in the file.
    fn until_written(&self) {
        let Some(id) = self.child.id() else { return };
        let start = clock::now();
        for task in fs::read_dir(format!("/proc/{id}/task")).into_iter().flatten().flatten() {
            let task = task.path();
            let is_log = fs::read_to_string(task.join("comm")).is_ok_and(|name| name == "log\n");
            while is_log && !waits_for_ever(&task) {
                assert!(start.elapsed() < PATIENCE, "{} does not write its log", self.name);
                std::thread::yield_now();
            }
        }
    }

    /// The file that it writes to.
    pub fn log_file(&self) -> &Path {
        &self.log
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id().unwrap_or_else(|| panic!("{} has ended:\n{}", self.name, self.log()))
    }

    /// Waits until `holds`, and fails with the log where the program ends first or patience does.
    pub async fn until<F, T>(&mut self, what: &str, mut holds: F)
    where
        F: FnMut() -> T,
        T: Future<Output = bool>,
    {
        let start = clock::now();
        while !holds().await {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("{} ended with {status} before it was {what}:\n{}", self.name, self.log());
            }
            assert!(start.elapsed() < PATIENCE, "{} is still not {what}:\n{}", self.name, self.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.id()).ok().and_then(Pid::from_raw).unwrap();
        kill_process(id, signal).unwrap();
    }

    /// Waits for its end by itself, at most `within`.
    pub async fn ended(&mut self, within: Duration) -> ExitStatus {
        tokio::time::timeout(within, self.child.wait())
            .await
            .unwrap_or_else(|_| panic!("{} still runs after {within:?}:\n{}", self.name, self.log()))
            .unwrap()
    }

    /// Asks it to end and waits a little, without a runtime: for a program with children of its own that is dropped.
    #[expect(clippy::disallowed_methods, reason = "who is dropped cannot wait in any other way")]
    pub fn end_in_order(&mut self) {
        if self.child.id().is_none() {
            return;
        }
        self.signal(Signal::TERM);
        for _ in 0..200 {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// The largest resident memory that it ever had, in KiB (`VmHWM` of proc(5)).
    pub fn peak_memory_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }
}

/// Whether a thread is in futex(2) without a limit of time, which is its fourth argument; or gone.
fn waits_for_ever(task: &Path) -> bool {
    let Ok(call) = fs::read_to_string(task.join("syscall")) else { return true };
    let futex = if cfg!(target_arch = "aarch64") { "98" } else { "202" };
    let words: Vec<_> = call.split(' ').collect();
    words[0] == futex && words.get(4) == Some(&"0x0")
}

/// Waits until `holds`; fails with `what` where patience ends first.
pub async fn eventually<F, T>(what: &str, mut holds: F)
where
    F: FnMut() -> T,
    T: Future<Output = bool>,
{
    let start = clock::now();
    while !holds().await {
        assert!(start.elapsed() < PATIENCE, "still not so after {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
}

/// A loopback address that nothing listens on. It lies below the kernel's ephemeral ports, so that no outgoing
/// connection of a test beside this one takes it in the meantime; and a locked file keeps it for this process, so that
/// no other test is given it before its server listens.
pub fn free_address() -> SocketAddr {
    static GIVEN: Mutex<Vec<File>> = Mutex::new(Vec::new());
    let dir = build_folder().with_file_name("tmp").join("ports");
    fs::create_dir_all(&dir).unwrap();
    loop {
        let port = fastrand::u16(12_000..32_000);
        let lock = File::create(dir.join(port.to_string())).unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        if lock.try_lock().is_ok() && TcpListener::bind(address).is_ok() {
            GIVEN.lock().unwrap().push(lock);
            return address;
        }
    }
}

/// The top of the repository.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap()
}

/// The program under test, which cargo builds with its tests.
pub fn binary() -> PathBuf {
    build_folder().join("cupbearer")
}

/// Where cargo puts programs: `target/debug`. A test's own binary is in a folder of it.
fn build_folder() -> PathBuf {
    std::env::current_exe().unwrap().ancestors().nth(2).unwrap().to_owned()
}
