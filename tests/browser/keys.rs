//! Each key of the console does what the list of keys says, and none does while somebody writes.
//!
//! In: keys. Out: what has the focus, what is selected and where one is; what the service knows of it.

use anyhow::{Context, Result, ensure};
use chrono::{DateTime, Timelike as _, Utc};
use serde_json::json;

use super::{
    act::{act, wait},
    analyst::rows,
    demo::Demo,
    driver::{Browser, Scripts, axe},
};
use crate::scenarios::program::Folder;

const ENTER: char = '\u{E007}';
const ESCAPE: char = '\u{E00C}';
/// What closes, as what, and how it is called.
const CLOSING: [(char, &str, &str); 4] = [
    ('1', "true_positive", "True positive"),
    ('2', "benign", "Benign"),
    ('3', "false_positive", "False positive"),
    ('4', "duplicate", "Duplicate"),
];

async fn count(browser: &Browser, css: &str) -> Result<usize> {
    Ok(browser.all(css).await?.len())
}

/// Waits until the service has this of an alert's triage.
async fn has(demo: &Demo, browser: &Browser, id: &str, key: &str, value: &str) -> Result<()> {
    let told = async || {
        let alert = demo.says(&format!("alerts/{id}"))?;
        Ok((alert["triage"][key] == value).then_some(()))
    };
    browser.until(&format!("{key} {value}"), told).await
}

#[test]
fn keys_go_through_the_queue_select_close_and_take() -> Result<()> {
    act("keys of the queue", async |demo, browser| {
        let id = demo.active(3).await?.remove(0);
        browser.go(&demo.at(&format!("/?status=all&q={id}"))).await?;
        browser.shows("#live", "Live").await?;
        browser.key('/').await?;
        ensure!(browser.focus().await?.starts_with("input Search"), "{}", browser.focus().await?);
        for key in "jx3".chars() {
            browser.key(key).await?;
        }
        let typed = browser.script("return document.activeElement.value").await?;
        ensure!(typed == "jx3", "{typed}");
        ensure!(
            count(browser, "tr.cursor, .pick :checked, #did > *").await? == 0,
            "keys act while one writes"
        );
        browser.script("document.activeElement.blur()").await?;

        browser.key('j').await?;
        ensure!(count(browser, &format!("[id='row-{id}'].cursor")).await? == 1, "j goes to no row");
        for selected in [1, 0] {
            browser.key('x').await?;
            ensure!(count(browser, ".pick :checked").await? == selected, "x, {selected}");
        }
        let status = format!("[id='row-{id}'] .status");
        for (key, disposition, _) in CLOSING {
            browser.key(key).await?;
            browser.shows(&status, "Closed").await?;
            has(demo, browser, &id, "disposition", disposition).await?;
            browser.shows("#did", "1 closed as ").await?;
            browser.key('u').await?;
            browser.shows("#did", "1 as before").await?;
            has(demo, browser, &id, "status", "new").await?;
            browser.shows(&status, "New").await?;
        }
        browser.key('m').await?;
        browser.shows(&status, "Acknowledged").await?;
        has(demo, browser, &id, "assignee", "local").await?;
        browser.shows(&format!("[id='row-{id}'] .owner"), "local").await?;

        // Through several, and back.
        browser.go(&demo.at("/?status=all&sort=crossed_at")).await?;
        let ids = rows(browser).await?;
        for (key, at) in [('j', 0), ('j', 1), ('k', 0), ('k', 0)] {
            browser.key(key).await?;
            let row = format!("[id='row-{}'].cursor", ids[at]);
            ensure!(
                count(browser, &row).await? == 1 && count(browser, "tr.cursor").await? == 1,
                "{key} to {at}"
            );
        }
        browser.key(ESCAPE).await?;
        ensure!(count(browser, "tr.cursor").await? == 0, "Escape leaves the row");
        Ok(())
    })
}

#[test]
fn keys_change_an_alert_on_its_page_and_lead_to_the_next() -> Result<()> {
    act("keys of an alert", async |demo, browser| {
        demo.active(3).await?;
        browser.go(&demo.at("/?status=all&sort=crossed_at")).await?;
        let ids = rows(browser).await?;
        browser.key('j').await?;
        browser.leaving(async || browser.key(ENTER).await).await?;
        for (key, at) in [('n', 1), ('n', 2), ('p', 1), ('p', 0)] {
            browser.leaving(async || browser.key(key).await).await?;
            let place = browser.place().await?;
            ensure!(
                place == format!("/alerts/{}", ids[at]),
                "{key} leads to {place}, not to {at} of {ids:?}"
            );
        }
        let id = &ids[0];
        browser.key('o').await?;
        ensure!(browser.focus().await?.starts_with("input assignee"), "{}", browser.focus().await?);
        browser.key('n').await?;
        browser.key(ESCAPE).await?;
        let typed = browser.script("return document.getElementById('assignee').value").await?;
        ensure!(typed == "n", "{typed}");
        browser.write("#assignee", "").await?;
        browser.key(ESCAPE).await?;
        for (key, shown, status) in
            [('w', "In progress", "in_progress"), ('r', "New", "new"), ('m', "Acknowledged", "acknowledged")]
        {
            browser.leaving(async || browser.key(key).await).await?;
            browser.shows("#triage .status", shown).await?;
            has(demo, browser, id, "status", status).await?;
        }
        has(demo, browser, id, "assignee", "local").await?;
        for (key, disposition, shown) in CLOSING {
            browser.leaving(async || browser.key(key).await).await?;
            browser.shows("#triage .state", shown).await?;
            has(demo, browser, id, "disposition", disposition).await?;
            browser.leaving(async || browser.key('r').await).await?;
            browser.shows("#triage .status", "New").await?;
        }
        Ok(())
    })
}

