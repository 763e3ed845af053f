//! Rolling back: a new version that fails gives way to the one before it, and is held back by later reloads.

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use tracing::{error, warn};

use super::{
    super::{
        handover::{HeldBack, Predecessor},
        plan::{Plan, hex},
    },
    Host,
    running::Running,
    trial::{Verdict, Version},
};
use crate::exit::StartError;

/// What has been rolled back.
#[derive(Default)]
pub(super) struct Rollbacks {
    /// What the file says and is not served, by tenant.
    held: BTreeMap<String, Held>,
    /// How often it has happened to each.
    counts: BTreeMap<String, u64>,
}

/// A version that is held back.
#[derive(Clone)]
pub(super) struct Held {
    /// Of what it is made by: another one is another version.
    pub(super) fingerprint: String,
    /// The same for another process.
    told: HeldBack,
    pub(super) why: String,
    /// What is served in its place.
    pub(super) plan: Arc<Plan>,
}

impl Rollbacks {
    pub(super) fn held(&self) -> &BTreeMap<String, Held> {
        &self.held
    }

    /// For a process that has none of the versions before, and may not take over with one of these.
    pub(super) fn held_back(&self) -> Vec<HeldBack> {
        self.held.values().map(|held| held.told.clone()).collect()
    }

    /// Only these are held back from now on.
    pub(super) fn keep(&mut self, names: &[String]) {
        self.held.retain(|name, _| names.contains(name));
    }

    /// How often it has happened to this tenant, and why the last version is held back, if it is.
    pub(super) fn of(&self, name: &str) -> (u64, Option<String>) {
        let count = self.counts.get(name).copied().unwrap_or_default();
        (count, self.held.get(name).map(|held| held.why.clone()))
    }

    /// How often it has happened at all.
    pub(super) fn count(&self) -> u64 {
        self.counts.values().sum()
    }
}

impl Host {
    /// Looks at the versions on trial.
    pub(super) fn judge(&mut self) {
        let now = Instant::now();
        let judged = |(number, running): (&usize, &mut Running)| Some((*number, running.judge(now)?));
        let judged: Vec<_> = self.tenants.iter_mut().filter_map(judged).collect();
        for (number, verdict) in judged {
            if let Verdict::Failed(why, before) = verdict {
                self.failed(number, &why, before);
            }
        }
    }

    fn failed(&mut self, number: usize, why: &str, before: Option<Version>) {
        let Some(running) = self.tenants.get(&number) else { return };
        let (tenant, failed) = (running.context().name.clone(), running.plan.clone());
        let Some(before) = before else {
            warn!(%tenant, "{why}, and there is no version before this one that did better: it serves on");
            return;
        };
        let plan = before.plan.clone();
        match self.bring_back(number, &before) {
            Ok(()) => {
                *self.rollbacks.counts.entry(tenant.clone()).or_default() += 1;
                self.withdraw_rising();
                error!(
                    %tenant,
                    "rolled back to the version before: {why}. The new one is held back until the file, or what it names, makes \
                     another one of it, or until `conet-host reload --retry`"
                );
                let (told, why) = (held_back(&failed, &plan, why), why.to_owned());
                let fingerprint = failed.fingerprint();
                self.rollbacks.held.insert(tenant, Held { fingerprint, told, why, plan });
            }
            Err(error) => {
                error!(%tenant, "{why}, and the version before cannot come back, so this one serves on: {error}");
            }
        }
    }

    /// As a reload would. An error leaves all as it is.
    fn bring_back(&mut self, number: usize, before: &Version) -> Result<(), StartError> {
        let serving = self.tenants.iter().filter(|(_, running)| running.leaves_at.is_none());
        let others = serving.filter(|(other, _)| **other != number);
        let plans: Vec<_> =
            others.map(|(_, other)| other.plan.clone()).chain([before.plan.clone()]).collect();
        // It may listen where the failed one does not.
        let sockets = self.sockets.for_plans(&plans, &self.given)?;
        let next = self.number();
        let failed = &self.tenants[&number];
        let ground = failed.ground.clone();
        let running =
            Running::new(&self.maker(&ground), &before.plan, before.component.clone(), next, Some(failed))?;
        let listeners = sockets.of(&before.plan.served)?;
        self.succeed(number, next, running, listeners)?;
        self.sockets = sockets;
        Ok(())
    }
}

/// As the version that `failed` is told of, whose place the one from before has.
fn held_back(failed: &Plan, before: &Plan, why: &str) -> HeldBack {
    HeldBack {
        tenant: failed.name().to_owned(),
        version: failed.version(),
        component: (failed.hash != before.hash).then(|| hex(&failed.hash)),
        why: why.to_owned(),
    }
}

/// An error if one of these is held back by the host before this one: that serves on, with what it has in its place.
pub(super) fn refuse_held_back(predecessor: &Predecessor, plans: &[Arc<Plan>]) -> Result<(), StartError> {
    let refused = |plan: &Arc<Plan>| predecessor.held.iter().find(|held| is_held_back(plan, held));
    let may = plans.iter().filter(|plan| plan.served.rollback.is_some());
    match may.filter_map(refused).next() {
        Some(HeldBack { tenant, why, .. }) => {
            Err(StartError::HeldBack { tenant: tenant.clone(), why: why.clone() })
        }
        None => Ok(()),
    }
}

/// Another version of the program may have another way to say what a tenant is made by, so the component is enough.
fn is_held_back(plan: &Plan, HeldBack { tenant, version, component, .. }: &HeldBack) -> bool {
    plan.name() == tenant && (plan.version() == *version || *component == Some(hex(&plan.hash)))
}
