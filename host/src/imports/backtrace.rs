//! A guest's stack as text, and taking one of a coroutine that somebody wants to see.

use wasmtime::{AsContext, FrameInfo, FrameSymbol, WasmBacktrace};

use crate::roster::{Coroutine, Stack};

/// Takes the stack of the guest's call that the host is in, if one of the coroutine is wanted.
pub(crate) fn take_if_wanted(coroutine: &Coroutine, store: impl AsContext) {
    if coroutine.stacks.wanted() {
        take(coroutine, store);
    }
}

#[cold]
fn take(coroutine: &Coroutine, store: impl AsContext) {
    let frames = frames(&WasmBacktrace::force_capture(store));
    // Between two calls into the guest there is none: it is taken at the next occasion.
    if !frames.is_empty() {
        coroutine.stacks.put(Stack { frames, doing: coroutine.doing().0 });
    }
}

/// Its frames, innermost first, as many as are told.
pub fn frames(backtrace: &WasmBacktrace) -> Vec<String> {
    let frames = backtrace.frames();
    let mut told: Vec<_> = frames.iter().take(FRAMES_MAX).map(frame).collect();
    if frames.len() > FRAMES_MAX {
        told.push(format!("… {} more", frames.len() - FRAMES_MAX));
    }
    told
}

fn frame(frame: &FrameInfo) -> String {
    let symbol = frame.symbols().first();
    let name = symbol.and_then(FrameSymbol::name).or(frame.func_name());
    let place = symbol.and_then(|s| Some(format!(" at {}:{}", s.file()?, s.line()?))).unwrap_or_default();
    match name {
        Some(name) => shortened(printable(&format!("{:#}{place}", rustc_demangle::demangle(name)))),
        None => format!("function {}{place}", frame.func_index()),
    }
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
/// Of each. A name can have 100,000.
const FRAME_CHARS_MAX: usize = 300;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_name_cannot_forge_a_line_of_the_log() {
        let name = printable("dig\n2026-01-01T00:00:00Z  INFO all is well\x1b[0m");
        assert!(!name.contains(['\n', '\x1b']), "{name:?}");
        assert!(name.contains("all is well"), "the rest is as it was");
    }

    #[test]
    fn a_long_name_ends() {
        assert_eq!(shortened("é".repeat(1000)).chars().count(), FRAME_CHARS_MAX + 1);
        assert_eq!(shortened("short".to_owned()), "short");
    }
}
