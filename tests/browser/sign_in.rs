//! Signing in with a name and a password and out again, at a real `vedette run`.
//!
//! In: people whom `vedette user add` made, and what is typed. Out: what the pages show, and how they look. Invariants: no
//! password is in the log; the process does not outlive its test.

use std::{io::Write as _, process::Stdio};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};

use super::{
    act::wait,
    driver::{Browser, Scripts, axe},
    looks::{faults, look},
};
use crate::crash::program::Deployment;

/// Nobody listens there.
pub const NOWHERE: &str = "brokers: 127.0.0.1:9\ntopics: [{name: api, source: exchange_api}]";
const PASSWORD: &str = "correct horse battery";
/// The one answer to whatever was wrong.
const REFUSED: &str =
    "Name, password or code is wrong, or this user may not sign in. Nothing more is told here.";
const TAB: char = '\u{E004}';

/// A service with two users, and a browser before it.
struct Scene {
    service: String,
    browser: Browser,
    axe: String,
}

/// Has `vedette user add` make a user.
fn add(deployment: &Deployment, name: &str, role: &str) -> Result<()> {
    let mut command = deployment.command(&["user", "add", "--name", name, "--role", role])?;
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn()?;
    writeln!(child.stdin.take().context("standard input")?, "{PASSWORD}")?;
    let status = child.wait()?;
    ensure!(status.success(), "user add ends with {status}");
    Ok(())
}

fn play(name: &str, scripts: Scripts, act: impl AsyncFnOnce(&Scene) -> Result<()>) -> Result<()> {
    let Some(axe) = axe(name)? else { return Ok(()) };
    let deployment = Deployment::new(NOWHERE, "")?;
    for (name, role) in [("ann", "analyst"), ("lea", "admin")] {
        add(&deployment, name, role)?;
    }
    let mut process = deployment.run()?;
    let service = format!("http://{}", process.address()?);
    wait(async {
        let browser = Browser::start(scripts).await?;
        let scene = Scene { service, browser, axe };
        let played = act(&scene).await;
        let closed = scene.browser.close().await;
        played.and(closed)
    })?;
    let log = process.log().join("\n");
    ensure!(!log.contains(PASSWORD), "a password is in the log:\n{log}");
    process.stop().map(drop)
}

impl Scene {
    async fn go(&self, path: &str) -> Result<()> {
        self.browser.go(&format!("{}{path}", self.service)).await
    }

    /// Fills in the form that is shown and sends it.
    async fn attempt(&self, name: &str, password: &str) -> Result<()> {
        self.browser.write("#name", name).await?;
        self.browser.write("#password", password).await?;
        self.browser.press_button("Sign in").await
    }

    /// An error unless this is where the browser is.
    async fn is_at(&self, place: &str) -> Result<()> {
        let is = self.browser.place().await?;
        ensure!(is == place, "at {is}, not at {place}");
        Ok(())
    }

    /// The cookies that the browser keeps of the service.
    async fn cookies(&self) -> Result<Vec<Value>> {
        let kept = self.browser.devtools("Network.getCookies", json!({"urls": [self.service]})).await?;
        kept["cookies"].as_array().cloned().context("no cookies")
    }
}

/// In, out, and to pages behind it.
async fn in_and_out(scene: &Scene) -> Result<()> {
    let browser = &scene.browser;
    scene.go("/rules").await?;
    browser.shows("h1", "Sign in").await?;
    scene.is_at("/sign-in?next=%2Frules").await?;
    scene.attempt("ann", PASSWORD).await?;
    scene.is_at("/rules").await?;
    browser.shows(".person", "ann").await?;
    let cookies = scene.cookies().await?;
    ensure!(matches!(&*cookies, [one] if one["httpOnly"] == true && one["sameSite"] == "Lax"), "{cookies:?}");
    browser.press_button("Sign out").await?;
    scene.is_at("/sign-in").await?;
    ensure!(scene.cookies().await?.is_empty(), "the cookie stays");
    scene.go("/cases").await?;
    scene.is_at("/sign-in?next=%2Fcases").await?;
    let complaints = browser.complaints().await?;
    ensure!(complaints.is_empty(), "{complaints:?}");
    Ok(())
}

#[test]
fn somebody_signs_in_and_out() -> Result<()> {
    play("sign-in", Scripts::Run, async |scene| {
        in_and_out(scene).await?;
        // A page that the browser kept whole asks who is there, too.
        scene.go("/sign-in?next=%2Frules").await?;
        scene.attempt("ann", PASSWORD).await?;
        scene.browser.shows(".person", "ann").await?;
        scene.browser.press_button("Sign out").await?;
        scene.is_at("/sign-in").await?;
        scene.browser.back().await?;
        scene.browser.shows("h1", "Sign in").await
    })
}

