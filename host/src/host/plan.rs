//! What a file's tenants come to: components read and looked at, roles chosen. Everything that is wrong is told at
//! once, with its line.

use std::{collections::HashMap, sync::Arc};

use sha2::{Digest, Sha256};

use super::{
    component::read,
    design::owner,
    problem::{Problem, problems},
};
use crate::{
    config::file::{Problems, ServeConfig, Served, Source},
    exit::StartError,
    sandbox::scan::{Scan, scan},
    tenancy::role::Role,
};

/// A tenant that can be started.
#[derive(Clone)]
pub(super) struct Plan {
    pub(super) served: Served,
    /// Its component, which it keeps: it may have to be loaded again, when the file is another one. Tenants with the same
    /// share it.
    pub(super) bytes: Arc<[u8]>,
    /// Of the component.
    pub(super) hash: [u8; 32],
    pub(super) scan: Scan,
    pub(super) role: Role,
}

impl Plan {
    /// All that the tenant is made by, as text: the same for the same.
    pub(super) fn fingerprint(&self) -> String {
        format!("{:?} {}", self.hash, self.served.fingerprint())
    }

    /// A hash of that, for who must not know what it is made by: secrets are among it.
    pub(super) fn version(&self) -> String {
        hex(&Sha256::digest(self.fingerprint()).into())
    }

    /// Its tenant's.
    pub(super) fn name(&self) -> &str {
        &self.served.config.name
    }
}

/// A plan for each tenant of the file.
pub(super) fn plans(config: &ServeConfig, source: &Source) -> Result<Vec<Arc<Plan>>, Problems> {
    let (plans, wrong) = plans_and_problems(config);
    if wrong.is_empty() { Ok(plans) } else { Err(problems(source, wrong)) }
}

/// A plan for each tenant that can have one, and what is wrong with the others.
pub(super) fn plans_and_problems(config: &ServeConfig) -> (Vec<Arc<Plan>>, Vec<Problem>) {
    let fibers = config.host.shared_instances.as_ref().is_some_and(|at| at.value);
    let mut wrong = Vec::new();
    let (mut plans, mut known) = (Vec::new(), HashMap::new());
    for served in &config.tenants {
        match plan(served, fibers) {
            Ok(mut plan) => {
                plan.bytes = known.entry(plan.hash).or_insert(plan.bytes).clone();
                plans.push(Arc::new(plan));
            }
            Err(problem) => wrong.push(problem),
        }
        wrong.extend(folders(served));
    }
    if let (Some(user), Err(error)) = (&config.host.user, owner(&config.host)) {
        wrong.push(Problem::of_file(&user.span, error.to_string()));
    }
    (plans, wrong)
}

fn plan(served: &Served, fibers: bool) -> Result<Plan, Problem> {
    let component = &served.component;
    let wrong = |text: String| Problem::of_file(&component.span, text);
    let refused = |text: String| Problem::of_component(&component.span, text);
    let limits = &served.config.limits;
    let path = component.value.display();
    let bytes = match read(&component.value, limits.component_bytes_max) {
        Err(error @ StartError::TooLarge { .. }) => return Err(refused(error.to_string())),
        read => read.map_err(|error| wrong(error.to_string()))?,
    };
    let hash: [u8; 32] = Sha256::digest(&bytes).into();
    if let Some(expected) = served.sha256.as_ref().filter(|expected| expected.value != hash) {
        return Err(Problem::of_file(&expected.span, format!("{path} has another hash: {}", hex(&hash))));
    }
    let scan = scan(&bytes, limits.nested_instances_max as u64);
    let scan = scan.map_err(|error| refused(format!("{path}: {error}")))?;
    let role = Role::choose(&scan, &served.config).map_err(|error| wrong(format!("{path}: {error}")))?;
    if scan.fibers && !fibers {
        return Err(wrong(format!(
            "{path} has coroutines that share an instance, for which [host] needs `shared-instances = true`"
        )));
    }
    match (role.is_handler(), &served.listen[..]) {
        (true, []) => Err(Problem::of_file(
            &served.span,
            format!(
                "{path} is a handler, and there is no `listen` that says where the host accepts its connections"
            ),
        )),
        (false, [listen, ..]) => Err(Problem::of_file(
            &listen.span,
            format!("{path} is a program, and listens itself: write allow-listen in place of `listen`"),
        )),
        _ => Ok(Plan { served: served.clone(), bytes: bytes.into(), hash, scan, role }),
    }
}

pub(super) fn hex(hash: &[u8; 32]) -> String {
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn folders(served: &Served) -> impl Iterator<Item = Problem> {
    let missing = served.config.dirs.iter().filter(|dir| !dir.host.is_dir());
    missing.map(|dir| Problem::of_file(&served.span, format!("dirs: {} is not a folder", dir.host.display())))
}
