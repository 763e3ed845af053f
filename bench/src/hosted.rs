//! `conet-host serve` with tenants of a measurement's choosing, and what its admin tells.

use std::fs::{self, DirBuilder};
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use rustix::process::Signal;
use serde::Deserialize;

use crate::compare::markdown::Section;
use crate::contender::{Artifact, Build, Server};

/// What its workers wait for their sockets with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Driver {
    /// What it takes by itself.
    Auto,
    /// epoll.
    Epoll,
    /// io_uring.
    IoUring,
}

impl Driver {
    /// Its name in the file, on the command line and in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Epoll => "epoll",
            Self::IoUring => "io-uring",
        }
    }
}

/// Where a host is measured.
#[derive(Debug, Clone)]
pub struct Stage {
    /// The core of the host.
    pub server_core: usize,
    /// The core of the load.
    pub load_core: usize,
    /// Whether to build the host and its guests first.
    pub build: Build,
    /// A file to write the table into.
    pub markdown: Option<PathBuf>,
}

impl Stage {
    /// Sees that these are built, and where in the file the table of this name goes.
    pub(crate) fn prepare(
        &self,
        table: &str,
        artifacts: impl IntoIterator<Item = Artifact>,
    ) -> Result<Option<Section<'_>>> {
        let section = self.markdown.as_deref().map(|path| Section::find(path, table.into())).transpose()?;
        artifacts.into_iter().try_for_each(|artifact| artifact.prepare(self.build))?;
        Ok(section)
    }
}

/// The shipped echo, in its two forms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Echo {
    /// A fresh instance for each connection.
    Handler,
    /// All connections in one instance.
    Program,
}

impl Echo {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Handler, Self::Program];

    /// Its name in tables.
    pub fn label(self) -> &'static str {
        match self {
            Self::Handler => "handler",
            Self::Program => "program",
        }
    }

    pub(crate) fn artifact(self) -> Artifact {
        match self {
            Self::Handler => Artifact::EchoHandler,
            Self::Program => Artifact::Echo,
        }
    }

    /// As a tenant, on a free port.
    pub(crate) fn tenant(self, name: &str) -> Result<String> {
        let listens = match self {
            Self::Handler => "listen = [\"127.0.0.1:0\"]",
            Self::Program => "args = [\"127.0.0.1:0\"]\nallow-listen = [\"127.0.0.1:*\"]",
        };
        Ok(tenant(name, &self.artifact().path()?, listens))
    }
}

/// A section of the file.
pub(crate) fn tenant(name: &str, component: &Path, lines: &str) -> String {
    format!("[[tenant]]\nname = {name:?}\ncomponent = {component:?}\n{lines}\n")
}

/// A running host with one worker. Dropping it kills it, and removes its files.
pub(crate) struct Hosted {
    // Before its folder goes.
    server: Server,
    folder: Folder,
}

impl Hosted {
    /// Serves these tenants on `core`, and waits until all listen.
    pub(crate) fn start(driver: Driver, core: usize, tenants: &[String]) -> Result<Self> {
        let folder = Folder::new()?;
        let (cache, admin, driver) = (folder.0.join("cache"), folder.admin(), driver.name());
        let host = format!(
            "[host]\nworkers = 1\ncache = {cache:?}\nadmin = {admin:?}\ndriver = {driver:?}\nshared-instances = true\n"
        );
        let file = folder.0.join("conet.toml");
        fs::write(&file, host + &tenants.concat())?;
        let mut command = Command::new(Artifact::Host.path()?);
        command.arg("serve").arg(&file).env("RES_OPTIONS", "timeout:1 attempts:1");
        let hosted = Self { server: Server::start(command, &[core], None)?, folder };
        let until = Instant::now() + PATIENCE;
        loop {
            // The admin answers before there are any.
            let told = hosted.told()?.tenants;
            if told.len() == tenants.len() && told.iter().all(|tenant| !tenant.listeners.is_empty()) {
                return Ok(hosted);
            }
            ensure!(Instant::now() < until, "not all tenants listen; {}", hosted.server.last_words());
            pause();
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.server.pid()
    }

    /// Where a tenant listens.
    pub(crate) fn address(&self, tenant: &str) -> Result<SocketAddr> {
        let told = self.told()?;
        Ok(*told.tenant(tenant)?.listeners.first().context("it listens nowhere")?)
    }

    /// What its admin tells.
    pub(crate) fn told(&self) -> Result<Told> {
        let ask = || {
            let mut stream = UnixStream::connect(self.folder.admin())?;
            stream.write_all(b"GET /tenants HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok::<_, std::io::Error>(answer)
        };
        let answer = ask().with_context(|| format!("the admin is silent; {}", self.server.last_words()))?;
        let body = answer.split_once("\r\n\r\n").context("the admin's answer has no body")?.1;
        serde_json::from_str(body).with_context(|| format!("the admin answers {answer}"))
    }

    /// What it last wrote to its standard error, for a message about its failure.
    pub(crate) fn last_words(&self) -> String {
        self.server.last_words()
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        self.server.signal(signal)
    }

    /// Waits for the end it was asked for: how it ended, and when.
    pub(crate) fn ended(self) -> Result<(ExitStatus, Instant)> {
        self.server.ended()
    }

    /// Ends it.
    pub(crate) fn stop(self) -> Result<()> {
        self.server.stop().map(drop)
    }
}

/// What the admin tells, as far as it is looked at.
#[derive(Debug, Deserialize)]
pub(crate) struct Told {
    pub(crate) host: HostTold,
    pub(crate) tenants: Vec<TenantTold>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct HostTold {
    pub(crate) process: ProcessTold,
}

#[derive(Debug, Deserialize)]
pub(crate) struct ProcessTold {
    pub(crate) resident_bytes: u64,
    pub(crate) descriptors: u64,
}

#[derive(Debug, Deserialize)]
pub(crate) struct TenantTold {
    name: String,
    pub(crate) listeners: Vec<SocketAddr>,
    pub(crate) cpu_seconds: f64,
    pub(crate) connections: MeterTold,
    pub(crate) coroutines: MeterTold,
    pub(crate) instances: MeterTold,
}

#[derive(Debug, Deserialize)]
pub(crate) struct MeterTold {
    pub(crate) used: u64,
    pub(crate) peak: u64,
}

impl Told {
    pub(crate) fn tenant(&self, name: &str) -> Result<&TenantTold> {
        self.tenants.iter().find(|tenant| tenant.name == name).context("there is no such tenant")
    }
}

/// A folder of this user's alone, gone when dropped.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Result<Self> {
        // One after the other: each is gone before the next.
        let path = std::env::temp_dir().join(format!("conet-bench-host-{}", std::process::id()));
        DirBuilder::new().mode(0o700).create(&path).with_context(|| path.display().to_string())?;
        Ok(Self(path))
    }

    fn admin(&self) -> PathBuf {
        self.0.join("admin.sock")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What is left there harms nobody.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Between two looks at what has no event.
pub(crate) fn pause() {
    thread::sleep(Duration::from_millis(10));
}

const PATIENCE: Duration = Duration::from_secs(60);
