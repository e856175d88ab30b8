//! What a user sees of the whole room: a text in, settings or problems out.

mod environment;
mod flags;
mod hostile;
mod problems;
mod reference;

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
