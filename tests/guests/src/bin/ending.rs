//! A program that ends as its first argument says: `ok`, `err`, `panic`, an exit code, or `std` for std's exit with 7.

#[conet::main]
fn main() -> Result<(), String> {
    match std::env::args().nth(1).as_deref() {
        Some("ok") => Ok(()),
        Some("err") => Err("told to fail".to_owned()),
        Some("panic") => panic!("told to panic"),
        Some("std") => std::process::exit(7),
        Some(code) => conet::exit(code.parse().map_err(|_| format!("not an exit code: {code}"))?),
        None => Err("no argument".to_owned()),
    }
}
