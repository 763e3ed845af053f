//! One table of a file, read key by key. What is left at the end is unknown, and refused.

use std::{cell::RefCell, ops::Range};

use serde_spanned::Spanned;
use toml::de::{DeTable, DeValue};

use super::{
    kind,
    problems::Found,
    section::Read,
    setting::{At, Setting},
};

/// A table that is being read.
pub(super) struct Table<'a> {
    entries: &'a DeTable<'a>,
    /// As a person would find it: `[host]`.
    name: String,
    /// Where it begins.
    span: Range<usize>,
    known: RefCell<Vec<&'static str>>,
    found: &'a Found,
}

impl<'a> Table<'a> {
    /// The file itself.
    pub(super) fn whole(document: &'a Spanned<DeTable<'a>>, found: &'a Found) -> Self {
        Self {
            entries: document.get_ref(),
            name: "the file".to_owned(),
            span: 0..0,
            known: RefCell::default(),
            found,
        }
    }

    /// A value that should be a table.
    pub(super) fn new(value: &'a Spanned<DeValue<'a>>, name: &str, found: &'a Found) -> Option<Self> {
        let span = value.span();
        let DeValue::Table(entries) = value.get_ref() else {
            found.add(span, format!("{name} is a table, and this is {}", kind(value.get_ref())));
            return None;
        };
        Some(Self { entries, name: name.to_owned(), span, known: RefCell::default(), found })
    }

    /// Where it begins.
    pub(super) fn span(&self) -> Range<usize> {
        self.span.clone()
    }

    /// A setting of this table, if it is there and right.
    pub(super) fn take<T: Setting>(&self, key: &'static str) -> Option<At<T>> {
        let value = self.entry(key)?;
        let read = T::read(value, self.found)?;
        Some(At { value: read, span: value.span() })
    }

    /// Is the key there, rightly or wrongly?
    pub(super) fn has(&self, key: &str) -> bool {
        self.entries.keys().any(|name| name.get_ref() == key)
    }

    /// A table in this one.
    pub(super) fn section<S: Read>(&self, key: &'static str, name: &str) -> Option<S> {
        let table = Table::new(self.entry(key)?, name, self.found)?;
        let section = S::read(&table);
        table.finish(S::ABSENT);
        Some(section)
    }

    /// An array of tables in this one.
    pub(super) fn sections<S: Read>(&self, key: &'static str, name: &str) -> Vec<S> {
        let Some(value) = self.entry(key) else { return Vec::new() };
        let DeValue::Array(values) = value.get_ref() else {
            self.found.add(value.span(), format!("write {name}, in two brackets: there may be several"));
            return Vec::new();
        };
        let read = |value| {
            let table = Table::new(value, name, self.found)?;
            let section = S::read(&table);
            table.finish(S::ABSENT);
            Some(section)
        };
        values.iter().filter_map(read).collect()
    }

    /// Refuses what has not been asked for; of `absent` keys it is told that there is nothing for them.
    pub(super) fn finish(self, absent: &[(&str, &str)]) {
        let known = self.known.into_inner();
        for key in self.entries.keys().filter(|key| !known.contains(&key.get_ref().as_ref())) {
            let written = key.get_ref();
            if let Some((_, why)) = absent.iter().find(|(name, _)| name == written) {
                self.found.add(key.span(), format!("`{written}` has nothing to limit yet: {why}"));
                continue;
            }
            let meant = known.iter().map(|known| (strsim::jaro(known, written), known));
            let meant = meant.max_by(|one, other| one.0.total_cmp(&other.0));
            let remedy = match meant {
                Some((likeness, meant)) if likeness > LIKENESS_MIN => format!("is `{meant}` meant?"),
                _ => format!("{} has {}", self.name, known.join(", ")),
            };
            self.found.add(key.span(), format!("`{written}` is unknown in {}: {remedy}", self.name));
        }
    }

    fn entry(&self, key: &'static str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.known.borrow_mut().push(key);
        self.entries.iter().find(|(name, _)| name.get_ref() == key).map(|(_, value)| value)
    }
}

/// From here on a key is likely to be a known one, mistyped.
const LIKENESS_MIN: f64 = 0.8;
