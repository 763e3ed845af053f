//! The place in a Markdown file that the comparison keeps up to date.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The lines between the two marks of a file.
#[derive(Debug)]
pub(super) struct Section {
    path: PathBuf,
    before: String,
    after: String,
}

impl Section {
    /// Finds it, before anything is measured for it.
    pub(super) fn find(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let (before, after) = split(&text)
            .with_context(|| format!("{} has no line {BEGIN} with a line {END} below", path.display()))?;
        Ok(Self { path: path.to_owned(), before: before.into(), after: after.into() })
    }

    /// Replaces what is between the marks.
    pub(super) fn write(&self, text: &str) -> Result<()> {
        let text = format!("{}{BEGIN}\n{}\n{END}{}", self.before, text.trim_end(), self.after);
        fs::write(&self.path, text).with_context(|| format!("cannot write {}", self.path.display()))
    }
}

fn split(text: &str) -> Option<(&str, &str)> {
    let (before, rest) = text.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some((before, after))
}

const BEGIN: &str = "<!-- compare -->";

const END: &str = "<!-- /compare -->";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_text_between_the_marks_is_replaced() {
        let path = std::env::temp_dir().join(format!("conet-bench-markdown-{}", std::process::id()));
        fs::write(&path, "# A\n\n<!-- compare -->\nold\n<!-- /compare -->\n\nend\n")
            .expect("a writable directory");
        Section::find(&path).expect("both marks").write("new\n").expect("writable");
        let text = fs::read_to_string(&path).expect("it was just written");
        fs::remove_file(&path).expect("it was just written");
        assert_eq!(text, "# A\n\n<!-- compare -->\nnew\n<!-- /compare -->\n\nend\n");
    }

    #[test]
    fn marks_in_the_wrong_order_are_refused() {
        assert_eq!(split("<!-- /compare --> <!-- compare -->"), None);
    }
}
