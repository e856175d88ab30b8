//! The lines on their way to standard error: a bounded queue, and a thread of its own that writes them. A caller never
//! waits for what reads the log.
//!
//! A line that does not fit is dropped and counted, and so are those after it until half of the queue is free again. Then
//! one line in their place reports how many they were. A write that fails loses nothing: it is tried again until it
//! succeeds.
//!
//! Not tracing-appender's `non_blocking`: that bounds lines and not bytes (a line may have 64 KiB), loses the line of each
//! write that fails, leaves half a line where a non-blocking descriptor is full, and counts neither.

use std::collections::VecDeque;
use std::io;
use std::os::fd::AsFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::metrics::DroppedLines;

/// The queue, shared by all that log and by the thread that writes.
pub(super) struct LineQueue {
    state: Mutex<State>,
    /// Wakes the writer.
    work: Condvar,
    /// Wakes who waits for the last line.
    written: Condvar,
    dropped: DroppedLines,
    /// Makes the line that reports how many were dropped.
    report: Report,
}

type Report = Box<dyn Fn(u64) -> String + Send + Sync>;

#[derive(Debug, Default)]
struct State {
    /// Whole lines that wait.
    lines: VecDeque<u8>,
    /// Bytes that the writer has taken and not written yet.
    writing: usize,
    /// Lines that were dropped since the last report of it. Until that, every other one is dropped too.
    missing: u64,
    /// The writer waits for a line, for however long it takes.
    sleeps: bool,
    /// The program ends: what cannot be written now never will be.
    ends: bool,
    /// The writer has given up.
    gave_up: bool,
}

impl State {
    fn is_written(&self) -> bool {
        self.gave_up || self.lines.is_empty() && self.writing == 0 && self.missing == 0
    }
}

impl std::fmt::Debug for LineQueue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LineQueue").finish_non_exhaustive()
    }
}

impl LineQueue {
    /// A queue whose lines a new thread writes to `out`. The thread ends with the process.
    ///
    /// # Errors
    /// Where the system has no thread left.
    pub(super) fn start(out: impl AsFd + Send + 'static, report: Report) -> io::Result<Arc<Self>> {
        let queue = Arc::new(Self {
            state: Mutex::default(),
            work: Condvar::new(),
            written: Condvar::new(),
            dropped: DroppedLines::new(),
            report,
        });
        let writer = Arc::clone(&queue);
        let thread = thread::Builder::new().name(THREAD.to_owned()).stack_size(STACK);
        thread.spawn(move || writer.write_on(&out))?;
        Ok(queue)
    }

    /// What counts its losses.
    pub(super) const fn dropped(&self) -> &DroppedLines {
        &self.dropped
    }

    /// Queues one line, with its end. Never waits for a write.
    pub(super) fn push(&self, line: &[u8]) {
        let mut state = self.state();
        let held = state.lines.len() + state.writing;
        if state.missing > 0 || held + line.len() > CAPACITY {
            state.missing += 1;
            let wakes = std::mem::take(&mut state.sleeps);
            drop(state);
            self.dropped.count();
            // The queue was empty, and this line larger than all of it.
            if wakes {
                self.work.notify_one();
            }
            return;
        }
        let was_short = state.lines.len() < FULL_ENOUGH;
        if state.lines.capacity() == 0 {
            // It doubles from here on, to no more than the whole.
            state.lines.reserve_exact(FIRST_ROOM);
        }
        state.lines.extend(line);
        // A system call only where the writer does not come by itself, or too late.
        let wakes = state.sleeps || was_short && state.lines.len() >= FULL_ENOUGH;
        state.sleeps = false;
        drop(state);
        if wakes {
            self.work.notify_one();
        }
    }

    /// Waits until every line so far is written: for `bound` at most, and not for a descriptor that refuses them.
    pub(super) fn finish(&self, bound: Duration) {
        let mut state = self.state();
        state.ends = true;
        state.sleeps = false;
        self.work.notify_one();
        let waited = self.written.wait_timeout_while(state, bound, |state| !state.is_written());
        drop(waited);
    }

