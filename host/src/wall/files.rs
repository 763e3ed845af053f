//! Files within reach, by Landlock: those that the configuration names, and those that the system's libraries take.

use std::{
    collections::BTreeSet,
    env, fs,
    path::{Path, PathBuf},
};

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, LandlockStatus, Ruleset,
    RulesetAttr, RulesetCreatedAttr, RulesetStatus, Scope, make_bitflags, path_beneath_rules,
};

/// What a configuration needs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Area {
    /// Files to read, with those beside them.
    files: BTreeSet<PathBuf>,
    /// Folders and files to read.
    pub reads: BTreeSet<PathBuf>,
    /// Folders to read and write.
    pub writes: BTreeSet<PathBuf>,
    /// Folders in which this process has sockets to remove.
    pub sockets: BTreeSet<PathBuf>,
}

/// What can be reached.
#[derive(Debug)]
pub struct Files {
    reads: Vec<PathBuf>,
    writes: Vec<PathBuf>,
    abi: String,
}

impl Area {
    /// A file that is read, and that another one may take the place of: as editors and links have it.
    pub fn read_file(&mut self, path: &Path) {
        self.files.insert(path.to_owned());
    }

    /// Folders to read, of files the one they are in and the one that a link leads to.
    fn folders(&self) -> BTreeSet<PathBuf> {
        let mut folders = self.reads.clone();
        for file in &self.files {
            let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
            folders.insert(folder.unwrap_or(Path::new(".")).to_owned());
            folders.extend(fs::canonicalize(file).ok().and_then(|real| Some(real.parent()?.to_owned())));
        }
        folders
    }

    /// Puts all else out of reach of this thread, and of those that it makes.
    pub(super) fn enclose(&self) -> Result<Files, String> {
        let mut reads: BTreeSet<PathBuf> = SYSTEM.iter().map(PathBuf::from).collect();
        reads.extend(NAME_SERVICES.iter().map(PathBuf::from));
        let mut area = Area { reads, ..Area::default() };
        // They are often links to where what changes lies.
        NAME_FILES.iter().for_each(|file| area.read_file(Path::new(file)));
        let ours = mapped();
        ours.iter().for_each(|file| area.read_file(file));
        let mut reads = area.folders();
        reads.extend(self.folders());

        let read = make_bitflags!(AccessFs::{ReadFile | ReadDir});
        let write = AccessFs::from_all(ABI_KNOWN) & !never();
        let device = make_bitflags!(AccessFs::{ReadFile | WriteFile});
        let run = make_bitflags!(AccessFs::{ReadFile | Execute});
        let sockets = make_bitflags!(AccessFs::{RemoveFile | MakeSock});
        // The compiler's child says of itself that it is the first to go where memory runs out. What root could write
        // there is the kernel's settings, capabilities or not.
        let proc = Some("/proc").filter(|_| !rustix::process::geteuid().is_root());
        let asked = || {
            let ruleset = Ruleset::default()
                .set_compatibility(CompatLevel::BestEffort)
                .handle_access(AccessFs::from_all(ABI_KNOWN))?
                .scope(Scope::from_all(ABI_KNOWN))?
                .create()?
                .add_rules(path_beneath_rules(reads.iter(), read))?
                .add_rules(path_beneath_rules(&self.writes, write))?
                .add_rules(path_beneath_rules(&self.sockets, sockets))?
                .add_rules(path_beneath_rules(DEVICES, device))?
                .add_rules(path_beneath_rules(proc, device))?
                .add_rules(path_beneath_rules(&ours, run))?
                .add_rules(path_beneath_rules(NAME_SERVICES, AccessFs::ResolveUnix))?;
            ruleset.restrict_self()
        };
        let status = asked().map_err(|error| error.to_string())?;
        let abi = match (&status.ruleset, status.landlock) {
            (RulesetStatus::NotEnforced, LandlockStatus::NotEnabled) => {
                return Err("it is switched off in this kernel (`lsm=` of its command line)".to_owned());
            }
            (RulesetStatus::NotEnforced, _) => {
                return Err("this kernel, or the container, does not have it".to_owned());
            }
            (_, LandlockStatus::Available { effective_abi, .. }) => format!("{effective_abi:?}"),
            (status, _) => format!("{status:?}"),
        };
        let real = |paths: &mut dyn Iterator<Item = &PathBuf>| {
            paths.filter_map(|path| fs::canonicalize(path).ok()).collect()
        };
        Ok(Files { reads: real(&mut reads.iter()), writes: real(&mut self.writes.iter()), abi })
    }
}

