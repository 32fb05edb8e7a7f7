//! A real `vedette demo` with its alerts.
//!
//! In: a seed. Out: the console's address and what the API says. Invariant: the process does not outlive its [`Demo`].

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::driver::PATIENCE;
use crate::{
    binary::binary,
    crash::program::{api, exchange, get},
};

/// A running demo; ended when dropped.
pub struct Demo {
    child: Child,
    /// Host and port.
    pub address: String,
}

impl Demo {
    /// Starts one that few events go through: what it tells apart is attacks, and those come at any rate.
    pub fn start() -> Result<Self> {
        Self::with(&[])
    }

    /// The same with further arguments.
    pub fn with(more: &[&str]) -> Result<Self> {
        let mut command = Command::new(binary()?);
        let args = ["demo", "--port", "0", "--no-browser", "--seed", "1", "--rate", "50"];
        command.args(args).args(more).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        for (name, _) in
            std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("VEDETTE_"))
        {
            command.env_remove(name);
        }
        let mut demo = Self { child: command.spawn()?, address: String::new() };
        let out = demo.child.stdout.take().context("standard output")?;
        let mut line = String::new();
        BufReader::new(out).read_line(&mut line)?;
        let address = line.trim_end().strip_prefix("console: http://").context("it names no console")?;
        address.trim_end_matches('/').clone_into(&mut demo.address);
        Ok(demo)
    }

    /// The address of a path.
    pub fn at(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// What the API has under a path.
    pub fn says(&self, path: &str) -> Result<Value> {
        api(&self.address, &format!("/api/v1/{path}"), "")
    }

    /// How many event streams are open.
    pub fn streams(&self) -> Result<u64> {
        let (_, metrics) = get(&self.address, "/metrics", "")?;
        let streams = metrics.lines().find_map(|line| line.strip_prefix("vedette_http_streams "));
        Ok(streams.context("no such metric")?.parse::<f64>()? as u64)
    }

    /// What it answers to a body that is sent there; an error unless it is done.
    pub fn tell(&self, path: &str, body: &Value) -> Result<Value> {
        self.change("POST", path, "", body)
    }

    /// The same with another method, and with further lines of the head.
    pub fn change(&self, method: &str, path: &str, lines: &str, body: &Value) -> Result<Value> {
        let lines = format!("Content-Type: application/json\r\n{lines}");
        let path = format!("/api/v1/{path}");
        let (status, _, answer) = exchange(method, &self.address, &path, &lines, &body.to_string())?;
        ensure!((200..300).contains(&status), "{path}: {status} {answer}");
        Ok(serde_json::from_str(&answer)?)
    }

    /// Sends it a signal.
    pub fn signal(&self, name: &str) -> Result<()> {
        let sent = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status()?;
        ensure!(sent.success(), "it is gone");
        Ok(())
    }

    /// The ids of active alerts, once there are so many.
    pub async fn active(&self, least: usize) -> Result<Vec<String>> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let alerts = self.says("alerts?state=active,ended&sort=crossed_at")?;
            let ids = alerts["items"].as_array().context("no items")?.iter();
            let ids: Vec<_> = ids.filter_map(|alert| Some(alert["alert_id"].as_str()?.to_owned())).collect();
            if ids.len() >= least {
                return Ok(ids);
            }
            ensure!(Instant::now() < deadline, "waited for {least} alerts in vain: {alerts}");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        // Asked, not killed, so that it takes its folder with it; and it hears of nothing while it is stopped.
        let _ = self.signal("CONT");
        let _ = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status();
        let deadline = Instant::now() + Duration::from_secs(15);
        while self.child.try_wait().is_ok_and(|status| status.is_none()) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
