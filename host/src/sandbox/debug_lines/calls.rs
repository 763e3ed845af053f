//! Which code of a module is of functions that were inlined, and which lines call them: without that, a frame would have the line
//! of whatever was inlined last, most often the standard library's.

use std::ops::Range;

use gimli::{AttributeValue, DebuggingInformationEntry, Dwarf, Section, Unit, UnitHeader, constants as dw};

use super::{
    Unread,
    code::{Code, Slice},
    program::{Programs, bytes},
};
use crate::imports::lines::{Full, Table};

/// A call that was inlined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Call {
    /// The code of what is called, by where it is in its section.
    pub(super) range: Range<u32>,
    /// In how many others it stands.
    depth: isize,
    /// Where the call is written.
    pub(super) file: u32,
    pub(super) line: u32,
}

/// All of a module's, by where their code begins, and the outer ones first. An error leaves those that were found.
pub(super) fn read(
    dwarf: &Dwarf<Slice<'_>>,
    code: &Code,
    programs: &mut Programs<'_, '_>,
    table: &mut Table,
) -> (Vec<Call>, Result<(), Unread>) {
    let mut calls = Vec::new();
    let read = read_units(dwarf, code, programs, table, &mut calls);
    calls.sort_by_key(|call| (call.range.start, call.depth));
    (calls, read)
}

fn read_units(
    dwarf: &Dwarf<Slice<'_>>,
    code: &Code,
    programs: &mut Programs<'_, '_>,
    table: &mut Table,
    calls: &mut Vec<Call>,
) -> Result<(), Unread> {
    let mut abbreviations = 0;
    let mut headers = dwarf.units();
    while let Some(header) = headers.next()? {
        // Each unit may read them all.
        abbreviations += dwarf.debug_abbrev.reader().len();
        if abbreviations > ABBREVIATIONS_BYTES_MAX {
            return Err(Unread::Large(".debug_abbrev, for each unit,", ABBREVIATIONS_BYTES_MAX));
        }
        if let Some(program) = program_of(dwarf, &header, programs)? {
            read_unit(dwarf, &dwarf.unit(header)?, code, (program, programs), table, calls)?;
        }
    }
    Ok(())
}

/// The place of a unit's line program, if it is one that was run: of another nobody knows how much there is to read.
fn program_of(
    dwarf: &Dwarf<Slice<'_>>,
    header: &UnitHeader<Slice<'_>>,
    programs: &Programs<'_, '_>,
) -> gimli::Result<Option<usize>> {
    let abbreviations = dwarf.abbreviations(header)?;
    let mut entries = header.entries(&abbreviations);
    Ok(match entries.next_dfs()?.and_then(|root| root.attr_value(dw::DW_AT_stmt_list)) {
        Some(AttributeValue::DebugLineRef(place)) if programs.has(place.0) => Some(place.0),
        _ => None,
    })
}

fn read_unit(
    dwarf: &Dwarf<Slice<'_>>,
    unit: &Unit<Slice<'_>>,
    code: &Code,
    (program, programs): (usize, &mut Programs<'_, '_>),
    table: &mut Table,
    calls: &mut Vec<Call>,
) -> Result<(), Unread> {
    let mut entries = unit.entries();
    while let Some(entry) = entries.next_dfs()? {
        if entry.tag() != dw::DW_TAG_inlined_subroutine {
            continue;
        }
        let (Some(file), Some(line)) =
            (number(entry, dw::DW_AT_call_file), number(entry, dw::DW_AT_call_line))
        else {
            continue;
        };
        let (Some(file), Ok(line)) = (programs.file(program, file, table)?, u32::try_from(line)) else {
            continue;
        };
        let mut ranges = dwarf.die_ranges(unit, entry)?;
        while let Some(range) = ranges.next()? {
            let Some(range) = bytes(range.begin, range.end) else { continue };
            let function = code.within_function(&range);
            if !function.is_some_and(|(function, _)| programs.tells_of(program, function)) {
                continue;
            }
            if calls.len() == CALLS_MAX {
                return Err(Full.into());
            }
            calls.push(Call { range, depth: entry.depth(), file, line });
        }
    }
    Ok(())
}

fn number(entry: &DebuggingInformationEntry<Slice<'_>>, name: gimli::DwAt) -> Option<u64> {
    match entry.attr_value(name)? {
        AttributeValue::FileIndex(file) => Some(file),
        value => value.udata_value(),
    }
}

/// Goes through a module's code, and knows what is inlined where it is.
pub(super) struct Inlined {
    calls: std::iter::Peekable<std::vec::IntoIter<Call>>,
    /// The outermost first.
    active: Vec<Call>,
}

impl Inlined {
    pub(super) fn new(calls: Vec<Call>) -> Self {
        Self { calls: calls.into_iter().peekable(), active: Vec::new() }
    }

    /// Goes on to a position, which is not before the last one; tells up to where nothing changes.
    pub(super) fn advance(&mut self, position: u32) -> u32 {
        self.active.retain(|call| position < call.range.end);
        while let Some(call) = self.calls.next_if(|call| call.range.start <= position) {
            if position < call.range.end && self.active.len() < DEPTH_MAX {
                let place = self.active.partition_point(|outer| outer.depth <= call.depth);
                self.active.insert(place, call);
            }
        }
        let ends = self.active.iter().map(|call| call.range.end);
        let begins = self.calls.peek().map(|call| call.range.start);
        ends.chain(begins).min().unwrap_or(u32::MAX)
    }

    /// The calls that the code there is inlined by.
    pub(super) fn active(&self) -> &[Call] {
        &self.active
    }
}

const CALLS_MAX: usize = 1 << 20;
/// Of all units together, should each read all of them.
const ABBREVIATIONS_BYTES_MAX: usize = 1 << 30;
/// Deeper ones are left out.
const DEPTH_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn call(range: Range<u32>, depth: isize, line: u32) -> Call {
        Call { range, depth, file: 0, line }
    }

    #[test]
    fn what_is_inlined_where_is_known_from_the_outside_in() {
        let calls = vec![call(10..40, 1, 1), call(20..30, 2, 2), call(20..22, 3, 3), call(50..60, 1, 4)];
        let mut inlined = Inlined::new(calls);
        let mut seen = Vec::new();
        let mut position = 0;
        while position < 70 {
            let end = inlined.advance(position);
            seen.push((position, inlined.active().iter().map(|call| call.line).collect::<Vec<_>>()));
            position = end;
        }
        let expected: [(u32, &[u32]); 8] = [
            (0, &[]),
            (10, &[1]),
            (20, &[1, 2, 3]),
            (22, &[1, 2]),
            (30, &[1]),
            (40, &[]),
            (50, &[4]),
            (60, &[]),
        ];
        assert_eq!(seen, expected.map(|(position, lines)| (position, lines.to_vec())));
    }

    /// Positions are those of lines, and need not be where something begins.
    #[test]
    fn what_was_gone_past_is_left_out() {
        let mut inlined = Inlined::new(vec![call(10..20, 1, 1), call(30..50, 2, 2), call(35..40, 1, 3)]);
        assert_eq!(inlined.advance(25), 30);
        assert_eq!(inlined.advance(36), 40);
        assert_eq!(
            inlined.active().iter().map(|call| call.line).collect::<Vec<_>>(),
            [3, 2],
            "outer ones first"
        );
        assert_eq!(inlined.advance(45), 50);
    }
}
