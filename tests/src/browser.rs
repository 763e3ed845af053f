//! A real browser without a window: Debian's chromium.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::artifacts;

/// The browser, if there is one. Where `CONET_CI` is set there must be.
pub fn browser() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found =
        std::env::split_paths(&path).map(|folder| folder.join("chromium")).find(|file| file.is_file());
    let required = std::env::var_os("CONET_CI").is_some_and(|value| value != "0");
    assert!(found.is_some() || !required, "there is no chromium: `apt install chromium`");
    found
}

/// The document that a page has become, five seconds of its own time later.
pub fn document(browser: &PathBuf, address: &str) -> String {
    let profile = artifacts::scratch().join("browser");
    let output = Command::new(browser)
        // It runs no page but ours, and its own sandbox needs namespaces, which containers often forbid.
        .args([
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
        ])
        .arg(format!("--user-data-dir={}", profile.display()))
        .args(["--virtual-time-budget=5000", "--dump-dom", address])
        .stdin(Stdio::null())
        .output()
        .expect("the browser can be run");
    let (text, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && !text.is_empty(), "{}: {errors}", output.status);
    text.into_owned()
}
