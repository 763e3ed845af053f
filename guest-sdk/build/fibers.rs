//! The code that switches shadow stacks.
//!
//! The rule it keeps: whenever other guest code can run, `__stack_pointer` is where the linker's stack begins
//! (`conet_system_stack`). Nothing suspends on that stack, so entries and `cabi_realloc` always find it free. A coroutine
//! runs on a stack from the heap; `conet_stack_limit` and `conet_stack_span` tell how far it reaches, and the host makes
//! compiled code check them (the functions that name the limit are left alone).
//!
//! Four objects, because the linker takes an object as soon as something names one of its symbols, and an object's
//! exports are kept even if nothing calls them: a guest without fibers must not have the entries.
//!
//! | object | needs | has |
//! |---|---|---|
//! | `twins.o` | | the globals, a wrapper around each import that waits |
//! | `fiber.o` | `twins.o`, Rust | `conet_fiber_enter`, the entry `start`, what the host looks for |
//! | `run.o` | `fiber.o`, Rust | the entry `run` |
//! | `handle.o` | `fiber.o`, Rust | the entry `handle` |

use wasm_encoder::{BlockType, Instruction, ValType};

use crate::archive::Member;
use crate::object::{Definition, Object, Step, load};

/// All of the library.
pub(crate) fn objects() -> Vec<Member> {
    vec![twins(), fiber(), entry("run.o", "run", "program-entry", &[]), handle()]
}

fn twins() -> Member {
    let mut object = Object::new();
    object.needs_global(STACK);
    for twin in TWINS {
        let import = format!("{}_import", twin.symbol);
        object.imports_function(&import, twin.interface, twin.name, twin.params, twin.results);
    }
    object.defines_global(SYSTEM_STACK, 0);
    object.defines_global(LIMIT, 0);
    object.defines_global(SPAN, UNCHECKED);
    for twin in TWINS {
        wrap(&mut object, twin);
    }
    object.finish("twins.o")
}

/// Calls the import from the system stack, then takes up the coroutine's own again.
fn wrap(object: &mut Object, twin: &Twin) {
    let import = format!("{}_import", twin.symbol);
    let arguments = twin.params.len() as u32;
    let (stack, limit, span) = (arguments, arguments + 1, arguments + 2);
    let mut steps = vec![
        Step::GlobalGet(STACK),
        local_set(stack),
        Step::GlobalGet(LIMIT),
        local_set(limit),
        Step::GlobalGet(SPAN),
        local_set(span),
    ];
    steps.extend(to_system_stack());
    steps.extend((0..arguments).map(local_get));
    steps.push(Step::Call(&import));
    // Whether the wait was cancelled, which nobody does.
    steps.extend(twin.results.iter().map(|_| Step::Plain(Instruction::Drop)));
    steps.extend([
        local_get(stack),
        Step::GlobalSet(STACK),
        local_get(limit),
        Step::GlobalSet(LIMIT),
        local_get(span),
        Step::GlobalSet(SPAN),
    ]);
    object.defines(Definition {
        symbol: twin.symbol,
        params: twin.params,
        results: &[],
        locals: 3,
        steps,
        export: None,
    });
}

fn fiber() -> Member {
    let mut object = Object::new();
    for global in [STACK, SYSTEM_STACK, LIMIT, SPAN] {
        object.needs_global(global);
    }
    object.needs_function(BODY, &[I32], &[I32]);
    object.needs_function(END, &[I32], &[]);
    object.imports_function(
        "conet_start_return",
        "[export]conet:fibers/coroutine-entry@0.1.0",
        "[task-return]start",
        &[],
        &[],
    );
    object.imports_function("conet_stack_overflow_import", COROUTINE, "stack-overflow", &[], &[]);

    object.defines(Definition {
        symbol: ENTER,
        params: &[I32],
        results: &[I32],
        locals: 1,
        steps: enter(),
        export: None,
    });
    // The host counts the coroutine until it returns.
    object.defines(Definition {
        symbol: "conet_entry_start",
        params: &[I32],
        results: &[],
        locals: 0,
        steps: vec![
            local_get(0),
            Step::Call(ENTER),
            Step::Plain(Instruction::Drop),
            Step::Call("conet_start_return"),
        ],
        export: Some("[async-lift-stackful]conet:fibers/coroutine-entry@0.1.0#start"),
    });
    let mut overflow: Vec<Step<'_>> = to_system_stack().into();
    overflow.extend([Step::Call("conet_stack_overflow_import"), Step::Plain(Instruction::Unreachable)]);
    object.defines(Definition {
        symbol: "conet_stack_overflow",
        params: &[],
        results: &[],
        locals: 0,
        steps: overflow,
        export: Some("conet_stack_overflow"),
    });
    // The host reads the indices of the globals off these.
    for (symbol, global) in
        [("conet_stack_pointer_of", STACK), ("conet_stack_limit_of", LIMIT), ("conet_stack_span_of", SPAN)]
    {
        object.defines(Definition {
            symbol,
            params: &[],
            results: &[I32],
            locals: 0,
            steps: vec![Step::GlobalGet(global)],
            export: Some(symbol),
        });
    }
    object.finish("fiber.o")
}

