//! Runs the line programs of a module: which code is from which line.

use std::{
    collections::{BTreeMap, HashMap},
    ops::Range,
};

use gimli::{
    AttributeValue, DebugLineOffset, DebugLineStrOffset, DebugStrOffset, Dwarf, LineProgramHeader, Reader,
    Section,
};

use super::{
    Span, Unread,
    code::{Code, Slice},
};
use crate::imports::{
    backtrace::printable,
    lines::{Full, NAME_BYTES_MAX, Table},
};

/// What the programs of a module have come to.
pub(super) struct Programs<'d, 'a> {
    dwarf: &'d Dwarf<Slice<'a>>,
    /// By where each is in its section.
    files: BTreeMap<usize, Files<'a>>,
    spans: Vec<Span>,
    /// Of each sequence, whether it ends where a function does, and its program.
    sequences: Vec<(bool, usize)>,
    /// By function, the program that tells of it.
    programs: HashMap<usize, usize>,
}

/// The files that a program tells of.
struct Files<'a> {
    header: LineProgramHeader<Slice<'a>>,
    /// Their numbers in the table, as far as they have been asked for.
    known: HashMap<u64, u32>,
}

impl<'d, 'a> Programs<'d, 'a> {
    /// Runs them all, one after the other: for that their section is enough.
    pub(super) fn read(dwarf: &'d Dwarf<Slice<'a>>, code: &Code, table: &mut Table) -> Result<Self, Unread> {
        let section = *dwarf.debug_line.reader();
        if section.len() > SECTION_BYTES_MAX {
            return Err(Unread::Large(".debug_line", SECTION_BYTES_MAX));
        }
        let mut all = Self {
            dwarf,
            files: BTreeMap::new(),
            spans: Vec::new(),
            sequences: Vec::new(),
            programs: HashMap::new(),
        };
        let mut offset = 0;
        while offset < section.len() {
            let end = end_of_unit(section, offset)?;
            all.run(offset, code, table)?;
            offset = end;
        }
        all.keep_one_of_each_function(code);
        all.spans.sort_by_key(|span| span.range.start);
        Ok(all)
    }

    /// Of functions with one name the linker takes the first (`cabi_realloc`), and points the rows of the others there, too. Its own
    /// are those that end with it. If that does not tell, nothing does.
    fn keep_one_of_each_function(&mut self, code: &Code) {
        let function = |span: &Span| Some(code.within_function(&span.range)?.0);
        let mut kept: HashMap<usize, (bool, Option<usize>)> = HashMap::new();
        for span in &self.spans {
            let Some(function) = function(span) else { continue };
            let (ends, _) = self.sequences[span.sequence];
            let (best, which) = kept.entry(function).or_insert((ends, Some(span.sequence)));
            if ends && !*best {
                (*best, *which) = (true, Some(span.sequence));
            } else if ends == *best && *which != Some(span.sequence) {
                *which = None;
            }
        }
        self.spans.retain(|span| {
            let kept = function(span).and_then(|function| kept.get(&function)?.1);
            kept == Some(span.sequence)
        });
        let kept = kept.iter().filter_map(|(function, (_, sequence))| Some((*function, (*sequence)?)));
        self.programs = kept.map(|(function, sequence)| (function, self.sequences[sequence].1)).collect();
    }

    /// In the order of the code.
    pub(super) fn spans(&self) -> &[Span] {
        &self.spans
    }

    /// Whether the one at this place tells of the function.
    pub(super) fn tells_of(&self, program: usize, function: usize) -> bool {
        self.programs.get(&function) == Some(&program)
    }

    /// Whether there is one at this place.
    pub(super) fn has(&self, program: usize) -> bool {
        self.files.contains_key(&program)
    }

    /// The number of a file that the program at this place tells of.
    pub(super) fn file(&mut self, program: usize, file: u64, table: &mut Table) -> Result<Option<u32>, Full> {
        let Some(files) = self.files.get_mut(&program) else { return Ok(None) };
        number(&mut files.known, &files.header, file, self.dwarf, table).map(Some)
    }

    fn run(&mut self, offset: usize, code: &Code, table: &mut Table) -> Result<(), Unread> {
        let program = self.dwarf.debug_line.program(DebugLineOffset(offset), ADDRESS_BYTES, None, None)?;
        let header = program.header().clone();
        let mut known = HashMap::new();
        let mut rows = program.rows();
        // Whether the code of this sequence is there; not known before its first row.
        let mut there = None;
        let mut last: Option<(u64, u64, Option<u32>)> = None;
        while let Some((header, row)) = rows.next_row()? {
            let there_now = *there.get_or_insert_with(|| code.has(row.address()));
            if let Some((start, file, line)) = last.take()
                && let Some(range) = bytes(start, row.address())
            {
                if self.spans.len() == SPANS_MAX {
                    return Err(Full.into());
                }
                let file = number(&mut known, header, file, self.dwarf, table)?;
                self.spans.push(Span { range, sequence: self.sequences.len(), file, line });
            }
            if row.end_sequence() {
                self.sequences.push((code.ends_at(row.address()), offset));
                there = None;
            } else if there_now {
                let line = row.line().and_then(|line| u32::try_from(line.get()).ok());
                last = Some((row.address(), row.file_index(), line));
            }
        }
        // One that has no end.
        self.sequences.push((false, offset));
        self.files.insert(offset, Files { header, known });
        Ok(())
    }
}

