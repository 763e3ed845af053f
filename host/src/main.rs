//! The binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    conet_host::cli::main().code().into()
}
