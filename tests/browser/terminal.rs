//! What a person sees on a terminal: `cupbearer login` and `cupbearer status --watch` under script(1), which makes one.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tempfile::TempDir;

use tokio::io::AsyncWriteExt as _;

use super::login::last_address;
use cupbearer_testing::{Chrome, Config, OidcProvider, Program, Proxy, eventually, upstream_at};

/// A command on a terminal of its own; what it shows goes to a file.
struct Terminal {
    program: Program,
    dir: TempDir,
}

impl Terminal {
    fn start(config: &Path, words: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut command = Self::command(config, words, &dir);
        command.stdin(Stdio::null());
        Self { program: Program::spawn("script", command, dir.path()), dir }
    }

    fn command(config: &Path, words: &str, dir: &TempDir) -> tokio::process::Command {
        let mut command = Program::peer("script", "bsdutils");
        let line = format!(
            "stty cols 120 rows 50; exec {} {words} --config {}",
            env!("CARGO_BIN_EXE_cupbearer"),
            config.display()
        );
        command.args(["--quiet", "--return", "--flush", "--command", &line, "shown"]).current_dir(dir.path());
        command.env("TERM", "xterm-256color").env("SHELL", "/bin/sh");
        command
    }

    fn shown(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("shown")).unwrap_or_default()
    }

    /// Waits until it has shown this.
    async fn shows(&mut self, what: &str, is: impl Fn(&str) -> bool) -> String {
        let file = self.dir.path().join("shown");
        let read = || std::fs::read_to_string(&file).unwrap_or_default();
        self.program.until(what, || async { is(&read()) }).await;
        self.shown()
    }
}

fn config(server: &OidcProvider, store: &Path) -> Config {
    Config::new(format!(
        "{}[tokens.api]\nissuer = \"{}\"\ngrant = \"device_code\"\nclient_id = \"laptop\"\nclient_auth = \"none\"\n\
         scope = \"openid offline_access api:read\"\n[[routes]]\nupstream = \"api\"\ntoken = \"api\"\n\
         [store]\nkind = \"file\"\npath = '{}'\n",
        upstream_at(&server.issuer()),
        server.issuer(),
        store.display(),
    ))
}

/// The picture as a grey map: a filled half of a character is light, as it is on a dark terminal.
fn grey_map(lines: &[&str]) -> Vec<u8> {
    let scale = 4;
    let width = lines.iter().map(|line| line.chars().count()).max().unwrap();
    let mut rows: Vec<Vec<bool>> = Vec::new();
    for line in lines {
        let halves = |c| match c {
            '\u{2588}' => (true, true),
            '\u{2580}' => (true, false),
            '\u{2584}' => (false, true),
            _ => (false, false),
        };
        let mut cells: Vec<_> = line.chars().map(halves).collect();
        cells.resize(width, (false, false));
        rows.push(cells.iter().map(|cell| cell.0).collect());
        rows.push(cells.iter().map(|cell| cell.1).collect());
    }
    let mut map = format!("P5 {} {} 255\n", width * scale, rows.len() * scale).into_bytes();
    for row in rows {
        let line: Vec<u8> = row.iter().flat_map(|light| [if *light { 255 } else { 0 }; 4]).collect();
        for _ in 0..scale {
            map.extend_from_slice(&line);
        }
    }
    map
}

