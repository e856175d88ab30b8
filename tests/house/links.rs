//! Links between documents: each file and each section that one names exists.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

#[test]
fn every_link_in_the_documents_leads_to_a_file_and_a_section() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut pages = BTreeMap::new();
    collect(top, &mut pages);
    assert!(pages.len() > 20, "the documents are read");
    let mut broken = Vec::new();
    for (path, text) in &pages {
        let text = prose(text);
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            let (file, section) = target.split_once('#').map_or((target, None), |(file, s)| (file, Some(s)));
            let file = if file.is_empty() { path.clone() } else { plain(&path.with_file_name(file)) };
            let leads = match (section, pages.get(&file)) {
                (None, _) => file.exists(),
                (Some(section), Some(page)) => sections(page).iter().any(|name| name == section),
                (Some(_), None) => false,
            };
            if !leads {
                broken.push(format!("{}: {target}", path.strip_prefix(top).unwrap().display()));
            }
        }
    }
    assert!(broken.is_empty(), "links that lead nowhere:\n{}", broken.join("\n"));
}

/// The documents below `folder`, without those that others wrote or a build makes.
fn collect(folder: &Path, pages: &mut BTreeMap<PathBuf, String>) {
    for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        let name = path.file_name().unwrap().to_string_lossy();
        if path.is_dir()
            && !path.is_symlink()
            && !["target", "node_modules"].contains(&&*name)
            && !name.starts_with('.')
        {
            collect(&path, pages);
        } else if path.extension().is_some_and(|extension| extension == "md") {
            pages.insert(path.clone(), fs::read_to_string(&path).unwrap());
        }
    }
}

/// `path` without `..`: what names a page in the map of pages.
fn plain(path: &Path) -> PathBuf {
    let mut found = PathBuf::new();
    for part in path.components() {
        if part.as_os_str() == ".." {
            found.pop();
        } else {
            found.push(part);
        }
    }
    found
}

/// `text` without fenced blocks.
fn prose(text: &str) -> String {
    text.split("```").step_by(2).collect()
}

/// The anchors of a page's headings, as GitHub makes them.
fn sections(page: &str) -> Vec<String> {
    let text = prose(page);
    let headings = text.lines().filter(|line| line.starts_with('#'));
    headings.map(|line| anchor(line.trim_start_matches('#').trim())).collect()
}

fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|letter| letter.is_alphanumeric() || " -_".contains(*letter));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}

#[test]
fn anchors_are_those_that_github_makes() {
    assert_eq!(anchor("`host = \"client\"`: a person's"), "host--client-a-persons");
    assert_eq!(sections("# One two\n\n```sh\n# no heading\n```\n"), ["one-two"]);
}
