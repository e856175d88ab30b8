//! `config.toml` at the top of the repository: complete, true, and runnable.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde_json::Value;

use super::*;

const REFERENCE: &str = include_str!("../../../config.toml");

/// The reference with every commented key taken out of its comment.
fn uncommented() -> String {
    let key = |line: &str| {
        let (name, value) = line.split_once(" = ")?;
        let is_name = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
        (is_name && toml::from_str::<toml::Table>(&format!("x = {value}")).is_ok()).then_some(())
    };
    REFERENCE
        .lines()
        .map(|line| line.strip_prefix("# ").filter(|rest| key(rest).is_some()).unwrap_or(line))
        .collect::<Vec<_>>()
        .join("\n")
}

/// Every key of a schema, with `*` for a name and for a place in a list.
fn keys_of_schema(schema: &Value, at: &str, keys: &mut BTreeSet<String>) {
    for (name, member) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{at}.{name}");
        if member["additionalProperties"]["properties"].is_object() {
            keys_of_schema(&member["additionalProperties"], &format!("{path}.*"), keys);
        } else if member["items"]["properties"].is_object() {
            keys_of_schema(&member["items"], &format!("{path}.*"), keys);
        } else if member["properties"].is_object() {
            keys_of_schema(member, &path, keys);
        } else {
            keys.insert(path);
        }
    }
}

fn keys_of_text(value: &toml::Value, schema: &Value, at: &str, keys: &mut BTreeSet<String>) {
    match value {
        toml::Value::Table(entries) if schema["properties"].is_object() => {
            for (name, member) in entries {
                keys_of_text(member, &schema["properties"][name], &format!("{at}.{name}"), keys);
            }
        }
        toml::Value::Table(entries) if schema["additionalProperties"]["properties"].is_object() => {
            for member in entries.values() {
                keys_of_text(member, &schema["additionalProperties"], &format!("{at}.*"), keys);
            }
        }
        toml::Value::Array(items) if schema["items"]["properties"].is_object() => {
            for item in items {
                keys_of_text(item, &schema["items"], &format!("{at}.*"), keys);
            }
        }
        _ => {
            keys.insert(at.to_owned());
        }
    }
}

#[test]
fn the_reference_lists_every_key_and_no_other() {
    let schema = schema();
    let (mut known, mut listed) = (BTreeSet::new(), BTreeSet::new());
    keys_of_schema(&schema, "", &mut known);
    let table: toml::Value = toml::from_str(&uncommented()).unwrap();
    keys_of_text(&table, &schema, "", &mut listed);
    assert_eq!(known, listed);
    assert!(known.len() > 50, "{known:?}");
}

#[test]
fn the_reference_says_every_default_as_the_program_has_it() {
    fn compare(value: &toml::Value, schema: &Value, at: &str, compared: &mut usize) {
        let tables = [&schema["properties"], &schema["additionalProperties"], &schema["items"]];
        match value {
            toml::Value::Table(entries) if tables[0].is_object() => {
                for (name, member) in entries {
                    compare(member, &schema["properties"][name], &format!("{at}.{name}"), compared);
                }
            }
            toml::Value::Table(entries) if tables[1]["properties"].is_object() => {
                for (name, member) in entries {
                    compare(member, tables[1], &format!("{at}.{name}"), compared);
                }
            }
            toml::Value::Array(items) if tables[2]["properties"].is_object() => {
                for item in items {
                    compare(item, tables[2], at, compared);
                }
            }
            // What has no default is an example, or needed.
            _ if schema.get("default").is_none() => {}
            value => {
                let default = &schema["default"];
                let same = match (value.as_str(), default.as_str()) {
                    // "60s" and "1m" are the same.
                    (Some(a), Some(b)) if schema["pattern"].is_string() => a == b || seconds(a) == seconds(b),
                    _ => serde_json::to_value(value).unwrap() == *default,
                };
                assert!(same, "{at}: the reference says {value}, the program {default}");
                *compared += 1;
            }
        }
    }
    fn seconds(text: &str) -> u64 {
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap();
        let unit = match &text[digits..] {
            "ms" | "B" => 1,
            "s" => 1000,
            "m" => 60_000,
            "KiB" => 1024,
            other => panic!("{other}"),
        };
        text[..digits].parse::<u64>().unwrap() * unit
    }
    let mut compared = 0;
    let table: toml::Value = toml::from_str(&uncommented()).unwrap();
    compare(&table, &schema(), "", &mut compared);
    assert!(compared > 35, "only {compared} defaults were compared");
}

#[test]
fn the_reference_loads_as_it_stands_and_only_its_inline_secret_is_warned_about() {
    let loaded = load_text(REFERENCE).unwrap();
    let keys: Vec<_> = loaded.warnings.iter().map(|p| p.key.to_string()).collect();
    assert_eq!(keys, ["tokens.api.client_secret"]);
    assert_eq!(loaded.settings.upstreams["api"].url.as_str(), "http://127.0.0.1:9412/");
}

