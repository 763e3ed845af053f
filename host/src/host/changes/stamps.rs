//! Files as they were at a moment: cheap to take, and other ones after every change.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use crate::config::file::Named;

/// Each with its stamp; none if it is not there, or out of reach.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Stamps(BTreeMap<PathBuf, Option<Stamp>>);

/// What no two versions of a file have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    /// Device and inode: one that was put in its place is another.
    file: (u64, u64),
    /// Of a file: how long it is, when it was written, and when anything about it changed. Of a folder nothing, as what
    /// lies in it is the guests'.
    content: Option<(u64, [i64; 4])>,
}

/// What has become of files since.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Difference {
    /// They are others now, or have come.
    pub(super) changed: BTreeSet<PathBuf>,
    pub(super) gone: BTreeSet<PathBuf>,
}

impl Stamps {
    pub(super) fn of(named: &Named) -> Self {
        let files = named.files.iter().map(|path| (path.clone(), Self::of_file(path)));
        let folder = |path| Some(Stamp { content: None, ..Self::of_file(path)? });
        let folders = named.folders.iter().map(|path| (path.clone(), folder(path)));
        Self(files.chain(folders).collect())
    }

    pub(super) fn of_file(path: &Path) -> Option<Stamp> {
        let about = fs::metadata(path).ok()?;
        let times = [about.mtime(), about.mtime_nsec(), about.ctime(), about.ctime_nsec()];
        Some(Stamp { file: (about.dev(), about.ino()), content: Some((about.len(), times)) })
    }

    /// With one that was taken before.
    pub(super) fn with(mut self, path: &Path, stamp: Option<Stamp>) -> Self {
        self.0.insert(path.to_owned(), stamp);
        self
    }

    /// What is otherwise now.
    pub(super) fn beside(&self, now: &Self) -> Difference {
        let mut difference = Difference::default();
        for (path, stamp) in &now.0 {
            let before = self.0.get(path).copied().flatten();
            match (before, stamp) {
                (Some(_), None) => difference.gone.insert(path.clone()),
                (before, stamp) if before != *stamp => difference.changed.insert(path.clone()),
                _ => false,
            };
        }
        difference
    }
}