    /// The work of the thread.
    fn write_on(&self, out: &impl AsFd) {
        let mut batch = Vec::with_capacity(BATCH);
        while self.take(&mut batch) && self.write(out, &batch).is_ok() {}
        self.state().gave_up = true;
        self.written.notify_all();
    }

    /// Waits for lines and takes some; whether there will ever be more.
    fn take(&self, batch: &mut Vec<u8>) -> bool {
        batch.clear();
        let mut state = self.state();
        state.writing = 0;
        if state.missing > 0 && state.lines.len() <= CAPACITY / 2 {
            let report = (self.report)(std::mem::take(&mut state.missing));
            state.lines.extend(report.as_bytes());
        }
        if state.lines.is_empty() {
            if state.lines.capacity() > FIRST_ROOM {
                state.lines = VecDeque::new();
            }
            self.written.notify_all();
            // More may follow: many lines cost one wake-up and one write.
            if !state.ends {
                state = self.wait(state, LINGER);
            }
        }
        while state.lines.is_empty() && state.missing == 0 {
            state.sleeps = true;
            state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.sleeps = false;
        }
        let length = whole_lines(&state.lines);
        let (front, back) = state.lines.as_slices();
        let (front, back) = match front.get(..length) {
            Some(front) => (front, &[][..]),
            None => (front, &back[..length - front.len()]),
        };
        batch.extend_from_slice(front);
        batch.extend_from_slice(back);
        state.lines.drain(..length);
        state.writing = length;
        true
    }

    /// Writes `batch` to its end, however often that takes. `Err`: the program ends, and it cannot be written.
    fn write(&self, out: &impl AsFd, batch: &[u8]) -> Result<(), Errno> {
        let mut rest = batch;
        while !rest.is_empty() {
            match rustix::io::write(out, rest) {
                Ok(written) => rest = &rest[written..],
                Err(Errno::INTR) => {}
                // Who shares the descriptor has made it non-blocking: a shell, or Node.js.
                Err(Errno::AGAIN) => {
                    let room = PollFd::new(out, PollFlags::OUT);
                    if poll(&mut [room], Some(&PAUSE)).is_err() {
                        drop(self.wait(self.state(), RETRY));
                    }
                }
                // A full disk, or a pipe that nothing reads at the moment.
                Err(error) => {
                    let state = self.state();
                    if state.ends {
                        return Err(error);
                    }
                    drop(self.wait(state, RETRY));
                }
            }
        }
        Ok(())
    }

    fn wait<'s>(&self, state: MutexGuard<'s, State>, time: Duration) -> MutexGuard<'s, State> {
        self.work.wait_timeout(state, time).unwrap_or_else(PoisonError::into_inner).0
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Bytes of the lines that are written at once: as many whole ones as fit into [`BATCH`], and one at least.
fn whole_lines(lines: &VecDeque<u8>) -> usize {
    let within = lines.iter().take(BATCH).rposition(|byte| *byte == b'\n');
    let end = within.or_else(|| lines.iter().position(|byte| *byte == b'\n'));
    end.map_or(lines.len(), |end| end + 1)
}

