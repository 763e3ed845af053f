//! A guest's long operations on its memory are done in pieces: others are served, and limits hold, between them.

use std::io::{Read, Write};
use std::thread;

use conet_tests::admin::Socket;
use conet_tests::config::Config;
use conet_tests::exposition::Samples;
use conet_tests::host::Launch;
use conet_tests::{peer, turn};

/// The budget is a fraction of what the instruction takes, and the next thing the guest does would be to send.
#[test]
fn a_budget_ends_a_guest_within_one_instruction() {
    let config = serve("", "cpu = \"10ms\"");
    let host = Launch::serve(&config).start();
    let mut stream = host.connect_to("fills");
    stream.write_all(b"1").expect("it is connected");
    peer::expect_reset(&mut stream);
    host.wait_line("used its CPU budget of 10ms");
    peer::echo_exact(host.connect_to("echo"), 1000);
    host.stop();
}

/// On one worker. An instruction that is done in one go has one yield at most, whatever the machine is like.
#[test]
fn others_have_their_turns_while_an_instruction_is_under_way() {
    let _turn = turn();
    let admin = Socket::new();
    let host = Launch::serve(&serve(&admin.line(), "cpu = \"10m\"")).start();
    let mut fills = host.connect_to("fills");
    let mut beside = host.connect_to("echo");
    peer::round_trip(&mut beside, b"before");
    fills.write_all(b"*").expect("it is connected");
    let filling = thread::spawn(move || fills.read_exact(&mut [0; FILLS]).map(|()| fills));
    let mut served = 0;
    while !filling.is_finished() {
        peer::round_trip(&mut beside, b"while it is filled");
        served += 1;
    }
    let fills = filling.join().expect("it cannot panic").expect("it goes on");
    let metrics = admin.get("/metrics").body;
    let yields = Samples::read(&metrics).of("conet_yields_total{tenant=\"fills\"}");
    eprintln!("{served} messages, and {yields} yields in {FILLS} instructions");
    assert!(yields >= 3. * FILLS as f64, "{yields} yields in {FILLS} instructions");
    drop((fills, beside));
    host.stop();
}

/// A tenant that fills memory beside one that is served, on one worker.
fn serve(host: &str, limits: &str) -> Config {
    let limits = format!("[tenant.limits]\nfresh-memory = \"300MiB\"\n{limits}");
    let config = Config::host(&format!("workers = 1\n{host}"));
    config.handler("echo", "echo-handler", "").handler("fills", "long_fill", &limits)
}

/// Of 256 MiB each.
const FILLS: usize = 10;
