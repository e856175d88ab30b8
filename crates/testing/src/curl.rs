//! `curl`, the client that people use.

use std::fs;

use serde_json::Value;

use super::program::Program;

/// What came back.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    /// curl's own exit code; 0: a whole response came.
    pub exit: i32,
    /// The final response's status; 0: none came.
    pub status: u16,
    /// `HTTP/1.1` or `HTTP/2`.
    pub version: String,
    /// The final response's header fields, names in lower case, in order.
    pub fields: Vec<(String, String)>,
    /// The statuses of 1xx responses before it.
    pub interim: Vec<u16>,
    pub body: Vec<u8>,
}

/// Runs curl with `arguments`; redirects are not followed, and no proxy of the environment comes between.
pub async fn curl(arguments: &[&str]) -> Answer {
    let dir = tempfile::tempdir().unwrap();
    let (heads, body) = (dir.path().join("heads"), dir.path().join("body"));
    let mut command = Program::peer("curl", "curl");
    command.args(["--silent", "--show-error", "--noproxy", "*", "--path-as-is", "--max-time", "30"]);
    command.arg("--dump-header").arg(&heads).arg("--output").arg(&body);
    // Closed with the test: no curl outlives it.
    let output = command.args(arguments).kill_on_drop(true).output().await.unwrap();
    let mut answer = Answer {
        exit: output.status.code().unwrap_or(-1),
        body: fs::read(&body).unwrap_or_default(),
        ..Answer::default()
    };
    let heads = fs::read(&heads).unwrap_or_default();
    for line in String::from_utf8_lossy(&heads).lines() {
        if let Some(rest) = line.strip_prefix("HTTP/") {
            if (100..200).contains(&answer.status) {
                answer.interim.push(answer.status);
            }
            let mut words = rest.split_whitespace();
            answer.version = format!("HTTP/{}", words.next().unwrap_or_default());
            answer.status = words.next().and_then(|status| status.parse().ok()).unwrap_or(0);
            answer.fields.clear();
        } else if let Some((name, value)) = line.split_once(':') {
            answer.fields.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
    }
    answer
}

impl Answer {
    /// The first value of a field, by its name in lower case.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(field, _)| field == name).map(|(_, value)| value.as_str())
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("not JSON ({error}): {:?}", self.text()))
    }

    /// What the proxy itself says went wrong; `None` where the answer is the API's.
    pub fn proxy_error(&self) -> Option<&str> {
        self.field("cupbearer-error")
    }

    /// Fails unless this is the proxy's own error of `status`, in the form that applications can rely on.
    #[track_caller]
    pub fn assert_proxy_error(&self, status: u16) {
        assert_eq!(self.status, status, "{self:?}");
        assert!(self.proxy_error().is_some(), "no Cupbearer-Error: {self:?}");
        assert_eq!(self.field("content-type"), Some("application/problem+json"), "{self:?}");
        let problem = self.json();
        assert_eq!(problem["status"], status, "{problem}");
        assert!(
            problem["title"].is_string() && problem["type"].is_string(),
            "RFC 9457 section 3.1: {problem}"
        );
    }
}
