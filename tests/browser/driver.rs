//! One browser: Chromium with an empty profile, and the driver that it is told through.
//!
//! In: what a person does (go, click, write, press a key). Out: what a person sees, and what the browser noticed. Invariants: it
//! reaches loopback only; every wait ends with an error that says what was waited for; neither browser nor driver outlives its
//! [`Browser`].

use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use fantoccini::{
    Client, ClientBuilder, Locator,
    actions::{InputSource, KeyAction, KeyActions},
    elements::Element,
    wd::WebDriverCompatibleCommand,
};
use http::Method;
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};
use url::{ParseError, Url};

/// How long anything may take.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// What Chromium is started with. It looks nothing up and asks no host but this one, and needs neither a sandbox of its own
/// (tests run as root in a container) nor a graphics card.
const FLAGS: &[&str] = &[
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--force-prefers-reduced-motion",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
    "--window-size=1280,900",
];

/// Whether the pages' scripts run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scripts {
    Run,
    Off,
}

/// A browser with one empty window.
pub struct Browser {
    client: Client,
    driver: Child,
    _profile: tempfile::TempDir,
}

impl Browser {
    pub async fn start(scripts: Scripts) -> Result<Self> {
        let profile = tempfile::Builder::new().prefix("vedette-browser-").tempdir()?;
        let (mut driver, port) = driver()?;
        match connect(port, profile.path(), scripts).await {
            Ok(client) => Ok(Self { client, driver, _profile: profile }),
            Err(error) => {
                end(&mut driver);
                Err(error)
            }
        }
    }

    /// Closes the window and ends the browser.
    pub async fn close(self) -> Result<()> {
        Ok(self.client.clone().close().await?)
    }

    pub async fn go(&self, url: &str) -> Result<()> {
        Ok(self.client.goto(url).await?)
    }

    pub async fn back(&self) -> Result<()> {
        Ok(self.client.back().await?)
    }

    pub async fn reload(&self) -> Result<()> {
        Ok(self.client.refresh().await?)
    }

    /// Opens another window beside the one that is looked at, and looks at that.
    pub async fn another(&self) -> Result<()> {
        let window = self.client.new_window(false).await?;
        Ok(self.client.switch_to_window(window.handle).await?)
    }

    /// Looks at the window that was opened as the n-th, from 0.
    pub async fn look_at(&self, n: usize) -> Result<()> {
        let window = self.client.windows().await?.into_iter().nth(n).context("no such window")?;
        Ok(self.client.switch_to_window(window).await?)
    }

    /// Puts the window away, or back on the screen; its page learns of it.
    pub async fn put_away(&self, away: bool) -> Result<()> {
        let window = self.devtools("Browser.getWindowForTarget", json!({})).await?;
        let state = if away { "minimized" } else { "normal" };
        let bounds = json!({"windowId": window["windowId"], "bounds": {"windowState": state}});
        self.devtools("Browser.setWindowBounds", bounds).await?;
        self.until("the page to learn of it", async || {
            Ok((self.script("return document.hidden").await? == away).then_some(()))
        })
        .await
    }

    /// Has a script run in each page before those of its own.
    pub async fn first(&self, script: &str) -> Result<()> {
        self.devtools("Page.addScriptToEvaluateOnNewDocument", json!({"source": script})).await.map(drop)
    }

    /// Path and query of the page.
    pub async fn place(&self) -> Result<String> {
        let url = self.client.current_url().await?;
        Ok(url[url::Position::BeforePath..url::Position::AfterQuery].to_owned())
    }

    /// What a script gives that runs in the page, past its content security policy.
    pub async fn script(&self, script: &str) -> Result<Value> {
        Ok(self.client.execute(script, Vec::new()).await?)
    }

    /// The same for one that calls its last argument with what it gives.
    pub async fn script_later(&self, script: &str) -> Result<Value> {
        Ok(self.client.execute_async(script, Vec::new()).await?)
    }

    /// The elements that a CSS selector finds.
    pub async fn all(&self, css: &str) -> Result<Vec<Element>> {
        Ok(self.client.find_all(Locator::Css(css)).await?)
    }

    /// The element that a CSS selector finds, as soon as it is there.
    pub async fn find(&self, css: &str) -> Result<Element> {
        self.until(css, async || Ok(self.all(css).await?.into_iter().next())).await
    }

    /// The text of it.
    pub async fn text(&self, css: &str) -> Result<String> {
        Ok(self.find(css).await?.text().await?)
    }

