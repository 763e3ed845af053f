//! Builds a directory of a Cargo package to the component it holds.
//!
//! Cargo and the package's build scripts and procedural macros run as this user, **outside of the sandbox**: building a
//! stranger's package trusts the stranger. What is built then runs inside.

#![expect(clippy::disallowed_methods, reason = "cargo is waited for before there are workers")]

use std::{
    io::{self, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use cargo_metadata::{Message, MetadataCommand, Package, TargetKind};
use thiserror::Error;

/// Builds the package in `dir` for wasm32-wasip2, in release; gives the component's file.
///
/// Cargo's progress and the compiler's messages go to stderr. A package with several programs needs `default-run`.
pub fn build(dir: &Path) -> Result<PathBuf, BuildError> {
    let unreadable = |source| BuildError::Unreadable { dir: dir.into(), source };
    let dir = dir.canonicalize().map_err(unreadable)?;
    if !dir.join("Cargo.toml").is_file() {
        return Err(BuildError::NotAPackage { dir });
    }
    let package = describe(&dir)?;
    let (kind, name) = choose(&package, &dir)?;
    if target_is_missing(&dir) {
        add_target(&dir)?;
    }
    let artifact = run_cargo(&dir, &package, kind, &name)?;
    artifact.ok_or(BuildError::NoArtifact { dir, name })
}

/// Why no component came of it.
#[derive(Debug, Error)]
pub enum BuildError {
    /// The directory cannot be looked at.
    #[error("cannot open {}: {source}", dir.display())]
    Unreadable {
        /// As given.
        dir: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There is nothing to build.
    #[error("{} has no Cargo.toml: give a component (.wasm) or the directory of a Cargo package", dir.display())]
    NotAPackage {
        /// The directory.
        dir: PathBuf,
    },
    /// Cargo could not be started.
    #[error("cannot run cargo, which building {} needs ({source}): install Rust from https://rustup.rs, or give a component", dir.display())]
    NoCargo {
        /// The directory.
        dir: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Cargo cannot make sense of the package.
    #[error("cargo refuses the package in {}: {message}", dir.display())]
    Refused {
        /// The directory.
        dir: PathBuf,
        /// What cargo says.
        message: String,
    },
    /// The root of a workspace, without a package of its own.
    #[error("{} is a workspace without a package of its own: give the directory of one of its packages{}", dir.display(), list(members))]
    Workspace {
        /// The directory.
        dir: PathBuf,
        /// Directories of its packages that hold programs.
        members: Vec<String>,
    },
    /// Neither a program nor a cdylib.
    #[error("the package in {} is a library only: give it a src/main.rs, or `crate-type = [\"cdylib\"]`", dir.display())]
    LibraryOnly {
        /// The directory.
        dir: PathBuf,
    },
    /// More than one program.
    #[error(
        "the package in {} has several programs{}: set `default-run` in its Cargo.toml, or build one \
         (`cargo build --release --target {TARGET} --bin NAME`) and give its .wasm file", dir.display(), list(names)
    )]
    Several {
        /// The directory.
        dir: PathBuf,
        /// Their names.
        names: Vec<String>,
    },
    /// The toolchain cannot build for WebAssembly.
    #[error(
        "the Rust toolchain of {} has no target {TARGET}, and rustup could not add it: run `rustup target add {TARGET}` \
         there, or install Rust from https://rustup.rs", dir.display()
    )]
    NoTarget {
        /// The directory.
        dir: PathBuf,
    },
    /// The compiler, a build script or cargo itself failed, and said why on stderr.
    #[error("cargo could not build the package in {}: see above", dir.display())]
    Failed {
        /// The directory.
        dir: PathBuf,
    },
    /// Cargo's answer could not be read to its end.
    #[error("cargo's answer about {} broke off: {source}", dir.display())]
    Answer {
        /// The directory.
        dir: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Cargo succeeded and named no component.
    #[error("cargo built `{name}` in {} and named no .wasm file: is `artifact` or `crate-type` set to something else?", dir.display())]
    NoArtifact {
        /// The directory.
        dir: PathBuf,
        /// The program's or library's name.
        name: String,
    },
}

/// Asks cargo what the package in `dir` holds.
fn describe(dir: &Path) -> Result<Package, BuildError> {
    let manifest = dir.join("Cargo.toml");
    let mut command = MetadataCommand::new();
    command.cargo_path("cargo").current_dir(dir).manifest_path(&manifest).no_deps();
    for variable in CLEARED {
        command.env_remove(variable);
    }
    let metadata = command.exec().map_err(|error| match error {
        cargo_metadata::Error::Io(source) => BuildError::NoCargo { dir: dir.into(), source },
        cargo_metadata::Error::CargoMetadata { stderr } => {
            BuildError::Refused { dir: dir.into(), message: stderr.trim().into() }
        }
        other => BuildError::Refused { dir: dir.into(), message: other.to_string() },
    })?;
    let own = |package: &&Package| {
        package.manifest_path.as_std_path().canonicalize().is_ok_and(|path| path == manifest)
    };
    match metadata.packages.iter().find(own) {
        Some(package) => Ok(package.clone()),
        None => Err(BuildError::Workspace { dir: dir.into(), members: runnable(&metadata.packages) }),
    }
}

/// The directories of the packages that could be given instead.
fn runnable(packages: &[Package]) -> Vec<String> {
    let holds_program = |package: &&Package| Kind::ALL.iter().any(|kind| !kind.names(package).is_empty());
    let dir = |package: &Package| package.manifest_path.parent().map(|dir| dir.to_string());
    packages.iter().filter(holds_program).filter_map(dir).collect()
}

/// What a component is built from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Bin,
    Cdylib,
}

