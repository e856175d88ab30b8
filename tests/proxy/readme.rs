//! What the documents say is true: every configuration in them is checked, every command in them exists.

use std::fs;

use cupbearer_testing::{Certificates, Config, Origin, Proxy, Stage, cupbearer, repository, upstream_at};

fn read(name: &str) -> String {
    fs::read_to_string(repository().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The fenced blocks of a language.
fn blocks(text: &str, language: &str) -> Vec<String> {
    let open = format!("```{language}\n");
    text.split(&open).skip(1).filter_map(|rest| rest.split("\n```").next()).map(ToOwned::to_owned).collect()
}

/// The README and the pages of `docs/`.
fn pages() -> Vec<(String, String)> {
    let docs = fs::read_dir(repository().join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let docs = docs.filter(|path| path.extension().is_some_and(|extension| extension == "md"));
    let docs = docs.map(|path| format!("docs/{}", path.file_name().unwrap().display()));
    docs.chain(["README.md".to_owned()]).map(|name| (name.clone(), read(&name))).collect()
}

/// What follows `cupbearer ` in the indented blocks of a page, without comments, and in its spans of code.
fn command_lines(text: &str) -> Vec<String> {
    let text = text.replace("\\\n", " ");
    let blocks = text.lines().filter_map(|line| line.strip_prefix("    "));
    let blocks = blocks.flat_map(|line| line.split(" # ").next().unwrap_or_default().split('|'));
    let blocks = blocks.filter_map(|line| line.split_once("cupbearer "));
    let blocks = blocks.filter(|(before, _)| before.is_empty() || before.ends_with(' '));
    let spans = text.lines().flat_map(|line| line.split('`').skip(1).step_by(2));
    let spans = spans.filter_map(|span| span.strip_prefix("cupbearer "));
    blocks.map(|(_, words)| words).chain(spans).map(ToOwned::to_owned).collect()
}

#[tokio::test]
async fn every_configuration_in_the_documents_is_taken_by_check() {
    let mut all = Vec::new();
    for (name, text) in pages() {
        // Of each provider there is the token alone, and a test of its own.
        if name != "docs/providers.md" {
            all.extend(blocks(&text, "toml"));
        }
    }
    assert!(all.len() >= 12, "{} configurations", all.len());
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("config.toml");
    for text in all {
        fs::write(&file, &text).unwrap();
        let mut check = cupbearer();
        check.args(["check", "--config"]).arg(&file).env("HOME", dir.path());
        let output = check.output().await.unwrap();
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert_eq!(output.status.code(), Some(0), "{text}\nis refused:\n{said}");
    }
}

/// Each `cupbearer COMMAND --flag` in a document is one that the program knows.
#[tokio::test]
async fn every_command_line_in_the_documents_exists() {
    let mut lines = 0;
    for (name, text) in pages() {
        for line in command_lines(&text) {
            let mut words = line.split_whitespace().map(|word| word.trim_matches(['[', ']']));
            let Some(command) = words.next().filter(|word| word.bytes().all(|b| b.is_ascii_lowercase()))
            else {
                continue;
            };
            let output = cupbearer().args([command, "--help"]).output().await.unwrap();
            let help = String::from_utf8_lossy(&output.stdout).into_owned();
            assert!(output.status.success(), "{name}: no command {command}: {line}");
            for flag in words.filter(|word| word.starts_with("--")) {
                let flag = flag.split('=').next().unwrap_or_default();
                assert!(help.contains(flag), "{name}: {command} has no {flag}: {line}");
            }
            lines += 1;
        }
    }
    assert!(lines >= 50, "{lines} command lines");
}

#[tokio::test]
async fn every_command_in_the_table_exists_and_no_other() {
    let page = read("docs/commands.md");
    let table: Vec<String> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| `cupbearer "))
        .filter_map(|rest| rest.split([' ', '`']).next())
        .map(ToOwned::to_owned)
        .collect();
    let output = cupbearer().arg("--help").output().await.unwrap();
    let help = String::from_utf8_lossy(&output.stdout).into_owned();
    let commands: Vec<&str> = help
        .split("Commands:\n")
        .nth(1)
        .unwrap_or_else(|| panic!("{help}"))
        .lines()
        .take_while(|line| !line.is_empty())
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|command| *command != "help")
        .collect();
    for command in &table {
        assert!(commands.contains(&command.as_str()), "the page has {command}, --help does not:\n{help}");
    }
    for command in commands {
        assert!(table.iter().any(|listed| listed == command), "the page lacks {command}");
    }
}

#[tokio::test]
async fn every_metric_in_the_table_exists_and_no_other() {
    // With everything that counts something of its own; port 1 has no listener.
    let collector = "[telemetry]\notlp_endpoint = \"http://127.0.0.1:1\"\n";
    let stage = Stage::with(Origin::ok().await, "", collector).await;
    stage.proxy.get("/").await;
    let dir = tempfile::tempdir().unwrap();
    let files = Certificates::for_loopback(dir.path());
    let (cert, key) = (files.certificate.display(), files.key.display());
    let tls =
        Config::new(upstream_at(&stage.api.url()) + "[[routes]]\nupstream = \"api\"\ntoken = \"none\"\n")
            .server(&format!("tls = {{ cert_file = '{cert}', key_file = '{key}' }}"));
    let metrics = stage.proxy.metrics().await + &Proxy::start(tls).await.metrics().await;
    let page = read("docs/observability.md");
    let listed: Vec<&str> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| `cupbearer_")?.split(['{', '`']).next())
        .collect();
    assert!(listed.len() >= 10, "{listed:?}");
    for name in &listed {
        assert!(
            metrics.contains(&format!("# TYPE cupbearer_{name} ")),
            "the page has cupbearer_{name}, /metrics does not"
        );
    }
    for name in metrics.lines().filter_map(|line| line.strip_prefix("# TYPE cupbearer_")?.split(' ').next()) {
        assert!(listed.contains(&name), "the page lacks cupbearer_{name}");
    }
}

#[test]
fn the_two_commands_of_the_readme_are_there() {
    let readme = read("README.md");
    for command in ["cargo run --release -- demo", "scripts/test"] {
        assert!(readme.contains(command), "{command}");
    }
    for file in
        ["scripts/test", "LICENSE-MIT", "LICENSE-APACHE", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"]
    {
        assert!(repository().join(file).is_file(), "{file}");
    }
}
