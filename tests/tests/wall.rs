//! The second wall: what a host that is taken over could not do either.
//!
//! Each refusal has its control, the same without that part of the wall: so it is the wall that refuses.

use std::fs;
use std::io::{IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use conet_tests::artifacts;
use conet_tests::config::Config;
use conet_tests::host::Launch;
use conet_tests::peer;
use conet_tests::process::Signal;
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType, sendmsg,
    socketpair,
};

/// A file with a tenant in it.
fn config(lines: &str) -> Config {
    Config::host(lines).handler("echo", "echo-handler", "")
}

/// A folder that no file names, and that every user reaches.
fn elsewhere(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("conet-wall-{}-{name}", std::process::id()));
    fs::create_dir_all(&path).expect("a folder");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("it is ours");
    path
}

/// Runs a command behind the wall of this file.
fn behind(config: &Config, command: &[&str]) -> Output {
    let mut host = Command::new(artifacts::host());
    host.arg("enclose").arg(config.path()).arg("--").args(command).stdin(Stdio::null());
    host.output().expect("the host can be started")
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn echoes(host: &conet_tests::host::Host) {
    peer::echo_exact(host.connect_to("echo"), 1 << 16);
}

#[test]
fn all_threads_of_a_running_host_stand_behind_it() {
    let host = Launch::serve(&config("")).start();
    echoes(&host);
    let process = host.process();
    for (key, expected) in [("NoNewPrivs", "1"), ("Seccomp", "2"), ("CapEff", "0000000000000000")] {
        let threads = process.of_threads(key);
        assert!(threads.len() > 3, "workers, the ticker, signals, messages: {threads:?}");
        assert!(threads.iter().all(|(_, value)| value == expected), "{key}: {threads:?}");
    }
    // The one that starts the next version stands outside, with no more privileges.
    let children = process.children();
    let [launcher] = children[..] else { panic!("one child: {children:?}") };
    assert_eq!(launcher.of_threads("Seccomp")[0].1, "0");
    assert_eq!(launcher.of_threads("NoNewPrivs")[0].1, "1");
    assert_eq!(launcher.of_threads("CapEff")[0].1, "0000000000000000");
    host.stop();
}

#[test]
fn each_part_has_its_switch() {
    let field = |lines: &str, key: &str| {
        let host = Launch::serve(&config(lines)).start();
        echoes(&host);
        let value = host.process().of_threads(key)[0].1.clone();
        host.stop();
        value
    };
    assert_eq!(field("seccomp = false", "Seccomp"), "0");
    assert_eq!(field("seccomp = \"required\"\nlandlock = \"required\"", "Seccomp"), "2");
    let none = "no-new-privs = false\nseccomp = false\nlandlock = false";
    assert_eq!(field(none, "NoNewPrivs"), "0");
    assert_eq!(field("no-new-privs = \"required\"", "NoNewPrivs"), "1");
    if is_root() {
        assert_ne!(field("capabilities = \"keep\"", "CapEff"), "0000000000000000");
        assert_eq!(field("capabilities = \"net-bind-service\"", "CapEff"), "0000000000000400");
    }
}

/// By number, for the calls that no library makes; with arguments that do no harm where the call is let through.
#[test]
fn system_calls_that_no_host_needs_fail() {
    let calls: &[(&str, i64, &str)] = &[
        // Of a process that there is not.
        ("ptrace", libc::SYS_ptrace, "16, 0, 0, 0"),
        ("mount", libc::SYS_mount, "0, 0, 0, 0, 0"),
        ("bpf", libc::SYS_bpf, "-1, 0, 0"),
        // Of its name of the machine.
        ("unshare", libc::SYS_unshare, "0x04000000"),
        ("setns", libc::SYS_setns, "-1, 0"),
        ("keyctl", libc::SYS_keyctl, "0, -3, 0"),
        ("userfaultfd", libc::SYS_userfaultfd, "0xffff"),
        ("setuid", libc::SYS_setuid, "0"),
        ("chroot", libc::SYS_chroot, "0"),
        // PACKET, raw; ALG, which anybody may have.
        ("socket", libc::SYS_socket, "17, 3, 0"),
        ("socket", libc::SYS_socket, "38, 5, 0"),
        // A child in another namespace of users, with a flag that makes it invalid.
        ("clone", libc::SYS_clone, "0x10000000 | 0x200, 0, 0, 0, 0"),
        // A page that is written and executed.
        ("mmap", libc::SYS_mmap, "0, 4096, 7, 0x22, -1, 0"),
    ];
    // Capabilities are kept, so that what refuses is the filter.
    let file =
        |seccomp: &str| config(&format!("landlock = false\ncapabilities = \"keep\"\nseccomp = {seccomp}"));
    let (with, without) = (file("true"), file("false"));
    for (name, call, arguments) in calls {
        let script = format!("$! = 0; syscall({call}, {arguments}); print $! + 0");
        let errno = |config| {
            let output = behind(config, &["perl", "-e", &script]);
            assert!(output.status.success(), "{output:?}");
            String::from_utf8_lossy(&output.stdout).trim().parse::<i32>().expect("a number")
        };
        assert_eq!(errno(&with), libc::EPERM, "{name}({arguments})");
        if is_root() {
            assert_ne!(errno(&without), libc::EPERM, "the control of {name}({arguments})");
        }
    }
}

#[test]
fn other_programs_cannot_be_started() {
    let with = behind(&config(""), &["/bin/true"]);
    assert_eq!(with.status.code(), Some(126), "{with:?}");
    assert!(String::from_utf8_lossy(&with.stderr).contains("Permission denied"), "{with:?}");
    let without = behind(&config("landlock = false"), &["/bin/true"]);
    assert!(without.status.success(), "{without:?}");
}

/// The host itself can be started, and is a program that reads, and that makes what it can write.
#[test]
fn files_outside_can_be_neither_read_nor_written() {
    let folder = elsewhere("files");
    let secret = folder.join("secret.toml");
    fs::write(&secret, "[host]\n").expect("a file");
    let host = artifacts::host().to_str().expect("a path of this workspace");
    let read = [host, "check", secret.to_str().expect("text")];
    let made = folder.join("made");
    let inner = Config::of(format!("[host]\ncache = {made:?}\n")).handler("echo", "echo-handler", "");
    let write = [host, "enclose", inner.path().to_str().expect("text"), "--", "/nothing"];

    let with = config("");
    let output = behind(&with, &read);
    assert!(String::from_utf8_lossy(&output.stderr).contains("Permission denied"), "{output:?}");
    behind(&with, &write);
    assert!(!made.exists(), "the wall lets folders be made outside");

    let without = config("landlock = false");
    let output = behind(&without, &read);
    assert!(String::from_utf8_lossy(&output.stderr).contains("add a [[tenant]]"), "{output:?}");
    behind(&without, &write);
    assert!(made.exists(), "the control");
    fs::remove_dir_all(folder).expect("it is ours");
}

#[test]
fn root_binds_and_another_user_serves() {
    if !is_root() {
        eprintln!("only root becomes another user: passed over");
        return;
    }
    let folder = elsewhere("user");
    let (cache, socket) = (folder.join("a/cache"), folder.join("admin.sock"));
    let lines = format!(
        "[host]\nuser = \"nobody\"\ncache = {cache:?}\nadmin = {socket:?}\nlandlock = \"required\"\n"
    );
    // An address of this test alone, with a port that only root may have.
    let [.., high, low] = std::process::id().to_be_bytes();
    let address = format!("127.{low}.{high}.9:81");
    // Where nobody can read it, whatever the folders above this project say.
    let component = folder.join("echo.wasm");
    fs::copy(artifacts::guest("echo-handler"), &component).expect("a copy");
    let with = |listen: &str| Config::of(lines.clone()).component("echo", &component, listen);
    let mut file = with(&format!("listen = [{address:?}]")).moved_to(&folder);
    let host = Launch::serve(&file).start();
    echoes(&host);
    let process = host.process();
    for (key, expected) in [
        ("Uid", "65534\t65534\t65534\t65534"),
        ("Gid", "65534\t65534\t65534\t65534"),
        ("Groups", "65534"),
        ("CapEff", "0000000000000000"),
        ("CapPrm", "0000000000000000"),
        ("CapBnd", "0000000000000000"),
    ] {
        assert!(process.of_threads(key).iter().all(|(_, value)| value == expected), "{key}: {host:?}");
    }
    // What it made as root is the user's.
    let about = fs::metadata(&socket).expect("it listens");
    assert_eq!((about.uid(), about.permissions().mode() & 0o777), (65534, 0o600));
    let kept: Vec<_> = fs::read_dir(&cache).expect("it was made").flatten().collect();
    assert!(kept.len() >= 2, "a key, and compiled code: {kept:?}");
    assert!(kept.iter().all(|entry| entry.metadata().expect("it is there").uid() == 65534));

    // It reloads: the port that only root may have goes on, and a new one cannot be had, which changes nothing.
    let more = format!("listen = [{address:?}]\nweight = 2");
    file.replace(with(&more));
    host.signal(Signal::HUP);
    host.wait_count("\nreloaded ", 1);
    let low = address.replace(":81", ":82");
    let more = format!("listen = [{address:?}, {low:?}]");
    file.replace(with(&more));
    host.signal(Signal::HUP);
    host.wait_line("ports below 1024 need");
    host.wait_count("all goes on as it was", 1);
    echoes(&host);
    host.stop();
    fs::remove_dir_all(folder).expect("it is ours");
}

#[test]
fn a_user_that_cannot_be_is_refused() {
    let unknown = config("user = \"nobody-of-this-name\"");
    let exit = Launch::check(&unknown).finish();
    exit.assert_code(2).assert_stderr("there is no user").assert_stderr("useradd");
    Launch::serve(&unknown).finish().assert_code(2).assert_stderr("there is no user");
    let group = config("user = \"nobody\"\ngroup = \"nobody-of-this-name\"");
    Launch::check(&group).finish().assert_code(2).assert_stderr("there is no group");
    Launch::check(&config("user = \"4000000\"")).finish().assert_code(2).assert_stderr("needs a `group`");
    Launch::check(&config("group = \"nobody\"")).finish().assert_code(2).assert_stderr("goes with `user`");
    Launch::check(&config("no-new-privs = false")).finish().assert_code(2).assert_stderr("seccomp = false");
    if is_root() {
        // A host that is nobody cannot become root.
        let lines = "[host]\nuser = \"nobody\"\ncache = \"off\"\nlandlock = false\nseccomp = false\n";
        let outer = Config::of(lines).handler("echo", "echo-handler", "");
        let inner =
            Config::of("[host]\ncache = \"off\"\nuser = \"root\"\n").handler("echo", "echo-handler", "");
        // Where nobody can reach them, whatever the folders above this project say.
        let folder = elsewhere("refused");
        let (inner, host) = (inner.moved_to(&folder), folder.join("conet-host"));
        fs::copy(artifacts::host(), &host).expect("a copy");
        let [host, path] = [&host, inner.path()].map(|path| path.to_str().expect("text"));
        let output = behind(&outer, &[host, "serve", path]);
        fs::remove_dir_all(folder).expect("it is ours");
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("cannot become"), "{output:?}");
    }
}