/// Puts all files out of reach, and all processes and sockets, as far as this kernel can. What is open stays open.
pub(super) fn enclose_in_nothing() -> Result<(), String> {
    let asked = || {
        let ruleset = Ruleset::default()
            .set_compatibility(CompatLevel::BestEffort)
            .handle_access(AccessFs::from_all(ABI_KNOWN))?
            .handle_access(AccessNet::from_all(ABI_NET_TCP))?
            .scope(Scope::from_all(ABI_KNOWN))?
            .create()?;
        ruleset.restrict_self()
    };
    asked().map(drop).map_err(|error| error.to_string())
}

impl Files {
    /// What of these is out of reach, each with what it would take.
    pub fn outside(&self, area: &Area) -> Vec<String> {
        let beneath = |path: &PathBuf, roots: &[PathBuf]| {
            // What is not there is another error.
            fs::canonicalize(path).map_or(true, |real| roots.iter().any(|root| real.starts_with(root)))
        };
        let reads = area
            .files
            .union(&area.reads)
            .filter(|path| !beneath(path, &self.reads) && !beneath(path, &self.writes));
        let writes = area.writes.iter().filter(|path| !beneath(path, &self.writes));
        let reads = reads.map(|path| format!("{} to read (`readable`)", path.display()));
        let writes = writes.map(|path| format!("{} to write (`writable`)", path.display()));
        reads.chain(writes).collect()
    }

    /// Which version of Landlock holds.
    pub(super) fn in_force(&self) -> &str {
        &self.abi
    }
}

/// What no folder grants: programs to start, devices, and sockets of others.
fn never() -> BitFlags<AccessFs> {
    make_bitflags!(AccessFs::{
        Execute | MakeChar | MakeBlock | MakeSock | MakeFifo | IoctlDev | ResolveUnix
    })
}

/// This program, its loader and its libraries: what is mapped to be executed now.
fn mapped() -> BTreeSet<PathBuf> {
    let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let paths = maps.lines().filter_map(|line| {
        let mut fields = line.split_ascii_whitespace();
        let executable = fields.nth(1)?.contains('x');
        let path = line.find('/').map(|at| &line[at..])?;
        executable.then(|| PathBuf::from(path))
    });
    paths.chain(env::current_exe().ok()).collect()
}

/// The newest that the rules were written with: what a kernel does not know of it is left out.
const ABI_KNOWN: ABI = ABI::V9;
/// The first that knows of TCP.
const ABI_NET_TCP: ABI = ABI::V4;

/// Libraries, which libc loads more of to look names up; what the machine says of itself; randomness.
const SYSTEM: &[&str] = &[
    "/lib",
    "/lib64",
    "/usr/lib",
    "/usr/lib64",
    "/usr/share/zoneinfo",
    "/etc",
    "/proc",
    "/sys/fs/cgroup",
    "/sys/devices/system",
    "/sys/kernel/mm",
    "/dev/random",
    "/dev/urandom",
];

/// What libc's name service reads, and connects to.
const NAME_SERVICES: &[&str] = &[
    "/run/NetworkManager",
    "/run/avahi-daemon",
    "/run/nscd",
    "/run/resolvconf",
    "/run/systemd",
    "/var/lib/sss",
];

const NAME_FILES: &[&str] = &["/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf", "/etc/localtime"];
const DEVICES: &[&str] = &["/dev/null", "/dev/zero"];