/// `conet_fiber_enter(fiber) -> i32`: runs the body on the fiber's stack, then frees both. Null is a fiber that could not
/// be made: 1, an error.
fn enter() -> Vec<Step<'static>> {
    let (fiber, result) = (0, 1);
    let mut steps = vec![
        local_get(fiber),
        Step::Plain(Instruction::I32Eqz),
        Step::Plain(Instruction::If(BlockType::Empty)),
        Step::Plain(Instruction::I32Const(1)),
        Step::Plain(Instruction::Return),
        Step::Plain(Instruction::End),
        // The first entry finds the linker's stack unused.
        Step::GlobalGet(SYSTEM_STACK),
        Step::Plain(Instruction::I32Eqz),
        Step::Plain(Instruction::If(BlockType::Empty)),
        Step::GlobalGet(STACK),
        Step::GlobalSet(SYSTEM_STACK),
        Step::Plain(Instruction::End),
    ];
    // The fields of `Fiber` in src/abi/wasm/fiber.rs.
    for (offset, global) in [(0, STACK), (4, LIMIT), (8, SPAN)] {
        steps.extend([local_get(fiber), load(offset), Step::GlobalSet(global)]);
    }
    steps.extend([local_get(fiber), Step::Call(BODY), local_set(result)]);
    steps.extend(to_system_stack());
    steps.extend([local_get(fiber), Step::Call(END), local_get(result)]);
    steps
}

fn handle() -> Member {
    entry("handle.o", "handle", "handler-entry", &[I32])
}

/// An entry whose result the host waits for: it is returned at the end.
fn entry(file: &'static str, name: &str, interface: &str, params: &[ValType]) -> Member {
    let begin = format!("conet_fiber_begin_{name}");
    let mut object = Object::new();
    object.needs_function(&begin, params, &[I32]);
    object.needs_function(ENTER, &[I32], &[I32]);
    object.imports_function(
        "conet_return",
        &format!("[export]conet:fibers/{interface}@0.1.0"),
        &format!("[task-return]{name}"),
        &[I32],
        &[],
    );
    let mut steps: Vec<Step<'_>> = (0..params.len() as u32).map(local_get).collect();
    steps.extend([Step::Call(&begin), Step::Call(ENTER), Step::Call("conet_return")]);
    object.defines(Definition {
        symbol: &format!("conet_entry_{name}"),
        params,
        results: &[],
        locals: 0,
        steps,
        export: Some(&format!("[async-lift-stackful]conet:fibers/{interface}@0.1.0#{name}")),
    });
    object.finish(file)
}

fn to_system_stack<'a>() -> [Step<'a>; 6] {
    [
        Step::GlobalGet(SYSTEM_STACK),
        Step::GlobalSet(STACK),
        Step::Plain(Instruction::I32Const(0)),
        Step::GlobalSet(LIMIT),
        Step::Plain(Instruction::I32Const(UNCHECKED)),
        Step::GlobalSet(SPAN),
    ]
}

fn local_get<'a>(index: u32) -> Step<'a> {
    Step::Plain(Instruction::LocalGet(index))
}

fn local_set<'a>(index: u32) -> Step<'a> {
    Step::Plain(Instruction::LocalSet(index))
}

/// An import that waits, as the canonical ABI flattens it. Its result goes through a pointer, the last parameter, or is
/// dropped.
struct Twin {
    symbol: &'static str,
    interface: &'static str,
    name: &'static str,
    params: &'static [ValType],
    results: &'static [ValType],
}

const fn twin(
    symbol: &'static str,
    interface: &'static str,
    name: &'static str,
    params: &'static [ValType],
) -> Twin {
    Twin { symbol, interface, name, params, results: &[] }
}

/// src/abi/wasm/{calls,inbox}.rs declare the same.
const TWINS: &[Twin] = &[
    twin("conet_fiber_accept", TCP, "accept", &[I32, I32, I64, I32]),
    // Thirteen words of the target, the timeout, the result.
    twin(
        "conet_fiber_connect",
        TCP,
        "connect",
        &[I32, I32, I32, I32, I32, I32, I32, I32, I32, I32, I32, I32, I32, I32, I64, I32],
    ),
    twin("conet_fiber_send", TCP, "send", &[I32, I32, I32, I32, I64, I32]),
    twin("conet_fiber_inbox_wait", "conet:fibers/inbox@0.1.0", "wait", &[I32, I32, I32]),
    Twin { symbol: "conet_fiber_suspend", interface: THREADS, name: "suspend", params: &[], results: &[I32] },
    Twin {
        symbol: "conet_fiber_suspend_then_resume",
        interface: THREADS,
        name: "suspend-then-resume",
        params: &[I32],
        results: &[I32],
    },
    twin("conet_fiber_pool_get", "conet:fibers/pool@0.1.0", "get", &[I32, I32, I64, I32]),
    twin("conet_fiber_sleep", COROUTINE, "sleep", &[I64]),
    twin("conet_fiber_yield_now", COROUTINE, "yield-now", &[]),
];

const TCP: &str = "conet:fibers/tcp@0.1.0";
const COROUTINE: &str = "conet:fibers/coroutine@0.1.0";
const THREADS: &str = "conet:fibers/threads@0.1.0";

const STACK: &str = "__stack_pointer";
const SYSTEM_STACK: &str = "conet_system_stack";
const LIMIT: &str = "conet_stack_limit";
const SPAN: &str = "conet_stack_span";
/// With limit 0 this span admits every stack pointer.
const UNCHECKED: i32 = -1;

const ENTER: &str = "conet_fiber_enter";
const BODY: &str = "conet_fiber_body";
const END: &str = "conet_fiber_end";

const I32: ValType = ValType::I32;
const I64: ValType = ValType::I64;
