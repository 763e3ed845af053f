//! The way to a file, as the kernel goes it: each name that decides where it leads, through folders, links and what those
//! lead to.

use std::{
    collections::VecDeque,
    ffi::{OsStr, OsString},
    fs, io, mem,
    path::{Component, Path, PathBuf},
};

/// A way that is being gone.
pub(super) struct Way {
    /// As far as it has been: a folder, with no link in its path.
    folder: PathBuf,
    /// Names to go through from there.
    rest: VecDeque<OsString>,
    links: usize,
}

/// What a name is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// A folder on the way.
    Folder,
    Link,
    /// The file, or nothing.
    End,
}

impl Way {
    pub(super) fn to(path: &Path) -> io::Result<Self> {
        let mut way = Self { folder: PathBuf::from("/"), rest: VecDeque::new(), links: 0 };
        way.turn(&std::path::absolute(path)?);
        Ok(way)
    }

    /// The next name, and the folder that it stands in. To go on takes [`follow`](Self::follow): whoever is to learn of
    /// what changes has to listen there before it is looked at what the name is.
    pub(super) fn next(&mut self) -> Option<(PathBuf, OsString)> {
        loop {
            let name = self.rest.pop_front()?;
            if name != ".." {
                return Some((self.folder.clone(), name));
            }
            self.folder.pop();
        }
    }

    /// Goes where this name leads.
    pub(super) fn follow(&mut self, name: &OsStr) -> Step {
        match fs::read_link(self.folder.join(name)) {
            Ok(target) if self.links < LINKS_MAX => {
                self.links += 1;
                self.turn(&target);
                Step::Link
            }
            Err(error) if error.kind() == io::ErrorKind::InvalidInput && !self.rest.is_empty() => {
                self.folder.push(name);
                Step::Folder
            }
            Ok(_) | Err(_) => {
                self.rest.clear();
                Step::End
            }
        }
    }

    /// Goes this path first.
    fn turn(&mut self, path: &Path) {
        let after = mem::take(&mut self.rest);
        for component in path.components() {
            match component {
                Component::RootDir => self.folder = PathBuf::from("/"),
                Component::Normal(name) => self.rest.push_back(name.to_owned()),
                Component::ParentDir => self.rest.push_back("..".into()),
                Component::CurDir | Component::Prefix(_) => {}
            }
        }
        self.rest.extend(after);
    }
}

/// As many as the kernel follows.
const LINKS_MAX: usize = 40;

#[cfg(test)]
mod tests;
