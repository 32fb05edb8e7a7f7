//! The first minutes: a service in which nobody is yet, and a demo with rules of one's own.
//!
//! In: a configuration without users and tokens; a folder with one rule. Out: what the processes say, answer and find.

use std::{
    collections::BTreeSet,
    fs,
    io::Write as _,
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

use super::program::Folder;
use crate::{
    binary::root,
    browser::demo::Demo,
    crash::program::{Deployment, exchange, get},
};

/// Nobody listens there.
const NOWHERE: &str = "brokers: 127.0.0.1:9\ntopics: [{name: api, source: exchange_api}]";
const FIRST: &str = "vedette user add --name NAME --role admin";
const PASSWORD: &str = "correct horse battery";
const HTML: &str = "Accept: text/html\r\n";
/// All that a stranger is let to: whether it is well, the way in, and what the page of it looks like.
const OPEN: &[&str] = &[
    "GET /healthz",
    "GET /readyz",
    "GET /sign-in",
    "POST /sign-in",
    "GET /sign-in/begin",
    "GET /assets/{name}",
];

/// Method and path of every route, as the table of routes has them.
fn routes() -> Result<Vec<(String, String)>> {
    let table = fs::read_to_string(root().join("crates/api/src/access.rs"))?;
    let routes = table.lines().filter_map(|line| {
        let rest = line.trim().strip_prefix("(Method::")?;
        let (method, rest) = rest.split_once(", \"")?;
        Some((method.to_owned(), rest.split_once('"')?.0.to_owned()))
    });
    let routes: Vec<_> = routes.collect();
    ensure!(routes.len() > 100, "the table of routes is not read: {routes:?}");
    Ok(routes)
}

/// The routes that do not only say that one has to sign in.
fn open(address: &str) -> Result<BTreeSet<String>> {
    let mut open = BTreeSet::new();
    for (method, path) in routes()? {
        let parts = path.split('/').map(|part| if part.starts_with('{') { "1" } else { part });
        let asked = parts.collect::<Vec<_>>().join("/");
        for accepts in ["", HTML] {
            let (status, head, _) = exchange(&method, address, &asked, accepts, "")?;
            let led_away = status == 303 && head.to_lowercase().contains("\r\nlocation: /sign-in");
            // What bouncers are refused with is CrowdSec's own.
            let refused = status == 401 || status == 403 && path.starts_with("/v1/");
            if !refused && !led_away {
                open.insert(format!("{method} {path}"));
            }
        }
    }
    Ok(open)
}

#[test]
fn nothing_is_open_before_there_is_a_user_and_it_says_how_to_make_one() -> Result<()> {
    let deployment = Deployment::new(NOWHERE, "")?;
    let mut process = deployment.run()?;
    let said = process.says("nobody can come in yet")?;
    ensure!(said.contains(FIRST), "{said}");
    let address = process.address()?;
    ensure!(get(&address, "/healthz", "")?.0 == 200);
    let (status, page) = get(&address, "/sign-in", "")?;
    ensure!(status == 200 && page.contains(FIRST), "{status}: {page}");
    let open = open(&address)?;
    ensure!(open == OPEN.iter().map(|route| (*route).to_owned()).collect(), "open to strangers: {open:?}");

    // What it says is true: beside the running service, and at once.
    let mut command = deployment.command(&["user", "add", "--name", "ann", "--role", "admin"])?;
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    writeln!(child.stdin.take().context("standard input")?, "{PASSWORD}")?;
    ensure!(child.wait()?.success());
    let typed = format!("name=ann&password={}", PASSWORD.replace(' ', "+"));
    let form =
        format!("Content-Type: application/x-www-form-urlencoded\r\nOrigin: http://{address}\r\n{HTML}");
    let deadline = Instant::now() + Duration::from_secs(15);
    let cookie = loop {
        let (status, head, body) = exchange("POST", &address, "/sign-in", &form, &typed)?;
        let set = head.lines().find_map(|line| line.split_once("et-cookie: "));
        if let (303, Some((_, cookie))) = (status, set) {
            break cookie.split(';').next().unwrap_or_default().to_owned();
        }
        ensure!(Instant::now() < deadline, "ann is not let in: {status} {head} {body}");
        std::thread::sleep(Duration::from_millis(200));
    };
    let (status, _, page) = exchange("GET", &address, "/", &format!("Cookie: {cookie}\r\n{HTML}"), "")?;
    ensure!(status == 200 && page.contains("ann"), "{status}: {page}");
    process.stop()?;

    // Of the second start there is nothing to be said.
    let mut process = deployment.run()?;
    process.address()?;
    process.stop()?;
    let log = process.log().join("\n");
    ensure!(!log.contains("nobody can come in"), "{log}");
    Ok(())
}

const RULE: &str = "title: Somebody logs in\nid: 1c1c5dd4-7b3c-4d3f-9a53-0f3e8d7c1a55\nlogsource: {category: api}\nlevel: low\n\
                    detection:\n  selection:\n    user.name|exists: true\n  condition: selection\n";

#[test]
fn a_demo_of_ones_own_rules_has_them_in_force_and_no_others() -> Result<()> {
    let folder = Folder::new();
    folder.write("rules/own.yml", RULE);
    let rules = folder.path("rules").display().to_string();
    let demo = Demo::with(&["--rules", &rules])?;
    let deadline = Instant::now() + Duration::from_secs(60);
    let alert = loop {
        let alerts = demo.says("alerts?state=active,ended")?;
        if let Some(alert) = alerts["items"].get(0) {
            break alert.clone();
        }
        ensure!(Instant::now() < deadline, "no alert comes: {}", demo.says("rules")?);
        std::thread::sleep(Duration::from_millis(200));
    };
    ensure!(alert["rule"]["title"] == "Somebody logs in", "{alert}");
    let rules = demo.says("rules")?;
    let titles: Vec<_> =
        rules["items"].as_array().context("rules")?.iter().map(|rule| &rule["title"]).collect();
    ensure!(titles == ["Somebody logs in"] && rules["rejected"] == serde_json::json!([]), "{rules}");
    Ok(())
}
