//! `conet-bench isolation` and `drain`: that an attack harms nobody and a drain loses nothing. How long things take is not
//! looked at: other tests run beside these.

use std::process::{Command, Output};
use std::thread;

fn bench(args: &[&str]) -> Output {
    let output = Command::new(env!("CARGO_BIN_EXE_conet-bench")).args(args).output();
    output.expect("the binary starts")
}

/// Host on one core, load on the other.
fn has_two_cores() -> bool {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    if cores < 2 {
        eprintln!("host and load need a core each");
    }
    cores >= 2
}

/// The cells of the table's rows that begin so.
fn rows<'a>(table: &'a str, begin: &str) -> Vec<Vec<&'a str>> {
    let rows = table.lines().filter(|line| line.starts_with(begin));
    rows.map(|row| row.trim_matches('|').split('|').map(str::trim).collect()).collect()
}

#[test]
fn no_attack_costs_a_neighbour_an_answer_or_leaves_anything_behind() {
    if !has_two_cores() {
        return;
    }
    let file = std::env::temp_dir().join(format!("conet-bench-isolation-{}.md", std::process::id()));
    std::fs::write(&file, "<!-- compare isolation -->\n<!-- /compare isolation -->\n")
        .expect("a writable directory");
    let path = file.to_str().expect("a temporary directory in UTF-8");
    let short = ["--victim", "handler", "--rounds", "1", "--seconds", "0.5", "--markdown", path];
    let output = bench(&[&["isolation"], short.as_slice()].concat());
    let written = std::fs::read_to_string(&file).expect("it was written");
    std::fs::remove_file(&file).expect("it was just read");
    let table = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{table}{}", String::from_utf8_lossy(&output.stderr));
    let attacks = rows(&written, "| handler |");
    assert_eq!(attacks, rows(&table, "| handler |"), "{written}");
    assert_eq!(attacks.len(), 14, "{table}");
    for row in attacks {
        let [_, attacker, p50, p99, .., connections, errors, wrong, left, _] = row[..] else {
            panic!("{row:?}")
        };
        assert!(p50.contains(" → ") && p99.contains(" → "), "{row:?}");
        assert_eq!((errors, wrong, left), ("0", "0", "nothing"), "{row:?}");
        assert_eq!(connections == "0", attacker.starts_with("none"), "{row:?}");
    }
}

#[test]
fn a_drain_loses_no_request() {
    if !has_two_cores() {
        return;
    }
    let output = bench(&["drain", "--rounds", "1", "--requests", "50", "--seconds", "0.5"]);
    let table = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{table}{}", String::from_utf8_lossy(&output.stderr));
    for guest in ["| handler |", "| program |"] {
        let drains = rows(&table, guest);
        assert!(!drains.is_empty(), "{table}");
        assert!(drains.iter().all(|row| row[2..4] == ["50", "0"]), "{table}");
    }
}
