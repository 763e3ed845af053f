//! A guest's stack as text, and taking one of a coroutine that somebody wants to see.

use wasmtime::{AsContext, FrameInfo, WasmBacktrace};

use super::{HasView, lines::Lines};
use crate::roster::{Coroutine, Stack};

/// Takes the stack of the guest's call that the host is in, if one of the coroutine is wanted.
pub(crate) fn take_if_wanted<T: HasView>(coroutine: &Coroutine, store: impl AsContext<Data = T>) {
    if coroutine.stacks.wanted() {
        take(coroutine, store);
    }
}

#[cold]
fn take<T: HasView>(coroutine: &Coroutine, store: impl AsContext<Data = T>) {
    let backtrace = WasmBacktrace::force_capture(&store);
    let store = store.as_context();
    let none = Lines::default();
    let lines = store.data().view_ref().context.lines.get().unwrap_or(&none);
    let frames = frames(&backtrace, lines);
    // Between two calls into the guest there is none: it is taken at the next occasion.
    if !frames.is_empty() {
        coroutine.stacks.put(Stack { frames, doing: coroutine.doing().0 });
    }
}

/// Its frames, innermost first, as many as are told, with the lines that their component's code is from.
pub fn frames(backtrace: &WasmBacktrace, lines: &Lines) -> Vec<String> {
    let frames = backtrace.frames();
    let mut told: Vec<_> = frames.iter().take(FRAMES_MAX).map(|it| frame(it, lines)).collect();
    if frames.len() > FRAMES_MAX {
        told.push(format!("… {} more", frames.len() - FRAMES_MAX));
    }
    told
}

fn frame(frame: &FrameInfo, lines: &Lines) -> String {
    // What wasmtime puts between components has no names, and positions of its own, which say nothing of lines.
    let Some(name) = frame.func_name() else { return format!("function {}", frame.func_index()) };
    let name = shortened(printable(&format!("{:#}", rustc_demangle::demangle(name))));
    // Of a module in a component it is the component's. Where a frame has called another it is the call's.
    let position = frame.module_offset().and_then(|position| u32::try_from(position).ok());
    let places = position.into_iter().flat_map(|position| lines.at(position));
    let places: Vec<_> = places.map(|place| format!(" at {}:{}", place.file, place.line)).collect();
    format!("{name}{}", shortened(printable(&places.join(", inlined"))))
}

/// Names come from the guest: they must not break out of their line of the log.
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

fn shortened(name: String) -> String {
    match name.char_indices().nth(FRAME_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &name[..end]),
        None => name,
    }
}

/// Frames that are told: a stack overflow has thousands.
const FRAMES_MAX: usize = 16;
/// Of the name of each, and of its lines. A name can have 100,000.
const FRAME_CHARS_MAX: usize = 300;

#[cfg(test)]
mod tests {
    use wasmtime::{
        Engine, Store,
        component::{Component, Linker},
    };

    use super::{super::lines::Table, *};

    #[test]
    fn a_function_name_cannot_forge_a_line_of_the_log() {
        let name = printable("dig\n2026-01-01T00:00:00Z  INFO all is well\x1b[0m");
        assert!(!name.contains(['\n', '\x1b']), "{name:?}");
        assert!(name.contains("all is well"), "the rest is as it was");
    }

    /// One component calls another: between them is code of wasmtime's, whose positions would be anybody's.
    #[test]
    fn only_the_component_s_own_code_has_lines() {
        let text = "(component \
            (component $callee \
              (core module $m (func $dig (export \"f\") unreachable)) \
              (core instance $i (instantiate $m)) \
              (func (export \"f\") (canon lift (core func $i \"f\")))) \
            (instance $callee (instantiate $callee)) \
            (component $caller \
              (import \"f\" (func $f)) \
              (core func $lowered (canon lower (func $f))) \
              (core module $m (import \"\" \"f\" (func $f)) (func $call (export \"g\") call $f)) \
              (core instance $args (export \"f\" (func $lowered))) \
              (core instance $i (instantiate $m (with \"\" (instance $args)))) \
              (func (export \"g\") (canon lift (core func $i \"g\")))) \
            (instance $caller (instantiate $caller (with \"f\" (func $callee \"f\")))) \
            (export \"g\" (func $caller \"g\")))";
        let bytes = wat::parse_str(text).expect("it is well formed");
        // The first of the two instructions is on line 1, and all that follows on line 2.
        let position = |code: &[u8]| {
            let found = bytes.windows(code.len()).position(|window| window == code);
            found.expect("the body is there") as u32 + 2
        };
        let (dig, call) = (position(b"\x03\x00\x00\x0b"), position(b"\x04\x00\x10\x00\x0b"));
        assert!(dig < call);
        let mut table = Table::default();
        let file = table.file("all.rs").expect("there is room");
        for (position, line) in [(0, 9), (dig, 1), (dig + 1, 8), (call, 2), (call + 2, 7)] {
            let place = table.place(file, line, None).expect("there is room");
            table.push(position, Some(place)).expect("there is room");
        }
        let engine = Engine::default();
        let component = Component::new(&engine, &bytes).expect("it is valid");
        let mut store = Store::new(&engine, ());
        let instance = Linker::new(&engine).instantiate(&mut store, &component).expect("it needs nothing");
        let function = instance.get_typed_func::<(), ()>(&mut store, "g").expect("it is exported");
        let error = function.call(&mut store, ()).expect_err("it traps");
        let backtrace = error.downcast_ref::<WasmBacktrace>().expect("it is a trap");
        let told = frames(backtrace, &Lines::new(&table.finish("")));
        let [inner, between, outer] = &told[..] else { panic!("{told:?}") };
        assert_eq!((&inner[..], &outer[..]), ("dig at all.rs:1", "call at all.rs:2"));
        assert!(between.starts_with("function ") && !between.contains(" at "), "{between}");
    }

    #[test]
    fn a_long_name_ends() {
        assert_eq!(shortened("é".repeat(1000)).chars().count(), FRAME_CHARS_MAX + 1);
        assert_eq!(shortened("short".to_owned()), "short");
    }
}
