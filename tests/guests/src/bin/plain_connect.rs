//! An ordinary command, without the SDK: connects by std to its first argument and says how that went.

fn main() {
    let addr = std::env::args().nth(1).unwrap_or_default();
    match std::net::TcpStream::connect(addr) {
        Ok(_) => println!("connected"),
        Err(error) => println!("failed: {:?}", error.kind()),
    }
}
