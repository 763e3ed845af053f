//! Counts that are kept, so that the next ones can be held against them.

use std::collections::BTreeMap;
use std::env::consts::ARCH;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use crate::contender::Contender;

/// Instructions per request of each server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// Of the processor: each has its own instructions.
    pub architecture: String,
    /// Connections of the load.
    pub connections: usize,
    /// Bytes in a message.
    pub size: usize,
    /// By the server's name on the command line.
    pub instructions: BTreeMap<String, f64>,
}

impl Record {
    pub(super) fn new(connections: usize, size: usize) -> Self {
        Self { architecture: ARCH.into(), connections, size, instructions: BTreeMap::new() }
    }

    pub(super) fn add(&mut self, server: Contender, instructions: f64) {
        self.instructions.insert(server.name(), instructions.round());
    }

    /// Reads what [`Self::write`] wrote.
    pub fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        serde_json::from_str(&text)
            .with_context(|| format!("{} is no record of instructions", path.display()))
    }

    /// Writes it as JSON.
    pub fn write(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self)? + "\n";
        fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
    }

    /// Compares with what was recorded, a line for each server. An error names those that take over a tenth
    /// more.
    pub fn check(&self, recorded: &Self) -> Result<String> {
        ensure!(
            self.architecture == recorded.architecture,
            "recorded were instructions of {}, and this is {}: record them here, into another file",
            recorded.architecture,
            self.architecture
        );
        ensure!(
            (self.connections, self.size) == (recorded.connections, recorded.size),
            "recorded were {} bytes over {} connections, which is not what was counted",
            recorded.size,
            recorded.connections
        );
        let (mut lines, mut worse) = (String::new(), Vec::new());
        for (name, &count) in &self.instructions {
            let before =
                *recorded.instructions.get(name).with_context(|| format!("{name} is not recorded"))?;
            let change = (count / before - 1.0) * 100.0;
            let line =
                format!("{name}: {count:.0} instructions per request, recorded {before:.0} ({change:+.1} %)");
            if count > before * WORSE {
                worse.push(line.clone());
            }
            lines += &(line + "\n");
        }
        if !worse.is_empty() {
            bail!("more than 10 % over what is recorded:\n  {}", worse.join("\n  "));
        }
        Ok(lines)
    }
}

/// A count may be so many times the recorded one.
const WORSE: f64 = 1.1;

#[cfg(test)]
mod tests {
    use super::*;

    fn record(go: f64, instance: f64) -> Record {
        let instructions = [("conet-go".to_owned(), go), ("conet-instance".to_owned(), instance)];
        Record { architecture: ARCH.into(), connections: 64, size: 64, instructions: instructions.into() }
    }

    #[test]
    fn a_tenth_more_passes_and_what_is_over_is_named() {
        let recorded = record(1000.0, 2000.0);
        let lines = record(1100.0, 100.0).check(&recorded).expect("at the limit, and better");
        assert!(lines.contains("conet-go: 1100") && lines.contains("(+10.0 %)"), "{lines}");
        let error = record(1000.0, 2201.0).check(&recorded).expect_err("over the limit").to_string();
        assert!(error.contains("conet-instance: 2201") && !error.contains("conet-go"), "{error}");
    }

    #[test]
    fn what_cannot_be_compared_is_an_error() {
        let mut recorded = record(1000.0, 2000.0);
        recorded.instructions.remove("conet-go");
        let error = record(1.0, 1.0).check(&recorded).expect_err("a missing one").to_string();
        assert!(error.contains("conet-go is not recorded"), "{error}");
        let other = Record { size: 512, ..record(1000.0, 2000.0) };
        assert!(record(1.0, 1.0).check(&other).is_err());
        let other = Record { architecture: "pdp11".into(), ..record(1000.0, 2000.0) };
        let error = record(1.0, 1.0).check(&other).expect_err("another processor's").to_string();
        assert!(error.contains("instructions of pdp11"), "{error}");
    }
}
