//! What a person types or pastes while a login waits, line by line.
//!
//! A terminal that edits lines itself holds at most 4,095 bytes of one (termios(3), canonical mode) and drops the rest of a
//! long address without a word. So this takes each byte as it comes, and edits the line here.

use std::io::{BufRead as _, IsTerminal as _, Read as _, Stdin, stdin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr};
use tokio::sync::mpsc;

/// Lines that are typed, until there are no more.
pub(super) struct Typed {
    lines: Option<mpsc::Receiver<String>>,
    /// How many characters stand in the line that is not finished.
    unfinished: Arc<AtomicUsize>,
    _terminal: Option<ByteByByte>,
}

impl Typed {
    /// Reads standard input on a thread of its own: a read of a terminal cannot be cancelled. `wanted`: where not, there
    /// never is a line.
    pub(super) fn read(wanted: bool) -> Self {
        let unfinished = Arc::new(AtomicUsize::new(0));
        if !wanted {
            return Self { lines: None, unfinished, _terminal: None };
        }
        let (line, lines) = mpsc::channel(1);
        let terminal = ByteByByte::set(stdin());
        let (bytewise, count) = (terminal.is_some(), Arc::clone(&unfinished));
        thread::spawn(move || if bytewise { by_bytes(&line, &count) } else { by_lines(&line) });
        Self { lines: Some(lines), unfinished, _terminal: terminal }
    }

    /// The next line. Never, where there are no more.
    pub(super) async fn next(&mut self) -> String {
        if let Some(lines) = &mut self.lines {
            if let Some(line) = lines.recv().await {
                return line;
            }
            self.lines = None;
        }
        std::future::pending().await
    }

    /// How many characters wait for Enter.
    pub(super) fn unfinished(&self) -> usize {
        self.unfinished.load(Ordering::Relaxed)
    }
}

fn by_lines(line: &mpsc::Sender<String>) {
    for text in stdin().lock().lines().map_while(Result::ok) {
        if !text.trim().is_empty() && line.blocking_send(text.trim().to_owned()).is_err() {
            return;
        }
    }
}

fn by_bytes(line: &mpsc::Sender<String>, count: &AtomicUsize) {
    let mut edited = Line::default();
    let mut bytes = [0; 4096];
    loop {
        let Ok(read @ 1..) = stdin().lock().read(&mut bytes) else { return };
        for byte in bytes.iter().take(read) {
            match edited.take(*byte) {
                Edit::Goes => {}
                Edit::End => return,
                Edit::Whole(text) => {
                    if !text.is_empty() && line.blocking_send(text).is_err() {
                        return;
                    }
                }
            }
        }
        count.store(edited.text.len(), Ordering::Relaxed);
    }
}

/// A line as it is typed: what a terminal in canonical mode does with the keys that people use, without its limit.
#[derive(Default)]
struct Line {
    text: String,
    /// Within an escape sequence: an arrow key, or the mark of a paste.
    escape: bool,
}

enum Edit {
    Goes,
    Whole(String),
    End,
}

impl Line {
    fn take(&mut self, byte: u8) -> Edit {
        if self.escape {
            self.escape = matches!(byte, b'[' | b'O' | b';' | b'0'..=b'9');
            return Edit::Goes;
        }
        match byte {
            b'\n' | b'\r' => return Edit::Whole(std::mem::take(&mut self.text)),
            END if self.text.is_empty() => return Edit::End,
            ESCAPE => self.escape = true,
            BACKSPACE | DELETE => drop(self.text.pop()),
            LINE_KILL => self.text.clear(),
            // An address is ASCII; more of it than this is none.
            byte if byte.is_ascii_graphic() && self.text.len() < MOST_CHARS => self.text.push(byte.into()),
            _ => {}
        }
        Edit::Goes
    }
}

/// A terminal that hands over each byte as it comes and shows none of them. It is as before once this is dropped.
struct ByteByByte {
    terminal: Stdin,
    before: Termios,
}

impl ByteByByte {
    /// `None`: it is no terminal.
    fn set(terminal: Stdin) -> Option<Self> {
        if !terminal.is_terminal() {
            return None;
        }
        let before = tcgetattr(&terminal).ok()?;
        let mut mode = before.clone();
        // Ctrl-C goes on to be a signal.
        mode.local_modes.remove(LocalModes::ICANON | LocalModes::ECHO);
        mode.special_codes[SpecialCodeIndex::VMIN] = 1;
        mode.special_codes[SpecialCodeIndex::VTIME] = 0;
        tcsetattr(&terminal, OptionalActions::Now, &mode).ok()?;
        Some(Self { terminal, before })
    }
}

impl Drop for ByteByByte {
    fn drop(&mut self) {
        let _ = tcsetattr(&self.terminal, OptionalActions::Now, &self.before);
    }
}

const END: u8 = 0x04;
const BACKSPACE: u8 = 0x08;
const LINE_KILL: u8 = 0x15;
const ESCAPE: u8 = 0x1b;
const DELETE: u8 = 0x7f;
/// What the control surface takes is smaller still.
const MOST_CHARS: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(keys: &str) -> Vec<String> {
        let mut line = Line::default();
        keys.bytes()
            .filter_map(|byte| match line.take(byte) {
                Edit::Whole(text) => Some(text),
                Edit::Goes | Edit::End => None,
            })
            .collect()
    }

    #[test]
    fn a_line_is_edited_as_on_a_terminal_and_has_no_limit_of_4095() {
        assert_eq!(typed("http://x\u{8}y\u{7f}z\n"), ["http://z"]);
        assert_eq!(typed("wrong\u{15}right\r"), ["right"]);
        assert_eq!(typed("\u{1b}[200~http://x\u{1b}[201~\u{1b}[A\n"), ["http://x"]);
        let long = "x".repeat(20_000);
        assert_eq!(typed(&format!("{long}\n")), [long]);
        assert!(matches!(Line::default().take(END), Edit::End));
    }
}
