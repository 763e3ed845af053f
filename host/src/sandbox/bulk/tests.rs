//! Modules with pieces run beside those without in wasmtime: the same bytes, and the same traps.

use super::*;
use crate::sandbox::engine::Codegen;
use wasmtime::{Config, Engine, Instance, Memory, Module, Store, Trap, UpdateDeadline, WasmBacktrace};

const PIECE: u32 = PIECE_BYTES;

/// Two memories of 9 and 7 pieces, each a page, and 5 pieces and a bit of data.
fn module() -> Vec<u8> {
    let data: String =
        (0..5 * PIECE + 77).map(|byte| format!("\\{:02x}", byte.wrapping_mul(31) >> 3 & 255)).collect();
    let operation = |name: &str, operator: &str| {
        format!(
            "(func ${name} (export \"{name}\") (param i32 i32 i32) (local i64 i32) \
             (local.get 0) (local.get 1) (local.get 2) ({operator}))"
        )
    };
    let text = format!(
        "(module (memory $one (export \"one\") 9) (memory $two (export \"two\") 7) (data $data \"{data}\") {} {} {} {} {} {} \
         (func (export \"drop\") (param i32 i32 i32) (data.drop $data)))",
        operation("fill", "memory.fill $one"),
        operation("fill_two", "memory.fill $two"),
        operation("copy", "memory.copy $one $one"),
        operation("one_to_two", "memory.copy $two $one"),
        operation("two_to_one", "memory.copy $one $two"),
        operation("init", "memory.init $one $data"),
    );
    wat::parse_str(text).expect("it is well formed")
}

/// An instance of its own store.
struct Guest {
    store: Store<u64>,
    instance: Instance,
}

impl Guest {
    fn new(engine: &Engine, module: &[u8]) -> Self {
        let module = Module::new(engine, module).expect("it is valid");
        let mut store = Store::new(engine, 0);
        let instance = Instance::new(&mut store, &module, &[]).expect("it needs nothing");
        Self { store, instance }
    }

    fn call(&mut self, name: &str, (to, from, length): (u32, u32, u32)) -> Result<(), Option<Trap>> {
        let function = self.instance.get_func(&mut self.store, name).expect("it is exported");
        let function = function.typed::<(u32, u32, u32), ()>(&self.store).expect("of this type");
        let called = function.call(&mut self.store, (to, from, length));
        called.map_err(|error| error.downcast_ref::<Trap>().copied())
    }

    fn memory(&mut self, name: &str) -> Memory {
        self.instance.get_memory(&mut self.store, name).expect("it is exported")
    }

    fn bytes(&mut self, name: &str) -> &mut [u8] {
        self.memory(name).data_mut(&mut self.store)
    }
}

/// The module with pieces and the one without, with the same bytes in their memories.
fn pair(module: &[u8]) -> [Guest; 2] {
    let rewritten = rewrite_module(module, &mut Moves::default()).expect("it is well formed");
    assert!(matches!(rewritten, Cow::Owned(_)), "it has long operations");
    let mut guests = [module, &rewritten].map(|module| Guest::new(&Engine::default(), module));
    for guest in &mut guests {
        let mut random = Random(88_172_645_463_325_252);
        for memory in ["one", "two"] {
            guest.bytes(memory).iter_mut().for_each(|byte| *byte = random.next() as u8);
        }
    }
    guests
}

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: u32) -> u32 {
        (self.next() % u64::from(bound)) as u32
    }

    /// A place or a length: often at a boundary of something, or beside it.
    fn number(&mut self) -> u32 {
        let near = [0, 1, 2, 3, 5, 7, 9].map(|pieces| pieces * PIECE);
        let beside = |random: &mut Self| random.below(5).wrapping_sub(2);
        match self.below(8) {
            0 => near[self.below(7) as usize],
            1 => near[self.below(7) as usize].wrapping_add(beside(self)),
            2 => 0u32.wrapping_sub(near[self.below(7) as usize]).wrapping_add(beside(self)),
            3 => (5 * PIECE + 77).wrapping_add(beside(self)),
            _ => self.below(10 * PIECE),
        }
    }
}

#[test]
fn pieces_come_to_the_same_bytes_and_the_same_traps() {
    let [mut whole, mut pieces] = pair(&module());
    let mut random = Random(3);
    let (mut done, mut trapped) = (0, 0);
    for round in 0..ROUNDS {
        // After all else the segment is dropped, and has no bytes any more.
        if round == ROUNDS - ROUNDS / 10 {
            assert_eq!(whole.call("drop", (0, 0, 0)), pieces.call("drop", (0, 0, 0)));
        }
        let names = ["fill", "fill_two", "copy", "copy", "one_to_two", "two_to_one", "init"];
        let name = names[random.below(7) as usize];
        let mut operands = (random.number(), random.number(), random.number());
        if name == "copy" && random.below(2) == 0 {
            // Near each other, so that they overlap.
            operands.1 = operands.0.wrapping_add(random.below(4 * PIECE)).wrapping_sub(2 * PIECE);
        }
        let expected = whole.call(name, operands);
        assert_eq!(pieces.call(name, operands), expected, "{name} {operands:?}");
        let long = operands.2 > PIECE;
        match expected {
            Ok(()) => done += u32::from(long),
            Err(trap) => {
                assert_eq!(trap, Some(Trap::MemoryOutOfBounds), "{name} {operands:?}");
                trapped += u32::from(long);
            }
        }
        for memory in ["one", "two"] {
            assert!(whole.bytes(memory) == pieces.bytes(memory), "{name} {operands:?}: {memory} differs");
        }
    }
    assert!(done > ROUNDS / 20 && trapped > ROUNDS / 20, "long: {done} done, {trapped} trapped");
}