impl Kind {
    const ALL: [Kind; 2] = [Kind::Bin, Kind::Cdylib];

    fn names(self, package: &Package) -> Vec<String> {
        let kind = match self {
            Kind::Bin => TargetKind::Bin,
            Kind::Cdylib => TargetKind::CDyLib,
        };
        package
            .targets
            .iter()
            .filter(|target| target.kind.contains(&kind))
            .map(|target| target.name.clone())
            .collect()
    }
}

/// The package's one program, or its default one, or else its cdylib.
fn choose(package: &Package, dir: &Path) -> Result<(Kind, String), BuildError> {
    let mut bins = Kind::Bin.names(package);
    if let Some(default) = &package.default_run
        && bins.contains(default)
    {
        return Ok((Kind::Bin, default.clone()));
    }
    match (bins.pop(), bins.is_empty()) {
        (Some(only), true) => Ok((Kind::Bin, only)),
        (Some(last), false) => {
            bins.push(last);
            Err(BuildError::Several { dir: dir.into(), names: bins })
        }
        (None, _) => match Kind::Cdylib.names(package).pop() {
            Some(name) => Ok((Kind::Cdylib, name)),
            None => Err(BuildError::LibraryOnly { dir: dir.into() }),
        },
    }
}

/// Runs cargo; gives the .wasm file that it says it made of `name`.
fn run_cargo(dir: &Path, package: &Package, kind: Kind, name: &str) -> Result<Option<PathBuf>, BuildError> {
    let mut command = cargo(dir, "cargo");
    command.args(["build", "--release", "--target", TARGET, "--message-format=json-render-diagnostics"]);
    command.arg("--manifest-path").arg(dir.join("Cargo.toml"));
    match kind {
        Kind::Bin => command.args(["--bin", name]),
        Kind::Cdylib => command.arg("--lib"),
    };
    command.stdout(Stdio::piped());

    let no_cargo = |source| BuildError::NoCargo { dir: dir.into(), source };
    let broken = |source| BuildError::Answer { dir: dir.into(), source };
    let mut child = command.spawn().map_err(no_cargo)?;
    let answer = child.stdout.take().expect("stdout is piped");
    let mut artifact = Ok(None);
    // Read to the end even after an error, or cargo would stop at a full pipe.
    for message in Message::parse_stream(BufReader::new(answer)) {
        match message {
            Ok(Message::CompilerArtifact(made))
                if made.package_id == package.id && made.target.name == name =>
            {
                let wasm = made.filenames.into_iter().find(|file| file.extension() == Some("wasm"));
                artifact = artifact.map(|earlier| wasm.map(PathBuf::from).or(earlier));
            }
            Ok(_) => {}
            Err(error) => artifact = Err(error),
        }
    }
    let status = child.wait().map_err(broken)?;
    if status.success() {
        return artifact.map_err(broken);
    }
    Err(BuildError::Failed { dir: dir.into() })
}

/// Adds the target to the toolchain that builds in `dir`; rustup shows its progress on stderr.
fn add_target(dir: &Path) -> Result<(), BuildError> {
    let added = cargo(dir, "rustup").args(["target", "add", TARGET]).stdout(Stdio::null()).status();
    match added {
        Ok(status) if status.success() => Ok(()),
        _ => Err(BuildError::NoTarget { dir: dir.into() }),
    }
}

/// Whether the toolchain that builds in `dir` lacks the target's standard library.
fn target_is_missing(dir: &Path) -> bool {
    let output = cargo(dir, "rustc").args(["--print", "target-libdir", "--target", TARGET]).output();
    output.is_ok_and(|output| {
        output.status.success() && !Path::new(String::from_utf8_lossy(&output.stdout).trim()).is_dir()
    })
}

/// A command of the toolchain that `dir` itself asks for, whatever cargo or rustup this process runs under.
///
/// By name and not by $CARGO, which is the outer toolchain's.
fn cargo(dir: &Path, program: &str) -> Command {
    let mut command = Command::new(program);
    command.current_dir(dir).stdin(Stdio::null());
    for variable in CLEARED {
        command.env_remove(variable);
    }
    command
}

fn list(names: &[String]) -> String {
    if names.is_empty() { String::new() } else { format!(" ({})", names.join(", ")) }
}

const TARGET: &str = "wasm32-wasip2";

/// What an outer `cargo run`, rustup or build may have set for itself and would misdirect ours. CARGO_TARGET_DIR and
/// CARGO_HOME stay: they say where the user keeps things, and cargo tells where the artifact is.
const CLEARED: &[&str] = &[
    "CARGO",
    "CARGO_BUILD_RUSTC",
    "CARGO_BUILD_RUSTC_WORKSPACE_WRAPPER",
    "CARGO_BUILD_RUSTFLAGS",
    "CARGO_BUILD_TARGET",
    "CARGO_ENCODED_RUSTFLAGS",
    "CARGO_MAKEFLAGS",
    "MAKEFLAGS",
    "MFLAGS",
    "RUSTC",
    "RUSTC_WORKSPACE_WRAPPER",
    "RUSTDOC",
    "RUSTFLAGS",
    "RUSTUP_TOOLCHAIN",
];

#[cfg(test)]
mod tests;
