//! From an attack to a block that its own log says is effective, and to its end, as somebody does it who watches the demo.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::{
    act::wait,
    demo::Demo,
    driver::{Browser, Scripts, axe},
};

/// Two attacks of the simulated world, each of which goes on for two minutes.
const RULES: &str = "title: Scanner
id: d0000000-0000-4000-8000-000000000011
name: scanner
logsource: {category: waf}
level: high
detection:
    scanner: {user_agent.original|startswith: sqlmap}
    condition: scanner
---
title: Wrong signature
id: d0000000-0000-4000-8000-000000000012
name: wrong-signature
logsource: {category: api}
detection:
    wrong: {event.reason: signature_mismatch}
    condition: wrong
---
title: Wrong signatures
id: d0000000-0000-4000-8000-000000000014
name: wrong-signatures
level: high
correlation:
    type: event_count
    rules: [wrong-signature]
    group-by: [client.ip]
    timespan: 1m
    condition: {gte: 3}
";
const PLAYBOOK: &str = "title: Contain
id: d0000000-0000-4000-8000-000000000013
name: contain
mode: approve
date: 2026-11-28
trigger: {on: both, rules: [scanner, wrong-signatures]}
steps:
    - {name: block, do: block_address, target: client.ip, connectors: [crowdsec], for: 20s}
";

fn actions(demo: &Demo, filter: &str) -> Result<Vec<Value>> {
    let found = demo.says(&format!("actions?{filter}"))?;
    Ok(found["items"].as_array().context("no items")?.clone())
}

#[test]
fn a_block_approved_with_a_key_is_seen_to_work_and_ends() -> Result<()> {
    if axe("browser")?.is_none() {
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    fs::create_dir_all(folder.path().join("playbooks"))?;
    fs::write(folder.path().join("rules.yml"), RULES)?;
    fs::write(folder.path().join("playbooks/contain.yml"), PLAYBOOK)?;
    wait(async {
        let browser = Browser::start(Scripts::Run).await?;
        let demo = Demo::with(&["--rules", &folder.path().to_string_lossy()])?;
        let played = play(&demo, &browser).await;
        let closed = browser.close().await;
        played.and(closed)
    })
}

async fn play(demo: &Demo, browser: &Browser) -> Result<()> {
    let effective = browser
        .until("an effective block", async || {
            if !actions(demo, "state=waiting")?.is_empty() {
                browser.go(&demo.at("/actions")).await?;
                browser.key('j').await?;
                browser.leaving(async || browser.key('y').await).await?;
            }
            Ok(actions(demo, "effect=effective")?.first().cloned())
        })
        .await?;
    let number = effective["action_id"].as_i64().context("a number")?;
    ensure!(effective["approvals"][0].is_string(), "nobody approved it: {effective}");
    let target = effective["target"].as_str().context("a target")?;
    browser.go(&demo.at("/actions?tab=live")).await?;
    browser.shows(&format!("tr[data-action='{number}']"), "effective after").await?;
    browser.shows(&format!("tr[data-action='{number}']"), target).await?;
    let ended = browser
        .until("its end", async || {
            let over = actions(demo, "state=expired")?;
            Ok(over.into_iter().find(|action| action["action_id"] == number))
        })
        .await?;
    ensure!(ended["effect"] == "effective", "{ended}");
    browser.go(&demo.at("/actions?tab=over")).await?;
    browser.shows(&format!("tr[data-action='{number}']"), target).await?;
    Ok(())
}