#[test]
fn a_reload_that_asks_for_what_is_out_of_reach_is_refused_and_told_what_to_do() {
    let folder = elsewhere("reload");
    let component = folder.join("echo.wasm");
    fs::copy(artifacts::guest("echo-handler"), &component).expect("a copy");
    fs::write(folder.join("token"), "s3cret").expect("a file");
    let from_there = |lines: &str, more: &str| {
        Config::host(lines).with(&format!(
            "[[tenant]]\nname = \"echo\"\ncomponent = {component:?}\nlisten = [\"127.0.0.1:0\"]\n{more}"
        ))
    };
    let mut file = config("");
    let host = Launch::serve(&file).start();
    echoes(&host);
    for (refused, (asked, says)) in [
        (from_there("", ""), "to read (`readable`)"),
        (config_with(&format!("dirs = [\"{}::/data\"]", folder.display())), "to write (`writable`)"),
        (config_with(&format!("dirs = [\"{}::/data:ro\"]", folder.display())), "to read (`readable`)"),
        (config_with(&format!("secrets = {{ T = \"{}/token\" }}", folder.display())), "`readable` in [host]"),
    ]
    .into_iter()
    .enumerate()
    {
        file.replace(asked);
        host.signal(Signal::HUP);
        host.wait_count("all goes on as it was", refused + 1);
        let said = host.stderr();
        assert!(said.contains(says) && said.contains(folder.to_str().expect("text")), "{says}: {host:?}");
        echoes(&host);
    }
    host.stop();

    // As it was told.
    let readable = format!("readable = [{folder:?}]");
    let mut file = config(&readable);
    let host = Launch::serve(&file).start();
    echoes(&host);
    file.replace(from_there(&readable, ""));
    host.signal(Signal::HUP);
    host.wait_count("\nreloaded ", 1);
    echoes(&host);
    host.stop();
    fs::remove_dir_all(folder).expect("it is ours");
}

