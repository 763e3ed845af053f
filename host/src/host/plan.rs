//! What a file's tenants come to: components read and looked at, roles chosen. Everything that is wrong is told at
//! once, with its line.

use std::ops::Range;

use sha2::{Digest, Sha256};

use super::{FLATTENED_INSTANCES_MAX, component::read};
use crate::{
    config::file::{Problems, ServeConfig, Served, Source},
    sandbox::scan::{Scan, scan},
    tenancy::role::Role,
};

/// A tenant that can be started.
pub(super) struct Plan {
    pub(super) served: Served,
    /// Its component.
    pub(super) bytes: Vec<u8>,
    /// Of the component.
    hash: [u8; 32],
    pub(super) scan: Scan,
    pub(super) role: Role,
}

impl Plan {
    /// All that the tenant is made by, as text: the same for the same.
    pub(super) fn fingerprint(&self) -> String {
        format!("{:?} {}", self.hash, self.served.fingerprint())
    }
}

/// A plan for each tenant of the file.
pub(super) fn plans(config: &ServeConfig, source: &Source) -> Result<Vec<Plan>, Problems> {
    let fibers = config.host.shared_instances.as_ref().is_some_and(|at| at.value);
    let mut wrong = Vec::new();
    let mut plans = Vec::new();
    for served in &config.tenants {
        match plan(served, fibers) {
            Ok(plan) => plans.push(plan),
            Err(problem) => wrong.push(problem),
        }
        wrong.extend(folders(served));
    }
    if wrong.is_empty() { Ok(plans) } else { Err(Problems::new(source, wrong)) }
}

fn plan(served: &Served, fibers: bool) -> Result<Plan, (Range<usize>, String)> {
    let component = &served.component;
    let wrong = |text: String| (component.span.clone(), text);
    let path = component.value.display();
    let bytes = read(&component.value).map_err(|error| wrong(error.to_string()))?;
    let hash: [u8; 32] = Sha256::digest(&bytes).into();
    if let Some(expected) = served.sha256.as_ref().filter(|expected| expected.value != hash) {
        let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        return Err((expected.span.clone(), format!("{path} has another hash: {hex}")));
    }
    let scan = scan(&bytes, FLATTENED_INSTANCES_MAX).map_err(|error| wrong(format!("{path}: {error}")))?;
    let role = Role::choose(&scan, &served.config).map_err(|error| wrong(format!("{path}: {error}")))?;
    if scan.fibers && !fibers {
        return Err(wrong(format!(
            "{path} has coroutines that share an instance, for which [host] needs `shared-instances = true`"
        )));
    }
    match (role.is_handler(), &served.listen[..]) {
        (true, []) => Err((
            served.span.clone(),
            format!(
                "{path} is a handler, and there is no `listen` that says where the host accepts its connections"
            ),
        )),
        (false, [listen, ..]) => Err((
            listen.span.clone(),
            format!("{path} is a program, and listens itself: write allow-listen in place of `listen`"),
        )),
        _ => Ok(Plan { served: served.clone(), bytes, hash, scan, role }),
    }
}

fn folders(served: &Served) -> impl Iterator<Item = (Range<usize>, String)> {
    let missing = served.config.dirs.iter().filter(|dir| !dir.host.is_dir());
    missing.map(|dir| (served.span.clone(), format!("dirs: {} is not a folder", dir.host.display())))
}
