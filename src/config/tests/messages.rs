//! What is said of a configuration, word for word: `tests/config/*.toml` beside `*.stderr`.
//!
//! A file has many configurations, each after a line that begins with `# ---`. What one leaves out of upstreams, tokens
//! and routes is that of [`GOOD`], and so are the other keys of a section with `# ...` behind its header.
//! `CUPBEARER_BLESS=1` writes what is said now.

use std::fmt::Write as _;

use super::*;

const MARK: &str = "# ---";
/// Behind the header of a section: the keys that it has in [`GOOD`] follow.
const MORE: &str = " # ...";

#[test]
fn each_message_is_the_one_that_is_written() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config");
    let files = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    let files: Vec<PathBuf> = files.filter(|path| path.is_file()).collect();
    let mut broken = Vec::new();
    for stray in files.iter().filter(|file| !file.with_extension("toml").is_file()) {
        broken.push(format!("{} has no configuration beside it", stray.display()));
    }
    let configurations = files.iter().filter(|file| file.extension().is_some_and(|end| end == "toml"));
    for file in configurations {
        let name = file.file_name().unwrap().to_str().unwrap();
        let said = messages(name, &std::fs::read_to_string(file).unwrap());
        assert!(!said.contains("sentinel"), "a secret of {name} is shown:\n{said}");
        let written = file.with_extension("stderr");
        if std::env::var_os("CUPBEARER_BLESS").is_some() {
            std::fs::write(&written, &said).unwrap();
        }
        let expected = std::fs::read_to_string(&written).unwrap_or_default();
        if let Some((is, was)) = said.lines().zip(expected.lines()).find(|(is, was)| is != was) {
            broken.push(format!("{}\n  says:    {is}\n  written: {was}", written.display()));
        } else if said != expected {
            broken.push(format!("{} has another number of lines", written.display()));
        }
    }
    assert!(files.len() > 10 && broken.is_empty(), "CUPBEARER_BLESS=1 writes them:\n{}", broken.join("\n"));
}

/// What is said of each configuration in `text`, an empty line between them.
fn messages(name: &str, text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let starts: Vec<usize> = (0..lines.len()).filter(|at| lines[*at].starts_with(MARK)).collect();
    let mut said = String::new();
    for (n, start) in starts.iter().enumerate() {
        let end = starts.get(n + 1).copied().unwrap_or(lines.len());
        // Empty lines before it, so that the places are those in the file.
        let text = "\n".repeat(start + 1) + &complete(&lines[start + 1..end]);
        let source = Source::Text { name: name.to_owned(), text };
        let loaded = load(&source, [("ORDERS_SECRET".into(), "x".into())], Options::default());
        let found = loaded.map_or_else(|problems| problems, |loaded| loaded.warnings);
        if n > 0 {
            said.push('\n');
        }
        if found.is_empty() {
            writeln!(said, "{name}:{}: no problem", start + 1).unwrap();
        } else {
            writeln!(said, "{found}").unwrap();
        }
    }
    said
}

/// A whole configuration: what `lines` leave out is that of [`GOOD`].
fn complete(lines: &[&str]) -> String {
    let base: Vec<&str> = GOOD.trim().split("\n\n").collect();
    let mut whole = String::new();
    let mut rest = "";
    for line in lines {
        if line.starts_with('[') {
            whole.push_str(rest);
            rest = "";
        }
        if let Some(header) = line.strip_suffix(MORE) {
            let section = base.iter().find(|section| section.starts_with(header)).unwrap();
            rest = &section[header.len() + 1..];
            writeln!(whole, "{header}").unwrap();
        } else {
            writeln!(whole, "{line}").unwrap();
        }
    }
    writeln!(whole, "{rest}").unwrap();
    for section in base {
        let kind: String =
            section.chars().skip_while(|c| *c == '[').take_while(char::is_ascii_alphabetic).collect();
        let has = |line: &&str| line.starts_with('[') && line.trim_start_matches('[').starts_with(&kind);
        if !lines.iter().any(has) {
            writeln!(whole, "{section}").unwrap();
        }
    }
    whole
}