fn config_with(lines: &str) -> Config {
    Config::new().handler("echo", "echo-handler", lines)
}

#[test]
fn what_it_says_of_the_wall_holds_from_the_next_start_on() {
    let mut file = config("");
    let host = Launch::serve(&file).start();
    echoes(&host);
    file.replace(config("seccomp = false"));
    host.signal(Signal::HUP);
    host.wait_line("holds from the host's next start on");
    assert_eq!(host.process().of_threads("Seccomp")[0].1, "2");
    echoes(&host);
    host.stop();
}

/// As in a container, or under systemd: with filters, no new privileges and another Landlock domain already.
#[test]
fn it_starts_behind_another_wall() {
    let outer = config("");
    let script = wrapper("outer", &format!("exec {:?} enclose {:?} -- ", artifacts::host(), outer.path()));
    let host =
        Launch::serve(&config("seccomp = \"required\"\nlandlock = \"required\"")).binary(&script).start();
    echoes(&host);
    assert_eq!(host.process().of_threads("Seccomp_filters")[0].1, "4");
    host.stop();
}

/// A filter of the test's own makes the kernel an old one.
#[test]
fn where_the_kernel_lacks_it_that_is_told_and_what_is_required_refuses() {
    for (call, key) in [(libc::SYS_landlock_create_ruleset, "landlock"), (libc::SYS_seccomp, "seccomp")] {
        // Loads the call's number; if it is that one, ENOSYS. There is no other processor to be told apart.
        let steps = [
            (0x20, 0, 0, 0),
            (0x15, 0, 1, call),
            (0x06, 0, 0, 0x0005_0000 | i64::from(libc::ENOSYS)),
            (0x06, 0, 0, 0x7fff_0000),
        ];
        let steps =
            steps.map(|(code, yes, no, k)| format!("pack('SCCL', {code}, {yes}, {no}, {k})")).join(" . ");
        // PR_SET_NO_NEW_PRIVS, then PR_SET_SECCOMP.
        let prctl = libc::SYS_prctl;
        let perl = format!(
            "my $f = {steps}; my $p = pack('Sx6P', 4, $f); syscall({prctl}, 38, 1, 0, 0, 0) == 0 or die $!; \
             syscall({prctl}, 22, 2, $p, 0, 0) == 0 or die $!; exec @ARGV or die $!;"
        );
        let old = wrapper(key, &format!("exec perl -e \"{}\" ", perl.replace('$', "\\$")));
        let host = Launch::serve(&config("")).binary(&old).start();
        echoes(&host);
        host.wait_line(&format!("without {key}, which cannot be had here"));
        host.stop();
        let exit = Launch::serve(&config(&format!("{key} = \"required\""))).binary(&old).finish();
        exit.assert_code(6).assert_stderr(&format!("`{key} = \"required\"`"));
    }
}

