//! What an analyst does in a shift.

use anyhow::{Context, Result, ensure};
use vedette_event::Severity;

use super::{
    act::{act, act_with},
    demo::Demo,
    driver::{Browser, Scripts},
    line::Line,
};

/// Ids of the rows in the queue.
pub async fn rows(browser: &Browser) -> Result<Vec<String>> {
    let ids = browser
        .script("return [...document.querySelectorAll('[id^=row-]')].map(row => row.id.slice(4))")
        .await?;
    let ids = ids.as_array().context("a list")?.iter();
    Ok(ids.filter_map(|id| Some(id.as_str()?.to_owned())).collect())
}

/// Marks the page, so that one sees whether it is still the same.
pub async fn mark(browser: &Browser) -> Result<()> {
    browser.script("window.marked = true").await.map(drop)
}

pub async fn is_marked(browser: &Browser) -> Result<bool> {
    Ok(browser.script("return window.marked === true").await? == true)
}

#[test]
fn the_queue_fills_while_somebody_looks() -> Result<()> {
    act("queue", async |demo, browser| {
        browser.go(&demo.at("/")).await?;
        mark(browser).await?;
        let first = browser.until("a row", async || Ok(rows(browser).await?.into_iter().next())).await?;
        browser.until("more rows", async || Ok((rows(browser).await?.len() >= 3).then_some(()))).await?;
        ensure!(is_marked(browser).await?, "the page was loaded again");
        ensure!(demo.says(&format!("alerts/{first}")).is_ok(), "{first} is no alert");
        Ok(())
    })
}

#[test]
fn an_alert_is_opened_owned_discussed_and_closed() -> Result<()> {
    act("triage", async |demo, browser| {
        let id = demo.active(1).await?.remove(0);
        browser.go(&demo.at("/")).await?;
        browser.leaving(async || browser.click(&format!("a[href='/alerts/{id}']")).await).await?;
        ensure!(browser.place().await? == format!("/alerts/{id}"));
        let title = browser.text("h1").await?;

        browser.press_button("Acknowledge").await?;
        browser.shows("#triage .status", "Acknowledged").await?;
        browser.write("#assignee", "ann").await?;
        browser.press_button("Save").await?;
        browser.shows("#triage header", "ann").await?;
        let text = "Seen before: the load test of <b>Tuesday</b> & its \"bots\".";
        browser.write("#comment", text).await?;
        browser.press_button("Save").await?;
        browser.shows("#history", text).await?;
        browser.press_button("False positive").await?;
        browser.shows("#triage .status", "Closed").await?;

        browser.reload().await?;
        browser.shows("#triage", "False positive").await?;
        browser.shows("#history", text).await?;
        let alert = demo.says(&format!("alerts/{id}"))?;
        ensure!(alert["triage"]["status"] == "closed" && alert["triage"]["assignee"] == "ann", "{alert}");
        browser.go(&demo.at("/")).await?;
        ensure!(!rows(browser).await?.contains(&id), "a closed alert stands among the open ones");
        browser.go(&demo.at("/?status=closed")).await?;
        browser.shows(&format!("[id='row-{id}']"), &title).await?;
        Ok(())
    })
}

#[test]
fn filters_are_in_the_address_and_find_what_they_say() -> Result<()> {
    act("filter", async |demo, browser| {
        let id = demo.active(2).await?.remove(0);
        let alert = demo.says(&format!("alerts/{id}"))?;
        let (severity, entity) = (alert["severity"].as_str(), alert["entity"]["value"].as_str());
        let (severity, entity) = (severity.context("a severity")?, entity.context("an entity")?);
        browser.go(&demo.at("/")).await?;
        browser.write("input[name=q]", entity).await?;
        browser.leaving(async || browser.key(ENTER).await).await?;
        ensure!(browser.place().await?.contains("q="), "{}", browser.place().await?);
        ensure!(rows(browser).await?.contains(&id), "{entity} does not find {id}");
        browser.go(&demo.at("/?q=nothing-has-this-name")).await?;
        browser.shows("main", "Nothing matches").await?;
        for level in ["critical", "high", "medium", "low"] {
            browser.go(&demo.at(&format!("/?severity={level}"))).await?;
            ensure!(rows(browser).await?.contains(&id) == (level == severity), "{level}: {id} is {severity}");
        }
        Ok(())
    })
}

