//! The admin's answers in a terminal.

use std::{
    io::{self, IsTerminal, Write},
    thread,
    time::Duration,
};

use super::{
    client::{Client, ClientError},
    coroutines,
    status::Told,
    table,
};

/// How an answer is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// As a table.
    Table,
    /// As it came.
    Json,
}

/// Why a command has not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum TerminalError {
    /// The admin has none, or another answer.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// It is none that this version knows.
    #[error("the host's answer is not understood, perhaps it is of another version: {0}")]
    Answer(#[from] serde_json::Error),
    /// Nobody reads what is shown.
    #[error("cannot write: {0}")]
    Write(#[from] io::Error),
}

/// Shows the tenants.
pub fn tenants(client: &Client, form: Form) -> Result<(), TerminalError> {
    let text = client.get("/tenants")?;
    let shown = match form {
        Form::Json => text,
        Form::Table => table::tenants(&serde_json::from_str(&text)?),
    };
    Ok(io::stdout().write_all(shown.as_bytes())?)
}

/// Shows the coroutines that a query like that of `/coroutines` asks for.
pub fn ps(client: &Client, form: Form, query: &str) -> Result<(), TerminalError> {
    let text = client.get(&format!("/coroutines?{query}"))?;
    let shown = match form {
        Form::Json => text,
        Form::Table => table::coroutines(&serde_json::from_str::<coroutines::Told>(&text)?),
    };
    Ok(io::stdout().write_all(shown.as_bytes())?)
}

/// Shows what the tenants do, again and again: `looks` times, or for ever.
pub fn top(client: &Client, form: Form, every: Duration, looks: Option<u32>) -> Result<(), TerminalError> {
    let mut out = io::stdout();
    let mut before: Option<Told> = None;
    for look in 1.. {
        let text = client.get("/tenants")?;
        match form {
            Form::Json => out.write_all(text.as_bytes())?,
            Form::Table => {
                let told: Told = serde_json::from_str(&text)?;
                let clear = if out.is_terminal() { "\x1b[H\x1b[2J" } else { "" };
                let end = if out.is_terminal() { "" } else { "\n" };
                write!(out, "{clear}{}{end}", table::top(&told, before.as_ref()))?;
                before = Some(told);
            }
        }
        out.flush()?;
        if looks.is_some_and(|looks| look >= looks) {
            break;
        }
        pause(every);
    }
    Ok(())
}

/// Gives a command, and shows what became of it.
pub fn command(client: &Client, target: &str) -> Result<(), TerminalError> {
    Ok(io::stdout().write_all(client.post(target)?.as_bytes())?)
}

#[expect(clippy::disallowed_methods, reason = "a process of its own, which has no worker")]
fn pause(time: Duration) {
    thread::sleep(time);
}
