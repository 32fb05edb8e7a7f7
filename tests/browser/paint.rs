//! How long somebody waits before a screen: from the address to the first paint, from a key to the paint that answers it.
//!
//! In: the address of a service with many alerts (`VEDETTE_LOOK_AT`), such as `cargo bench -p vedette-api --bench pages -- --ask 0 --port 8099
//! --minutes 5` serves. Out: milliseconds, half and most of each. A measurement, which says nothing on a machine that does other things.

use anyhow::{Context, Result, bail};

use super::{
    act::wait,
    driver::{Browser, Scripts, axe},
};

const ROUNDS: usize = 20;
const REST: std::time::Duration = std::time::Duration::from_secs(2);
const ENTER: char = '\u{e007}';

/// From a key's event to the end of the frame that follows it.
const LISTEN: &str = "
    window.took = [];
    document.addEventListener('keydown', (event) => {
        sessionStorage.setItem('pressed', performance.timeOrigin + event.timeStamp);
        requestAnimationFrame(() => {
            const painted = new MessageChannel();
            painted.port1.onmessage = () => window.took.push(performance.now() - event.timeStamp);
            painted.port2.postMessage(0);
        });
    }, true);";
const PAINTED: &str = "return performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? null";
const SINCE_KEY: &str = "const paint = performance.getEntriesByName('first-contentful-paint')[0];
    return paint ? performance.timeOrigin + paint.startTime - sessionStorage.getItem('pressed') : null";

fn tell(what: &str, mut took: Vec<f64>) {
    took.sort_by(f64::total_cmp);
    let (half, most) = (took.get(took.len() / 2), took.last());
    println!("{what:<32} half {:>6.1} ms, most {:>6.1} ms", half.unwrap_or(&0.0), most.unwrap_or(&0.0));
}

/// What a script says once it says something.
async fn said(browser: &Browser, script: &str) -> Result<f64> {
    browser.until("a paint", async || Ok(browser.script(script).await?.as_f64())).await
}

/// How long each press of a key took until its paint.
async fn keys(browser: &Browser, keys: &[char]) -> Result<Vec<f64>> {
    let before = browser.script("return window.took.length").await?.as_u64().context("a number")?;
    for key in keys {
        browser.key(*key).await?;
    }
    let all = before + keys.len() as u64;
    browser
        .until("paints", async || {
            Ok((browser.script("return window.took.length").await? == all).then_some(()))
        })
        .await?;
    let took = browser.script("return window.took").await?;
    let took = took.as_array().context("a list")?.iter().skip(before as usize);
    Ok(took.filter_map(serde_json::Value::as_f64).collect())
}

#[test]
#[ignore = "a measurement: VEDETTE_LOOK_AT=http://127.0.0.1:8099 cargo test -p vedette-tests -- browser::paint --ignored --nocapture"]
fn measure_paints() -> Result<()> {
    if axe("paints")?.is_none() {
        return Ok(());
    }
    let Ok(home) = std::env::var("VEDETTE_LOOK_AT") else { bail!("VEDETTE_LOOK_AT names no service") };
    wait(async {
        let browser = Browser::start(Scripts::Run).await?;
        // A browser that still starts has both of two cores. Its cache is empty all the same.
        tokio::time::sleep(REST).await;
        let looked = async {
            for page in ["/", "/?group=entity", "/?q=storm", "/overview"] {
                let mut took = Vec::new();
                for _ in 0..ROUNDS {
                    browser.go(&format!("{home}{page}")).await?;
                    took.push(said(&browser, PAINTED).await?);
                }
                tell(&format!("first paint of {page}"), took);
            }
            browser.go(&format!("{home}/")).await?;
            browser.script(LISTEN).await?;
            tell("j", keys(&browser, &['j'; ROUNDS]).await?);
            tell("k", keys(&browser, &['k'; ROUNDS]).await?);
            tell("x", keys(&browser, &['x'; ROUNDS]).await?);
            for key in ['a', '3', 'u'] {
                tell(&key.to_string(), keys(&browser, &[key; ROUNDS]).await?);
            }
            let mut took = Vec::new();
            for _ in 0..ROUNDS {
                browser.go(&format!("{home}/")).await?;
                browser.script(LISTEN).await?;
                browser.key('j').await?;
                browser.leaving(async || browser.key(ENTER).await).await?;
                took.push(said(&browser, SINCE_KEY).await?);
            }
            tell("Enter to the alert's first paint", took);
            Ok(())
        };
        let looked = looked.await;
        looked.and(browser.close().await)
    })
}
