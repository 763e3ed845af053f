//! Makes a coroutine's stack overflow a trap.
//!
//! Coroutines of one instance have their shadow stacks on the guest's heap, with no guard page. The SDK links in two
//! globals, the lowest address of the running coroutine's stack and the bytes above it, and here every change of the
//! stack pointer in compiled code gets a check against them. Nothing else of the component changes, except that debug
//! sections of a changed module go: their code offsets would be wrong. Where code has gone says `Moves`.
//!
//! The SDK's own switching code is left alone: it is what names the limit. A hostile module can dress up as one to check,
//! and harms its own memory at most; the result is validated like any component.

use std::borrow::Cow;
use std::collections::HashMap;

use wasm_encoder::{BlockType, Encode, Instruction};
use wasmparser::{
    BinaryReaderError, CodeSectionReader, ExportSectionReader, ExternalKind, FunctionBody, Operator,
};

use super::{
    functions::{Functions, Pieces, Site, exchange},
    moves::Moves,
    sections::{
        CODE_SECTION, CUSTOM_SECTION, EXPORT_SECTION, HEADER_BYTES, Section, TooDeep, has_code_offsets,
        push_section, rewrite_modules, sections,
    },
};

/// Why a component's stack checks could not be made.
#[derive(Debug, thiserror::Error)]
pub enum StackCheckError {
    /// The bytes are not a component, or not one that this host's parser knows.
    #[error("the component is malformed: {0}")]
    Malformed(#[from] BinaryReaderError),
    /// Components inside components.
    #[error("{0}")]
    Nested(#[from] TooDeep),
    /// Some of the SDK's exports are there, not all, or they are not what the SDK makes.
    #[error(
        "the component's `{0}` is not what this host's SDK links in: build it with a matching conet-guest-sdk"
    )]
    Marker(&'static str),
    /// Far more code than fits a component of ordinary size.
    #[error("the component changes its stack pointer in more than {SITES_MAX} places")]
    Sites,
}

/// The component with checks; borrowed if it has no coroutines that share an instance.
pub(super) fn instrument<'a>(
    component: &'a [u8],
    moves: &mut Moves,
) -> Result<Cow<'a, [u8]>, StackCheckError> {
    let mut sites = 0;
    rewrite_modules(component, &mut |module| rewrite_module(module, &mut sites, moves))
}

fn rewrite_module<'a>(
    module: &'a [u8],
    sites: &mut usize,
    moves: &mut Moves,
) -> Result<Cow<'a, [u8]>, StackCheckError> {
    moves.begin_module();
    let sections = sections(module)?;
    let Some(check) = Check::find(&sections)? else {
        return Ok(Cow::Borrowed(module));
    };
    let mut out = module[..HEADER_BYTES].to_vec();
    for section in &sections {
        match section.id {
            CODE_SECTION => push_section(&mut out, section.id, &check.rewrite_code(section, sites, moves)?),
            CUSTOM_SECTION if has_code_offsets(section)? => {}
            _ => out.extend(&module[section.start..section.end]),
        }
    }
    Ok(Cow::Owned(out))
}

/// What the SDK has linked into a module.
struct Check {
    /// The globals, by index.
    stack_pointer: u32,
    limit: u32,
    span: u32,
    /// The function to call when the stack is used up, by index.
    overflow: u32,
    functions: Functions,
}

