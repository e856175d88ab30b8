//! Malformed and ambiguous requests, read from `tests/corpus`, where README.md tells of their form.

use std::fs;

use super::program::repository;

/// One request, and what must come of it.
#[derive(Clone, Debug)]
pub struct Case {
    pub name: String,
    pub lines: Vec<Line>,
    pub expect: Expect,
    /// Fields that each origin must have seen, once and with this value.
    pub saw: Vec<(String, String)>,
    /// Fields that none may have seen.
    pub not: Vec<String>,
    /// Whether an innocent request is sent behind it.
    pub alone: bool,
    /// Origins that may refuse it.
    pub unread_by: Vec<String>,
}

/// A line of a case, with its bytes as they go out.
#[derive(Clone, Debug)]
pub enum Line {
    /// HTTP/1.1: these bytes.
    Bytes(Vec<u8>),
    /// HTTP/2: a field of the head.
    Field(Vec<u8>, Vec<u8>),
    /// HTTP/2: a DATA frame.
    Data(Vec<u8>),
    /// HTTP/2: a field of the trailers.
    Trailer(Vec<u8>, Vec<u8>),
}

/// What must come of a case.
#[derive(Clone, Debug)]
pub enum Expect {
    /// One of these statuses (none: whatever says no), and nothing upstream.
    Refused { statuses: Vec<u16>, open: bool },
    /// It is found out only in the body: no whole request upstream.
    Broken,
    /// Exactly this upstream.
    Forwarded { method: String, target: String, body: String },
}

/// The cases of `tests/corpus/FOLDER`, for a proxy at `host`.
pub fn corpus(folder: &str, host: &str) -> Vec<Case> {
    let is_http2 = folder == "h2";
    let folder = repository().join("tests/corpus").join(folder);
    let mut files: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.iter().flat_map(|file| cases(&fs::read_to_string(file).unwrap(), host, is_http2)).collect()
}

fn cases(text: &str, host: &str, is_http2: bool) -> Vec<Case> {
    let blocks = text.split("\n\n").map(str::trim_start).filter(|block| block.starts_with('@'));
    let mut cases = Vec::new();
    for block in blocks {
        let choices = block.lines().find_map(|line| line.strip_prefix("each: "));
        match choices {
            None => cases.push(case(block, None, host, is_http2)),
            Some(choices) => cases
                .extend(choices.split(" | ").map(|choice| case(block, Some(choice.trim()), host, is_http2))),
        }
    }
    cases
}

fn case(block: &str, each: Option<&str>, host: &str, is_http2: bool) -> Case {
    let filled = |text: &str| fill(&text.replace("{each}", each.unwrap_or("{each}")), host);
    let bytes = |text: &str| unescape(&filled(text));
    let text = |text: &str| String::from_utf8_lossy(&bytes(text)).into_owned();
    let (name, expect) = block.lines().next().unwrap()[1..].split_once(" => ").unwrap();
    let name = each.map_or_else(|| name.trim().to_owned(), |each| format!("{} [{each}]", name.trim()));
    let mut case = Case {
        name,
        lines: Vec::new(),
        expect: expectation(expect, text),
        saw: Vec::new(),
        not: Vec::new(),
        alone: false,
        unread_by: Vec::new(),
    };
    for line in block.lines().skip(1) {
        let pair = |rest: &str| {
            let rest = filled(rest);
            // A pseudo-header field begins with a colon that is no separator.
            let at = rest.get(1..).and_then(|rest| rest.find(": ")).map_or(0, |at| at + 1);
            let value = rest.get(at + 1..).unwrap_or_default();
            (unescape(&rest[..at]), unescape(value.strip_prefix(' ').unwrap_or(value)))
        };
        match line.split_at(line.len().min(1)) {
            ("|", rest) if is_http2 => {
                // `:path:\x20` and the like stand for an empty value.
                let (name, value) = pair(&rest[1..].replace(":\\x20", ": "));
                case.lines.push(Line::Field(name, value));
            }
            (">", rest) => case.lines.push(Line::Data(bytes(rest.trim_start()))),
            ("+", rest) => {
                let (name, value) = pair(&rest[1..]);
                case.lines.push(Line::Trailer(name, value));
            }
            ("|", rest) => {
                let rest = rest.strip_prefix(' ').unwrap_or(rest);
                let open = rest.ends_with('\\') && !rest.ends_with("\\\\");
                let mut line = bytes(if open { &rest[..rest.len() - 1] } else { rest });
                if !open {
                    line.extend_from_slice(b"\r\n");
                }
                case.lines.push(Line::Bytes(line));
            }
            _ => match line.split_once(' ') {
                Some(("saw:", field)) => {
                    let (name, value) = field.split_once(": ").unwrap();
                    case.saw.push((name.to_owned(), text(value)));
                }
                Some(("not:", name)) => case.not.push(text(name).to_ascii_lowercase()),
                Some(("unread", rest)) => {
                    case.unread_by = rest.split(' ').skip(1).map(ToOwned::to_owned).collect();
                }
                Some(("each:", _)) => {}
                None if line == "alone" => case.alone = true,
                _ => panic!("no line of a case: {line:?} in {block}"),
            },
        }
    }
    case
}

fn expectation(expect: &str, text: impl Fn(&str) -> String) -> Expect {
    match expect.split_once(' ') {
        None if expect == "broken" => Expect::Broken,
        None if expect == "refused" => Expect::Refused { statuses: Vec::new(), open: true },
        None => Expect::Refused { statuses: statuses(expect), open: false },
        Some((codes, "open")) => Expect::Refused { statuses: statuses(codes), open: true },
        Some((method, rest)) => {
            let (target, body) = rest.split_once(' ').unwrap_or((rest, ""));
            Expect::Forwarded { method: text(method), target: text(target), body: text(body) }
        }
    }
}

fn statuses(text: &str) -> Vec<u16> {
    text.split('/').map(|status| status.parse().unwrap()).collect()
}

/// Puts in `{host}` and `{a*9000}`.
fn fill(text: &str, host: &str) -> String {
    let mut text = text.replace("{host}", host);
    while let Some(star) = text.find('*').filter(|star| *star >= 2 && text.as_bytes()[star - 2] == b'{') {
        let end = star + text[star..].find('}').unwrap();
        let count = text[star + 1..end].parse().unwrap();
        let repeated = text[star - 1..star].repeat(count);
        text.replace_range(star - 2..=end, &repeated);
    }
    text
}

fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        bytes.push(match rest.next() {
            Some(b'r') => b'\r',
            Some(b'n') => b'\n',
            Some(b't') => b'\t',
            Some(b'0') => 0,
            Some(b'\\') => b'\\',
            Some(b'x') => {
                let digits = [rest.next().unwrap(), rest.next().unwrap()];
                u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap()
            }
            other => panic!("no escape: {other:?} in {text}"),
        });
    }
    bytes
}
