//! What a file names, whether it is right or not: what has to change before it can say something else.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use toml::de::DeTable;

use super::{
    Source,
    problems::Found,
    table::Table,
    tenant::{CommonSection, DefaultsSection, TenantSection},
};

/// It.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Named {
    /// The file itself, and those that are read with it: components and secrets.
    pub files: BTreeSet<PathBuf>,
    /// Those that are granted.
    pub folders: BTreeSet<PathBuf>,
}

impl Named {
    /// By this file, of which it may not be possible to read anything.
    pub fn by(path: &Path) -> Self {
        let mut named = Self::default();
        if let Ok(source) = Source::read(path) {
            named.add_all(&source, path.parent().unwrap_or(Path::new("")));
        }
        named.files.insert(path.to_owned());
        named
    }

    fn add_all(&mut self, source: &Source, folder: &Path) {
        let found = Found::default();
        let (document, _) = DeTable::parse_recoverable(&source.text);
        let table = Table::whole(&document, &found);
        let defaults: DefaultsSection = table.section("defaults", "[defaults]").unwrap_or_default();
        let tenants: Vec<TenantSection> = table.sections("tenant", "[[tenant]]");
        for TenantSection { identity, common, .. } in tenants {
            self.files.extend(identity.component.map(|at| folder.join(at.value)));
            self.add(&common, folder);
        }
        self.add(&defaults.common, folder);
    }

    fn add(&mut self, section: &CommonSection, folder: &Path) {
        let secrets = section.secrets.iter().flat_map(|at| at.value.values());
        self.files.extend(secrets.map(|path| folder.join(path)));
        let dirs = section.dirs.iter().flat_map(|at| &at.value);
        self.folders.extend(dirs.map(|dir| folder.join(&dir.host)));
    }
}
