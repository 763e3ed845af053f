//! Tenants over their defaults, and beside each other.

use std::{
    collections::HashMap,
    fs,
    net::{IpAddr, SocketAddr},
    num::NonZeroU32,
    ops::Range,
    path::{Path, PathBuf},
};

use super::{
    problems::Found,
    section::Section,
    setting::{At, Count, Sha256},
    tenant::{DefaultsSection, Restart, TenantSection},
};
use crate::config::{
    limits::Limits,
    net::Grants,
    rollback::Rollback,
    tenant::{DirGrant, EnvVar, TenantConfig},
};

/// One tenant as it is served.
#[derive(Debug, Clone)]
pub struct Served {
    /// What it is given and how it is run.
    pub config: TenantConfig,
    /// The component's file.
    pub component: At<PathBuf>,
    /// Files of secrets, whose values are among the variables.
    pub secrets: Vec<PathBuf>,
    /// What the file must be.
    pub sha256: Option<At<[u8; 32]>>,
    /// Where the host listens for it.
    pub listen: Vec<At<SocketAddr>>,
    /// Its share.
    pub weight: NonZeroU32,
    /// When its program is started again.
    pub restart: Restart,
    /// When a new version of it gives way to the one before, if it may.
    pub rollback: Option<Rollback>,
    /// Where its section begins.
    pub span: Range<usize>,
}

impl Served {
    /// All that its versions differ by, as text: the same for the same.
    pub fn fingerprint(&self) -> String {
        let Self { config, component, listen, weight, restart, .. } = self;
        let listen: Vec<SocketAddr> = listen.iter().map(|at| at.value).collect();
        format!("{config:?} {:?} {listen:?} {weight} {restart:?}", component.value)
    }
}

/// Puts each over the defaults; what is wrong in one or between two is noted.
pub(super) fn tenants(
    sections: Vec<TenantSection>,
    defaults: &DefaultsSection,
    folder: &Path,
    found: &Found,
) -> Vec<Served> {
    let mut tenants = Vec::new();
    for section in sections {
        tenants.extend(served(section, defaults, folder, found));
    }
    refuse_same_names(&tenants, found);
    refuse_same_addresses(&tenants, found);
    tenants
}

fn served(
    section: TenantSection,
    defaults: &DefaultsSection,
    folder: &Path,
    found: &Found,
) -> Option<Served> {
    let TenantSection { identity, common, limits, missing, span } = section;
    let common = common.over(&defaults.common);
    let limits = limits.over(&defaults.limits).limits();
    let at = |path: &Path| folder.join(path);
    for key in missing {
        let who = identity.name.as_ref().map_or(String::new(), |name| format!(" `{}`", name.value.0));
        found.add(span.clone(), format!("the tenant{who} has no {key}: add `{key} = \"…\"`"));
    }
    check_stacks(&limits, &span, found);
    check_memory(&limits, &span, found);
    check_compiling(&limits, &span, found);
    let variables = common.env.map(|env| env.value).unwrap_or_default();
    let mut env: Vec<EnvVar> = variables.into_iter().map(|(name, value)| EnvVar { name, value }).collect();
    let mut secret_files = Vec::new();
    if let Some(secrets) = common.secrets {
        secret_files.extend(secrets.value.values().map(|path| at(path)));
        for (name, path) in &secrets.value {
            if env.iter().any(|variable| variable.name == *name) {
                found.add(secrets.span.clone(), format!("`{name}` is in env, too: which of them?"));
            }
            match secret(&at(path)) {
                Ok(value) => env.push(EnvVar { name: name.clone(), value }),
                Err(why) => found.add(secrets.span.clone(), format!("the secret `{name}`: {why}")),
            }
        }
    }
    let dirs = common.dirs.map(|dirs| dirs.value).unwrap_or_default();
    let dirs = dirs.into_iter().map(|dir| DirGrant { host: at(&dir.host), ..dir }).collect();
    let component = identity.component?;
    let component = At { value: at(&component.value), span: component.span };
    let name = identity.name?.value.0;
    let own_name = component.value.display().to_string();
    let args = identity.args.map(|args| args.value).unwrap_or_default();
    let config = TenantConfig {
        name,
        args: std::iter::once(own_name).chain(args).collect(),
        env,
        dirs,
        grants: Grants {
            listen: common.allow_listen.map(|grants| grants.value).unwrap_or_default(),
            connect: common.allow_connect.map(|grants| grants.value).unwrap_or_default(),
        },
        proxies: common.proxy_protocol_from.map(|at| at.value).unwrap_or_default(),
        limits,
        warn: common.warn.map(|at| at.value).unwrap_or_default().into_iter().collect(),
        isolation: common.isolation.map(|at| at.value).unwrap_or_default(),
        instances: common.instances.map(|at| at.value).unwrap_or_default(),
    };
    let weight = common.weight.map_or(1, |At { value: Count(weight), .. }| weight as u32);
    Some(Served {
        config,
        component,
        secrets: secret_files,
        sha256: identity.sha256.map(|At { value: Sha256(hash), span }| At { value: hash, span }),
        listen: identity.listen.map(|listen| listen.value).unwrap_or_default(),
        weight: NonZeroU32::new(weight).unwrap_or(NonZeroU32::MIN),
        restart: common.restart.map(|at| at.value).unwrap_or_default(),
        rollback: common.rollback.map_or_else(|| Some(Rollback::default()), |at| at.value.0),
        span,
    })
}

