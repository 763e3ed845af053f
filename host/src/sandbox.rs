//! A component in its sandbox: the Engine, compiled code, stores with their limits, coroutines. Knows no TOML and
//! restarts nothing.

pub mod bulk;
pub mod cache;
pub mod compiler;
pub mod component;
pub mod coroutine;
pub mod engine;
pub mod engines;
mod functions;
pub mod limiter;
pub mod pooled;
mod sample;
pub mod scan;
mod sections;
pub mod shared;
pub mod slice;
pub mod stack_check;
mod start;
pub mod store;
pub mod threads;
pub mod ticker;
pub mod trap;
mod trusted;