/// Where an address just beyond the end is zero again.
#[test]
fn a_memory_of_four_gibibytes_is_filled_to_its_end() {
    let text = "(module (memory (export \"one\") 65536) \
                (func (export \"fill\") (param i32 i32 i32) \
                  (local.get 0) (local.get 1) (local.get 2) (memory.fill)) \
                (func (export \"copy\") (param i32 i32 i32) \
                  (local.get 0) (local.get 1) (local.get 2) (memory.copy)))";
    let module = wat::parse_str(text).expect("it is well formed");
    let rewritten = rewrite_module(&module, &mut Moves::default()).expect("it is well formed");
    let mut guest = Guest::new(&Engine::default(), &rewritten);
    let from_end = |bytes: u32| 0u32.wrapping_sub(bytes);
    let last = |guest: &mut Guest, bytes: u32| guest.bytes("one")[from_end(bytes) as usize..].to_vec();
    let (length, place) = (3 * PIECE + 5, from_end(3 * PIECE + 5));
    for operands in [(place, 7, length + 1), (from_end(1), 7, u32::MAX), (place, 7, u32::MAX)] {
        assert_eq!(guest.call("fill", operands), Err(Some(Trap::MemoryOutOfBounds)));
        assert_eq!(guest.call("copy", (place, 0, length + 1)), Err(Some(Trap::MemoryOutOfBounds)));
        assert_eq!(guest.call("copy", (0, place, length + 1)), Err(Some(Trap::MemoryOutOfBounds)));
    }
    assert!(last(&mut guest, length + 1).iter().all(|byte| *byte == 0), "nothing is written before a trap");
    assert_eq!(guest.call("fill", (place, 7, length)), Ok(()));
    let bytes = last(&mut guest, length + 1);
    assert!(bytes[0] == 0 && bytes[1..].iter().all(|byte| *byte == 7));
    assert_eq!(guest.call("copy", (0, place, length)), Ok(()));
    assert!(guest.bytes("one")[..length as usize].iter().all(|byte| *byte == 7));
}

/// With every epoch passed, how often a call looks at it says how many pieces there are.
#[test]
fn the_epoch_is_looked_at_between_pieces() {
    let mut config = Config::new();
    config.epoch_interruption(true);
    let engine = Engine::new(&config).expect("a plain configuration");
    let module = module();
    let rewritten = rewrite_module(&module, &mut Moves::default()).expect("it is well formed");
    let looks = |module: &[u8], name: &str, length: u32| {
        let mut guest = Guest::new(&engine, module);
        guest.store.set_epoch_deadline(0);
        guest.store.epoch_deadline_callback(|mut store| {
            *store.data_mut() += 1;
            Ok(UpdateDeadline::Continue(0))
        });
        guest.call(name, (PIECE, 0, length)).expect("within bounds");
        *guest.store.data()
    };
    for name in ["fill", "fill_two", "copy", "one_to_two", "two_to_one", "init"] {
        assert!(looks(&module, name, 5 * PIECE) <= 2, "{name} is one operation");
        assert!(looks(&rewritten, name, 5 * PIECE) >= 5, "{name} is five");
        assert_eq!(looks(&rewritten, name, PIECE), looks(&module, name, PIECE), "{name} is short");
    }
}

#[test]
fn a_trap_says_where_it_was() {
    let rewritten = module();
    let rewritten = rewrite_module(&rewritten, &mut Moves::default()).expect("it is well formed");
    let mut guest = Guest::new(&Engine::default(), &rewritten);
    let mut stack = |name: &str, length: u32| {
        let function = guest.instance.get_func(&mut guest.store, name).expect("it is exported");
        let function = function.typed::<(u32, u32, u32), ()>(&guest.store).expect("of this type");
        let error = function.call(&mut guest.store, (u32::MAX, 0, length)).expect_err("out of bounds");
        let backtrace = error.downcast_ref::<WasmBacktrace>().expect("it is a trap");
        let names = backtrace.frames().iter().map(|frame| frame.func_name().unwrap_or("?").to_owned());
        names.collect::<Vec<_>>()
    };
    assert_eq!(stack("fill", PIECE + 1), ["memory.fill", "fill"]);
    assert_eq!(stack("two_to_one", 4 * PIECE), ["memory.copy", "two_to_one"]);
    assert_eq!(stack("init", 4 * PIECE), ["memory.init", "init"]);
    assert_eq!(stack("fill", 2), ["fill"]);
}

