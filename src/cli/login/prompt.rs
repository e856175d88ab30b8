//! What a person sees while a login waits: the address, the code and its picture, and how long there is still time.
//!
//! All of it goes to standard error. On a terminal one line shows the time that is left; elsewhere nothing is written over.

use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use crate::clock::BootInstant;
use crate::control::Login;
use qrcode::QrCode;
use qrcode::render::unicode::Dense1x2;

use crate::cli::output::say;
use crate::cli::status::span;

/// A login's place on the terminal.
pub(super) struct Prompt {
    terminal: bool,
    /// A line stands there that is to be written over.
    waiting: bool,
    told: bool,
    since: BootInstant,
    /// It was said why no browser may come back.
    hinted: bool,
}

impl Prompt {
    pub(super) fn new() -> Self {
        Self {
            terminal: std::io::stderr().is_terminal(),
            waiting: false,
            told: false,
            since: BootInstant::now(),
            hinted: false,
        }
    }

    /// What to do.
    pub(super) fn show(&self, name: &str, login: &Login, no_browser: bool) {
        say(&text(name, login, no_browser, self.terminal));
    }

    /// That it still waits; `typed` characters wait for Enter.
    pub(super) fn wait(&mut self, login: &Login, typed: usize) {
        if !self.hinted && self.since.elapsed() >= PATIENCE {
            self.hinted = true;
            self.clear();
            if let Some(redirect) = &login.redirect_uri {
                let ports = if login.is_by_hand() { "" } else { " (for any port)" };
                let what = if login.is_by_hand() {
                    "No address was pasted yet"
                } else {
                    "No browser has come back yet"
                };
                say(&format!(
                    "{what}. Where the page there says that the redirect URI is not registered: register\n\
                     {redirect} for this client{ports}, or set `redirect_uri` to the one that is."
                ));
            }
        }
        let left = span(login.expires_in_seconds.unwrap_or_default());
        if self.terminal {
            self.waiting = true;
            let _ = write!(
                std::io::stderr().lock(),
                "\r{CLEAR_LINE}Waiting for the login, {left} left (Ctrl-C calls it off){}",
                pending(typed)
            );
        } else if !self.told {
            self.told = true;
            say(&format!("Waiting for the login, at most {left}."));
        }
    }

    /// Takes that line away again.
    pub(super) fn clear(&mut self) {
        if std::mem::take(&mut self.waiting) {
            let _ = write!(std::io::stderr().lock(), "\r{CLEAR_LINE}");
        }
    }
}

fn pending(typed: usize) -> String {
    match typed {
        0 => String::new(),
        1 => "; 1 character typed, Enter sends it".to_owned(),
        _ => format!("; {typed} characters typed, Enter sends them"),
    }
}

/// Opens the person's browser. Whether there is one.
pub(in crate::cli) fn open_browser(url: &str) -> bool {
    let mut options = webbrowser::BrowserOptions::new();
    // What a browser prints has no place among our lines.
    options.with_suppress_output(true);
    webbrowser::open_browser_with_options(webbrowser::Browser::Default, url, &options).is_ok()
}

fn text(name: &str, login: &Login, no_browser: bool, terminal: bool) -> String {
    let Some(url) = &login.authorization_url else { return device(name, login, terminal) };
    let redirect = login.redirect_uri.as_deref().unwrap_or_default();
    if login.is_by_hand() {
        let open = if no_browser {
            "Open this address in a browser:"
        } else {
            "Your browser opens this address; if it does not, open it yourself:"
        };
        let end = if login.ends_at_redirect_uri() {
            format!(
                "After the login the browser ends at an address that begins with\n{redirect}\n\
                 whatever the page there shows: copy that whole address, paste it here and press Enter.\n"
            )
        } else {
            format!(
                "After the login the browser ends at the address that the server has for\n{redirect}\n\
                 or at a page that shows a code: copy that whole address, or the code, paste it here and press Enter.\n"
            )
        };
        return format!("Logging in for the token {name}. {open}\n\n  {url}\n\n{end}");
    }
    if !no_browser {
        return format!(
            "Logging in for the token {name}. Your browser opens this address; if it does not, open it yourself:\n\n  {url}\n"
        );
    }
    format!(
        "Logging in for the token {name}. Open this address in a browser:\n\n  {url}\n\n\
         A browser on this machine comes back by itself. One on another machine ends at an address that begins with\n\
         {redirect} and cannot be opened there: copy that address, paste it here and press Enter.\n"
    )
}

