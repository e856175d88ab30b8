//! `h2load` of nghttp2: load over HTTP/1.1 and HTTP/2, with every answer counted.

use super::program::Program;

/// What h2load counted.
#[derive(Clone, Copy, Debug, Default)]
pub struct Load {
    pub done: u64,
    pub succeeded: u64,
    pub failed: u64,
    pub errored: u64,
    pub timeout: u64,
    /// Answers with a 2xx status.
    pub good: u64,
    /// Answers with any other status.
    pub bad: u64,
}

/// Runs h2load with `arguments` to its end.
pub async fn h2load(arguments: &[&str]) -> Load {
    let mut command = Program::peer("h2load", "nghttp2-client");
    let output = command.args(arguments).kill_on_drop(true).output().await.unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = |start: &str| -> String {
        text.lines()
            .find_map(|line| line.strip_prefix(start))
            .unwrap_or_else(|| {
                panic!("h2load said no {start:?}:\n{text}\n{}", String::from_utf8_lossy(&output.stderr))
            })
            .to_owned()
    };
    let count = |line: &str, word: &str| -> u64 {
        line.split(", ")
            .find_map(|part| part.trim().strip_suffix(word)?.trim().parse().ok())
            .unwrap_or_else(|| panic!("h2load said no number before {word:?}:\n{text}"))
    };
    let (requests, codes) = (line("requests:"), line("status codes:"));
    Load {
        done: count(&requests, "done"),
        succeeded: count(&requests, "succeeded"),
        failed: count(&requests, "failed"),
        errored: count(&requests, "errored"),
        timeout: count(&requests, "timeout"),
        good: count(&codes, "2xx"),
        bad: count(&codes, "3xx") + count(&codes, "4xx") + count(&codes, "5xx"),
    }
}

impl Load {
    /// Fails unless every request was answered, and well, and there were at least `least` of them.
    #[track_caller]
    pub fn assert_flawless(&self, least: u64) {
        assert!(self.done >= least, "too few requests to prove anything: {self:?}");
        assert_eq!((self.failed, self.errored, self.timeout, self.bad), (0, 0, 0, 0), "{self:?}");
        assert_eq!((self.succeeded, self.good), (self.done, self.done), "{self:?}");
    }
}