/// A length that is written beside the instruction needs no branch.
#[test]
fn what_is_short_for_sure_stays_as_it_is() {
    let changed = |body: &str| {
        let text = format!(
            "(module (memory 1) (data $short \"{}\") (func (param i32) {body}))",
            "x".repeat(PIECE as usize)
        );
        let module = wat::parse_str(text).expect("it is well formed");
        matches!(rewrite_module(&module, &mut Moves::default()).expect("it is well formed"), Cow::Owned(_))
    };
    assert!(!changed("(memory.fill (i32.const 0) (i32.const 0) (i32.const 65536))"));
    assert!(!changed("(memory.copy (local.get 0) (i32.const 0) (i32.const 0))"));
    assert!(!changed("(memory.init $short (local.get 0) (local.get 0) (local.get 0))"));
    assert!(!changed("(i32.store (local.get 0) (i32.const 100000))"));
    assert!(changed("(memory.fill (i32.const 0) (i32.const 0) (i32.const 65537))"));
    assert!(changed("(memory.fill (i32.const 0) (i32.const 0) (i32.const -1))"));
    assert!(changed("(memory.copy (i32.const 0) (i32.const 0) (i32.add (local.get 0) (i32.const 3)))"));
}

#[test]
fn unreachable_operations_and_those_of_many_locals_stay_valid() {
    let text = "(module (memory 1) (func (result i32) unreachable memory.copy (i32.const 1)) \
                (func (param i64) (result f32) (local i64 f32 i32) \
                  (i32.const 1) (i32.const 2) (i32.const 3) (i32.wrap_i64 (local.get 0)) memory.fill \
                  drop (local.get 2)))";
    let module = wat::parse_str(text).expect("it is well formed");
    let rewritten = rewrite_module(&module, &mut Moves::default()).expect("it is well formed");
    wasmparser::Validator::new().validate_all(&rewritten).expect("it is valid");
}

#[test]
fn imported_functions_and_memories_are_counted() {
    let text = "(module (import \"\" \"f\" (func)) (import \"\" \"g\" (func)) (import \"\" \"m\" (memory 1)) \
                (memory 1) (func $own) \
                (func (param i32) (memory.fill 0 (local.get 0) (local.get 0) (local.get 0))) \
                (func (param i32) (memory.copy 1 0 (local.get 0) (local.get 0) (local.get 0))))";
    let module = wat::parse_str(text).expect("it is well formed");
    let rewritten = rewrite_module(&module, &mut Moves::default()).expect("it is well formed");
    wasmparser::Validator::new().validate_all(&rewritten).expect("it is valid");
}

#[test]
fn a_nested_component_has_pieces_too() {
    let text = "(component (component (core module $m (memory 1) \
                (func (param i32) (memory.fill (local.get 0) (local.get 0) (local.get 0))))))";
    let component = wat::parse_str(text).expect("it is well formed");
    let Cow::Owned(rewritten) = instrument(&component, &mut Moves::default()).expect("it is well formed")
    else {
        panic!("it is as it was")
    };
    wasmparser::Validator::new().validate_all(&rewritten).expect("it is valid");
    assert!(
        matches!(instrument(b"\0asm\x0d\0\x01\0", &mut Moves::default()), Ok(Cow::Borrowed(_))),
        "an empty one"
    );
}

/// Whoever lets memories of 64 bits, or shared ones, be run has to have their operations in pieces here.
#[test]
fn memories_that_are_not_looked_at_are_not_compiled() {
    let codegen =
        Codegen { fibers: true, preemption: true, wasm_stack_bytes: 128 << 10, memory_bytes_max: 8 << 20 };
    let engine = codegen.compiler().expect("a plain configuration");
    for (memory, fits) in [("1", true), ("i64 1", false), ("1 2 shared", false), ("1 (pagesize 1)", false)] {
        let component = wat::parse_str(format!("(component (core module (memory {memory})))"));
        let compiled = engine.precompile_component(&component.expect("it is well formed"));
        assert_eq!(compiled.is_ok(), fits, "{memory}");
    }
}

#[test]
fn damaged_bytes_give_errors_and_no_panics() {
    let text = "(component (core module $m (memory 1) (data $d \"abc\") \
                (func $f (param i32) (memory.fill (local.get 0) (local.get 0) (local.get 0)))))";
    let component = wat::parse_str(text).expect("it is well formed");
    for length in 0..component.len() {
        let _ = instrument(&component[..length], &mut Moves::default());
    }
    for position in 0..component.len() {
        for value in 0..=u8::MAX {
            let mut damaged = component.clone();
            damaged[position] = value;
            let _ = instrument(&damaged, &mut Moves::default());
        }
    }
    assert!(instrument(&component[..component.len() - 1], &mut Moves::default()).is_err());
}

const ROUNDS: u32 = 3000;