#[test]
fn two_people_change_one_alert_and_the_second_is_told() -> Result<()> {
    act("conflict", async |demo, browser| {
        let id = demo.active(1).await?.remove(0);
        let other = Browser::start(Scripts::Run).await?;
        let both = async {
            let page = demo.at(&format!("/alerts/{id}"));
            browser.go(&page).await?;
            browser.write("#comment", "The load test.").await?;
            other.go(&page).await?;
            other.press_button("Acknowledge").await?;
            browser.press_button("Benign").await?;
            browser.shows("[role=alert]", "Not saved").await?;
            let typed = browser.script("return document.getElementById('comment').value").await?;
            ensure!(typed == "The load test.", "what was typed is lost: {typed}");
            // It is still there when the page has heard of something else.
            other.write("#comment", "Looking at it.").await?;
            other.press_button("Save").await?;
            browser.shows("#history", "Looking at it.").await?;
            let typed = browser.script("return document.getElementById('comment').value").await?;
            ensure!(typed == "The load test.", "what was typed is overwritten: {typed}");
            browser.shows("#triage .status", "Acknowledged").await?;
            let alert = demo.says(&format!("alerts/{id}"))?;
            ensure!(alert["triage"]["status"] == "acknowledged", "{alert}");
            Ok(())
        };
        let played = both.await;
        other.close().await?;
        played
    })
}

#[test]
fn a_page_that_lost_its_connection_says_so_and_comes_back() -> Result<()> {
    act("line", async |demo, browser| {
        let line = Line::to(&demo.address)?;
        browser.go(&format!("http://{}/", line.address)).await?;
        mark(browser).await?;
        browser.shows("#live", "Live").await?;
        line.cut();
        browser.shows("body", "Connection lost").await?;
        let known = rows(browser).await?.len();
        demo.active(known + 1).await?;
        line.mend();
        browser.until("new rows", async || Ok((rows(browser).await?.len() > known).then_some(()))).await?;
        ensure!(is_marked(browser).await?, "the page was loaded again");
        Ok(())
    })
}

#[test]
fn all_of_it_works_without_scripts() -> Result<()> {
    act_with("plain", Scripts::Off, async |demo, browser, _| {
        let id = demo.active(1).await?.remove(0);
        browser.go(&demo.at("/")).await?;
        browser.leaving(async || browser.click(&format!("a[href='/alerts/{id}']")).await).await?;
        browser.press_button("Acknowledge").await?;
        browser.shows("#triage .status", "Acknowledged").await?;
        browser.write("#comment", "by hand").await?;
        browser.press_button("Save").await?;
        browser.shows("#history", "by hand").await?;
        browser.press_button("True positive").await?;
        browser.shows("#triage .status", "Closed").await?;
        browser.go(&demo.at("/")).await?;
        ensure!(!rows(browser).await?.contains(&id));
        Ok(())
    })
}

/// Two active alerts, the first less severe than the second, each with its severity.
async fn unequal(demo: &Demo, browser: &Browser) -> Result<[(Severity, String); 2]> {
    browser
        .until("two severities", async || {
            let mut alerts = Vec::new();
            for id in demo.active(2).await? {
                let alert = demo.says(&format!("alerts/{id}"))?;
                let severity = alert["severity"].as_str().and_then(Severity::parse).context("a severity")?;
                alerts.push((severity, id));
            }
            alerts.sort();
            let (Some(least), Some(most)) = (alerts.first(), alerts.last()) else { return Ok(None) };
            Ok((least.0 < most.0).then(|| [least.clone(), most.clone()]))
        })
        .await
}

/// Opens a case from an alert's page and writes a note; gives the page's address.
async fn open_case(demo: &Demo, browser: &Browser, alert: &str, title: &str, note: &str) -> Result<String> {
    browser.go(&demo.at(&format!("/alerts/{alert}"))).await?;
    browser.write("#case-title", title).await?;
    browser.press_button("Open").await?;
    browser.shows("h1", title).await?;
    browser.write("#note", note).await?;
    browser.press_button("Add note").await?;
    browser.shows("#history", note).await?;
    browser.place().await
}

