//! The admin of a host, asked as any HTTP client would.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use serde_json::Value;

use crate::config::Config;
use crate::host::Host;
use crate::{PATIENCE, artifacts};

/// A path for the Unix socket of an admin.
pub struct Socket(PathBuf);

impl Socket {
    /// A path that nothing is at.
    pub fn new() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Self(artifacts::scratch().join(format!("admin-{number}.sock")))
    }

    /// The line of `[host]` that names it.
    pub fn line(&self) -> String {
        format!("admin = {:?}", self.0)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Connects to it.
    pub fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(&self.0).unwrap_or_else(|error| panic!("{:?}: {error}", self.0));
        stream.set_read_timeout(Some(PATIENCE)).expect("the limit is not zero");
        stream.set_write_timeout(Some(PATIENCE)).expect("the limit is not zero");
        stream
    }

    /// GET.
    pub fn get(&self, target: &str) -> Response {
        request(self.connect(), "GET", target, "localhost")
    }

    /// POST, without a body.
    pub fn post(&self, target: &str) -> Response {
        request(self.connect(), "POST", target, "localhost")
    }

    /// Asks again until the answer is what is waited for.
    pub fn wait(&self, target: &str, mut what: impl FnMut(&Response) -> bool) -> Response {
        let start = Instant::now();
        loop {
            let response = self.get(target);
            if what(&response) {
                return response;
            }
            assert!(start.elapsed() < PATIENCE, "{target} came to {response:?}");
        }
    }
}

impl Default for Socket {
    fn default() -> Self {
        Self::new()
    }
}

/// What came back.
#[derive(Debug)]
pub struct Response {
    /// As in `200`.
    pub status: u16,
    /// The head, with its first line.
    pub head: String,
    /// The body.
    pub body: String,
}

impl Response {
    /// Checks the status.
    #[track_caller]
    pub fn assert(&self, status: u16) -> &Self {
        assert_eq!(self.status, status, "{self:?}");
        self
    }

    /// Whether the head has this header, as it is written.
    pub fn has_header(&self, line: &str) -> bool {
        self.head.lines().any(|one| one.eq_ignore_ascii_case(line))
    }
}

/// Sends a request without a body over `stream`, and reads to the end.
#[track_caller]
pub fn request(stream: impl Read + Write, method: &str, target: &str, host: &str) -> Response {
    let head = format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    exchange(stream, head.as_bytes())
}

/// Sends these bytes over `stream`, and reads a response to its end. It may come before all are sent.
#[track_caller]
pub fn exchange(mut stream: impl Read + Write, bytes: &[u8]) -> Response {
    let sent = stream.write_all(bytes);
    let mut all = Vec::new();
    let read = stream.read_to_end(&mut all);
    let text = String::from_utf8(all).expect("the admin answers with text");
    let Some((head, body)) = text.split_once("\r\n\r\n") else { panic!("{sent:?} {read:?}: {text:?}") };
    let status = head.split_whitespace().nth(1).and_then(|status| status.parse().ok());
    let status = status.unwrap_or_else(|| panic!("no status: {head:?}"));
    let length = head
        .lines()
        .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
    assert_eq!(length, Some(body.len()), "the whole body: {head}");
    Response { status, head: head.to_owned(), body: body.to_owned() }
}

/// With the admin at a socket and at an address, and a handler `h`.
pub fn both(socket: &Socket) -> Config {
    Config::host(&format!("{}\n{ADDRESS}", socket.line())).handler("h", "echo-handler", "")
}

/// Where it is over TCP.
pub fn address(host: &Host) -> SocketAddr {
    let line = host.wait_line("admin at http://");
    let address = line.trim_start_matches("admin at http://").trim_end_matches('/');
    address.parse().unwrap_or_else(|_| panic!("{line}"))
}

/// The host, once it is ready.
pub fn ready(host: Host, socket: &Socket) -> Host {
    host.wait_line("admin at ");
    socket.wait("/readyz", |response| response.status == 200);
    host
}

/// What is told of the tenant of this name.
pub fn tenant(tenants: &Response, name: &str) -> Value {
    let told: Value = serde_json::from_str(&tenants.assert(200).body).expect("JSON");
    let tenants = told["tenants"].as_array().expect("a list");
    tenants.iter().find(|tenant| tenant["name"] == name).expect(name).clone()
}

/// Waits until its state is this one.
pub fn wait_state(socket: &Socket, name: &str, state: &str) {
    socket.wait("/tenants", |tenants| tenant(tenants, name)["state"] == state);
}

const ADDRESS: &str = "admin-address = \"127.0.0.1:0\"";
