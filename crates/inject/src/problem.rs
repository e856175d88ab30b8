//! What is wrong with a manifest, and where.

use std::fmt;

/// What is wrong with one object of a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Of the file, counted from 1; `None` where there is no file.
    pub document: Option<usize>,
    /// `Deployment shop/orders`; empty where it was not read so far.
    pub object: String,
    /// `spec.template.spec.containers[0].ports[1]`; empty where it is the object as a whole.
    pub field: String,
    /// What is wrong, and how to fix it.
    pub says: String,
}

impl Problem {
    /// One about a field; where the object stands is added by [`Self::of`].
    pub(super) fn at(field: impl Into<String>, says: impl Into<String>) -> Self {
        Self { document: None, object: String::new(), field: field.into(), says: says.into() }
    }

    /// The same, of `object`.
    #[must_use]
    pub(super) fn of(mut self, object: &str) -> Self {
        object.clone_into(&mut self.object);
        self
    }

    /// The same, in the document `number` of its file.
    #[must_use]
    pub(super) fn in_document(mut self, number: usize) -> Self {
        self.document = Some(number);
        self
    }
}

/// All that is wrong with one object; never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Problems(pub(super) Vec<Problem>);

impl From<Problem> for Problems {
    fn from(problem: Problem) -> Self {
        Self(vec![problem])
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, problem) in self.0.iter().enumerate() {
            let between = if at == 0 { "" } else { "; " };
            write!(f, "{between}{problem}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.document, self.object.is_empty()) {
            (Some(number), true) => write!(f, "document {number}: ")?,
            (Some(number), false) => write!(f, "document {number}, {}: ", self.object)?,
            (None, false) => write!(f, "{}: ", self.object)?,
            (None, true) => {}
        }
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        f.write_str(&self.says)
    }
}

impl std::error::Error for Problem {}
