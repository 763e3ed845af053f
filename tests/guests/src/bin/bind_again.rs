//! Listens on an address, stops, listens there again, and says so; between the two it must be free.

use conet::net::TcpListener;

#[conet::main]
fn main() -> std::io::Result<()> {
    let address = std::env::args().nth(1).ok_or_else(|| std::io::Error::other("no address"))?;
    for _ in 0..3 {
        drop(TcpListener::bind(address.as_str())?);
        // While it has the address, it cannot have it twice.
        let listener = TcpListener::bind(address.as_str())?;
        assert!(TcpListener::bind(address.as_str()).is_err());
        drop(listener);
    }
    println!("again");
    Ok(())
}
