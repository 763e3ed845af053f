//! Who is there: the coroutines of a tenant, and what each of them waits for.
//!
//! A coroutine notes its state where any thread can read it: a word that only its own worker writes, with no lock. Whoever looks
//! asks no worker, so that one that is stuck shows what it is stuck in, and none is held up by the look.

mod coroutine;
mod stack;

use std::{
    array,
    ops::Deref,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::sharded::{self, Sharded};

pub use coroutine::{Coroutine, Doing, Instance, Kind, Meanwhile, meanwhile};
pub use stack::{Stack, Stacks};

/// The coroutines of one version of a tenant.
#[derive(Debug, Default)]
pub struct Roster {
    /// Each worker has its own.
    shards: Sharded<Mutex<Shard>>,
}

/// Places that one thread gives to its coroutines. Locked for a moment by a coroutine that comes or goes, and by who looks only to
/// learn which segments there are.
#[derive(Debug, Default)]
struct Shard {
    segments: Vec<Arc<Segment>>,
    free: Vec<usize>,
}

/// A lock for each place: who looks holds one for as long as a count takes.
#[derive(Debug)]
struct Segment([Mutex<Option<Arc<Coroutine>>>; SEGMENT]);

/// A coroutine that is there, until this drops.
#[derive(Debug)]
pub struct Present {
    coroutine: Arc<Coroutine>,
    roster: Arc<Roster>,
    shard: usize,
    place: usize,
}

impl Roster {
    /// Enters a coroutine of the calling thread.
    pub fn enter(self: &Arc<Self>, coroutine: Coroutine) -> Present {
        let shard = sharded::place();
        let coroutine = Arc::new(coroutine);
        let (segment, place) = lock(self.shards.at(shard)).take();
        *lock(segment.at(place)) = Some(coroutine.clone());
        Present { coroutine, roster: self.clone(), shard, place }
    }

    /// Calls with each that is there.
    pub fn for_each(&self, mut look: impl FnMut(Arc<Coroutine>)) {
        for shard in self.shards.iter() {
            let segments = lock(shard).segments.clone();
            for place in segments.iter().flat_map(|segment| &segment.0) {
                let there = lock(place).clone();
                there.into_iter().for_each(&mut look);
            }
        }
    }
}

impl Shard {
    /// A place that nobody has, and the segment it is in.
    fn take(&mut self) -> (Arc<Segment>, usize) {
        let place = self.free.pop().unwrap_or_else(|| {
            let first = self.segments.len() * SEGMENT;
            self.segments.push(Arc::new(Segment(array::from_fn(|_| Mutex::default()))));
            // The lowest is taken first.
            self.free.extend((first + 1..first + SEGMENT).rev());
            first
        });
        (self.segments[place / SEGMENT].clone(), place)
    }
}

impl Segment {
    fn at(&self, place: usize) -> &Mutex<Option<Arc<Coroutine>>> {
        &self.0[place % SEGMENT]
    }
}

impl Present {
    /// The coroutine, to be noted where it is known.
    pub fn coroutine(&self) -> &Arc<Coroutine> {
        &self.coroutine
    }
}

impl Deref for Present {
    type Target = Coroutine;

    fn deref(&self) -> &Coroutine {
        &self.coroutine
    }
}

impl Drop for Present {
    fn drop(&mut self) {
        let mut shard = lock(self.roster.shards.at(self.shard));
        let segment = shard.segments[self.place / SEGMENT].clone();
        lock(segment.at(self.place)).take();
        shard.free.push(self.place);
    }
}

/// Nothing that panics runs under these locks.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Places that are made at a time.
const SEGMENT: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    fn coroutine(id: u64) -> Coroutine {
        Coroutine::new(id, Kind::Connection, Instance::new(id, false), None)
    }

    fn ids(roster: &Roster) -> Vec<u64> {
        let mut ids = Vec::new();
        roster.for_each(|coroutine| ids.push(coroutine.id));
        ids.sort_unstable();
        ids
    }

    #[test]
    fn all_are_found_and_places_are_used_again() {
        let roster = Arc::new(Roster::default());
        let count = 3 * SEGMENT as u64 + 7;
        let mut present: Vec<_> = (0..count).map(|id| roster.enter(coroutine(id))).collect();
        assert_eq!(ids(&roster), (0..count).collect::<Vec<_>>());
        present.retain(|one| one.id % 2 == 0);
        assert_eq!(ids(&roster), (0..count).step_by(2).collect::<Vec<_>>());
        let more: Vec<_> = (count..count + 300).map(|id| roster.enter(coroutine(id))).collect();
        let segments: usize = roster.shards.iter().map(|shard| lock(shard).segments.len()).sum();
        assert_eq!(segments, 4, "nobody needed more");
        drop((present, more));
        assert_eq!(ids(&roster), [] as [u64; 0]);
    }

    #[test]
    fn whoever_looks_finds_those_of_all_threads() {
        let roster = Arc::new(Roster::default());
        thread::scope(|scope| {
            let enter = |id| {
                scope.spawn({
                    let roster = &roster;
                    move || roster.enter(coroutine(id))
                })
            };
            let present: Vec<_> = [1, 2, 3].map(enter).into_iter().map(|one| one.join().unwrap()).collect();
            assert_eq!(ids(&roster), [1, 2, 3]);
            drop(present);
        });
        assert_eq!(ids(&roster), [] as [u64; 0]);
    }
}
