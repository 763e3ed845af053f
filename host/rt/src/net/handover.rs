//! Listening sockets that pass from one process to the next while both have them.
//!
//! Of all that wait on a socket the kernel tells one, in whichever process. One that accepts nothing any more passes on what it
//! was told, within its process; when nobody is left there, the other process is to look for itself.

use crate::driver;

/// Has `tell` called whenever a connection may wait on a listening socket that no worker of this process waits on any more, from
/// now on. It is called on workers, so it must not wait; it is to have the process that has the socket now [look
/// again](look_again). A second one is passed over.
pub fn tell_heir(tell: impl Fn() + Send + Sync + 'static) {
    let tell: Box<driver::Heir> = Box::new(tell);
    driver::set_heir(tell);
}

/// Has a worker of each listening socket look for connections, though the kernel has told it of none.
pub fn look_again() {
    driver::look_again();
}
