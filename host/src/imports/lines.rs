//! Which lines of the source a component's code is from: a table that is made when it is compiled, and searched as it is.
//!
//! The compiler's child makes it, so nothing in it is taken on trust but how long it is: what points out of it, or in a circle, is
//! nowhere, or ends.

use std::{collections::HashMap, sync::Arc};

/// The lines of a component. They may be none.
#[derive(Debug, Clone, Default)]
pub struct Lines(Arc<[u8]>);

/// A place in the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place<'a> {
    /// As the component names it.
    pub file: &'a str,
    /// The first is 1.
    pub line: u32,
}

impl Lines {
    /// What [`Table::finish`] has made.
    pub fn new(table: &[u8]) -> Self {
        Self(table.into())
    }

    /// Where the code at this position of the component, as it was compiled, is from: innermost first, then who that was inlined into.
    pub fn at(&self, position: u32) -> impl Iterator<Item = Place<'_>> {
        let mut place = self.search(position).unwrap_or(NONE);
        let chain = std::iter::from_fn(move || {
            let [file, line, caller] = self.place(place)?;
            place = caller;
            Some(Place { file: self.file(file)?, line })
        });
        chain.take(CALLERS_MAX)
    }

    /// Why the component's debug information was not read, or not all of it.
    pub fn unread(&self) -> Option<&str> {
        let [rows, places, names] = self.header()?;
        let start =
            HEADER_BYTES as u64 + u64::from(rows) * ROW + u64::from(places) * PLACE + u64::from(names);
        let why = self.0.get(usize::try_from(start).ok()?..)?;
        std::str::from_utf8(why).ok().filter(|why| !why.is_empty())
    }

    /// The place of the last row that is not beyond the position.
    fn search(&self, position: u32) -> Option<u32> {
        let (mut low, mut high) = (0, u64::from(self.header()?[0]));
        while low < high {
            let middle = low + (high - low) / 2;
            let [start, _] = self.read(HEADER_BYTES as u64 + middle * ROW)?;
            if start <= position { low = middle + 1 } else { high = middle }
        }
        let [_, place] = self.read(HEADER_BYTES as u64 + low.checked_sub(1)? * ROW)?;
        Some(place)
    }

    fn place(&self, place: u32) -> Option<[u32; 3]> {
        let [rows, places, _] = self.header().filter(|_| place != NONE)?;
        let start = HEADER_BYTES as u64 + u64::from(rows) * ROW;
        (place < places).then(|| self.read(start + u64::from(place) * PLACE))?
    }

    fn file(&self, name: u32) -> Option<&str> {
        let [rows, places, names] = self.header()?;
        let start = HEADER_BYTES as u64 + u64::from(rows) * ROW + u64::from(places) * PLACE;
        let start = usize::try_from(start).ok()?;
        let names = self.0.get(start..start.checked_add(names as usize)?)?;
        let rest = names.get(name as usize..)?;
        let rest = &rest[..rest.len().min(NAME_BYTES_MAX + 1)];
        let end = rest.iter().position(|byte| *byte == 0)?;
        std::str::from_utf8(&rest[..end]).ok()
    }

    fn header(&self) -> Option<[u32; 3]> {
        self.read(0)
    }

    fn read<const N: usize>(&self, start: u64) -> Option<[u32; N]> {
        let start = usize::try_from(start).ok()?;
        let bytes = self.0.get(start..start.checked_add(N * 4)?)?;
        let (words, _) = bytes.as_chunks::<4>();
        Some(std::array::from_fn(|index| u32::from_le_bytes(words[index])))
    }
}

/// A table that is being made.
///
/// Numbers of 32 bits, the lowest byte first: how many rows, how many places, how many bytes of names. Then a row for each change of
/// place, by position: from where on, and which place. Then places: a name, by where it starts, a line, and the place of the call that
/// was inlined. Then names, each ended by a zero. What is left says what was not read.
#[derive(Debug, Default)]
pub struct Table {
    rows: Vec<[u32; 2]>,
    places: Vec<[u32; 3]>,
    place_of: HashMap<[u32; 3], u32>,
    names: Vec<u8>,
    name_of: HashMap<String, u32>,
}

