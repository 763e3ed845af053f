//! Measures TCP echo servers: a load generator, native baselines to compare with, and the comparison itself.
//!
//! Everything runs on Linux over loopback. The numbers mean something only beside each other, taken in turn
//! on one machine, which is what [`compare`] does.

#![deny(unsafe_code)]

pub mod affinity;
pub mod compare;
pub mod contender;
pub mod cpu;
pub mod drain;
pub mod hosted;
pub mod idle;
pub mod instructions;
pub mod isolation;
pub mod load;
pub mod memory;
pub mod serve;
pub mod spawn;
pub mod start;