#[test]
fn two_cases_become_one_with_both_trails_and_the_highest_severity() -> Result<()> {
    act("merge", async |demo, browser| {
        let [(lower, mild), (higher, grave)] = unequal(demo, browser).await?;
        let first = open_case(demo, browser, &mild, "Scan of the edge", "The range of a partner.").await?;
        let severity = ".cols .head .sev";
        ensure!(browser.text(severity).await?.to_lowercase() == lower.name());
        let second = open_case(demo, browser, &grave, "Keys from elsewhere", "Asked the owner.").await?;
        let number = second.rsplit('/').next().context("a number")?;

        browser.go(&demo.at(&first)).await?;
        browser.write("#from", number).await?;
        browser.press_button("Merge").await?;
        ensure!(browser.place().await? == first, "{}", browser.place().await?);
        browser.shows("h1", "Scan of the edge").await?;
        ensure!(browser.text(severity).await?.to_lowercase() == higher.name(), "the highest severity stays");
        for alert in [&mild, &grave] {
            ensure!(
                !browser.all(&format!("#alerts a[href='/alerts/{alert}']")).await?.is_empty(),
                "no {alert}"
            );
        }
        let merged = format!("Case {number} merged in, with 1 alert");
        for moment in
            ["The range of a partner.", "Asked the owner.", &merged, &format!("case {number}: Opened")]
        {
            browser.shows("#history", moment).await?;
        }
        let case = demo.says(&first[1..])?;
        ensure!(case["severity"] == higher.name() && case["alert_count"] == 2, "{case}");

        // The other says where it went, keeps its trail, and takes nothing more.
        browser.leaving(async || browser.click(&format!("#history a[href='{second}']")).await).await?;
        browser.shows(".tag", "Merged into case").await?;
        browser.shows("#history", "Asked the owner.").await?;
        ensure!(browser.all("#from, #note").await?.is_empty(), "a merged case takes changes");
        browser.leaving(async || browser.click(&format!(".tag a[href='{first}']")).await).await?;
        ensure!(browser.place().await? == first);
        let complaints = browser.complaints().await?;
        ensure!(complaints.is_empty(), "{complaints:?}");
        Ok(())
    })
}

const TAB: char = '\u{E004}';
const ENTER: char = '\u{E007}';
const ESCAPE: char = '\u{E00C}';

/// Goes on with Tab until something has the focus whose name holds this; gives how many presses that took.
async fn tab_to(browser: &Browser, part: &str, most: usize) -> Result<usize> {
    let mut passed = Vec::new();
    for presses in 1..=most {
        browser.key(TAB).await?;
        let focus = browser.focus().await?;
        if focus.contains(part) {
            return Ok(presses);
        }
        passed.push(focus);
    }
    anyhow::bail!("{most} presses of Tab do not lead to {part}: {passed:#?}")
}

#[test]
fn hands_stay_on_the_keyboard() -> Result<()> {
    act("keyboard", async |demo, browser| {
        let id = demo.active(1).await?.remove(0);
        browser.go(&demo.at("/?state=active")).await?;
        tab_to(browser, "Skip to content", 1).await?;
        tab_to(browser, "Skip to the rows", 1).await?;
        browser.key(ENTER).await?;
        // The first row's box, whom it is about, and there it is.
        tab_to(browser, "/alerts/", 4).await?;
        tab_to(browser, &format!("/alerts/{id}"), 80).await?;
        browser.leaving(async || browser.key(ENTER).await).await?;
        // One key does it: acknowledge, begin a comment, leave it, save, close.
        browser.leaving(async || browser.key('a').await).await?;
        browser.shows("#triage .status", "Acknowledged").await?;
        browser.key('c').await?;
        for key in "scan 1".chars() {
            browser.key(key).await?;
        }
        browser.key(ESCAPE).await?;
        browser.leaving(async || browser.key('s').await).await?;
        browser.shows("#history", "scan 1").await?;
        browser.leaving(async || browser.key('3').await).await?;
        browser.shows("#triage", "False positive").await?;
        // And taken back, one change after the other.
        browser.leaving(async || browser.key('u').await).await?;
        browser.shows("#triage .status", "Acknowledged").await?;
        browser.leaving(async || browser.key('u').await).await?;
        browser.shows("#triage .status", "New").await?;
        Ok(())
    })
}

#[test]
fn one_key_closes_in_the_queue_and_one_takes_it_back() -> Result<()> {
    act("queue keys", async |demo, browser| {
        let id = demo.active(2).await?.remove(0);
        browser.go(&demo.at(&format!("/?status=all&q={id}"))).await?;
        browser.shows("#live", "Live").await?;
        mark(browser).await?;
        let status = format!("[id='row-{id}'] .status");
        browser.key('j').await?;
        browser.key('3').await?;
        browser.shows("#did", "1 closed as false positive").await?;
        browser.shows(&status, "Closed").await?;
        let alert = demo.says(&format!("alerts/{id}"))?;
        ensure!(alert["triage"]["disposition"] == "false_positive", "{alert}");
        browser.key('u').await?;
        browser.shows("#did", "1 as before").await?;
        browser.shows(&status, "New").await?;
        ensure!(demo.says(&format!("alerts/{id}"))?["triage"]["status"] == "new");
        // Several changes are taken back one after the other.
        for (key, shown) in [('a', "Acknowledged"), ('2', "Closed"), ('u', "Acknowledged"), ('u', "New")] {
            browser.key(key).await?;
            browser.shows(&status, shown).await?;
            browser
                .until("the answer", async || {
                    let alert = demo.says(&format!("alerts/{id}"))?;
                    let told = browser.text("#did").await?;
                    Ok((alert["triage"]["status"] == shown.to_lowercase() && told.starts_with("1 "))
                        .then_some(()))
                })
                .await?;
        }
        ensure!(is_marked(browser).await?, "the page was loaded again");
        Ok(())
    })
}