    /// Waits until the text of it holds this.
    pub async fn shows(&self, css: &str, part: &str) -> Result<()> {
        let what = format!("`{part}` in {css}");
        let holds = async || {
            // Between two looks the page may have put another element in its place.
            let Some(found) = self.all(css).await?.into_iter().next() else { return Ok(None) };
            let text = found.text().await.unwrap_or_default();
            Ok(text.contains(part).then_some(()))
        };
        self.until(&what, holds).await
    }

    /// Clicks what it finds.
    pub async fn click(&self, css: &str) -> Result<()> {
        let element = self.find(css).await?;
        element.click().await.with_context(|| format!("clicking {css}"))
    }

    /// Clicks the button with this name, beside which its key may stand, and waits for the page that its form leads to.
    pub async fn press_button(&self, name: &str) -> Result<()> {
        let xpath = format!("//button[normalize-space()='{name}' or normalize-space(text())='{name}']");
        let button = self.client.find(Locator::XPath(&xpath)).await;
        let button = button.with_context(|| format!("there is no button `{name}`"))?;
        self.leaving(async || Ok(button.click().await?)).await
    }

    /// Does what leads to another page, and waits until that is there.
    pub async fn leaving(&self, act: impl AsyncFnOnce() -> Result<()>) -> Result<()> {
        let before = self.client.find(Locator::Css("html")).await?;
        act().await?;
        // The old page's element is found no longer once the new one is there.
        self.until("another page", async || Ok(before.tag_name().await.is_err().then_some(()))).await?;
        self.until("a whole page", async || {
            let state = self.script("return document.readyState").await?;
            Ok((state == "complete").then_some(()))
        })
        .await
    }

    /// Writes over what stands in a field.
    pub async fn write(&self, css: &str, text: &str) -> Result<()> {
        let field = self.find(css).await?;
        field.clear().await?;
        Ok(field.send_keys(text).await?)
    }

    /// Presses and releases one key, wherever the focus is.
    pub async fn key(&self, key: char) -> Result<()> {
        let actions = KeyActions::new("keyboard".to_owned())
            .then(KeyAction::Down { value: key })
            .then(KeyAction::Up { value: key });
        Ok(self.client.perform_actions(actions).await?)
    }

    /// Presses and releases one key while another is held down.
    pub async fn key_with(&self, held: char, key: char) -> Result<()> {
        let actions = KeyActions::new("keyboard".to_owned())
            .then(KeyAction::Down { value: held })
            .then(KeyAction::Down { value: key })
            .then(KeyAction::Up { value: key })
            .then(KeyAction::Up { value: held });
        Ok(self.client.perform_actions(actions).await?)
    }

    /// What has the focus: its tag, what it is called, and its address.
    pub async fn focus(&self) -> Result<String> {
        let focus = "const e = document.activeElement; return e.tagName.toLowerCase() + ' ' + \
                     (e.getAttribute('aria-label') || e.innerText || e.name || '').trim() + ' ' + (e.getAttribute('href') || '')";
        Ok(self.script(focus).await?.as_str().unwrap_or_default().trim_end().to_owned())
    }

