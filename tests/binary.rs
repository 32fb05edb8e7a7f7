//! The binary under test.
//!
//! Out: its path. Invariant: it is built once for all suites and copied, so that a later build cannot exchange it under
//! the tests.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

/// The repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The binary, built in the profile of development.
pub fn binary() -> Result<&'static Path> {
    static BINARY: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    match BINARY.get_or_init(|| build().map_err(|e| format!("{e:#}"))) {
        Ok(path) => Ok(path),
        Err(e) => bail!("cannot build vedette: {e}"),
    }
}

fn build() -> Result<PathBuf> {
    let mut cargo = Command::new(env!("CARGO"));
    for name in std::env::vars_os().map(|(name, _)| name) {
        // What cargo says to a test of its package is another one's to who builds by it (ring is built anew for that, and with it all
        // that does TLS or reads a bucket).
        if ["CARGO_PKG_", "CARGO_MANIFEST_"].iter().any(|of| name.to_string_lossy().starts_with(of)) {
            cargo.env_remove(name);
        }
    }
    let output = cargo
        // The whole workspace, since packages chosen otherwise than for the tests would have dependencies with other features, built anew.
        .args([
            "build",
            "--workspace",
            "--bin",
            "vedette",
            "--locked",
            "--message-format",
            "json-render-diagnostics",
        ])
        .current_dir(root())
        .output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let built = String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter_map(|message| Some(message.get("executable")?.as_str()?.to_owned()))
        .next_back()
        .context("cargo names no executable")?;
    let path = place()?.join("vedette");
    fs::copy(built, &path)?;
    Ok(path)
}

/// A folder of this process's own. Nothing removes it when the process ends, since what is static is not dropped: the next run does,
/// so that not each of them leaves two hundred megabytes.
fn place() -> Result<PathBuf> {
    let all = Path::new(env!("CARGO_TARGET_TMPDIR")).join("under-test");
    fs::create_dir_all(&all)?;
    for former in fs::read_dir(&all)? {
        let former = former?;
        if !Path::new("/proc").join(former.file_name()).exists() {
            // Another run may be removing it, too.
            let _ = fs::remove_dir_all(former.path());
        }
    }
    let own = all.join(std::process::id().to_string());
    fs::create_dir_all(&own)?;
    Ok(own)
}
