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

#[tokio::test]
async fn every_configuration_in_the_readme_and_its_pages_is_taken_by_check() {
    let mut all = Vec::new();
    for (name, least) in [("README.md", 5), ("docs/front-ends.md", 2), ("docs/client-programs.md", 2)] {
        let found = blocks(&read(name), "toml");
        assert!(found.len() >= least, "{name} has {} configurations", found.len());
        all.extend(found);
    }
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

#[tokio::test]
async fn every_command_in_the_readme_exists_and_no_other() {
    let readme = read("README.md");
    let table: Vec<String> = readme
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
        assert!(commands.contains(&command.as_str()), "README tells of {command}, --help does not:\n{help}");
    }
    for command in commands {
        assert!(table.iter().any(|told| told == command), "README does not tell of {command}");
    }
}

#[tokio::test]
async fn every_metric_in_the_readme_exists_and_no_other() {
    // With everything that counts something of its own; nobody listens on port 1.
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
    let readme = read("README.md");
    let told: Vec<&str> = readme
        .lines()
        .filter_map(|line| line.strip_prefix("| `cupbearer_")?.split(['{', '`']).next())
        .collect();
    assert!(told.len() >= 10, "{told:?}");
    for name in &told {
        assert!(metrics.contains(&format!("# TYPE cupbearer_{name} ")), "README tells of cupbearer_{name}");
    }
    for name in metrics.lines().filter_map(|line| line.strip_prefix("# TYPE cupbearer_")?.split(' ').next()) {
        assert!(told.contains(&name), "README does not tell of cupbearer_{name}");
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

/// A path of somebody's machine or a registry's host would be of no use to anybody else.
#[test]
fn no_document_links_to_a_file_that_is_not_there() {
    for name in [
        "README.md",
        "CONTRIBUTING.md",
        "SECURITY.md",
        "CHANGELOG.md",
        "benches/README.md",
        "docs/front-ends.md",
    ] {
        let text = read(name);
        for target in text.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next()) {
            if target.is_empty() || target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            let folder = repository().join(name).parent().unwrap().to_owned();
            assert!(folder.join(target).exists(), "{name} links to {target}");
        }
    }
}
