//! Builds small real packages without dependencies.

use std::{
    fs, process,
    sync::atomic::{AtomicUsize, Ordering},
};

use super::*;

/// A folder with these files, removed at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(files: &[(&str, &str)]) -> Scratch {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let unique = format!("conet-package-{}-{}", process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let dir = std::env::temp_dir().join(unique);
        for (path, text) in files {
            let path = dir.join(path);
            fs::create_dir_all(path.parent().expect("a file has a folder")).unwrap();
            fs::write(path, text).unwrap();
        }
        fs::create_dir_all(&dir).unwrap();
        Scratch(dir.canonicalize().unwrap())
    }

    fn fails(&self) -> BuildError {
        build(&self.0).expect_err("must not build")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Each test has a name of its own, for they may share one target folder.
fn manifest(name: &str) -> String {
    format!("[package]\nname = \"{name}\"\nedition = \"2024\"\n[workspace]\n")
}

const MAIN: &str = "fn main() {}\n";

/// What every component starts with.
const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";

fn is_component(path: &Path) -> bool {
    fs::read(path).unwrap().starts_with(COMPONENT)
}

#[test]
fn a_package_becomes_a_component() {
    let package = Scratch::new(&[("Cargo.toml", &manifest("plain")), ("src/main.rs", MAIN)]);
    let built = build(&package.0).unwrap();
    assert_eq!(built.file_name().unwrap(), "plain.wasm");
    assert!(is_component(&built));
}

/// In a workspace the artifact is not under the package's own folder, and other members are none of ours.
#[test]
fn a_member_of_a_workspace_is_built_alone() {
    let broken = "compile_error!(\"not asked for\");";
    let member = |name: &str| format!("[package]\nname = \"{name}\"\nedition = \"2024\"\n");
    let root = Scratch::new(&[
        ("Cargo.toml", "[workspace]\nresolver = \"3\"\nmembers = [\"a\", \"b\"]\n"),
        ("a/Cargo.toml", &member("a")),
        ("a/src/main.rs", MAIN),
        ("b/Cargo.toml", &member("b")),
        ("b/src/main.rs", broken),
    ]);
    assert!(is_component(&build(&root.0.join("a")).unwrap()));

    let error = root.fails();
    assert!(matches!(&error, BuildError::Workspace { members, .. } if members.len() == 2), "{error}");
    assert!(error.to_string().contains(&root.0.join("a").display().to_string()), "{error}");
}

#[test]
fn of_several_programs_default_run_is_built() {
    let files = [("src/bin/one.rs", MAIN), ("src/bin/two.rs", MAIN)];
    let several = manifest("several");
    let undecided = Scratch::new(&[&[("Cargo.toml", several.as_str())], &files[..]].concat());
    let error = undecided.fails().to_string();
    for part in ["one", "two", "default-run", "--bin NAME"] {
        assert!(error.contains(part), "{part}: {error}");
    }
    let decided = several.replace("edition", "default-run = \"two\"\nedition");
    let decided = Scratch::new(&[&[("Cargo.toml", decided.as_str())], &files[..]].concat());
    assert_eq!(build(&decided.0).unwrap().file_name().unwrap(), "two.wasm");
}

#[test]
fn a_cdylib_becomes_a_component() {
    let manifest = manifest("library") + "[lib]\ncrate-type = [\"cdylib\"]\n";
    let package = Scratch::new(&[("Cargo.toml", &manifest), ("src/lib.rs", "")]);
    assert!(is_component(&build(&package.0).unwrap()));
}

#[test]
fn what_cannot_be_built_says_what_to_do() {
    let package = |files: &[(&str, &str)]| Scratch::new(files);
    let broken = &*manifest("broken");
    for (dir, says) in [
        (package(&[]), "no Cargo.toml"),
        (package(&[("Cargo.toml", broken), ("src/lib.rs", "")]), "library only"),
        (package(&[("Cargo.toml", "[package\n"), ("src/main.rs", MAIN)]), "cargo refuses"),
        (package(&[("Cargo.toml", broken)]), "cargo refuses"),
        (package(&[("Cargo.toml", broken), ("src/main.rs", "fn main() { nonsense }")]), "see above"),
    ] {
        let error = dir.fails().to_string();
        assert!(error.contains(says), "{says}: {error}");
    }
    let error = build(Path::new("/no/such/dir")).unwrap_err().to_string();
    assert!(error.contains("cannot open /no/such/dir"), "{error}");
}

#[test]
fn the_outer_cargo_is_not_inherited() {
    let command = cargo(Path::new("/"), "cargo");
    for variable in ["RUSTUP_TOOLCHAIN", "RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_TARGET"] {
        assert!(command.get_envs().any(|(name, value)| name == variable && value.is_none()), "{variable}");
    }
    assert_eq!(command.get_program(), "cargo");
}
