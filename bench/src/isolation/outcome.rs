//! What came of one attacker.

use super::attacker::Attacker;
use super::levels::Levels;
use super::probe::Probed;
use crate::compare::Spread;
use crate::hosted::Echo;
use crate::load::{Latency, Report};

pub(super) struct Outcome {
    pub(super) victim: Echo,
    pub(super) attacker: Attacker,
    pub(super) rounds: Vec<Round>,
    /// What the host held before the first attack and after the last.
    pub(super) before: Levels,
    pub(super) after: Levels,
}

/// A probe beside the idle neighbour, then one beside the attack.
pub(super) struct Round {
    pub(super) baseline: Probed,
    pub(super) attacked: Probed,
    /// CPU time of the attacker's guests by that of the attack, 0 to 1.
    pub(super) attacker_cpu: f64,
    /// Connections that its peers have made.
    pub(super) strikes: u64,
}

/// Which part of a probe.
pub(super) type Part = fn(&Probed) -> &Report;

impl Outcome {
    /// The victim has noticed nothing but time, and the host has everything back.
    pub(super) fn is_clean(&self) -> bool {
        self.errors() + self.wrong_bytes() == 0 && self.left().is_none()
    }

    pub(super) fn errors(&self) -> u64 {
        self.probes().map(Probed::errors).sum()
    }

    pub(super) fn wrong_bytes(&self) -> u64 {
        self.probes().map(Probed::wrong_bytes).sum()
    }

    /// What the attack has left behind.
    pub(super) fn left(&self) -> Option<String> {
        self.after.left_since(&self.before)
    }

    /// A latency in µs, beside the idle neighbour and beside the attack: medians over the rounds.
    pub(super) fn latencies(&self, part: Part, which: fn(&Latency) -> f64) -> (f64, f64) {
        let baseline = self.spread(|round| which(&part(&round.baseline).latency));
        let attacked = self.spread(|round| which(&part(&round.attacked).latency));
        (baseline.median, attacked.median)
    }

    /// p99 beside the attack by that of the same round without.
    pub(super) fn inflation(&self, part: Part) -> Spread {
        self.spread(|round| part(&round.attacked).latency.p99_us / part(&round.baseline).latency.p99_us)
    }

    pub(super) fn spread(&self, figure: impl Fn(&Round) -> f64) -> Spread {
        Spread::of(self.rounds.iter().map(figure).collect())
            .expect("there is a round, and no latency is zero")
    }

    /// The greatest share of the time in which the probe did not get its core, or was late.
    pub(super) fn disturbed(&self) -> f64 {
        let all = self.probes().filter_map(|probed| probed.messages.disturbed);
        all.fold(0.0, f64::max)
    }

    fn probes(&self) -> impl Iterator<Item = &Probed> {
        self.rounds.iter().flat_map(|round| [&round.baseline, &round.attacked])
    }
}
