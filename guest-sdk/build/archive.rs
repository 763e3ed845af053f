//! Writes an `ar` archive in the GNU layout: a symbol table, then the members.

/// An object file and the symbols it defines.
pub(crate) struct Member {
    /// At most 15 bytes.
    pub(crate) name: &'static str,
    pub(crate) symbols: Vec<String>,
    pub(crate) bytes: Vec<u8>,
}

/// The archive's bytes.
pub(crate) fn write(members: &[Member]) -> Vec<u8> {
    let mut out = b"!<arch>\n".to_vec();
    push(&mut out, "/", &symbol_table(members));
    for member in members {
        push(&mut out, &format!("{}/", member.name), &member.bytes);
    }
    out
}

/// A big-endian count, one offset of a member's header for each symbol, then the names, each ended by a zero.
fn symbol_table(members: &[Member]) -> Vec<u8> {
    let symbols: Vec<&String> = members.iter().flat_map(|member| &member.symbols).collect();
    let names: usize = symbols.iter().map(|name| name.len() + 1).sum();
    let mut offset = MAGIC + HEADER + padded(4 + 4 * symbols.len() + names);

    let mut table = (symbols.len() as u32).to_be_bytes().to_vec();
    for member in members {
        for _ in &member.symbols {
            table.extend((offset as u32).to_be_bytes());
        }
        offset += HEADER + padded(member.bytes.len());
    }
    for name in symbols {
        table.extend(name.as_bytes());
        table.push(0);
    }
    table
}

fn push(out: &mut Vec<u8>, name: &str, bytes: &[u8]) {
    assert!(name.len() <= 16, "{name} does not fit an ar header");
    let (date, owner, group, mode, size) = (0, 0, 0, "644", bytes.len());
    out.extend(format!("{name:<16}{date:<12}{owner:<6}{group:<6}{mode:<8}{size:<10}`\n").into_bytes());
    out.extend(bytes);
    if bytes.len() % 2 == 1 {
        out.push(b'\n');
    }
}

fn padded(bytes: usize) -> usize {
    bytes.next_multiple_of(2)
}

const MAGIC: usize = 8;
const HEADER: usize = 60;
