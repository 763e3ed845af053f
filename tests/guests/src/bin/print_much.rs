//! An ordinary command, without the SDK: prints numbered lines of ten bytes on stdout, and every thousandth on stderr
//! too. As many as its first argument says, or a million.

use std::io::{BufWriter, Write};

fn main() -> std::io::Result<()> {
    let mut out = BufWriter::new(std::io::stdout().lock());
    let lines = std::env::args().nth(1).map_or(1_000_000, |lines| lines.parse().expect("a number"));
    for number in 0..lines {
        writeln!(out, "{number:09}")?;
        if number % 1000 == 0 {
            eprintln!("at {number:09}");
        }
    }
    out.flush()
}
