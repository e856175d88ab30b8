//! What may only get better: figures of the house, each with its value of today. A change that lowers one writes the
//! new value here; a change that raises one fails.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use super::{Source, is_word, members, sources, spread};

/// The largest circle of files that import each other, for each room that has one.
const CIRCLES: [(&str, usize); 2] = [("control", 4), ("demo", 5)];

/// The largest circle in a room that is not named above.
const CIRCLE: usize = 3;

/// Type names that are defined more than once.
const AMBIGUOUS_NAMES: usize = 70;

/// Items that are `pub`, and not for the crate or a part of it alone.
const PUBLIC_ITEMS: usize = 17;

/// Variants of the largest enum that is an error or a part of one, for each room that has one over [`ERROR_VARIANTS`].
const LARGE_ERRORS: [(&str, usize); 1] = [("net", 21)];

/// Variants of the largest such enum in a room that is not named above.
const ERROR_VARIANTS: usize = 15;

/// Lines of `src/`, `docs/` and the files at the top that hold one of [`DIALECT`].
const LINES_IN_DIALECT: usize = 44;

/// Words that stand for a component, or for `fix` and `is available`.
const DIALECT: [&str; 6] = ["mend", "mends", "whoever", "somebody", "nobody", "is to be had"];

#[test]
fn no_circle_of_files_grows() {
    let mut broken = Vec::new();
    for (room, files) in rooms() {
        let most = CIRCLES.iter().find(|(name, _)| *name == room).map_or(CIRCLE, |(_, most)| *most);
        let circle = largest_circle(&imports(&room, &files));
        println!("{room}: {} of {} files in the largest circle", circle.len(), files.len());
        if circle.len() > most {
            broken.push(format!("{room}: {} files, at most {most}: {}", circle.len(), circle.join(", ")));
        }
    }
    assert!(broken.is_empty(), "files that import each other:\n{}", broken.join("\n"));
}

#[test]
fn no_more_type_names_mean_several_things() {
    let mut places: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for source in sources() {
        for name in types(&source.code()) {
            places.entry(name).or_default().push(source.path.clone());
        }
    }
    places.retain(|_, files| files.len() > 1);
    at_most("type names with several meanings", places.len(), AMBIGUOUS_NAMES, || {
        places.iter().map(|(name, files)| format!("{name}: {}", files.join(", "))).collect()
    });
}

#[test]
fn no_more_items_are_public() {
    let mut public = Vec::new();
    for source in sources() {
        for line in source.code().lines() {
            let mut words = line.split_whitespace();
            let item = words.next() == Some("pub")
                && words.find(|word| !["const", "async"].contains(word)).is_some_and(|word| {
                    ["fn", "struct", "enum", "trait", "type", "static", "mod", "use"].contains(&word)
                });
            if item {
                public.push(format!("{}: {}", source.path, line.trim()));
            }
        }
    }
    at_most("public items", public.len(), PUBLIC_ITEMS, || public.clone());
}

#[test]
fn no_error_has_more_variants() {
    let mut broken = Vec::new();
    for (room, files) in rooms() {
        let most =
            LARGE_ERRORS.iter().find(|(name, _)| *name == room).map_or(ERROR_VARIANTS, |(_, most)| *most);
        let errors = files.iter().flat_map(|file| {
            let errors = enums(&file.code()).into_iter();
            let errors = errors.filter(|(name, _)| {
                ["Error", "Fault", "Kind", "Failure"].iter().any(|end| name.ends_with(end))
            });
            errors.map(|(name, variants)| (variants, format!("{name} in {}", file.path)))
        });
        let Some((variants, largest)) = errors.max() else { continue };
        println!("{room}: {variants} variants of {largest}, at most {most}");
        if variants > most {
            broken.push(format!("{largest}: {variants} variants, at most {most}"));
        }
    }
    assert!(broken.is_empty(), "errors of too many kinds:\n{}", broken.join("\n"));
}

#[test]
fn the_words_are_those_of_the_field() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut texts: Vec<(String, String)> =
        sources().into_iter().map(|source| (format!("src/{}", source.path), source.text)).collect();
    for (name, sources) in members() {
        texts.extend(
            sources.into_iter().map(|source| (format!("crates/{name}/src/{}", source.path), source.text)),
        );
    }
    let pages = [top.to_owned(), top.join("docs")].map(|folder| fs::read_dir(folder).unwrap());
    for page in pages.into_iter().flatten().map(|entry| entry.unwrap().path()) {
        if page.extension().is_some_and(|extension| extension == "md" || extension == "toml") {
            let name = page.strip_prefix(top).unwrap().to_string_lossy().into_owned();
            texts.push((name, fs::read_to_string(&page).unwrap()));
        }
    }
    let mut found = Vec::new();
    for (name, text) in &texts {
        for (at, line) in text.lines().enumerate() {
            if DIALECT.iter().any(|word| holds(line, word)) {
                found.push(format!("{name}:{}: {}", at + 1, line.trim()));
            }
        }
    }
    at_most("lines in dialect", found.len(), LINES_IN_DIALECT, || found.clone());
}