/// A program that does what `begins` says with the host and its arguments.
fn wrapper(name: &str, begins: &str) -> PathBuf {
    let path = artifacts::scratch().join(format!("wrapper-{name}"));
    fs::write(&path, format!("#!/bin/sh\n{begins}{:?} \"$@\"\n", artifacts::host())).expect("a file");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("it is ours");
    path
}

#[test]
fn the_launcher_starts_what_it_was_given_and_ends_with_its_host() {
    let (ours, theirs) =
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).expect("a pair");
    let mut launcher = Command::new(artifacts::host());
    // It tells what it has for a host, and says what comes by its stdin.
    launcher.args(["launcher", "--", "/bin/sh", "-c", "echo $CONET_SUCCEEDS; cat"]);
    let mut launcher = launcher.stdin(theirs).stdout(Stdio::piped()).spawn().expect("it starts");

    let (mut talk, stdin) = UnixStream::pair().expect("a pair");
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut with = SendAncillaryBuffer::new(&mut space);
    let descriptors = [stdin.as_fd()];
    assert!(with.push(SendAncillaryMessage::ScmRights(&descriptors)));
    sendmsg(&ours, &[IoSlice::new(b"launch")], &mut with, SendFlags::empty()).expect("it listens");
    let mut answer = [0; 64];
    let (bytes, _) =
        rustix::net::recv(&ours, &mut answer[..], rustix::net::RecvFlags::empty()).expect("an answer");
    let started: u32 = String::from_utf8_lossy(&answer[..bytes]).parse().expect("a process id");
    assert!(Path::new(&format!("/proc/{started}")).exists());

    drop(stdin);
    talk.write_all(b"by its stdin\n").expect("it reads");
    drop(talk);
    drop(ours);
    let ended = launcher.wait().expect("it is ours");
    assert!(ended.success(), "{ended}");
    let mut said = String::new();
    launcher.stdout.take().expect("piped").read_to_string(&mut said).expect("text");
    assert_eq!(said, format!("{}\nby its stdin\n", std::process::id()));
}

#[test]
fn run_gains_no_privileges() {
    let host = Launch::handler("echo-handler").start();
    peer::echo_exact(host.connect(), 1 << 16);
    let threads = host.process().of_threads("NoNewPrivs");
    assert!(threads.iter().all(|(_, value)| value == "1"), "{threads:?}");
    host.stop();
}