#[test]
fn a_page_to_which_nothing_new_comes_says_as_of_when_it_is() -> Result<()> {
    act("as of", async |demo, browser| {
        let id = demo.active(1).await?.remove(0);
        browser.go(&demo.at(&format!("/?status=all&sort=-count&q={id}"))).await?;
        browser.shows("#live", "As of ").await?;
        // The stream is there: a row that is shown changes in place.
        let other = Browser::start(Scripts::Run).await?;
        let changed = async {
            other.go(&demo.at(&format!("/alerts/{id}"))).await?;
            other.press_button("Acknowledge").await?;
            browser.shows(&format!("[id='row-{id}'] .status"), "Acknowledged").await?;
            let word = browser.text("#live").await?;
            ensure!(word.starts_with("As of ") && word.ends_with(" UTC, reload"), "{word}");
            browser.key('t').await?;
            browser.shows("#live", "Times are").await?;
            browser.shows("#live", "As of ").await?;
            browser.leaving(async || browser.click("#live a").await).await?;
            ensure!(browser.place().await?.contains("sort=-count"), "{}", browser.place().await?);
            Ok(())
        };
        let changed = changed.await;
        changed.and(other.close().await)
    })
}

#[test]
fn keys_in_a_row_all_count_and_nothing_stays_selected_after_going_back() -> Result<()> {
    act("keys in a row", async |demo, browser| {
        let id = demo.active(2).await?.remove(0);
        browser.go(&demo.at(&format!("/?status=all&q={id}"))).await?;
        browser.shows("#live", "Live").await?;
        // Both before the first was answered.
        let both = "for (const key of ['j', 'a', '3']) document.body.dispatchEvent(new KeyboardEvent('keydown', {key, bubbles: true, \
                    cancelable: true}));";
        browser.script(both).await?;
        browser.shows("#did", "1 closed as false positive").await?;
        let alert = demo.says(&format!("alerts/{id}"))?;
        ensure!(
            alert["triage"]["disposition"] == "false_positive" && alert["triage"]["version"] == 2,
            "{alert}"
        );

        browser.go(&demo.at("/?status=all")).await?;
        browser.shows("#live", "Live").await?;
        browser.key('j').await?;
        browser.key('x').await?;
        browser.shows("#chosen", "1 selected").await?;
        browser.go(&demo.at(&format!("/alerts/{id}"))).await?;
        browser.shows("#triage", "Triage").await?;
        browser.back().await?;
        browser.shows("#live", "Live").await?;
        let selected =
            browser.script("return document.querySelectorAll('.pick input:checked').length").await?;
        ensure!(selected == 0, "{selected} rows are selected that nobody selected on this page");
        // What was done on the pages before is taken back from here, too.
        browser.key('u').await?;
        browser.shows("#did", "1 as before").await?;
        ensure!(demo.says(&format!("alerts/{id}"))?["triage"]["status"] == "acknowledged");
        Ok(())
    })
}

#[test]
fn new_rows_wait_while_something_is_selected() -> Result<()> {
    act("queue waits", async |demo, browser| {
        demo.active(1).await?;
        browser.go(&demo.at("/")).await?;
        browser.shows("#live", "Live").await?;
        browser.key('j').await?;
        browser.key('x').await?;
        let held = rows(browser).await?;
        browser.shows("#chosen", "1 selected").await?;
        browser.shows("#new", "new").await?;
        ensure!(rows(browser).await? == held, "rows moved under the cursor");
        browser.key('.').await?;
        browser
            .until("the new rows", async || Ok((rows(browser).await?.len() > held.len()).then_some(())))
            .await
    })
}

#[test]
fn a_selection_is_changed_and_taken_back_without_scripts() -> Result<()> {
    act_with("bulk by hand", Scripts::Off, async |demo, browser, _| {
        let ids = demo.active(2).await?;
        let chosen = &ids[..2];
        browser.go(&demo.at("/?status=all")).await?;
        for id in chosen {
            browser.click(&format!("[id='row-{id}'] input[type=checkbox]")).await?;
        }
        browser.press_button("Benign").await?;
        browser.shows("#did", "2 changed").await?;
        for id in chosen {
            browser.shows(&format!("[id='row-{id}'] .status"), "Closed").await?;
        }
        browser.press_button("Undo").await?;
        for id in chosen {
            browser.shows(&format!("[id='row-{id}'] .status"), "New").await?;
        }
        Ok(())
    })
}
