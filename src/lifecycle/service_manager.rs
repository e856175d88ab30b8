//! What the service manager is told of the program's life (`sd_notify(3)`): that it is ready, reloads or stops, how it stands, and
//! that it is alive.
//!
//! `app` calls it. Nothing waits for the service manager: a message that it does not take at once is lost.
//!
//! Not the crate `sd-notify`: that waits for the socket, and knows no name in the abstract namespace.

use std::env;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::MissedTickBehavior;

use crate::clock;

/// The way to the service manager; without one, nothing is sent.
#[derive(Clone, Debug, Default)]
pub(crate) struct ServiceManager {
    socket: Option<Arc<UnixDatagram>>,
    /// How long it takes the program for alive without a message.
    watchdog: Option<Duration>,
    /// What was sent last.
    status: String,
    /// Why `NOTIFY_SOCKET` leads nowhere.
    unreachable: Option<Arc<io::Error>>,
}

impl ServiceManager {
    /// The one that started this process (`NOTIFY_SOCKET`, `WATCHDOG_USEC`).
    #[must_use]
    pub(crate) fn of_this_process() -> Self {
        let Some(name) = env::var_os("NOTIFY_SOCKET") else { return Self::default() };
        let (socket, unreachable) = match connect(&name) {
            Ok(socket) => (Some(Arc::new(socket)), None),
            Err(error) => (None, Some(Arc::new(error))),
        };
        let number = |name: &str| env::var(name).ok()?.parse::<u64>().ok();
        // Meant for another process, such as one that started this one.
        let is_ours = number("WATCHDOG_PID").is_none_or(|id| id == u64::from(process::id()));
        let watchdog = number("WATCHDOG_USEC").filter(|micros| is_ours && *micros > 0);
        Self { socket, watchdog: watchdog.map(Duration::from_micros), status: String::new(), unreachable }
    }

    /// Logs that the service manager cannot be reached: to call once there is a log.
    pub(crate) fn log_unreachable(&self) {
        if let Some(error) = &self.unreachable {
            tracing::warn!(%error, "NOTIFY_SOCKET does not lead to a service manager; no message is sent to it");
        }
    }

    /// Whether there is one.
    #[must_use]
    pub(crate) const fn is_there(&self) -> bool {
        self.socket.is_some()
    }

    /// The program has started, or reloaded: it listens.
    pub(crate) fn ready(&self) {
        self.send("READY=1");
    }

    /// A reload begins; [`ready`](Self::ready) ends it.
    pub(crate) fn reloading(&self) {
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={}", clock::monotonic_micros()));
    }

    /// The end has begun and takes up to `longest`, which may be more than the service manager waits by itself.
    pub(crate) fn stopping(&self, longest: Duration) {
        self.send(&format!("STOPPING=1\nEXTEND_TIMEOUT_USEC={}", longest.as_micros()));
    }

    /// How the program stands, in one line. What was sent last is not sent again.
    pub(crate) fn status(&mut self, status: &str) {
        if self.is_there() && status != self.status {
            self.send(&format!("STATUS={}", status.replace('\n', " ")));
            status.clone_into(&mut self.status);
        }
    }

    /// Reports that the program is alive, twice in the time that the service manager waits for it. It never ends: a program that
    /// stands still reports nothing, and is started again.
    pub(crate) async fn keep_alive(self) {
        let Some(watchdog) = self.watchdog else { return };
        let mut ticks = tokio::time::interval(watchdog / 2);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.send("WATCHDOG=1");
        }
    }

    fn send(&self, message: &str) {
        let Some(socket) = &self.socket else { return };
        if let Err(error) = socket.send(message.as_bytes()) {
            tracing::debug!(%error, "the service manager takes no message");
        }
    }
}

/// A socket to `name`: a path, or `@` and a name in the abstract namespace.
fn connect(name: &OsStr) -> io::Result<UnixDatagram> {
    let address = match name.as_bytes().strip_prefix(b"@") {
        #[cfg(target_os = "linux")]
        Some(name) => {
            use std::os::linux::net::SocketAddrExt as _;
            SocketAddr::from_abstract_name(name)?
        }
        _ => SocketAddr::from_pathname(name)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    socket.connect_addr(&address)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manager(watchdog: Option<Duration>) -> (ServiceManager, UnixDatagram) {
        let (ours, theirs) = UnixDatagram::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        theirs.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        (ServiceManager { socket: Some(Arc::new(ours)), watchdog, ..ServiceManager::default() }, theirs)
    }

    fn message(socket: &UnixDatagram) -> String {
        let mut bytes = [0; 256];
        let length = socket.recv(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes[..length]).into_owned()
    }

    #[test]
    fn the_service_manager_is_told_each_change_once() {
        let (mut manager, socket) = manager(None);
        manager.ready();
        manager.status("1 of 1 tokens usable");
        manager.status("1 of 1 tokens usable");
        manager.reloading();
        manager.status("two\nlines");
        manager.stopping(Duration::from_secs(35));
        assert_eq!(message(&socket), "READY=1");
        assert_eq!(message(&socket), "STATUS=1 of 1 tokens usable");
        let reloading = message(&socket);
        let (first, second) = reloading.split_once('\n').unwrap();
        let micros: u64 = second.strip_prefix("MONOTONIC_USEC=").unwrap().parse().unwrap();
        assert!(first == "RELOADING=1" && micros > 0, "{reloading}");
        assert_eq!(message(&socket), "STATUS=two lines");
        assert_eq!(message(&socket), "STOPPING=1\nEXTEND_TIMEOUT_USEC=35000000");
    }

    #[tokio::test]
    async fn a_program_that_runs_reports_that_it_is_alive() {
        let (manager, socket) = manager(Some(Duration::from_millis(20)));
        let alive = tokio::spawn(manager.keep_alive());
        tokio::time::sleep(Duration::from_millis(60)).await;
        assert_eq!((message(&socket), message(&socket)), ("WATCHDOG=1".to_owned(), "WATCHDOG=1".to_owned()));
        alive.abort();
    }

    #[test]
    fn a_full_or_missing_service_manager_holds_nothing_up() {
        let (manager, _socket) = manager(None);
        for _ in 0..10_000 {
            manager.ready();
        }
        let mut none = ServiceManager::default();
        none.status("nothing");
        none.ready();
        assert!(!none.is_there());
    }

    #[test]
    fn it_is_reached_by_a_path_and_by_an_abstract_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let there = UnixDatagram::bind(&path).unwrap();
        connect(path.as_os_str()).unwrap().send(b"READY=1").unwrap();
        assert_eq!(message(&there), "READY=1");
        #[cfg(target_os = "linux")]
        {
            use std::os::linux::net::SocketAddrExt as _;
            let name = format!("cupbearer-test-{}", process::id());
            let there = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
            connect(OsStr::new(&format!("@{name}"))).unwrap().send(b"READY=1").unwrap();
            assert_eq!(message(&there), "READY=1");
        }
    }
}
