//! A coroutine runtime of its own: one thread for each core, an executor and a reactor on each, timers and TCP.
//!
//! A [`Worker`] owns its tasks and its sockets; nothing moves between workers by itself. Operations are
//! completion-shaped: what the kernel has not finished keeps its buffer and its descriptor until it has, even
//! after the future that started it is gone.
//!
//! ```
//! use conet_rt::{WorkerConfig, block_on, net, spawn};
//!
//! # fn main() -> std::io::Result<()> {
//! let echoed = block_on(WorkerConfig::default(), async {
//!     let listener = net::TcpListener::bind("127.0.0.1:0".parse().unwrap(), &net::ListenOptions::default())?;
//!     let address = listener.local_addr()?;
//!     spawn(async move {
//!         let (peer, _) = listener.accept().await?;
//!         let bytes = peer.recv(1024).await?;
//!         peer.send(bytes.into_vec()).await
//!     })
//!     .detach();
//!     let stream = net::TcpStream::connect(address).await?;
//!     stream.send(b"hello".to_vec()).await?;
//!     stream.recv(1024).await
//! })??;
//! assert_eq!(&*echoed, b"hello");
//! # Ok(())
//! # }
//! ```

#![warn(missing_docs)]

#[cfg(not(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"))))]
compile_error!("conet runs on Linux on x86-64 and aarch64 only");

pub mod alarm;
pub mod net;
pub mod time;
mod worker;

pub mod budget;
mod executor;
mod inherit;
mod turns;

mod driver;
mod reactor;
mod timer;

mod buf;
pub mod error;
mod key;
mod mailbox;
mod prefetch;
mod remote;
mod room;
mod stack;
mod sync;

pub use buf::{BUF_BYTES, Buf};
pub use driver::{DriverKind, Unavailable};
pub use executor::{Group, JoinError, Task};
pub use inherit::close_on_exec;
pub use remote::{Stopped, WorkerId};
pub use stack::{Stack, Stacks};
pub use turns::short_turns;
pub use worker::{
    Handle, Hooks, Stalls, Worker, WorkerConfig, block_on, flush, is_alone, is_shared, look_soon,
    others_wait, runs_long, spawn, spawn_in, unwatch, watch,
};
