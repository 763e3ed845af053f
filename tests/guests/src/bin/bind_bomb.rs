//! Listens on free ports until refused, says how many there were, and that one more can be had when one is dropped.

use conet::net::TcpListener;

#[conet::main]
fn main() -> std::io::Result<()> {
    let mut kept = Vec::new();
    let refused = loop {
        match TcpListener::bind("127.0.0.1:0") {
            Ok(listener) => kept.push(listener),
            Err(error) => break error,
        }
        assert!(kept.len() < FAR_TOO_MANY, "never refused");
    };
    println!("bound={} code={:?}", kept.len(), conet::ErrorCode::of(&refused));
    kept.pop();
    TcpListener::bind("127.0.0.1:0").map(drop)
}

const FAR_TOO_MANY: usize = 5_000;
