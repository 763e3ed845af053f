//! The component once more, on an Engine with a pool: for instances that come one after another.
//!
//! Making a pool takes as long as making a thousand instances, so a thread of its own does it, when the first
//! of these instances is wanted. Until it is done, they are mapped.

use std::{
    fmt::Display,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
};

use super::{component::Loaded, engines::Pool, scan::Scan};

/// A component in the pool, once it is there.
pub struct Pooled {
    pool: Arc<Pool>,
    scan: Scan,
    begun: AtomicBool,
    loaded: Arc<OnceLock<Loaded>>,
}

impl Pooled {
    /// A component's place in the pool. Nothing is made yet.
    pub(super) fn new(pool: Arc<Pool>, scan: Scan) -> Arc<Self> {
        Arc::new(Self { pool, scan, begun: AtomicBool::new(false), loaded: Arc::default() })
    }

    /// The component in the pool. `None` until it is there, for which the first call begins to make the pool.
    pub fn get(&self, mapped: &Loaded) -> Option<&Loaded> {
        let loaded = self.loaded.get();
        if loaded.is_none() {
            self.begin(mapped);
        }
        loaded
    }

    /// Begins to make the pool, and gives the thread that does; `None` if that was done before, or cannot be.
    pub fn begin(&self, mapped: &Loaded) -> Option<JoinHandle<()>> {
        if self.begun.load(Ordering::Relaxed) || self.begun.swap(true, Ordering::Relaxed) {
            return None;
        }
        let (mapped, loaded) = (mapped.clone(), self.loaded.clone());
        let (pool, scan) = (self.pool.clone(), self.scan.clone());
        let make = move || {
            let again = pool.engine().and_then(|engine| mapped.again(&scan, engine, pool.fibers()));
            match again {
                // It is the only one to set it.
                Ok(pooled) => drop(loaded.set(pooled)),
                Err(error) => stays_mapped(&error),
            }
        };
        let thread = thread::Builder::new().name("pool".into()).spawn(make);
        thread.inspect_err(|error| stays_mapped(error)).ok()
    }
}

fn stays_mapped(error: &dyn Display) {
    tracing::warn!("each instance is mapped anew, which takes longer: {error}");
}
