//! `cupbearer status`: each token of the running proxy at a glance.

use std::io::IsTerminal;
use std::time::Duration;

use crate::clock;
use crate::control::{self, Client};
use crate::telemetry::{plain_json, plain_line};
use clap::Args;

use super::Answer;
use super::control_address::Reach;
use super::output::{answer, complain};

/// Show each token: state, time left, last and next renewal, last error
#[derive(Debug, Args)]
pub(super) struct Status {
    /// As JSON
    #[arg(long)]
    json: bool,
    /// Again every second, until Ctrl-C or until the proxy is gone
    #[arg(long)]
    watch: bool,
    #[command(flatten)]
    reach: Reach,
}

impl Status {
    pub(super) async fn run(self) -> anyhow::Result<Answer> {
        let client = self.reach.client()?;
        if self.watch {
            return tokio::select! {
                ended = self.watch(&client) => ended,
                _ = tokio::signal::ctrl_c() => Ok(Answer::Yes),
            };
        }
        match client.status().await {
            Ok(status) => {
                answer(&self.shown(&status)?)?;
                Ok(Answer::Yes)
            }
            Err(error) => {
                complain(&error.to_string());
                Ok(Answer::No)
            }
        }
    }

    /// Ends once the proxy does not answer any more.
    async fn watch(&self, client: &Client) -> anyhow::Result<Answer> {
        // On a terminal each table takes the place of the one before; elsewhere an empty line stands between them.
        let terminal = std::io::stdout().is_terminal() && !self.json;
        let mut before = if terminal { CLEAR } else { "" };
        loop {
            match client.status().await {
                Ok(status) => answer(&(before.to_owned() + &self.shown(&status)?))?,
                Err(error) => {
                    complain(&error.to_string());
                    return Ok(Answer::No);
                }
            }
            before = match (terminal, self.json) {
                (true, _) => CLEAR,
                (false, true) => "",
                (false, false) => "\n",
            };
            tokio::time::sleep(BETWEEN_LOOKS).await;
        }
    }

    fn shown(&self, status: &control::Status) -> serde_json::Result<String> {
        match (self.json, self.watch) {
            (false, _) => Ok(table(status, clock::unix_seconds(), &self.reach.options())),
            (true, false) => serde_json::to_string_pretty(status).map(|json| plain_json(&json)),
            // One object a line, for readers that take them as they come.
            (true, true) => serde_json::to_string(status).map(|json| plain_json(&json)),
        }
    }
}

/// `now` is in seconds since 1970; `options` are those of a command that is advised. Nothing in it moves the cursor or
/// turns the text around.
fn table(status: &control::Status, now: u64, options: &str) -> String {
    let lines = lines(status, now, options);
    lines.iter().map(|line| plain_line(line)).collect::<Vec<_>>().join("\n")
}

/// The table: a line of column heads, and one for each token.
fn rows(tokens: &[control::Token], now: u64) -> Vec<String> {
    let mut rows = vec![COLUMNS.map(str::to_owned)];
    let seconds = |seconds: Option<u64>| seconds.map_or_else(|| "-".to_owned(), span);
    rows.extend(tokens.iter().map(|token| {
        let last = token.last_renewal.map(|at| span(now.saturating_sub(at)) + " ago");
        [
            token.name.clone(),
            token.grant.clone(),
            token.status.clone(),
            seconds(token.expires_in_seconds),
            last.unwrap_or_else(|| "-".to_owned()),
            seconds(token.next_attempt_in_seconds),
            token.renewals.to_string(),
            token.failures.to_string(),
        ]
    }));
    let widths: Vec<usize> = (0..COLUMNS.len())
        .map(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0))
        .collect();
    rows.iter()
        .map(|row| {
            let cells: Vec<String> =
                row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
            cells.join("  ").trim_end().to_owned()
        })
        .collect()
}