#[test]
fn somebody_signs_in_and_out_without_scripts() -> Result<()> {
    play("sign-in without scripts", Scripts::Off, in_and_out)
}

#[test]
fn a_page_of_somebody_who_was_signed_out_elsewhere_says_so_and_leads_back() -> Result<()> {
    play("signed out elsewhere", Scripts::Run, async |scene| {
        scene.go("/sign-in?next=%2F%3Fstatus%3Dall").await?;
        scene.attempt("ann", PASSWORD).await?;
        scene.browser.shows("#live", "Live").await?;
        let elsewhere = "const form = document.querySelector(\"form[action='/sign-out']\"); \
                         fetch(form.action, {method: 'POST', body: new URLSearchParams(new FormData(form))});";
        scene.browser.script(elsewhere).await?;
        scene.browser.shows(".stale", "Signed out: nothing here is renewed").await?;
        scene.browser.click(".stale a").await?;
        scene.is_at("/sign-in?next=%2F%3Fstatus%3Dall").await
    })
}

#[test]
fn a_wrong_password_and_a_name_that_nobody_has_look_the_same() -> Result<()> {
    play("wrong password", Scripts::Run, async |scene| {
        let browser = &scene.browser;
        scene.go("/sign-in?next=%2Frules").await?;
        let mut pages = Vec::new();
        for (name, password) in [("ann", "incorrect horse"), ("nobody", PASSWORD)] {
            scene.attempt(name, password).await?;
            browser.shows("[role=alert]", REFUSED).await?;
            // The name stays, the password does not, and is what one types next.
            let typed = "return [document.getElementById('name').value, document.getElementById('password').value, \
                         document.activeElement.id]";
            let typed = browser.script(typed).await?;
            ensure!(typed == json!([name, "", "password"]), "{typed}");
            let page = browser.script("return document.body.innerHTML").await?;
            let page = page.as_str().context("a page")?.to_owned();
            pages.push(page.replace(&format!("value=\"{name}\""), ""));
        }
        ensure!(
            pages[0] == pages[1],
            "the page tells whether there is such a user:\n{}\n{}",
            pages[0],
            pages[1]
        );
        scene.attempt("ann", PASSWORD).await?;
        scene.is_at("/rules").await
    })
}

#[test]
fn who_tries_too_often_is_told_how_long_to_wait() -> Result<()> {
    play("too many attempts", Scripts::Run, async |scene| {
        let browser = &scene.browser;
        scene.go("/sign-in").await?;
        let mut wrong = 0;
        // The wait after the fifth is a second, and twice as long after each further one: a slow machine needs more of them.
        let seconds = loop {
            scene.attempt("ann", "incorrect horse").await?;
            let said = browser.text("#problem").await?;
            if let Some(rest) = said.strip_prefix("Too many attempts. Try again in ") {
                break rest.split(' ').next().unwrap_or_default().parse::<u64>()?;
            }
            wrong += 1;
            ensure!(said == REFUSED && wrong < 12, "after {wrong} wrong passwords: {said}");
        };
        ensure!(wrong >= 5 && (1..=60).contains(&seconds), "after {wrong} wrong passwords {seconds} s");
        // Others do not wait.
        scene.attempt("lea", PASSWORD).await?;
        browser.shows(".person", "lea").await?;
        browser.press_button("Sign out").await?;
        // Then it is over, for who has the right one.
        for _ in 0..60 {
            scene.attempt("ann", PASSWORD).await?;
            if browser.place().await? == "/" {
                return browser.shows(".person", "ann").await;
            }
            browser.shows("#problem", "Too many attempts").await?;
            tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        }
        bail!("ann never gets in again")
    })
}

#[test]
fn the_way_in_is_accessible_at_each_width() -> Result<()> {
    play("looks of signing in", Scripts::Run, async |scene| {
        let Scene { service, browser, axe } = scene;
        // What an empty window asks for is not the console's.
        scene.go("/sign-in").await?;
        browser.requests().await?;
        let mut wrong = look(service, browser, axe, "/sign-in", "/sign-in").await?;
        scene.go("/sign-in").await?;
        let mut order = vec![browser.focus().await?];
        for _ in 0..3 {
            browser.key(TAB).await?;
            order.push(browser.focus().await?);
        }
        ensure!(order == ["input name", "input password", "input code", "button Sign in"], "{order:?}");
        scene.attempt("lea", "incorrect horse").await?;
        wrong.extend(faults(browser, axe, "/sign-in/refused", &[1280, 390]).await?);
        // The browser complains of the refusal itself.
        browser.complaints().await?;
        scene.attempt("lea", PASSWORD).await?;
        wrong.extend(look(service, browser, axe, "/account/admin", "/account").await?);
        ensure!(wrong.is_empty(), "{} faults:\n{}", wrong.len(), wrong.join("\n"));
        Ok(())
    })
}
