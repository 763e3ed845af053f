//! Connections that a proxy passes on, with a header of the PROXY protocol in front.

use std::io::Write;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use conet_tests::config::Config;
use conet_tests::host::{Host, Launch};
use conet_tests::process::Signal;
use conet_tests::{PATIENCE, peer};

/// Who gets the connections of the tenant `t`.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Isolated,
    Shared,
    Program,
    Spawning,
}

const KINDS: [Kind; 4] = [Kind::Isolated, Kind::Shared, Kind::Program, Kind::Spawning];

/// Its file, with more lines of the tenant's.
fn config(kind: Kind, lines: &str) -> Config {
    let host = Config::host("shared-instances = true\nworkers = 2");
    let listens = "allow-listen = [\"127.0.0.1:*\"]";
    match kind {
        Kind::Isolated => host.handler("t", "who", lines),
        Kind::Shared => host.handler("t", "who", &format!("isolation = \"shared\"\n{lines}")),
        Kind::Program => {
            host.tenant("t", "who_program", &format!("args = [\"127.0.0.1:0\"]\n{listens}\n{lines}"))
        }
        Kind::Spawning => host.tenant(
            "t",
            "who_program",
            &format!("args = [\"127.0.0.1:0\", \"spawn\"]\n{listens}\n{lines}"),
        ),
    }
}

fn start(kind: Kind, lines: &str) -> Host {
    Launch::serve(&config(kind, lines)).flag("-vv").start()
}

/// Ends it, and checks that these counters have these values.
fn stop_counted(host: Host, counters: &[&str]) {
    host.signal(Signal::TERM);
    let exit = host.wait_exit();
    for counter in counters {
        exit.assert_stderr(&format!(" {counter} "));
    }
}

const FROM_HERE: &str = "proxy-protocol-from = [\"127.0.0.0/8\"]";

const TEXT: &[u8] = b"PROXY TCP4 203.0.113.7 192.0.2.1 4711 443\r\n";
const TEXT_6: &[u8] = b"PROXY TCP6 2001:db8::7 2001:db8::1 4711 443\r\n";
const UNKNOWN: &[u8] = b"PROXY UNKNOWN\r\n";
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// Of version 2: the command and the family, then the rest with its length before.
fn binary(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let length = (rest.len() as u16).to_be_bytes();
    [SIGNATURE, &[0x20 | command, family], &length, rest].concat()
}

fn binary_4(fields: &[u8]) -> Vec<u8> {
    let ports = [4711_u16.to_be_bytes(), 443_u16.to_be_bytes()].concat();
    binary(1, 0x11, &[&[203, 0, 113, 7, 192, 0, 2, 1], &ports[..], fields].concat())
}

fn binary_6() -> Vec<u8> {
    let ip = |last: u8| [0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last];
    let ports = [4711_u16.to_be_bytes(), 443_u16.to_be_bytes()].concat();
    binary(1, 0x21, &[&ip(7)[..], &ip(1), &ports].concat())
}

/// Sends `header` with `first` behind it in one piece; the guest tells `line`, and answers with `first` and all else.
fn served(mut stream: TcpStream, header: &[u8], first: &[u8], line: &str) {
    let mut writer = stream.try_clone().expect("a socket can be duplicated");
    let whole = [header, first].concat();
    let sender = std::thread::spawn(move || {
        writer.write_all(&whole).expect("the host takes it");
        writer.shutdown(Shutdown::Write).expect("it is open");
    });
    assert_eq!(peer::read_line(&mut stream), line);
    assert!(peer::read_all(&mut stream) == first, "not what was sent behind the header");
    sender.join().expect("it has said what failed");
}

const CLIENT: &str = "203.0.113.7:4711 192.0.2.1:443";
const CLIENT_6: &str = "[2001:db8::7]:4711 [2001:db8::1]:443";

#[test]
fn clients_are_known_by_their_header() {
    let fields = [&[0x02, 0, 3, b'a', b'.', b'b', 0xea, 0x04, 0x00][..], &[9; 1024]].concat();
    for kind in KINDS {
        let host = start(kind, FROM_HERE);
        for (header, line) in [
            (TEXT, CLIENT),
            (TEXT_6, CLIENT_6),
            (&binary_4(&[]), CLIENT),
            (&binary_4(&fields), CLIENT),
            (&binary_6(), CLIENT_6),
        ] {
            let payload = vec![b'p'; 100_000];
            for first in [&b""[..], b"x", b"PROXY TCP4 1.1.1.1 2.2.2.2 1 2\r\n", &payload] {
                served(host.connect_to("t"), header, first, line);
            }
        }
        stop_counted(host, &["accepted=20", "proxy_headers_refused=0", "proxy_header_timeouts=0"]);
    }
}

