//! TCP on this worker's reactor.
//!
//! A socket belongs to the worker on which it was made, and its operations must be polled there; its object may be
//! dropped anywhere. Operations do not borrow their socket. One task may receive while another sends; a second
//! operation in the same direction ends with [`busy`](crate::error::busy).
//!
//! Dropping an operation cancels it. No received byte and no accepted connection is lost by that: the next
//! operation gets them. A cancelled send has sent nothing with the epoll driver, but others may have sent a part:
//! after one, the only safe thing to do with a stream is to close it.

mod handover;
mod listener;
mod op;
mod owned;
mod stream;

pub use handover::{look_again, tell_heir};
pub use listener::{ListenOptions, TcpListener};
pub use op::{Accept, Connect, Recv, Send};
pub use stream::{Detached, Resetter, TcpStream};
