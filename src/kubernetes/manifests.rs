//! A file of manifests with the sidecar put into its pods, or taken out of them.

use serde_json::Value;

use super::emit;
use super::object::{self, Outcome, Report};
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
/// anchors that pods share, say) is written anew, in the same order and without its comments.
///
/// # Errors
/// Every [`Problem`]; then nothing is written.
pub fn rewrite(text: &str, direction: Direction<'_>) -> Result<Rewritten, Vec<Problem>> {
    let (mark, text) = text.strip_prefix(BYTE_ORDER_MARK).map_or(("", text), |text| (BYTE_ORDER_MARK, text));
    let readable = yaml::with_whole_characters(text);
    let documents = yaml::documents(&readable).map_err(|problem| vec![problem])?;
    let old: Vec<Value> = documents.iter().map(Node::value).collect();
    let mut new = old.clone();
    let (mut reports, mut problems) = (Vec::new(), Vec::new());
    for (at, object) in new.iter_mut().enumerate() {
        let mut found = Vec::new();
        match direction {
            Direction::In(sidecar) => object::inject(object, sidecar, &mut reports, &mut found),
            Direction::Out => object::uninject(object, &mut reports, &mut found),
        }
        problems.extend(found.into_iter().map(|problem| problem.in_document(at + 1)));
    }
    let mut notes = Vec::new();
    if matches!(direction, Direction::In(_)) {
        notes = references::check(&new, &mut problems);
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let changed = reports.iter().any(|report| report.outcome == Outcome::Changed);
    let written = if changed { write(&readable, &documents, &old, &new) } else { text.to_owned() };
    Ok(Rewritten { text: mark.to_owned() + &written, reports, notes })
}

/// The text that means `new`: by edits where that can be done, else with the documents where it cannot written anew.
fn write(text: &str, nodes: &[Node], old: &[Value], new: &[Value]) -> String {
    let newline = if text.contains("\r\n") { "\r\n" } else { "\n" };
    let changed: Vec<usize> = (0..nodes.len()).filter(|at| old[*at] != new[*at]).collect();
    let edits: Vec<Option<Vec<Edit>>> =
        changed.iter().map(|&at| splice::edits(text, newline, &nodes[at], &old[at], &new[at])).collect();
    // Nearly always all of them are right, and one look at the whole says so.
    if edits.iter().all(Option::is_some)
        && let Some(written) = meaning(splice::edited(text, edits.iter().flatten().flatten()), new)
    {
        return written;
    }
    let right = changed.iter().zip(edits).flat_map(|(&at, edits)| {
        let mut alone = old.to_vec();
        new[at].clone_into(&mut alone[at]);
        let edits = edits.filter(|edits| meaning(splice::edited(text, edits), &alone).is_some());
        edits.unwrap_or_else(|| vec![anew(text, newline, &nodes[at], &new[at])])
    });
    let right: Vec<Edit> = right.collect();
    meaning(splice::edited(text, &right), new).unwrap_or_else(|| {
        // Directives and such things between the documents are what is left to be in the way.
        new.iter().fold(String::new(), |all, value| all + "---\n" + &emit::block(value).join("\n") + "\n")
    })
}

/// `text`, where it is there and means `values`.
fn meaning(text: Option<String>, values: &[Value]) -> Option<String> {
    text.filter(|text| {
        yaml::documents(text).is_ok_and(|nodes| {
            nodes.len() == values.len()
                && nodes.iter().zip(values).all(|(node, value)| node.value() == *value)
        })
    })
}

/// The edit that writes a whole document anew.
fn anew(text: &str, newline: &str, node: &Node, value: &Value) -> Edit {
    let line = splice::line_start(text, node.start);
    let with = emit::block(value).join(newline);
    // Behind `---`, or behind an anchor of the document's own, which nobody needs any more.
    let (start, with) = match text[line..node.start].strip_prefix("---") {
        Some(_) => (line + 3, newline.to_owned() + &with),
        None => (line, with),
    };
    Edit { start, end: node.end, with }
}

const BYTE_ORDER_MARK: &str = "\u{feff}";
