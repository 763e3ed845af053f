//! As `who`, of those it accepts itself; `spawn`, its second argument, has each served by an instance of its own.

use conet::net::{TcpListener, TcpStream};
use std::io;

#[conet::main]
fn main() -> io::Result<()> {
    let args: Vec<String> = std::env::args().collect();
    let listener = TcpListener::bind(&*args[1])?;
    let spawn = args.get(2).is_some_and(|how| how == "spawn");
    loop {
        let (conn, peer) = listener.accept()?;
        assert_eq!(conn.peer_addr()?, peer, "both are told the same");
        if spawn {
            let serve = |mut conns: Vec<TcpStream>, _: Vec<u8>| {
                // The peer sees how it ends.
                let _ = conet_test_guests::tell_who(conns.remove(0));
            };
            conet::spawn_with(serve, vec![conn], Vec::new())?;
        } else {
            conet::go(move || conet_test_guests::tell_who(conn))?;
        }
    }
}
