//! `conet-host run`.

use std::{io, net::SocketAddr, path::PathBuf, thread, time::Duration};

use clap::Args;

use super::log::{Log, begin};
use crate::{
    config::{
        driver::Driver,
        limits::Limits,
        net::{ConnectGrant, Grants, ListenGrant},
        tenant::{DirGrant, EnvVar, Instances, Isolation, TenantConfig},
        units::{UnitError, parse_duration, parse_size},
    },
    exit::{Exit, StartError},
    host::{self, Options},
    imports::given::{Given, Unusable},
    messages::Messages,
    package,
    sandbox::cache::Cache,
};

/// Run one component until it ends or a signal comes.
///
/// Nothing is reachable unless granted: a program may listen on loopback ports from 1024, and connect nowhere.
#[derive(Args)]
pub struct Run {
    /// A component (.wasm), or the folder of a Cargo package, which is built for wasm32-wasip2 first. Building runs
    /// the package's build scripts outside the sandbox.
    component: PathBuf,
    /// The guest's arguments.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<String>,

    /// Where to listen, for a handler. Itself the grant to do so [default: the sockets that systemd passes, or else
    /// 127.0.0.1:7000].
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
    /// What a handler's connections share: `connection` (nothing: a fresh instance each) or `shared` (an instance for
    /// each worker; needs #[conet::handler(shared)]).
    #[arg(long, value_name = "HOW", default_value = "connection")]
    isolation: Isolation,
    /// Worker threads [default: one for each core].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    workers: Option<u16>,
    /// What workers wait for their sockets with: `epoll`, `io-uring`, or `auto`, which is io_uring where the kernel has
    /// it and it is allowed.
    #[arg(long, value_name = "DRIVER", default_value = "auto")]
    driver: Driver,
    /// Copies of a program: `1`, or `per-worker`; they share listening sockets and nothing else.
    #[arg(long, value_name = "HOW", default_value = "1")]
    instances: Instances,

    /// Let the guest listen there: 127.0.0.1:80, 0.0.0.0/0:8000-8099, [::1]:*.
    #[arg(long, value_name = "SPEC")]
    allow_listen: Vec<ListenGrant>,
    /// Let the guest connect there: 10.0.0.5:6379, 10.0.0.0/8:*, redis.internal:6379, *.example.com:443, public:443.
    #[arg(long, value_name = "SPEC")]
    allow_connect: Vec<ConnectGrant>,
    /// Give the guest a folder: HOST::GUEST, or HOST::GUEST:ro to let it read only.
    #[arg(long, value_name = "HOST::GUEST[:ro]")]
    dir: Vec<DirGrant>,
    /// Set a variable of the guest's environment, which is empty otherwise.
    #[arg(long, value_name = "NAME=VALUE")]
    env: Vec<EnvVar>,

    /// Memory of an instance, tables included [default: 8MiB for a connection's or a spawned coroutine's, 512MiB for
    /// one that coroutines share].
    #[arg(long, value_name = "SIZE", value_parser = memory_max)]
    memory_max: Option<usize>,
    /// Connections accepted at once; more wait to be accepted [default: 10000].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    connections_max: Option<u32>,
    /// Coroutines at once [default: as many as connections, and some].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    coroutines_max: Option<u32>,
    /// CPU time a coroutine may use without waiting for anything [default: 1s].
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    cpu_max: Option<Duration>,
    /// How long connections have to finish after the first SIGTERM or Ctrl-C [default: 10s].
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    drain_max: Option<Duration>,
    /// Where compiled code is kept, or `off` [default: conet in the user's cache folder].
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,
    /// Leave out what preempts guests, to measure what it costs. Nothing bounds a guest that spins then, so it is hidden,
    /// wants its purpose spelt out, and is for loopback alone.
    #[arg(long, hide = true, value_name = "PURPOSE", value_parser = ["for-measuring"], conflicts_with = "allow_listen")]
    no_preemption: Option<String>,

    #[command(flatten)]
    log: Log,
}

