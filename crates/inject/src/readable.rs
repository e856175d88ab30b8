//! Text as YAML 1.1 has it, which kubectl and most tools read, spelled so that a reader of YAML 1.2 means the same.
//!
//! Every change keeps its length: a place in the one is the same place in the other. The text itself is never written so.

use std::borrow::Cow;
use std::ops::Range;

use granit_parser::{ErrorKind, Event, Options, Parser, StructureStyle};

/// `text` itself, or with blanks in place of what YAML 1.1 reads over.
pub(super) fn readable(text: &str) -> Cow<'_, str> {
    let mut readable = without_inner_marks(text);
    // What follows is looked for only where it may be.
    let tabs = readable.lines().any(|line| line.trim_start_matches(' ').starts_with('\t'));
    if tabs || [",#", "[#", "{#"].iter().any(|tight| readable.contains(tight)) {
        for _ in 0..MOST_FAULTS {
            let Some(blank) = fault(&readable) else { break };
            let blanks = " ".repeat(blank.len());
            readable.to_mut().replace_range(blank, &blanks);
        }
    }
    readable
}

/// A byte order mark where a document begins, as files have it that were put behind each other.
fn without_inner_marks(text: &str) -> Cow<'_, str> {
    let mut readable = Cow::Borrowed(text);
    for (at, mark) in text.match_indices(MARK) {
        let (before, after) = (&text[..at], &text[at + mark.len()..]);
        let after_a_line =
            before.ends_with('\n') && before.lines().next_back().is_some_and(|line| line.trim() == "---");
        if after_a_line || (before.ends_with('\n') && after.starts_with("---")) {
            readable.to_mut().replace_range(at..at + mark.len(), "\n\n\n");
        }
    }
    readable
}

/// The first thing in a flow collection that only YAML 1.1 reads: a comment right behind a comma or a bracket, or a tab at the beginning
/// of a line.
fn fault(text: &str) -> Option<Range<usize>> {
    let mut options = Options::default();
    options.set_emit_comments(false);
    let mut parser = Parser::new_from_str_with_options(text, options);
    let mut flow = 0u32;
    loop {
        match parser.next_event()? {
            Ok((
                Event::SequenceStart(StructureStyle::Flow, ..)
                | Event::MappingStart(StructureStyle::Flow, ..),
                _,
            )) => {
                flow += 1;
            }
            Ok((Event::SequenceStart(..) | Event::MappingStart(..), _)) if flow > 0 => flow += 1,
            Ok((Event::SequenceEnd | Event::MappingEnd, _)) => flow = flow.saturating_sub(1),
            Ok(_) => {}
            Err(error) => {
                let at = error.marker().byte_offset()?;
                let found = match error.kind() {
                    ErrorKind::CommentNotSeparated => comment(text, at),
                    ErrorKind::TabInBlockIndentation | ErrorKind::TabNotAllowed if flow > 0 => tab(text, at),
                    _ => None,
                };
                if found.is_some() {
                    return found;
                }
                flow = 0;
                if !parser.proceed_next_document().unwrap_or(false) {
                    return None;
                }
            }
        }
    }
}

/// The comment around `at` that begins right behind a comma or a bracket.
fn comment(text: &str, at: usize) -> Option<Range<usize>> {
    let line = text[..at].rfind('\n').map_or(0, |newline| newline + 1);
    let end = text[at..].find(['\r', '\n']).map_or(text.len(), |end| at + end);
    // The parser may have gone past the mark.
    let mark = if text[at..].starts_with('#') { at } else { line + text[line..at].rfind('#')? };
    text[..mark].ends_with([',', '[', '{']).then_some(mark..end)
}

/// What stands before the words of the line that `at` is on, where a tab is in it.
fn tab(text: &str, at: usize) -> Option<Range<usize>> {
    let line = text[..at].rfind('\n').map_or(0, |newline| newline + 1);
    let words = text[line..].find(|c: char| c != ' ' && c != '\t').map_or(text.len(), |words| line + words);
    text[line..words].contains('\t').then_some(line..words)
}

const MARK: &str = "\u{feff}";
/// Each costs a look at the whole text.
const MOST_FAULTS: usize = 256;

#[cfg(test)]
mod tests {
    use super::readable;

    #[test]
    fn what_only_yaml_1_1_reads_becomes_blanks() {
        for (text, becomes) in [
            ("a: [x,#one\n  y]\n", "a: [x,    \n  y]\n"),
            ("a: [#one\n  y]\n", "a: [    \n  y]\n"),
            ("b:\n  a: [\n\t\t\"x\",\n \t\"y\"\n\t]\n", "b:\n  a: [\n  \"x\",\n  \"y\"\n ]\n"),
            ("a: 1\n---\n\u{feff}b: 2\n", "a: 1\n---\n\n\n\nb: 2\n"),
            ("a: 1\n\u{feff}---\nb: 2\n", "a: 1\n\n\n\n---\nb: 2\n"),
            // These are words, and a tab that kubectl does not read either.
            ("a: [x#y,\"z,#z\"]\n", "a: [x#y,\"z,#z\"]\n"),
            ("a: |\n  [,#x\n  \tx\n", "a: |\n  [,#x\n  \tx\n"),
            ("a:\n\tb: 1\n", "a:\n\tb: 1\n"),
            ("a: \"\u{feff}\"\n", "a: \"\u{feff}\"\n"),
        ] {
            assert_eq!(readable(text), becomes, "{text}");
        }
    }
}
