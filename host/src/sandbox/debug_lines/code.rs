//! The core modules of a component: where the code of each is, and what debug sections it has.

use std::{collections::HashMap, ops::Range};

use gimli::{Dwarf, EndianSlice, LittleEndian, SectionId};
use wasmparser::{BinaryReaderError, CodeSectionReader, CustomSectionReader};

use super::{
    super::sections::{
        CODE_SECTION, COMPONENT_SECTION, CORE_MODULE_SECTION, CUSTOM_SECTION, DEPTH_MAX, TooDeep, sections,
    },
    Unread,
};

pub(super) type Slice<'a> = EndianSlice<'a, LittleEndian>;

/// A core module.
pub(super) struct Module<'a> {
    /// Where its code section's content is in the component, and the content.
    code: Option<(usize, &'a [u8])>,
    debug: HashMap<&'a str, &'a [u8]>,
}

/// Its functions.
pub(super) struct Code {
    /// Where the section's content is in the component.
    pub(super) start: u32,
    /// Where the first function's size stands in the section.
    first: u32,
    /// Where their bodies are in the section.
    pub(super) bodies: Vec<Range<u32>>,
}

/// All of them, in the order of the component's bytes: that of `rewrite_modules`.
pub(super) fn modules(component: &[u8]) -> Result<Vec<Module<'_>>, Unread> {
    let mut all = Vec::new();
    collect(0, 0, component, &mut all)?;
    Ok(all)
}

fn collect<'a>(
    depth: usize,
    start: usize,
    component: &'a [u8],
    all: &mut Vec<Module<'a>>,
) -> Result<(), Unread> {
    if depth > DEPTH_MAX {
        return Err(TooDeep.into());
    }
    for section in sections(component)? {
        let start = start + section.end - section.content.len();
        match section.id {
            CORE_MODULE_SECTION => all.push(Module::new(start, section.content)?),
            COMPONENT_SECTION => collect(depth + 1, start, section.content, all)?,
            _ => {}
        }
    }
    Ok(())
}

impl<'a> Module<'a> {
    fn new(start: usize, module: &'a [u8]) -> Result<Self, BinaryReaderError> {
        let (mut code, mut debug) = (None, HashMap::new());
        for section in sections(module)? {
            match section.id {
                CODE_SECTION => code = Some((start + section.end - section.content.len(), section.content)),
                CUSTOM_SECTION => {
                    let custom = CustomSectionReader::new(section.reader())?;
                    if custom.name().starts_with(".debug_") {
                        debug.insert(custom.name(), custom.data());
                    }
                }
                _ => {}
            }
        }
        Ok(Self { code, debug })
    }

    pub(super) fn has_lines(&self) -> bool {
        self.code.is_some() && self.debug.contains_key(SectionId::DebugLine.name())
    }

    pub(super) fn code(&self) -> Result<Code, BinaryReaderError> {
        let Some((start, content)) = self.code else {
            return Ok(Code { start: 0, first: 0, bodies: Vec::new() });
        };
        let mut count = wasmparser::BinaryReader::new(content, 0);
        count.read_var_u32()?;
        let first = count.original_position() as u32;
        let reader = CodeSectionReader::new(wasmparser::BinaryReader::new(content, 0))?;
        let ranges = reader.into_iter().map(|body| {
            let range = body?.range();
            Ok(range.start as u32..range.end as u32)
        });
        Ok(Code { start: start as u32, first, bodies: ranges.collect::<Result<_, BinaryReaderError>>()? })
    }

    pub(super) fn dwarf(&self) -> Dwarf<Slice<'a>> {
        let section = |id: SectionId| self.debug.get(id.name()).copied().unwrap_or_default();
        let loaded =
            Dwarf::load(|id| Ok::<_, std::convert::Infallible>(Slice::new(section(id), LittleEndian)));
        loaded.unwrap_or_else(|never| match never {})
    }
}

impl Code {
    /// Whether there may be code of a function. What the linker has left out is often said to be at 0.
    pub(super) fn has(&self, address: u64) -> bool {
        let end = self.bodies.last().map_or(0, |body| body.end);
        (u64::from(self.first)..u64::from(end)).contains(&address)
    }

    /// Whether a function ends there.
    pub(super) fn ends_at(&self, address: u64) -> bool {
        self.bodies.binary_search_by_key(&address, |body| body.end.into()).is_ok()
    }

    /// The function that the bytes begin in, and those of them that are its body's. To debug information a function begins with its
    /// size, or with its body.
    pub(super) fn within_function(&self, bytes: &Range<u32>) -> Option<(usize, Range<u32>)> {
        let function = self.bodies.partition_point(|body| body.end <= bytes.start);
        let body = self.bodies.get(function)?;
        let bytes = bytes.start.max(body.start)..bytes.end.min(body.end);
        (!bytes.is_empty()).then_some((function, bytes))
    }
}
