//! Who waits for a quota: a line for its units, and those who wait for its end.
//!
//! Each has a ticket, under which its waker is replaced and, when it leaves, removed. Whoever gives units back looks
//! here after the count has fallen, whoever comes looks at the count after it is here: one of the two sees the other.

use std::{
    collections::{BTreeMap, BTreeSet},
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
};

use super::{Permit, Quota};

#[derive(Debug, Default)]
pub(super) struct Waiting {
    state: Mutex<State>,
    /// In line for units. Changed with the lock held.
    line: AtomicUsize,
    /// Waiting for the end. Changed with the lock held.
    watching: AtomicUsize,
}

#[derive(Debug, Default)]
struct State {
    /// By ticket: the lowest is the first.
    line: BTreeMap<u64, Waiter>,
    /// Tickets that have been given their units and have not looked yet.
    granted: BTreeSet<u64>,
    watching: BTreeMap<u64, Waker>,
    next_ticket: u64,
}

#[derive(Debug)]
struct Waiter {
    units: u64,
    waker: Waker,
}

impl Waiting {
    pub(super) fn is_wanted(&self) -> bool {
        self.line.load(Ordering::SeqCst) > 0
    }

    /// Gives free units to the line, and wakes those who wait for the end if it has come.
    pub(super) fn serve(&self, quota: &Quota) {
        if self.line.load(Ordering::SeqCst) == 0 && self.watching.load(Ordering::SeqCst) == 0 {
            return;
        }
        let mut state = self.lock();
        let mut woken = state.grant(quota);
        if quota.is_idle() {
            woken.extend(std::mem::take(&mut state.watching).into_values());
        }
        self.count(&state);
        // Drop the lock before waking: a woken task may want it at once.
        drop(state);
        woken.into_iter().for_each(Waker::wake);
    }

    /// Takes units, or the end of the line: none or a ticket.
    fn arrive(&self, quota: &Quota, units: u64, waker: &Waker) -> Option<u64> {
        let mut state = self.lock();
        if state.line.is_empty() && quota.take(units) {
            return None;
        }
        let ticket = state.ticket();
        state.line.insert(ticket, Waiter { units, waker: waker.clone() });
        self.count(&state);
        // Some may have come back before the ticket was in the line.
        let woken = state.grant(quota);
        self.count(&state);
        drop(state);
        woken.into_iter().for_each(Waker::wake);
        Some(ticket)
    }

    /// Whether `ticket` has been given its units; else notes whom to wake.
    fn look(&self, ticket: u64, waker: &Waker) -> bool {
        let mut state = self.lock();
        let granted = state.granted.remove(&ticket);
        if let Some(known) = state.line.get_mut(&ticket) {
            known.waker.clone_from(waker);
        }
        granted
    }

    /// Leaves the line; whether with units that were given and not looked at.
    fn leave(&self, ticket: u64) -> bool {
        let mut state = self.lock();
        let left = state.line.remove(&ticket);
        let granted = state.granted.remove(&ticket);
        self.count(&state);
        drop(state);
        drop(left);
        granted
    }

    fn count(&self, state: &State) {
        self.line.store(state.line.len(), Ordering::SeqCst);
        self.watching.store(state.watching.len(), Ordering::SeqCst);
    }

    /// No code that could panic runs half-way through a change.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        let state = self.lock();
        state.line.len() + state.granted.len() + state.watching.len()
    }
}

impl State {
    fn ticket(&mut self) -> u64 {
        self.next_ticket += 1;
        self.next_ticket
    }

    /// To each in line what it waits for, as long as there is enough for the first; gives whom to wake.
    fn grant(&mut self, quota: &Quota) -> Vec<Waker> {
        let mut woken = Vec::new();
        while let Some(first) = self.line.first_entry()
            && quota.take(first.get().units)
        {
            let (ticket, waiter) = first.remove_entry();
            self.granted.insert(ticket);
            woken.push(waiter.waker);
        }
        woken
    }
}

/// See [`Quota::acquire_many`]. Dropping it leaves the line, and passes on what it was given.
#[derive(Debug)]
#[must_use = "futures do nothing unless awaited"]
pub struct Acquire {
    quota: Arc<Quota>,
    units: u64,
    /// While it is in line, or has units to look at.
    ticket: Option<u64>,
    /// Whose units it waits for.
    stage: Stage,
}

