//! Where a running proxy's health and control listeners are: all that the other commands need of its configuration.
//!
//! Secrets, keys and certificates are not looked at: a user who may not read them, and a command that runs without the
//! service's credentials, find the proxy all the same. What is wrong elsewhere in the file does not matter here.

use std::ffi::OsString;
use std::net::SocketAddr;

use super::draft::{Draft, sorted};
use super::findings::Review;
use super::problem::{KeyPath, Problem, Problems, Severity};
use super::resolve::{self, Listeners};
use super::source::Source;
use crate::net::local_address::LocalAddress;

/// Where the health listener is.
///
/// # Errors
/// Where the file cannot be read, or leaves it open: what is wrong with that.
pub(crate) fn health_address(
    source: &Source,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<SocketAddr, Problems> {
    find(source, environment, "health.listen", |listeners| Some(listeners.health?.listen))
}

/// Where the control listener is; `None`: there is to be none.
///
/// # Errors
/// As [`health_address`].
pub(crate) fn control_address(
    source: &Source,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Option<LocalAddress>, Problems> {
    find(source, environment, "control.listen", |listeners| Some(listeners.control?.listen))
}

fn find<T>(
    source: &Source,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
    key: &str,
    of: impl FnOnce(Listeners) -> Option<T>,
) -> Result<T, Problems> {
    let Draft { root, file, findings } = Draft::read(source, &sorted(environment))?;
    let mut review = Review::new(&root, findings);
    let found = of(resolve::listeners(&file, &mut review));
    let key = KeyPath::from(key);
    // A misspelt section or key may be the one that is meant, and a syntax error may have swallowed it.
    let is_certain = !review.is_spoken_for(&key) && review.is_whole();
    let problems = review.into_problems();
    match found.filter(|_| is_certain) {
        Some(found) => Ok(found),
        None => Err(of_key(&key, problems)),
    }
}

/// The problems that keep `key` from being read; all errors where none names it.
fn of_key(key: &KeyPath, problems: Problems) -> Problems {
    let is_about = |problem: &&Problem| {
        problem.severity == Severity::Error && (problem.key.holds(key) || key.holds(&problem.key))
    };
    let about: Problems = problems.iter().filter(is_about).cloned().collect();
    if about.is_empty() { problems } else { about }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Source {
        Source::Text { name: "config.toml".to_owned(), text: text.to_owned() }
    }

    const LISTENERS: &str =
        "[health]\nlisten = \"127.0.0.1:7001\"\n[control]\nlisten = \"unix:/run/c.sock\"\n";

    #[test]
    fn the_listeners_are_found_without_a_look_at_secrets_and_certificates() {
        let elsewhere = "[server.tls]\ncert_file = \"/nowhere/cert.pem\"\nkey_file = \"/nowhere/key.pem\"\n\
            [guard]\nshared_secret_file = \"/nowhere/shared\"\n\
            [upstreams.api]\nurl = \"https://api.example\"\nca_file = \"/nowhere/ca.pem\"\n\
            [tokens.api]\nissuer = \"https://as.example\"\nclient_id = \"a\"\nclient_secret_file = \"/nowhere/secret\"\n";
        for wrong in ["", "unknown = 1\n", "[[routes]]\nupstream = \"none_such\"\n"] {
            let source = text(&format!("{wrong}{LISTENERS}{elsewhere}"));
            assert_eq!(health_address(&source, []).unwrap().to_string(), "127.0.0.1:7001", "{wrong}");
            let control = control_address(&source, []).unwrap().unwrap();
            assert_eq!(control.to_string(), "unix:/run/c.sock", "{wrong}");
        }
        assert!(
            crate::config::load(
                &text(&format!("{LISTENERS}{elsewhere}")),
                [],
                crate::config::Options::default()
            )
            .is_err()
        );
        let moved = [("CUPBEARER__CONTROL__LISTEN".into(), "none".into())];
        assert_eq!(control_address(&text(LISTENERS), moved).unwrap(), None);
        assert_eq!(health_address(&text(""), []).unwrap().port(), 9901);
    }

    #[test]
    fn an_address_that_may_be_another_one_is_no_address() {
        for (wrong, says) in [
            ("[contrl]\nlisten = \"127.0.0.1:1\"\n", "contrl"),
            ("[control]\nlistn = \"127.0.0.1:1\"\n", "listn"),
            ("[control]\nlisten = \"127.0.0.1\"\n", "control.listen"),
            ("[control]\nlisten = \"0.0.0.0:1\"\n", "control.listen"),
            ("[control\nlisten = \"127.0.0.1:1\"\n", "config.toml:1:"),
        ] {
            let problems = control_address(&text(wrong), []).unwrap_err();
            assert!(problems.to_string().contains(says), "{wrong}: {problems}");
        }
        let other = text("[control]\nlisten = 5\n[health]\nlisten = \"127.0.0.1:7001\"\n");
        assert!(health_address(&other, []).is_ok());
    }
}
