//! Bytes in a second, in one direction, of all of a tenant's connections.
//!
//! While there are tokens, each worker takes a lot of them and serves its connections from it. When there are none, whoever
//! wants some stands in one line for all workers, in which each connection has the same share.

mod line;

use std::{
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll, Waker},
};

use conet_rt::time;

use crate::{rate::Rate, sharded::Sharded};

use line::{Line, Place};

/// A tenant's limit in one direction.
#[derive(Debug)]
pub struct Bandwidth {
    rate: Rate,
    lot_bytes: AtomicU64,
    /// Taken of the rate, and not yet used.
    lots: Sharded<Mutex<u64>>,
    /// How many stand in the line, to be read without its lock.
    waiting: AtomicUsize,
    line: Mutex<Line>,
}

/// How far a connection has come, beside the others: its bytes in the line's virtual time.
#[derive(Debug, Default)]
pub struct Progress(AtomicU64);

impl Bandwidth {
    /// So many bytes a second.
    pub fn new(per_second: u64) -> Arc<Self> {
        let bandwidth = Self {
            rate: Rate::new(per_second, burst_bytes(per_second)),
            lot_bytes: AtomicU64::new(1),
            lots: Sharded::default(),
            waiting: AtomicUsize::new(0),
            line: Mutex::default(),
        };
        bandwidth.set(per_second);
        Arc::new(bandwidth)
    }

    /// It is so many from now on. Who waits for more at once than that lets through has it in its turn.
    pub fn set(&self, per_second: u64) {
        let burst = burst_bytes(per_second);
        self.rate.set(per_second, burst);
        self.lot_bytes.store((burst / LOTS_OF_A_BURST).max(1), Relaxed);
    }

    /// Takes so many, if there are as many and nobody waits.
    pub fn try_take(&self, bytes: u64) -> bool {
        if self.waiting.load(Relaxed) > 0 {
            return false;
        }
        let mut lot = self.lot();
        if *lot >= bytes {
            *lot -= bytes;
            return true;
        }
        let missing = bytes - *lot;
        let taken = missing.max(self.lot_bytes.load(Relaxed));
        if self.rate.try_take(taken) {
            *lot = taken - missing;
        } else if self.rate.try_take(missing) {
            *lot = 0;
        } else {
            return false;
        }
        true
    }

    /// Waits for so many: at most [`chunk_bytes`]. On a worker's thread. If it is dropped, nothing is taken.
    pub fn take<'a>(self: &Arc<Self>, bytes: u64, progress: &'a Progress) -> Take<'a> {
        Take { bandwidth: self.clone(), bytes, progress, place: None }
    }

    /// Some that were taken are not needed.
    pub fn give_back(&self, bytes: u64) {
        *self.lot() += bytes;
    }

    fn lot(&self) -> MutexGuard<'_, u64> {
        self.lots.mine().lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What those who wait want next, as much as is taken at once.
    fn next_lot(&self) -> Option<u64> {
        let mut line = self.line();
        let wanted = line.wanted(self.lot_bytes.load(Relaxed));
        line.served = wanted.is_some();
        wanted
    }

    fn serve(&self, bytes: u64) {
        let mut wakers = Vec::new();
        {
            let mut line = self.line();
            line.serve(bytes, &mut wakers);
            self.waiting.store(line.len(), Relaxed);
        }
        wakers.into_iter().for_each(Waker::wake);
    }
}

/// Takes lots for those who wait, as long as somebody does.
async fn serve(bandwidth: Arc<Bandwidth>) {
    while let Some(bytes) = bandwidth.next_lot() {
        time::sleep_until(bandwidth.rate.charge(bytes)).await;
        bandwidth.serve(bytes);
    }
}

/// See [`Bandwidth::take`].
#[derive(Debug)]
#[must_use = "futures do nothing unless awaited"]
pub struct Take<'a> {
    bandwidth: Arc<Bandwidth>,
    bytes: u64,
    progress: &'a Progress,
    /// In the line.
    place: Option<Place>,
}

impl Future for Take<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let take = &mut *self;
        if take.place.is_none() && take.bandwidth.try_take(take.bytes) {
            return Poll::Ready(());
        }
        let mut line = take.bandwidth.line();
        match take.place {
            Some(place) if line.waits(place, cx.waker()) => return Poll::Pending,
            Some(_) => {
                take.place = None;
                return Poll::Ready(());
            }
            None => {}
        }
        let start = line.start(take.progress.0.load(Relaxed));
        take.progress.0.store(start + take.bytes, Relaxed);
        take.place = Some(line.enter(start, take.bytes, cx.waker()));
        take.bandwidth.waiting.store(line.len(), Relaxed);
        if !std::mem::replace(&mut line.served, true) {
            conet_rt::spawn(serve(take.bandwidth.clone())).detach();
        }
        Poll::Pending
    }
}

impl Drop for Take<'_> {
    fn drop(&mut self) {
        let Some(place) = self.place else { return };
        let mut line = self.bandwidth.line();
        if line.leave(place) {
            self.bandwidth.waiting.store(line.len(), Relaxed);
        } else {
            // It had its turn, and has not seen it.
            drop(line);
            self.bandwidth.give_back(self.bytes);
        }
    }
}

/// What may pass at once: a tenth of a second's, but a chunk in any case.
pub fn burst_bytes(per_second: u64) -> u64 {
    (per_second / 10).max(chunk_bytes(per_second))
}

/// What one call may move of it: little enough that the others have their turn soon.
pub fn chunk_bytes(per_second: u64) -> u64 {
    (per_second / 10).clamp(CHUNK_BYTES_MIN, CHUNK_BYTES_MAX)
}

const CHUNK_BYTES_MIN: u64 = 64;
/// Received chunks wait in memory for their turn, one for each connection.
const CHUNK_BYTES_MAX: u64 = 16 << 10;
/// Each worker may have one of these to itself.
const LOTS_OF_A_BURST: u64 = 16;

#[cfg(test)]
mod tests;
