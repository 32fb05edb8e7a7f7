//! What analysts leave in a console: cases, snoozes, decisions, guards; and the pages that show it.
//!
//! In: a demo with alerts. Out: pages, each with what must be seen on it. Invariant: all of it is made through the API.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::demo::Demo;
use crate::browser::driver::PATIENCE;

/// A page with content.
pub struct Page {
    /// What pages of its kind share.
    pub shape: &'static str,
    pub path: String,
    /// What is found on it, and how many times at least.
    pub holds: (&'static str, usize),
}

/// The first items of a list of the API, as soon as there are so many that this is true of.
pub async fn items(demo: &Demo, path: &str, least: usize, of: impl Fn(&Value) -> bool) -> Result<Vec<Value>> {
    let deadline = std::time::Instant::now() + PATIENCE;
    loop {
        let list = demo.says(path)?;
        let fit = list["items"].as_array().context("no items")?.iter().filter(|item| of(item)).cloned();
        let fit: Vec<_> = fit.collect();
        if fit.len() >= least {
            return Ok(fit);
        }
        ensure!(std::time::Instant::now() < deadline, "waited for {least} of {path} in vain: {list}");
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
}

/// Closes an alert as somebody else would, whatever its version is.
pub fn close(demo: &Demo, alert: &str, disposition: &str) -> Result<()> {
    let change = json!({"status": "closed", "disposition": disposition});
    triage(demo, alert, &change)
}

/// Changes an alert as somebody else would, whatever its version is.
pub fn triage(demo: &Demo, alert: &str, change: &Value) -> Result<()> {
    let row = demo.says(&format!("alerts/{alert}"))?;
    let item = json!({"id": alert, "version": row["triage"]["version"], "seen_revision": row["revision"]});
    let done = demo.tell("alerts/bulk", &json!({"items": [item], "change": change}))?;
    ensure!(done["changed"] == 1, "{done}");
    Ok(())
}

/// Makes it, and tells where it is seen.
pub async fn fill(demo: &Demo) -> Result<Vec<Page>> {
    let with_entity = |alert: &Value| !alert["entity"].is_null();
    let alerts = items(demo, "alerts?state=active,ended&sort=crossed_at", 4, with_entity).await?;
    let id = |at: usize| alerts.get(at).and_then(|alert| alert["alert_id"].as_str()).context("an id");
    let (first, second, third, fourth) = (id(0)?, id(1)?, id(2)?, id(3)?);
    demo.tell(&format!("alerts/{first}/comments"), &json!({"text": "The load test of Tuesday?"}))?;
    let case = demo.tell("cases", &json!({"title": "Scans of the edge", "alert_ids": [first, second]}))?;
    let case = case["case_id"].as_i64().context("a case")?;
    demo.tell(&format!("cases/{case}/notes"), &json!({"text": "Asked the owner of the range."}))?;
    let until = chrono::Utc::now() + chrono::Duration::hours(8);
    let snooze = json!({"alert_id": third, "reason": "a scanner of ours", "until": until.to_rfc3339()});
    demo.tell("snoozes", &snooze)?;
    close(demo, fourth, "false_positive")?;
    demo.tell("views", &json!({"name": "Mine and open", "query": "status=new"}))?;
    let spared = json!({"entries": [{"network": "192.0.2.0/24", "note": "our own egress"}]});
    demo.change("PUT", "never-block", "If-Match: \"0\"\r\n", &spared)?;
    let waiting = items(demo, "actions?state=waiting", 2, |_| true).await?;
    let number =
        |at: usize| waiting.get(at).and_then(|action| action["action_id"].as_i64()).context("an action");
    let (waits, approved) = (number(0)?, number(1)?);
    demo.tell(&format!("actions/{approved}/approve"), &json!({}))?;
    items(demo, "actions?state=live", 1, |_| true).await?;
    let seq = demo.says(&format!("alerts/{fourth}"))?["seq"].as_i64().context("a seq")?;

    let page = |shape, path: &str, found, least| Page { shape, path: path.to_owned(), holds: (found, least) };
    Ok(vec![
        page("/cases/*", &format!("/cases/{case}"), "#alerts a[href^='/alerts/']", 2),
        page("/snoozes", "/snoozes", "form[action$='/lift']", 1),
        page("/alerts/*/snoozed", &format!("/alerts/{third}"), "#desk form[action$='/lift']", 1),
        page("/alerts/*/in-a-case", &format!("/alerts/{first}"), "#desk a[href^='/cases/']", 1),
        page("/alerts/*/closed", &format!("/alerts/{fourth}"), "#triage .status.closed", 1),
        page("/alerts/*/exception", &format!("/alerts/{third}/exception"), "pre.raw", 2),
        page("/actions", "/actions", "button[data-key=y]", 1),
        page("/actions/live", "/actions?tab=live", "button[data-key=v]", 1),
        page("/actions/refused", "/actions?tab=refused", "tr[data-action]", 1),
        page("/actions/*", &format!("/actions/{waits}"), "button[data-key=y]", 1),
        page("/actions/*/live", &format!("/actions/{approved}"), "button[data-key=v]", 1),
        page("/playbooks", "/playbooks", "tbody tr", 5),
        page("/guards", "/guards", "textarea#entries", 1),
        page("/views", "/views", "form[action$='/remove']", 1),
        page("/past", &format!("/?status=all&as_of={seq}"), ".past ~ * .lines tbody tr", 2),
        page("/alerts/*/past", &format!("/alerts/{first}?as_of={seq}"), ".past", 1),
        page("/closed", "/?status=closed", ".lines tbody tr", 1),
        page("/grouped", "/?group=entity", "table.groups tbody tr", 2),
        page("/nothing", "/?q=nothing-has-this-name", ".empty", 1),
    ])
}
