//! `rollback` of a tenant: when its version before comes back.

use std::time::Duration;

use serde_spanned::Spanned;
use toml::de::DeValue;

use super::{
    problems::Found,
    section::{Read, section},
    setting::{Count, Setting},
    table::Table,
};
use crate::config::rollback::Rollback;

section! {
    /// When a new version of a tenant, which a reload has brought, gives way to the one before it. docs/operations.md tells how.
    pub(super) struct RollbackSection {
        /// A handler's version does if more than this share of its connections has trapped …
        "traps": traps: Percent = "`\"10%\"`",
        /// … once there have been so many. It does at once if its circuit opens.
        "of": of: Count = "20",
        /// A program's version does if it has been restarted so often.
        "restarts": restarts: Count = "3",
        /// From its start on; who has got along for so long stays.
        "within": within: Duration = "`\"30s\"`",
    }
}

/// The rule, or none.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct RollbackRule(pub(super) Option<Rollback>);

impl Setting for RollbackRule {
    const WRITTEN: &'static str =
        "a table, as in `{ traps = \"5%\", within = \"1m\" }`, whose keys are below, or `\"off\"`";

    fn read(value: &Spanned<DeValue<'_>>, found: &Found) -> Option<Self> {
        match value.get_ref() {
            DeValue::String(text) if text == "off" => Some(Self(None)),
            DeValue::Table(_) => {
                let table = Table::new(value, "rollback", found)?;
                let section = RollbackSection::read(&table);
                table.finish(&[]);
                Some(Self(Some(section.rule())))
            }
            _ => {
                found.add(value.span(), format!("write {}", Self::WRITTEN));
                None
            }
        }
    }
}

impl RollbackSection {
    fn rule(&self) -> Rollback {
        let Rollback { traps_max, connections_min, restarts_min, within } = Rollback::default();
        Rollback {
            traps_max: self.traps.as_ref().map_or(traps_max, |at| at.value.0),
            connections_min: self.of.as_ref().map_or(connections_min, |at| at.value.0 as u64),
            restarts_min: self.restarts.as_ref().map_or(restarts_min, |at| at.value.0 as u64),
            within: self.within.as_ref().map_or(within, |at| at.value),
        }
    }
}

/// A share: 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Percent(f64);

impl Setting for Percent {
    const WRITTEN: &'static str = "a share, as in `\"10%\"` or `\"0.5%\"`";

    fn read(value: &Spanned<DeValue<'_>>, found: &Found) -> Option<Self> {
        let text = match value.get_ref() {
            DeValue::String(text) => text.strip_suffix('%'),
            _ => None,
        };
        let percent = text.and_then(|text| text.trim().parse().ok());
        let share = percent
            .filter(|percent| (0.0..=100.0).contains(percent))
            .map(|percent: f64| Self(percent / 100.0));
        if share.is_none() {
            found.add(value.span(), format!("write {}, of 0 to 100", Self::WRITTEN));
        }
        share
    }
}
