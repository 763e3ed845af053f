//! A file for `conet-host serve`, put together by a test.

use std::fmt::Write;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::artifacts;

/// The file, in the scratch folder.
pub struct Config {
    path: PathBuf,
    text: String,
}

impl Config {
    /// One that says nothing but where compiled code is kept.
    pub fn new() -> Self {
        Self::host("")
    }

    /// With more lines of `[host]`.
    pub fn host(lines: &str) -> Self {
        let driver = std::env::var("CONET_DRIVER").map(|driver| format!("driver = \"{driver}\"\n"));
        let (cache, driver) = (artifacts::code_cache(), driver.unwrap_or_default());
        Self::of(format!("[host]\ncache = {cache:?}\n{driver}{lines}\n"))
    }

    /// With exactly this text.
    pub fn of(text: impl Into<String>) -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = artifacts::scratch().join(format!("conet-{}-{number}.toml", std::process::id()));
        let config = Self { path, text: text.into() };
        config.write();
        config
    }

    /// With these lines as well, of any section.
    pub fn with(mut self, lines: &str) -> Self {
        writeln!(self.text, "{lines}").expect("a string takes everything");
        self.write();
        self
    }

    /// With a tenant that runs the guest of this name.
    pub fn tenant(self, name: &str, guest: &str, lines: &str) -> Self {
        self.component(name, &artifacts::guest(guest), lines)
    }

    /// With a tenant that runs the component at this path.
    pub fn component(self, name: &str, component: &Path, lines: &str) -> Self {
        self.with(&format!("[[tenant]]\nname = {name:?}\ncomponent = {component:?}\n{lines}"))
    }

    /// With a handler on a free loopback port.
    pub fn handler(self, name: &str, guest: &str, lines: &str) -> Self {
        self.tenant(name, guest, &format!("listen = [\"127.0.0.1:0\"]\n{lines}"))
    }

    /// Says what the other one does, from now on.
    pub fn replace(&mut self, other: Config) {
        self.text.clone_from(&other.text);
        self.write();
    }

    /// In this folder instead: another user may reach that, and not the scratch folder.
    pub fn moved_to(mut self, folder: &Path) -> Self {
        let path = folder.join(self.path.file_name().expect("it is a file"));
        fs::rename(&self.path, &path).or_else(|_| fs::copy(&self.path, &path).map(drop)).expect("a folder");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("it is ours");
        self.path = path;
        self
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn write(&self) {
        let fresh = self.path.with_extension("new");
        fs::write(&fresh, &self.text).expect("the scratch folder is ours");
        fs::rename(&fresh, &self.path).expect("the scratch folder is ours");
    }
}

impl Default for Config {
    fn default() -> Self {
        Self::new()
    }
}
