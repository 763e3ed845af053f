//! The primitives of the mailbox: std's here; the model test puts loom's in their place.

pub(crate) use std::sync::Mutex;
pub(crate) use std::sync::atomic::{AtomicU8, Ordering};
