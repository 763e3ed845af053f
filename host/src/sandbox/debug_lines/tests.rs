//! Debug information as compilers write it, of both versions, and as none would.

use gimli::{
    Encoding, Format, LineEncoding, constants as dw,
    write::{
        Address, AttributeValue, Dwarf, EndianVec, LineProgram, LineString, Range as PcRange, RangeList,
        Sections, Unit,
    },
};
use wasm_encoder::{Component, CustomSection, Encode, NestedComponentSection, RawSection};

use super::*;
use crate::{
    imports::lines::Lines,
    sandbox::{
        bulk,
        sections::{CORE_MODULE_SECTION, CUSTOM_SECTION, push_section},
    },
};

/// Two functions. What each byte of the first does is seen below.
const MODULE: &str = "(module (memory 1) (func (param i32) (local i64) nop nop nop nop nop nop nop nop) \
                      (func (param i32) nop (memory.fill (i32.const 0) (i32.const 0) (local.get 0)) nop nop))";

/// Custom sections, by name.
type Customs = Vec<(String, Vec<u8>)>;

fn module(customs: &Customs) -> Vec<u8> {
    let mut module = wat::parse_str(MODULE).expect("it is well formed");
    for (name, data) in customs {
        let mut content = Vec::new();
        name.as_str().encode(&mut content);
        content.extend(data);
        push_section(&mut module, CUSTOM_SECTION, &content);
    }
    module
}

fn component(module: &[u8]) -> Vec<u8> {
    let mut component = Component::new();
    component.section(&CustomSection { name: "before".into(), data: b"moves the module".into() });
    component.section(&RawSection { id: CORE_MODULE_SECTION, data: module });
    component.finish()
}

/// Where the bodies of the two functions are in the section.
fn bodies() -> Vec<Range<u32>> {
    let bytes = component(&module(&vec![]));
    code::modules(&bytes).expect("it is well formed")[0].code().expect("it is well formed").bodies
}

/// The lines of the bytes of a function's body, in what is compiled.
struct Compiled {
    lines: Lines,
    bytes: Vec<u8>,
}

impl Compiled {
    fn new(component: &[u8]) -> Self {
        let mut moves = Moves::default();
        let bytes = bulk::instrument(component, &mut moves).expect("it is well formed").into_owned();
        let lines = Lines::new(&table(component, &bytes, &[moves]));
        Self { lines, bytes }
    }

    fn of(customs: &Customs) -> Self {
        Self::new(&component(&module(customs)))
    }

    /// At the byte of a function's body, as it is compiled, of the module with this number.
    fn at(&self, number: usize, function: usize, byte: u32) -> Vec<(&str, u32)> {
        let modules = code::modules(&self.bytes).expect("it is well formed");
        let code = modules[number].code().expect("it is well formed");
        let position = code.start + code.bodies[function].start + byte;
        self.lines.at(position).map(|place| (place.file, place.line)).collect()
    }
}

/// Rows of a function: from which byte of its body on which line of file `a.rs`. The last is where it ends.
fn program(version: u16, sequences: &[(u64, &[(u64, u64)])]) -> (LineProgram, Encoding) {
    let encoding = Encoding { format: Format::Dwarf32, version, address_size: 4 };
    let text = |text: &str| LineString::String(text.into());
    let folder = text("/home/x/project");
    let mut program =
        LineProgram::new(encoding, LineEncoding::default(), folder, None, text("main.rs"), None);
    // Only the newer one says where it was compiled.
    let source = program.add_directory(text(if version < 5 { "src" } else { "/home/x/project/src" }));
    let library = program.add_directory(text("/rustc/0123abc/library/core/src"));
    let own = program.add_file(text("a.rs"), source, None);
    program.add_file(text("option.rs"), library, None);
    for (start, rows) in sequences {
        program.begin_sequence(Some(Address::Constant(*start)));
        let (end, rows) = rows.split_last().expect("it has an end");
        for (byte, line) in rows {
            program.row().address_offset = *byte;
            program.row().file = own;
            program.row().line = *line;
            program.generate_row();
        }
        program.end_sequence(end.0);
    }
    (program, encoding)
}

