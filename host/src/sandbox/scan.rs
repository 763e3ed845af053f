//! A look at a component's bytes before they are compiled: is it one, what does it export, is it a bomb?

use wasmparser::{
    BinaryReaderError, ComponentAlias, ComponentExternalKind, ComponentInstance, ComponentOuterAliasKind,
    ComponentTypeRef, Instance, Parser, Payload,
};

const TEXT_HINT: &str =
    ": it looks like text; COMPONENT is a compiled .wasm file, or the folder of a Cargo package";

/// What a component offers and needs.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Scan {
    /// Exports conet:net/program-entry.
    pub program: bool,
    /// Exports conet:net/handler-entry.
    pub handler: bool,
    /// Exports conet:net/coroutine-entry.
    pub coroutine: bool,
    /// Exports conet:fibers/program-entry.
    pub fiber_program: bool,
    /// Exports conet:fibers/handler-entry.
    pub fiber_handler: bool,
    /// Exports conet:fibers/coroutine-entry.
    pub fiber_coroutine: bool,
    /// Exports wasi:cli/run.
    pub command: bool,
    /// Imports or exports conet:fibers, so that the Engine must have concurrency on.
    pub fibers: bool,
    /// Names of all imports.
    pub imports: Vec<String>,
    /// Names of all exports.
    pub exports: Vec<String>,
}

/// Why bytes are not a component that conet would compile.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ScanError {
    /// Nothing in it.
    #[error("the file is empty")]
    Empty,
    /// Text, or anything else that does not begin as WebAssembly does.
    #[error("this is not WebAssembly{}", if *looks_like_text { TEXT_HINT } else { "" })]
    NotWasm {
        /// It is all printable.
        looks_like_text: bool,
    },
    /// A module without the component around it.
    #[error("this is a core module, not a component: build it for wasm32-wasip2")]
    CoreModule,
    /// It begins as a component does, and is broken.
    #[error("the component is broken or truncated: {0}")]
    Broken(String),
    /// Instantiating it would make too much of it.
    #[error(
        "the component instantiates {found} instances when nested ones are counted, more than {max}, the most it may: \
         `nested-instances` raises that"
    )]
    TooManyInstances {
        /// As far as counted.
        found: u64,
        /// The limit.
        max: u64,
    },
    /// How much it would make cannot be known before it is run.
    #[error(
        "the component instantiates a component that an import or an instance has given it: nest it there instead"
    )]
    GivenComponent,
    /// No entry that conet knows.
    #[error(
        "the component exports nothing that conet can run: expected conet:net/program-entry, conet:net/handler-entry \
         or wasi:cli/run, found {found}"
    )]
    NoEntry {
        /// What it does export.
        found: String,
    },
}

impl From<BinaryReaderError> for ScanError {
    fn from(error: BinaryReaderError) -> Self {
        Self::Broken(format!("{} at byte {}", error.message(), error.offset()))
    }
}

/// Looks at `bytes`. Instances, nested ones counted, may be `instances_max`.
pub fn scan(bytes: &[u8], instances_max: u64) -> Result<Scan, ScanError> {
    check_start(bytes)?;
    let mut scan = Scan::default();
    // The component itself, then what is open inside it.
    let mut open = vec![Level::default()];
    let mut total = 0;
    for payload in Parser::new(0).parse_all(bytes) {
        let outermost = open.len() == 1;
        let payload = payload?;
        match payload {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => {
                let is_component = matches!(payload, Payload::ComponentSection { .. });
                open.push(Level { is_component, ..Level::default() });
            }
            Payload::End(_) => {
                let closed = open.pop().expect("payloads end what they began");
                match open.last_mut() {
                    Some(parent) if closed.is_component => parent.components.push(Some(closed.instances)),
                    Some(_) => {}
                    None => total = closed.instances,
                }
            }
            Payload::ComponentAliasSection(section) => {
                for alias in section {
                    let component = aliased(&alias?, &open);
                    innermost(&mut open).components.extend(component);
                }
            }
            Payload::ComponentImportSection(section) => {
                for import in section {
                    let import = import?;
                    if matches!(import.ty, ComponentTypeRef::Component(_)) {
                        innermost(&mut open).components.push(None);
                    }
                    if outermost {
                        scan.imports.push(import.name.name.to_owned());
                    }
                }
            }
            Payload::ComponentExportSection(section) => {
                for export in section {
                    let export = export?;
                    if export.kind == ComponentExternalKind::Component {
                        let level = innermost(&mut open);
                        level.components.push(level.component(export.index));
                    }
                    if outermost {
                        scan.exports.push(export.name.name.to_owned());
                    }
                }
            }
            payload => innermost(&mut open).instantiate(payload)?,
        }
        if level_total(&open) > instances_max {
            return Err(ScanError::TooManyInstances { found: level_total(&open), max: instances_max });
        }
    }
    debug_assert!(total <= instances_max, "counted while it was open");
    scan.classify()
}

/// A component, or a module, that is being read.
#[derive(Default)]
struct Level {
    is_component: bool,
    /// Instances that one instantiation of it makes.
    instances: u64,
    /// The same of each component it has, by index; none for one that whoever instantiates it passes in.
    components: Vec<Option<u64>>,
}