fn lines(status: &control::Status, now: u64, options: &str) -> Vec<String> {
    let mut lines = rows(&status.tokens, now);
    for token in &status.tokens {
        let name = &token.name;
        let mut notes = Vec::new();
        if let Some(callers) = token.callers {
            notes.push(format!("one for each caller, {callers} held now"));
        }
        let usable = matches!(token.status.as_str(), "valid" | "degraded");
        if let Some(user) = &token.user {
            notes.push(match token.expires_at.filter(|_| !usable) {
                _ if usable => format!("logged in as {user}"),
                Some(at) => format!("{user} was logged in until {} ago", span(now.saturating_sub(at))),
                None => format!("{user} was logged in"),
            });
        }
        if let Some(error) = &token.last_error {
            let before = what_it_means(token, now).filter(|_| !usable).unwrap_or_default();
            let often = match error.consecutive_failures {
                0 | 1 => String::new(),
                several => format!(" ({several} in a row)"),
            };
            let words = error.server_says.as_ref().map(|words| format!(" (the server says: \"{words}\")"));
            notes.push(format!("{before}{}{often}{}", error.message, words.unwrap_or_default()));
        }
        if token.until_refused {
            notes.push(
                "its server does not say how long it lives; it is used until an API refuses it".to_owned(),
            );
        }
        if let Some(left) = token.login_expires_in_seconds {
            notes.push(match left {
                0 => "the login is over, as far as its server says".to_owned(),
                left => format!("the login ends in {} unless it is renewed before", span(left)),
            });
        }
        if let Some(help) = &token.help {
            notes.push(format!("help: {help}"));
        }
        for note in notes {
            lines.extend([String::new(), format!("{name}: {note}")]);
        }
        if token.can_log_in && token.status == "login_required" {
            let memory = status.store == MEMORY;
            lines.push(if status.read_only.is_some() && memory {
                "  to log in: set `listen` in [control] to a Unix socket, or `kind` in [store] to \"file\" or \"keyring\"".to_owned()
            } else {
                format!("  to log in: cupbearer login {name}{options}")
            });
        }
    }
    for control::StoreFault { token, message, since, logged_out } in &status.store_degraded {
        let lasts = span(now.saturating_sub(*since));
        let risk = if *logged_out {
            "this token was logged out and is not deleted: a restart brings it back"
        } else {
            "what is held of this token is in memory alone, and a restart may lose it"
        };
        lines.extend([
            String::new(),
            format!("{token}: the token store has failed for {lasts}: {message} ({risk})"),
        ]);
    }
    lines.extend(
        status
            .last_reload
            .as_ref()
            .and_then(|reload| reload_line(reload, now))
            .into_iter()
            .flat_map(|line| [String::new(), line]),
    );
    if let Some(control::Latency { p50_us, p99_us, own_p50_us, own_p99_us }) = status.latency {
        let [half, most, own_half, own_most] = [p50_us, p99_us, own_p50_us, own_p99_us].map(millis);
        lines.extend([
            String::new(),
            format!("requests since the start took p50 {half}, p99 {most}; the proxy's own share is p50 {own_half}, p99 {own_most}"),
        ]);
    }
    if status.draining {
        lines.extend([String::new(), "ending: not ready any more; requests are still served".to_owned()]);
    }
    if let Some(why) = &status.read_only {
        lines.extend([String::new(), format!("read-only: {why}")]);
    }
    lines
}

/// What the last reload left to do; `None`: nothing.
fn reload_line(reload: &control::LastReload, now: u64) -> Option<String> {
    let control::LastReload { at, applied, problems, first_problem, restart_needed } = reload;
    let ago = span(now.saturating_sub(*at));
    if !*applied {
        let count = if *problems == 1 { "1 problem".to_owned() } else { format!("{problems} problems") };
        let first = first_problem.as_deref().and_then(|text| text.lines().next()).unwrap_or_default();
        return Some(format!(
            "the configuration was refused {ago} ago ({count}), and the one before is in force: {first}; help: `cupbearer check` \
             shows each problem"
        ));
    }
    let sections: Vec<String> = restart_needed.iter().map(|section| format!("[{section}]")).collect();
    let (last, others) = sections.split_last()?;
    let (names, verb) = match others {
        [] => (last.clone(), "has"),
        others => (format!("{} and {last}", others.join(", ")), "have"),
    };
    Some(format!("{names} {verb} changed since the start; help: restart the program"))
}

/// What a failure means for a token that is of no use now; `None`: its state says so.
fn what_it_means(token: &control::Token, now: u64) -> Option<String> {
    let expired = token.expires_at.map(|at| span(now.saturating_sub(at)));
    match (token.status.as_str(), expired) {
        ("login_required", _) => None,
        ("misconfigured", Some(ago)) => Some(format!("the token expired {ago} ago and cannot be renewed: ")),
        (_, Some(ago)) => Some(format!("the token expired {ago} ago and could not be renewed: ")),
        (_, None) => Some("there is no token yet: ".to_owned()),
    }
}

/// Seconds as a person reads them: `59s`, `4m05s`, `2h03m`, `3d4h`.
pub(super) fn span(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86400);
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{minutes}m{:02}s", seconds % 60),
        3600..86400 => format!("{hours}h{:02}m", minutes % 60),
        _ => format!("{days}d{}h", hours % 24),
    }
}

/// Microseconds as milliseconds, with two digits that count.
fn millis(micros: u64) -> String {
    let (whole, rest) = (micros / 1000, micros % 1000);
    match micros {
        0..100 => format!("0.{rest:03} ms"),
        100..1000 => format!("0.{:02} ms", rest / 10),
        1000..10_000 => format!("{whole}.{} ms", rest / 100),
        _ => format!("{whole} ms"),
    }
}

