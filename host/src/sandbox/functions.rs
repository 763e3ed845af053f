//! The functions of a core module, for those who change their code.

use std::ops::Range;

use wasm_encoder::Encode;
use wasmparser::{
    BinaryReaderError, CompositeInnerType, FunctionBody, FunctionSectionReader, ImportSectionReader, TypeRef,
    TypeSectionReader,
};

use super::sections::{FUNCTION_SECTION, IMPORT_SECTION, Section, TYPE_SECTION};

/// What is known of them without their bodies.
#[derive(Default)]
pub(super) struct Functions {
    /// How many parameters a function of each type has; none where the type is not a function's.
    pub(super) types: Vec<Option<u32>>,
    pub(super) imported: u32,
    /// The type of each that is defined here.
    pub(super) defined: Vec<u32>,
}

impl Functions {
    pub(super) fn read(sections: &[Section<'_>]) -> Result<Self, BinaryReaderError> {
        let mut all = Self::default();
        for section in sections {
            match section.id {
                TYPE_SECTION => {
                    for group in TypeSectionReader::new(section.reader())? {
                        all.types.extend(group?.into_types().map(|ty| match ty.composite_type.inner {
                            CompositeInnerType::Func(ty) => Some(ty.params().len() as u32),
                            _ => None,
                        }));
                    }
                }
                IMPORT_SECTION => {
                    for import in ImportSectionReader::new(section.reader())?.into_imports() {
                        all.imported +=
                            u32::from(matches!(import?.ty, TypeRef::Func(_) | TypeRef::FuncExact(_)));
                    }
                }
                FUNCTION_SECTION => {
                    for ty in FunctionSectionReader::new(section.reader())? {
                        all.defined.push(ty?);
                    }
                }
                _ => {}
            }
        }
        Ok(all)
    }

    /// How many parameters the defined function with this index among them has; none if it has no function's type.
    pub(super) fn params(&self, defined: usize) -> Option<u32> {
        self.types.get(*self.defined.get(defined)? as usize).copied().flatten()
    }

    /// The index of the next one, if one more were defined.
    pub(super) fn next_index(&self) -> u32 {
        self.imported.saturating_add(self.defined.len() as u32)
    }
}

/// An instruction to exchange: where it stands, from its body's start, and what the exchange needs to know.
pub(super) type Site<T> = (Range<usize>, T);

/// Where the pieces of a body were before an exchange, and are after it, from its start: each moves as one. What is written
/// for a site is where the site was.
pub(super) type Pieces = Vec<(u32, u32)>;

/// The body with what `push` writes in the place of each site. That may use one more local, an `i32`, whose index it is given.
pub(super) fn exchange<T>(
    body: &FunctionBody<'_>,
    params: u32,
    sites: &[Site<T>],
    mut push: impl FnMut(&mut Vec<u8>, &T, u32),
) -> Result<(Vec<u8>, Pieces), BinaryReaderError> {
    let bytes = body.as_bytes();
    let mut locals = body.get_locals_reader()?;
    let groups = locals.get_count();
    let first_group = locals.original_position() - body.range().start;
    // Where there are too many, the compiler refuses the body.
    let mut spare = params;
    for _ in 0..groups {
        let (count, _) = locals.read()?;
        spare = spare.saturating_add(count);
    }
    let operators = locals.original_position() - body.range().start;

    let mut out = Vec::with_capacity(bytes.len() + sites.len() * SITE_BYTES);
    groups.saturating_add(1).encode(&mut out);
    out.extend(&bytes[first_group..operators]);
    out.extend([1, I32]);
    let mut pieces = vec![(operators as u32, out.len() as u32)];
    let mut copied = operators;
    for (place, what) in sites {
        out.extend(&bytes[copied..place.start]);
        pieces.push((place.start as u32, out.len() as u32));
        push(&mut out, what, spare);
        pieces.push((place.end as u32, out.len() as u32));
        copied = place.end;
    }
    out.extend(&bytes[copied..]);
    Ok((out, pieces))
}

/// What is written for one, more or less.
const SITE_BYTES: usize = 32;
const I32: u8 = 0x7f;
