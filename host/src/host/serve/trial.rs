//! The time in which a new version has to show that it does no worse than the one before.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::super::{loading::Component, plan::Plan};
use crate::{config::rollback::Rollback, ending::Ending, imports::Context, tenancy::role::Role};

/// Its trial.
#[derive(Clone)]
pub(super) struct Trial {
    rule: Rollback,
    /// What comes back if it fails, if there is any.
    before: Option<Version>,
    until: Instant,
    /// When it is looked at next.
    look: Instant,
}

/// What a version is made of.
#[derive(Clone)]
pub(super) struct Version {
    pub(super) plan: Arc<Plan>,
    pub(super) component: Component,
}

/// How a trial has ended.
pub(super) enum Verdict {
    Passed,
    /// Why, and what comes back.
    Failed(String, Option<Version>),
}

impl Trial {
    /// Of a version that starts now.
    pub(super) fn new(rule: Rollback, before: Option<Version>) -> Self {
        let now = Instant::now();
        Self { rule, before, until: now + rule.within, look: now }
    }

    /// For the same version once more, that starts now.
    pub(super) fn again(self) -> Self {
        Self::new(self.rule, self.before)
    }

    /// The version that would come back.
    pub(super) fn before(&self) -> Option<&Arc<Plan>> {
        self.before.as_ref().map(|before| &before.plan)
    }

    /// How long it takes at most.
    pub(super) fn within(&self) -> Duration {
        self.rule.within
    }

    /// When it is to be looked at next. Restarts and traps are told of; that there have been enough connections is not.
    pub(super) fn due(&self, role: Role) -> Instant {
        if role.is_handler() { self.look.min(self.until) } else { self.until }
    }

    /// How it has ended, if it has.
    pub(super) fn judge(&mut self, now: Instant, context: &Context, role: Role) -> Option<Verdict> {
        if let Some(why) = failure(&self.rule, context, role) {
            return Some(Verdict::Failed(why, self.before.take()));
        }
        self.look = now + LOOK;
        (now >= self.until).then_some(Verdict::Passed)
    }
}

/// What is wrong with a version that has been for as short as the rule says, if it is too much.
fn failure(rule: &Rollback, context: &Context, role: Role) -> Option<String> {
    let Counts { connections, trapped, restarts } = Counts::of(context);
    if !role.is_handler() {
        return (restarts >= rule.restarts_min).then(|| format!("it was started again {restarts} times"));
    }
    let open = context.circuit.as_ref().is_some_and(|circuit| circuit.is_open());
    let many = connections >= rule.connections_min && trapped as f64 > rule.traps_max * connections as f64;
    (open || many).then(|| format!("{trapped} of {connections} connections trapped"))
}

/// Whether a version that has been for so long does as well as the rule asks of a new one.
pub(super) fn does_well(rule: &Rollback, context: &Context, role: Role, age: Duration) -> bool {
    let restarts = Counts::of(context).restarts as f64;
    // As many of them in as long a time, since it is older.
    let times = (age.as_secs_f64() / rule.within.as_secs_f64()).max(1.0);
    match role.is_handler() {
        true => failure(rule, context, role).is_none(),
        false => restarts < rule.restarts_min as f64 * times,
    }
}

/// What a version has done.
struct Counts {
    connections: u64,
    trapped: u64,
    restarts: u64,
}

impl Counts {
    fn of(context: &Context) -> Self {
        let counters = context.metrics.snapshot();
        let of = |name| counters.iter().find(|(one, _)| *one == name).map_or(0, |(_, count)| *count);
        // Those that an open circuit has refused would have come to the same.
        let refused = of("circuit_refused");
        let connections = of("accepted") + refused;
        // An instance that traps may have had many connections, or none any more, as with what they have spawned.
        let trapped = of("traps").max(cut_off_by_traps(context));
        Self { connections, trapped: (trapped + refused).min(connections), restarts: of("restarts") }
    }
}

/// How many connections have ended with their instances.
fn cut_off_by_traps(context: &Context) -> u64 {
    let by_trap = |ending: &Ending| matches!(ending, Ending::Trap | Ending::Limit(_));
    context.metrics.closed().filter(|(ending, _)| by_trap(ending)).map(|(_, count)| count).sum()
}

/// From one look to the next.
const LOOK: Duration = Duration::from_secs(1);
