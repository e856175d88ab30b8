//! What a token exchange trades in, and which tokens may trade with which.

use super::*;
use crate::secret::SecretSource;
use crate::token::{GrantSettings, Subject};

const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";

fn exchange(lines: &str) -> String {
    server_token_of(&format!("grant = \"token_exchange\"\nclient_auth = \"none\"\n{lines}"))
}

fn settings(lines: &str) -> crate::token::ExchangeSettings {
    match server_origin(&exchange(lines)).grant {
        GrantSettings::TokenExchange(settings) => settings,
        other => panic!("{other:?}"),
    }
}

/// [`exchange`] beside another token.
fn beside(lines: &str, name: &str, other: &str) -> String {
    format!("{}\n[tokens.{name}]\nissuer = \"https://login.example.com/\"\n{other}\n", exchange(lines))
}

const PLAIN: &str = "client_id = \"a\"\nclient_secret_env = \"ORDERS_SECRET\"";

#[test]
fn a_subject_is_a_file_another_token_or_the_caller() {
    let file = settings("subject_token_file = \"s\"");
    assert_eq!(file.subject, Subject::File(SecretSource::File("s".into())));
    assert_eq!((file.subject_token_type.as_str(), file.actor, file.requested_token_type), (JWT, None, None));
    let incoming = settings("subject_token = \"incoming\"");
    assert_eq!((incoming.subject, incoming.subject_token_type.as_str()), (Subject::Incoming, ACCESS_TOKEN));
    let full = settings(&format!(
        "subject_token_file = \"s\"\nsubject_token_type = \"{ACCESS_TOKEN}\"\nrequested_token_type = \"{JWT}\"\nactor_token_file = \"a\""
    ));
    assert_eq!(
        (full.subject_token_type.as_str(), full.requested_token_type.as_deref()),
        (ACCESS_TOKEN, Some(JWT))
    );
    assert_eq!(full.actor, Some((SecretSource::File("a".into()), JWT.to_owned())));
    let other = beside("subject_token = \"token:login\"", "login", PLAIN);
    let loaded = load_text(&other).unwrap();
    assert!(loaded.warnings.is_empty(), "the other is used: {}", loaded.warnings);
    assert_eq!(server_origin(&exchange("subject_token_file = \"s\"")).client.id, "");
}

#[test]
fn a_variable_wins_over_the_subject_of_the_file() {
    let file = [("CUPBEARER__TOKENS__API__SUBJECT_TOKEN_FILE", "/x")];
    let loaded = load_in(&exchange("subject_token = \"incoming\""), &file).unwrap();
    let GrantSettings::TokenExchange(settings) = &loaded.settings.tokens["api"].server().unwrap().grant
    else {
        panic!()
    };
    assert_eq!(settings.subject, Subject::File(SecretSource::File("/x".into())));
}

#[test]
fn a_token_that_is_traded_in_is_there_and_is_one() {
    let key = "tokens.api.subject_token";
    one_error(
        &beside("subject_token = \"token:logn\"", "login", PLAIN).replace(
            "token = \"api\"",
            "token = \"api\"\n[[routes]]\nupstream = \"api\"\ntoken = \"login\"\npath = \"/x\"",
        ),
        key,
        &["there is no [tokens.logn]", "token:login"],
    );
}

#[test]
fn a_token_for_each_caller_lets_the_callers_in() {
    let incoming = |lines: &str| exchange(&format!("subject_token = \"incoming\"\n{lines}"));
    let loaded = load_text(&incoming("")).unwrap();
    assert!(!loaded.settings.tokens["api"].required, "nothing can be waited for");
    assert!(load_text(&incoming("required = false")).is_ok());
}
