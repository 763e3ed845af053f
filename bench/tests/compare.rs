//! `conet-bench compare` itself, from start to table and drawing.

use std::process::Command;
use std::thread;

/// Servers on one core, load on the other.
#[test]
fn each_measure_gets_a_table_and_a_drawing() {
    if thread::available_parallelism().map_or(1, usize::from) < 2 {
        eprintln!("a comparison needs two cores");
        return;
    }
    let directory = std::env::temp_dir().join(format!("conet-bench-compare-{}", std::process::id()));
    std::fs::create_dir_all(&directory).expect("a writable directory");
    let file = directory.join("figures.md");
    let measures = ["echo", "connect", "bulk", "spawn", "idle", "start"];
    let marks = |name: &str| format!("<!-- compare {name} -->\n<!-- /compare {name} -->\n");
    // Of what this does not measure, the line stays.
    let kept =
        "| cold start | conet, one instance (`go`) | at most 120 ms | 99.0 ms | 0.83 of the bound | met |";
    let summary = format!("<!-- compare summary -->\n{kept}\n<!-- /compare summary -->\n");
    std::fs::write(&file, summary + &measures.map(marks).concat()).expect("a writable directory");
    let bench = env!("CARGO_BIN_EXE_conet-bench");
    // A server that does not tell where it listens has an address known beforehand.
    let known = format!("known@127.0.0.1:29117={bench} serve-epoll 127.0.0.1:29117");
    let output = Command::new(bench)
        .args(["compare", "--measure", &measures.join(","), "--servers", "epoll,tokio", "--also", &known])
        .args(["--also", "nothing=no-such-server-anywhere", "--rounds", "2", "--connections", "8"])
        .args(["--size", "64", "--idle", "50", "--seconds", "0.1", "--warm-up", "0.05", "--markdown"])
        .arg(&file)
        .output()
        .expect("the binary starts");
    let said = String::from_utf8_lossy(&output.stdout);
    let text = std::fs::read_to_string(&file).expect("it was written");
    let drawing = |name| std::fs::read_to_string(directory.join(format!("figures/{name}.svg")));
    let drawings = measures.map(drawing);
    std::fs::remove_dir_all(&directory).expect("it was just made");
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    for line in [
        "Left out: nothing: its program is not found.",
        "| 64 B × 8 | raw epoll, Rust | ",
        "| 64 B × 8 | known | ",
        "| 64 B × 8, 16 in flight | tokio, current thread | ",
        "| 64 B × 8 | *no server",
        "| 8 at once | tokio, current thread | ",
        "| 64 connections | raw epoll, Rust | ",
        "| 100 alive | tokio, current thread | ",
        "| 50 open | tokio, current thread | ",
        "| warm | raw epoll, Rust | ",
    ] {
        assert!(said.contains(line) && text.contains(line), "{line} is not in\n{said}\nor\n{text}");
    }
    let unmeasured =
        "| echo, 64 B × 64, of Go, net | conet, an instance each | at least 1 | – | – | not measured |";
    assert!(text.contains(kept) && text.contains(unmeasured), "{text}");
    for ((name, drawing), bars) in measures.iter().zip(drawings).zip([6, 3, 4, 1, 3, 3]) {
        assert!(text.contains(&format!("![{name}](figures/{name}.svg)")), "{text}");
        let drawing = drawing.expect("it was written");
        assert_eq!(drawing.matches("<rect").count(), bars, "{drawing}");
    }
}

#[test]
fn a_missing_server_is_named_with_the_command_that_builds_it() {
    // A copy in a directory of its own finds nothing built beside it.
    let directory = std::env::temp_dir().join(format!("conet-bench-missing-{}", std::process::id()));
    std::fs::create_dir_all(directory.join("release")).expect("a writable directory");
    let copy = directory.join("release/conet-bench");
    std::fs::copy(env!("CARGO_BIN_EXE_conet-bench"), &copy).expect("the binary is readable");
    let output = Command::new(&copy).args(["compare", "--build", "never", "--servers", "runtime"]).output();
    std::fs::remove_dir_all(&directory).expect("it was just made");
    let output = output.expect("the copy starts");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(text.contains("cargo build --release -p conet-rt --example echo"), "{text}");
}
