//! Deliberate panics in imports, for the build that proves a host panic ends a coroutine and not the process.
//!
//! Only `conet-host-fault`, built with the feature `fault-inject`, contains them.

/// Every import that can be made to panic, as `CONET_FAULT` names it.
pub const POINTS: &[&str] = &[
    "tcp.bind",
    "tcp.accept",
    "tcp.connect",
    "tcp.recv",
    "tcp.send",
    "tcp.try-send",
    "tcp.shutdown",
    "tcp.close",
    "tcp.peer-address",
    "tcp.local-address",
    "tcp.set-nodelay",
    "tcp.drop",
    "inbox.key",
    "inbox.add",
    "inbox.wait",
    "pool.open",
    "pool.get",
    "pool.stats",
    "pool.drop",
    "coroutine.spawn",
    "coroutine.go",
    "coroutine.sleep",
    "coroutine.yield-now",
    "coroutine.id",
    "clocks.now",
    "clocks.subscribe",
    "stdio.stdout",
    "stdio.stderr",
];

/// Panics if `CONET_FAULT` names this point.
#[cfg(feature = "fault-inject")]
pub(crate) fn point(name: &str) {
    debug_assert!(POINTS.contains(&name), "{name} is not listed");
    static ARMED: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
    let armed = ARMED.get_or_init(|| std::env::var("CONET_FAULT").ok());
    assert!(armed.as_deref() != Some(name), "injected fault in {name}");
}

/// Nothing, in a build for use.
#[cfg(not(feature = "fault-inject"))]
#[inline(always)]
pub(crate) fn point(_: &str) {}
