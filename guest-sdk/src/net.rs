//! TCP with std's names.
//!
//! A call that waits suspends its coroutine, nothing else. TCP_NODELAY starts on.

mod listener;
mod stream;
mod target;

pub use listener::{Incoming, TcpListener};
pub use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, SocketAddrV4, SocketAddrV6};
pub use stream::TcpStream;
pub use target::{Target, ToTarget};
