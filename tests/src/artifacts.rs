//! What the tests run: the host, the guests and hand-written components, built on first use.
//!
//! Cargo is asked each time a test binary starts: it knows what is fresh, and its own lock keeps two builds apart.

use std::collections::HashMap;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use cargo_metadata::Message;

/// The host binary: `conet-host`, or what `CONET_HOST_BIN` names.
pub fn host() -> &'static Path {
    static HOST: OnceLock<PathBuf> = OnceLock::new();
    HOST.get_or_init(|| given("CONET_HOST_BIN").unwrap_or_else(|| build_host("conet-host", &[])))
}

/// The host that panics in the import `CONET_FAULT` names, or what `CONET_HOST_FAULT_BIN` names.
pub fn faulty_host() -> &'static Path {
    static HOST: OnceLock<PathBuf> = OnceLock::new();
    let build = || build_host("conet-host-fault", &["-p", "conet-host", "--features", "fault-inject"]);
    HOST.get_or_init(|| given("CONET_HOST_FAULT_BIN").unwrap_or_else(build))
}

/// The component of a guest binary, by its target's name: `echo`, `echo-handler`, `client`, or one of tests/guests.
pub fn guest(name: &str) -> PathBuf {
    static GUESTS: OnceLock<HashMap<String, PathBuf>> = OnceLock::new();
    let built = GUESTS.get_or_init(build_guests);
    built.get(name).unwrap_or_else(|| panic!("no guest is named {name}")).clone()
}

/// A component written as text: tests/guests/wat/NAME.wat, encoded beside the other artifacts.
pub fn text_component(name: &str) -> PathBuf {
    let source = workspace().join("tests/guests/wat").join(name).with_extension("wat");
    let bytes = wat::parse_file(&source).unwrap_or_else(|error| panic!("{error}"));
    let path = scratch().join(name).with_extension("wasm");
    // Written aside and renamed: another test may be reading the same component.
    let fresh = scratch().join(format!("{name}.{:?}.tmp", std::thread::current().id()));
    std::fs::write(&fresh, bytes).expect("the scratch folder is ours");
    std::fs::rename(&fresh, &path).expect("the scratch folder is ours");
    path
}

/// The root of this workspace.
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("this crate is in the workspace's folder `tests`")
}

/// A folder of this test process, under cargo's target folder. The next test process removes it.
pub fn scratch() -> &'static Path {
    static SCRATCH: OnceLock<PathBuf> = OnceLock::new();
    SCRATCH.get_or_init(|| {
        let all = shared_folder().join("scratch");
        let folder = all.join(std::process::id().to_string());
        std::fs::create_dir_all(&folder).expect("cargo's target folder is writable");
        remove_of_ended_processes(&all);
        folder
    })
}

/// Removes what is named after a process that has ended.
pub fn remove_of_ended_processes(folder: &Path) {
    let entries = std::fs::read_dir(folder).expect("it was just made");
    for entry in entries.flatten() {
        if !Path::new("/proc").join(entry.file_name()).exists() {
            // Another process may be removing it too.
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

/// The folder of compiled code that all tests share, so that each guest is compiled once.
pub fn code_cache() -> PathBuf {
    shared_folder().join("cache")
}

/// `<target>/conet-tests`: the guests lie in `<target>/wasm32-wasip2/release`.
fn shared_folder() -> PathBuf {
    let echo = guest("echo");
    echo.ancestors().nth(3).expect("cargo puts guests three levels down").join("conet-tests")
}

fn given(variable: &str) -> Option<PathBuf> {
    let path = PathBuf::from(std::env::var_os(variable)?);
    eprintln!("testing {}, given by {variable}", path.display());
    assert!(path.is_file(), "{variable} names {}, which is not a file", path.display());
    Some(path)
}

fn build_host(binary: &str, extra: &[&str]) -> PathBuf {
    let mut cargo = cargo_build();
    // Without `-p` cargo resolves features as `cargo test` does, and need not build the dependencies a second time.
    cargo.args(["--bin", binary]).args(extra);
    run(cargo).remove(binary).unwrap_or_else(|| panic!("cargo did not build {binary}"))
}

fn build_guests() -> HashMap<String, PathBuf> {
    add_target();
    let mut cargo = cargo_build();
    cargo.args(["--target", TARGET]);
    cargo.args(["-p", "echo", "-p", "echo-handler", "-p", "client", "-p", "conet-test-guests"]);
    // Meant for the native build, for instance a sanitizer's.
    cargo.env_remove("RUSTFLAGS").env_remove("CARGO_ENCODED_RUSTFLAGS");
    run(cargo)
}

/// Adds the guests' target where rustup manages the toolchain and it is not there yet.
fn add_target() {
    let sysroot = Command::new("rustc").args(["--print", "sysroot"]).current_dir(workspace()).output();
    let Ok(sysroot) = sysroot else { return };
    let lib = Path::new(String::from_utf8_lossy(&sysroot.stdout).trim()).join("lib/rustlib").join(TARGET);
    if lib.is_dir() {
        return;
    }
    // Should it fail, rustc's own error tells what is missing.
    let _ = Command::new("rustup").args(["target", "add", TARGET]).current_dir(workspace()).status();
}

fn cargo_build() -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--release", "--message-format", "json-render-diagnostics"]);
    cargo.current_dir(workspace());
    cargo
}

/// Runs a build, its progress on our stderr; gives the executables it made, by name.
fn run(mut cargo: Command) -> HashMap<String, PathBuf> {
    let mut child = cargo.stdout(Stdio::piped()).spawn().expect("cargo runs these tests, so it can be run");
    let messages = Message::parse_stream(BufReader::new(child.stdout.take().expect("stdout is piped")));
    let mut made = HashMap::new();
    for message in messages {
        let Ok(Message::CompilerArtifact(artifact)) = message else { continue };
        if let Some(executable) = artifact.executable {
            made.insert(artifact.target.name, executable.into_std_path_buf());
        }
    }
    let status = child.wait().expect("cargo is our child");
    assert!(status.success(), "{cargo:?} failed: its errors are above");
    made
}

const TARGET: &str = "wasm32-wasip2";
