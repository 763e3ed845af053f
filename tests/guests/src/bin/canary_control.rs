//! The canary suite with a sleep that leaves the stack pointer where it is: the suite must notice.
//!
//! Arguments as for `canary`; of the coroutines 50 at most, whose frames together fit the stack they end up sharing.

#[path = "canary/suite.rs"]
mod suite;

#[conet::main]
fn main() {
    let coroutines = suite::argument(1, 50).min(50);
    let tally = suite::run(coroutines, suite::argument(2, 100), suspend);
    suite::report(&tally);
}

#[cfg(target_family = "wasm")]
fn suspend(number: u64) {
    #[link(wasm_import_module = "conet:fibers/coroutine@0.1.0")]
    unsafe extern "C" {
        #[link_name = "sleep"]
        fn sleep(nanoseconds: u64);
    }
    // Long enough for the main coroutine to wait in between: its proper call leaves the stack checks off, which would
    // otherwise trap before any canary dies.
    let milliseconds = 5 + number % 7;
    // SAFETY: it is not safe: other coroutines run meanwhile, on this one's stack. That is what this program is for.
    unsafe { sleep(milliseconds * 1_000_000) }
}

/// Natively each coroutine is a thread with a stack of its own.
#[cfg(not(target_family = "wasm"))]
fn suspend(_: u64) {
    conet::yield_now();
}