#[tokio::test]
async fn the_device_login_shows_its_code_large_a_picture_that_can_be_read_and_the_time_left() {
    let server = OidcProvider::start(60).await;
    let store = tempfile::tempdir().unwrap();
    let proxy = Proxy::start_live(config(&server, &store.path().join("tokens"))).await;
    let mut terminal = Terminal::start(&proxy.config_file(), "login");
    let count = |shown: &str| shown.matches("left (Ctrl-C calls it off)").count();
    let shown = terminal.shows("counting down", |shown| count(shown) >= 4).await;

    let address = shown.lines().map(str::trim).find(|line| line.contains("user_code=")).unwrap();
    let code = address.split_once("user_code=").unwrap().1;
    assert!(
        shown.contains(&format!("\u{2502}  \u{1b}[1m{code}\u{1b}[0m  \u{2502}")),
        "the code is large: {shown}"
    );
    assert!(
        shown.contains("\r\u{1b}[2KWaiting for the login, 9m5"),
        "the time left is written over: {shown}"
    );

    let picture: Vec<&str> = shown
        .lines()
        .map(|line| line.trim_end_matches('\r'))
        .filter(|line| line.contains(['\u{2580}', '\u{2584}', '\u{2588}']))
        .collect();
    let file = store.path().join("picture.pgm");
    std::fs::write(&file, grey_map(&picture)).unwrap();
    let mut reader = Program::peer("zbarimg", "zbar-tools");
    let read = reader.args(["--quiet", "--raw"]).arg(&file).output().await.unwrap();
    assert_eq!(String::from_utf8_lossy(&read.stdout).trim(), address, "{shown}");
}

#[tokio::test]
async fn an_address_that_is_longer_than_a_terminals_line_is_pasted_whole() {
    let server = OidcProvider::with_api(60).await;
    let store = tempfile::tempdir().unwrap();
    let text = config(&server, &store.path().join("tokens")).text().replace(
        "grant = \"device_code\"",
        "grant = \"authorization_code\"\nredirect_uri = \"http://localhost/callback\"",
    );
    let proxy = Proxy::start_live(Config::new(text)).await;
    let dir = tempfile::tempdir().unwrap();
    let mut command = Terminal::command(&proxy.config_file(), "login --no-browser", &dir);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).kill_on_drop(true).spawn().unwrap();
    let shown = || std::fs::read_to_string(dir.path().join("shown")).unwrap_or_default();
    eventually("it waits", || async { shown().contains("Waiting for the login") }).await;
    let text = shown();
    let address = text.lines().map(str::trim).find(|line| line.contains("/auth?")).unwrap();
    let mut chrome = Chrome::start_with(&[("RULES", "MAP localhost ~NOTFOUND")]).await;
    let last = last_address(&mut chrome, address, &server.issuer()).await;
    // As a server that puts all it knows of the session into the address; the code comes last.
    let (before, query) = last.split_once('?').unwrap();
    let long = format!("{before}?session_state={}&{query}", "x".repeat(8_000));
    let stdin = child.stdin.as_mut().unwrap();
    stdin.write_all(long.as_bytes()).await.unwrap();
    let count = format!("{} characters typed, Enter sends them", long.len());
    eventually("all of it has come", || async { shown().contains(&count) }).await;
    stdin.write_all(b"\n").await.unwrap();
    let status = tokio::time::timeout(Duration::from_mins(1), child.wait()).await.unwrap().unwrap();
    let text = shown();
    assert!(status.success() && text.contains("api: logged in as alice"), "{status} {text}");
    assert!(!text.contains("xxxxxxxx"), "an address with a code in it is not shown: {text}");
}

#[tokio::test]
async fn the_status_is_a_table_that_is_drawn_anew_each_second() {
    let server = OidcProvider::start(60).await;
    let store = tempfile::tempdir().unwrap();
    let proxy = Proxy::start_live(config(&server, &store.path().join("tokens"))).await;
    eventually("it waits for a login", || async {
        proxy.status().await["tokens"][0]["status"] == "login_required"
    })
    .await;
    let mut terminal = Terminal::start(&proxy.config_file(), "status --watch");
    let drawn = |shown: &str| shown.matches("login_required").count();
    let shown = terminal.shows("drawn three times", |shown| drawn(shown) >= 3).await;
    assert!(shown.matches("\u{1b}[H").count() >= 2, "each takes the place of the one before: {shown:?}");
    assert!(shown.contains("cupbearer login api --config "), "it says what to do: {shown}");
}
