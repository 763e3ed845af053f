//! The wall that a file asks for.

use std::{
    fs::DirBuilder,
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use tracing::warn;

use crate::{
    config::{
        driver::Driver,
        file::{AccessLogAt, At, HostSection, ServeConfig},
    },
    sandbox::cache::Cache,
    wall::{Area, Design, Owner, WallError},
};

/// The wall around the tenants of this file. Folders that it is to leave within reach are made if need be.
pub(super) fn design(config: &ServeConfig, path: &Path) -> Result<Design, WallError> {
    let HostSection { capabilities, no_new_privs, seccomp, landlock, driver, .. } = &config.host;
    let owner = owner(&config.host)?;
    let mut area = area(config, path);
    area.writes.extend(cache_folder(&config.host));
    match cache_folder(&config.host) {
        Some(folder) => {
            if let Err(error) = make_cache(&folder, owner.as_ref()) {
                warn!("cannot make the folder {} for compiled code: {error}", folder.display());
            }
        }
        None if config.host.cache.is_none() => {
            warn!(
                "running without the compile cache: there is no home to keep it in, so name a folder with `cache`"
            );
        }
        None => {}
    }
    Ok(Design {
        owner,
        capabilities: chosen(capabilities),
        no_new_privs: chosen(no_new_privs),
        seccomp: chosen(seccomp),
        io_uring: chosen(driver) != Driver::Epoll,
        landlock: chosen(landlock),
        area,
    })
}

/// The user to go on as, if one is named.
pub(super) fn owner(section: &HostSection) -> Result<Option<Owner>, WallError> {
    let group = section.group.as_ref().map(|at| at.value.as_str());
    section.user.as_ref().map(|at| Owner::find(&at.value, group)).transpose()
}

/// What the file's tenants need to reach. Without the cache, they are only slower.
pub(super) fn area(config: &ServeConfig, path: &Path) -> Area {
    let HostSection { readable, writable, admin, .. } = &config.host;
    let mut area = Area::default();
    area.read_file(path);
    for served in &config.tenants {
        area.read_file(&served.component.value);
        served.secrets.iter().for_each(|secret| area.read_file(secret));
        for dir in &served.config.dirs {
            if dir.read_only { &mut area.reads } else { &mut area.writes }.insert(dir.host.clone());
        }
    }
    area.reads.extend(readable.iter().flat_map(|at| at.value.clone()));
    area.writes.extend(writable.iter().flat_map(|at| at.value.clone()));
    if let Some(AccessLogAt::File(path)) = config.host.access_log.as_ref().map(|at| &at.value) {
        // It is moved away, and another one made.
        area.writes.extend(path.parent().map(Path::to_owned));
    }
    // It is removed at the end, and the next version of the host has its own take its place.
    let folder = |path: &Path| match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => PathBuf::from("."),
    };
    area.sockets.extend(admin.iter().map(|at| folder(&at.value)));
    area
}

/// Where compiled code is kept, if it is.
pub(super) fn cache_folder(section: &HostSection) -> Option<PathBuf> {
    match (&section.cache, owner(section)) {
        (Some(at), _) => Some(at.value.clone()).filter(|path| path.as_os_str() != "off"),
        // HOME is still that of who has started the host.
        (None, Ok(Some(owner))) => Some(owner.home()?.join(".cache/conet")),
        (None, _) => Cache::default_path(),
    }
}

/// Makes what is missing of it, for this user.
fn make_cache(folder: &Path, owner: Option<&Owner>) -> io::Result<()> {
    let missing: Vec<&Path> = folder.ancestors().take_while(|folder| !folder.is_dir()).collect();
    for folder in missing.into_iter().rev().filter(|folder| !folder.as_os_str().is_empty()) {
        DirBuilder::new().mode(0o700).create(folder)?;
        if let Some(owner) = owner {
            let (uid, gid) = owner.ids();
            std::os::unix::fs::chown(folder, Some(uid), Some(gid))?;
        }
    }
    Ok(())
}

fn chosen<T: Copy + Default>(setting: &Option<At<T>>) -> T {
    setting.as_ref().map(|at| at.value).unwrap_or_default()
}
