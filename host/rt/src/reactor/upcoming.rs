//! Whose turn comes next.
//!
//! With many connections, what an idle one left in the caches is gone when it goes on: fetching its stack line by line,
//! each after a walk through page tables that are cold too, costs more than the work it does then. So it is fetched
//! while the ones before it run.
//!
//! Tasks of one group run in the order of their wakeups. Where several groups take turns, some are fetched too early or not at all.

use std::collections::VecDeque;

use crate::prefetch::prefetch;

/// The stacks of tasks that were woken, in the order in which they will run.
#[derive(Default)]
pub(super) struct Upcoming {
    /// Turn of the first.
    first: u32,
    stacks: VecDeque<usize>,
}

impl Upcoming {
    /// Adds a task that is woken, whose stack was at this address when it began to wait. Tells its turn.
    pub(super) fn push(&mut self, stack: usize) -> u32 {
        if self.stacks.len() == TURNS_MAX {
            self.skip(TURNS_MAX / 2);
        }
        let place = self.stacks.len();
        self.stacks.push_back(stack);
        if place < AHEAD {
            fetch(stack);
        }
        // At most TURNS_MAX.
        self.first.wrapping_add(place as u32)
    }

    /// A task goes on: fetches for one that soon will.
    pub(super) fn taken(&mut self, turn: u32) {
        let place = turn.wrapping_sub(self.first) as usize;
        // Else it was skipped, or woken before there were many.
        if place < self.stacks.len() {
            if let Some(stack) = self.stacks.get(place + AHEAD) {
                fetch(*stack);
            }
            self.skip(place + 1);
        }
    }

    fn skip(&mut self, count: usize) {
        self.stacks.drain(..count);
        // At most TURNS_MAX.
        self.first = self.first.wrapping_add(count as u32);
    }
}

fn fetch(stack: usize) {
    prefetch(stack.wrapping_sub(BELOW_BYTES), BELOW_BYTES + ABOVE_BYTES);
}

/// How many turns ahead: memory arrives within one, and must not be pushed out again by others.
const AHEAD: usize = 2;
/// What a sandboxed coroutine touches around its place when it goes on, receives, sends and waits again.
const BELOW_BYTES: usize = 512;
const ABOVE_BYTES: usize = 6656;
/// Turns kept when tasks that were woken never go on.
const TURNS_MAX: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_are_kept_until_a_later_one_is_taken() {
        let mut upcoming = Upcoming::default();
        let turns: Vec<u32> = (0..5).map(|stack| upcoming.push(stack)).collect();
        upcoming.taken(turns[1]);
        assert_eq!(upcoming.stacks, [2, 3, 4]);
        upcoming.taken(turns[0]);
        assert_eq!(upcoming.stacks, [2, 3, 4], "its turn is over");
        upcoming.taken(turns[4]);
        assert!(upcoming.stacks.is_empty());
        assert_eq!(upcoming.push(9), turns[4] + 1);
    }

    #[test]
    fn turns_that_are_never_taken_are_forgotten() {
        let mut upcoming = Upcoming { first: u32::MAX - 10, ..Upcoming::default() };
        let last = (0..3 * TURNS_MAX).map(|stack| upcoming.push(stack)).last().unwrap();
        assert!(upcoming.stacks.len() <= TURNS_MAX);
        upcoming.taken(last);
        assert!(upcoming.stacks.is_empty());
    }
}
