//! Tasks that share a worker's time as if they were one.

use std::fmt;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::Handle;

/// A group of tasks, on any number of workers. Among the groups that have tasks ready, each worker shares its CPU time by
/// weight, whatever the number of their tasks.
///
/// What is cloned is a handle. A group lives as long as a handle or a task of it does.
///
/// ```
/// use std::num::NonZeroU32;
/// use conet_rt::{Group, WorkerConfig, block_on, spawn, spawn_in};
///
/// # fn main() -> std::io::Result<()> {
/// // Under load, twice the time of a group that weighs 100.
/// let group = Group::new(NonZeroU32::new(200).unwrap());
/// block_on(WorkerConfig::default(), async {
///     spawn_in(&group, async {
///         // It inherits the group.
///         spawn(async {}).await
///     })
///     .await
/// })?
/// .unwrap()
/// .unwrap();
/// println!("used {:?}", group.cpu_time());
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Group(Arc<Shared>);

struct Shared {
    weight: AtomicU32,
    cancelled: AtomicBool,
    used: Mutex<Used>,
}

/// CPU time in nanoseconds.
#[derive(Default)]
struct Used {
    /// On workers that have no task of the group any more.
    past: u64,
    /// On each that has.
    present: Vec<Arc<Nanos>>,
}

/// Written by one worker only. Two cache lines, as processors fetch them in pairs.
#[derive(Default)]
#[repr(align(128))]
struct Nanos(AtomicU64);

impl Group {
    /// What a worker's own group weighs, to which tasks belong that were given none: the default of cgroups, too.
    pub const DEFAULT_WEIGHT: NonZeroU32 = NonZeroU32::new(100).unwrap();

    /// A group without tasks.
    pub fn new(weight: NonZeroU32) -> Group {
        let (weight, cancelled) = (AtomicU32::new(weight.get()), AtomicBool::new(false));
        Group(Arc::new(Shared { weight, cancelled, used: Mutex::default() }))
    }

    /// Its weight now.
    pub fn weight(&self) -> NonZeroU32 {
        // Only weights are ever stored.
        NonZeroU32::new(self.0.weight.load(Ordering::Relaxed)).expect("not zero")
    }

    /// Changes the weight, for what is used from now on.
    pub fn set_weight(&self, weight: NonZeroU32) {
        self.0.weight.store(weight.get(), Ordering::Relaxed);
    }

    /// Drops its tasks on these workers, each on its own thread, and does not wait until they are gone. No task of the
    /// group runs any more, also none that is started later.
    pub fn cancel<'a>(&self, workers: impl IntoIterator<Item = &'a Handle>) {
        self.0.cancelled.store(true, Ordering::Relaxed);
        for worker in workers {
            worker.cancel(self);
        }
    }

    pub(super) fn is_cancelled(&self) -> bool {
        self.0.cancelled.load(Ordering::Relaxed)
    }

    /// CPU time used on all workers, without what the system has run between. A worker reports what a lone group uses
    /// only now and then, so each may be a few milliseconds behind.
    pub fn cpu_time(&self) -> Duration {
        let used = self.used();
        let present: u64 = used.present.iter().map(|nanos| nanos.0.load(Ordering::Relaxed)).sum();
        Duration::from_nanos(used.past + present)
    }

    /// Tells it from all other groups that live.
    pub(super) fn id(&self) -> GroupId {
        GroupId(Arc::as_ptr(&self.0).addr())
    }

    fn used(&self) -> MutexGuard<'_, Used> {
        // Nothing that panics runs under this lock.
        self.0.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Group").field("weight", &self.weight()).field("cpu_time", &self.cpu_time()).finish()
    }
}

/// Names a group while it lives.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct GroupId(usize);

/// What one worker charges a group with.
pub(super) struct Account {
    group: Group,
    nanos: Arc<Nanos>,
}

impl Account {
    pub(super) fn open(group: &Group) -> Account {
        let nanos = Arc::<Nanos>::default();
        group.used().present.push(nanos.clone());
        Account { group: group.clone(), nanos }
    }

    pub(super) fn group(&self) -> &Group {
        &self.group
    }

    /// Adds CPU time. It writes to nothing that other workers write to.
    pub(super) fn charge(&self, nanos: u64) {
        // No other thread writes here, so nothing is lost between the two.
        let used = self.nanos.0.load(Ordering::Relaxed);
        self.nanos.0.store(used + nanos, Ordering::Relaxed);
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        let mut used = self.group.used();
        used.present.retain(|nanos| !Arc::ptr_eq(nanos, &self.nanos));
        used.past += self.nanos.0.load(Ordering::Relaxed);
    }
}
