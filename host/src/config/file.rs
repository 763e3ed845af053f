//! `conet.toml`: what `conet-host serve` runs, read with everything that is wrong in it.
//!
//! Sections are read whole, problem by problem (`table`), then tenants are put over the defaults and looked at beside
//! each other (`tenants`). What comes out cannot be wrong in itself; whether files exist and components fit is for
//! those who open them, who report to the same list.

mod host;
mod limits;
mod named;
mod otlp;
mod problems;
mod reference;
mod rollback;
mod section;
mod setting;
mod table;
mod tenant;
mod tenants;

use std::{fs, io, net::SocketAddr, path::Path};

use toml::de::{DeTable, DeValue};

pub use host::{AccessLogAt, HostSection, LogFormat};
pub use named::Named;
pub use otlp::{Endpoint, OtlpSection};
pub use problems::{Problem, Problems};
pub use reference::reference;
pub use setting::{At, Count};
pub use tenant::Restart;
pub use tenants::Served;

use problems::Found;
use table::Table;
use tenant::{DefaultsSection, TenantSection};

/// All of a file.
#[derive(Debug, Clone)]
pub struct ServeConfig {
    /// `[host]`.
    pub host: HostSection,
    /// Each `[[tenant]]`, with the defaults where it says nothing itself.
    pub tenants: Vec<Served>,
}

/// Why a file is refused.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It cannot be read.
    #[error("cannot read {path}: {error}")]
    Read {
        /// As given.
        path: String,
        /// The system's word.
        error: io::Error,
    },
    /// It can, and says something wrong.
    #[error(transparent)]
    Wrong(#[from] Problems),
}

impl ServeConfig {
    /// Reads a file. Paths in it are relative to its folder.
    pub fn read(path: &Path) -> Result<(Self, Source), FileError> {
        let unreadable = |error| FileError::Read { path: path.display().to_string(), error };
        let source = Source::read(path).map_err(unreadable)?;
        let folder = path.parent().unwrap_or(Path::new(""));
        let config = Self::parse(&source, folder)?;
        Ok((config, source))
    }

    /// Reads a file's text, with paths relative to `folder`.
    pub fn parse(source: &Source, folder: &Path) -> Result<Self, Problems> {
        let found = Found::default();
        let (document, errors) = DeTable::parse_recoverable(&source.text);
        for error in &errors {
            found.add(error.span().unwrap_or_default(), error.message());
        }
        let table = Table::whole(&document, &found);
        let mut host: HostSection = table.section("host", "[host]").unwrap_or_default();
        if let Some(workers) = host.workers.as_ref().filter(|workers| workers.value.0 > WORKERS_MAX) {
            found.add(workers.span.clone(), format!("write at most {WORKERS_MAX} workers"));
        }
        if let Some(cache) = host.cache.as_mut().filter(|cache| cache.value.as_os_str() != "off") {
            cache.value = folder.join(&cache.value);
        }
        if let Some(admin) = &mut host.admin {
            admin.value = folder.join(&admin.value);
        }
        host.settle_wall(folder, &found);
        if let Some(AccessLogAt::File(path)) = host.access_log.as_mut().map(|at| &mut at.value) {
            *path = folder.join(&path);
        }
        if let Some(address) = host.admin_address.as_ref().filter(|at| !is_loopback(at.value)) {
            found.add(address.span.clone(), NOT_LOOPBACK);
        }
        let defaults: DefaultsSection = table.section("defaults", "[defaults]").unwrap_or_default();
        let tenants: Vec<TenantSection> = table.sections("tenant", "[[tenant]]");
        table.finish(&[]);
        if tenants.is_empty() && found.is_empty() {
            found.add(0..0, "there is no tenant: add a [[tenant]] with a name and a component");
        }
        let tenants = tenants::tenants(tenants, &defaults, folder, &found);
        found.into_result(source)?;
        Ok(Self { host, tenants })
    }
}

/// A file's text, to tell where in it something is.
#[derive(Debug, Clone)]
pub struct Source {
    /// Its path as given.
    pub name: String,
    /// All of it.
    pub text: String,
}

impl Source {
    fn read(path: &Path) -> io::Result<Self> {
        let size = fs::metadata(path)?.len();
        if size > FILE_BYTES_MAX {
            return Err(io::Error::other(format!("it has {size} bytes, and may have {FILE_BYTES_MAX}")));
        }
        Ok(Self { name: path.display().to_string(), text: fs::read_to_string(path)? })
    }
}

/// The kind of a value, as TOML calls it.
fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a float",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}

fn is_loopback(address: SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}

/// What is said of an admin address that others reach.
const NOT_LOOPBACK: &str = "write an address of loopback, as in `\"127.0.0.1:7070\"`: who connects there is not asked for a \
                            name or a password. To reach it from elsewhere, put a proxy in front that asks";
/// More threads than any machine has use for.
const WORKERS_MAX: usize = 1024;
/// Nobody writes more by hand, and a device would never end.
const FILE_BYTES_MAX: u64 = 4 << 20;

#[cfg(test)]
mod tests;
