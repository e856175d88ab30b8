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
    let documents = match yaml::documents(text) {
        Ok(documents) => documents,
        // Not all of JSON is YAML: characters in two halves (\ud834\udd1e) are not.
        Err(problem) => match serde_json::from_str::<Value>(text) {
            Ok(value) => return rewrite(&format!("{value:#}\n"), direction),
            Err(_) => return Err(vec![problem]),
        },
    };
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
    let written = if changed { write(text, &documents, &old, &new) } else { text.to_owned() };
    Ok(Rewritten { text: mark.to_owned() + &written, reports, notes })
}

/// The text that means `new`: by edits to all documents, else to each by itself, else written anew.
fn write(text: &str, nodes: &[Node], old: &[Value], new: &[Value]) -> String {
    let means = |text: &str, values: &[Value]| {
        yaml::documents(text).is_ok_and(|nodes| {
            nodes.len() == values.len() && nodes.iter().zip(values).all(|(n, v)| n.value() == *v)
        })
    };
    let mut edits: Vec<Edit> = Vec::new();
    for (at, node) in nodes.iter().enumerate().filter(|(at, _)| old[*at] != new[*at]) {
        let mut alone = old.to_vec();
        new[at].clone_into(&mut alone[at]);
        let document = splice::edits(text, node, &old[at], &new[at])
            .filter(|document| splice::edited(text, document).is_some_and(|edited| means(&edited, &alone)));
        edits.extend(document.unwrap_or_else(|| vec![anew(text, node, &new[at])]));
    }
    if let Some(written) = splice::edited(text, &edits).filter(|written| means(written, new)) {
        return written;
    }
    // Directives and such things between the documents are what is left to be in the way.
    new.iter().fold(String::new(), |written, value| written + "---\n" + &emit::block(value).join("\n") + "\n")
}

/// The edit that writes a whole document anew.
fn anew(text: &str, node: &Node, value: &Value) -> Edit {
    let newline = if text.contains("\r\n") { "\r\n" } else { "\n" };
    let line = text[..node.start].rfind('\n').map_or(0, |newline| newline + 1);
    let with = emit::block(value).join(newline);
    // Behind `---`, or behind an anchor of the document's own, which nobody needs any more.
    let before = &text[line..node.start];
    let (start, with) = match before.strip_prefix("---") {
        Some(_) => (line + 3, newline.to_owned() + &with),
        None => (line, with),
    };
    Edit { start, end: node.end, with }
}

const BYTE_ORDER_MARK: &str = "\u{feff}";
