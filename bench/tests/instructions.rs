//! `conet-bench instructions`, on the raw epoll loop. Where there is no valgrind, only that this is said.

use std::path::PathBuf;
use std::process::{Command, Output};
use std::thread;

fn instructions(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_conet-bench"));
    command.args(["instructions", "--servers", "epoll", "--connections", "8"]);
    command.args(["--warm-up", "100", "--requests", "5000"]).args(args);
    command
}

fn output(mut command: Command) -> Output {
    command.output().expect("the binary starts")
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Whether it can be counted here: with valgrind, and a core each for server and load.
fn can_count() -> bool {
    let valgrind = Command::new("valgrind").arg("--version").output().is_ok();
    let cores = thread::available_parallelism().map_or(1, usize::from);
    if !valgrind || cores < 2 {
        eprintln!("counting needs valgrind and two cores");
    }
    valgrind && cores >= 2
}

/// A file of this test's own, gone at the end.
struct File(PathBuf);

impl File {
    fn new(name: &str) -> Self {
        Self(std::env::temp_dir().join(format!("conet-bench-{name}-{}.json", std::process::id())))
    }

    fn path(&self) -> &str {
        self.0.to_str().expect("a temporary directory in UTF-8")
    }
}

impl Drop for File {
    fn drop(&mut self) {
        // It may never have been written.
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn a_missing_valgrind_is_an_error_that_says_what_to_install() {
    let mut command = instructions(&[]);
    command.env("PATH", "/var/empty");
    let output = output(command);
    assert!(!output.status.success());
    assert!(stderr(&output).contains("apt-get install valgrind"), "{}", stderr(&output));
}

#[test]
fn a_count_passes_its_own_record_and_fails_one_that_was_lower() {
    if !can_count() {
        return;
    }
    let file = File::new("instructions");
    let recorded = output(instructions(&["--record", file.path()]));
    assert!(recorded.status.success(), "{}", stderr(&recorded));
    let text = std::fs::read_to_string(&file.0).expect("it was written");
    let record: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let count = record["instructions"]["epoll"].as_f64().expect("a number");
    // One recv, one send and a share of a wait: more than the system calls' own wrappers, and no work beside
    // them.
    assert!((10.0..1000.0).contains(&count), "{text}");

    let passed = output(instructions(&["--check", file.path()]));
    assert!(passed.status.success(), "{}", stderr(&passed));

    let lower = text.replace(&format!("{count:?}"), &format!("{:?}", count / 2.0));
    assert_ne!(text, lower);
    std::fs::write(&file.0, lower).expect("it was written before");
    let failed = output(instructions(&["--check", file.path()]));
    assert!(!failed.status.success());
    assert!(stderr(&failed).contains("epoll: "), "{}", stderr(&failed));
}

#[test]
fn a_record_that_is_none_is_refused_before_anything_is_counted() {
    let file = File::new("no-record");
    std::fs::write(&file.0, "{}").expect("a writable directory");
    let output = output(instructions(&["--check", file.path()]));
    assert!(!output.status.success());
    assert!(stderr(&output).contains("no record of instructions"), "{}", stderr(&output));
}