#[test]
fn a_header_may_come_byte_by_byte() {
    for kind in KINDS {
        let host = start(kind, FROM_HERE);
        for header in [TEXT.to_vec(), binary_4(&[0x04, 0, 1, 0]), binary_6()] {
            let mut stream = host.connect_to("t");
            for byte in &header {
                stream.write_all(&[*byte]).expect("the host takes it");
            }
            let line = peer::read_line(&mut stream);
            assert!([CLIENT, CLIENT_6].contains(&&*line), "{line}");
            peer::round_trip(&mut stream, b"and goes on");
        }
        host.stop();
    }
}

/// The proxy's own, as of its looks at whether anybody is there; and those it can tell nothing of.
#[test]
fn a_header_that_names_nobody_leaves_the_socket_s_addresses() {
    for kind in KINDS {
        let host = start(kind, FROM_HERE);
        for header in [UNKNOWN, &binary(0, 0, &[]), &binary(0, 0x11, &[7; 12]), &binary(1, 0x31, &[0; 216])] {
            let stream = host.connect_to("t");
            let own = |address: std::io::Result<SocketAddr>| address.expect("it is connected");
            let line = format!("{} {}", own(stream.local_addr()), own(stream.peer_addr()));
            served(stream, header, b"anything", &line);
        }
        host.stop();
    }
}

#[test]
fn what_does_not_begin_with_a_header_is_reset() {
    for kind in KINDS {
        let host = start(kind, FROM_HERE);
        let long_line = [b"PROXY TCP4 ", &[b'1'; 200][..]].concat();
        let too_long = [SIGNATURE, &[0x21, 0x11, 0xff, 0xff]].concat();
        for wrong in [
            &b"GET / HTTP/1.1\r\n\r\n"[..],
            b"PROXY TCP4 1.1.1.1 2.2.2.2 1 65536\r\nhello",
            &long_line,
            &too_long,
            // A wrong checksum.
            &binary_4(&[0x03, 0, 4, 1, 2, 3, 4]),
        ] {
            let mut stream = host.connect_to("t");
            stream.write_all(wrong).expect("the host takes it");
            peer::expect_reset(&mut stream);
        }
        // Half a header, and no more ever.
        let mut stream = host.connect_to("t");
        stream.write_all(&TEXT[..20]).expect("the host takes it");
        stream.shutdown(Shutdown::Write).expect("it is open");
        peer::expect_reset(&mut stream);
        host.wait_line("no PROXY protocol header");
        served(host.connect_to("t"), TEXT, b"right", CLIENT);
        stop_counted(host, &["proxy_headers_refused=6", "accepted=1"]);
    }
}

/// Many that say nothing hold up nobody, and are reset in time.
#[test]
fn a_slow_header_holds_up_nobody_else() {
    for kind in KINDS {
        let host = start(kind, &format!("{FROM_HERE}\n[tenant.limits]\nfirst-byte = \"2s\""));
        let mut slow: Vec<TcpStream> = (0..50).map(|_| host.connect_to("t")).collect();
        for (nth, stream) in slow.iter_mut().enumerate() {
            stream.write_all(&TEXT[..nth % 20]).expect("the host takes it");
        }
        for _ in 0..10 {
            served(host.connect_to("t"), TEXT, b"quick", CLIENT);
        }
        slow.iter_mut().for_each(peer::expect_reset);
        stop_counted(host, &["proxy_header_timeouts=50", "accepted=10", "proxy_headers_refused=0"]);
    }
}

#[test]
fn a_header_is_taken_from_proxies_alone() {
    for kind in KINDS {
        let host = start(kind, "proxy-protocol-from = [\"10.0.0.0/8\", \"127.0.0.2\"]");
        let addr = host.addr_of("t");
        peer::expect_reset_of_new(addr);
        host.wait_line("proxy-protocol-from = [\"127.0.0.1\"]");
        served(peer::connect_from("127.0.0.2:0", addr), TEXT, b"trusted", CLIENT);
        stop_counted(host, &["proxy_peers_refused=1", "accepted=1"]);
    }
}

