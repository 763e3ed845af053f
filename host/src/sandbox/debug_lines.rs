//! Which lines of the source a component's code is from, by its debug information: found out when it is compiled, so that at
//! a trap there is a table to look it up in, and nothing to parse.
//!
//! The debug information (DWARF) is about the component as it came, the table about its code as it is compiled. It is a stranger's:
//! where it is malformed, or far more than fits, there are no lines, and the component is compiled all the same.

mod calls;
mod code;
mod program;

use std::ops::Range;

use wasmparser::BinaryReaderError;

use super::{moves::Moves, sections::TooDeep};
use crate::imports::{
    backtrace::printable,
    lines::{Full, Table},
};
use calls::Call;
use code::Module;
use program::Programs;

/// The table of a component, which was compiled after these rewritings.
pub(super) fn table(component: &[u8], compiled: &[u8], rewritings: &[Moves]) -> Vec<u8> {
    let mut table = Table::default();
    let unread = fill(&mut table, component, compiled, rewritings);
    let unread = unread.err().map(|error| printable(&error.to_string())).unwrap_or_default();
    table.finish(&unread)
}

/// The first error, if there is one. What can be read is read all the same.
fn fill(table: &mut Table, component: &[u8], compiled: &[u8], rewritings: &[Moves]) -> Result<(), Unread> {
    let before = code::modules(component)?;
    if !before.iter().any(Module::has_lines) {
        return Ok(());
    }
    let after = code::modules(compiled)?;
    let mut first = Ok(());
    for (number, (before, after)) in
        before.iter().zip(&after).enumerate().filter(|(_, (it, _))| it.has_lines())
    {
        let moved = |function: usize, position: u32| {
            rewritings
                .iter()
                .fold(position, |position, moves| moves.moved(number as u32, function as u32, position))
        };
        first = first.and(fill_module(table, before, after, moved));
    }
    first
}

fn fill_module(
    table: &mut Table,
    before: &Module<'_>,
    after: &Module<'_>,
    moved: impl Fn(usize, u32) -> u32,
) -> Result<(), Unread> {
    let (before_code, after_code) = (before.code()?, after.code()?);
    let dwarf = before.dwarf();
    let mut programs = Programs::read(&dwarf, &before_code, table)?;
    let (calls, unread) = calls::read(&dwarf, &before_code, &mut programs, table);
    let mut inlined = calls::Inlined::new(calls);
    let mut last_end = 0;
    for span in programs.spans() {
        let Some((function, bytes)) = before_code.within_function(&span.range) else { continue };
        let Some(body) = after_code.bodies.get(function) else { continue };
        let start = before_code.bodies[function].start;
        // Code that two rows are about has the place of the first.
        let mut from = bytes.start.max(last_end);
        while from < bytes.end {
            let end = inlined.advance(from).min(bytes.end);
            let place = place(table, span.line.map(|line| (span.file, line)), inlined.active())?;
            let position = |before: u32| after_code.start + body.start + moved(function, before - start);
            table.push(position(from), place)?;
            table.push(position(end), None)?;
            from = end;
        }
        last_end = last_end.max(bytes.end);
    }
    unread
}

/// Of code of that line, in functions that are inlined by these calls, the outermost first. What the compiler has added has no line: it
/// belongs to the call.
fn place(table: &mut Table, inner: Option<(u32, u32)>, calls: &[Call]) -> Result<Option<u32>, Full> {
    let lines = calls.iter().map(|call| (call.file, call.line)).chain(inner);
    let mut caller = None;
    for (file, line) in lines {
        caller = Some(table.place(file, line, caller)?);
    }
    Ok(caller)
}

/// A stretch of code, by where it is in its section, and the line that it is from.
#[derive(Debug, Clone)]
struct Span {
    range: Range<u32>,
    /// Of rows, in which it stands: mostly a function's.
    sequence: usize,
    /// Its number in the table.
    file: u32,
    /// None where the compiler has added code.
    line: Option<u32>,
}

/// Why lines are not known, or not all of them.
#[derive(Debug, thiserror::Error)]
enum Unread {
    #[error("the component is malformed: {0}")]
    Malformed(#[from] BinaryReaderError),
    #[error("{0}")]
    Nested(#[from] TooDeep),
    #[error("it is malformed: {0}")]
    Dwarf(#[from] gimli::Error),
    #[error("{0}")]
    Full(#[from] Full),
    #[error("{0} is more than {1} bytes")]
    Large(&'static str, usize),
}

#[cfg(test)]
mod tests;
