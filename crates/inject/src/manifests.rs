//! A file of manifests with the sidecar put into its pods, or taken out of them.

use std::borrow::Cow;
use std::ffi::OsString;
use std::hash::{DefaultHasher, Hash, Hasher};

use serde_json::{Map, Value};

use super::emit::Emitter;
use super::object::{self, Findings, Holder, Report};
use super::pod;
use super::problem::Problem;
use super::readable::readable;
use super::references::References;
use super::sidecar::Sidecar;
use super::splice::{self, Edit};
use super::yaml::{Document, Documents, Kind, LONGEST, Node};

/// What is wrong with the text of a `config.toml`, as a sidecar with these variables reads it.
pub type CheckConfig = fn(&str, Vec<(OsString, OsString)>) -> Vec<String>;

/// Whether the sidecar comes or goes.
#[derive(Clone, Copy, Debug)]
pub enum Direction<'a> {
    /// It is put into each pod, and its configuration is checked where the file has it.
    In(&'a Sidecar, CheckConfig),
    /// It is taken out of each.
    Out,
}

/// What a file became.
#[derive(Clone, Debug)]
pub struct Rewritten {
    /// The file; byte for byte as it was where nothing changed.
    pub text: String,
    /// What became of each object that holds pods, in the file's order.
    pub reports: Vec<Report>,
    /// What may be wrong, and cannot be told from the file alone.
    pub notes: Vec<String>,
}

/// Reads `text`, which may hold several documents, lists and objects of any kind, in YAML or JSON, and writes it with the pods
/// changed. Lines that need not change stay as they are; a document that is written so that this cannot be done (with
/// an anchor in a pod that stands elsewhere for what must not change, say) is written anew, in the same order and without its comments.
///
/// # Errors
/// Every [`Problem`]; then nothing is written.
pub fn rewrite(text: &[u8], direction: Direction<'_>) -> Result<Rewritten, Vec<Problem>> {
    let decoded = decoded(text).map_err(|problem| vec![problem])?;
    let text = decoded.as_ref();
    if text.len() > LONGEST {
        return Err(vec![Problem::at("", "it has more than 4 GiB; help: split it")]);
    }
    let (mark, text) = text.strip_prefix(BYTE_ORDER_MARK).map_or(("", text), |text| (BYTE_ORDER_MARK, text));
    let readable = readable(text);
    let mut stream = Documents::new(&readable);
    let (mut documents, mut unreadable) = (Vec::new(), Vec::new());
    for document in &mut stream {
        match document {
            Ok(document) => documents.push(document),
            Err(problem) => unreadable.push(problem),
        }
    }
    let mut file = File::new(text, direction);
    file.findings.problems = unreadable;
    file.findings.notes = stream.duplicates();
    for document in &documents {
        file.references.note(document);
    }
    // The trees of a large file are several times its size: each goes when it has been looked at.
    let edited: Vec<Edited> = documents.into_iter().map(|document| file.edit(&document)).collect();
    let Findings { reports, problems, mut notes } = file.findings;
    if !problems.is_empty() {
        return Err(problems);
    }
    if matches!(decoded, Cow::Owned(_)) {
        notes.push("it is in UTF-16, and is written in UTF-8".to_owned());
    }
    let is_same = |edited: &Edited| edited.edits.as_ref().is_some_and(Vec::is_empty);
    let written = if edited.iter().all(is_same) {
        text.to_owned()
    } else {
        let (written, anew) = write(text, &readable, edited, direction);
        notes.extend(anew.into_iter().map(|number| {
            format!(
                "document {number} was written anew, without its comments and anchors: it cannot be edited as it stands"
            )
        }));
        written
    };
    let text = if mark.is_empty() { written } else { mark.to_owned() + &written };
    Ok(Rewritten { text, reports, notes })
}

