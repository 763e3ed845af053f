//! What the linker makes of a guest: which worlds its component belongs to.
#![cfg(not(target_family = "wasm"))]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use wasmparser::{Encoding, Parser, Payload, Validator, WasmFeatures};

#[test]
fn a_plain_handler_knows_nothing_of_fibers() {
    let component = component("echo-handler");
    let (imports, exports) = names(&component);
    assert!(imports.contains("conet:net/tcp@0.1.0"), "{imports:?}");
    assert_eq!(of_package(&imports, "conet:fibers/"), [""; 0]);
    assert_eq!(
        of_package(&exports, "conet:"),
        ["conet:net/coroutine-entry@0.1.0", "conet:net/handler-entry@0.1.0"]
    );
    validate(&component, false).expect("no async type");
}

#[test]
fn a_program_has_both_entries() {
    let component = component("echo");
    let (imports, exports) = names(&component);
    assert_eq!(
        of_package(&imports, "conet:fibers/"),
        [
            "conet:fibers/coroutine@0.1.0",
            "conet:fibers/inbox@0.1.0",
            "conet:fibers/pool@0.1.0",
            "conet:fibers/tcp@0.1.0",
            "conet:fibers/threads@0.1.0",
        ]
    );
    assert_eq!(
        of_package(&exports, "conet:"),
        [
            "conet:fibers/coroutine-entry@0.1.0",
            "conet:fibers/program-entry@0.1.0",
            "conet:net/coroutine-entry@0.1.0",
            "conet:net/program-entry@0.1.0",
        ]
    );
    validate(&component, true).expect("a valid component");
    validate(&component, false).expect_err("its entries are async");
}

#[test]
fn a_program_exports_what_the_hosts_stack_check_looks_for() {
    let exported = core_exports(&component("echo"));
    for name in
        ["conet_stack_pointer_of", "conet_stack_limit_of", "conet_stack_span_of", "conet_stack_overflow"]
    {
        assert!(exported.contains(name), "{name} in {exported:?}");
        assert!(!core_exports(&component("echo-handler")).contains(name), "{name} in a plain handler");
    }
}

/// The guests are built once, in one command: what one needs must not reach the other.
fn component(guest: &str) -> Vec<u8> {
    static BUILT: LazyLock<PathBuf> = LazyLock::new(build);
    let path = BUILT.join(guest).with_extension("wasm");
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn build() -> PathBuf {
    // Cargo puts `tmp` into the target folder, which holds no lock while tests run.
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("it is inside the target folder");
    let status = Command::new(env!("CARGO"))
        .args(["build", "--release", "--target", "wasm32-wasip2", "-p", "echo", "-p", "echo-handler"])
        .arg("--target-dir")
        .arg(target)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .status()
        .expect("cargo runs");
    assert!(status.success(), "the guests do not build");
    target.join("wasm32-wasip2/release")
}

fn validate(component: &[u8], fibers: bool) -> wasmparser::Result<()> {
    let mut features = WasmFeatures::default();
    features.set(WasmFeatures::CM_ASYNC, fibers);
    features.set(WasmFeatures::CM_ASYNC_STACKFUL, fibers);
    Validator::new_with_features(features).validate_all(component).map(drop)
}

fn of_package<'a>(names: &'a BTreeSet<String>, prefix: &str) -> Vec<&'a str> {
    names.iter().map(String::as_str).filter(|name| name.starts_with(prefix)).collect()
}

/// Imports and exports of the component itself.
fn names(component: &[u8]) -> (BTreeSet<String>, BTreeSet<String>) {
    let (mut imports, mut exports) = (BTreeSet::new(), BTreeSet::new());
    let mut depth = 0;
    for payload in Parser::new(0).parse_all(component) {
        match payload.unwrap() {
            Payload::Version { .. } => depth += 1,
            Payload::End(_) => depth -= 1,
            Payload::ComponentImportSection(section) if depth == 1 => {
                imports.extend(section.into_iter().map(|import| import.unwrap().name.name.to_owned()));
            }
            Payload::ComponentExportSection(section) if depth == 1 => {
                exports.extend(section.into_iter().map(|export| export.unwrap().name.name.to_owned()));
            }
            _ => {}
        }
    }
    (imports, exports)
}

/// Exports of all the core modules in it.
fn core_exports(component: &[u8]) -> BTreeSet<String> {
    let mut exports = BTreeSet::new();
    let mut modules = 0;
    for payload in Parser::new(0).parse_all(component) {
        match payload.unwrap() {
            Payload::Version { encoding: Encoding::Module, .. } => modules += 1,
            Payload::ExportSection(section) => {
                exports.extend(section.into_iter().map(|export| export.unwrap().name.to_owned()));
            }
            _ => {}
        }
    }
    assert!(modules > 0, "no core module");
    exports
}