/// All come from one proxy: its address does not count, theirs do.
#[test]
fn a_limit_for_each_address_is_the_clients_own() {
    let host = start(Kind::Isolated, &format!("{FROM_HERE}\n[tenant.limits]\nconnections-per-ip = 1"));
    let of = |client: u8| format!("PROXY TCP4 203.0.113.{client} 192.0.2.1 4711 443\r\n");
    let mut streams: Vec<TcpStream> = (0..3).map(|_| host.connect_to("t")).collect();
    for (stream, client) in streams.iter_mut().zip(1..) {
        stream.write_all(of(client).as_bytes()).expect("the host takes it");
        assert!(peer::read_line(stream).starts_with(&format!("203.0.113.{client}:4711 ")));
    }
    let mut second = host.connect_to("t");
    second.write_all(of(2).as_bytes()).expect("the host takes it");
    peer::expect_reset(&mut second);
    drop(streams);
    stop_counted(host, &["refused_per_ip=1", "accepted=3"]);
}

/// As many balancers do to see whether anybody is there.
#[test]
fn who_connects_and_goes_is_nobody() {
    let host = start(Kind::Isolated, FROM_HERE);
    for _ in 0..5 {
        let mut stream = host.connect_to("t");
        stream.shutdown(Shutdown::Write).expect("it is open");
        assert!(peer::read_all(&mut stream).is_empty());
    }
    peer::reset(host.connect_to("t"));
    served(host.connect_to("t"), TEXT, b"somebody", CLIENT);
    stop_counted(host, &["proxy_headers_refused=0", "accepted=1"]);
}

/// Accepted before the file was read again, it may say who it is afterwards.
#[test]
fn a_reload_leaves_a_header_its_time() {
    for kind in [Kind::Isolated, Kind::Shared, Kind::Program] {
        let mut file = config(kind, FROM_HERE);
        let host = Launch::serve(&file).start();
        let addr = host.addr_of("t");
        let mut waiting: Vec<TcpStream> = (0..8).map(|_| peer::connect(addr)).collect();
        for stream in &mut waiting {
            stream.write_all(&TEXT[..10]).expect("the host takes it");
        }
        // Those before it were accepted before.
        served(peer::connect(addr), TEXT, b"goes on", CLIENT);
        file.replace(config(kind, &format!("{FROM_HERE}\nenv = {{ ANOTHER = \"version\" }}")));
        host.signal(Signal::HUP);
        host.wait_line("reloaded");
        for stream in &mut waiting {
            stream.write_all(&TEXT[10..]).expect("it is still there");
            assert_eq!(peer::read_line(stream), CLIENT);
            peer::round_trip(stream, b"served");
        }
        drop(waiting);
        host.stop();
    }
}

/// haproxy, if it is installed and long tests are asked for.
#[test]
fn haproxy_is_understood() {
    if !conet_tests::long() {
        return;
    }
    for (send, port) in
        [("send-proxy", 18_071), ("send-proxy-v2 proxy-v2-options crc32c,unique-id,authority", 18_072)]
    {
        let host = start(Kind::Isolated, FROM_HERE);
        let addr = host.addr_of("t");
        let file = tempfile::NamedTempFile::new().expect("a scratch file");
        let text = format!(
            "defaults\n mode tcp\n timeout connect 5s\n timeout client 60s\n timeout server 60s\n\
             frontend f\n bind 127.0.0.1:{port}\n unique-id-format %rt\n default_backend b\n\
             backend b\n server s {addr} {send} check inter 200ms\n"
        );
        std::fs::write(file.path(), text).expect("it is ours");
        let haproxy = std::process::Command::new("haproxy").arg("-db").arg("-f").arg(file.path()).spawn();
        let mut haproxy = haproxy.expect("haproxy is installed where long tests run");
        let front = SocketAddr::from(([127, 0, 0, 1], port));
        let mut streams = Vec::new();
        while streams.len() < 3 {
            // It takes a moment to listen, and another to find the host well.
            let Ok(mut stream) = TcpStream::connect_timeout(&front, PATIENCE) else { continue };
            stream.set_read_timeout(Some(PATIENCE)).expect("it is not zero");
            let own = stream.local_addr().expect("it is connected");
            assert_eq!(peer::read_line(&mut stream), format!("{own} {front}"));
            peer::round_trip(&mut stream, &[b'h'; 50_000]);
            streams.push(stream);
        }
        // Its looks at the host go on beside them.
        assert!(peer::silent_for(&mut streams[0], Duration::from_secs(1)));
        drop(streams);
        haproxy.kill().expect("it runs");
        haproxy.wait().expect("it has ended");
        stop_counted(host, &["proxy_headers_refused=0", "proxy_header_timeouts=0"]);
    }
}
