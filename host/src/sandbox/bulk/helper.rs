//! The functions that do long operations in pieces.
//!
//! wasmtime looks at the epoch at each turn of a loop, which is all that they are for. Each is entered with more than a
//! piece to do, and first sees whether the whole is within bounds. If it is not, the instruction itself is executed, which
//! traps before it has written anything.

use wasm_encoder::{BlockType, Function, Instruction};

use super::{Bulk, PIECE_BYTES};

/// The function that takes the operation's operands and does it.
pub(super) fn body(bulk: Bulk) -> Function {
    let instructions = match bulk {
        Bulk::Fill { memory } => {
            [is_beyond_memory(memory, TO), whole_at_once(bulk), forwards(bulk, &[TO])].concat()
        }
        Bulk::Copy { to, from } => [
            is_beyond_memory(to, TO),
            is_beyond_memory(from, FROM),
            vec![Instruction::I32Or],
            whole_at_once(bulk),
            if to == from { backwards_if_it_must_be(bulk) } else { vec![] },
            forwards(bulk, &[TO, FROM]),
        ]
        .concat(),
        Bulk::Init { memory, data_bytes, .. } => [
            is_beyond_memory(memory, TO),
            // A segment that was dropped has no bytes any more: then the first piece traps.
            is_beyond(FROM, &[Instruction::I64Const(i64::from(data_bytes))]),
            vec![Instruction::I32Or],
            whole_at_once(bulk),
            forwards(bulk, &[TO, FROM]),
        ]
        .concat(),
    };
    let mut function = Function::new([]);
    instructions.iter().for_each(|instruction| _ = function.instruction(instruction));
    function.instruction(&Instruction::End);
    function
}

/// Whether as much from `start` on ends beyond the memory, as it is now.
fn is_beyond_memory(memory: u32, start: u32) -> Vec<Instruction<'static>> {
    let bytes = [
        Instruction::MemorySize(memory),
        Instruction::I64ExtendI32U,
        Instruction::I64Const(PAGE_BITS),
        Instruction::I64Shl,
    ];
    is_beyond(start, &bytes)
}

/// Whether as much from `start` on ends beyond so many bytes. With 64 bits nothing overflows.
fn is_beyond(start: u32, bytes: &[Instruction<'static>]) -> Vec<Instruction<'static>> {
    let end = [
        Instruction::LocalGet(start),
        Instruction::I64ExtendI32U,
        Instruction::LocalGet(LENGTH),
        Instruction::I64ExtendI32U,
        Instruction::I64Add,
    ];
    [&end, bytes, &[Instruction::I64GtU]].concat()
}

/// If it is out of bounds, which is on the stack: the instruction itself.
fn whole_at_once(bulk: Bulk) -> Vec<Instruction<'static>> {
    let first = [Instruction::If(BlockType::Empty)];
    [&first, &all_that_is_left(bulk)[..], &[Instruction::Return, Instruction::End]].concat()
}

/// From the start on, in a loop, up to the end.
fn forwards(bulk: Bulk, starts: &[u32]) -> Vec<Instruction<'static>> {
    let first = [
        Instruction::Loop(BlockType::Empty),
        Instruction::LocalGet(TO),
        Instruction::LocalGet(FROM),
        Instruction::I32Const(PIECE),
        bulk.instruction(),
    ];
    let advance: Vec<_> = starts.iter().flat_map(|start| add_to(*start, PIECE)).collect();
    [&first, &advance[..], &add_to(LENGTH, -PIECE), &again_while_long(), &all_that_is_left(bulk)].concat()
}

/// Where it begins within what it copies, the end comes first: what is copied later would be written over.
fn backwards_if_it_must_be(bulk: Bulk) -> Vec<Instruction<'static>> {
    let first = [
        Instruction::LocalGet(TO),
        Instruction::LocalGet(FROM),
        Instruction::I32Sub,
        Instruction::LocalGet(LENGTH),
        Instruction::I32LtU,
        Instruction::If(BlockType::Empty),
        Instruction::Loop(BlockType::Empty),
    ];
    let piece = [
        Instruction::LocalGet(TO),
        Instruction::LocalGet(LENGTH),
        Instruction::I32Add,
        Instruction::LocalGet(FROM),
        Instruction::LocalGet(LENGTH),
        Instruction::I32Add,
        Instruction::I32Const(PIECE),
        bulk.instruction(),
    ];
    let last = [Instruction::Return, Instruction::End];
    [&first, &add_to(LENGTH, -PIECE)[..], &piece, &again_while_long(), &all_that_is_left(bulk), &last]
        .concat()
}

fn all_that_is_left(bulk: Bulk) -> [Instruction<'static>; 4] {
    let operand = Instruction::LocalGet;
    [operand(TO), operand(FROM), operand(LENGTH), bulk.instruction()]
}

fn add_to(local: u32, bytes: i32) -> [Instruction<'static>; 4] {
    let (get, set) = (Instruction::LocalGet(local), Instruction::LocalSet(local));
    [get, Instruction::I32Const(bytes), Instruction::I32Add, set]
}

fn again_while_long() -> [Instruction<'static>; 5] {
    [
        Instruction::LocalGet(LENGTH),
        Instruction::I32Const(PIECE),
        Instruction::I32GtU,
        Instruction::BrIf(0),
        Instruction::End,
    ]
}

/// The operands, which are parameters: where to; where from, or the value to fill with; how many bytes.
const TO: u32 = 0;
const FROM: u32 = 1;
const LENGTH: u32 = 2;

const PIECE: i32 = PIECE_BYTES as i32;
/// Of WebAssembly.
const PAGE_BITS: i64 = 16;
