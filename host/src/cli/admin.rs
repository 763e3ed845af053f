//! `conet-host tenants`, `top`, `ps`, `reload`, `upgrade`, `drain` and `restart`: clients of a host that runs.

use std::{
    env,
    io::{self, Write},
    path::PathBuf,
    time::Duration,
};

use clap::Args;

use crate::{
    admin::{
        client::Client,
        terminal::{self, Form, TerminalError},
    },
    config::units::parse_duration,
    exit::Exit,
};

/// Show the tenants of a host that runs, with what they use and may use.
#[derive(Args)]
pub struct Tenants {
    #[command(flatten)]
    at: At,
    /// As JSON, as the host tells it.
    #[arg(long)]
    json: bool,
}

/// Show what the tenants of a host do, again and again.
#[derive(Args)]
pub struct Top {
    #[command(flatten)]
    at: At,
    /// As JSON, a line for each look.
    #[arg(long)]
    json: bool,
    /// From one look to the next.
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = parse_duration)]
    every: Duration,
    /// How often to look [default: until Ctrl-C].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    looks: Option<u32>,
}

/// Show the coroutines of a host that runs: what they wait for, since when, and what they use.
///
/// Those in their state for longest come first.
#[derive(Args)]
pub struct Ps {
    #[command(flatten)]
    at: At,
    /// Only this tenant's.
    #[arg(long, value_name = "NAME", value_parser = name)]
    tenant: Option<String>,
    /// Only those in this state: running, recv, accept, sleep …
    #[arg(long, value_parser = name)]
    state: Option<String>,
    /// So many at most [default: 50].
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// With where their guests are: of up to 100, as of now if each has its own instance, or else as of their next call.
    #[arg(long)]
    stacks: bool,
    /// As JSON, as the host tells it.
    #[arg(long)]
    json: bool,
}

/// Have a host read its file again.
#[derive(Args)]
pub struct Reload {
    #[command(flatten)]
    at: At,
    /// Bring versions again that were rolled back.
    #[arg(long)]
    retry: bool,
}

/// Have a host hand over to its program as it is on disk now, without a connection lost.
///
/// The new process reads the file anew, compiles what it has to, and takes the listening sockets over; the old one finishes what
/// it has. If the new one cannot serve, the old one goes on, and this says why.
#[derive(Args)]
pub struct Upgrade {
    #[command(flatten)]
    at: At,
}

/// Have a tenant accept nothing new; its connections may finish. The host and its other tenants go on.
#[derive(Args)]
pub struct Drain {
    /// The tenant.
    #[arg(value_parser = name)]
    name: String,
    #[command(flatten)]
    at: At,
}

/// Have a tenant begin anew: in new instances, while those that run finish what they have. A program that has ended runs again,
/// whatever its file says of that.
#[derive(Args)]
pub struct Restart {
    /// The tenant.
    #[arg(value_parser = name)]
    name: String,
    #[command(flatten)]
    at: At,
}

/// Which host.
#[derive(Args)]
struct At {
    /// Where its admin is [default: $CONET_ADMIN, or else conet-admin.sock].
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
}

impl Tenants {
    /// Does it.
    pub fn run(self) -> Exit {
        ended(terminal::tenants(&self.at.client(), form(self.json)))
    }
}

impl Top {
    /// Does it.
    pub fn run(self) -> Exit {
        ended(terminal::top(&self.at.client(), form(self.json), self.every, self.looks))
    }
}

impl Ps {
    /// Does it.
    pub fn run(self) -> Exit {
        let pairs = [
            self.tenant.as_ref().map(|tenant| format!("tenant={tenant}")),
            self.state.as_ref().map(|state| format!("state={state}")),
            self.limit.map(|limit| format!("limit={limit}")),
            self.stacks.then(|| "stacks=1".to_owned()),
        ];
        let query = pairs.into_iter().flatten().collect::<Vec<_>>().join("&");
        ended(terminal::ps(&self.at.client(), form(self.json), &query))
    }
}

impl Reload {
    /// Does it.
    pub fn run(self) -> Exit {
        ended(terminal::command(&self.at.client(), if self.retry { "/reload?retry" } else { "/reload" }))
    }
}

impl Upgrade {
    /// Does it.
    pub fn run(self) -> Exit {
        ended(terminal::command(&self.at.client(), "/upgrade"))
    }
}

impl Drain {
    /// Does it.
    pub fn run(self) -> Exit {
        ended(terminal::command(&self.at.client(), &format!("/tenants/{}/drain", self.name)))
    }
}

impl Restart {
    /// Does it.
    pub fn run(self) -> Exit {
        ended(terminal::command(&self.at.client(), &format!("/tenants/{}/restart", self.name)))
    }
}

impl At {
    fn client(&self) -> Client {
        let given = self.socket.clone().or_else(|| env::var_os("CONET_ADMIN").map(PathBuf::from));
        Client::new(&given.unwrap_or_else(|| "conet-admin.sock".into()))
    }
}

fn form(json: bool) -> Form {
    if json { Form::Json } else { Form::Table }
}

fn ended(done: Result<(), TerminalError>) -> Exit {
    let Err(error) = done else { return Exit::Done };
    // A closed stderr leaves nowhere to complain.
    let _ = writeln!(io::stderr(), "error: {error}");
    Exit::Guest(1)
}

fn name(text: &str) -> Result<String, String> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    match !text.is_empty() && text.bytes().all(plain) {
        true => Ok(text.to_owned()),
        false => Err("names are of `a` to `z`, `0` to `9` and `-`".to_owned()),
    }
}
