//! Computes for each message, as a handler: an instance for each connection, or shared.

use conet::net::TcpStream;

#[conet::handler(shared)]
fn on_connection(conn: TcpStream) -> std::io::Result<()> {
    conet_bench_guests::compute_and_echo(conn)
}
