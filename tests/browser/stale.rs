//! What a page says while nothing is heard from the service, and that it is heard each 15 seconds otherwise.
//!
//! In: a demo that stands still, a line that is cut or deaf. Out: the grey word over each page, and when it comes and goes.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tokio::time::sleep;

use super::{
    act::{act, act_with},
    analyst::{is_marked, mark, rows},
    driver::{Browser, Scripts},
    line::Line,
    looks::faults,
};

/// Between two words of the service while nothing happens, and after how long without one a page says so.
const BEAT: Duration = Duration::from_secs(15);
const STALE: Duration = Duration::from_secs(30);
/// A page looks at its clock each three seconds, one without a stream asks each 15, and machines are busy.
const SLACK: Duration = Duration::from_secs(22);

async fn is_stale(browser: &Browser) -> Result<bool> {
    Ok(!browser.all(".stale").await?.is_empty())
}

/// Waits until the page says that it is stale, which it must do in time, and in grey.
async fn turns_stale(browser: &Browser, since: Instant) -> Result<()> {
    browser.shows(".stale", "Stale since ").await?;
    let took = since.elapsed();
    ensure!(took < STALE + SLACK, "{} says after {took:?} that it is stale", browser.place().await?);
    let colour =
        browser.script("return getComputedStyle(document.querySelector('.stale')).backgroundColor").await?;
    let parts = colour.as_str().context("a colour")?.trim_start_matches("rgb(").trim_end_matches(')');
    let parts: Vec<i32> = parts.split(", ").filter_map(|part| part.parse().ok()).collect();
    let (least, most) = (parts.iter().min().context("no parts")?, parts.iter().max().context("no parts")?);
    ensure!(parts.len() == 3 && most - least < 24, "{colour} is not grey");
    Ok(())
}

async fn is_fresh_again(browser: &Browser) -> Result<()> {
    browser.until("a page that is not stale", async || Ok((!is_stale(browser).await?).then_some(()))).await
}

#[test]
fn a_service_that_stands_still_is_told_of_on_each_page_until_it_goes_on() -> Result<()> {
    act_with("stands still", Scripts::Run, async |demo, browser, axe| {
        let alert = format!("/alerts/{}", demo.active(1).await?.remove(0));
        // Windows side by side, all of them seen.
        let pages = ["/", &alert, "/overview"];
        for (n, page) in pages.iter().enumerate() {
            if n > 0 {
                browser.another().await?;
            }
            browser.go(&demo.at(page)).await?;
            mark(browser).await?;
        }
        browser.look_at(0).await?;
        browser.shows("#live", "Live").await?;
        browser.until("both streams", async || Ok((demo.streams()? == 2).then_some(()))).await?;
        demo.signal("STOP")?;
        let stopped = Instant::now();
        sleep(BEAT - Duration::from_secs(5)).await;
        for (n, page) in pages.iter().enumerate() {
            browser.look_at(n).await?;
            ensure!(!is_stale(browser).await?, "{page} is stale after {:?}", stopped.elapsed());
        }
        for n in 0..pages.len() {
            browser.look_at(n).await?;
            turns_stale(browser, stopped).await?;
        }
        browser.look_at(0).await?;
        let wrong = faults(browser, axe, "/stale", &[1280]).await?;
        ensure!(wrong.is_empty(), "{wrong:?}");
        demo.signal("CONT")?;
        for (n, page) in pages.iter().enumerate() {
            browser.look_at(n).await?;
            is_fresh_again(browser).await?;
            ensure!(is_marked(browser).await?, "{page} was loaded again");
        }
        browser.look_at(0).await?;
        browser.shows("#live", "Live").await
    })
}

#[test]
fn a_line_that_stays_cut_makes_a_page_stale_until_it_is_mended() -> Result<()> {
    act("stays cut", async |demo, browser| {
        let line = Line::to(&demo.address)?;
        browser.go(&format!("http://{}/", line.address)).await?;
        browser.shows("#live", "Live").await?;
        line.cut();
        let cut = Instant::now();
        browser.shows("#live", "Connection lost").await?;
        ensure!(!is_stale(browser).await?, "stale at once");
        turns_stale(browser, cut).await?;
        ensure!(cut.elapsed() > BEAT - Duration::from_secs(1), "stale after {:?}", cut.elapsed());
        line.mend();
        is_fresh_again(browser).await?;
        browser.shows("#live", "Live").await
    })
}

#[test]
fn a_page_whose_connection_went_deaf_takes_another() -> Result<()> {
    act("deaf", async |demo, browser| {
        let line = Line::to(&demo.address)?;
        browser.go(&format!("http://{}/", line.address)).await?;
        browser.shows("#live", "Live").await?;
        line.deafen();
        let deaf = Instant::now();
        // What was on its way has come.
        sleep(Duration::from_secs(1)).await;
        let known = rows(browser).await?.len();
        demo.active(known + 1).await?;
        browser.until("new rows", async || Ok((rows(browser).await?.len() > known).then_some(()))).await?;
        let took = deaf.elapsed();
        ensure!(took > STALE - BEAT, "after {took:?} it heard of them over the deaf one: {known}");
        ensure!(!is_stale(browser).await?, "stale though it hears again");
        Ok(())
    })
}

#[test]
fn a_service_where_nothing_happens_is_heard_each_15_seconds() -> Result<()> {
    act("heartbeat", async |demo, browser| {
        browser.go(&demo.at("/?q=nothing-has-this-name")).await?;
        browser.shows("#live", "Live").await?;
        let listen = "window.beats = []; const stream = new EventSource(document.getElementById('live').dataset.stream); \
                      stream.addEventListener('quiet', () => beats.push(performance.now()));";
        browser.script(listen).await?;
        let all = browser
            .until("three beats", async || {
                let beats = browser.script("return window.beats").await?;
                Ok(beats.as_array().filter(|beats| beats.len() >= 3).cloned())
            })
            .await?;
        let times: Vec<f64> = all.iter().filter_map(Value::as_f64).collect();
        for pair in times.windows(2) {
            let apart = Duration::from_secs_f64((pair[1] - pair[0]) / 1_000.0);
            let off = apart.abs_diff(BEAT);
            ensure!(off < Duration::from_secs(3), "{apart:?} between two words: {times:?}");
        }
        sleep(Duration::from_secs(5)).await;
        ensure!(!is_stale(browser).await?, "stale though something was heard");
        Ok(())
    })
}
