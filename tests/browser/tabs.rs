//! Many open pages of one browser, which has six connections to a service.
//!
//! In: ten pages, of which one is seen at a time, as tabs are. Out: that each of them works, and how many streams they hold. Windows that are
//! put away stand for tabs, because without a screen a browser holds all tabs of a window for seen.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::time::timeout;

use super::act::act;

const PAGES: usize = 10;
const SOON: Duration = Duration::from_secs(30);

#[test]
fn ten_open_pages_hold_one_stream_and_the_tenth_acts() -> Result<()> {
    act("ten pages", async |demo, browser| {
        let id = demo.active(2).await?.remove(0);
        let (queue, alert) = (format!("/?status=all&q={id}"), format!("/alerts/{id}"));
        for n in 0..PAGES {
            if n > 0 {
                browser.put_away(true).await?;
                browser.another().await?;
            }
            // The first and the last are queues.
            let page = if (1..PAGES - 1).contains(&n) && n % 2 == 1 { &alert } else { &queue };
            let went = timeout(SOON, browser.go(&demo.at(page))).await;
            went.with_context(|| format!("page {n} does not load"))??;
            let one = async || Ok((demo.streams()? == 1).then_some(()));
            browser.until("one stream", one).await.with_context(|| format!("with {} pages", n + 1))?;
        }
        browser.shows("#live", "Live").await?;
        browser.key('j').await?;
        browser.key('2').await?;
        browser.shows("#did", "1 closed as benign").await?;
        ensure!(demo.says(&format!("alerts/{id}"))?["triage"]["disposition"] == "benign");
        // The first goes on where it was, when it is looked at again.
        browser.put_away(true).await?;
        browser.look_at(0).await?;
        browser.put_away(false).await?;
        browser.shows("#live", "Live").await?;
        browser.shows(&format!("[id='row-{id}'] .status"), "Closed").await?;
        let one = async || Ok((demo.streams()? == 1).then_some(()));
        browser.until("one stream", one).await
    })
}
