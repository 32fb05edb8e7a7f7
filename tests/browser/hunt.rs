//! Hunting in the console, as an analyst does it: a question, what it finds, narrower, an event, a rule of it.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::{
    act::act_with,
    demo::Demo,
    driver::{Browser, Scripts},
    looks::faults,
};

/// Both widths that pages are looked at.
const WIDTHS: &[u32] = &[1280, 390];

/// Asks this on the Hunt page, of all there is.
async fn hunt(demo: &Demo, browser: &Browser, sql: &str) -> Result<()> {
    browser.go(&demo.at("/hunt")).await?;
    let fill = format!(
        "document.getElementById('sql').value = {}; document.querySelector('[name=span]').value = 'all'",
        Value::from(sql)
    );
    browser.script(&fill).await?;
    browser.leaving(async || browser.click("#ask button").await).await
}

/// The text that the editor holds.
async fn sql(browser: &Browser) -> Result<String> {
    let held = browser.script("return document.getElementById('sql').value").await?;
    Ok(held.as_str().context("a text")?.to_owned())
}

/// Waits until the lake has something.
async fn filled(demo: &Demo, browser: &Browser) -> Result<()> {
    let found = async || {
        hunt(demo, browser, "select * from events where url.path is not null limit 200").await?;
        Ok(browser.all(".results tbody tr").await?.first().map(drop))
    };
    browser.until("events", found).await
}

#[test]
fn a_question_leads_to_an_event_and_to_a_rule() -> Result<()> {
    act_with("hunt", Scripts::Run, async |demo, browser, axe| {
        filled(demo, browser).await?;
        browser.shows(".rests", "Complete through").await?;
        let mut wrong = faults(browser, axe, "/hunt/found", WIDTHS).await?;
        // Narrower by a value, in and out: the text says how, and the answer follows it.
        let path = "[...document.querySelectorAll('.results td[data-label=\"url.path\"] .acts')][0]";
        let value =
            browser.script(&format!("return {path}.parentNode.querySelector('.value').textContent")).await?;
        let value = value.as_str().context("a value")?.to_owned();
        let press =
            |which: u8| format!("{path}.open = true; {path}.querySelectorAll('button')[{which}].click()");
        browser.leaving(async || browser.script(&press(0)).await.map(drop)).await?;
        ensure!(sql(browser).await?.contains("\n) as hunted\nwhere url.path = '"), "{}", sql(browser).await?);
        let shown = "return [...new Set([...document.querySelectorAll('.results td[data-label=\"url.path\"] .value')] \
                     .map(cell => cell.textContent))]";
        ensure!(browser.script(shown).await? == serde_json::json!([value]), "{value}");
        browser.leaving(async || browser.script(&press(1)).await.map(drop)).await?;
        browser.shows(".rows", "No event is like that.").await?;
        wrong.extend(faults(browser, axe, "/hunt/none", &[1280]).await?);

        // The row is an event, and the event a rule.
        browser.back().await?;
        hunt(demo, browser, "select * from events order by \"@timestamp\" desc").await?;
        ensure!(!browser.all("svg.bars rect").await?.is_empty(), "no picture");
        browser.leaving(async || browser.click(".results tbody tr td:last-child a").await).await?;
        browser.shows("#rule", "condition: selection").await?;
        wrong.extend(faults(browser, axe, "/hunt/event", WIDTHS).await?);
        browser.leaving(async || browser.click("a.go[href^='/hunt']").await).await?;
        browser.shows(".rests", "row").await?;

        // A value that hurts nobody: it is a text in SQL and on the page.
        let hostile = "select '<img src=x onerror=alert(1)>' as x, 'a''b' as y";
        hunt(demo, browser, hostile).await?;
        ensure!(browser.all(".results img").await?.is_empty());
        browser.shows(".results", "<img src=x onerror=alert(1)>").await?;
        hunt(demo, browser, "selct").await?;
        browser.shows(".problem", "`selct` is not allowed").await?;
        wrong.extend(faults(browser, axe, "/hunt/wrong", WIDTHS).await?);
        // The page that was refused is all that is complained of.
        let complaints = browser.complaints().await?;
        ensure!(complaints.iter().all(|text| text.contains("400")), "{complaints:?}");
        ensure!(wrong.is_empty(), "{} faults:\n{}", wrong.len(), wrong.join("\n"));
        Ok(())
    })
}