impl Run {
    /// Does it; what went wrong is said on stderr.
    pub fn run(self) -> Exit {
        // Before anything opens a descriptor.
        let given = Given::from_environment();
        // What it does without comes before its threads.
        let messages = Messages::waiting(io::stderr());
        self.log.start(self.log.format(None), &messages);
        let exit = self.try_run(given, &messages).unwrap_or_else(|failure| {
            // Each message is whole: the chain behind it would say things twice.
            messages.say(format_args!("error: {}", failure.error));
            failure.exit
        });
        // If the host has not come so far.
        if let Err(exit) = begin(&messages) {
            return exit;
        }
        messages.finish();
        exit
    }

    fn try_run(self, given: Result<Given, Unusable>, messages: &Messages) -> Result<Exit, Failure> {
        let given = given.map_err(StartError::from)?;
        let given_at = given.all().into_iter().map(|named| named.address);
        if self.no_preemption.is_some()
            && self.listen.into_iter().chain(given_at).any(|address| !address.ip().is_loopback())
        {
            let why = "--no-preemption is for measuring, on loopback: leave it out, or --listen on 127.0.0.1";
            return Err(StartError::Options(why.to_owned()).into());
        }
        let component = match self.component.is_dir() {
            true => package::build(&self.component).map_err(Failure::refused)?,
            false => self.component.clone(),
        };
        Ok(host::run(self.options(component, given), messages)?)
    }

    fn options(self, component: PathBuf, given: Given) -> Options {
        let limits = self.limits();
        let mut tenant =
            TenantConfig::new(component.file_stem().map_or("guest".into(), |name| name.to_string_lossy()));
        tenant.args = std::iter::once(component.display().to_string()).chain(self.args).collect();
        tenant.env = self.env;
        tenant.dirs = self.dir;
        tenant.grants = Grants::loopback();
        tenant.grants.listen.extend(self.allow_listen);
        tenant.grants.connect.extend(self.allow_connect);
        tenant.limits = limits;
        tenant.isolation = self.isolation;
        tenant.instances = self.instances;
        let workers = self.workers.map(usize::from);
        let cores = || thread::available_parallelism().map_or(1, usize::from);
        let cache = match self.cache {
            Some(path) if path.as_os_str() == "off" => None,
            Some(path) => Some(path),
            None => Cache::default_path(),
        };
        let preemption = self.no_preemption.is_none();
        let workers = workers.unwrap_or_else(cores);
        let (listen, driver) = (self.listen, self.driver);
        Options { component, tenant, listen, given, workers, driver, cache, preemption }
    }

    fn limits(&self) -> Limits {
        let mut limits = Limits::default();
        if let Some(bytes) = self.memory_max {
            limits.fresh_memory_bytes_max = bytes;
            limits.shared_memory_bytes_max = bytes;
        }
        if let Some(connections) = self.connections_max {
            limits.connections_max = connections as usize;
        }
        limits.coroutines_max = match self.coroutines_max {
            Some(coroutines) => coroutines as usize,
            None => limits.connections_max + COROUTINES_BESIDE_CONNECTIONS,
        };
        limits.cpu_max = self.cpu_max.unwrap_or(limits.cpu_max);
        limits.drain_max = self.drain_max.unwrap_or(limits.drain_max);
        limits
    }
}

/// What to say, and how to end.
struct Failure {
    error: anyhow::Error,
    exit: Exit,
}

impl Failure {
    fn refused(error: package::BuildError) -> Self {
        Self { error: error.into(), exit: Exit::Refused }
    }
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        let exit = error.exit();
        Self { error: error.into(), exit }
    }
}

fn memory_max(text: &str) -> Result<usize, String> {
    let bytes = parse_size(text).map_err(|error: UnitError| error.to_string())?;
    if bytes > MEMORY_BYTES_MAX {
        return Err("a 32-bit memory has 4GiB at most".to_owned());
    }
    Ok(bytes)
}

/// The main coroutine of a program on each worker, and a few that connect out.
const COROUTINES_BESIDE_CONNECTIONS: usize = 64;
/// What 32-bit WebAssembly can address.
const MEMORY_BYTES_MAX: usize = 4 << 30;
