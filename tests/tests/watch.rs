//! `serve --watch`: what changes in files is taken up by itself.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use conet_tests::config::Config;
use conet_tests::host::{Host, Launch};
use conet_tests::process::Signal;
use conet_tests::{PATIENCE, artifacts, peer};

/// A handler that says which version it is.
fn version(number: usize) -> Config {
    Config::new().handler("v", "version", &format!("env = {{ VERSION = \"{number:04}\" }}"))
}

/// One whose component, or whose version, is in a file of its own.
fn of_files(component: &Path, secret: &Path) -> Config {
    let lines = format!("listen = [\"127.0.0.1:0\"]\nsecrets = {{ VERSION = {secret:?} }}");
    Config::new().component("v", component, &lines)
}

fn watched(config: &Config) -> Host {
    Launch::serve(config).flag("--watch").start()
}

/// A folder of a test's own.
fn folder() -> PathBuf {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let folder = artifacts::scratch().join(format!("watch-{}", NEXT.fetch_add(1, Ordering::Relaxed)));
    fs::create_dir(&folder).expect("the scratch folder is ours");
    folder
}

/// Writes beside it, and puts that in its place.
fn put(path: &Path, bytes: impl AsRef<[u8]>) {
    let fresh = path.with_extension("fresh");
    fs::write(&fresh, bytes).expect("the folder is ours");
    fs::rename(&fresh, path).expect("the folder is ours");
}

fn text(config: &Config) -> String {
    fs::read_to_string(config.path()).expect("the test has written it")
}

fn asked(host: &Host) -> String {
    let mut stream = host.connect_to("v");
    stream.write_all(b"which?").expect("it is connected");
    let mut answer = [0; 4];
    stream.read_exact(&mut answer).expect("it answers");
    String::from_utf8_lossy(&answer).into_owned()
}

/// Waits until new connections go to this version.
fn wait_version(host: &Host, version: &str) {
    let start = Instant::now();
    while asked(host) != version {
        assert!(start.elapsed() < PATIENCE, "version {version} does not come: {host:?}");
    }
}

fn reloads(stderr: &str) -> usize {
    stderr.matches("\nreloaded ").count()
}

#[test]
fn a_file_is_edited_in_its_place_or_replaced() {
    let mut config = version(1);
    let host = watched(&config);
    assert_eq!(asked(&host), "0001");
    fs::write(config.path(), text(&version(2))).expect("it is ours");
    wait_version(&host, "0002");
    config.replace(version(3));
    wait_version(&host, "0003");
    // The file is another one now, and seen as well.
    fs::write(config.path(), text(&version(4))).expect("it is ours");
    wait_version(&host, "0004");
    host.stop();
}

/// As the kubelet does it: the file is a link through `..data`, which comes to lead to another folder.
#[test]
fn a_config_map_is_updated() {
    let folder = folder();
    let config = version(1).moved_to(&folder);
    let name = config.path().file_name().expect("it is a file").to_owned();
    let fill = |number: usize| {
        fs::create_dir(folder.join(format!("..{number}"))).expect("the folder is ours");
        fs::write(folder.join(format!("..{number}")).join(&name), text(&version(number)))
            .expect("it is ours");
        symlink(format!("..{number}"), folder.join("..data_tmp")).expect("the folder is ours");
        fs::rename(folder.join("..data_tmp"), folder.join("..data")).expect("the folder is ours");
    };
    fill(1);
    fs::remove_file(config.path()).expect("it is ours");
    symlink(Path::new("..data").join(&name), config.path()).expect("the folder is ours");
    let host = watched(&config);
    assert_eq!(asked(&host), "0001");
    for number in 2..5 {
        fill(number);
        fs::remove_dir_all(folder.join(format!("..{}", number - 1))).expect("it is ours");
        wait_version(&host, &format!("{number:04}"));
    }
    host.stop();
}

#[test]
fn components_and_secrets_are_files_as_well() {
    let folder = folder();
    let (component, secret) = (folder.join("component.wasm"), folder.join("secret"));
    let echo = fs::read(artifacts::guest("echo-handler")).expect("it is built");
    let versions = fs::read(artifacts::guest("version")).expect("it is built");
    put(&component, &echo);
    put(&secret, "0001\n");
    let config = of_files(&component, &secret);
    let host = watched(&config);
    peer::echo_exact(host.connect_to("v"), 1000);
    put(&component, &versions);
    wait_version(&host, "0001");
    fs::write(&secret, "0002\n").expect("it is ours");
    wait_version(&host, "0002");
    // All of its folder is exchanged.
    let next = folder.with_extension("next");
    fs::create_dir(&next).expect("the scratch folder is ours");
    put(&next.join("component.wasm"), &versions);
    put(&next.join("secret"), "0003\n");
    fs::rename(&folder, folder.with_extension("before")).expect("it is ours");
    fs::rename(&next, &folder).expect("it is ours");
    wait_version(&host, "0003");
    put(&secret, "0004\n");
    wait_version(&host, "0004");
    host.stop();
}

