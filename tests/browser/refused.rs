//! Rows whose change is refused: they are as they were, with the reason.
//!
//! In: a queue that hears late of what somebody else changed, or not at all. Out: what its rows and its word of it say.

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::{act::act, content::triage, driver::Browser, line::Line};

/// Lets a page hear nothing of its stream while `held` is a list, which it waits in.
const LATE: &str = "
    window.held = null;
    window.EventSource = class extends EventSource {
        addEventListener(kind, heard) {
            super.addEventListener(kind, (event) => { if (window.held) window.held.push(() => heard(event)); else heard(event); });
        }
    };";
const RELEASE: &str = "const held = window.held; window.held = null; for (const one of held) one();";

/// What a row says, and whether it is selected.
async fn row(browser: &Browser, id: &str) -> Result<String> {
    let say = format!(
        "const row = document.getElementById('row-{id}'); const box = row.querySelector('.pick input'); \
         return [...row.cells].filter(cell => !cell.matches('.age')).map(cell => cell.innerText).join('|') \
         + (box.checked ? ' selected' : '') + ' ' + box.value + ' ' + row.matches('.closed')"
    );
    Ok(browser.script(&say).await?.as_str().context("a row")?.to_owned())
}

#[test]
fn a_row_that_somebody_else_changed_is_as_it_was_with_the_reason() -> Result<()> {
    act("refused", async |demo, browser| {
        let ids = demo.active(3).await?;
        let (id, other) = (&ids[0], &ids[1]);
        browser.first(LATE).await?;
        browser.go(&demo.at(&format!("/?status=all&q={id}"))).await?;
        browser.shows("#live", "Live").await?;
        let status = format!("[id='row-{id}'] .status");
        browser.key('j').await?;
        browser.script("window.held = []").await?;
        let before = row(browser, id).await?;
        triage(demo, id, &json!({"status": "acknowledged", "assignee": "lea"}))?;
        browser.key('3').await?;
        browser.shows("#did .bad", "0 closed as false positive. 1 not: ").await?;
        let told = browser.text("#did .bad").await?;
        ensure!(told.contains("changed"), "no reason: {told}");
        browser
            .until("the row as it was", async || Ok((row(browser, id).await? == before).then_some(())))
            .await?;
        ensure!(demo.says(&format!("alerts/{id}"))?["triage"]["status"] == "acknowledged");
        // Then it hears of what the other did, and may change that.
        browser.script(RELEASE).await?;
        browser.shows(&status, "Acknowledged").await?;
        browser.shows(&format!("[id='row-{id}'] .owner"), "lea").await?;
        browser.key('3').await?;
        browser.shows("#did", "1 closed as false positive").await?;

        // Of several, those stay changed that nobody else changed.
        browser.go(&demo.at("/?status=all&sort=crossed_at")).await?;
        browser.until("its stream", async || Ok((demo.streams()? == 1).then_some(()))).await?;
        let third = &ids[2];
        for id in [other, third] {
            browser.click(&format!("[id='row-{id}'] .pick input")).await?;
        }
        browser.script("window.held = []").await?;
        triage(demo, other, &json!({"status": "acknowledged"}))?;
        browser.key('2').await?;
        browser.shows("#did .bad", "1 closed as benign. 1 not: ").await?;
        browser.shows(&format!("[id='row-{other}'] .status"), "New").await?;
        browser.shows(&format!("[id='row-{third}'] .status"), "Closed").await?;
        ensure!(demo.says(&format!("alerts/{other}"))?["triage"]["status"] == "acknowledged");
        ensure!(demo.says(&format!("alerts/{third}"))?["triage"]["disposition"] == "benign");
        Ok(())
    })
}

#[test]
fn a_row_whose_change_does_not_arrive_is_as_it_was_with_the_reason() -> Result<()> {
    act("not arrived", async |demo, browser| {
        let id = demo.active(1).await?.remove(0);
        let line = Line::to(&demo.address)?;
        browser.go(&format!("http://{}/?status=all&q={id}", line.address)).await?;
        browser.shows("#live", "Live").await?;
        browser.key('j').await?;
        let before = row(browser, &id).await?;
        line.cut();
        browser.key('m').await?;
        browser.shows("#did .bad", "No answer says that anything was changed.").await?;
        browser
            .until("the row as it was", async || Ok((row(browser, &id).await? == before).then_some(())))
            .await?;
        ensure!(demo.says(&format!("alerts/{id}"))?["triage"]["status"] == "new");
        Ok(())
    })
}