fn device(name: &str, login: &Login, terminal: bool) -> String {
    let uri = login.verification_uri.as_deref().unwrap_or_default();
    let code = login.user_code.as_deref().unwrap_or_default();
    let code = if terminal { framed(code) } else { format!("  {code}") };
    let by_hand = format!(
        "Logging in for the token {name}. On any device, open\n\n  {uri}\n\nand enter the code\n\n{code}\n"
    );
    let Some(complete) = &login.verification_uri_complete else { return by_hand };
    let picture = if terminal { picture(complete) } else { None };
    let picture = picture.map(|picture| format!("\n{picture}\n")).unwrap_or_default();
    format!(
        "{by_hand}\nOr open this, which has the code in it, and compare the code:\n\n  {complete}\n{picture}"
    )
}

/// Large enough to be found across a desk, and still one word to copy.
fn framed(code: &str) -> String {
    let line = "\u{2500}".repeat(code.chars().count() + 4);
    format!("  \u{250c}{line}\u{2510}\n  \u{2502}  \x1b[1m{code}\x1b[0m  \u{2502}\n  \u{2514}{line}\u{2518}")
}

/// Light on dark in whatever colours the terminal has: two modules in each character, and the margin that readers need.
fn picture(text: &str) -> Option<String> {
    let code = QrCode::new(text.as_bytes()).ok()?;
    Some(
        code.render::<Dense1x2>()
            .dark_color(Dense1x2::Light)
            .light_color(Dense1x2::Dark)
            .quiet_zone(true)
            .build(),
    )
}

/// After which a person may wonder.
const PATIENCE: Duration = Duration::from_secs(30);
const CLEAR_LINE: &str = "\x1b[2K";

#[cfg(test)]
mod tests {
    use super::*;

    fn device_login() -> Login {
        Login {
            flow: "device_code".into(),
            state: "waiting".into(),
            user_code: Some("WDJB-MJHT".into()),
            verification_uri: Some("https://as.example/device".into()),
            verification_uri_complete: Some("https://as.example/device?user_code=WDJB-MJHT".into()),
            expires_in_seconds: Some(600),
            ..Login::default()
        }
    }

    #[test]
    fn a_terminal_gets_a_picture_and_a_pipe_gets_plain_lines() {
        let shown = text("api", &device_login(), false, true);
        assert!(shown.contains("WDJB-MJHT") && shown.contains('\u{2588}'), "{shown}");
        let plain = text("api", &device_login(), false, false);
        assert!(plain.contains("https://as.example/device?user_code=WDJB-MJHT"), "{plain}");
        assert!(!plain.contains('\u{1b}') && !plain.contains('\u{2588}'), "{plain}");
    }

    #[test]
    fn without_a_browser_it_says_where_to_paste() {
        let login = Login {
            authorization_url: Some("https://as.example/auth?x=1".into()),
            redirect_uri: Some("http://127.0.0.1:4711/callback".into()),
            ..Login::default()
        };
        let shown = text("api", &login, true, true);
        assert!(
            shown.contains("paste it here") && shown.contains("http://127.0.0.1:4711/callback"),
            "{shown}"
        );
        assert!(!text("api", &login, false, true).contains("paste"));
        let elsewhere = Login { redirect_uri: Some("https://orders.example/cb".into()), ..login };
        for no_browser in [false, true] {
            let shown = text("api", &elsewhere, no_browser, true);
            assert!(
                shown.contains("paste it here") && shown.contains("https://orders.example/cb"),
                "{shown}"
            );
            assert!(!shown.contains("comes back by itself"), "{shown}");
        }
    }
}
