//! The runtime is our own.

use std::process::Command;

#[test]
fn no_other_runtime_is_below() {
    let tree = Command::new(env!("CARGO"))
        .args(["tree", "--offline", "--package", "conet-rt", "--edges", "normal,build", "--prefix", "none"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(tree.status.success(), "{}", String::from_utf8_lossy(&tree.stderr));
    let tree = String::from_utf8(tree.stdout).unwrap();
    let names: Vec<&str> = tree.lines().filter_map(|line| line.split(' ').next()).collect();
    assert!(names.contains(&"conet-rt") && names.contains(&"rustix"), "{names:?}");
    for runtime in ["tokio", "smol", "mio", "polling", "async-std", "async-io", "async-executor", "futures"] {
        assert!(!names.contains(&runtime), "{runtime} is among {names:?}");
    }
}
