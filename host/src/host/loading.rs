//! The components of a file's tenants, compiled and linked.

use std::{collections::HashMap, sync::Arc};

use super::{
    plan::Plan,
    problem::{Problem, problems},
    room::shape,
};
use crate::{
    config::{file::Source, limits::CompileLimits},
    exit::StartError,
    sandbox::{
        compiler::CompileError,
        component::{LoadError, Loaded},
        engines::Engines,
        pooled::Pooled,
    },
};

/// What a tenant's instances are made of.
pub(super) type Component = (Loaded, Arc<Pooled>);

/// The component of each plan. It may take as long as their limits on compiling allow.
pub(super) fn load(
    engines: &Engines,
    plans: &[Arc<Plan>],
    source: &Source,
) -> Result<Vec<Component>, StartError> {
    let (components, wrong) = components_and_problems(engines, plans)?;
    if wrong.is_empty() { Ok(components) } else { Err(problems(source, wrong).into()) }
}

/// That of one plan.
pub(super) fn load_one(engines: &Engines, plan: &Plan) -> Result<Component, LoadError> {
    let limits = &plan.served.config.limits;
    engines.load(&plan.bytes, &plan.scan, &shape(limits, plan.role), &limits.compile)
}

/// Those that can be loaded, and what is wrong with the others.
pub(super) fn components_and_problems(
    engines: &Engines,
    plans: &[Arc<Plan>],
) -> Result<(Vec<Component>, Vec<Problem>), StartError> {
    let limits = compile_limits(plans);
    // Of which there is no need to find it out again.
    let mut refused: HashMap<[u8; 32], String> = HashMap::new();
    let (mut components, mut wrong) = (Vec::new(), Vec::new());
    for plan in plans {
        let span = &plan.served.component.span;
        if let Some(why) = refused.get(&plan.hash) {
            wrong.push(Problem::of_component(span, why.clone()));
            continue;
        }
        let path = &plan.served.component.value;
        let shape = shape(&plan.served.config.limits, plan.role);
        match engines.load(&plan.bytes, &plan.scan, &shape, &limits[&plan.hash]) {
            Ok(component) => components.push(component),
            Err(error) if is_of_host(&error) => return Err(StartError::Load { path: path.clone(), error }),
            Err(error) => {
                let why = format!("{}: {error}", path.display());
                wrong.push(Problem::of_component(span, why.clone()));
                // Another tenant may leave it more.
                if !matches!(error, LoadError::Limits(_)) {
                    refused.insert(plan.hash, why);
                }
            }
        }
    }
    Ok((components, wrong))
}

/// Tenants share what is compiled, so the greatest of their limits holds: whoever comes first, it is the same.
fn compile_limits(plans: &[Arc<Plan>]) -> HashMap<[u8; 32], CompileLimits> {
    let mut greatest = HashMap::new();
    for plan in plans {
        let limits = plan.served.config.limits.compile;
        greatest
            .entry(plan.hash)
            .and_modify(|all: &mut CompileLimits| *all = all.union(limits))
            .or_insert(limits);
    }
    greatest
}

/// Whether the component has nothing to do with it.
fn is_of_host(error: &LoadError) -> bool {
    matches!(
        error,
        LoadError::Engine(_) | LoadError::Compiler(CompileError::System(_) | CompileError::Stopped)
    )
}