/// The text in UTF-8. What a byte order mark says is in UTF-16, as of a shell that writes files so, is read as that.
fn decoded(text: &[u8]) -> Result<Cow<'_, str>, Problem> {
    let unit: Option<fn([u8; 2]) -> u16> = match text {
        [0xff, 0xfe, ..] => Some(u16::from_le_bytes),
        [0xfe, 0xff, ..] => Some(u16::from_be_bytes),
        _ => None,
    };
    if let Some(unit) = unit {
        let (pairs, rest) = text[2..].as_chunks();
        let units: Vec<u16> = pairs.iter().map(|pair| unit(*pair)).collect();
        let read = String::from_utf16(&units).ok().filter(|_| rest.is_empty());
        return read.map(Cow::Owned).ok_or_else(|| Problem::at("", "it begins as UTF-16 and is broken"));
    }
    std::str::from_utf8(text).map(Cow::Borrowed).map_err(|error| {
        let line = text[..error.valid_up_to()].split(|byte| *byte == b'\n').count();
        Problem::at(format!("line {line}"), "it is not in UTF-8")
    })
}

/// A file that is read, object by object.
struct File<'a> {
    text: &'a str,
    newline: &'static str,
    direction: Direction<'a>,
    references: References,
    findings: Findings,
}

/// What becomes of a document.
struct Edited {
    /// `None`: it cannot be edited as it stands.
    edits: Option<Vec<Edit>>,
    /// Of what it is to mean.
    meaning: u64,
}

impl<'a> File<'a> {
    /// The same, which knows what the documents of `readable` hold.
    fn read(text: &'a str, readable: &str, direction: Direction<'a>) -> Self {
        let mut file = Self::new(text, direction);
        for document in Documents::new(readable).flatten() {
            file.references.note(&document);
        }
        file
    }

    fn new(text: &'a str, direction: Direction<'a>) -> Self {
        let newline = ["\r\n", "\n", "\r"].into_iter().find(|end| text.contains(end)).unwrap_or("\n");
        let (references, findings) = (References::default(), Findings::default());
        Self { text, newline, direction, references, findings }
    }

    /// What makes a document mean what it is to mean.
    fn edit(&mut self, document: &Document<'_>) -> Edited {
        let mut edits = Some(Vec::new());
        let meaning = meaning(&document.node, &mut |node| {
            let old = node.value();
            let mut new = old.clone();
            self.change(&mut new, document.number);
            if old != new {
                let more = splice::edits(self.text, self.newline, node, &old, &new);
                edits = edits.take().zip(more).map(|(mut edits, more)| {
                    edits.extend(more);
                    edits
                });
            }
            new
        });
        let meaning = meaning.unwrap_or_else(|problem| {
            self.findings.problems.push(problem.in_document(document.number));
            0
        });
        let ordered = |edits: &Vec<Edit>| edits.is_sorted_by(|before, after| before.end <= after.start);
        Edited { edits: edits.filter(ordered), meaning }
    }

    fn change(&mut self, object: &mut Value, number: usize) {
        let known = self.findings.problems.len();
        let (direction, references) = (self.direction, &self.references);
        let change = |pod: &mut Map<String, Value>, holder: &Holder<'_>| match direction {
            Direction::In(sidecar, _) => pod::add(pod, sidecar, holder.is_job, |config_map| {
                references.configuration(holder.namespace, config_map)
            }),
            Direction::Out => pod::remove(pod).map(|()| None),
        };
        object::change_pod(object, change, &mut self.findings);
        for problem in &mut self.findings.problems[known..] {
            problem.document = Some(number);
        }
        if let (Direction::In(_, check), Value::Object(fields)) = (direction, object) {
            self.references.check(fields, check, &mut self.findings);
        }
    }

    /// What a document is to mean, as a whole.
    fn changed(&mut self, node: &Node<'_>) -> Value {
        let Some(Ok(items)) = object::items(node) else {
            let mut value = node.value();
            self.change(&mut value, 0);
            return value;
        };
        let entries = node.keys().into_iter().filter_map(|key| {
            let value = if key == "items" {
                items.iter().map(|item| self.changed(item)).collect()
            } else {
                node.entry(key)?.value.value()
            };
            Some((key.to_owned(), value))
        });
        Value::Object(entries.collect())
    }
}

