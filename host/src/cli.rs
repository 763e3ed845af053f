//! The command line. No logic here: options become what the host takes.

pub mod admin;
pub mod check;
pub mod compile_child;
pub mod enclose;
pub mod launcher;
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
    /// Show the tenants of a host that runs, with what they use and may use.
    Tenants(admin::Tenants),
    /// Show what the tenants of a host do, again and again.
    Top(admin::Top),
    /// Show the coroutines of a host that runs, and what each waits for.
    Ps(admin::Ps),
    /// Have a host read its file again.
    Reload(admin::Reload),
    /// Have a host hand over to its program as it is on disk now, without a connection lost.
    Upgrade(admin::Upgrade),
    /// Have a tenant accept nothing new; its connections may finish.
    Drain(admin::Drain),
    /// Have a tenant begin anew, while what it has may finish.
    Restart(admin::Restart),
    /// Print the reference of that file, docs/config.md.
    #[command(hide = true)]
    ConfigReference,
    /// Compile a component for the host that started this.
    #[command(hide = true)]
    CompileChild(compile_child::CompileChild),
    /// Run a command behind a file's wall, to see what it holds.
    #[command(hide = true)]
    Enclose(enclose::Enclose),
    /// What `serve` starts before its wall goes up.
    #[command(hide = true)]
    Launcher(launcher::Launcher),
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
        Command::Tenants(tenants) => tenants.run(),
        Command::Top(top) => top.run(),
        Command::Ps(ps) => ps.run(),
        Command::Reload(reload) => reload.run(),
        Command::Upgrade(upgrade) => upgrade.run(),
        Command::Drain(drain) => drain.run(),
        Command::Restart(restart) => restart.run(),
        Command::CompileChild(child) => child.run(),
        Command::ConfigReference => {
            // A closed stdout leaves nowhere to complain.
            let _ = io::stdout().write_all(reference().as_bytes());
            Exit::Done
        }
        Command::Enclose(enclose) => enclose.run(),
        Command::Launcher(launcher) => launcher.run(),
    }
}
