//! A component in its sandbox: the Engine, compiled code, stores with their limits, coroutines. Knows no TOML and
//! restarts nothing.

mod artifact;
pub mod bulk;
pub mod cache;
pub mod compiler;
pub mod component;
pub mod coroutine;
mod debug_lines;
pub mod engine;
pub mod engines;
mod functions;
pub mod limiter;
mod moves;
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
