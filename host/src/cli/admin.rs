//! `conet-host tenants`, `top`, `reload`, `drain` and `restart`: clients of a host that runs.

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

/// Have a host read its file again.
#[derive(Args)]
pub struct Reload {
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

/// Have a program that has ended started again, whatever its file says of that.
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

impl Reload {
    /// Does it.
    pub fn run(self) -> Exit {
        ended(terminal::command(&self.at.client(), "/reload"))
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
        false => Err("names of tenants are of `a` to `z`, `0` to `9` and `-`".to_owned()),
    }
}