#[test]
fn names_are_completed_by_keys() -> Result<()> {
    act_with("hunt names", Scripts::Run, async |demo, browser, _| {
        browser.go(&demo.at("/hunt")).await?;
        browser.script("const area = document.getElementById('sql'); area.value = ''; area.focus()").await?;
        browser.find("#sql").await?.send_keys("select source.").await?;
        browser.shows("#words", "source.ip").await?;
        // The next one, and it is taken.
        let second = browser.script("return document.querySelectorAll('#words li')[1].textContent").await?;
        browser.find("#sql").await?.send_keys("\u{e015}\u{e004}").await?;
        ensure!(sql(browser).await? == format!("select {}", second.as_str().context("a name")?));
        browser.find("#sql").await?.send_keys(", @times\u{e004}").await?;
        ensure!(sql(browser).await?.ends_with(", \"@timestamp\""), "{}", sql(browser).await?);
        browser.find("#sql").await?.send_keys(" from ev\u{e00c}ents").await?;
        browser.leaving(async || browser.key_with('\u{e009}', '\u{e007}').await).await?;
        browser.shows(".rests", "row").await?;
        Ok(())
    })
}

#[test]
fn a_hunt_needs_no_script() -> Result<()> {
    act_with("hunt without scripts", Scripts::Off, async |demo, browser, _| {
        browser.go(&demo.at("/hunt")).await?;
        browser.leaving(async || browser.click("#ask button").await).await?;
        browser.shows(".rests", "row").await
    })
}

/// Keeps what was just asked by this name, for everybody.
async fn keep(browser: &Browser, name: &str) -> Result<()> {
    browser.find("#name").await?.send_keys(name).await?;
    browser.click("form[action='/hunt/saved'] input[name=shared]").await?;
    browser.leaving(async || browser.click("form[action='/hunt/saved'] button").await).await
}

/// Schedules the first kept hunt there is, for whoever is in this column.
async fn schedule(browser: &Browser, column: &str) -> Result<()> {
    browser.click(".schedule > summary").await?;
    browser.find("#s-entity").await?.send_keys(column).await?;
    browser.leaving(async || browser.click(".schedule form .buttons button").await).await
}

#[test]
fn a_hunt_is_scheduled_paused_and_unscheduled() -> Result<()> {
    act_with("hunt scheduled", Scripts::Run, async |demo, browser, axe| {
        hunt(demo, browser, "select * from events limit 5").await?;
        keep(browser, "rare paths").await?;
        browser.click(".schedule > summary").await?;
        let mut wrong = faults(browser, axe, "/hunt/schedule", WIDTHS).await?;
        browser.click(".schedule > summary").await?;
        schedule(browser, "source.ip").await?;
        browser.shows("#scheduled", "rare paths").await?;
        browser.shows("#scheduled", "for each source.ip").await?;
        wrong.extend(faults(browser, axe, "/hunt/scheduled", WIDTHS).await?);
        browser.leaving(async || browser.click("#scheduled button[value=pause]").await).await?;
        browser.shows("#scheduled tbody", "paused").await?;
        browser.leaving(async || browser.click("#scheduled button[value=resume]").await).await?;
        browser.leaving(async || browser.click("#scheduled tbody button[value=remove]").await).await?;
        browser.shows("#scheduled", "None.").await?;
        ensure!(wrong.is_empty(), "{} faults:\n{}", wrong.len(), wrong.join("\n"));
        Ok(())
    })
}

#[test]
fn a_schedule_needs_no_script() -> Result<()> {
    act_with("hunt scheduled without scripts", Scripts::Off, async |demo, browser, _| {
        browser.go(&demo.at("/hunt")).await?;
        browser.leaving(async || browser.click("#ask button").await).await?;
        keep(browser, "all of them").await?;
        schedule(browser, "vedette.source").await?;
        browser.shows("#scheduled", "for each vedette.source").await
    })
}
