//! Threads for work that blocks: name lookups, files, the token store. They are made once, at the start.
//!
//! tokio's own blocking threads are not used for this: they are made when work comes, so a machine without a free thread
//! makes tokio panic, and up to 512 slow name lookups hold up a file that a token needs. Each kind of work has its own few
//! threads here. Work beyond them waits in a bounded queue, and work whose caller has left before it began is dropped.
//! Callers: `resolver` for names, `oauth` for secrets and keys, `token::store` for its files.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::thread;

use tokio::sync::oneshot;

/// For the files of secrets, keys and certificates, and for tokens that a file holds.
pub(crate) static SECRETS: Threads = Threads::new("secrets", 2);

/// For the token store.
pub(crate) static STORE: Threads = Threads::new("store", 2);

/// A few threads with one queue.
#[derive(Debug)]
pub(crate) struct Threads {
    name: &'static str,
    count: usize,
    queue: OnceLock<SyncSender<Job>>,
    /// The files that [`Self::run_on`] is at work on or is asked for.
    files: Mutex<BTreeMap<PathBuf, Weak<tokio::sync::Mutex<()>>>>,
}

type Job = Box<dyn FnOnce() + Send>;

/// Why work was not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotDone {
    /// The system gives this process no more threads: `pids.max` of its cgroup, or `ulimit -u`.
    #[error("this machine has no thread left")]
    NoThread,
    /// Earlier work occupies every thread, and the queue behind it is full.
    #[error("every thread for this work is taken by work that hangs")]
    Full,
    /// The work ended in a panic.
    #[error("the work ended in a panic")]
    Panicked,
}

impl Threads {
    /// `count` threads, which start with [`Self::start`] or with the first work.
    #[must_use]
    pub(crate) const fn new(name: &'static str, count: usize) -> Self {
        Self { name, count, queue: OnceLock::new(), files: Mutex::new(BTreeMap::new()) }
    }

    /// Makes the threads, unless they are there.
    ///
    /// # Errors
    /// [`NotDone::NoThread`]; the next call tries again.
    pub(crate) fn start(&self) -> Result<(), NotDone> {
        self.queue().map(|_| ())
    }

    fn queue(&self) -> Result<&SyncSender<Job>, NotDone> {
        if let Some(queue) = self.queue.get() {
            return Ok(queue);
        }
        let (sender, receiver) = sync_channel(LONGEST_QUEUE);
        let receiver = Arc::new(Mutex::new(receiver));
        for number in 0..self.count {
            let receiver = Arc::clone(&receiver);
            let thread = thread::Builder::new().name(format!("{}-{number}", self.name));
            // Those made already end with the sender.
            thread.spawn(move || work_off(&receiver)).map_err(|_| NotDone::NoThread)?;
        }
        Ok(self.queue.get_or_init(|| sender))
    }

    /// Has a thread do `work` some time; nothing waits for it.
    ///
    /// # Errors
    /// [`NotDone::NoThread`] and [`NotDone::Full`].
    pub(crate) fn submit(&self, work: impl FnOnce() + Send + 'static) -> Result<(), NotDone> {
        self.queue()?.try_send(Box::new(work)).map_err(|_| NotDone::Full)
    }

    /// Has a thread do `work` and waits for its result. A caller that leaves before a thread has begun takes its work along.
    ///
    /// # Errors
    /// [`NotDone`]
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, NotDone> {
        let (done, result) = oneshot::channel();
        self.submit(move || {
            if !done.is_closed() {
                // The caller may have left meanwhile.
                let _ = done.send(work());
            }
        })?;
        result.await.map_err(|_dropped| NotDone::Panicked)
    }

    /// The same for work on a file: of several for the same file, one is under way at a time. A file that hangs, as on a
    /// network, occupies one thread however often it is tried.
    ///
    /// # Errors
    /// [`NotDone`]
    pub(crate) async fn run_on<T: Send + 'static>(
        &self,
        file: &Path,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, NotDone> {
        let turn = self.turn_of(file).lock_owned().await;
        self.run(move || {
            let _until_done = turn;
            work()
        })
        .await
    }

