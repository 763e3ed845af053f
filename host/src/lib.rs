//! The conet host: runs network programs, WebAssembly components, on conet-rt's scheduler and reactor.
//!
//! Floors, from the top; a module imports from its own floor or below:
//!
//! | floor | modules |
//! |---|---|
//! | shell | [`cli`] |
//! | host | [`host`], [`exit`], [`package`] |
//! | admin | [`admin`] |
//! | tenancy | [`tenancy`] |
//! | sandbox | [`sandbox`] |
//! | imports | [`bindings`], [`imports`], [`pool`] |
//! | wall | [`wall`] |
//! | facts | [`clock`], [`config`], [`access_log`], [`ending`], [`guest_log`], [`log_gate`], [`messages`], [`metrics`], [`output`], [`quota`], [`rate`], [`roster`], [`sharded`], [`shutdown`], [`kill`], [`ids`], [`warnings`] |
//! | runtime | the crate `conet-rt` |

#![deny(unsafe_code)]

pub mod cli;

pub mod exit;
pub mod host;
pub mod package;

pub mod admin;

pub mod tenancy;

pub mod sandbox;

pub mod bindings;
pub mod imports;
pub mod pool;

pub mod wall;

pub mod access_log;
pub mod alarm;
pub mod bandwidth;
pub mod circuit;
pub mod clock;
pub mod config;
pub mod ending;
pub mod guest_log;
pub mod ids;
pub mod kill;
pub mod log_gate;
pub mod messages;
pub mod metrics;
pub mod output;
pub mod quota;
pub mod rate;
pub mod roster;
pub mod sharded;
pub mod shutdown;
pub mod warnings;
