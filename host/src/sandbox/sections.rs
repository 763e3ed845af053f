//! The sections of a WebAssembly binary, as pieces of bytes.

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
