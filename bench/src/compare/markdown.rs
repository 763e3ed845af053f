//! The places in a Markdown file that the comparison keeps up to date, one for each measure, and its drawings
//! beside it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The lines between the two marks of a measure.
#[derive(Debug)]
pub(crate) struct Section<'a> {
    path: &'a Path,
    name: String,
}

impl<'a> Section<'a> {
    /// Finds it, before anything is measured for it.
    pub(crate) fn find(path: &'a Path, name: String) -> Result<Self> {
        let section = Self { path, name };
        section.read()?;
        Ok(section)
    }

    /// Replaces what is between the marks by a drawing and text. The drawing gets a file in the folder named
    /// as this one.
    pub(super) fn write(&self, drawing: &str, text: &str) -> Result<()> {
        let folder = self.path.with_extension("");
        let file = folder.join(format!("{}.svg", self.name));
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        fs::write(&file, drawing).with_context(|| format!("cannot write {}", file.display()))?;
        let folder = PathBuf::from(folder.file_name().unwrap_or_default());
        let link = format!("![{name}]({folder}/{name}.svg)", name = self.name, folder = folder.display());
        self.write_text(&format!("{link}\n\n{text}"))
    }

    /// Replaces what is between the marks by text.
    pub(crate) fn write_text(&self, text: &str) -> Result<()> {
        let (before, _, after) = self.read()?;
        let text = format!("{before}{}\n{}\n{}{after}", self.begin(), text.trim_end(), self.end());
        fs::write(self.path, text).with_context(|| format!("cannot write {}", self.path.display()))
    }

    /// What is between the marks.
    pub(super) fn text(&self) -> Result<String> {
        Ok(self.read()?.1)
    }

    /// What stands before the marks, between them and after them.
    fn read(&self) -> Result<(String, String, String)> {
        let (begin, end, path) = (self.begin(), self.end(), self.path.display());
        let text = fs::read_to_string(self.path).with_context(|| format!("cannot read {path}"))?;
        let parts = text.split_once(&begin).and_then(|(before, rest)| Some((before, rest.split_once(&end)?)));
        let (before, (between, after)) =
            parts.with_context(|| format!("{path} has no line {begin} with a line {end} below"))?;
        Ok((before.into(), between.into(), after.into()))
    }

    fn begin(&self) -> String {
        format!("<!-- compare {} -->", self.name)
    }

    fn end(&self) -> String {
        format!("<!-- /compare {} -->", self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file of this test's own.
    fn with_file(name: &str, content: &str, test: impl FnOnce(&Path)) {
        let folder = std::env::temp_dir().join(format!("conet-bench-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a writable directory");
        let path = folder.join("figures.md");
        fs::write(&path, content).expect("a writable directory");
        test(&path);
        fs::remove_dir_all(&folder).expect("it was just made");
    }

    #[test]
    fn only_the_text_between_the_marks_is_replaced() {
        let text = "# A\n\n<!-- compare echo -->\nold\n<!-- /compare echo -->\n\n<!-- compare idle -->\n";
        with_file("markdown", text, |path| {
            let section = Section::find(path, "echo".into()).expect("both marks");
            section.write("<svg/>", "new\n").expect("writable");
            let text = fs::read_to_string(path).expect("it was just written");
            let link = "![echo](figures/echo.svg)";
            let expected = format!(
                "# A\n\n<!-- compare echo -->\n{link}\n\nnew\n<!-- /compare echo -->\n\n<!-- compare idle -->\n"
            );
            assert_eq!(text, expected);
            let drawing = fs::read_to_string(path.with_file_name("figures").join("echo.svg"));
            assert_eq!(drawing.expect("it was just written"), "<svg/>");
        });
    }

    #[test]
    fn missing_marks_and_marks_in_the_wrong_order_are_refused() {
        with_file("marks", "<!-- /compare echo --> <!-- compare echo --> <!-- compare idle -->", |path| {
            for name in ["echo", "idle", "start"] {
                let error = Section::find(path, name.into()).expect_err("no section").to_string();
                assert!(error.contains(&format!("no line <!-- compare {name} -->")), "{error}");
            }
        });
    }
}
