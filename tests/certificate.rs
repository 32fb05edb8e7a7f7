//! Certificates that vouch for themselves.

use std::{path::Path, process::Command};

use anyhow::{Context as _, Result, ensure};

/// Makes `certificate.pem` and `key.pem` in a folder, of this name; `also` is what it is asked by (`DNS:…`, `IP:…`).
pub fn self_signed(at: &Path, name: &str, also: &str) -> Result<()> {
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"])
        .args(["-subj", &format!("/CN={name}"), "-addext", &format!("subjectAltName={also}")])
        .args(["-addext", "basicConstraints=critical,CA:FALSE"])
        .arg("-keyout")
        .arg(at.join("key.pem"))
        .arg("-out")
        .arg(at.join("certificate.pem"))
        .output()
        .context("openssl")?;
    ensure!(made.status.success(), "openssl: {}", String::from_utf8_lossy(&made.stderr));
    Ok(())
}