impl Check {
    fn find(sections: &[Section<'_>]) -> Result<Option<Check>, StackCheckError> {
        let functions = Functions::read(sections)?;
        let mut exports = HashMap::new();
        let mut bodies = Vec::new();
        for section in sections {
            match section.id {
                EXPORT_SECTION => {
                    for export in ExportSectionReader::new(section.reader())? {
                        let export = export?;
                        if export.kind == ExternalKind::Func {
                            exports.insert(export.name, export.index);
                        }
                    }
                }
                CODE_SECTION => {
                    for body in CodeSectionReader::new(section.reader())? {
                        bodies.push(body?);
                    }
                }
                _ => {}
            }
        }
        if !MARKERS.iter().any(|marker| exports.contains_key(marker)) {
            return Ok(None);
        }
        let function = |marker| exports.get(marker).copied().ok_or(StackCheckError::Marker(marker));
        let global = |marker| {
            let defined = function(marker)?
                .checked_sub(functions.imported)
                .and_then(|index| bodies.get(index as usize));
            global_of(defined.ok_or(StackCheckError::Marker(marker))?)?.ok_or(StackCheckError::Marker(marker))
        };
        let [stack_pointer, limit, span, overflow] = MARKERS;
        Ok(Some(Check {
            stack_pointer: global(stack_pointer)?,
            limit: global(limit)?,
            span: global(span)?,
            overflow: function(overflow)?,
            functions,
        }))
    }

    fn rewrite_code(
        &self,
        section: &Section<'_>,
        sites: &mut usize,
        moves: &mut Moves,
    ) -> Result<Vec<u8>, StackCheckError> {
        let bodies = CodeSectionReader::new(section.reader())?;
        let mut out = Vec::new();
        bodies.count().encode(&mut out);
        for (index, body) in bodies.into_iter().enumerate() {
            let body = body?;
            let rewritten = match self.functions.params(index) {
                Some(params) => self.rewrite_body(&body, params, sites)?,
                None => None,
            };
            match rewritten {
                Some((bytes, pieces)) => {
                    bytes.encode(&mut out);
                    moves.add(index, pieces);
                }
                None => body.as_bytes().encode(&mut out),
            }
        }
        Ok(out)
    }

    /// None if there is nothing to check.
    fn rewrite_body(
        &self,
        body: &FunctionBody<'_>,
        params: u32,
        sites: &mut usize,
    ) -> Result<Option<(Vec<u8>, Pieces)>, StackCheckError> {
        let changes = self.changes(body)?;
        if changes.is_empty() {
            return Ok(None);
        }
        *sites += changes.len();
        if *sites > SITES_MAX {
            return Err(StackCheckError::Sites);
        }

        // The local holds the new value while it is checked.
        let checked = exchange(body, params, &changes, |out, (), spare| self.push_checked_set(out, spare))?;
        Ok(Some(checked))
    }

    /// Where `global.set $__stack_pointer` stands, from the body's start; nowhere in code that names the limit.
    fn changes(&self, body: &FunctionBody<'_>) -> Result<Vec<Site<()>>, StackCheckError> {
        let base = body.range().start;
        let mut changes = Vec::new();
        let mut operators = body.get_operators_reader()?;
        while !operators.eof() {
            let (operator, start) = operators.read_with_offset()?;
            match operator {
                Operator::GlobalGet { global_index } | Operator::GlobalSet { global_index }
                    if global_index == self.limit =>
                {
                    return Ok(Vec::new());
                }
                Operator::GlobalSet { global_index } if global_index == self.stack_pointer => {
                    changes.push((start - base..operators.original_position() - base, ()));
                }
                _ => {}
            }
        }
        Ok(changes)
    }

    /// Instead of `global.set $__stack_pointer`. One unsigned comparison finds a value below the limit and one that has
    /// wrapped around zero, which is above the stack's top.
    fn push_checked_set(&self, out: &mut Vec<u8>, spare: u32) {
        for instruction in [
            Instruction::LocalTee(spare),
            Instruction::GlobalGet(self.limit),
            Instruction::I32Sub,
            Instruction::GlobalGet(self.span),
            Instruction::I32GtU,
            Instruction::If(BlockType::Empty),
            Instruction::Call(self.overflow),
            Instruction::End,
            Instruction::LocalGet(spare),
            Instruction::GlobalSet(self.stack_pointer),
        ] {
            instruction.encode(out);
        }
    }
}

/// The global that a body of nothing but `global.get` reads.
fn global_of(body: &FunctionBody<'_>) -> Result<Option<u32>, StackCheckError> {
    let mut operators = body.get_operators_reader()?;
    let Operator::GlobalGet { global_index } = operators.read()? else {
        return Ok(None);
    };
    let ends = matches!(operators.read()?, Operator::End);
    Ok((ends && operators.eof()).then_some(global_index))
}

/// Exports of guest-sdk/build/fibers.rs: three functions that each read a global, and the one to call.
const MARKERS: [&str; 4] =
    ["conet_stack_pointer_of", "conet_stack_limit_of", "conet_stack_span_of", "conet_stack_overflow"];

/// A guest of 10 MiB has some 50,000.
const SITES_MAX: usize = 200_000;

#[cfg(test)]
mod tests;