/// How far one has come. What it waits for later is not taken from those who do not wait.
#[derive(Debug)]
enum Stage {
    /// Those of the quota itself.
    Own,
    /// It has those, and waits for what the quota has in common with others.
    Common(Box<Acquire>),
    /// It has those, too, and waits for what the quota lies within.
    Within(Box<Acquire>),
}

impl Acquire {
    pub(super) fn new(quota: &Arc<Quota>, units: u64) -> Self {
        Self { quota: quota.clone(), units, ticket: None, stage: Stage::Own }
    }

    /// Whether units of this quota alone have been taken.
    fn poll_own(&mut self, waker: &Waker) -> bool {
        let waiting = &self.quota.waiting;
        self.ticket = match self.ticket {
            // The lock is for those who may have to wait. Nobody who waits is overtaken.
            None if !waiting.is_wanted() && self.quota.take(self.units) => None,
            None => waiting.arrive(&self.quota, self.units, waker),
            Some(ticket) if waiting.look(ticket, waker) => None,
            waits => waits,
        };
        self.ticket.is_none()
    }

    /// Whether units of all have been taken.
    fn poll_all(&mut self, cx: &mut Context<'_>) -> bool {
        while self.poll_stage(cx) {
            let stage = std::mem::replace(&mut self.stage, Stage::Own);
            match self.after(&stage) {
                Some(next) => self.stage = next,
                None => return true,
            }
        }
        false
    }

    /// Whether it has those it waits for.
    fn poll_stage(&mut self, cx: &mut Context<'_>) -> bool {
        let (Stage::Common(bound) | Stage::Within(bound)) = &mut self.stage else {
            return self.poll_own(cx.waker());
        };
        let Poll::Ready(taken) = Pin::new(&mut **bound).poll(cx) else { return false };
        // Its units are part of the permit that is given, which returns all.
        taken.forget();
        true
    }

    /// The one after it that is there; none at the end.
    fn after(&self, stage: &Stage) -> Option<Stage> {
        let begin = |quota: &Arc<Quota>| Box::new(quota.acquire_many(self.units));
        let within = || self.quota.within.as_ref().map(|within| Stage::Within(begin(within)));
        match stage {
            Stage::Own => {
                self.quota.common.as_ref().map(|common| Stage::Common(begin(common))).or_else(within)
            }
            Stage::Common(_) => within(),
            Stage::Within(_) => None,
        }
    }
}

impl Future for Acquire {
    type Output = Permit;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Permit> {
        let at_once = matches!((&self.stage, self.ticket), (Stage::Own, None))
            && self.quota.is_at_rest()
            && self.quota.take_with_rest(self.units);
        if !at_once && !self.poll_all(cx) {
            return Poll::Pending;
        }
        Poll::Ready(Permit { quota: self.quota.clone(), units: self.units })
    }
}

impl Drop for Acquire {
    fn drop(&mut self) {
        let given = self.ticket.is_some_and(|ticket| self.quota.waiting.leave(ticket));
        if matches!(self.stage, Stage::Within(_)) {
            self.quota.give_back_common(self.units);
        }
        if given || !matches!(self.stage, Stage::Own) {
            self.quota.put_back(self.units);
        }
    }
}

/// See [`Quota::drained`].
#[derive(Debug)]
#[must_use = "futures do nothing unless awaited"]
pub struct Drained {
    quota: Arc<Quota>,
    ticket: Option<u64>,
}

impl Drained {
    pub(super) fn new(quota: &Arc<Quota>) -> Self {
        Self { quota: quota.clone(), ticket: None }
    }
}

impl Future for Drained {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Self { quota, ticket } = &mut *self;
        let mut state = quota.waiting.lock();
        let ticket = *ticket.get_or_insert_with(|| state.ticket());
        state.watching.insert(ticket, cx.waker().clone());
        quota.waiting.count(&state);
        drop(state);
        // The last unit may have come back before the waker was in the map.
        if quota.is_idle() { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl Drop for Drained {
    fn drop(&mut self) {
        let Some(ticket) = self.ticket else { return };
        let mut state = self.quota.waiting.lock();
        let left = state.watching.remove(&ticket);
        self.quota.waiting.count(&state);
        drop(state);
        drop(left);
    }
}