    /// Asks again and again; an error if it never holds.
    pub async fn until<T>(&self, what: &str, mut holds: impl AsyncFnMut() -> Result<Option<T>>) -> Result<T> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(found) = holds().await? {
                return Ok(found);
            }
            if Instant::now() > deadline {
                let body = self.script("return document.body.innerText").await?;
                bail!(
                    "waited in vain for {what} at {}:\n{}",
                    self.place().await?,
                    body.as_str().unwrap_or("?")
                );
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// What the window shows, as a PNG.
    pub async fn screenshot(&self) -> Result<Vec<u8>> {
        Ok(self.client.screenshot().await?)
    }

    /// A command of Chromium's own protocol.
    pub async fn devtools(&self, cmd: &str, params: Value) -> Result<Value> {
        let body = json!({"cmd": cmd, "params": params});
        Ok(self.client.issue_cmd(Chromium { end: "goog/cdp/execute", body }).await?)
    }

    /// What the browser complained of since it was last asked: errors of scripts and what the page's policy forbade.
    pub async fn complaints(&self) -> Result<Vec<String>> {
        let log = self.log("browser").await?;
        let grave = log.iter().filter(|entry| entry["level"] == "SEVERE");
        Ok(grave.map(|entry| entry["message"].to_string()).collect())
    }

    /// All that pages asked for since it was last asked.
    pub async fn requests(&self) -> Result<Vec<String>> {
        let mut urls = Vec::new();
        for entry in self.log("performance").await? {
            let message: Value = serde_json::from_str(entry["message"].as_str().unwrap_or_default())?;
            let message = &message["message"];
            if message["method"] == "Network.requestWillBeSent" {
                urls.push(message["params"]["request"]["url"].as_str().unwrap_or_default().to_owned());
            }
        }
        Ok(urls)
    }

    async fn log(&self, kind: &str) -> Result<Vec<Value>> {
        let log = self.client.issue_cmd(Chromium { end: "se/log", body: json!({"type": kind}) }).await?;
        Ok(log.as_array().cloned().unwrap_or_default())
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        end(&mut self.driver);
    }
}

/// A driver that is ready, and its port. The one that it is given for IPv4 can be taken for IPv6; then it ends, and another is tried.
fn driver() -> Result<(Child, u16)> {
    let mut tries = 0;
    loop {
        let mut driver = Command::new("chromedriver")
            .arg("--port=0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("chromedriver")?;
        match port(&mut driver) {
            Ok(port) => return Ok((driver, port)),
            Err(error) => {
                end(&mut driver);
                tries += 1;
                if tries == 4 {
                    return Err(error);
                }
            }
        }
    }
}

/// Ends a driver, which ends its browser when it is asked to stop, but not when it is killed.
fn end(driver: &mut Child) {
    let asked = Command::new("kill").args(["-TERM", &driver.id().to_string()]).status();
    let deadline = Instant::now() + Duration::from_secs(10);
    while asked.is_ok() && driver.try_wait().is_ok_and(|status| status.is_none()) && Instant::now() < deadline
    {
        std::thread::sleep(Duration::from_millis(20));
    }
    let _ = driver.kill();
    let _ = driver.wait();
}

/// The port that the driver took.
fn port(driver: &mut Child) -> Result<u16> {
    let out = driver.stdout.take().context("the driver's output")?;
    let mut lines = BufReader::new(out).lines();
    let said = "was started successfully on port ";
    let line = lines.by_ref().map_while(Result::ok).find(|line| line.contains(said));
    let line = line.context("chromedriver ended before it was ready")?;
    // Read on, so that it never waits for room in the pipe.
    std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
    let port = line.split(said).nth(1).context("no port")?.trim_end_matches('.');
    Ok(port.parse()?)
}

async fn connect(port: u16, profile: &Path, scripts: Scripts) -> Result<Client> {
    let flags = FLAGS.iter().map(|flag| (*flag).to_owned());
    let flags: Vec<_> = flags.chain([format!("--user-data-dir={}", profile.display())]).collect();
    let javascript = if scripts == Scripts::Run { 1 } else { 2 };
    let wanted = json!({
        "browserName": "chrome",
        "goog:chromeOptions": {
            "args": flags,
            "prefs": {"profile.managed_default_content_settings.javascript": javascript},
        },
        "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
    });
    let Value::Object(wanted) = wanted else { bail!("capabilities are an object") };
    let mut builder = ClientBuilder::new(HttpConnector::new());
    Ok(builder.capabilities(wanted).connect(&format!("http://127.0.0.1:{port}")).await?)
}

/// A command that WebDriver itself does not have.
#[derive(Debug)]
struct Chromium {
    end: &'static str,
    body: Value,
}

impl WebDriverCompatibleCommand for Chromium {
    fn endpoint(&self, base: &Url, session: Option<&str>) -> Result<Url, ParseError> {
        base.join(&format!("session/{}/{}", session.unwrap_or_default(), self.end))
    }

    fn method_and_body(&self, _: &Url) -> (Method, Option<String>) {
        (Method::POST, Some(self.body.to_string()))
    }
}

/// axe-core's text, or a word that the test is skipped.
pub fn axe(test: &str) -> Result<Option<String>> {
    let skip = |why: &str| {
        let remedy = "run `export VEDETTE_BROWSER=\"$(.ci/browser/fetch)\"` first";
        crate::skipped::say(&format!("browser {test}"), &format!("{why}; {remedy}"));
        Ok(None)
    };
    let Some(folder) = std::env::var_os("VEDETTE_BROWSER") else {
        return skip("VEDETTE_BROWSER names no folder with axe-core");
    };
    for program in ["chromium", "chromedriver"] {
        let found =
            Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        if !found.is_ok_and(|status| status.success()) {
            return skip(&format!("no {program}"));
        }
    }
    let path = PathBuf::from(folder).join("axe.min.js");
    if !path.is_file() {
        return skip(&format!("no {}", path.display()));
    }
    let text = std::fs::read_to_string(path)?;
    ensure!(text.contains("axe"), "this is not axe-core");
    Ok(Some(text))
}
