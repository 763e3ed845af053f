//! The cache of compiled code: used, bounded to what the host itself wrote, and never needed.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use conet_tests::host::Launch;
use conet_tests::{peer, turn};

#[test]
fn second_start_loads_compiled_code() {
    let _turn = turn();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let cache = folder.path().join("cache");
    let cold = start(&cache);
    let written = entries(&cache);
    let before = inodes(&cache);
    assert_eq!(written.len(), 1, "one component, one entry");
    let warm = (0..3).map(|_| start(&cache)).min().expect("three starts");
    println!("start to listening: cold {cold:?}, warm {warm:?}");
    assert!(warm * 2 < cold, "cold {cold:?}, warm {warm:?}");
    assert_eq!(entries(&cache), written, "nothing was compiled again");
    assert_eq!(inodes(&cache), before, "nor written again");
}

#[test]
fn tampered_entry_is_compiled_again() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let cache = folder.path().join("cache");
    start(&cache);
    let [(path, original)] = &entries(&cache)[..] else { panic!("not one entry") };
    // The header, the code, the last byte; and an entry cut short.
    for position in [0, original.len() / 2, original.len() - 1] {
        let mut tampered = original.clone();
        tampered[position] ^= 1;
        fs::write(path, &tampered).expect("the folder is ours");
        start(&cache);
        let now = fs::read(path).expect("it is written again");
        assert!(now != tampered, "the tampered byte {position} is still there");
    }
    fs::write(path, &original[..original.len() / 3]).expect("the folder is ours");
    start(&cache);
    assert!(fs::read(path).expect("it is written again").len() > original.len() / 2);
}

/// Code is loaded without being checked again, so nobody else may be able to write it.
#[test]
fn folder_that_others_can_write_is_not_used() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).expect("ours");
    let host = echo(folder.path()).start();
    host.wait_line("chmod 700");
    peer::echo_exact(host.connect(), 1000);
    host.stop();
    assert_eq!(entries(folder.path()), [], "nothing is kept there");
}

/// The cache is bounded by removing the oldest: of its own entries only.
#[test]
fn files_of_others_in_the_folder_stay() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).expect("ours");
    let long_ago = SystemTime::now() - Duration::from_secs(24 * 60 * 60);
    let files = ["backup.img", "draft.tmp"].map(|name| folder.path().join(name));
    for path in &files {
        let file = fs::File::create(path).expect("ours");
        file.set_len(2 << 30).expect("a hole");
        file.set_modified(long_ago).expect("ours");
    }
    let host = echo(folder.path()).start();
    peer::echo_exact(host.connect(), 1000);
    host.stop();
    for path in &files {
        assert!(path.exists(), "{} is gone", path.display());
    }
    assert!(fs::read_dir(folder.path()).expect("ours").count() > files.len() + 1, "the cache was used");
}

#[test]
fn host_runs_without_a_cache() {
    let host = echo("off").start();
    peer::echo_exact(host.connect(), 1000);
    host.stop();
}

#[test]
fn two_hosts_may_fill_one_cache() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let cache = folder.path().join("cache");
    let hosts: Vec<_> = (0..3).map(|_| echo(&cache).start()).collect();
    for host in hosts {
        peer::echo_exact(host.connect(), 1000);
        host.stop();
    }
    assert_eq!(entries(&cache).len(), 1);
}

fn echo(cache: impl AsRef<std::ffi::OsStr>) -> Launch {
    Launch::handler("echo-handler").option("--cache", cache)
}

/// Runs the echo handler with this cache; how long it took to listen.
fn start(cache: &Path) -> Duration {
    let launch = echo(cache);
    let start = Instant::now();
    let host = launch.start();
    host.addr();
    let took = start.elapsed();
    peer::echo_exact(host.connect(), 1000);
    host.stop();
    took
}

/// The files in the cache that hold code: all but the key, which is short.
fn entries(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let files = fs::read_dir(folder).expect("the host made it").flatten().map(|entry| entry.path());
    let files = files.filter(|path| path.is_file());
    let files = files.map(|path| (path.clone(), fs::read(path).expect("readable by its owner")));
    files.filter(|(_, bytes)| bytes.len() > 1024).collect()
}

/// An entry that is written again is another file.
fn inodes(folder: &Path) -> Vec<u64> {
    let metadata = entries(folder).into_iter().map(|(path, _)| fs::metadata(path).expect("it is there"));
    metadata.map(|metadata| metadata.ino()).collect()
}
