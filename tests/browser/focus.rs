//! Where Tab leads: through all that can be used, as it is seen from top to bottom and from left to right, and back; and one sees where one is.
//!
//! In: the queue and an alert's page, wide and narrow, while nothing changes. Out: what is left out, out of order, hidden or without a sign.

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeSet;

use super::{act::act, demo::Demo, driver::Browser};

const TAB: char = '\u{E004}';
const SHIFT: char = '\u{E008}';

/// Gives everything a number that can have the focus, in the order of the document, and lets the sign of the focus be taken away.
const NUMBER: &str = "
    const all = [...document.querySelectorAll('a[href], button, input, select, textarea, summary, [tabindex]')];
    const can = all.filter(e => !e.disabled && e.tabIndex >= 0 && e.type !== 'hidden' && e.checkVisibility());
    can.forEach((e, n) => { e.dataset.stop = n; });
    document.styleSheets[0].insertRule(':root[data-unseen] :focus-visible { outline-color: transparent !important; }');
    // From the top, wherever one clicked before.
    document.body.tabIndex = -1;
    document.body.focus();
    document.body.removeAttribute('tabindex');
    scrollTo(0, 0);
    return can.length";

/// What has the focus.
const STOP: &str = "
    const e = document.activeElement;
    if (e.dataset.stop === undefined) return null;
    const box = e.getBoundingClientRect();
    // What scrolls is taken as if it did not.
    let [x, y] = [scrollX, scrollY];
    for (let in_ = e.parentElement; in_ !== document.documentElement; in_ = in_.parentElement) { x += in_.scrollLeft; y += in_.scrollTop; }
    // A part of it is enough: browsers do not scroll to what is seen in part.
    const parts = [...e.getClientRects()].flatMap(r => [[2, 2], [r.width / 2, r.height / 2], [r.width - 2, r.height - 2]].map(([x, y]) => [r.left + x, r.top + y]));
    const over = ([at, from]) => { const top = document.elementFromPoint(at, from); return top !== null && (e.contains(top) || top.contains(e)); };
    const region = e.closest('.cols > *') ?? e.closest('main > *') ?? e.closest('body > *');
    const all = [...document.querySelectorAll('body *')];
    const [around, style] = [region.getBoundingClientRect(), getComputedStyle(region)];
    return {
        number: Number(e.dataset.stop),
        name: `${e.tagName.toLowerCase()}.${e.className} ${(e.getAttribute('aria-label') ?? e.innerText ?? '').trim().slice(0, 40)}`,
        kind: `${e.tagName} ${e.className} in ${e.parentElement.tagName} ${e.parentElement.className}`,
        region: all.indexOf(region),
        floats: ['absolute', 'fixed', 'sticky'].includes(style.position),
        around: [around.left + scrollX, around.top + scrollY, around.right + scrollX, around.bottom + scrollY],
        place: [box.left + x, box.top + y, box.right + x, box.bottom + y],
        at: [box.left + scrollX, box.top + scrollY, box.width, box.height],
        seen: parts.some(over),
    }";

/// One stop of Tab; boxes are left, top, right, bottom on the page as a whole; `at` is left, top, width, height where it stands now.
#[derive(Debug, Clone, Deserialize)]
struct Stop {
    number: usize,
    name: String,
    kind: String,
    region: usize,
    floats: bool,
    around: [f64; 4],
    place: [f64; 4],
    at: [f64; 4],
    seen: bool,
}