/// The thread's name.
const THREAD: &str = "log";
/// Bytes of the thread's stack: it calls little.
const STACK: usize = 128 * 1024;
/// Bytes of lines that are held, those that are being written included.
const CAPACITY: usize = 1024 * 1024;
/// Bytes that the queue has room for at first, and goes back to.
const FIRST_ROOM: usize = CAPACITY / 16;
/// Bytes that wake the writer early.
const FULL_ENOUGH: usize = CAPACITY / 4;
/// Bytes of a write: what a pipe takes whole or not at all (`PIPE_BUF` of pipe(7)), so that no other program's line comes
/// into the middle of ours.
const BATCH: usize = 4096;
/// How long the writer collects lines after it has written all.
const LINGER: Duration = Duration::from_millis(2);
/// Between two writes that fail.
const RETRY: Duration = Duration::from_millis(100);
/// How long it waits at a time for a non-blocking descriptor to take more.
const PAUSE: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{BufRead, BufReader, PipeReader, pipe};

    use rustix::fs::{OFlags, fcntl_setfl};

    use super::*;

    const AT_MOST: Duration = Duration::from_secs(20);

    fn line(number: usize) -> String {
        format!("line {number:06} {}\n", "x".repeat(86))
    }

    /// A queue to `out` that was given so many lines.
    fn queue(out: impl AsFd + Send + 'static, lines: usize) -> Arc<LineQueue> {
        let queue = LineQueue::start(out, Box::new(|count| format!("dropped {count}\n"))).unwrap();
        for number in 0..lines {
            queue.push(line(number).as_bytes());
        }
        queue
    }

    /// What comes out before a last line.
    fn all_of(reader: PipeReader, queue: &LineQueue) -> Vec<String> {
        let reading = thread::spawn(move || {
            let lines = BufReader::new(reader).lines().map(Result::unwrap);
            lines.take_while(|line| line != "last").collect()
        });
        // With what was dropped reported, there is room for it.
        queue.finish(AT_MOST);
        assert!(queue.state().lines.capacity() <= FIRST_ROOM, "the memory is free again");
        queue.push(b"last\n");
        reading.join().unwrap()
    }

    #[test]
    fn lines_that_nothing_reads_are_dropped_and_counted_and_none_waits() {
        let (reader, writer) = pipe().unwrap();
        let queue = queue(writer, 50_000);
        let dropped = queue.dropped().get();
        assert!(dropped > 0 && queue.state().lines.capacity() <= CAPACITY);
        let mut read = all_of(reader, &queue);
        assert_eq!(read.pop(), Some(format!("dropped {dropped}")), "at the place of what is missing");
        assert_eq!(read.len() as u64 + dropped, 50_000);
        for (number, read) in read.iter().enumerate() {
            assert_eq!(*read, line(number).trim_end(), "in order, and whole");
        }
    }

    #[test]
    fn a_line_that_is_larger_than_the_queue_is_the_only_one_that_is_lost() {
        let (reader, writer) = pipe().unwrap();
        let queue = queue(writer, 1);
        queue.finish(AT_MOST);
        queue.state().ends = false;
        queue.push(format!("{}\n", "z".repeat(CAPACITY)).as_bytes());
        assert_eq!(all_of(reader, &queue), [line(0).trim_end(), "dropped 1"]);
    }

    #[test]
    fn a_non_blocking_descriptor_loses_nothing_and_tears_no_line() {
        let (reader, writer) = pipe().unwrap();
        fcntl_setfl(&writer, OFlags::NONBLOCK).unwrap();
        let queue = queue(writer, 5_000);
        queue.push(format!("{}\n", "y".repeat(200_000)).as_bytes());
        let read = all_of(reader, &queue);
        assert_eq!((queue.dropped().get(), read.len()), (0, 5_001));
        assert_eq!(read[5_000], "y".repeat(200_000));
    }

    #[test]
    fn neither_a_closed_pipe_nor_a_full_disk_ends_the_writer_before_the_program_ends() {
        let (reader, writer) = pipe().unwrap();
        drop(reader);
        let full = File::options().write(true).open("/dev/full").unwrap();
        for queue in [queue(writer, 50_000), queue(full, 50_000)] {
            assert!(queue.dropped().get() > 0);
            assert!(!queue.state().gave_up);
            queue.finish(AT_MOST);
            assert!(queue.state().gave_up, "the end did not wait for it");
        }
    }

    #[test]
    fn the_end_does_not_wait_for_a_reader_that_does_not_come() {
        let (_reader, writer) = pipe().unwrap();
        let queue = queue(writer, 50_000);
        queue.finish(Duration::from_millis(10));
        assert!(!queue.state().is_written());
    }
}