impl Level {
    fn instantiate(&mut self, payload: Payload<'_>) -> Result<(), ScanError> {
        match payload {
            Payload::InstanceSection(section) => {
                for instance in section {
                    self.instances += u64::from(matches!(instance?, Instance::Instantiate { .. }));
                }
            }
            Payload::ComponentInstanceSection(section) => {
                for instance in section {
                    if let ComponentInstance::Instantiate { component_index, .. } = instance? {
                        // Passed from one to the next, a given component multiplies unseen.
                        let nested = self.component(component_index).ok_or(ScanError::GivenComponent)?;
                        self.instances = self.instances.saturating_add(nested.max(1));
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// What a component of its own makes. An index beyond all is the compiler's to refuse.
    fn component(&self, index: u32) -> Option<u64> {
        self.components.get(index as usize).copied().unwrap_or(Some(0))
    }
}

fn innermost(open: &mut [Level]) -> &mut Level {
    open.last_mut().expect("the outermost level is closed by the last payload")
}

/// If the alias is of a component: what that makes.
fn aliased(alias: &ComponentAlias<'_>, open: &[Level]) -> Option<Option<u64>> {
    match *alias {
        ComponentAlias::Outer { kind: ComponentOuterAliasKind::Component, count, index } => {
            let level = open.iter().rev().nth(count as usize);
            Some(level.map_or(Some(0), |level| level.component(index)))
        }
        ComponentAlias::InstanceExport { kind: ComponentExternalKind::Component, .. } => Some(None),
        _ => None,
    }
}

fn level_total(open: &[Level]) -> u64 {
    open.iter().fold(0, |total, level| total.saturating_add(level.instances))
}

fn check_start(bytes: &[u8]) -> Result<(), ScanError> {
    if bytes.is_empty() {
        return Err(ScanError::Empty);
    }
    if !bytes.starts_with(b"\0asm") {
        let start = &bytes[..bytes.len().min(512)];
        let looks_like_text = std::str::from_utf8(start).is_ok_and(|text| !text.contains('\0'));
        return Err(ScanError::NotWasm { looks_like_text });
    }
    // Version, then layer: 1 is a core module, 0x1000d a component.
    match bytes.get(4..8) {
        Some([1, 0, 0, 0]) => Err(ScanError::CoreModule),
        Some(_) => Ok(()),
        None => Err(ScanError::Broken(format!("it ends after {} bytes", bytes.len()))),
    }
}

impl Scan {
    fn classify(mut self) -> Result<Self, ScanError> {
        let has = |name: &str| self.exports.iter().any(|export| is_version_of(export, name));
        let (program, handler, coroutine) = (
            has("conet:net/program-entry"),
            has("conet:net/handler-entry"),
            has("conet:net/coroutine-entry"),
        );
        let (fiber_program, fiber_handler, fiber_coroutine) = (
            has("conet:fibers/program-entry"),
            has("conet:fibers/handler-entry"),
            has("conet:fibers/coroutine-entry"),
        );
        let command = has("wasi:cli/run");
        self.fibers = self.imports.iter().chain(&self.exports).any(|name| name.starts_with("conet:fibers/"));
        (self.program, self.handler, self.coroutine, self.command) = (program, handler, coroutine, command);
        (self.fiber_program, self.fiber_handler, self.fiber_coroutine) =
            (fiber_program, fiber_handler, fiber_coroutine);
        if program || handler || fiber_program || fiber_handler || command {
            return Ok(self);
        }
        Err(ScanError::NoEntry { found: shown(&self.exports) })
    }

    /// The export of `interface`, with the version it has there.
    pub fn export(&self, interface: &str) -> Option<&str> {
        self.exports.iter().find(|export| is_version_of(export, interface)).map(String::as_str)
    }
}

/// A few of the names, escaped and cut: nothing has checked them yet.
fn shown(names: &[String]) -> String {
    if names.is_empty() {
        return "nothing".to_owned();
    }
    let show = |name: &String| {
        let cut: String = name.chars().take(SHOWN_CHARS_MAX).collect();
        let more = if cut.len() < name.len() { "…" } else { "" };
        format!("{}{more}", cut.escape_debug())
    };
    let mut shown = names.iter().take(SHOWN_NAMES_MAX).map(show).collect::<Vec<_>>().join(", ");
    if names.len() > SHOWN_NAMES_MAX {
        shown += &format!(" and {} more", names.len() - SHOWN_NAMES_MAX);
    }
    shown
}

/// Is `name` the interface, in a version that this host speaks? A guest of a later 0.1 may export more, not else.
fn is_version_of(name: &str, interface: &str) -> bool {
    let Some(version) = name.strip_prefix(interface).and_then(|rest| rest.strip_prefix('@')) else {
        return false;
    };
    version.starts_with(if interface.starts_with("wasi:") { "0.2." } else { "0.1." })
}

/// Of the exports of a component that cannot be run, how many an error names, and how much of each.
const SHOWN_NAMES_MAX: usize = 4;
const SHOWN_CHARS_MAX: usize = 48;

#[cfg(test)]
mod tests;
