//! The command line. No logic here: options become what the host takes.

pub mod log;
pub mod run;

use clap::{Parser, Subcommand};

use crate::exit::Exit;

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
    Run(run::Run),
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
    }
}
