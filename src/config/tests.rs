//! What a user sees of the whole room: a text in, settings or problems out.

mod checks;
mod control;
mod dialect;
mod environment;
mod exchange;
mod flags;
mod grants;
mod guard;
mod hostile;
mod keys;
mod limits;
mod messages;
mod problems;
mod reference;
mod server;
mod store;
mod telemetry;
mod upstream;

use super::*;

pub(super) const GOOD: &str = r#"
[upstreams.api]
url = "https://api.example.com/base"

[tokens.api]
issuer = "https://login.example.com/"
client_id = "orders"
client_secret_env = "ORDERS_SECRET"

[[routes]]
upstream = "api"
token = "api"
"#;

pub(super) fn source(text: &str) -> Source {
    Source::Text { name: "t".to_owned(), text: text.to_owned() }
}

/// Loads a text in an environment of these variables.
pub(super) fn load_in(text: &str, variables: &[(&str, &str)]) -> Result<Loaded, Problems> {
    let environment = [("ORDERS_SECRET", "x")];
    let environment = environment.iter().chain(variables).map(|(name, value)| (name.into(), value.into()));
    load(&source(text), environment, Options::default())
}

pub(super) fn load_text(text: &str) -> Result<Loaded, Problems> {
    load_in(text, &[])
}

/// [`GOOD`] with `line` added to the section that `after` begins.
pub(super) fn good_with(after: &str, line: &str) -> String {
    assert!(GOOD.contains(after));
    GOOD.replace(after, &format!("{after}\n{line}"))
}

/// [`GOOD`] with a token of these lines alone.
pub(super) fn token_of(lines: &str) -> String {
    let (before, rest) = GOOD.split_once("issuer = ").unwrap();
    let (_, after) = rest.split_once("\n\n").unwrap();
    format!("{before}{lines}\n\n{after}")
}

/// [`token_of`] with an issuer.
pub(super) fn server_token_of(lines: &str) -> String {
    token_of(&format!("issuer = \"https://login.example.com/\"\n{lines}"))
}

/// The token's origin, of a text that is good.
#[track_caller]
pub(super) fn origin(text: &str) -> crate::token::Origin {
    load_text(text).unwrap_or_else(|problems| panic!("{problems}")).settings.tokens["api"].origin.clone()
}

/// The same, where it is a server.
#[track_caller]
pub(super) fn server_origin(text: &str) -> crate::token::ServerOrigin {
    match origin(text) {
        crate::token::Origin::Server(origin) => *origin,
        other => panic!("{other:?}"),
    }
}

/// Each problem as `line:column key`.
pub(super) fn places(problems: &Problems) -> Vec<String> {
    problems
        .iter()
        .map(|p| match &p.origin {
            Origin::File { at: Some(at), .. } => format!("{}:{} {}", at.line, at.column, p.key),
            origin => format!("{origin} {}", p.key),
        })
        .collect()
}

/// The problems of a text that must have some.
pub(super) fn refused(text: &str) -> Problems {
    load_text(text).expect_err("this must be refused")
}

/// That `text` has one error, at `key`, whose text has every one of `words`.
#[track_caller]
pub(super) fn one_error(text: &str, key: &str, words: &[&str]) {
    let problems = refused(text);
    let errors: Vec<_> = problems.iter().filter(|p| p.severity != Severity::Warning).collect();
    assert_eq!(errors.len(), 1, "{problems}");
    assert_eq!(errors[0].key.to_string(), key, "{problems}");
    let shown = errors[0].to_string();
    assert!(words.iter().all(|word| shown.contains(word)), "{words:?} in: {shown}");
    assert!(!errors[0].help.is_empty());
}

/// Writes a file that other users may not read.
pub(super) fn write_private(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

#[track_caller]
pub(super) fn one_warning(text: &str, key: &str, word: &str) {
    let loaded = load_text(text).unwrap_or_else(|problems| panic!("{problems}"));
    let shown = loaded.warnings.to_string();
    let keys: Vec<_> = loaded.warnings.iter().map(|p| p.key.to_string()).collect();
    assert_eq!(keys, [key], "{shown}");
    assert!(shown.contains(word), "{word} in: {shown}");
}