fn written(mut dwarf: Dwarf) -> Customs {
    let mut sections = Sections::new(EndianVec::new(gimli::LittleEndian));
    dwarf.write(&mut sections).expect("it can be written");
    let mut customs = Vec::new();
    let all = sections.for_each(|id, data| {
        if !data.slice().is_empty() {
            customs.push((id.name().to_owned(), data.slice().to_vec()));
        }
        Ok::<_, ()>(())
    });
    all.expect("nothing fails");
    customs
}

/// A unit with these rows, and no calls.
fn unit(version: u16, sequences: &[(u64, &[(u64, u64)])]) -> Customs {
    let (program, encoding) = program(version, sequences);
    let mut dwarf = Dwarf::new();
    dwarf.units.add(Unit::new(encoding, program));
    written(dwarf)
}

fn starts() -> [u64; 2] {
    let bodies = bodies();
    [bodies[0].start.into(), bodies[1].start.into()]
}

#[test]
fn both_versions_are_read() {
    let [first, second] = starts();
    for version in [4, 5] {
        // The first function begins with its size to this one, and the second with its body.
        let rows: [(u64, &[(u64, u64)]); 2] = [
            (first - 1, &[(0, 7), (6, 8), (8, 0), (9, 9), (12, 0)]),
            (second, &[(0, 20), (2, 21), (11, 22), (14, 0)]),
        ];
        let compiled = Compiled::of(&unit(version, &rows));
        assert_eq!(compiled.lines.unread(), None);
        let line = |byte| compiled.at(0, 0, byte).first().map(|(_, line)| *line);
        assert_eq!(
            (0..8).map(line).collect::<Vec<_>>(),
            [7, 7, 7, 7, 7, 8, 8, 0].map(|line| (line > 0).then_some(line))
        );
        assert_eq!(compiled.at(0, 0, 8), [("src/a.rs", 9)], "version {version}");
        assert_eq!(compiled.at(0, 0, 12), [], "beyond its end");
        // It has one more local, and its operation is a branch.
        assert_eq!(compiled.at(0, 1, 0), [("src/a.rs", 20)]);
        assert_eq!(compiled.at(0, 1, 20), [("src/a.rs", 21)], "in the branch");
        let end = code::modules(&compiled.bytes).unwrap()[0].code().unwrap().bodies[1].len() as u32;
        assert_eq!(compiled.at(0, 1, end - 1), [("src/a.rs", 22)]);
        assert_eq!(compiled.at(0, 1, end), []);
        assert_eq!(compiled.at(0, 2, 3), [], "what the host has added is from nowhere");
    }
}

#[test]
fn what_is_inlined_has_the_lines_of_its_calls() {
    let [first, second] = starts();
    for version in [4, 5] {
        let (program, encoding) =
            program(version, &[(first, &[(0, 7), (4, 8), (10, 0)]), (second, &[(0, 1), (14, 0)])]);
        let files: Vec<_> = program.files().map(|(id, ..)| id).collect();
        let [own, library] = files[files.len() - 2..] else { panic!("{files:?}") };
        let mut dwarf = Dwarf::new();
        let unit = dwarf.units.add(Unit::new(encoding, program));
        let unit = dwarf.units.get_mut(unit);
        let function = unit.add(unit.root(), dw::DW_TAG_subprogram);
        let inline = |unit: &mut Unit, parent, ranges: &[(u64, u64)], file, line| {
            let ranges = ranges.iter().map(|(begin, end)| PcRange::StartEnd {
                begin: Address::Constant(first + begin),
                end: Address::Constant(first + end),
            });
            let ranges = unit.ranges.add(RangeList(ranges.collect()));
            let call = unit.add(parent, dw::DW_TAG_inlined_subroutine);
            let entry = unit.get_mut(call);
            entry.set(dw::DW_AT_ranges, AttributeValue::RangeListRef(ranges));
            entry.set(dw::DW_AT_call_file, AttributeValue::FileIndex(Some(file)));
            entry.set(dw::DW_AT_call_line, AttributeValue::Udata(line));
            call
        };
        let outer = inline(unit, function, &[(2, 6), (8, 9)], own, 100);
        inline(unit, outer, &[(5, 6)], library, 200);
        let compiled = Compiled::of(&written(dwarf));
        assert_eq!(compiled.lines.unread(), None);
        let (seven, eight) = (("src/a.rs", 7), ("src/a.rs", 8));
        let (outer, inner) = (("src/a.rs", 100), ("library/core/src/option.rs", 200));
        let expected: [&[(&str, u32)]; 10] = [
            &[seven],
            &[seven],
            &[seven, outer],
            &[seven, outer],
            &[eight, outer],
            &[eight, inner, outer],
            &[eight],
            &[eight],
            &[eight, outer],
            &[eight],
        ];
        for (byte, expected) in expected.iter().enumerate() {
            assert_eq!(compiled.at(0, 0, byte as u32), *expected, "byte {byte} in version {version}");
        }
    }
}

