//! Something that is wrong with a file or with a component that it names, and where in the file that is.

use std::ops::Range;

use crate::config::file::{Problems, Source};

/// One thing that is wrong.
pub(super) struct Problem {
    span: Range<usize>,
    text: String,
    of_component: bool,
}

impl Problem {
    /// The file says something that cannot be.
    pub(super) fn of_file(span: &Range<usize>, text: String) -> Self {
        Self { span: span.clone(), text, of_component: false }
    }

    /// The component that it names there is refused.
    pub(super) fn of_component(span: &Range<usize>, text: String) -> Self {
        Self { span: span.clone(), text, of_component: true }
    }
}

/// All of them, with their lines.
pub(super) fn problems(source: &Source, all: Vec<Problem>) -> Problems {
    let of_components = all.iter().all(|problem| problem.of_component);
    let found = all.into_iter().map(|Problem { span, text, .. }| (span, text)).collect();
    Problems { of_components, ..Problems::new(source, found) }
}
