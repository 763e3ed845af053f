//! Opens pools with options that can never work, and says what the host answers.

use std::time::Duration;

use conet::pool::{Options, Pool};

#[conet::main]
fn main() {
    let no_place = Options { max_open: 0, ..Options::default() };
    let no_time = Options { connect_timeout: Duration::ZERO, ..Options::default() };
    for (name, options) in [("max_open", no_place), ("connect_timeout", no_time)] {
        let refused = Pool::open_with("127.0.0.1:9", options).err();
        println!("{name}: {:?}", refused.and_then(|error| conet::ErrorCode::of(&error)));
    }
}
