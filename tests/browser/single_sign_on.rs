//! Signing in at a real provider, which is certified and another site: npm's `oidc-provider`, in a process of its own.
//!
//! In: what a person does at both. Out: what both show. Invariant: neither process outlives its test.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use super::{
    act::wait,
    driver::{Browser, Scripts, axe},
    sign_in::NOWHERE,
};
use crate::{
    binary::root,
    crash::program::{Deployment, Process},
};

/// The provider's process.
struct Provider(Child);

impl Provider {
    fn start(folder: &PathBuf, port: u16, service: &str) -> Result<Self> {
        let child = Command::new("node")
            .arg(root().join("tests/browser/provider.mjs"))
            .arg(folder)
            .args([&port.to_string(), service])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("node")?;
        let mut provider = Self(child);
        let out = provider.0.stdout.take().context("standard output")?;
        let mut lines = BufReader::new(out).lines();
        let ready = lines.by_ref().map_while(Result::ok).any(|line| line == "ready");
        ensure!(ready, "the provider ended before it was ready");
        // Read on, so that it never waits for room in the pipe.
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
        Ok(provider)
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A service that sends people to a provider, and the browser of one of them.
struct Scene {
    folder: PathBuf,
    port: u16,
    service: String,
    process: Process,
    browser: Browser,
    _deployment: Deployment,
}

/// A port that nobody has.
fn free() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// With the provider there from the start, or not. `client` is whose secret is configured.
fn play(
    name: &str,
    (client, there): (&str, bool),
    act: impl AsyncFnOnce(&mut Scene) -> Result<()>,
) -> Result<()> {
    if axe(name)?.is_none() {
        return Ok(());
    }
    let folder = std::env::var_os("VEDETTE_BROWSER").map(PathBuf::from).unwrap_or_default();
    let folder = folder.join("provider/node_modules/oidc-provider");
    if !folder.is_dir() {
        let why =
            format!("no {}; run `export VEDETTE_BROWSER=\"$(.ci/browser/fetch)\"` first", folder.display());
        crate::skipped::say(&format!("browser {name}"), &why);
        return Ok(());
    }
    let (port, listen) = (free()?, free()?);
    let service = format!("http://127.0.0.1:{listen}");
    let deployment = Deployment::new(NOWHERE, "")?;
    let secret = deployment.folder().join("secret");
    fs::write(&secret, format!("secret of {client}\n"))?;
    let oidc = format!(
        "{{name: Acme ID, issuer: 'http://localhost:{port}', client_id: vedette, client_secret_file: '{}', \
         roles: {{soc: analyst, leads: admin}}}}",
        secret.display()
    );
    let api = format!("{{listen: '127.0.0.1:{listen}', public_url: '{service}', oidc: {oidc}}}");
    deployment.configure_api(NOWHERE, &api)?;
    let _provider = there.then(|| Provider::start(&folder, port, &service)).transpose()?;
    let process = deployment.run()?;
    wait(async {
        let browser = Browser::start(Scripts::Run).await?;
        let mut scene = Scene { folder, port, service, process, browser, _deployment: deployment };
        scene.process.address()?;
        let played = act(&mut scene).await;
        let Scene { mut process, browser, .. } = scene;
        let closed = browser.close().await;
        played.and(closed)?;
        let log = process.log().join("\n");
        ensure!(!log.contains("secret of"), "the secret is in the log:\n{log}");
        process.stop().map(drop)
    })
}

impl Scene {
    fn provider(&self) -> Result<Provider> {
        Provider::start(&self.folder, self.port, &self.service)
    }

    async fn go(&self, path: &str) -> Result<()> {
        self.browser.go(&format!("{}{path}", self.service)).await
    }

    /// From the sign-in page to the provider's form, as this person, up to where the service answers.
    async fn sign_in(&self, name: &str) -> Result<()> {
        let browser = &self.browser;
        browser.leaving(async || browser.click("a.btn").await).await?;
        browser.write("input[name=login]", name).await?;
        browser.write("input[name=password]", "any").await?;
        browser.press_button("Sign-in").await?;
        browser.press_button("Continue").await
    }

    /// The cookie of a sign-in under way.
    async fn cookie(&self) -> Result<String> {
        let kept = self.browser.devtools("Network.getCookies", json!({"urls": [self.service]})).await?;
        let cookies = kept["cookies"].as_array().context("no cookies")?;
        let cookie = cookies.iter().find(|cookie| cookie["name"] == "vedette-sign-in");
        let cookie = cookie.context("no sign-in is under way")?;
        ensure!(cookie["httpOnly"] == true && cookie["sameSite"] == "Lax", "{cookie}");
        Ok(format!("vedette-sign-in={}", cookie["value"].as_str().unwrap_or_default()))
    }

    /// What the service answers to somebody who sends this, outside the browser.
    fn ask(&self, path: &str, cookie: &str) -> Result<String> {
        let host = self.service.trim_start_matches("http://");
        let mut stream = TcpStream::connect(host)?;
        stream.set_read_timeout(Some(Duration::from_secs(15)))?;
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: {host}\r\nAccept: text/html\r\nCookie: {cookie}\r\nConnection: close\r\n\r\n"
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }

    /// Path and query with which the provider last sent the browser back.
    async fn callback(&self) -> Result<String> {
        let urls = self.browser.requests().await?;
        let back = format!("{}/sign-in/callback?", self.service);
        let url = urls.into_iter().rfind(|url| url.starts_with(&back)).context("nobody came back")?;
        Ok(url[self.service.len()..].to_owned())
    }
}

#[test]
fn somebody_signs_in_at_the_provider_and_out_again() -> Result<()> {
    play("single sign-on", ("vedette", true), async |scene| {
        let browser = &scene.browser;
        scene.go("/rules").await?;
        browser.shows("h1", "Sign in").await?;
        browser.leaving(async || browser.click("a.btn").await).await?;
        browser.write("input[name=login]", "ann").await?;
        browser.write("input[name=password]", "any").await?;
        browser.press_button("Sign-in").await?;
        let cookie = scene.cookie().await?;
        browser.press_button("Continue").await?;
        ensure!(browser.place().await? == "/rules", "{}", browser.place().await?);
        browser.shows(".person", "ann").await?;
        ensure!(scene.cookie().await.is_err(), "it is over");
        // By somebody who saw all of it, and with a part that is changed.
        let callback = scene.callback().await?;
        let replayed = scene.ask(&callback, &cookie)?;
        ensure!(replayed.starts_with("HTTP/1.1 401") && !replayed.contains("vedette="), "{replayed}");
        ensure!(replayed.contains("Acme ID does not take this sign-in any more"), "{replayed}");
        let tampered = scene.ask(&callback.replacen("state=", "state=0", 1), &cookie)?;
        ensure!(tampered.starts_with("HTTP/1.1 401"), "{tampered}");
        ensure!(tampered.contains("was not begun in this browser"), "{tampered}");
        // The provider's own pages ask for letters from elsewhere.
        let complaints = browser.complaints().await?;
        ensure!(!complaints.iter().any(|complaint| complaint.contains(&scene.service)), "{complaints:?}");
        // A code that the provider gave out for its other client, brought into a sign-in that was begun here.
        let begun = scene.ask("/sign-in/begin", "")?;
        let head = |name: &str| {
            begun.lines().find_map(|line| line.strip_prefix(name)).with_context(|| begun.clone())
        };
        let cookie = head("set-cookie: ")?.split(';').next().unwrap_or_default();
        browser.go(&head("location: ")?.replace("client_id=vedette", "client_id=another")).await?;
        browser.press_button("Continue").await?;
        browser.shows("#problem", "was not begun in this browser").await?;
        let foreign = scene.ask(&scene.callback().await?, cookie)?;
        ensure!(foreign.starts_with("HTTP/1.1 401"), "{foreign}");
        ensure!(foreign.contains("Acme ID does not take this sign-in any more"), "{foreign}");
        scene.go("/rules").await?;

        browser.press_button("Sign out").await?;
        browser
            .shows("[role=status]", "You are signed out here, and may still be signed in at Acme ID")
            .await?;
        browser.leaving(async || browser.click("[role=status] a").await).await?;
        browser.press_button("Yes, sign me out").await?;
        ensure!(browser.place().await? == "/sign-in", "{}", browser.place().await?);
        // The provider asks anew, and the claim of this one gives no role.
        scene.sign_in("eve").await?;
        let said = "Acme ID knows you, but gives you no role here: the claim `groups` has to hold one of `leads`, `soc`, and \
                    it holds `guests`.";
        browser.shows("#problem", said).await?;
        ensure!(browser.place().await?.starts_with("/sign-in/callback?"));
        scene.go("/").await?;
        browser.shows("h1", "Sign in").await
    })
}

#[test]
fn a_provider_that_is_away_hinders_no_start_and_is_found_once_it_is_there() -> Result<()> {
    play("single sign-on away", ("vedette", false), async |scene| {
        let browser = &scene.browser;
        scene.process.says("the identity provider does not say what it is")?;
        scene.go("/overview").await?;
        browser
            .shows(".hint", "Acme ID did not answer when it was last asked. Signing in asks again.")
            .await?;
        browser.leaving(async || browser.click("a.btn").await).await?;
        browser.shows("#problem", "Acme ID does not answer at the moment.").await?;
        let _provider = scene.provider()?;
        // It is not asked again within some seconds.
        browser
            .until("the provider's form", async || {
                browser.click("a.btn").await?;
                tokio::time::sleep(Duration::from_millis(500)).await;
                Ok(browser.all("input[name=login]").await?.into_iter().next())
            })
            .await?;
        browser.write("input[name=login]", "lea").await?;
        browser.write("input[name=password]", "any").await?;
        browser.press_button("Sign-in").await?;
        browser.press_button("Continue").await?;
        ensure!(browser.place().await? == "/overview", "{}", browser.place().await?);
        scene.go("/account").await?;
        browser.shows(".head", "admin").await?;
        browser.shows("#users ~ *, [aria-labelledby=users]", "single sign-on").await
    })
}

#[test]
fn a_wrong_secret_lets_nobody_in() -> Result<()> {
    play("single sign-on with a wrong secret", ("another", true), async |scene| {
        let browser = &scene.browser;
        scene.go("/").await?;
        scene.sign_in("ann").await?;
        browser.shows("#problem", "Acme ID does not take this sign-in any more. Begin again.").await
    })
}
