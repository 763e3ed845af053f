//! An ordinary command, without the SDK: prints its arguments and environment, one a line.

fn main() {
    for arg in std::env::args().skip(1) {
        println!("arg {arg}");
    }
    for (key, value) in std::env::vars() {
        println!("env {key}={value}");
    }
}