/// What is missing is named by a file that is refused, and its coming is seen all the same.
#[test]
fn what_is_refused_is_taken_up_once_it_is_corrected() {
    let folder = folder();
    let (component, secret) = (folder.join("to/come/component.wasm"), folder.join("secret"));
    let mut config = version(1);
    let host = watched(&config);
    assert_eq!(asked(&host), "0001");
    config.replace(of_files(&component, &secret));
    host.wait_line("cannot read");
    host.wait_count("all goes on as it was", 1);
    assert_eq!(asked(&host), "0001");
    put(&secret, "0002\n");
    host.wait_line("component.wasm: No such file");
    host.wait_count("all goes on as it was", 2);
    fs::create_dir_all(component.parent().expect("it has one")).expect("the folder is ours");
    put(&component, "not a component");
    host.wait_count("all goes on as it was", 3);
    assert_eq!(asked(&host), "0001");
    fs::copy(artifacts::guest("version"), &component).expect("the folder is ours");
    wait_version(&host, "0002");
    // What is no file at all.
    config.replace(Config::of("[[tenant"));
    host.wait_count("all goes on as it was", 4);
    assert_eq!(asked(&host), "0002");
    config.replace(version(3));
    wait_version(&host, "0003");
    host.stop();
}

/// Neither what else happens in the folder nor a file's absence has anything read again.
#[test]
fn nothing_is_read_again_for_others_or_for_what_is_gone() {
    let folder = folder();
    let (component, secret) = (folder.join("component.wasm"), folder.join("secret"));
    fs::copy(artifacts::guest("version"), &component).expect("the folder is ours");
    put(&secret, "0001\n");
    let config = of_files(&component, &secret).moved_to(&folder);
    let host = watched(&config);
    assert_eq!(asked(&host), "0001");
    for number in 0..20 {
        let other = folder.join(format!("other-{number}"));
        put(&other, "of no consequence");
        fs::remove_file(other).expect("it is ours");
    }
    fs::rename(&component, folder.join("away")).expect("it is ours");
    host.wait_line("component.wasm is gone");
    // A change beside it waits, too: the file would be refused for what is gone.
    put(&secret, "0002\n");
    fs::rename(config.path(), folder.join("config-away")).expect("it is ours");
    host.wait_line(".toml is gone");
    assert_eq!(asked(&host), "0001");
    fs::rename(folder.join("config-away"), config.path()).expect("it is ours");
    fs::rename(folder.join("away"), &component).expect("it is ours");
    wait_version(&host, "0002");
    host.signal(Signal::TERM);
    let exit = host.wait_exit();
    exit.assert_code(0);
    assert_eq!((reloads(&exit.stderr), exit.stderr.matches("as it was").count()), (1, 0), "{exit:?}");
}

#[test]
fn many_writes_are_few_reloads() {
    let config = version(0);
    let host = watched(&config);
    assert_eq!(asked(&host), "0000");
    let start = Instant::now();
    for number in 1..=50 {
        fs::write(config.path(), text(&version(number))).expect("it is ours");
    }
    wait_version(&host, "0050");
    let looks = start.elapsed().as_millis() / QUIET.as_millis();
    host.signal(Signal::TERM);
    let exit = host.wait_exit();
    let reloads = reloads(&exit.stderr);
    assert!((1..=looks as usize + 1).contains(&reloads), "{reloads} reloads in {looks} times {QUIET:?}");
}

/// A reload has read one version, and meanwhile there is another.
#[test]
fn what_changes_during_a_reload_is_not_lost() {
    let mut config = version(0);
    let host = watched(&config);
    assert_eq!(asked(&host), "0000");
    for number in 1..=20 {
        host.signal(Signal::HUP);
        config.replace(version(number));
        wait_version(&host, &format!("{number:04}"));
    }
    host.stop();
}

/// The kernel keeps only so many events for one who does not take them.
#[test]
fn lost_events_hide_no_change() {
    let folder = folder();
    let mut config = version(1).moved_to(&folder);
    let host = watched(&config);
    assert_eq!(asked(&host), "0001");
    let kept = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").expect("Linux has it");
    let kept: usize = kept.trim().parse().expect("a number");
    host.signal(Signal::STOP);
    for number in 0..kept {
        let name = folder.join(format!("other-{}", number % 2));
        fs::File::create(&name).and_then(|_| fs::remove_file(name)).expect("the folder is ours");
    }
    config.replace(version(2));
    host.signal(Signal::CONT);
    wait_version(&host, "0002");
    host.stop();
}

#[test]
fn it_watches_from_behind_the_wall() {
    let walled = |number: usize| {
        Config::host("seccomp = \"required\"\nlandlock = \"required\"").handler(
            "v",
            "version",
            &format!("env = {{ VERSION = \"{number:04}\" }}"),
        )
    };
    let mut config = walled(1);
    let host = watched(&config);
    for number in 2..5 {
        config.replace(walled(number));
        wait_version(&host, &format!("{number:04}"));
    }
    host.stop();
}

/// In a user namespace of its own, a host has limits of its own.
#[test]
fn the_systems_limits_are_told_with_their_remedy() {
    if !Command::new("unshare").args(["-Ur", "true"]).status().is_ok_and(|status| status.success()) {
        eprintln!("passed over: there are no user namespaces to be had here");
        return;
    }
    let config = version(1);
    for (limit, most, told) in [
        ("instances", 0, "raise fs.inotify.max_user_instances with sysctl"),
        ("watches", 1, "raise fs.inotify.max_user_watches with sysctl"),
    ] {
        let script = folder().join("limited");
        let inner = format!("echo {most} > /proc/sys/user/max_inotify_{limit}; exec \"$0\" \"$@\"");
        let host = artifacts::host();
        put(&script, format!("#!/bin/sh\nexec unshare -Ur sh -c '{inner}' {host:?} \"$@\"\n"));
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("it is ours");
        let exit = Launch::serve(&config).binary(&script).flag("--watch").finish();
        exit.assert_code(6).assert_stderr(told).assert_stderr("or go without --watch");
    }
}

/// So long nothing happens before a reload.
const QUIET: Duration = Duration::from_millis(200);
