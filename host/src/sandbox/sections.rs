//! The sections of a WebAssembly binary, as pieces of bytes.

use std::borrow::Cow;

use wasm_encoder::Encode;
use wasmparser::{BinaryReader, BinaryReaderError};

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
