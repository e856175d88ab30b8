//! `docs/providers.md`, out of the table.

use std::fmt::Write as _;

use super::data::{Before, Provider, Standing};

/// The whole page.
pub(super) fn render(table: &[Provider]) -> String {
    let mut page = INTRODUCTION.to_owned();
    page += &figures(table);
    page += ROWS;
    for provider in table {
        let name = format!("[{}](../tests/providers/{}.toml)", provider.name, provider.id);
        let keys: Vec<String> =
            keys(provider).iter().map(|key| format!("`{}`", key.replace('|', "\\|"))).collect();
        let (traps, limits) = (provider.traps.join(" "), provider.limits.join(" "));
        let _ = writeln!(
            page,
            "| {name} | {} | {} | {traps} | {limits} |",
            words(provider.status),
            keys.join(", ")
        );
    }
    for provider in table.iter().filter(|provider| !provider.console.is_empty()) {
        page += &section(provider);
    }
    page
}

/// The keys that tell this provider from others, each as it is written.
fn keys(provider: &Provider) -> Vec<String> {
    let table = provider.table("", &[]);
    let token = table.iter().filter(|(name, _)| !OWN.contains(&name.as_str()));
    let route: toml::Table = toml::from_str(&provider.route).unwrap();
    let route: Vec<String> = route.iter().map(|(name, value)| format!("{name} = {value} # route")).collect();
    token.map(|(name, value)| format!("{name} = {value}")).chain(route).collect()
}

fn section(provider: &Provider) -> String {
    let mut section = format!("\n## {}\n\n", provider.name);
    for (at, step) in provider.console.iter().enumerate() {
        let number = format!("{}. ", at + 1);
        section += &wrapped(&number, step);
    }
    let _ = write!(section, "\n```toml\n[tokens.api]\n{}\n```\n\n", provider.keys.trim());
    for line in provider.traps.iter().chain(&provider.limits) {
        section += &wrapped("- ", line);
    }
    let links: Vec<String> = provider.sources.iter().map(|source| format!("<{source}>")).collect();
    let _ = writeln!(section, "\nFrom {}.", links.join(",\n"));
    section
}

/// An item of a list, whose lines end before 100 columns where a word does.
fn wrapped(mark: &str, text: &str) -> String {
    let mut item = mark.trim_end().to_owned();
    let mut width = item.chars().count();
    for word in text.split(' ') {
        let length = word.chars().count() + 1;
        if width + length > 100 {
            item.push('\n');
            item += &" ".repeat(mark.len() - 1);
            width = mark.len() - 1;
        }
        item.push(' ');
        item += word;
        width += length;
    }
    item + "\n"
}

/// How many take what: those that were tried before, then and now, and all.
pub(super) fn figures(table: &[Provider]) -> String {
    let mut text = "| | as it is | with keys | with keys, and a fault | wrong | by a helper program | not at all |\n|---|---|---|---|---|---|---|\n".to_owned();
    let tried: Vec<&Provider> = table.iter().filter(|provider| provider.before.is_some()).collect();
    let before = |what: Before| tried.iter().filter(|provider| provider.before == Some(what)).count();
    let now =
        |table: &[&Provider], what: Standing| table.iter().filter(|provider| provider.status == what).count();
    let _ = writeln!(
        text,
        "| the {} that were tried first, at commit b3881ef | {} | {} | {} | {} | - | {} |",
        tried.len(),
        before(Before::AsItIs),
        before(Before::WithKeys),
        before(Before::Fault),
        before(Before::Wrong),
        before(Before::Cannot),
    );
    let all: Vec<&Provider> = table.iter().collect();
    for (name, table) in [("the same now", &tried), ("all now", &all)] {
        let _ = writeln!(
            text,
            "| {name} ({}) | {} | {} | 0 | 0 | {} | {} |",
            table.len(),
            now(table, Standing::AsItIs),
            now(table, Standing::WithKeys),
            now(table, Standing::Command),
            now(table, Standing::Cannot),
        );
    }
    text
}

const fn words(status: Standing) -> &'static str {
    match status {
        Standing::AsItIs => "works",
        Standing::WithKeys => "with keys",
        Standing::Command => "helper program",
        Standing::Cannot => "no",
    }
}

/// Keys whose values are each user's own.
const OWN: [&str; 15] = [
    "issuer",
    "token_endpoint",
    "authorization_endpoint",
    "device_authorization_endpoint",
    "revocation_endpoint",
    "introspection_endpoint",
    "refresh_endpoint",
    "client_id",
    "client_secret_file",
    "client_key_file",
    "client_key_id",
    "key_file",
    "key_id",
    "refresh_token_file",
    "scope",
];

const INTRODUCTION: &str = "\
<!-- Made from tests/providers by the test providers::the_page_is_the_table. -->

# Providers

What hosted providers demand, and the keys for it. Each row is a file of
[tests/providers](../tests/providers/README.md). A test plays the provider from its file: it refuses
what the provider documents that it refuses, and responds in the documented shapes. The program gets
a token, calls the API, renews, and meets each failure of the file. No provider itself was called.

";

const ROWS: &str = "
\"Works\" takes endpoints, the client, its secret or key, a scope and a redirect URI alone. The keys in
the table come in addition; [config.toml](../config.toml) explains each. A key with `# route` belongs
to the route.

| provider | status | keys | know before | not possible |
|---|---|---|---|---|
";
