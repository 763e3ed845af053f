//! Thousands of idle connections, on a kernel's usual limit of memory mappings.

use std::fs;

use conet_tests::crowd::Crowd;
use conet_tests::host::{Host, Launch};
use conet_tests::{process, turn};

/// As many as a hard limit of 20,000 on descriptors leaves room for. Each has a stack of 32 KiB in the
/// guest's memory.
#[test]
fn one_instance_holds_19000_idle_connections() {
    let _turn = turn();
    let _stock = StockMappings::set();
    let launch = Launch::guest("echo").option("--coroutines-max", "19100");
    let launch = launch.option("--connections-max", "19100").option("--memory-max", "1GiB");
    holds(launch.arg("127.0.0.1:0").start(), 19_000);
}

#[test]
fn an_instance_each_holds_10000_idle_connections() {
    let _turn = turn();
    let _stock = StockMappings::set();
    holds(Launch::handler("echo-handler").option("--connections-max", "10000").start(), 10_000);
}

/// All are open at the same time, each has been served before and is served after.
fn holds(host: Host, count: usize) {
    process::need_fds(count as u64 + 500);
    let addr = host.addr();
    let before = host.process().rss_bytes();
    let mut crowd = Crowd::connect(addr, count);
    crowd.round(0);
    let memory = host.process().rss_bytes().saturating_sub(before) / count as u64;
    println!("{count} connections: {memory} bytes each, {} mappings", host.process().mappings());
    assert!(host.process().mappings() <= STOCK);
    assert!(host.process().fds() >= count, "each has a socket: {host:?}");
    crowd.round(1);
    // Nothing is used up: as many leave, as many can come.
    crowd.leave(1_000);
    let mut others = Crowd::connect(addr, 500);
    others.round(2);
    crowd.round(3);
}

/// The kernel's usual `vm.max_map_count` while it lives, then what was there before.
struct StockMappings {
    before: String,
}

impl StockMappings {
    fn set() -> Self {
        let before = fs::read_to_string(SETTING).expect("Linux has this setting");
        if before.trim() != STOCK.to_string()
            && let Err(error) = fs::write(SETTING, STOCK.to_string())
        {
            // Mappings are still counted against the stock limit above.
            println!("vm.max_map_count stays at {}: {error}", before.trim());
        }
        Self { before }
    }
}

impl Drop for StockMappings {
    fn drop(&mut self) {
        if fs::read_to_string(SETTING).is_ok_and(|now| now != self.before) {
            fs::write(SETTING, &self.before).expect("it could be changed before");
        }
    }
}

const SETTING: &str = "/proc/sys/vm/max_map_count";
const STOCK: usize = 65_530;
