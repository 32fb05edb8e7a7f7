//! A test of the console: a demo, a browser, and what somebody does with them.
//!
//! In: the test's name and what is done. Out: its error, after everything was ended in good order.

use anyhow::Result;

use super::{
    demo::Demo,
    driver::{Browser, Scripts, axe},
};

/// Runs it with scripts; says that it is skipped where there is no browser.
pub fn act(name: &str, play: impl AsyncFnOnce(&Demo, &Browser) -> Result<()>) -> Result<()> {
    act_with(name, Scripts::Run, async |demo, browser, _| play(demo, browser).await)
}

/// The same, with scripts or without, and with axe-core's text.
pub fn act_with(
    name: &str,
    scripts: Scripts,
    play: impl AsyncFnOnce(&Demo, &Browser, &str) -> Result<()>,
) -> Result<()> {
    let Some(axe) = axe(name)? else { return Ok(()) };
    let demo = Demo::start()?;
    wait(async {
        let browser = Browser::start(scripts).await?;
        let played = play(&demo, &browser, &axe).await;
        let closed = browser.close().await;
        played.and(closed)
    })
}

/// Waits for what is done in a browser.
pub fn wait<T>(future: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(future)
}