/// Linkers put 0, or the highest address, where a function was that nobody calls.
#[test]
fn code_that_was_left_out_is_nowhere() {
    let [first, _] = starts();
    for nowhere in [0, u64::from(u32::MAX), u64::from(u32::MAX) - 1, 5_000] {
        let rows: [(u64, &[(u64, u64)]); 2] =
            [(nowhere, &[(0, 1), (200, 2), (300, 0)]), (first, &[(0, 7), (10, 0)])];
        let compiled = Compiled::of(&unit(4, &rows));
        assert_eq!(compiled.lines.unread(), None, "{nowhere}");
        assert_eq!(compiled.at(0, 0, 3), [("src/a.rs", 7)], "{nowhere}");
        assert_eq!(compiled.at(0, 1, 3), [], "{nowhere}");
    }
}

/// The linker takes one of several functions with the same name, and the rows of all are where that is.
#[test]
fn of_two_functions_at_one_place_it_is_the_one_that_ends_there() {
    let [_, second] = starts();
    let end = bodies()[1].len() as u64;
    let own: (u64, &[(u64, u64)]) = (second, &[(0, 7), (3, 8), (end, 0)]);
    let other: (u64, &[(u64, u64)]) = (second, &[(0, 100), (2, 101), (end - 2, 0)]);
    let longer: (u64, &[(u64, u64)]) = (second + 1, &[(0, 200), (end + 30, 0)]);
    for rows in [[own, other, longer], [other, longer, own]] {
        let compiled = Compiled::of(&unit(4, &rows));
        assert_eq!(compiled.at(0, 1, 0), [("src/a.rs", 7)]);
        assert_eq!(compiled.at(0, 1, 20), [("src/a.rs", 8)]);
    }
    for rows in [[own, own, other], [other, longer, other]] {
        assert_eq!(Compiled::of(&unit(4, &rows)).at(0, 1, 0), [], "nothing tells which it is");
    }
    assert_eq!(Compiled::of(&unit(4, &[other])).at(0, 1, 0), [("src/a.rs", 100)], "there is no other");
}

/// Each module has positions of its own, which count from its component's beginning.
#[test]
fn modules_are_told_apart() {
    let [first, _] = starts();
    let lines = |line| module(&unit(5, &[(first, &[(0, line), (10, 0)])]));
    let mut inner = Component::new();
    inner.section(&RawSection { id: CORE_MODULE_SECTION, data: &lines(3) });
    let mut outer = Component::new();
    outer.section(&RawSection { id: CORE_MODULE_SECTION, data: &lines(1) });
    outer.section(&RawSection { id: CORE_MODULE_SECTION, data: &module(&vec![]) });
    outer.section(&NestedComponentSection(&inner));
    outer.section(&RawSection { id: CORE_MODULE_SECTION, data: &lines(4) });
    let compiled = Compiled::new(&outer.finish());
    for (module, line) in [(0, 1), (2, 3), (3, 4)] {
        assert_eq!(compiled.at(module, 0, 5), [("src/a.rs", line)]);
        assert_eq!(compiled.at(module, 1, 5), []);
    }
    assert_eq!(compiled.at(1, 0, 5), [], "it has no debug information");
}

#[test]
fn without_debug_information_there_is_no_table() {
    let bytes = component(&module(&vec![("name-like".to_owned(), vec![1, 2, 3])]));
    assert!(table(&bytes, &bytes, &[]).is_empty());
    assert!(
        table(&component(&module(&vec![(".debug_info".to_owned(), vec![9; 99])])), &bytes, &[]).is_empty()
    );
}

