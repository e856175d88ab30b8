//! Hosted providers, each as data in a file of `tests/providers`, and one driver for all: it plays the provider, runs the
//! program with the keys that the file has for it, and compares.
//!
//! `CUPBEARER_PROVIDER=okta` plays those whose file's name begins so.

mod data;
mod judge;
mod page;
mod play;
mod signature;
mod stub;

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;

use futures_util::StreamExt as _;

use data::{Provider, Standing, providers};
use play::{Keys, play};

/// So many are played at a time.
const AT_A_TIME: usize = 6;

/// How many the table has at least.
const FEWEST: usize = 85;

/// A test for each range of first letters, so that none takes long and all run side by side.
macro_rules! play_ranges {
    ($($test:ident: $letters:expr,)+) => {
        $(
            #[tokio::test]
            async fn $test() {
                play_all(&$letters).await;
            }
        )+

        const RANGES: &[RangeInclusive<char>] = &[$($letters),+];
    };
}

play_ranges! {
    providers_with_a_work_and_fail_as_their_files_say: 'a'..='a',
    providers_from_b_to_c_work_and_fail_as_their_files_say: 'b'..='c',
    providers_with_d_work_and_fail_as_their_files_say: 'd'..='d',
    providers_from_e_to_f_work_and_fail_as_their_files_say: 'e'..='f',
    providers_from_g_to_h_work_and_fail_as_their_files_say: 'g'..='h',
    providers_from_i_to_n_work_and_fail_as_their_files_say: 'i'..='n',
    providers_from_o_to_r_work_and_fail_as_their_files_say: 'o'..='r',
    providers_with_s_work_and_fail_as_their_files_say: 's'..='s',
    providers_from_t_to_z_work_and_fail_as_their_files_say: 't'..='z',
}

/// Plays those whose files begin with one of `letters`.
async fn play_all(letters: &RangeInclusive<char>) {
    let chosen = std::env::var("CUPBEARER_PROVIDER").unwrap_or_default();
    let is_meant = |provider: &Provider| {
        provider.id.starts_with(&chosen) && provider.id.starts_with(|first| letters.contains(&first))
    };
    let table: Vec<Arc<Provider>> = providers().into_iter().filter(is_meant).map(Arc::new).collect();
    assert!(!table.is_empty() || !chosen.is_empty(), "no file begins with one of {letters:?}");
    let keys = Arc::new(Keys::new().await);
    let played = futures_util::stream::iter(table.iter().map(|provider| async {
        // A task of its own: where one ends in a panic, the others are played nevertheless.
        let played = tokio::spawn(play(Arc::clone(provider), Arc::clone(&keys))).await;
        let wrong = played.unwrap_or_else(|error| vec![error.to_string()]);
        wrong.into_iter().map(|fault| format!("{}: {fault}", provider.id)).collect::<Vec<_>>()
    }));
    let wrong: Vec<String> =
        played.buffer_unordered(AT_A_TIME).flat_map(futures_util::stream::iter).collect().await;
    let scenes: usize =
        table.iter().map(|provider| 1 + provider.api.refusals.len() + provider.cases.len()).sum();
    println!("{} providers, {scenes} scenes", table.len());
    assert!(wrong.is_empty(), "{} scenes are not as their files say:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn each_file_is_played_by_one_test() {
    let chosen = std::env::var("CUPBEARER_PROVIDER").unwrap_or_default();
    let table = providers();
    assert!(table.iter().any(|provider| provider.id.starts_with(&chosen)), "no file begins with {chosen}");
    for provider in &table {
        let first = provider.id.chars().next().unwrap();
        let ranges = RANGES.iter().filter(|letters| letters.contains(&first)).count();
        assert_eq!(ranges, 1, "{}: so many tests play it", provider.id);
    }
}

#[test]
fn every_file_names_its_sources_and_proves_what_it_says() {
    let table = providers();
    assert!(table.len() >= FEWEST, "{} files", table.len());
    let mut names = BTreeMap::new();
    for provider in &table {
        let id = &provider.id;
        assert!(names.insert(&provider.name, id).is_none(), "{id}: its name is there twice");
        assert!(!provider.sources.is_empty(), "{id} names no source");
        for source in &provider.sources {
            assert!(source.starts_with("https://"), "{id}: {source}");
        }
        assert_eq!(needs(provider), provider.status, "{id}: what its keys are");
        let proves = provider.cases.len() + provider.api.refusals.len();
        assert!(proves > 0, "{id} has no failure: how the API refuses, or how the server does");
        assert!(
            provider.status != Standing::Cannot || !provider.limits.is_empty(),
            "{id}: what cannot be done?"
        );
        for case in &provider.cases {
            assert!(!case.expect.says.is_empty(), "{id}: {} expects no sentence", case.name);
        }
    }
}

#[tokio::test]
async fn a_file_that_is_wrong_is_found_out() {
    let keys = Arc::new(Keys::new().await);
    let text =
        std::fs::read_to_string(cupbearer_testing::repository().join("tests/providers/paypal.toml")).unwrap();
    for (right, wrong, complaint) in [
        ("client = \"basic\"", "client = \"post\"", "the client shows"),
        ("then = \"renewed\"", "then = \"passed\"", "in place of 401"),
        ("class = \"transient\"", "class = \"refused\"", "no failure of the class refused"),
        ("lifetime = 31668", "lifetime = 60", "in place of 60 s"),
        (
            "[requests.token]",
            "[requests.revoke]\nurl = \"https://api-m.paypal.com/x\"\n[requests.token]",
            "no request met",
        ),
    ] {
        assert!(text.contains(right), "{right}");
        let provider = Provider::parse("paypal", &text.replacen(right, wrong, 1));
        let found = play(Arc::new(provider), Arc::clone(&keys)).await;
        assert!(found.iter().any(|fault| fault.contains(complaint)), "{wrong}: {found:?}");
    }
}

/// What the keys say of the effort; what cannot be done, no key says.
fn needs(provider: &Provider) -> Standing {
    let table = provider.table("", &[]);
    if provider.status == Standing::Cannot {
        return Standing::Cannot;
    }
    if table.get("grant").and_then(toml::Value::as_str) == Some("command") {
        return Standing::Command;
    }
    let usual = |name: &String| USUAL.contains(&name.as_str());
    if table.keys().all(usual) && provider.route.is_empty() { Standing::AsItIs } else { Standing::WithKeys }
}

/// What every provider takes: endpoints, the client and its proof, a scope.
const USUAL: [&str; 16] = [
    "issuer",
    "token_endpoint",
    "authorization_endpoint",
    "device_authorization_endpoint",
    "revocation_endpoint",
    "introspection_endpoint",
    "grant",
    "client_id",
    "client_auth",
    "client_secret_file",
    "client_key_file",
    "key_file",
    "assertion_file",
    "refresh_token_file",
    "scope",
    "redirect_uri",
];

/// Where it is written anew, and how.
const PAGE: &str = "docs/providers.md";

#[test]
fn the_page_is_the_table() {
    let page = page::render(&providers());
    let path = cupbearer_testing::repository().join(PAGE);
    if std::env::var_os("CUPBEARER_WRITE_PAGE").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    let differs = written.lines().zip(page.lines()).find(|(old, new)| old != new);
    assert!(
        written == page,
        "{PAGE} is not what the table says: {differs:?}\n\
         This writes it: CUPBEARER_WRITE_PAGE=1 scripts/test the_page_is_the_table"
    );
}
