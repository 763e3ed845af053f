//! The command line. No logic here: options become what the host takes.

pub mod check;
pub mod log;
pub mod run;
pub mod serve;

use std::io::{self, Write};

use clap::{Parser, Subcommand};

use crate::{config::file::reference, exit::Exit};

/// Runs network programs as WebAssembly sandboxes.
#[derive(Parser)]
#[command(name = "conet-host", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run one component, a program or a handler, until it ends or a signal comes.
    Run(Box<run::Run>),
    /// Run the tenants of a file until a signal comes.
    Serve(serve::Serve),
    /// Tell everything that is wrong with a file of `serve`, and start nothing.
    Check(check::Check),
    /// Print the reference of that file, docs/config.md.
    #[command(hide = true)]
    ConfigReference,
}

/// Reads the arguments and does what they say.
pub fn main() -> Exit {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // --help and --version come here too, and are no failure. A closed stderr leaves nowhere to complain.
            let _ = error.print();
            return if error.use_stderr() { Exit::Usage } else { Exit::Done };
        }
    };
    match cli.command {
        Command::Run(run) => run.run(),
        Command::Serve(serve) => serve.run(),
        Command::Check(check) => check.run(),
        Command::ConfigReference => {
            // A closed stdout leaves nowhere to complain.
            let _ = io::stdout().write_all(reference().as_bytes());
            Exit::Done
        }
    }
}
