//! Two servers up at once, loaded in turn in short bursts: for differences that are smaller than what the machine's
//! speed drifts by from one measurement to the next.

use std::process::Command;

use anyhow::{Context, Result};

use super::Comparison;
use super::samples::Figures;
use crate::contender::{Compute, Contender, Server};
use crate::load::{self, Peer, Plan, Report};

impl Comparison {
    /// The rate of two workers by that of one, both with both cores. The generator has the load's, and shares it.
    pub(super) fn workers(&self, contender: Contender, compute: Compute) -> Result<Vec<Figures>> {
        let commands = [contender.computer(compute, 2)?, contender.computer(compute, 1)?];
        // Asleep it leaves its core to the worker there.
        let plan = Plan { spin: false, ..self.echo_plan(COMPUTING_CONNECTIONS) };
        self.paired(commands, &[self.server_core, self.load_core], &plan)
    }

    /// The rate with preemption by that without.
    pub(super) fn preemption(&self, contender: Contender, connections: usize) -> Result<Vec<Figures>> {
        let without = ["--no-preemption", "for-measuring"].map(Into::into);
        let commands = [contender.command(&[])?, contender.command(&without)?];
        self.paired(commands, &[self.server_core], &self.echo_plan(connections))
    }

    /// Of each pair of bursts, the first server's rate by the second's.
    fn paired(&self, commands: [Command; 2], cores: &[usize], plan: &Plan) -> Result<Vec<Figures>> {
        let [subject, reference] = commands.map(|command| Server::start(command, cores, None));
        let (subject, reference) = (subject?, reference?);
        let burst = |server: &Server| -> Result<Report> {
            let peer = Peer::Server(server.address());
            let plan = Plan { peer, server_pid: Some(server.pid()), ..plan.clone() };
            load::run(&plan).with_context(|| server.last_words())
        };
        let mut pairs = Vec::new();
        for pair in 0..PAIRS {
            // Neither is always the second: the machine may be getting slower.
            let (first, second) = if pair % 2 == 0 { (&subject, &reference) } else { (&reference, &subject) };
            let (first, second) = (burst(first)?, burst(second)?);
            pairs.push(if pair % 2 == 0 { figures(&first, &second) } else { figures(&second, &first) });
        }
        subject.stop()?;
        reference.stop()?;
        Ok(pairs)
    }
}

fn figures(subject: &Report, reference: &Report) -> Figures {
    let [ours, other] = [subject, reference].map(Figures::from);
    Figures {
        value: ours.value / other.value,
        by_cpu: other.server_us.zip(ours.server_us).map(|(other, ours)| other / ours),
        generator_busy: ours.generator_busy,
        disturbed: ours.disturbed.zip(other.disturbed).map(|(one, other)| one.max(other)),
        errors: ours.errors + other.errors,
        ..Figures::default()
    }
}

/// Pairs of bursts in a round.
const PAIRS: usize = 4;

/// Some for each worker, however unevenly they are accepted.
const COMPUTING_CONNECTIONS: usize = 32;