/// There is no more room in the table.
#[derive(Debug, thiserror::Error)]
#[error("it has more lines than are kept")]
pub struct Full;

impl Table {
    /// The file's number.
    pub fn file(&mut self, name: &str) -> Result<u32, Full> {
        if let Some(known) = self.name_of.get(name) {
            return Ok(*known);
        }
        let number = self.names.len() as u32;
        if self.names.len() + name.len() >= NAMES_BYTES_MAX || name.len() > NAME_BYTES_MAX {
            return Err(Full);
        }
        self.names.extend(name.bytes().filter(|byte| *byte != 0).chain([0]));
        self.name_of.insert(name.to_owned(), number);
        Ok(number)
    }

    /// The number of a place, which may be in a function that was inlined where its caller calls it.
    pub fn place(&mut self, file: u32, line: u32, caller: Option<u32>) -> Result<u32, Full> {
        let place = [file, line, caller.unwrap_or(NONE)];
        if let Some(known) = self.place_of.get(&place) {
            return Ok(*known);
        }
        let number = self.places.len();
        if number >= PLACES_MAX {
            return Err(Full);
        }
        self.places.push(place);
        self.place_of.insert(place, number as u32);
        Ok(number as u32)
    }

    /// From this position on the code is from that place, if from any that is known. Positions ascend; one before the last is left out.
    pub fn push(&mut self, position: u32, place: Option<u32>) -> Result<(), Full> {
        let place = place.unwrap_or(NONE);
        if self.rows.last().is_some_and(|[start, _]| *start > position) {
            return Ok(());
        }
        // Of two for the same position the later one counts.
        self.rows.pop_if(|[start, _]| *start == position);
        if self.rows.last().map_or(NONE, |[_, last]| *last) == place {
            return Ok(());
        }
        if self.rows.len() >= ROWS_MAX {
            // What is beyond it is nowhere.
            self.rows.last_mut().expect("it is full")[1] = NONE;
            return Err(Full);
        }
        self.rows.push([position, place]);
        Ok(())
    }

    /// The table's bytes; none if there is nothing in it, and nothing to say of what was not read.
    pub fn finish(&self, unread: &str) -> Vec<u8> {
        if self.rows.is_empty() && unread.is_empty() {
            return Vec::new();
        }
        let counts = [self.rows.len(), self.places.len(), self.names.len()].map(|count| count as u32);
        let numbers = counts.iter().chain(self.rows.as_flattened()).chain(self.places.as_flattened());
        let mut bytes: Vec<u8> = numbers.flat_map(|number| number.to_le_bytes()).collect();
        bytes.extend(&self.names);
        bytes.extend(unread.as_bytes());
        bytes
    }
}

/// No place, and no caller.
const NONE: u32 = u32::MAX;
const HEADER_BYTES: usize = 12;
/// Bytes of each.
const ROW: u64 = 8;
const PLACE: u64 = 12;

