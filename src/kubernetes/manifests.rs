//! A file of manifests with the sidecar put into its pods, or taken out of them.

use serde_json::{Map, Value};

use super::emit::Emitter;
use super::object::{self, Holder, Report};
use super::pod;
use super::problem::Problem;
use super::references;
use super::sidecar::Sidecar;
use super::splice::{self, Edit};
use super::yaml::{self, Node};

/// Whether the sidecar comes or goes.
#[derive(Clone, Copy, Debug)]
pub enum Direction<'a> {
    /// It is put into each pod.
    In(&'a Sidecar),
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
    /// What may be wrong, and nobody can tell from the file alone.
    pub notes: Vec<String>,
}

/// Reads `text`, which may hold several documents, lists and objects of any kind, in YAML or JSON, and writes it with the pods
/// changed. Lines that need not change stay as they are; a document that is written so that this cannot be done (with
/// an anchor in a pod that stands elsewhere for what must not change, say) is written anew, in the same order and without its comments.
///
/// # Errors
/// Every [`Problem`]; then nothing is written.
pub fn rewrite(text: &[u8], direction: Direction<'_>) -> Result<Rewritten, Vec<Problem>> {
    let text = decoded(text).map_err(|problem| vec![problem])?;
    let (mark, text) = text.strip_prefix(BYTE_ORDER_MARK).map_or(("", text), |text| (BYTE_ORDER_MARK, text));
    let readable = yaml::with_whole_characters(text);
    let documents = yaml::documents(&readable).map_err(|problem| vec![problem])?;
    let old: Vec<Value> = documents.iter().map(Node::value).collect();
    let mut new = old.clone();
    let (mut reports, mut problems) = (Vec::new(), Vec::new());
    let configurations = references::configurations(&old);
    for (at, object) in new.iter_mut().enumerate() {
        let mut found = Vec::new();
        let mut change = |pod: &mut Map<String, Value>, holder: &Holder<'_>| match direction {
            Direction::In(sidecar) => pod::add(pod, sidecar, holder.is_job, |config_map| {
                configurations.get(&(holder.namespace, config_map)).cloned().unwrap_or_default()
            }),
            Direction::Out => pod::remove(pod).map(|()| None),
        };
        object::each_pod(object, &mut change, &mut reports, &mut found);
        problems.extend(found.into_iter().map(|problem| problem.in_document(at + 1)));
    }
    let mut notes = match direction {
        Direction::In(_) => references::check(&new, &mut problems),
        Direction::Out => Vec::new(),
    };
    if !problems.is_empty() {
        return Err(problems);
    }
    let written = if old == new {
        text.to_owned()
    } else {
        let (written, anew) = write(&readable, &documents, &old, &new);
        notes.extend(anew.into_iter().map(|number| {
            format!(
                "document {number} was written anew, without its comments and anchors: it cannot be edited as it stands"
            )
        }));
        written
    };
    Ok(Rewritten { text: mark.to_owned() + &written, reports, notes })
}

fn decoded(text: &[u8]) -> Result<&str, Problem> {
    std::str::from_utf8(text).map_err(|error| {
        if text.starts_with(b"\xff\xfe") || text.starts_with(b"\xfe\xff") {
            return Problem::at("", "it is in UTF-16 and must be in UTF-8");
        }
        let line = text[..error.valid_up_to()].split(|byte| *byte == b'\n').count();
        Problem::at(format!("line {line}"), "it is not in UTF-8")
    })
}

/// The text that means `new`: by edits where that can be done, else with the documents where it cannot written anew; they are numbered.
fn write(text: &str, nodes: &[Node], old: &[Value], new: &[Value]) -> (String, Vec<usize>) {
    let newline = ["\r\n", "\n", "\r"].into_iter().find(|end| text.contains(end)).unwrap_or("\n");
    let edits: Vec<Option<Vec<Edit>>> =
        (0..nodes.len()).map(|at| splice::edits(text, newline, &nodes[at], &old[at], &new[at])).collect();
    let mut anew: Vec<bool> = edits.iter().map(Option::is_none).collect();
    // Nearly always all edits are right, and one look at the whole says so.
    let mut written = None;
    for _ in 0..MOST_LOOKS {
        let whole: Vec<Edit> = (0..nodes.len())
            .filter(|at| anew[*at])
            .map(|at| whole(text, newline, &nodes[at], &new[at]))
            .collect();
        let edits =
            edits.iter().zip(&anew).filter(|(_, anew)| !**anew).filter_map(|(edits, _)| edits.as_ref());
        let Some(edited) = splice::edited(text, edits.flatten().chain(&whole)) else { break };
        let wrong = wrong(&edited, new);
        if wrong.is_empty() {
            written = Some(edited);
            break;
        }
        if wrong.iter().any(|&at| anew.get(at) != Some(&false)) {
            break;
        }
        for at in wrong {
            anew[at] = true;
        }
    }
    let written = written.unwrap_or_else(|| {
        // Directives and such things between the documents are what is left to be in the way.
        anew.fill(true);
        nodes.iter().zip(new).fold(String::new(), |all, (node, value)| {
            all + "---" + newline + &Emitter::new(text).block(value, Some(node)).join(newline) + newline
        })
    });
    (written, (1..).zip(anew).filter(|(_, anew)| *anew).map(|(number, _)| number).collect())
}

/// The documents of `text`, counted from 0, that do not mean what `values` says; where the first of them makes the rest unreadable, it alone.
fn wrong(text: &str, values: &[Value]) -> Vec<usize> {
    match yaml::documents(text) {
        Err(problem) => vec![problem.document.unwrap_or_default().saturating_sub(1)],
        Ok(nodes) if nodes.len() != values.len() => (0..values.len()).collect(),
        Ok(nodes) => (0..values.len()).filter(|&at| nodes[at].value() != values[at]).collect(),
    }
}

/// The edit that writes a whole document anew.
fn whole(text: &str, newline: &str, node: &Node, value: &Value) -> Edit {
    let line = splice::line_start(text, node.start);
    let with = Emitter::new(text).block(value, Some(node)).join(newline);
    // Behind `---`, or behind an anchor of the document's own, which nobody needs any more.
    let (start, with) = match text[line..node.start].strip_prefix("---") {
        Some(_) => (line + 3, newline.to_owned() + &with),
        None => (line, with),
    };
    Edit { start, end: node.end, with }
}

/// How often a file is read again to find the documents that cannot be edited.
const MOST_LOOKS: usize = 16;
const BYTE_ORDER_MARK: &str = "\u{feff}";