/// What the status calls a store that ends with the proxy.
pub(super) const MEMORY: &str = "memory";
const COLUMNS: [&str; 8] =
    ["TOKEN", "GRANT", "STATE", "EXPIRES IN", "LAST RENEWAL", "NEXT RENEWAL", "RENEWALS", "FAILURES"];
/// Between two tables of `--watch`.
const BETWEEN_LOOKS: Duration = Duration::from_secs(1);
/// To the first place of the screen, and nothing after it (ECMA-48 CUP and ED).
const CLEAR: &str = "\x1b[H\x1b[J";

#[cfg(test)]
mod tests {
    use crate::control::{Latency, Status, StoreFault, Token};

    use super::{span, table};

    #[test]
    fn a_span_reads_at_a_glance() {
        for (seconds, text) in [(0, "0s"), (59, "59s"), (245, "4m05s"), (7380, "2h03m"), (273_600, "3d4h")] {
            assert_eq!(span(seconds), text);
        }
    }

    #[test]
    fn the_proxy_s_own_share_of_the_latency_is_a_line() {
        let latency = Latency { p50_us: 52_340, p99_us: 1_204, own_p50_us: 41, own_p99_us: 127 };
        let shown = table(&Status { latency: Some(latency), ..status(Vec::new()) }, 0, "");
        let line = "requests since the start took p50 52 ms, p99 1.2 ms; the proxy's own share is p50 0.041 ms, p99 0.12 ms";
        assert_eq!(shown.lines().last(), Some(line));
    }

    fn status(tokens: Vec<Token>) -> Status {
        Status {
            version: String::new(),
            uptime_seconds: 0,
            config_file: None,
            store: "memory".to_owned(),
            store_degraded: Vec::new(),
            listeners: Vec::new(),
            tokens,
            routes: Vec::new(),
            latency: None,
            read_only: None,
            last_reload: None,
            draining: false,
        }
    }