/// The hands of a clock somewhere else, as `hh:mm:ss`.
fn clock(at: DateTime<Utc>, hours: i64) -> String {
    let there = at + chrono::Duration::hours(hours);
    format!("{:02}:{:02}:{:02}", there.hour(), there.minute(), there.second())
}

#[test]
fn a_key_turns_times_to_those_of_the_room_and_back() -> Result<()> {
    act("times", async |demo, browser| {
        let id = demo.active(1).await?.remove(0);
        // Nine hours ahead all year.
        browser.devtools("Emulation.setTimezoneOverride", json!({"timezoneId": "Asia/Tokyo"})).await?;
        browser.go(&demo.at(&format!("/alerts/{id}"))).await?;
        let times = "return [...document.querySelectorAll('#hero time:not([data-age])')].map(t => [t.dateTime, t.textContent])";
        let shown = async |hours: i64| {
            let times = browser.script(times).await?;
            let times = times.as_array().context("times")?;
            ensure!(times.len() >= 3, "{times:?}");
            let right = times.iter().all(|time| {
                let at = time[0].as_str().and_then(|at| at.parse().ok());
                at.is_some_and(|at| time[1].as_str().is_some_and(|text| text.contains(&clock(at, hours))))
            });
            Ok(right.then_some(()))
        };
        ensure!(shown(0).await?.is_some(), "times are not UTC at first");
        browser.key('t').await?;
        browser.until("times of the room", async || shown(9).await).await?;
        // It is kept.
        browser.reload().await?;
        browser.until("times of the room", async || shown(9).await).await?;
        browser.key('t').await?;
        browser.until("times in UTC", async || shown(0).await).await
    })
}

#[test]
fn keys_are_listed_and_can_be_turned_off() -> Result<()> {
    act("list of keys", async |demo, browser| {
        demo.active(1).await?;
        browser.go(&demo.at("/?status=all&sort=crossed_at")).await?;
        browser.key('?').await?;
        browser.find("dialog#keys[open]").await?;
        let listed = browser.text("#keys").await?;
        for key in ["j", "k", "x", "a", "m", "1", "2", "3", "4", "u", ".", "n", "p", "/", "t", "?"] {
            let found = format!(
                "return [...document.querySelectorAll('#keys kbd')].some(k => k.textContent === '{key}')"
            );
            ensure!(browser.script(&found).await? == true, "{key} is not listed: {listed}");
        }
        browser.key('j').await?;
        ensure!(count(browser, "tr.cursor").await? == 0, "a key acts beneath the list");
        browser.click("#keys-on").await?;
        browser.key(ESCAPE).await?;
        ensure!(count(browser, "dialog#keys[open]").await? == 0, "Escape closes the list");
        for key in ['j', '?', '/'] {
            browser.key(key).await?;
        }
        ensure!(count(browser, "tr.cursor, dialog#keys[open]").await? == 0, "keys are off and act");
        ensure!(count(browser, "input:focus").await? == 0, "keys are off and lead to the search");
        Ok(())
    })
}

/// One alert for each user whom the log of the API names.
const MANY: &str = "title: A call\nid: 1c1c5dd4-7b3c-4d3f-9a53-0f3e8d7c1a55\nname: call\nlogsource: {category: api}\n\
    detection:\n  selection:\n    user.name|exists: true\n  condition: selection\n---\ntitle: Somebody calls\n\
    id: 1c1c5dd4-7b3c-4d3f-9a53-0f3e8d7c1a56\nlevel: low\ncorrelation:\n  type: event_count\n  rules: [call]\n  \
    group-by: [user.name]\n  timespan: 1m\n  condition: {gte: 1}\n";

#[test]
fn keys_lead_to_the_next_page_and_to_the_newest() -> Result<()> {
    if axe("keys of pages")?.is_none() {
        return Ok(());
    }
    let folder = Folder::new();
    folder.write("rules/many.yml", MANY);
    let rules = folder.path("rules").display().to_string();
    let demo = Demo::with(&["--rules", &rules])?;
    wait(async {
        demo.active(50).await?;
        let browser = Browser::start(Scripts::Run).await?;
        let played = async {
            let next = async || {
                browser.go(&demo.at("/?status=all")).await?;
                Ok(browser.all("a[rel=next]").await?.first().map(drop))
            };
            browser.until("a second page", next).await?;
            browser.leaving(async || browser.key('n').await).await?;
            ensure!(browser.place().await?.contains("cursor="), "{}", browser.place().await?);
            ensure!(!rows(&browser).await?.is_empty());
            browser.leaving(async || browser.key('p').await).await?;
            ensure!(browser.place().await? == "/?status=all", "{}", browser.place().await?);
            Ok(())
        };
        let played = played.await;
        played.and(browser.close().await)
    })
}
