//! The host's side of wit/: generated, and nothing else.

#![allow(missing_docs, reason = "the WIT is the documentation")]

wasmtime::component::bindgen!({
    path: ["../wit/net", "../wit/fibers"],
    world: "conet:fibers/imports",
    imports: {
        "conet:net/tcp.[method]listener.accept": async | store | trappable,
        "conet:net/tcp.[static]connection.connect": async | store | trappable,
        "conet:net/tcp.[method]connection.recv": async | store | trappable,
        "conet:net/tcp.[method]connection.send": async | store | trappable,
        "conet:net/pool.[method]pool.get": async | store | trappable,
        "conet:net/coroutine.sleep": async | store | trappable,
        "conet:net/coroutine.yield-now": async | store | trappable,
        "conet:fibers/inbox.wait": async | store | trappable,
        "conet:fibers/inbox.key": store | trappable,
        "conet:fibers/inbox.add": store | trappable,
        "conet:fibers/tcp": async | store | trappable,
        "conet:fibers/pool": async | store | trappable,
        "conet:fibers/coroutine.sleep": async | store | trappable,
        "conet:fibers/coroutine.yield-now": async | store | trappable,
        "conet:fibers/coroutine.go": store | trappable,
        default: trappable,
    },
    with: {
        "conet:net/tcp.listener": crate::imports::tcp::Listener,
        "conet:net/tcp.connection": crate::imports::connection::Connection,
        "conet:net/pool.pool": crate::imports::pool::PoolHandle,
    },
});

pub use conet::fibers;
pub use conet::net;
