//! Who waits for tokens: in the order of start-time fair queueing, so that each connection has the same share of the bytes,
//! be its messages large or small.

use std::{collections::BTreeMap, task::Waker};

/// Those who wait.
#[derive(Debug, Default)]
pub(super) struct Line {
    waiting: BTreeMap<Place, Waiting>,
    /// Brought for those who wait, and not enough for the first.
    tokens: u64,
    /// Virtual time: where the last one who had its turn began.
    now: u64,
    next_number: u64,
    /// There is a task that brings tokens.
    pub(super) served: bool,
}

/// Where one stands: by its start in virtual time, and who came first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    start: u64,
    number: u64,
}

#[derive(Debug)]
struct Waiting {
    bytes: u64,
    waker: Waker,
}

impl Line {
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// When one begins that has had its last bytes at `finish`: who had none for long has no credit.
    pub(super) fn start(&self, finish: u64) -> u64 {
        self.now.max(finish)
    }

    pub(super) fn enter(&mut self, start: u64, bytes: u64, waker: &Waker) -> Place {
        let place = Place { start, number: self.next_number };
        self.next_number += 1;
        self.waiting.insert(place, Waiting { bytes, waker: waker.clone() });
        place
    }

    /// Whether it still waits: then `waker` is whom to wake.
    pub(super) fn waits(&mut self, place: Place, waker: &Waker) -> bool {
        let Some(waiting) = self.waiting.get_mut(&place) else { return false };
        waiting.waker.clone_from(waker);
        true
    }

    /// Gives a place up; false if it has had its turn.
    pub(super) fn leave(&mut self, place: Place) -> bool {
        self.waiting.remove(&place).is_some()
    }

    /// How much is missing for all, but no more than `max` if that is enough for the first. None if nobody waits.
    pub(super) fn wanted(&self, max: u64) -> Option<u64> {
        let (_, first) = self.waiting.first_key_value()?;
        let most = max.max(first.bytes);
        let mut all = 0;
        for waiting in self.waiting.values() {
            all += waiting.bytes;
            if all >= most {
                break;
            }
        }
        Some(all.min(most).saturating_sub(self.tokens))
    }

    /// Brings tokens: those whose turn it is are to be woken.
    pub(super) fn serve(&mut self, bytes: u64, wakers: &mut Vec<Waker>) {
        self.tokens += bytes;
        while let Some(first) = self.waiting.first_entry()
            && first.get().bytes <= self.tokens
        {
            let (place, waiting) = first.remove_entry();
            self.now = place.start;
            self.tokens -= waiting.bytes;
            wakers.push(waiting.waker);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn enter(line: &mut Line, finish: &mut u64, bytes: u64) -> Place {
        let start = line.start(*finish);
        *finish = start + bytes;
        line.enter(start, bytes, Waker::noop())
    }

    fn serve(line: &mut Line, bytes: u64) -> usize {
        let mut wakers = Vec::new();
        line.serve(bytes, &mut wakers);
        wakers.len()
    }

    /// One with large messages and one with small ones, both always waiting.
    #[test]
    fn bytes_are_shared_equally_whatever_the_size_of_messages() {
        let mut line = Line::default();
        let (mut large, mut small) = (0, 0);
        let (mut large_at, mut small_at) =
            (enter(&mut line, &mut large, 1000), enter(&mut line, &mut small, 10));
        let (mut large_bytes, mut small_bytes) = (0, 0);
        for _ in 0..10_000 {
            serve(&mut line, 10);
            if !line.waits(large_at, Waker::noop()) {
                large_bytes += 1000;
                large_at = enter(&mut line, &mut large, 1000);
            }
            if !line.waits(small_at, Waker::noop()) {
                small_bytes += 10;
                small_at = enter(&mut line, &mut small, 10);
            }
        }
        let difference = i64::abs_diff(large_bytes, small_bytes);
        assert!(difference <= 2000, "{large_bytes} {small_bytes}");
        assert!(large_bytes + small_bytes >= 97_000);
    }

    #[test]
    fn who_comes_late_goes_before_those_who_had_much() {
        let mut line = Line::default();
        let (mut busy, mut fresh) = (0, 0);
        for _ in 0..5 {
            enter(&mut line, &mut busy, 100);
        }
        assert_eq!(serve(&mut line, 200), 2);
        let place = enter(&mut line, &mut fresh, 100);
        assert_eq!(serve(&mut line, 200), 2);
        assert!(
            !line.waits(place, Waker::noop()),
            "it began where the line was, before the rest of the other's"
        );
    }

    #[test]
    fn it_wants_as_much_as_is_missing() {
        let mut line = Line::default();
        assert_eq!(line.wanted(50), None);
        let first = enter(&mut line, &mut 0, 100);
        enter(&mut line, &mut 0, 20);
        assert_eq!((line.wanted(50), line.wanted(1000)), (Some(100), Some(120)));
        assert_eq!(serve(&mut line, 70), 0);
        assert_eq!(line.wanted(50), Some(30));
        assert!(line.leave(first) && !line.leave(first));
        assert_eq!(line.wanted(50), Some(0), "there is enough for the other one");
        assert_eq!(serve(&mut line, 0), 1);
        assert_eq!(line.wanted(50), None);
    }
}
