//! For wasm targets, makes what rustc cannot: the code that touches `__stack_pointer` (`fibers.rs`), as a static library, and
//! the description of the worlds a guest implements (`worlds.rs`).
//!
//! Coroutines of one instance share the core module's shadow stack pointer, and no compiler output may run while it
//! belongs to another coroutine. Code that LLVM never sees keeps that rule. It is written here instruction by
//! instruction, so that building a guest needs nothing but Rust.

mod archive;
mod fibers;
mod object;
mod worlds;

use std::error::Error;
use std::path::PathBuf;
use std::{env, fs};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build");
    println!("cargo::rerun-if-changed=../wit");
    if env::var("CARGO_CFG_TARGET_FAMILY").as_deref() != Ok("wasm") {
        return Ok(());
    }
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let manifest = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);

    let members = fibers::objects();
    fs::write(out.join(format!("lib{LIBRARY}.a")), archive::write(&members))?;
    println!("cargo::rustc-link-search=native={}", out.display());
    println!("cargo::rustc-link-lib=static={LIBRARY}");

    // The contract lies beside this package; a published SDK would carry a copy.
    for world in worlds::encode(&manifest.join("../wit"))? {
        fs::write(out.join(world.file), world.bytes)?;
    }
    Ok(())
}

/// Named by version: two SDKs in one guest must not share a file.
const LIBRARY: &str = concat!("conet_fibers_", env!("CARGO_PKG_VERSION"));
