//! What the end of a child says.

use std::{os::unix::process::ExitStatusExt, process::ExitStatus};

use rustix::process::Signal;

use super::CompileError;
use crate::{config::limits::CompileLimits, sandbox::component::one_line};

/// Why a child that ended so, after these words on stderr, has given no answer.
pub(super) fn reason(status: ExitStatus, said: &[u8], limits: &CompileLimits) -> CompileError {
    let said = String::from_utf8_lossy(said);
    if status.signal() == Some(Signal::XCPU.as_raw()) {
        return CompileError::Cpu(limits.cpu_max);
    }
    if is_out_of_memory(&said) {
        return CompileError::Memory(limits.memory_bytes_max);
    }
    // A panic's first line says where, the one after it why.
    let said = one_line(said.trim());
    match status.signal() {
        Some(signal) => CompileError::Signal { signal, said },
        None => CompileError::NoAnswer { said },
    }
}

/// Whether these are the words of somebody who has got no memory: of Rust's allocator, of the system, of wasmtime.
pub(super) fn is_out_of_memory(said: &str) -> bool {
    ["memory allocation of", "Cannot allocate memory", "out of memory"]
        .iter()
        .any(|words| said.contains(words))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_told_apart() {
        let limits = CompileLimits::default();
        let of =
            |raw: i32, said: &str| reason(ExitStatus::from_raw(raw), said.as_bytes(), &limits).to_string();
        assert!(of(Signal::XCPU.as_raw(), "").contains("more than 10s of CPU time"));
        let abort = Signal::ABORT.as_raw();
        assert!(of(abort, "memory allocation of 4096 bytes failed\n").contains("`compile-memory`"));
        assert!(
            of(abort, "thread has overflowed its stack\n").contains("signal 6, after the words `thread has")
        );
        assert!(of(Signal::KILL.as_raw(), "").ends_with("signal 9"));
        // A code of 1.
        assert!(of(1 << 8, "no\nwords").ends_with("without an answer, after the words `no\u{fffd}words`"));
    }
}