/// Fails where `figure` is over `most`, and lists what it counts.
fn at_most(what: &str, figure: usize, most: usize, list: impl Fn() -> Vec<String>) {
    println!("{what}: {figure}, at most {most}");
    assert!(figure <= most, "{what}: {figure}, at most {most}:\n{}", list().join("\n"));
}

/// Whether `line` has `words` as whole words.
fn holds(line: &str, words: &str) -> bool {
    let line = line.to_ascii_lowercase();
    line.match_indices(words).any(|(at, _)| {
        !line[..at].ends_with(|letter: char| letter.is_alphanumeric())
            && !line[at + words.len()..].starts_with(|letter: char| letter.is_alphanumeric())
    })
}

/// The rooms that are folders, and their files without those of tests alone.
fn rooms() -> BTreeMap<String, Vec<Source>> {
    let mut rooms: BTreeMap<String, Vec<Source>> = BTreeMap::new();
    for source in sources() {
        if source.path.contains('/') && !source.without_tests().is_empty() {
            rooms.entry(source.room().to_owned()).or_default().push(source);
        }
    }
    rooms
}

/// A file's module, as the names from the crate's root.
fn module(path: &str) -> Vec<String> {
    path.trim_end_matches(".rs").split('/').filter(|part| *part != "mod").map(str::to_owned).collect()
}

/// Who imports whom in a room. What a module only passes on counts as an import of its source.
fn imports(room: &str, files: &[Source]) -> BTreeMap<String, BTreeSet<String>> {
    let modules: BTreeMap<Vec<String>, &Source> =
        files.iter().map(|file| (module(&file.path), file)).collect();
    let paths: BTreeMap<Vec<String>, BTreeSet<Vec<String>>> =
        modules.iter().map(|(name, file)| (name.clone(), paths_of(name, &file.code(), room))).collect();
    let home = |path: &[String]| -> Option<Vec<String>> {
        let mut path = path.to_vec();
        // Each step follows one `use` of a module that passes the item on.
        for _ in 0..8 {
            let at = (1..=path.len()).rev().find(|end| modules.contains_key(&path[..*end]))?;
            let (owner, rest) = path.split_at(at);
            let passed = rest.first().and_then(|item| {
                paths[owner]
                    .iter()
                    .find(|used| used.last() == Some(item) && used.as_slice() != path.as_slice())
            });
            match passed {
                Some(used) if used.starts_with(owner) && used.len() > owner.len() + 1 => path = used.clone(),
                _ => return Some(owner.to_vec()),
            }
        }
        None
    };
    let mut graph: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (name, used) in &paths {
        let file = &modules[name].path;
        let edges = graph.entry(file.clone()).or_default();
        // A folder's own file that only names its parts is not in any circle of them.
        if file.ends_with("/mod.rs") && only_names_parts(&modules[name].code()) {
            continue;
        }
        edges.extend(used.iter().filter_map(|path| home(path)).map(|owner| modules[&owner].path.clone()));
        edges.remove(file);
    }
    graph
}

/// Whether `code` has no item beside `mod` and `use`.
fn only_names_parts(code: &str) -> bool {
    let mut rest = code.trim_start();
    while !rest.is_empty() {
        let end = if rest.starts_with('#') { rest.find(']') } else { rest.find(';') };
        let Some(end) = end else { return false };
        let item = &rest[..end];
        let words: Vec<&str> =
            item.split_whitespace().map(|word| word.split('(').next().unwrap_or(word)).collect();
        let names = ["mod", "use"].map(|word| words.iter().take(3).any(|found| *found == word));
        if !(item.starts_with('#') || names.contains(&true) && !item.contains("fn ")) {
            return false;
        }
        rest = rest[end + 1..].trim_start();
    }
    true
}

