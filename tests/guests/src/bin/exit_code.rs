//! Exits with the code in its first argument, in the middle of a coroutine.

#[conet::main]
fn main() -> std::io::Result<()> {
    let code = std::env::args().nth(1).and_then(|code| code.parse().ok()).expect("a code");
    conet::go(move || conet::exit(code))?;
    loop {
        conet::yield_now();
    }
}
