//! The sections of a WebAssembly binary, as pieces of bytes.

use std::borrow::Cow;

use wasm_encoder::Encode;
use wasmparser::{BinaryReader, BinaryReaderError, CustomSectionReader};

/// Components inside components, too deep.
#[derive(Debug, thiserror::Error)]
#[error("the component is nested more than {DEPTH_MAX} deep")]
pub struct TooDeep;

/// A section of a module or component, of which the layout is the same.
pub(super) struct Section<'a> {
    pub(super) id: u8,
    /// Where its id stands, and where the next section's would.
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) content: &'a [u8],
}

impl<'a> Section<'a> {
    pub(super) fn reader(&self) -> BinaryReader<'a> {
        BinaryReader::new(self.content, 0)
    }
}

/// All of them, in order.
pub(super) fn sections(binary: &[u8]) -> Result<Vec<Section<'_>>, BinaryReaderError> {
    let mut reader = BinaryReader::new(binary, 0);
    reader.read_bytes(HEADER_BYTES)?;
    let mut sections = Vec::new();
    while !reader.eof() {
        let start = reader.original_position();
        let id = reader.read_u8()?;
        let size = reader.read_var_u32()?;
        let content = reader.read_bytes(size as usize)?;
        sections.push(Section { id, start, end: reader.original_position(), content });
    }
    Ok(sections)
}

/// The binary with the contents that `rewrite` makes, and all else as it was; borrowed if it makes none.
pub(super) fn rewrite_sections<'a, E: From<BinaryReaderError>>(
    binary: &'a [u8],
    mut rewrite: impl FnMut(&Section<'a>) -> Result<Cow<'a, [u8]>, E>,
) -> Result<Cow<'a, [u8]>, E> {
    let mut out = Vec::new();
    let mut copied = 0;
    for section in sections(binary)? {
        if let Cow::Owned(content) = rewrite(&section)? {
            out.extend(&binary[copied..section.start]);
            push_section(&mut out, section.id, &content);
            copied = section.end;
        }
    }
    if copied == 0 {
        return Ok(Cow::Borrowed(binary));
    }
    out.extend(&binary[copied..]);
    Ok(Cow::Owned(out))
}

/// The component with the core modules that `rewrite` makes, in nested components too; borrowed if it makes none.
pub(super) fn rewrite_modules<'a, E: From<BinaryReaderError> + From<TooDeep>>(
    component: &'a [u8],
    rewrite: &mut dyn FnMut(&'a [u8]) -> Result<Cow<'a, [u8]>, E>,
) -> Result<Cow<'a, [u8]>, E> {
    rewrite_modules_at(0, component, rewrite)
}

fn rewrite_modules_at<'a, E: From<BinaryReaderError> + From<TooDeep>>(
    depth: usize,
    component: &'a [u8],
    rewrite: &mut dyn FnMut(&'a [u8]) -> Result<Cow<'a, [u8]>, E>,
) -> Result<Cow<'a, [u8]>, E> {
    if depth > DEPTH_MAX {
        return Err(TooDeep.into());
    }
    rewrite_sections(component, |section| match section.id {
        CORE_MODULE_SECTION => rewrite(section.content),
        COMPONENT_SECTION => rewrite_modules_at(depth + 1, section.content, rewrite),
        _ => Ok(Cow::Borrowed(section.content)),
    })
}

/// Debug information and hints, which point into the code by offset: whoever moves code leaves them out.
pub(super) fn has_code_offsets(section: &Section<'_>) -> Result<bool, BinaryReaderError> {
    let name = CustomSectionReader::new(section.reader())?.name();
    Ok(name.starts_with(".debug_") || name.starts_with("metadata.code."))
}

/// Adds a section.
pub(super) fn push_section(out: &mut Vec<u8>, id: u8, content: &[u8]) {
    out.push(id);
    content.encode(out);
}

/// Magic number and version.
pub(super) const HEADER_BYTES: usize = 8;
/// In a component.
pub(super) const CORE_MODULE_SECTION: u8 = 1;
pub(super) const COMPONENT_SECTION: u8 = 4;
/// In a core module.
pub(super) const CUSTOM_SECTION: u8 = 0;
pub(super) const TYPE_SECTION: u8 = 1;
pub(super) const IMPORT_SECTION: u8 = 2;
pub(super) const FUNCTION_SECTION: u8 = 3;
pub(super) const MEMORY_SECTION: u8 = 5;
pub(super) const EXPORT_SECTION: u8 = 7;
pub(super) const CODE_SECTION: u8 = 10;
pub(super) const DATA_SECTION: u8 = 11;

pub(super) const DEPTH_MAX: usize = 32;