/// The paths in the code of module `name` that stay in `room`, from the crate's root.
fn paths_of(name: &[String], code: &str, room: &str) -> BTreeSet<Vec<String>> {
    let mut found = BTreeSet::new();
    let mut read = |base: &[String], text: &str| {
        let mut paths = BTreeSet::new();
        spread("", text, &mut paths);
        for path in paths {
            let full: Vec<String> = base
                .iter()
                .cloned()
                .chain(path.split("::").map(str::to_owned))
                .filter(|part| part != "self")
                .collect();
            // The room alone is a visibility: `pub(in crate::room)`.
            if full.len() > 1 && full[0] == room {
                found.insert(full);
            }
        }
    };
    for (at, root) in code.match_indices("crate::") {
        if !code[..at].ends_with(is_word) {
            read(&[], &code[at + root.len()..]);
        }
    }
    for (at, _) in code.match_indices("super::") {
        if code[..at].ends_with("super::") || code[..at].ends_with(is_word) {
            continue;
        }
        let (mut rest, mut depth) = (&code[at..], 0);
        while let Some(next) = rest.strip_prefix("super::") {
            (rest, depth) = (next, depth + 1);
        }
        read(&name[..name.len().saturating_sub(depth)], rest);
    }
    // `use part::Item` and `part::item()` in a module that has parts.
    for (at, _) in code.match_indices("use ") {
        let rest = &code[at + 4..];
        if !code[..at].ends_with(is_word)
            && !["crate::", "super::", "std::"].iter().any(|root| rest.starts_with(root))
        {
            read(name, rest);
        }
    }
    found
}

/// The largest set of files each of which reaches all others (Kosaraju would do; rooms are small).
fn largest_circle(graph: &BTreeMap<String, BTreeSet<String>>) -> Vec<String> {
    let reach = |from: &String| {
        let (mut seen, mut next) = (BTreeSet::new(), vec![from.clone()]);
        while let Some(file) = next.pop() {
            for to in graph.get(&file).into_iter().flatten() {
                if seen.insert(to.clone()) {
                    next.push(to.clone());
                }
            }
        }
        seen
    };
    let reached: BTreeMap<&String, BTreeSet<String>> = graph.keys().map(|file| (file, reach(file))).collect();
    let circles = graph.keys().map(|file| {
        reached[file].iter().filter(|other| reached[other].contains(file)).cloned().collect::<Vec<_>>()
    });
    circles.max_by_key(Vec::len).unwrap_or_default()
}

/// The names of the types that `code` defines.
fn types(code: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for line in code.lines() {
        let mut words = line.split_whitespace().skip_while(|word| word.starts_with("pub"));
        if words.next().is_some_and(|word| ["struct", "enum", "trait"].contains(&word)) {
            let name: String =
                words.next().unwrap_or_default().chars().take_while(|letter| is_word(*letter)).collect();
            names.insert(name);
        }
    }
    names
}

/// The enums of `code`, and how many variants each has.
fn enums(code: &str) -> Vec<(String, usize)> {
    let mut found = Vec::new();
    for (at, word) in code.match_indices("enum ") {
        if code[..at].ends_with(is_word) {
            continue;
        }
        let rest = &code[at + word.len()..];
        let name: String = rest.chars().take_while(|letter| is_word(*letter)).collect();
        let Some(open) = rest.find('{') else { continue };
        let (mut depth, mut variants, mut fresh) = (0, 0, true);
        for letter in rest[open..].chars() {
            match letter {
                '{' | '(' | '[' | '<' => depth += 1,
                '}' | ')' | ']' | '>' => depth -= 1,
                ',' if depth == 1 => fresh = true,
                _ if depth == 1 && fresh && letter.is_ascii_uppercase() => {
                    (variants, fresh) = (variants + 1, false);
                }
                _ => {}
            }
            if depth == 0 {
                break;
            }
        }
        found.push((name, variants));
    }
    found
}

#[test]
fn the_figures_are_counted_right() {
    let code =
        "enum Fault { A, B(u8, Vec<u8>), C { d: E }, #[error(x)] F }\nstruct Age;\npub(crate) enum Age2 {}";
    assert_eq!(enums(code)[0], ("Fault".to_owned(), 4));
    assert_eq!(types(code).into_iter().collect::<Vec<_>>(), ["Age", "Age2", "Fault"]);
    assert!(holds("/// Nobody reads it.", "nobody") && !holds("recommend", "mend"));
    let file = |path: &str, text: &str| Source { path: path.into(), text: text.into(), is_test: false };
    let files = [
        file("r/mod.rs", "mod a; mod b; mod c; use a::A; use b::B;"),
        file("r/a.rs", "use super::B; use super::c::C;"),
        file("r/b.rs", "fn f() { super::a::g() }"),
        file("r/c.rs", "use crate::other::D;"),
    ];
    assert_eq!(largest_circle(&imports("r", &files)), ["r/a.rs", "r/b.rs"]);
    assert!(only_names_parts(
        "#![allow(x)]\nmod a;\npub(in crate::r) use a::{A, B};\n#[cfg(test)]\nmod b;\n"
    ));
    assert!(!only_names_parts("mod a;\nconst A: u8 = 1;\n") && !only_names_parts("use a::A;\nfn f() {}\n"));
}
