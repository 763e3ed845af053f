//! An ordinary command, without the SDK: prints 10 MB of numbered lines on stdout, and every thousandth on stderr too.

use std::io::{BufWriter, Write};

fn main() -> std::io::Result<()> {
    let mut out = BufWriter::new(std::io::stdout().lock());
    for number in 0..1_000_000 {
        writeln!(out, "{number:09}")?;
        if number % 1000 == 0 {
            eprintln!("at {number:09}");
        }
    }
    out.flush()
}
