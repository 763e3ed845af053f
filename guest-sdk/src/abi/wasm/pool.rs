//! Pools: handles of the host.

use std::time::Duration;

use super::bindings::pool;
use super::calls::calls;
use super::convert;
use super::coroutine::waiting;
use super::returned::Returned;
use super::socket::Connection;
use crate::ErrorCode;
use crate::abi::nanoseconds;
use crate::net::Target;
use crate::pool::{Options, Stats};

#[derive(Debug)]
pub(crate) struct Pool(pool::Pool);

impl Pool {
    pub(crate) fn open(target: &Target, options: Option<Options>) -> Result<Pool, ErrorCode> {
        let target = convert::to_wit_target(target);
        Ok(Pool(pool::Pool::open(&target, options.map(to_wit))?))
    }

    pub(crate) fn get(&self, timeout: Option<Duration>) -> Result<Connection, ErrorCode> {
        let (timed, timeout) = convert::timeout(timeout);
        // SAFETY: `get` writes its result to the pointer; an `ok` one is a connection that is now ours.
        unsafe {
            let handle = waiting(|| {
                Returned::by(|returned| (calls().pool_get)(self.0.handle(), timed, timeout, returned))
            })?;
            Ok(Connection::from_handle(handle))
        }
    }

    pub(crate) fn stats(&self) -> Stats {
        let stats = self.0.stats();
        Stats {
            opened: stats.opened,
            reused: stats.reused,
            discarded: stats.discarded,
            waited: stats.waited,
            open: stats.open,
            idle: stats.idle,
        }
    }
}

fn to_wit(options: Options) -> pool::PoolOptions {
    pool::PoolOptions {
        max_open: options.max_open,
        max_idle: options.max_idle,
        idle_age: nanoseconds(options.idle_age),
        max_age: options.max_age.map_or(0, nanoseconds),
        connect_timeout: nanoseconds(options.connect_timeout),
    }
}
