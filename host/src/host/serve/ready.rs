//! What a file asks for, as far as it can be made ready while the tenants go on as they are: components compiled and linked,
//! workers for them. It takes as long as it takes.

use std::{collections::BTreeMap, sync::Arc};

use tracing::warn;

use super::{
    super::{
        loading::{Component, load, load_one},
        plan::Plan,
    },
    ground::Ground,
    rollback::Held,
    trial::Version,
};
use crate::{
    config::file::{ServeConfig, Source},
    exit::StartError,
    sandbox::compiler::Compiler,
};

/// It.
pub(super) struct Ready {
    pub(super) ground: Arc<Ground>,
    /// Tenants, with what their instances are made of.
    pub(super) plans: Vec<Arc<Plan>>,
    pub(super) components: Vec<Component>,
    /// What new versions give way to if they fail, by tenant.
    pub(super) spares: BTreeMap<String, Version>,
    /// Tenants whose plan is not the file's, but one from before.
    pub(super) held: Vec<String>,
    /// What the file says of the wall.
    pub(super) wall_section: String,
}

/// How things are while it is made ready.
pub(super) struct Before {
    pub(super) ground: Arc<Ground>,
    pub(super) serving: Vec<Arc<Plan>>,
    /// By tenant, the last version that did well.
    pub(super) good: BTreeMap<String, Arc<Plan>>,
    /// What is held back.
    pub(super) held: BTreeMap<String, Held>,
}

impl Ready {
    /// Of a host that starts.
    pub(super) fn first(
        config: &ServeConfig,
        source: &Source,
        plans: Vec<Arc<Plan>>,
        compiler: &Arc<Compiler>,
    ) -> Result<Self, StartError> {
        let ground = Arc::new(Ground::new(config, &plans, &[], None, compiler)?);
        Self::on(ground, config, source, plans)
    }

    /// On the ground from before if there is room there.
    pub(super) fn next(
        config: &ServeConfig,
        source: &Source,
        mut plans: Vec<Arc<Plan>>,
        before: &Before,
        compiler: &Arc<Compiler>,
    ) -> Result<Self, StartError> {
        let held = before.hold_back(&mut plans);
        before.share_bytes(&mut plans);
        let spares = before.spares(&plans);
        let ground = match before.ground.serves(config, &plans, &spares) {
            true => before.ground.clone(),
            false => Arc::new(Ground::new(config, &plans, &spares, Some(&before.ground), compiler)?),
        };
        let ready = Self::on(ground, config, source, plans)?;
        let spares = spares.into_iter().filter_map(|plan| spare(plan, &ready.ground)).collect();
        Ok(Self { held, spares, ..ready })
    }

    fn on(
        ground: Arc<Ground>,
        config: &ServeConfig,
        source: &Source,
        plans: Vec<Arc<Plan>>,
    ) -> Result<Self, StartError> {
        let components = load(&ground.room.engines, &plans, source)?;
        let (spares, held) = Default::default();
        Ok(Self { ground, plans, components, spares, held, wall_section: config.host.wall_fingerprint() })
    }
}

impl Before {
    /// Puts what is served in the place of what is held back; for which tenants.
    fn hold_back(&self, plans: &mut [Arc<Plan>]) -> Vec<String> {
        let mut names = Vec::new();
        for plan in plans.iter_mut().filter(|plan| plan.served.rollback.is_some()) {
            let held = self.held.get(plan.name()).filter(|held| held.fingerprint == plan.fingerprint());
            let Some(held) = held else { continue };
            names.push(plan.name().to_owned());
            let mut served = held.plan.served.clone();
            // What is wrong is told with its place in the file of now.
            served.span = plan.served.span.clone();
            served.component.span = plan.served.component.span.clone();
            *plan = Arc::new(Plan { served, ..Plan::clone(&held.plan) });
        }
        names
    }

    /// Keeps one copy of each component.
    fn share_bytes(&self, plans: &mut [Arc<Plan>]) {
        let kept = self.serving.iter().chain(self.good.values());
        let bytes: BTreeMap<_, _> = kept.map(|plan| (plan.hash, &plan.bytes)).collect();
        for plan in plans {
            if let Some(bytes) = bytes.get(&plan.hash) {
                Arc::make_mut(plan).bytes = (*bytes).clone();
            }
        }
    }

    /// What new versions among these would give way to.
    fn spares(&self, plans: &[Arc<Plan>]) -> Vec<Arc<Plan>> {
        let may = plans.iter().filter(|plan| plan.served.rollback.is_some());
        let good = may.filter_map(|plan| Some((plan, self.good.get(plan.name())?)));
        good.filter(|(plan, good)| plan.fingerprint() != good.fingerprint())
            .map(|(_, good)| good.clone())
            .collect()
    }
}

/// Without it there is no rolling back, and no more.
fn spare(plan: Arc<Plan>, ground: &Ground) -> Option<(String, Version)> {
    let loaded = load_one(&ground.room.engines, &plan);
    let loaded = loaded.inspect_err(|error| {
        warn!(tenant = %plan.name(), "the version from before could not come back, if the new one were to fail: {error}");
    });
    Some((plan.name().to_owned(), Version { component: loaded.ok()?, plan }))
}