/// None if there are none.
pub(super) fn bytes(start: u64, end: u64) -> Option<Range<u32>> {
    let range = u32::try_from(start).ok()?..u32::try_from(end).ok()?;
    (!range.is_empty()).then_some(range)
}

/// The file's number in the table, where it is added if it is new.
fn number(
    known: &mut HashMap<u64, u32>,
    header: &LineProgramHeader<Slice<'_>>,
    file: u64,
    dwarf: &Dwarf<Slice<'_>>,
    table: &mut Table,
) -> Result<u32, Full> {
    if let Some(number) = known.get(&file) {
        return Ok(*number);
    }
    let number = table.file(&name(header, file, dwarf))?;
    known.insert(file, number);
    Ok(number)
}

fn name(header: &LineProgramHeader<Slice<'_>>, file: u64, dwarf: &Dwarf<Slice<'_>>) -> String {
    let Some(file) = header.file(file) else { return UNKNOWN.to_owned() };
    let text =
        |value: Option<AttributeValue<_>>| value.and_then(|value| text(&value, dwarf)).unwrap_or_default();
    let name = text(Some(file.path_name()));
    // Number 0 is the folder that it was compiled in, which tells nothing to who reads it elsewhere.
    let folder = if file.directory_index() == 0 { String::new() } else { text(file.directory(header)) };
    let path = if folder.is_empty() || name.starts_with('/') { name } else { format!("{folder}/{name}") };
    let compiled_in = text(header.directory(0));
    let short = match path.strip_prefix(&compiled_in).and_then(|rest| rest.strip_prefix('/')) {
        Some(rest) if !compiled_in.is_empty() => rest,
        _ => &path,
    };
    let short = shortened(short);
    if short.is_empty() { UNKNOWN.to_owned() } else { printable(short) }
}

/// Without what is before the name of a crate: where the standard library was built, or where Cargo keeps what it has fetched.
fn shortened(path: &str) -> &str {
    let after = |folder: &str| path.find(folder).map(|start| &path[start + folder.len()..]);
    let library = after("/rustc/")
        .or(after("/rustlib/src/rust"))
        .and_then(|rest| rest.find("/library/").map(|at| &rest[at + 1..]));
    // A folder for each registry, and for each repository.
    let fetched = after("/registry/src/").or(after("/git/checkouts/")).and_then(|rest| rest.split_once('/'));
    let path = library.or(fetched.map(|(_, rest)| rest)).unwrap_or(path);
    // Its end says more than its beginning.
    let long = path.chars().count().saturating_sub(PATH_CHARS_MAX);
    path.char_indices().nth(long).map_or("", |(start, _)| &path[start..])
}

/// As much of it as a name may have.
fn text(value: &AttributeValue<Slice<'_>>, dwarf: &Dwarf<Slice<'_>>) -> Option<String> {
    let bytes = match *value {
        AttributeValue::String(string) => string.slice(),
        AttributeValue::DebugStrRef(DebugStrOffset(start)) => {
            dwarf.debug_str.reader().slice().get(start..)?
        }
        AttributeValue::DebugLineStrRef(DebugLineStrOffset(start)) => {
            dwarf.debug_line_str.reader().slice().get(start..)?
        }
        _ => return None,
    };
    let bytes = &bytes[..bytes.len().min(NAME_BYTES_MAX)];
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    Some(String::from_utf8_lossy(&bytes[..end]).into_owned())
}

/// Where the next unit begins. One with a longer list of files than any compiler makes is not read.
fn end_of_unit(section: Slice<'_>, offset: usize) -> Result<usize, Unread> {
    let mut input = section;
    input.skip(offset)?;
    let (length, format) = input.read_initial_length()?;
    let mut unit = input.split(length)?;
    if unit.read_u16()? >= 5 {
        // The sizes of an address and of a segment.
        unit.skip(2)?;
    }
    if unit.read_length(format)? > LISTS_BYTES_MAX {
        return Err(Unread::Large("a list of its files", LISTS_BYTES_MAX));
    }
    Ok(section.len() - input.len())
}

const UNKNOWN: &str = "?";
/// Of WebAssembly's code.
const ADDRESS_BYTES: u8 = 4;
const SECTION_BYTES_MAX: usize = 8 << 20;
const LISTS_BYTES_MAX: usize = 512 << 10;
const SPANS_MAX: usize = 4 << 20;
/// Of a path: a frame has not much more.
const PATH_CHARS_MAX: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_begin_with_what_tells_something() {
        for (path, short) in [
            ("src/main.rs", "src/main.rs"),
            ("/rustc/59807616e1/library/core/src/option.rs", "library/core/src/option.rs"),
            (
                "/home/x/.rustup/toolchains/a/lib/rustlib/src/rust/library/std/src/io.rs",
                "library/std/src/io.rs",
            ),
            (
                "/home/x/.cargo/registry/src/index.crates.io-1949cf8c/serde-1.0.1/src/lib.rs",
                "serde-1.0.1/src/lib.rs",
            ),
            ("/home/x/.cargo/git/checkouts/name-01ab/89ef/src/lib.rs", "89ef/src/lib.rs"),
            ("/rustc/", "/rustc/"),
            ("", ""),
        ] {
            assert_eq!(shortened(path), short);
        }
        let long = format!("{}/tail.rs", "é".repeat(1000));
        assert_eq!(shortened(&long).chars().count(), PATH_CHARS_MAX);
        assert!(shortened(&long).ends_with("é/tail.rs"));
    }
}