    #[test]
    fn what_is_advised_works_and_means_the_same_proxy() {
        let token: Token = serde_json::from_str(
            r#"{"name":"api","grant":"authorization_code","required":true,"status":"login_required","can_log_in":true,
                "renewals":0,"failures":1,"last_error":{"cause":"login_required","message":"a\u202e\u001b[2Jb\nc","at":1,"consecutive_failures":1}}"#,
        )
        .unwrap();
        let mut status = status(vec![token]);
        let shown = table(&status, 1, " --config x.toml");
        assert!(shown.ends_with("\n  to log in: cupbearer login api --config x.toml"), "{shown}");
        assert!(shown.contains("api: a\\u{202e}\\u{1b}[2Jb\\u{a}c\n"), "{shown}");
        assert!(!shown.contains("in a row"), "{shown}");
        status.read_only = Some("guard.shared_secret restricts who may use the proxy".to_owned());
        let shown = table(&status, 1, "");
        assert!(
            shown.contains("to log in: set `listen` in [control]") && !shown.contains("cupbearer login"),
            "{shown}"
        );
        "keyring".clone_into(&mut status.store);
        assert!(table(&status, 1, "").contains("cupbearer login api"), "{shown}");
    }

    #[test]
    fn the_end_of_a_login_and_the_way_out_are_below_the_table() {
        let token: Token = serde_json::from_str(
            r#"{"name":"api","grant":"authorization_code","required":true,"status":"degraded","renewals":1,"failures":1,
                "login_expires_in_seconds":1799,"help":"log in before 23:14 UTC"}"#,
        )
        .unwrap();
        let status: Status = serde_json::from_value(serde_json::json!({
            "version": "", "uptime_seconds": 0, "listeners": [], "tokens": [token], "routes": []
        }))
        .unwrap();
        let shown = table(&status, 1012, "");
        assert!(shown.contains("api: the login ends in 29m59s unless it is renewed before"), "{shown}");
        assert!(shown.contains("api: help: log in before 23:14 UTC"), "{shown}");
    }

    #[test]
    fn the_last_reload_is_below_the_table_where_it_leaves_something_to_do() {
        let shown = |reload: serde_json::Value| {
            let mut status = status(Vec::new());
            status.last_reload = Some(serde_json::from_value(reload).unwrap());
            table(&status, 1065, "")
        };
        let refused = shown(serde_json::json!({ "at": 1000, "applied": false, "problems": 2,
            "first_problem": "config.toml:3: tokens.api.grnt: unknown key\n  more" }));
        let want = "the configuration was refused 1m05s ago (2 problems), and the one before is in force: config.toml:3: \
                    tokens.api.grnt: unknown key; help: `cupbearer check` shows each problem";
        assert!(refused.lines().any(|line| line == want), "{refused}");
        let restart =
            shown(serde_json::json!({ "at": 1, "applied": true, "restart_needed": ["server", "log"] }));
        let want = "[server] and [log] have changed since the start; help: restart the program";
        assert!(restart.lines().any(|line| line == want), "{restart}");
        let nothing = shown(serde_json::json!({ "at": 1, "applied": true }));
        assert_eq!(nothing.lines().count(), 1, "{nothing}");
    }

    #[test]
    fn a_store_that_fails_is_named_with_its_token_and_cause() {
        let mut status = status(Vec::new());
        status.store_degraded.push(StoreFault {
            token: "api".to_owned(),
            message: "/store/api.token cannot be written: no storage space; make room\u{1b}[2J".to_owned(),
            since: 1000,
            logged_out: false,
        });
        let shown = table(&status, 1065, "");
        let want = "api: the token store has failed for 1m05s: /store/api.token cannot be written: no storage space; make \
                    room\\u{1b}[2J (what is held";
        assert!(shown.lines().any(|line| line.starts_with(want)), "{shown}");
        status.store_degraded[0].logged_out = true;
        let shown = table(&status, 1065, "");
        assert!(shown.contains("a restart brings it back") && !shown.contains("may lose it"), "{shown}");
    }

    #[test]
    fn a_token_that_expired_is_told_from_one_that_never_was() {
        let shown = |status: &str, expires_at: Option<u64>| {
            let token: Token = serde_json::from_value(serde_json::json!({
                "name": "api", "grant": "client_credentials", "required": true, "status": status, "renewals": 1, "failures": 1,
                "expires_at": expires_at, "user": "Alice",
                "last_error": {"cause": "secret", "message": "no secret", "at": 1, "consecutive_failures": 0}
            }))
            .unwrap();
            table(&self::status(vec![token]), 1060, "")
        };
        for (status, expires_at, want) in [
            (
                "misconfigured",
                Some(1000),
                "api: the token expired 1m00s ago and cannot be renewed: no secret",
            ),
            ("expired", Some(1000), "api: the token expired 1m00s ago and could not be renewed: no secret"),
            ("misconfigured", None, "api: there is no token yet: no secret"),
            ("pending", None, "api: there is no token yet: no secret"),
            ("login_required", Some(1000), "api: no secret"),
            ("login_required", Some(1000), "api: Alice was logged in until 1m00s ago"),
            ("login_required", None, "api: Alice was logged in"),
            ("degraded", Some(2000), "api: no secret"),
            ("degraded", Some(2000), "api: logged in as Alice"),
        ] {
            let shown = shown(status, expires_at);
            assert!(shown.lines().any(|line| line == want), "{want}:\n{shown}");
        }
    }

    #[test]
    fn a_token_that_is_used_until_an_api_refuses_it_is_named_below_the_table() {
        let token: Token = serde_json::from_str(
            r#"{"name":"api","grant":"device_code","required":true,"status":"valid","until_refused":true,"renewals":1,"failures":0}"#,
        )
        .unwrap();
        let shown = table(&status(vec![token]), 1, "");
        assert!(shown.contains("api: its server does not say how long it lives"), "{shown}");
    }

    #[test]
    fn the_description_of_the_server_stands_on_the_line_of_its_refusal() {
        let token: Token = serde_json::from_value(serde_json::json!({
            "name": "api", "grant": "client_credentials", "required": true, "status": "misconfigured",
            "renewals": 0, "failures": 2, "last_error": {"cause": "invalid_client", "message": "refused", "at": 1,
            "consecutive_failures": 2, "server_says": "no such\u{1b}[2J client"}
        }))
        .unwrap();
        let shown = table(&status(vec![token]), 1, "");
        let line = "api: there is no token yet: refused (2 in a row) \
                    (the server says: \"no such\\u{1b}[2J client\")";
        assert!(shown.lines().any(|shown| shown == line), "{shown}");
    }

    #[test]
    fn the_table_tells_last_and_next_renewal() {
        let token: Token = serde_json::from_str(
            r#"{"name":"api","grant":"static","required":true,"status":"valid","expires_in_seconds":290,"last_renewal":1000,
                "next_attempt_in_seconds":200,"renewals":3,"failures":0}"#,
        )
        .unwrap();
        let unknown: Token = serde_json::from_str(
            r#"{"name":"b","grant":"file","required":true,"status":"pending","renewals":0,"failures":0}"#,
        )
        .unwrap();
        let status = status(vec![token, unknown]);
        assert_eq!(
            table(&status, 1012, ""),
            "TOKEN  GRANT   STATE    EXPIRES IN  LAST RENEWAL  NEXT RENEWAL  RENEWALS  FAILURES\n\
             api    static  valid    4m50s       12s ago       3m20s         3         0\n\
             b      file    pending  -           -             -             0         0"
        );
    }
}
