//! What is wrong with a file, each problem with its line, all at once.

use std::{cell::RefCell, fmt, ops::Range};

use super::Source;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// From 1; 0 if it is about the file as a whole.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// What, and what to write instead.
    pub text: String,
}

/// Everything that is wrong with a file, in its order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems {
    /// The file's path as given.
    pub file: String,
    /// At least one.
    pub problems: Vec<Problem>,
    /// The file is right, and components that it names are refused.
    pub of_components: bool,
}

impl Problems {
    /// Places what was found in the file's text.
    pub fn new(source: &Source, found: Vec<(Range<usize>, String)>) -> Self {
        let mut found = found;
        found.sort_by_key(|(span, _)| span.start);
        let problems =
            found.into_iter().map(|(span, text)| Problem::new(&source.text, &span, text)).collect();
        Self { file: source.name.clone(), problems, of_components: false }
    }
}

impl Problem {
    fn new(file: &str, span: &Range<usize>, text: String) -> Self {
        if span.is_empty() && span.start == 0 {
            return Self { line: 0, column: 0, text };
        }
        let before = file.get(..span.start.min(file.len())).unwrap_or(file);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Self {
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            text,
        }
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (nth, Problem { line, column, text }) in self.problems.iter().enumerate() {
            if nth > 0 {
                writeln!(f)?;
            }
            match line {
                0 => write!(f, "{}: {text}", self.file)?,
                _ => write!(f, "{}:{line}:{column}: {text}", self.file)?,
            }
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// Problems as they are found.
#[derive(Debug, Default)]
pub(super) struct Found(RefCell<Vec<(Range<usize>, String)>>);

impl Found {
    /// Notes one.
    pub(super) fn add(&self, span: Range<usize>, text: impl Into<String>) {
        self.0.borrow_mut().push((span, text.into()));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.borrow().is_empty()
    }

    /// An error if there are any.
    pub(super) fn into_result(self, source: &Source) -> Result<(), Problems> {
        let found = self.0.into_inner();
        if found.is_empty() { Ok(()) } else { Err(Problems::new(source, found)) }
    }
}
