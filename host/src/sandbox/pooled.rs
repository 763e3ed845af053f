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

use wasmtime::Engine;

use super::{
    component::Loaded,
    engine::{EngineOptions, Instances},
    scan::Scan,
};

/// The component in a pool, once there is one.
pub struct Pooled {
    options: EngineOptions,
    scan: Scan,
    begun: AtomicBool,
    loaded: Arc<OnceLock<Loaded>>,
}

impl Pooled {
    /// Room for `instances` at once, of a component that is loaded with `options`. Nothing is made yet.
    pub fn new(options: &EngineOptions, instances: u32, scan: Scan) -> Arc<Self> {
        let options = EngineOptions { instances: Instances::Pooled(instances), ..options.clone() };
        Arc::new(Self { options, scan, begun: AtomicBool::new(false), loaded: Arc::default() })
    }

    /// The component in the pool. `None` until the pool is there, which the first call begins to make.
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
        let (options, scan) = (self.options.clone(), self.scan.clone());
        let make = move || match mapped.again(&scan, &options) {
            // It is the only one to set it.
            Ok(pooled) => drop(loaded.set(pooled)),
            Err(error) => stays_mapped(&error),
        };
        let thread = thread::Builder::new().name("pool".into()).spawn(make);
        thread.inspect_err(|error| stays_mapped(error)).ok()
    }

    /// The pool's Engine, whose epoch has to advance, too.
    pub fn engine(&self) -> Option<&Engine> {
        self.loaded.get().map(|loaded| &loaded.engine)
    }
}

fn stays_mapped(error: &dyn Display) {
    tracing::warn!("each instance is mapped anew, which takes longer: {error}");
}
