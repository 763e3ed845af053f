//! The binary whose imports panic on demand: `CONET_FAULT` names one, `CONET_FAULT=list` prints all names.

use std::process::ExitCode;

fn main() -> ExitCode {
    if std::env::var("CONET_FAULT").as_deref() == Ok("list") {
        conet_host::imports::fault::POINTS.iter().for_each(|point| println!("{point}"));
        return ExitCode::SUCCESS;
    }
    conet_host::cli::main().code().into()
}
