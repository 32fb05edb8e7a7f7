//! Small things that make a shift bearable: times of the place one is at, keys that are told where they work, numbers on buttons.
//!
//! In: what an analyst presses. Out: what pages say then.

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::act::act;

#[test]
fn times_of_this_place_never_bear_the_name_of_another() -> Result<()> {
    act("times", async |demo, browser| {
        let id = demo.active(1).await?.remove(0);
        browser.devtools("Emulation.setTimezoneOverride", json!({"timezoneId": "Asia/Kolkata"})).await?;
        for path in
            ["/sources".to_owned(), "/overview".to_owned(), "/rules".to_owned(), format!("/alerts/{id}")]
        {
            browser.go(&demo.at(&path)).await?;
            browser.find("time[datetime]").await?;
            // Of each time: what is shown, what it is in UTC, and the word for the zone beside it, if there is one.
            let shown = "return [...document.querySelectorAll('#main time[datetime]:not([data-age])')].map(t => \
                         [t.textContent, t.getAttribute('datetime'), t.title, t.nextElementSibling?.matches('.zone') ? \
                          t.nextElementSibling.textContent : null])";
            let zones = "return [...document.querySelectorAll('.zone')].map(z => z.textContent)";
            let utc = browser.script(shown).await?;
            browser.key('t').await?;
            let here = browser.script(shown).await?;
            let (utc, here) = (utc.as_array().context("times")?, here.as_array().context("times")?);
            ensure!(!here.is_empty() && utc.len() == here.len(), "{path}: {utc:?} {here:?}");
            for (utc, here) in utc.iter().zip(here) {
                let text = here[0].as_str().unwrap_or_default();
                // Half an hour beside, so that no time of here is one of there.
                ensure!(utc[0] != here[0] && text.contains(':'), "{path}: {utc} {here}");
                ensure!(here[3].is_null() || here[3] == "GMT+5:30", "{path}: {here}");
                ensure!(utc[3].is_null() || utc[3] == "UTC", "{path}: {utc}");
                ensure!(
                    here[2].as_str().is_some_and(|title| !title.is_empty()),
                    "{path}: no UTC on hover: {here}"
                );
            }
            let named = browser.script(zones).await?;
            let all = named.as_array().context("zones")?.iter().all(|zone| zone == "GMT+5:30");
            ensure!(all, "{path}: {named}");
            browser.key('t').await?;
            let back = browser.script(zones).await?;
            ensure!(back.as_array().context("zones")?.iter().all(|zone| zone == "UTC"), "{path}: {back}");
        }
        Ok(())
    })
}

#[test]
fn keys_are_told_where_they_do_something_and_buttons_how_many_they_change() -> Result<()> {
    act("keys told", async |demo, browser| {
        let ids = demo.active(3).await?;
        let told = "return [...document.querySelectorAll('#keys kbd')].map(k => k.textContent).join(' ')";
        let alert = format!("/alerts/{}", ids[0]);
        for (path, keys) in [
            ("/", "j k x Enter a m 1 2 3 4 u . Esc n p / t ?"),
            (&alert, "a m w 1 2 3 4 c o s Esc r u n p t ?"),
            ("/actions", "j k y r v n t ?"),
            ("/sources", "t ?"),
        ] {
            browser.go(&demo.at(path)).await?;
            browser.key('?').await?;
            browser.find("#keys[open]").await?;
            let said = browser.script(told).await?;
            ensure!(said == keys, "{path}: {said}");
        }
        browser.go(&demo.at("/?status=all")).await?;
        browser.shows("#live", "Live").await?;
        for key in ['j', 'x', 'j', 'x'] {
            browser.key(key).await?;
        }
        browser.shows("#bulk", "Acknowledge 2").await?;
        browser.shows("#bulk", "False positive 2").await?;
        browser.key('x').await?;
        browser.shows("#bulk", "Acknowledge 1").await
    })
}
