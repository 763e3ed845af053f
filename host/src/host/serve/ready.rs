//! What a file asks for, as far as it can be made ready while the tenants go on as they are: components compiled and linked,
//! workers for them. It takes as long as it takes.

use std::sync::Arc;

use super::{
    super::{
        loading::{Component, load},
        plan::Plan,
    },
    ground::Ground,
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
    pub(super) plans: Vec<Plan>,
    pub(super) components: Vec<Component>,
    /// What the file says of the wall.
    pub(super) wall_section: String,
}

impl Ready {
    /// Makes it ready, on the ground `before` if these tenants have room there.
    pub(super) fn new(
        config: &ServeConfig,
        source: &Source,
        plans: Vec<Plan>,
        before: Option<&Arc<Ground>>,
        compiler: &Arc<Compiler>,
    ) -> Result<Self, StartError> {
        let ground = match before.filter(|before| before.serves(config, &plans)) {
            Some(before) => before.clone(),
            None => Arc::new(Ground::new(config, &plans, before.map(|before| &**before), compiler)?),
        };
        let components = load(&ground.room.engines, &plans, source)?;
        Ok(Self { ground, plans, components, wall_section: config.host.wall_fingerprint() })
    }
}
