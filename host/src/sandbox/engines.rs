//! The Engines of a host: one for instances that last, one with a pool for those that come one after another. Both
//! run the same code, and all tenants' components are theirs.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

use sha2::{Digest, Sha256};
use wasmtime::Engine;

use super::{
    cache::Cache,
    compiler::Compiler,
    component::{LoadError, Loaded},
    engine::{EngineOptions, Instances, Shape},
    pooled::Pooled,
    scan::Scan,
    trusted::{compiled, is_of_shape},
};
use crate::config::limits::CompileLimits;

/// The Engines, and what is loaded on them.
pub struct Engines {
    options: EngineOptions,
    mapped: Engine,
    pool: Arc<Pool>,
    cache: Option<Cache>,
    compiler: Arc<Compiler>,
    /// By the hash of its bytes: tenants with the same component share its code.
    loaded: Mutex<HashMap<[u8; 32], Shared>>,
}

/// A component that tenants share.
struct Shared {
    loaded: Loaded,
    pooled: Arc<Pooled>,
    /// Shapes that it is known to have.
    shapes: HashSet<Shape>,
}

/// The Engine with the pool, made when it is first wanted.
pub(super) struct Pool {
    options: EngineOptions,
    engine: OnceLock<Engine>,
}

impl Engines {
    /// Engines with room in the pool for so many instances at once.
    pub fn new(
        options: EngineOptions,
        instances: u32,
        cache: Option<Cache>,
        compiler: Arc<Compiler>,
    ) -> Result<Self, LoadError> {
        let mapped = options.build().map_err(LoadError::Engine)?;
        let pooled = EngineOptions { instances: Instances::Pooled(instances), ..options.clone() };
        let pool = Arc::new(Pool { options: pooled, engine: OnceLock::new() });
        Ok(Self { options, mapped, pool, cache, compiler, loaded: Mutex::default() })
    }

    /// Compiles `bytes`, or takes what has been compiled before, and links it. The component must be of the shape.
    pub fn load(
        &self,
        bytes: &[u8],
        scan: &Scan,
        shape: &Shape,
        limits: &CompileLimits,
    ) -> Result<(Loaded, Arc<Pooled>), LoadError> {
        let hash: [u8; 32] = Sha256::digest(bytes).into();
        if let Some(known) = self.known(&hash, shape) {
            return known;
        }
        // One after the other: who has waited may find it done.
        let _turn = self.compiler.turn();
        if let Some(known) = self.known(&hash, shape) {
            return known;
        }
        let cache = self.cache.as_ref();
        let (component, lines) =
            compiled(&self.mapped, bytes, &self.options, shape, &self.compiler, limits, cache)?;
        if let Some(why) = lines.unread() {
            tracing::debug!("debug information of a component is not read, or not all of it: {why}");
        }
        let loaded = Loaded::link(self.mapped.clone(), &component, lines, scan, self.options.fibers)?;
        let pooled = Pooled::new(self.pool.clone(), scan.clone());
        let shared =
            Shared { loaded: loaded.clone(), pooled: pooled.clone(), shapes: HashSet::from([*shape]) };
        self.loaded().insert(hash, shared);
        Ok((loaded, pooled))
    }

    /// What is loaded already, if it is.
    fn known(&self, hash: &[u8; 32], shape: &Shape) -> Option<Result<(Loaded, Arc<Pooled>), LoadError>> {
        let mut all = self.loaded();
        let shared = all.get_mut(hash)?;
        if !shared.shapes.contains(shape) {
            if let Err(error) = is_of_shape(shared.loaded.pre.component(), &self.options, shape) {
                return Some(Err(error));
            }
            shared.shapes.insert(*shape);
        }
        Some(Ok((shared.loaded.clone(), shared.pooled.clone())))
    }

    /// What these Engines can run.
    pub fn options(&self) -> &EngineOptions {
        &self.options
    }

    /// Gives up components that nobody has any more.
    pub fn forget_unused(&self) {
        self.loaded().retain(|_, shared| Arc::strong_count(&shared.pooled) > 1);
    }

    /// The next epoch.
    pub fn advance(&self) {
        self.mapped.increment_epoch();
        if let Some(engine) = self.pool.engine.get() {
            engine.increment_epoch();
        }
    }

    fn loaded(&self) -> MutexGuard<'_, HashMap<[u8; 32], Shared>> {
        self.loaded.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pool {
    /// The Engine. Making it takes as long as making a thousand instances.
    pub(super) fn engine(&self) -> Result<&Engine, LoadError> {
        if let Some(engine) = self.engine.get() {
            return Ok(engine);
        }
        let engine = self.options.build().map_err(LoadError::Engine)?;
        Ok(self.engine.get_or_init(|| engine))
    }

    pub(super) fn fibers(&self) -> bool {
        self.options.fibers
    }
}