/// A guest with 10 MiB of code has some 800,000.
const ROWS_MAX: usize = 1 << 20;
const PLACES_MAX: usize = 1 << 20;
const NAMES_BYTES_MAX: usize = 1 << 20;
/// Of the name of a file.
pub const NAME_BYTES_MAX: usize = 512;
/// What was inlined into what was inlined, and so on: so many are told.
const CALLERS_MAX: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    fn at(lines: &Lines, position: u32) -> Vec<(&str, u32)> {
        lines.at(position).map(|place| (place.file, place.line)).collect()
    }

    #[test]
    fn each_position_has_the_place_of_the_row_before_it() {
        let mut table = Table::default();
        let [one, two] = ["one.rs", "two.rs"].map(|name| table.file(name).unwrap());
        let call = table.place(one, 7, None).unwrap();
        let inlined = table.place(two, 3, Some(call)).unwrap();
        for (position, place) in [(10, Some(call)), (20, Some(inlined)), (21, None), (40, Some(call))] {
            table.push(position, place).unwrap();
        }
        table.push(50, None).unwrap();
        let lines = Lines::new(&table.finish(""));
        assert_eq!(at(&lines, 9), []);
        for position in [10, 19, 40, 49] {
            assert_eq!(at(&lines, position), [("one.rs", 7)], "{position}");
        }
        assert_eq!(at(&lines, 20), [("two.rs", 3), ("one.rs", 7)]);
        for position in [21, 39, 50, u32::MAX] {
            assert_eq!(at(&lines, position), [], "{position}");
        }
        assert_eq!(lines.unread(), None);
    }

    #[test]
    fn only_changes_have_rows() {
        let mut table = Table::default();
        let file = table.file("x.rs").unwrap();
        let [one, two] = [1, 2].map(|line| table.place(file, line, None).unwrap());
        assert_eq!(table.file("x.rs").unwrap(), file);
        assert_eq!(table.place(file, 2, None).unwrap(), two);
        let stretches =
            [(10, 20, one), (20, 30, one), (30, 40, two), (40, 50, two), (60, 70, two), (5, 6, one)];
        for (start, end, place) in stretches {
            table.push(start, Some(place)).unwrap();
            table.push(end, None).unwrap();
        }
        assert_eq!(table.rows, [[10, one], [30, two], [50, NONE], [60, two], [70, NONE]]);
    }

    #[test]
    fn none_have_no_bytes_but_for_what_was_not_read() {
        assert!(Table::default().finish("").is_empty());
        assert_eq!(at(&Lines::default(), 0), []);
        let lines = Lines::new(&Table::default().finish("it is odd"));
        assert_eq!((lines.unread(), at(&lines, 0)), (Some("it is odd"), vec![]));
    }

    #[test]
    fn a_table_is_full_at_its_bounds_and_tells_nothing_beyond() {
        let mut table = Table::default();
        let file = table.file("x.rs").unwrap();
        let places = [1, 2].map(|line| table.place(file, line, None).unwrap());
        let pushed =
            (0..=ROWS_MAX as u32).find(|row| table.push(*row, Some(places[*row as usize % 2])).is_err());
        assert_eq!(pushed, Some(ROWS_MAX as u32));
        let lines = Lines::new(&table.finish("full"));
        assert_eq!(at(&lines, ROWS_MAX as u32 - 2).len(), 1);
        assert_eq!(at(&lines, ROWS_MAX as u32 + 5), []);
        assert!(table.file(&"x".repeat(NAME_BYTES_MAX + 1)).is_err(), "names have a length");
        let full = (0..NAMES_BYTES_MAX).find(|name| table.file(&format!("{name:0100}")).is_err());
        assert!(full.is_some() && table.names.len() <= NAMES_BYTES_MAX, "{full:?}");
    }

    /// Whatever is in it, a search ends and tells something or nothing.
    #[test]
    fn damage_is_no_harm() {
        let mut table = Table::default();
        let file = table.file("x.rs").unwrap();
        let mut caller = None;
        for line in 0..20 {
            caller = Some(table.place(file, line, caller).unwrap());
            table.push(line * 3, caller).unwrap();
        }
        let whole = table.finish("");
        let search = |bytes: &[u8]| {
            let lines = Lines::new(bytes);
            for position in (0..70).chain([u32::MAX]) {
                assert!(lines.at(position).count() <= CALLERS_MAX);
            }
            let _ = lines.unread();
        };
        search(&whole);
        assert_eq!(Lines::new(&whole).at(57).count(), CALLERS_MAX, "a long chain ends");
        (0..whole.len()).for_each(|length| search(&whole[..length]));
        for position in 0..whole.len() {
            for value in [0, 1, 0x7f, 0x80, 0xff] {
                let mut damaged = whole.clone();
                damaged[position] = value;
                search(&damaged);
            }
        }
        // A place that is its own caller.
        let mut table = Table::default();
        let file = table.file("x.rs").unwrap();
        let place = table.place(file, 1, Some(0)).unwrap();
        table.push(0, Some(place)).unwrap();
        assert_eq!(Lines::new(&table.finish("")).at(0).count(), CALLERS_MAX);
    }
}