/// Less does not even start a compiler, and that would be told in its words.
fn check_compiling(limits: &Limits, span: &Range<usize>, found: &Found) {
    let bytes = limits.compile.memory_bytes_max;
    if bytes < COMPILE_MEMORY_BYTES_MIN {
        found.add(span.clone(), format!("compile-memory is {bytes} bytes: write 64MiB at least"));
    }
}

/// Host functions run on what the guest's frames leave of a fiber's stack.
fn check_stacks(limits: &Limits, span: &Range<usize>, found: &Found) {
    let (wasm, fiber) = (limits.wasm_stack_bytes_max, limits.fiber_stack_bytes);
    if fiber < wasm + HOST_STACK_BYTES_MIN {
        found.add(
            span.clone(),
            format!(
                "fiber-stack is {fiber} bytes and wasm-stack {wasm}: the host's own functions need \
                 {HOST_STACK_BYTES_MIN} beside the guest's, so raise fiber-stack or lower wasm-stack"
            ),
        );
    }
}

/// 32-bit WebAssembly cannot address more.
fn check_memory(limits: &Limits, span: &Range<usize>, found: &Found) {
    let memories =
        [("fresh-memory", limits.fresh_memory_bytes_max), ("shared-memory", limits.shared_memory_bytes_max)];
    for (key, bytes) in memories {
        if bytes > MEMORY_BYTES_MAX {
            found.add(span.clone(), format!("{key} is {bytes} bytes, and a 32-bit memory has 4GiB at most"));
        }
    }
}

/// A secret's value: the file without the newline that editors put at its end.
fn secret(path: &Path) -> Result<String, String> {
    let unreadable = |why: &dyn std::fmt::Display| format!("cannot read {}: {why}", path.display());
    let about = fs::metadata(path).map_err(|error| unreadable(&error))?;
    if !about.is_file() || about.len() > SECRET_BYTES_MAX {
        return Err(unreadable(&format!("it is not a file of {SECRET_BYTES_MAX} bytes at most")));
    }
    let text = fs::read_to_string(path).map_err(|error| unreadable(&error))?;
    let value = text.strip_suffix('\n').unwrap_or(&text);
    if value.contains('\0') {
        return Err(format!("{} has a zero byte in it, which no variable can hold", path.display()));
    }
    Ok(value.to_owned())
}

fn refuse_same_names(tenants: &[Served], found: &Found) {
    let mut names = HashMap::new();
    for tenant in tenants {
        if names.insert(&tenant.config.name, ()).is_some() {
            let text = format!("another tenant has the name `{}`: each has its own", tenant.config.name);
            found.add(tenant.span.clone(), text);
        }
    }
}

fn refuse_same_addresses(tenants: &[Served], found: &Found) {
    let mut taken: Vec<(&At<SocketAddr>, &str)> = Vec::new();
    for tenant in tenants {
        for listen in &tenant.listen {
            let other = taken.iter().find(|(other, _)| meet(listen.value, other.value));
            if let Some((other, whose)) = other {
                let (address, met) = (listen.value, other.value);
                let whose = if *whose == tenant.config.name { "itself" } else { whose };
                let text = format!("{address} is taken: the tenant `{whose}` listens on {met}");
                found.add(listen.span.clone(), text.replace("the tenant `itself`", "the tenant itself"));
            }
            taken.push((listen, &tenant.config.name));
        }
    }
}

/// Would the second of two sockets find the address in use? Port 0 is a free one each time.
fn meet(one: SocketAddr, other: SocketAddr) -> bool {
    let ips = |one: IpAddr, other: IpAddr| {
        one == other
            || one.is_unspecified() && (one.is_ipv6() || other.is_ipv4())
            || other.is_unspecified() && (other.is_ipv6() || one.is_ipv4())
    };
    one.port() != 0 && one.port() == other.port() && ips(one.ip(), other.ip())
}

/// A compiler without a component has some ten million.
const COMPILE_MEMORY_BYTES_MIN: usize = 64 << 20;
/// What 32-bit WebAssembly can address.
const MEMORY_BYTES_MAX: usize = 4 << 30;
/// A password or a key; one of RSA has three thousand.
const SECRET_BYTES_MAX: u64 = 64 << 10;
/// What the deepest of the host's functions was seen to use, doubled.
const HOST_STACK_BYTES_MIN: usize = 64 << 10;