/// Looked at again for a moment, until what has the focus was scrolled to.
async fn stop(browser: &Browser) -> Result<Option<Stop>> {
    for _ in 0..10 {
        let stop: Option<Stop> = serde_json::from_value(browser.script(STOP).await?)?;
        if stop.as_ref().is_none_or(|stop| stop.seen) {
            return Ok(stop);
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    Ok(serde_json::from_value(browser.script(STOP).await?)?)
}

/// Whether a box is read after another: on its line and to the right of it, or below its top.
fn is_after(next: &[f64; 4], last: &[f64; 4]) -> bool {
    let [left, top, _, bottom] = *next;
    let overlap = bottom.min(last[3]) - top.max(last[1]);
    let on_a_line = overlap > (bottom - top).min(last[3] - last[1]) / 2.0;
    if on_a_line { left >= last[0] - 1.0 } else { top >= last[1] - 1.0 }
}

#[test]
fn reading_goes_along_lines_and_down() {
    let word = [100.0, 100.0, 150.0, 120.0];
    assert!(is_after(&[160.0, 96.0, 190.0, 124.0], &word));
    assert!(is_after(&[10.0, 121.0, 40.0, 140.0], &word));
    assert!(!is_after(&[10.0, 100.0, 40.0, 120.0], &word));
    assert!(!is_after(&[160.0, 60.0, 190.0, 80.0], &word));
}

/// Regions side by side begin at the same height; one that is lower is read later wherever it is.
fn begins_after(next: &Stop, last: &Stop) -> bool {
    let (top, left) = (next.around[1] - last.around[1], next.around[0] - last.around[0]);
    if top.abs() < 8.0 { left > 0.0 } else { top > 0.0 }
}

/// What its surroundings look like, on the page.
async fn picture(browser: &Browser, of: &Stop) -> Result<Value> {
    let [left, top, width, height] = of.at;
    let clip =
        json!({"x": left - 5.0, "y": top - 5.0, "width": width + 10.0, "height": height + 10.0, "scale": 1});
    browser.devtools("Page.captureScreenshot", json!({"format": "png", "clip": clip})).await
}

/// Whether one sees that it has the focus.
async fn is_marked(browser: &Browser, of: &Stop) -> Result<bool> {
    let with = picture(browser, of).await?;
    browser.script("document.documentElement.dataset.unseen = ''").await?;
    let without = picture(browser, of).await?;
    browser.script("delete document.documentElement.dataset.unseen").await?;
    Ok(with != without)
}

/// What is wrong with a stop after the one before it.
fn faults(last: Option<&Stop>, next: &Stop) -> Vec<String> {
    let mut wrong = Vec::new();
    let name = &next.name;
    if !next.seen {
        wrong.push(format!("{name} is hidden by something: {next:?}"));
    }
    let Some(last) = last.filter(|last| !last.floats && !next.floats) else { return wrong };
    let same = last.region == next.region;
    let fits = if same { is_after(&next.place, &last.place) } else { begins_after(next, last) };
    if !fits {
        wrong.push(format!("{name} is not behind {}: {next:?} {last:?}", last.name));
    }
    wrong
}

/// Presses Tab until all of the page was passed, and some of it back; what is wrong with it.
pub async fn walk(browser: &Browser, width: u32) -> Result<Vec<String>> {
    let size = json!({"width": width, "height": 620, "deviceScaleFactor": 1, "mobile": false});
    browser.devtools("Emulation.setDeviceMetricsOverride", size).await?;
    let page = format!("{} at {width}", browser.place().await?);
    let all = browser.script(NUMBER).await?.as_u64().context("a number")? as usize;
    ensure!(all > 10, "{page} has {all} stops");
    let (mut wrong, mut kinds, mut last) = (Vec::new(), BTreeSet::new(), None::<Stop>);
    for number in 0..all {
        browser.key(TAB).await?;
        let next = stop(browser).await?.with_context(|| format!("{page}: Tab leaves it after {last:?}"))?;
        ensure!(next.number == number, "{page}: Tab leads from {last:?} to {next:?}, not to {number}");
        wrong.extend(faults(last.as_ref(), &next));
        if kinds.insert((next.kind.clone(), next.region)) && !is_marked(browser, &next).await? {
            wrong.push(format!("one does not see that {} has the focus", next.name));
        }
        last = Some(next);
    }
    browser.key(TAB).await?;
    let out = stop(browser).await?;
    ensure!(out.as_ref().is_none_or(|stop| stop.number == 0), "{page}: the last stop is none: {out:?}");
    for back in 0..4 {
        browser.key_with(SHIFT, TAB).await?;
        // From the page's start it may have gone out of the page, first.
        if back == 0 && stop(browser).await?.is_none() {
            browser.key_with(SHIFT, TAB).await?;
        }
        let at = stop(browser).await?.map(|stop| stop.number);
        ensure!(at == Some(all - 1 - back), "{page}: {at:?} is {back} back of {all}");
    }
    Ok(wrong.into_iter().map(|text| format!("{page}: {text}")).collect())
}

/// Walks through what is shown while the service stands still, so that no row comes in between.
async fn walk_still(demo: &Demo, browser: &Browser, page: &str) -> Result<Vec<String>> {
    let mut wrong = Vec::new();
    for width in [1280, 390] {
        browser.go(&demo.at(page)).await?;
        browser.until("its stream", async || Ok((demo.streams()? == 1).then_some(()))).await?;
        demo.signal("STOP")?;
        let mut walked = walk(browser, width).await;
        if let Ok(found) = &mut walked
            && page.starts_with("/?")
        {
            // With something selected, there is more at the foot.
            browser.click(".lines tbody tr .pick input").await?;
            found.extend(walk(browser, width).await?);
        }
        demo.signal("CONT")?;
        wrong.extend(walked?);
    }
    Ok(wrong)
}

#[test]
fn tab_goes_through_the_queue_as_it_is_seen() -> Result<()> {
    act("focus in the queue", async |demo, browser| {
        demo.active(4).await?;
        let wrong = walk_still(demo, browser, "/?status=all").await?;
        ensure!(wrong.is_empty(), "{} faults:\n{}", wrong.len(), wrong.join("\n"));
        Ok(())
    })
}

#[test]
fn tab_goes_through_an_alert_as_it_is_seen() -> Result<()> {
    act("focus on an alert", async |demo, browser| {
        // One with a picture and several events.
        let several =
            |alert: &Value| alert["evidence_total"].as_u64() > Some(4) && !alert["entity"].is_null();
        let alerts = super::content::items(demo, "alerts?state=active,ended", 1, several).await?;
        let id = alerts[0]["alert_id"].as_str().context("an id")?;
        let wrong = walk_still(demo, browser, &format!("/alerts/{id}")).await?;
        ensure!(wrong.is_empty(), "{} faults:\n{}", wrong.len(), wrong.join("\n"));
        Ok(())
    })
}
