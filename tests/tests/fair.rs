//! Tenants that want more than there is get their shares of a worker, by what they have used and not by how much they
//! have to do. The guests count themselves.

use std::io::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use conet_tests::admin::Socket;
use conet_tests::config::Config;
use conet_tests::host::{Host, Launch};
use conet_tests::{peer, turn};

const TWO_SPIN: &str = "[defaults.limits]\ncpu = \"10m\"";

/// One has a connection that computes, the other a hundred.
#[test]
fn a_hundred_coroutines_get_no_more_than_one() {
    let _turn = turn();
    let config = Config::host("workers = 1").with(TWO_SPIN).handler("one", "spin_count", "").handler(
        "hundred",
        "spin_count",
        "",
    );
    let host = Launch::serve(&config).start();
    let [one, hundred] = counts(&host, [("one", 1), ("hundred", 100)]);
    let ratio = hundred as f64 / one as f64;
    eprintln!("a hundred coroutines got {ratio:.3} of what one did");
    assert!((0.9..1.1).contains(&ratio), "{hundred} by {one} is {ratio:.3}");
    host.stop();
}

#[test]
fn shares_are_by_weight() {
    let _turn = turn();
    let config = Config::host("workers = 1")
        .with(TWO_SPIN)
        .handler("light", "spin_count", "weight = 1")
        .handler("heavy", "spin_count", "weight = 3");
    let host = Launch::serve(&config).start();
    let [light, heavy] = counts(&host, [("light", 10), ("heavy", 3)]);
    let ratio = heavy as f64 / light as f64;
    eprintln!("a weight of 3 got {ratio:.3} of what a weight of 1 did");
    assert!((2.7..3.3).contains(&ratio), "{heavy} by {light} is {ratio:.3}");
    host.stop();
}

/// One computes; what comes for the other ends its slices early.
#[test]
fn one_that_computes_makes_room_for_what_comes() {
    let _turn = turn();
    let admin = Socket::new();
    let config = Config::host(&format!("workers = 1\n{}", admin.line()))
        .with(TWO_SPIN)
        .handler("computes", "spin_count", "")
        .handler("echoes", "echo-handler", "");
    let host = Launch::serve(&config).start();
    let mut computing = host.connect_to("computes");
    let until = SystemTime::now() + Duration::from_secs(3);
    let millis = until.duration_since(UNIX_EPOCH).expect("after 1970").as_millis();
    writeln!(computing, "0 {millis}").expect("it is connected");
    let mut stream = host.connect_to("echoes");
    for _ in 0..200 {
        peer::round_trip(&mut stream, b"64 bytes or fewer");
    }
    assert!(peer::read_line(&mut computing).trim().parse::<u64>().expect("a number") > 0);
    let metrics = admin.get("/metrics").body;
    let counter = "conet_interrupts_total{tenant=\"computes\"} ";
    let interrupts = metrics.lines().find_map(|line| line.strip_prefix(counter)).expect("it is told");
    assert!(interrupts.parse::<u64>().expect("a number") > 0, "no slice ended early");
    drop(stream);
    host.stop();
}

/// What each tenant's connections count together in the same two seconds.
fn counts<const N: usize>(host: &Host, tenants: [(&str, usize); N]) -> [u64; N] {
    let mut streams = tenants.map(|(tenant, connections)| {
        let addr = host.addr_of(tenant);
        (0..connections).map(|_| peer::connect(addr)).collect::<Vec<_>>()
    });
    // All of them compute before it begins and when it ends.
    let from = SystemTime::now() + Duration::from_millis(1500);
    let until = from + Duration::from_secs(2);
    let millis = |time: SystemTime| time.duration_since(UNIX_EPOCH).expect("after 1970").as_millis();
    for stream in streams.iter_mut().flatten() {
        writeln!(stream, "{} {}", millis(from), millis(until)).expect("it is connected");
    }
    streams.map(|mut of_tenant| {
        of_tenant
            .iter_mut()
            .map(|stream| peer::read_line(stream).trim().parse::<u64>().expect("a number"))
            .sum()
    })
}
