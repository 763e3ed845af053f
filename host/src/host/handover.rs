//! From one version of the program to the next: the two talk over a pair of sockets, of which the next one has an end as its
//! stdin.
//!
//! ```text
//!  the old one                          the new one
//!  "conet handover 1"            ->
//!                                <-     "conet handover 1", or why not
//!  each listening socket, what
//!  is held back, Whole           ->
//!                                       reads the file, compiles, raises its wall
//!                                <-     Serves, of each tenant, what it has Left; Ready: or Failed, and it ends
//!  Go                            ->
//!                                       begins: for a moment both accept
//!                                <-     Serving
//!  Yours                         ->
//!  accepts nothing more                 takes the admin's place
//!                                <-     Taken
//!  Look, now and then            ->
//!  ends, and with it the talk
//! ```
//!
//! Until Go the old one can think better of it, and until Serving it serves on if the new one fails. What waits to be accepted
//! is in the listening sockets, which belong to both: whoever closes one loses nothing, while the other has it.

mod key;
mod message;
mod predecessor;
mod successor;
mod talk;

pub(super) use key::{Handed, Key};
pub(super) use message::HeldBack;
pub(super) use predecessor::Word;
pub use predecessor::{MeetError, Predecessor};
pub(super) use successor::{Estate, Rising, Successor};