#[test]
fn the_reference_with_every_key_uncommented_means_the_same() {
    // Three ways to a secret, files that are not there, and what other grants need, are examples.
    let examples = [
        "client_secret_file",
        "client_secret_env",
        "client_key_",
        "client_assertion_",
        "client_cert_",
        "assertion_file",
        "refresh_token_file",
        "refresh_scope",
        "authorization_",
        "device_authorization_endpoint",
        "redirect_uri",
        "pushed_authorization",
        "post_logout_redirect_uri",
        "renew_via",
        "pkce",
        "grant_type = ",
        "assertion_claims",
        "assertion_lifetime",
        "response = ",
        "refresh_endpoint",
        "kind = ",
        "username",
        "password",
        "key_",
        "issuer_claim",
        "subject",
        "audience_claim",
        "requested_token_type",
        "actor_token_",
        "command",
        "token_file",
        "token_env",
        "token = \"made-up\"",
        "dpop_key_file",
        "path = \"tokens\"",
        "encryption_key_file",
        "revocation_endpoint",
        "introspection_endpoint",
        "ca_file",
        "token_endpoint",
        "audience = ",
        "proxy",
        "host",
        "unix_mode",
        "tls",
        "shared_secret",
        "server_name",
        "socket",
        "rate_",
        "max_concurrent",
        "max_queue",
        "queue_timeout",
        "max_stream_age",
        "otlp_",
        "service_name",
        "sample_ratio",
    ];
    let text: String = uncommented()
        .lines()
        .filter(|line| !examples.iter().any(|key| line.starts_with(key)))
        .flat_map(|line| [line, "\n"])
        .collect();
    assert_eq!(load_text(&text).unwrap().settings, load_text(REFERENCE).unwrap().settings);
}

#[test]
fn the_reference_and_the_schema_say_where_a_key_does_not_count_in_full() {
    let schema = schema();
    let token = &schema["properties"]["tokens"]["additionalProperties"]["properties"];
    assert!(
        token["expiry_margin"]["description"].as_str().unwrap().contains("at most a tenth of the lifetime")
    );
    assert!(REFERENCE.contains("at most a tenth of the lifetime"));
    assert!(token["wait"]["description"].as_str().unwrap().contains("do not end the wait"));
}

#[test]
fn every_key_of_the_schema_has_a_description() {
    fn walk(schema: &Value, at: &str) {
        for (name, member) in schema["properties"].as_object().into_iter().flatten() {
            let at = format!("{at}.{name}");
            assert!(member["description"].as_str().is_some_and(|text| text.len() > 10), "{at}: {member}");
            for inner in [member, &member["items"], &member["additionalProperties"]] {
                walk(inner, &at);
            }
        }
    }
    walk(&schema(), "");
    assert!(!schema().to_string().contains("null"));
}

/// The rows of a section of `docs/configuration.md`, and those of the tables in it.
fn rows(schema: &Value, at: &str, page: &mut String) {
    for (name, member) in schema["properties"].as_object().into_iter().flatten() {
        let key = if at.is_empty() { name.clone() } else { format!("{at}.{name}") };
        if member["properties"].is_object() {
            rows(member, &key, page);
            continue;
        }
        let default = match &member["default"] {
            Value::Object(members) if members.is_empty() => "`{}`".to_owned(),
            Value::Null | Value::Object(_) => String::new(),
            value => format!("`{value}`"),
        };
        let words = member["oneOf"].as_array().into_iter().flatten().filter_map(|one| one["const"].as_str());
        let words: Vec<String> = words.map(|word| format!("`\"{word}\"`")).collect();
        let mut meaning = member["description"].as_str().unwrap_or_default().replace('\n', " ");
        if !words.is_empty() {
            meaning = format!("{meaning} One of {}.", words.join(", "));
        }
        let _ = writeln!(page, "| `{key}` | {default} | {} |", meaning.replace('|', "\\|"));
    }
}

/// The tables of keys in `docs/configuration.md`.
fn tables() -> String {
    let mut page = String::new();
    for (name, member) in schema()["properties"].as_object().unwrap() {
        let (title, section) = match (&member["additionalProperties"], &member["items"]) {
            (Value::Object(_), _) => (format!("[{name}.NAME]"), &member["additionalProperties"]),
            (_, Value::Object(_)) => (format!("[[{name}]]"), &member["items"]),
            _ => (format!("[{name}]"), member),
        };
        let about = member["description"].as_str().unwrap_or_default().replace('\n', " ");
        let _ = write!(page, "\n### {title}\n\n{about}\n\n| key | default | meaning |\n|---|---|---|\n");
        rows(section, "", &mut page);
    }
    page
}

#[test]
fn the_page_of_the_configuration_has_the_keys_of_the_schema() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/configuration.md");
    let (begin, end) = ("<!-- Made from the schema. -->\n", "\n<!-- End of what is made. -->");
    let page = std::fs::read_to_string(path).unwrap();
    let (before, rest) = page.split_once(begin).unwrap();
    let (written, after) = rest.split_once(end).unwrap();
    let made = tables();
    if std::env::var_os("CUPBEARER_WRITE_PAGE").is_some() {
        std::fs::write(path, format!("{before}{begin}{made}{end}{after}")).unwrap();
    } else {
        let write = "CUPBEARER_WRITE_PAGE=1 cargo test --lib the_page_of_the_configuration";
        assert!(written == made, "docs/configuration.md has other keys; this writes it: {write}");
    }
}