    fn turn_of(&self, file: &Path) -> Arc<tokio::sync::Mutex<()>> {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(turn) = files.get(file).and_then(Weak::upgrade) {
            return turn;
        }
        files.retain(|_, turn| turn.strong_count() > 0);
        let turn = Arc::default();
        files.insert(file.to_owned(), Arc::downgrade(&turn));
        turn
    }
}

/// A thread's life; it ends with the queue's sender.
fn work_off(queue: &Mutex<Receiver<Job>>) {
    loop {
        let next = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(work) = next else { return };
        // A panic has been reported by the hook, and its caller sees that no result comes; the thread goes on.
        let _ = catch_unwind(AssertUnwindSafe(work));
    }
}

/// Far more than what ever waits where nothing hangs.
const LONGEST_QUEUE: usize = 1024;

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn no_more_work_is_under_way_than_there_are_threads() {
        static THREADS: Threads = Threads::new("few", 2);
        static UNDER_WAY: AtomicUsize = AtomicUsize::new(0);
        static MOST: AtomicUsize = AtomicUsize::new(0);
        let work = || {
            let now = UNDER_WAY.fetch_add(1, Ordering::SeqCst) + 1;
            MOST.fetch_max(now, Ordering::SeqCst);
            thread::yield_now();
            UNDER_WAY.fetch_sub(1, Ordering::SeqCst);
        };
        let all = (0..50).map(|_| THREADS.run(work));
        for done in futures_util::future::join_all(all).await {
            done.unwrap();
        }
        assert!(MOST.load(Ordering::SeqCst) <= 2);
    }

    #[tokio::test]
    async fn a_panic_ends_its_own_work_alone() {
        static THREADS: Threads = Threads::new("one", 1);
        let failed = THREADS.run(|| panic!("of a test")).await;
        assert_eq!(failed, Err(NotDone::Panicked));
        assert_eq!(THREADS.run(|| 7).await, Ok(7));
    }

    #[tokio::test]
    async fn work_whose_caller_has_left_is_not_begun() {
        static THREADS: Threads = Threads::new("one", 1);
        let (go, gate) = mpsc::channel::<()>();
        THREADS
            .submit(move || {
                let _ = gate.recv();
            })
            .unwrap();
        let (tell, told) = mpsc::channel();
        let left = THREADS.run(move || tell.send(()));
        assert!(tokio::time::timeout(std::time::Duration::from_millis(10), left).await.is_err());
        go.send(()).unwrap();
        assert_eq!(THREADS.run(|| 7).await, Ok(7), "what came behind it is done");
        assert!(told.try_recv().is_err());
    }

    #[tokio::test]
    async fn a_file_that_hangs_occupies_one_thread_however_often_it_is_tried() {
        static THREADS: Threads = Threads::new("files", 2);
        let (go, gate) = mpsc::channel::<()>();
        let mut gate = Some(gate);
        for _ in 0..5 {
            let hangs = gate.take();
            let left = THREADS.run_on(Path::new("/hung"), move || {
                let _ = hangs.map(|gate| gate.recv());
            });
            assert!(tokio::time::timeout(std::time::Duration::from_millis(10), left).await.is_err());
        }
        assert_eq!(THREADS.run_on(Path::new("/well"), || 7).await, Ok(7));
        drop(go);
        assert_eq!(THREADS.run_on(Path::new("/hung"), || 8).await, Ok(8), "it came back");
        THREADS.run_on(Path::new("/last"), || ()).await.unwrap();
        assert!(THREADS.files.lock().unwrap().len() <= 2);
    }

    #[tokio::test]
    async fn a_queue_behind_work_that_hangs_is_bounded() {
        static THREADS: Threads = Threads::new("hung", 1);
        let (go, gate) = mpsc::channel::<()>();
        THREADS
            .submit(move || {
                let _ = gate.recv();
            })
            .unwrap();
        let refused = (0..=LONGEST_QUEUE + 1).find_map(|_| THREADS.submit(|| {}).err());
        assert_eq!(refused, Some(NotDone::Full));
        drop(go);
    }
}
