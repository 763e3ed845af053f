//! The runtime from outside, under every driver.

mod budget;
mod drivers;
mod listener;
mod stream;
mod time;
mod tree;
mod worker;
