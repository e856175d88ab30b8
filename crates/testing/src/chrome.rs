//! A person at a browser: Debian's Chromium, page by page.

use std::path::Path;
use std::process::Stdio;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout};

use super::node;

/// A browser; it ends with the test.
pub struct Chrome {
    _child: Child,
    orders: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
    _home: tempfile::TempDir,
}

/// Where Debian's Chromium is.
pub fn chromium() -> String {
    let path = std::env::var("PATH").unwrap_or_default();
    let found =
        path.split(':').chain(["/usr/bin"]).map(|dir| Path::new(dir).join("chromium")).find(|f| f.is_file());
    let found = found.expect("chromium is not installed, and this test needs it: apt-get install chromium");
    found.display().to_string()
}

impl Chrome {
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// With settings of the driver's environment.
    pub async fn start_with(environment: &[(&str, &str)]) -> Self {
        let home = tempfile::tempdir().unwrap();
        let mut command = node("browser/driver.mjs", Some("playwright-core"));
        command
            .env("CHROMIUM", chromium())
            .env("HOME", home.path())
            .env("TMPDIR", home.path())
            .envs(environment.iter().copied());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let orders = child.stdin.take().unwrap();
        let mut answers = BufReader::new(child.stdout.take().unwrap()).lines();
        let ready = answers.next_line().await.unwrap().expect("the browser does not start");
        assert!(ready.contains("ready"), "{ready}");
        Self { _child: child, orders, answers, _home: home }
    }

    /// Gives an order, and fails with what the page shows where it cannot be done.
    #[track_caller]
    pub fn order(&mut self, order: Value) -> impl Future<Output = Value> + '_ {
        let caller = std::panic::Location::caller();
        async move {
            let line = format!("{order}\n");
            self.orders.write_all(line.as_bytes()).await.unwrap();
            let answer = self.answers.next_line().await.unwrap().expect("the browser has ended");
            let answer: Value = serde_json::from_str(&answer).unwrap();
            assert!(
                answer["failed"].is_null(),
                "{caller}: {order}\n{}\nat {}:\n{}",
                answer["failed"].as_str().unwrap_or_default(),
                answer["url"].as_str().unwrap_or_default(),
                answer["text"].as_str().unwrap_or_default()
            );
            answer
        }
    }

    /// A new page with cookies of its own.
    #[track_caller]
    pub fn open<'a>(&'a mut self, page: &str, url: &str) -> impl Future<Output = Value> + use<'a> {
        self.order(json!({ "do": "open", "page": page, "url": url }))
    }

    /// A new page that shares its cookies with `beside`.
    #[track_caller]
    pub fn open_beside<'a>(
        &'a mut self,
        beside: &str,
        page: &str,
        url: &str,
    ) -> impl Future<Output = Value> + use<'a> {
        self.order(json!({ "do": "open", "page": page, "in": beside, "url": url }))
    }

    #[track_caller]
    pub fn goto<'a>(&'a mut self, page: &str, url: &str) -> impl Future<Output = Value> + use<'a> {
        self.order(json!({ "do": "goto", "page": page, "url": url }))
    }

    #[track_caller]
    pub fn click<'a>(&'a mut self, page: &str, at: &str) -> impl Future<Output = Value> + use<'a> {
        self.order(json!({ "do": "click", "page": page, "at": at }))
    }

    #[track_caller]
    pub fn wait<'a>(&'a mut self, page: &str, at: &str) -> impl Future<Output = Value> + use<'a> {
        self.order(json!({ "do": "wait", "page": page, "at": at }))
    }

    /// Waits until a script's expression holds; its value.
    #[track_caller]
    pub fn until<'a>(&'a mut self, page: &str, script: &str) -> impl Future<Output = Value> + use<'a> {
        self.order(json!({ "do": "until", "page": page, "script": script }))
    }

    /// The text that a page shows.
    pub async fn text(&mut self, page: &str) -> String {
        let looked = self.order(json!({ "do": "look", "page": page })).await;
        looked["text"].as_str().unwrap_or_default().to_owned()
    }

    /// Goes through oidc-provider's own pages as the person `name`: logs in where that is asked, gives consent where
    /// that is asked. Ends where the page is no longer the server's.
    pub async fn log_in(&mut self, page: &str, issuer: &str, name: &str) {
        self.wait(page, "input[name=login]").await;
        self.order(json!({ "do": "fill", "page": page, "at": "input[name=login]", "text": name })).await;
        self.order(json!({ "do": "fill", "page": page, "at": "input[name=password]", "text": "any" })).await;
        self.click(page, "button[type=submit]").await;
        self.consent(page, issuer).await;
    }

    /// Gives consent.
    pub async fn consent(&mut self, page: &str, issuer: &str) {
        let asked = format!(
            "!location.href.startsWith('{issuer}') || (document.querySelector('input[name=prompt]') || {{}}).value === 'consent'"
        );
        self.until(page, &asked).await;
        self.click(page, "button[type=submit]").await;
    }
}
