//! Upgrades of a host, and programs for it to become.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::admin::Socket;
use crate::artifacts;
use crate::config::Config;
use crate::host::{Host, Successor};

/// A handler that says which version it is, and an admin.
pub fn version(number: usize, socket: &Socket, lines: &str) -> Config {
    let env = format!("env = {{ VERSION = \"{number:04}\" }}");
    Config::host(&format!("{}\n{lines}", socket.line())).handler("v", "version", &env)
}

/// The version that answers.
pub fn ask(stream: &mut TcpStream) -> String {
    stream.write_all(b"which?").expect("it is connected");
    let mut answer = [0; 4];
    stream.read_exact(&mut answer).expect("it answers");
    String::from_utf8_lossy(&answer).into_owned()
}

/// Upgrades by the command, which must succeed.
pub fn upgrade(host: &Host, socket: &Socket, nth: usize) -> Successor {
    let output = command(socket);
    assert!(output.status.success(), "{output:?} {host:?}");
    let successor = host.wait_successor(nth);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.starts_with(&format!("upgraded: process {} serves", successor.process().id())), "{said}");
    successor
}

/// `conet-host upgrade`.
pub fn command(socket: &Socket) -> Output {
    Command::new(artifacts::host())
        .args(["upgrade", "--socket"])
        .arg(socket.path())
        .output()
        .expect("it can be started")
}

/// The process that the admin is in.
pub fn who(socket: &Socket) -> i32 {
    let body = socket.get("/tenants").assert(200).body.clone();
    let told: serde_json::Value = serde_json::from_str(&body).expect("it is JSON");
    told["host"]["process"]["id"].as_i64().expect("it tells its number") as i32
}

/// A program file of this test's own, which may be replaced.
pub struct Program(pub PathBuf);

impl Program {
    /// The host.
    pub fn host() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let program = Self(artifacts::scratch().join(format!("conet-host-{number}")));
        program.becomes_the_host();
        program
    }

    /// It is the host.
    pub fn becomes_the_host(&self) {
        let fresh = self.0.with_extension("new");
        // It is large.
        fs::hard_link(artifacts::host(), &fresh)
            .or_else(|_| fs::copy(artifacts::host(), &fresh).map(drop))
            .expect("the scratch folder is ours");
        fs::rename(&fresh, &self.0).expect("the scratch folder is ours");
    }

    /// It is this script.
    pub fn becomes(&self, script: &str) {
        let fresh = self.0.with_extension("new");
        fs::write(&fresh, format!("#!/bin/sh\n{script}\n")).expect("the scratch folder is ours");
        fs::set_permissions(&fresh, fs::Permissions::from_mode(0o755)).expect("it is ours");
        fs::rename(&fresh, &self.0).expect("the scratch folder is ours");
    }
}

/// A program that waits, before it becomes the host, until the pipe of this name is written to.
pub fn waits_for(pipe: &Path) -> String {
    let made = Command::new("mkfifo").arg(pipe).status().expect("coreutils are there");
    assert!(made.success());
    format!("read line < {pipe:?}; exec {:?} \"$@\"", artifacts::host())
}
