//! The plain imports as wit-bindgen reads them from the contract: types, handles, and the calls that never wait.

#![allow(
    missing_docs,
    dead_code,
    unreachable_pub,
    unsafe_op_in_unsafe_fn,
    clippy::all,
    clippy::undocumented_unsafe_blocks,
    clippy::allow_attributes_without_reason,
    reason = "generated code"
)]

wit_bindgen::generate!({ path: "../wit/net", world: "imports" });

pub(crate) use conet::net::{coroutine, pool, tcp, types};
