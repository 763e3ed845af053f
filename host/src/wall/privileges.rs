//! Who the process is, and what it may do because of that.

use std::{collections::BTreeSet, path::PathBuf};

use rustix::{
    process::{Gid, Uid, geteuid, getuid},
    thread::{CapabilitySet, CapabilitySets},
};
use uzers::os::unix::UserExt;

use super::WallError;
use crate::config::wall::Capabilities;

/// A user of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// As given.
    name: String,
    uid: Uid,
    gid: Gid,
    /// All that it is in.
    groups: Vec<Gid>,
    home: Option<PathBuf>,
}

impl Owner {
    /// The one of this name or number; in its own groups, or in this one alone.
    pub fn find(user: &str, group: Option<&str>) -> Result<Self, WallError> {
        let number: Option<u32> = user.parse().ok();
        let known = match number {
            Some(uid) => uzers::get_user_by_uid(uid),
            None => uzers::get_user_by_name(user),
        };
        let gid = group.map(group_id).transpose()?;
        let unknown = |remedy| Err(WallError::Unknown { kind: "user", name: user.to_owned(), remedy });
        match (known, number, gid) {
            (Some(known), _, None) => {
                let gid = known.primary_group_id();
                let others = uzers::get_user_groups(known.name(), gid).unwrap_or_default();
                let groups: BTreeSet<u32> = others.iter().map(uzers::Group::gid).chain([gid]).collect();
                let groups = groups.into_iter().map(Gid::from_raw).collect();
                Ok(Self::known(user, &known, Gid::from_raw(gid), groups))
            }
            (Some(known), _, Some(gid)) => Ok(Self::known(user, &known, gid, vec![gid])),
            // In a container there are often no names.
            (None, Some(uid), Some(gid)) => {
                let uid = Uid::from_raw(uid);
                Ok(Self { name: user.to_owned(), uid, gid, groups: vec![gid], home: None })
            }
            (None, Some(_), None) => unknown("a number that has no name needs a `group`, too"),
            (None, None, _) => unknown("make it (`useradd --system`), or name another with `user`"),
        }
    }

    fn known(name: &str, user: &uzers::User, gid: Gid, groups: Vec<Gid>) -> Self {
        let home = Some(user.home_dir().to_owned());
        Self { name: name.to_owned(), uid: Uid::from_raw(user.uid()), gid, groups, home }
    }

    /// Its number, and its group's.
    pub fn ids(&self) -> (u32, u32) {
        (self.uid.as_raw(), self.gid.as_raw())
    }

    /// Its folder. Users of services often have none, or the root.
    pub fn home(&self) -> Option<&PathBuf> {
        self.home.as_ref().filter(|home| home.is_dir() && home.parent().is_some())
    }

    /// This process is the user's already.
    pub(super) fn is_here(&self) -> bool {
        (getuid(), geteuid()) == (self.uid, self.uid)
    }

    /// Makes this thread that user's, and all that it makes: the kernel's own calls know no processes.
    pub(super) fn become_it(&self, kept: Capabilities) -> Result<(), WallError> {
        let failed =
            |errno: rustix::io::Errno| WallError::System { what: "become the user", error: errno.into() };
        let held = rustix::thread::capabilities(None).map_err(failed)?;
        if !held.effective.contains(CapabilitySet::SETUID | CapabilitySet::SETGID) {
            return Err(WallError::NotRoot { uid: geteuid().as_raw(), name: self.name.clone() });
        }
        let change = || {
            // Else a change of user drops them all.
            rustix::thread::set_keep_capabilities(kept != Capabilities::None)?;
            rustix::thread::set_thread_groups(&self.groups)?;
            rustix::thread::set_thread_res_gid(self.gid, self.gid, self.gid)?;
            rustix::thread::set_thread_res_uid(self.uid, self.uid, self.uid)?;
            rustix::thread::set_keep_capabilities(false)?;
            if kept == Capabilities::Keep {
                // The change has left them permitted, and not in effect.
                rustix::thread::set_capabilities(None, held)?;
            }
            Ok(())
        };
        change().map_err(failed)?;
        assert!(self.is_here(), "the kernel has said so");
        Ok(())
    }
}

fn group_id(group: &str) -> Result<Gid, WallError> {
    let known = || uzers::get_group_by_name(group).map(|group| group.gid());
    let remedy = "make it (`groupadd --system`), or name another with `group`";
    let unknown = || WallError::Unknown { kind: "group", name: group.to_owned(), remedy };
    group.parse().ok().or_else(known).map(Gid::from_raw).ok_or_else(unknown)
}

/// Has nothing that this process starts get capabilities again. It takes one, so it comes before they are given up.
pub(super) fn bound(kept: Capabilities) {
    let held = rustix::thread::capabilities(None).map_or(CapabilitySet::empty(), |held| held.effective);
    if kept == Capabilities::Keep || !held.contains(CapabilitySet::SETPCAP) {
        return;
    }
    let kept =
        if kept == Capabilities::None { CapabilitySet::empty() } else { CapabilitySet::NET_BIND_SERVICE };
    for capability in CapabilitySet::all().iter().filter(|one| !kept.contains(*one)) {
        // Of a newer kernel, or an older one than has it.
        let _ = rustix::thread::remove_capability_from_bounding_set(capability);
    }
}

/// Gives up capabilities, for what this process starts, too.
pub(super) fn give_up(kept: Capabilities) -> Result<(), WallError> {
    let failed =
        |errno: rustix::io::Errno| WallError::System { what: "give up capabilities", error: errno.into() };
    let kept = match kept {
        Capabilities::Keep => return Ok(()),
        Capabilities::None => CapabilitySet::empty(),
        Capabilities::NetBindService => CapabilitySet::NET_BIND_SERVICE,
    };
    let held = rustix::thread::capabilities(None).map_err(failed)?;
    // What is not there cannot be kept.
    let kept = kept & held.permitted;
    // The next version of the host, which is started by this one, shall have it.
    let sets = CapabilitySets { effective: kept, permitted: kept, inheritable: kept };
    // Who has none is often not allowed to say so, as in a container.
    if sets != held {
        rustix::thread::set_capabilities(None, sets).map_err(failed)?;
    }
    // Kernels from before Linux 4.3 have none.
    let _ = rustix::thread::clear_ambient_capability_set();
    if !kept.is_empty() {
        let _ = rustix::thread::configure_capability_in_ambient_set(kept, true);
    }
    Ok(())
}

/// From here on nothing that this thread, or one that it makes, starts can gain privileges.
pub fn no_new_privs() -> Result<(), WallError> {
    rustix::thread::set_no_new_privs(true)
        .map_err(|error| WallError::System { what: "set no-new-privs", error: error.into() })
}
