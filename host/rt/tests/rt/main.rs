//! The runtime from outside, under every driver.

#![allow(clippy::disallowed_methods, reason = "the peers are std's, on loopback, where nothing keeps them")]

mod alarm;
mod budget;
mod drivers;
mod listener;
mod stream;
mod time;
mod tree;
mod watch;
mod worker;
