//! Components that cost much more to compile than to write.

use std::fmt::Write as _;
use std::path::PathBuf;

use crate::artifacts;

/// So many variables that all live through a loop: the compiler's time grows with their square.
pub fn live_locals(count: usize) -> PathBuf {
    let mut text = String::from("(func (export \"f\") (param i64) (local");
    text.push_str(&" i64".repeat(count));
    text.push_str(") (loop ");
    for local in 0..count {
        let (one, other) = ((local * 7 + 1) % count, (local * 13 + 5) % count);
        write!(text, "(local.set {local} (i64.add (local.get {one}) (local.get {other})))")
            .expect("a string takes everything");
    }
    text.push_str("(br_if 0 (i64.ne (local.get 1) (i64.const 0)))))");
    component(&format!("live-locals-{count}"), &text)
}

/// So many functions that do next to nothing: the compiler's memory grows with their number, some hundred bytes for each
/// byte of theirs.
pub fn tiny_functions(count: usize) -> PathBuf {
    component(&format!("tiny-functions-{count}"), &"(func)".repeat(count))
}

/// A component with so many bytes in a section that nobody looks at.
pub fn padded(bytes: usize) -> PathBuf {
    component(&format!("padded-{bytes}"), &format!("(@custom \"padding\" \"{}\")", "x".repeat(bytes)))
}

/// A program, as far as its exports tell, with a module of these fields in it.
fn component(name: &str, fields: &str) -> PathBuf {
    let text = format!(
        "(component (core module {fields}) (instance $entry) \
         (export \"conet:net/program-entry@0.1.0\" (instance $entry)))"
    );
    let bytes = wat::parse_str(text).expect("it is well formed");
    let path = artifacts::scratch().join(name).with_extension("wasm");
    std::fs::write(&path, bytes).expect("the scratch folder is ours");
    path
}
