//! An ordinary command, without the SDK: `read PATH` or `write PATH`, and says how that went.

fn main() {
    let args: Vec<_> = std::env::args().collect();
    let path = &args[2];
    let result = match args[1].as_str() {
        "read" => std::fs::read_to_string(path),
        "write" => std::fs::write(path, "written by the guest").map(|()| "written".to_owned()),
        other => panic!("not an operation: {other}"),
    };
    match result {
        Ok(text) => println!("ok {text}"),
        Err(error) => println!("failed {:?}", error.kind()),
    }
}
