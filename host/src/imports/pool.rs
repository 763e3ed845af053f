//! conet:net/pool and its twin.

use std::{sync::Arc, time::Duration};

use wasmtime::component::{Access, Accessor, HasSelf, Resource};

use super::{
    HasView, View,
    connection::Connection,
    egress,
    error::deadline,
    fault,
    view::{noting_wait, timed},
    waiting::{caller, waiting},
};
use crate::{
    bindings::{
        fibers,
        net::{
            pool::{Host, HostPool, HostPoolWithStore, PoolOptions, PoolStats},
            types::{ErrorCode, Target},
        },
    },
    config::warn::Warn,
    metrics::Import,
    pool::{self, GetError, Pool, Pooled},
    roster::{Coroutine, Doing, meanwhile},
};

/// The host's side of a `pool`.
pub struct PoolHandle {
    pool: Pool,
    target: pool::Target,
}

impl View {
    fn begin_get(
        &mut self,
        pool: &Resource<PoolHandle>,
        timeout: Option<u64>,
        who: Option<Arc<Coroutine>>,
    ) -> wasmtime::Result<impl Future<Output = Result<Pooled, ErrorCode>> + Send + use<>> {
        fault::point("pool.get");
        let PoolHandle { pool, target } = self.table.get(pool)?;
        let (pool, target, context) = (pool.clone(), target.clone(), self.context.clone());
        Ok(timed(self.context.metrics.timing(Import::PoolGet), async move {
            let deadline = deadline(timeout);
            let connect = async || {
                let _meanwhile = meanwhile(who.as_deref(), Doing::Connect);
                // It was allowed, or told of, when the pool was opened.
                let connect_max = pool.connect_max();
                egress::connect_allowed(&context, target, deadline, connect_max, who.as_deref()).await
            };
            pool.get(deadline, connect).await.map_err(|error| match error {
                GetError::TimedOut => ErrorCode::TimedOut,
                GetError::Connect(code) => code,
            })
        }))
    }

    fn end_get(
        &mut self,
        (pooled, waited): (Result<Pooled, ErrorCode>, bool),
    ) -> wasmtime::Result<Result<Resource<Connection>, ErrorCode>> {
        self.blocked(waited, pooled.is_ok());
        match pooled {
            Ok(pooled) => self.push(Connection::pooled(pooled, self.fate.clone())),
            Err(code) => Ok(Err(code)),
        }
    }
}

impl Host for View {}

impl HostPool for View {
    fn open(
        &mut self,
        target: Target,
        options: Option<PoolOptions>,
    ) -> wasmtime::Result<Result<Resource<PoolHandle>, ErrorCode>> {
        fault::point("pool.open");
        let target = pool::Target::from(target);
        if let Err(code) = egress::allow(&self.context, &target) {
            return Ok(Err(code));
        }
        if options.as_ref().is_some_and(|options| options.max_open == 0 || options.connect_timeout == 0) {
            return Ok(Err(ErrorCode::InvalidArgument));
        }
        match self.context.pools.open_counted(target.clone(), options.map(Into::into)) {
            Ok((pool, beyond)) => {
                if let Some(count) = beyond {
                    let what = format_args!("{count} pools at once");
                    self.context.warnings.would_deny(Warn::Pools, what, count);
                }
                self.push(PoolHandle { pool, target })
            }
            Err(pool::TooManyPools) => {
                self.context.metrics.pools_refused.increment();
                Ok(Err(ErrorCode::LimitExceeded))
            }
        }
    }

    fn stats(&mut self, pool: Resource<PoolHandle>) -> wasmtime::Result<PoolStats> {
        fault::point("pool.stats");
        let stats = self.table.get(&pool)?.pool.stats();
        Ok(PoolStats {
            opened: stats.opened,
            reused: stats.reused,
            discarded: stats.discarded_total(),
            waited: stats.waited,
            open: u32::try_from(stats.open).unwrap_or(u32::MAX),
            idle: u32::try_from(stats.idle).unwrap_or(u32::MAX),
        })
    }

    fn drop(&mut self, pool: Resource<PoolHandle>) -> wasmtime::Result<()> {
        fault::point("pool.drop");
        self.table.delete(pool)?;
        Ok(())
    }
}

impl<T: HasView> HostPoolWithStore<T> for HasSelf<View> {
    async fn get(
        mut access: Access<'_, T, Self>,
        pool: Resource<PoolHandle>,
        timeout: Option<u64>,
    ) -> wasmtime::Result<Result<Resource<Connection>, ErrorCode>> {
        let view = access.get();
        let who = view.coroutine.clone();
        let get = view.begin_get(&pool, timeout, who)?;
        let pooled = waiting(&mut access, Doing::PoolWait, get).await;
        access.get().end_get(pooled)
    }
}

impl fibers::pool::Host for View {}

impl<T: HasView> fibers::pool::HostWithStore<T> for HasSelf<View> {
    async fn get(
        accessor: &Accessor<T, Self>,
        pool: Resource<PoolHandle>,
        timeout: Option<u64>,
    ) -> wasmtime::Result<Result<Resource<Connection>, ErrorCode>> {
        let who = caller(accessor);
        let get = accessor.with(|mut a| a.get().begin_get(&pool, timeout, who.clone()))?;
        let _meanwhile = meanwhile(who.as_deref(), Doing::PoolWait);
        let pooled = noting_wait(get).await;
        accessor.with(|mut a| a.get().end_get(pooled))
    }
}

impl From<PoolOptions> for pool::PoolOptions {
    fn from(options: PoolOptions) -> Self {
        Self {
            open_max: options.max_open as usize,
            idle_max: options.max_idle as usize,
            idle_age_max: Duration::from_nanos(options.idle_age),
            age_max: Duration::from_nanos(options.max_age),
            connect_max: Duration::from_nanos(options.connect_timeout),
        }
    }
}
