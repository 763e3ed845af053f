//! Client connections that are kept open and shared by all coroutines and instances of a tenant.
//!
//! ```
//! use conet::{net::TcpListener, pool::Pool};
//! use std::io::{Read, Write};
//!
//! let stats = conet::run(|| {
//!     let listener = TcpListener::bind("127.0.0.1:0")?;
//!     let pool = Pool::open(listener.local_addr()?)?;
//!     conet::go(move || {
//!         let mut conn = listener.accept()?.0;
//!         let mut buf = [0; 4];
//!         while conn.read_exact(&mut buf).is_ok() {
//!             conn.write_all(&buf)?;
//!         }
//!         std::io::Result::Ok(())
//!     })?;
//!     for _ in 0..3 {
//!         let mut conn = pool.get()?;
//!         conn.write_all(b"ping")?;
//!         let mut answer = [0; 4];
//!         conn.read_exact(&mut answer)?;
//!         assert_eq!(&answer, b"ping");
//!     } // The connection goes back here.
//!     std::io::Result::Ok(pool.stats())
//! })?;
//! assert_eq!((stats.opened, stats.reused), (1, 2));
//! # std::io::Result::Ok(())
//! ```

use std::io;
use std::time::Duration;

use crate::abi;
use crate::net::{TcpStream, ToTarget};

/// A handle on a pool. The same target and options give the same pool, wherever in the tenant it is opened.
#[derive(Debug)]
pub struct Pool {
    pool: abi::Pool,
}

impl Pool {
    /// Opens the pool of `target` with the tenant's defaults; no connection is made yet.
    pub fn open(target: impl ToTarget) -> io::Result<Pool> {
        Ok(Pool { pool: abi::Pool::open(&target.to_target()?, None)? })
    }

    /// Opens the pool of `target` with `options`; values beyond the tenant's limits are cut to them.
    pub fn open_with(target: impl ToTarget, options: Options) -> io::Result<Pool> {
        Ok(Pool { pool: abi::Pool::open(&target.to_target()?, Some(options))? })
    }

    /// An idle connection, or a new one; at `max_open`, waits in line, first come first served.
    ///
    /// Dropping the connection returns it, if it is still healthy: open, without error, nothing unread. One on which a
    /// read or write has failed or timed out is discarded, for a late answer must not reach the next borrower, and so is
    /// one that was shut down. `TCP_NODELAY` is on again for the next one. [`TcpStream::close`] discards it.
    pub fn get(&self) -> io::Result<TcpStream> {
        Ok(TcpStream::new(self.pool.get(None)?))
    }

    /// [`get`](Pool::get), waiting no longer than `timeout`.
    pub fn get_timeout(&self, timeout: Duration) -> io::Result<TcpStream> {
        Ok(TcpStream::new(self.pool.get(Some(timeout))?))
    }

    /// What the pool has done so far, over all its users.
    pub fn stats(&self) -> Stats {
        self.pool.stats()
    }
}

/// How a pool behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Options {
    /// Most connections open at once, in use and idle. At least 1.
    pub max_open: u32,
    /// Most idle connections kept.
    pub max_idle: u32,
    /// An idle connection is closed after this long.
    pub idle_age: Duration,
    /// A connection this old is closed when it comes back; none leaves it to the tenant's limit, 5 minutes.
    pub max_age: Option<Duration>,
    /// How long opening a connection may take. Not zero.
    pub connect_timeout: Duration,
}

impl Default for Options {
    /// 64 open, 16 idle for 30 s, 5 minutes old, 5 s to connect.
    fn default() -> Options {
        Options {
            max_open: 64,
            max_idle: 16,
            idle_age: Duration::from_secs(30),
            max_age: Some(Duration::from_secs(300)),
            connect_timeout: Duration::from_secs(5),
        }
    }
}

/// What a pool has done since it was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// Connections opened.
    pub opened: u64,
    /// Times an idle connection was handed out again.
    pub reused: u64,
    /// Connections closed instead of kept: spoiled, failed the health check, over age, over `max_idle`, or discarded.
    pub discarded: u64,
    /// Times a `get` had to wait in line.
    pub waited: u64,
    /// Connections open now, in use and idle.
    pub open: u32,
    /// Of them, idle now.
    pub idle: u32,
}