#[test]
fn malformed_debug_information_is_no_lines_and_why() {
    let [first, _] = starts();
    let good = unit(4, &[(first, &[(0, 7), (10, 0)])]);
    for garbage in [vec![0xff; 100], vec![0; 3], (0..200).collect(), b"text, text, text, text".to_vec()] {
        let mut customs = good.clone();
        customs.iter_mut().find(|(name, _)| name == ".debug_line").expect("it has lines").1 = garbage;
        let compiled = Compiled::of(&customs);
        assert!(compiled.lines.unread().is_some_and(|why| !why.is_empty()));
        assert_eq!(compiled.at(0, 0, 3), []);
    }
    // Calls that cannot be read leave the lines.
    let mut customs = good.clone();
    customs.iter_mut().find(|(name, _)| name == ".debug_info").expect("it has a unit").1 = vec![0xff; 100];
    let compiled = Compiled::of(&customs);
    assert!(compiled.lines.unread().is_some());
    assert_eq!(compiled.at(0, 0, 3), [("src/a.rs", 7)]);
    // One module's say nothing of another's.
    let mut both = Component::new();
    both.section(&RawSection {
        id: CORE_MODULE_SECTION,
        data: &module(&vec![(".debug_line".to_owned(), vec![0xff; 9])]),
    });
    both.section(&RawSection { id: CORE_MODULE_SECTION, data: &module(&good) });
    let compiled = Compiled::new(&both.finish());
    assert!(compiled.lines.unread().is_some());
    assert_eq!((compiled.at(0, 0, 3), compiled.at(1, 0, 3)), (vec![], vec![("src/a.rs", 7)]));
}

#[test]
fn whatever_is_damaged_reading_it_ends() {
    let [first, second] = starts();
    for version in [4, 5] {
        let good = unit(version, &[(first, &[(0, 7), (6, 8), (10, 0)]), (second, &[(0, 20), (14, 0)])]);
        for (section, (_, data)) in good.iter().enumerate() {
            for (position, byte) in data.iter().enumerate() {
                for value in [0, 1, 0x7f, 0x80, 0xff, byte ^ 1] {
                    let mut customs = good.clone();
                    customs[section].1[position] = value;
                    Compiled::of(&customs);
                }
                let mut customs = good.clone();
                customs[section].1.truncate(position);
                Compiled::of(&customs);
            }
        }
    }
}

#[test]
fn names_are_one_line_of_the_log() {
    let [first, _] = starts();
    let encoding = Encoding { format: Format::Dwarf32, version: 4, address_size: 4 };
    let text = |text: &str| LineString::String(text.into());
    let mut program =
        LineProgram::new(encoding, LineEncoding::default(), text("/x"), None, text("main.rs"), None);
    let folder = program.default_directory();
    let odd = program.add_file(text(&format!("{}\nINFO \x1b[0m.rs", "long/".repeat(200))), folder, None);
    program.begin_sequence(Some(Address::Constant(first)));
    program.row().file = odd;
    program.row().line = 3;
    program.generate_row();
    program.end_sequence(10);
    let mut dwarf = Dwarf::new();
    dwarf.units.add(Unit::new(encoding, program));
    let compiled = Compiled::of(&written(dwarf));
    let found = compiled.at(0, 0, 3);
    assert!(found.len() == 1 && found[0].1 == 3, "{found:?}");
    assert!(found[0].0.chars().count() <= 100 && !found[0].0.contains(char::is_control), "{found:?}");
}

/// A file list, and a section, of sizes that no compiler makes.
#[test]
fn sizes_have_bounds() {
    let mut unit = Vec::new();
    let header_bytes: u32 = 600 << 10;
    unit.extend((header_bytes + 100).to_le_bytes());
    unit.extend(4_u16.to_le_bytes());
    unit.extend(header_bytes.to_le_bytes());
    unit.resize(header_bytes as usize + 104, 1);
    let compiled = Compiled::of(&vec![(".debug_line".to_owned(), unit)]);
    assert!(compiled.lines.unread().is_some_and(|why| why.contains("a list of its files")));
    let compiled = Compiled::of(&vec![(".debug_line".to_owned(), vec![0; (8 << 20) + 1])]);
    assert!(compiled.lines.unread().is_some_and(|why| why.contains(".debug_line is more than")));
}
