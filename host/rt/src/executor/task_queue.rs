//! One group's tasks on one worker.

use std::collections::VecDeque;
use std::time::Duration;

use super::group::{Account, Group};

/// The tasks of a group that are ready here, and what the group has had of this worker.
pub(super) struct TaskQueue<T> {
    pub(super) ready: VecDeque<T>,
    /// Tasks whose future lives, and who else needs the queue: it goes when there are none.
    pub(super) users: usize,
    pub(super) state: State,
    /// CPU time used by weight.
    pub(super) vruntime: Vruntime,
    account: Account,
    /// How long each of its tasks runs, of late.
    run_time: Duration,
}

/// Whether it has a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// Nothing is ready. It waits once something is, or when its last user has left.
    Idle,
    /// It is in the order. Its turn comes when no other has a lower virtual runtime.
    Waiting,
    /// Its burst goes on. It waits after it if something is ready, and is idle else.
    Running,
}

impl<T> TaskQueue<T> {
    pub(super) fn new(group: &Group, vruntime: Vruntime) -> TaskQueue<T> {
        let account = Account::open(group);
        let run_time = Duration::ZERO;
        TaskQueue { ready: VecDeque::new(), users: 0, state: State::Idle, vruntime, account, run_time }
    }

    pub(super) fn group(&self) -> &Group {
        self.account.group()
    }

    /// Nothing is left to be done, and nobody needs it.
    pub(super) fn is_over(&self) -> bool {
        self.users == 0 && self.ready.is_empty()
    }

    /// One of its tasks has run for so long.
    #[inline]
    pub(super) fn ran(&mut self, time: Duration) {
        self.run_time = (self.run_time * 7 + time) / 8;
    }

    /// Whether others would notice it when one of its tasks runs, as the last few were.
    pub(super) fn runs_long(&self) -> bool {
        self.run_time >= LONG
    }

    pub(super) fn charge(&mut self, nanos: u64) {
        self.account.charge(nanos);
        self.vruntime = self.vruntime.after(nanos, self.group().weight().get());
    }
}

/// Virtual runtime: nanoseconds of CPU time divided by weight. With 32 bits of fraction, so that no weight rounds a burst
/// to nothing, and wide enough never to overflow.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Vruntime(u128);

impl Vruntime {
    fn after(self, nanos: u64, weight: u32) -> Vruntime {
        Vruntime(self.0 + (u128::from(nanos) << 32) / u128::from(weight))
    }
}

/// Much more than a task that answers a message takes, or the calls that it costs to make room for others meanwhile.
const LONG: Duration = Duration::from_micros(100);