/// A digest of what `node` means once `change` has been done to each object in it, which are looked at one by one.
fn meaning<F>(node: &Node<'_>, change: &mut F) -> Result<u64, Problem>
where
    F: FnMut(&Node<'_>) -> Value,
{
    let mut digest = DefaultHasher::new();
    let Some(items) = object::items(node) else {
        change(node).hash(&mut digest);
        return Ok(digest.finish());
    };
    let head = object::head(node);
    object::check_kind(&head).map_err(|problem| problem.of(&object::named(&head)))?;
    let mut keys = node.keys();
    keys.sort_unstable();
    for key in keys.into_iter().filter(|key| *key != "items") {
        (key, node.entry(key).map(|entry| entry.value.value())).hash(&mut digest);
    }
    for (at, item) in items?.iter().enumerate() {
        if !matches!(item.resolved().kind, Kind::Mapping { .. }) {
            let says = "it must be an object";
            return Err(Problem::at(format!("items[{at}]"), says).of(&object::named(&head)));
        }
        meaning(item, change)?.hash(&mut digest);
    }
    Ok(digest.finish())
}

/// The text with all edits, or with the documents that cannot be edited written anew; their numbers.
fn write(text: &str, readable: &str, edited: Vec<Edited>, direction: Direction<'_>) -> (String, Vec<usize>) {
    let meanings: Vec<u64> = edited.iter().map(|document| document.meaning).collect();
    let mut anew: Vec<bool> = edited.iter().map(|document| document.edits.is_none()).collect();
    let mut edited = Some(edited);
    // Nearly always all edits are right, and one look at the whole says so. They are not kept for it: they may be as large as the text.
    for _ in 0..MOST_LOOKS {
        let mut file = File::read(text, readable, direction);
        let edited = edited.take().unwrap_or_else(|| {
            Documents::new(readable).flatten().map(|document| file.edit(&document)).collect()
        });
        let mut edits: Vec<Edit> = (edited.into_iter().zip(&anew).filter(|(_, anew)| !**anew))
            .filter_map(|(document, _)| document.edits)
            .flatten()
            .collect();
        if anew.contains(&true) {
            let documents = Documents::new(readable).flatten().zip(&anew).filter(|(_, anew)| **anew);
            edits.extend(documents.map(|(document, _)| whole(&mut file, &document.node)));
        }
        let Some(written) = splice::edited(text, &edits) else { break };
        drop(edits);
        let wrong = wrong(&written, &meanings);
        if wrong.is_empty() {
            return (written, numbers(&anew));
        }
        if wrong.iter().any(|&at| anew.get(at) != Some(&false)) {
            break;
        }
        for at in wrong {
            anew[at] = true;
        }
    }
    // Directives and such things between the documents are what is left to be in the way.
    anew.fill(true);
    let mut file = File::read(text, readable, direction);
    let written = Documents::new(readable).flatten().fold(String::new(), |all, document| {
        let value = file.changed(&document.node);
        let lines = Emitter::new(text).block(&value, Some(&document.node));
        all + "---" + file.newline + &lines.join(file.newline) + file.newline
    });
    (written, numbers(&anew))
}

/// The numbers of the documents that are written anew.
fn numbers(anew: &[bool]) -> Vec<usize> {
    (1..).zip(anew).filter(|(_, anew)| **anew).map(|(number, _)| number).collect()
}

/// The documents of `text`, counted from 0, that do not mean what they are to; where the first of them makes the rest unreadable, it alone.
fn wrong(text: &str, meanings: &[u64]) -> Vec<usize> {
    let text = readable(text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text));
    let (mut wrong, mut count) = (Vec::new(), 0);
    for document in Documents::new(&text) {
        let Ok(document) = document else { return vec![count] };
        let found = meaning(&document.node, &mut |node| node.value()).ok();
        if found != meanings.get(count).copied() {
            wrong.push(count);
        }
        count += 1;
    }
    if count == meanings.len() { wrong } else { (0..meanings.len()).collect() }
}

/// The edit that writes a whole document anew.
fn whole(file: &mut File<'_>, node: &Node<'_>) -> Edit {
    let value = file.changed(node);
    let (text, newline) = (file.text, file.newline);
    let line = splice::line_start(text, node.start());
    let with = Emitter::new(text).block(&value, Some(node)).join(newline);
    // Behind `---`, or behind an anchor of the document's own, which no other needs.
    let (start, with) = match text[line..node.start()].strip_prefix("---") {
        Some(_) => (line + 3, newline.to_owned() + &with),
        None => (line, with),
    };
    Edit { start, end: node.end(), with }
}

/// How often a file is read again to find the documents that cannot be edited.
const MOST_LOOKS: usize = 16;
const BYTE_ORDER_MARK: &str = "\u{feff}";
