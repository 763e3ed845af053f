//! `conet-bench`: see [`cli`].

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    match cli::run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("conet-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}
