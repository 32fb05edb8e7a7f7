//! Every page of the console, found by following its links: accessible, without a complaint of the browser or a request
//! elsewhere, in light and dark.
//!
//! In: the console. Out: what axe-core finds wrong; pictures in the folder `VEDETTE_SCREENSHOTS`, if it names one.

use std::{collections::BTreeMap, path::PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::{
    act::act_with,
    content,
    demo::Demo,
    driver::{Browser, Scripts},
};

/// Pages of one shape (`/alerts/…`) are one page.
const MAX_PAGES: usize = 40;
/// Shapes whose pages are looked at on a telephone, too.
const NARROW: &[&str] = &["/", "/alerts/*", "/entities/*", "/entities/*/*", "/hunt", "/sign-in"];

/// To these links lead.
const NEEDED: &[&str] = &[
    "/",
    "/actions",
    "/actions/*",
    "/alerts/*",
    "/alerts/*/*",
    "/alerts/*/*/*",
    "/attack",
    "/audit",
    "/cases",
    "/cases/*",
    "/dead-letters",
    "/entities/*/*",
    "/guards",
    "/hunt",
    "/overview",
    "/playbooks",
    "/rules",
    "/rules/*",
    "/snoozes",
    "/sources",
    "/views",
];

/// The shape of a path: what stands for a name in it is a star.
fn shape(path: &str) -> String {
    let mut parts = path.trim_start_matches('/').split('/');
    let first = parts.next().unwrap_or_default();
    parts.fold(format!("/{first}"), |shape, _| shape + "/*")
}

#[test]
fn a_shape_is_what_pages_of_a_kind_share() {
    assert_eq!(shape("/"), "/");
    assert_eq!(shape("/rules"), "/rules");
    assert_eq!(shape("/alerts/4f"), "/alerts/*");
    assert_eq!(shape("/entities/ip/10.0.0.1"), "/entities/*/*");
}

/// One address for each shape that can be reached from `/`.
async fn pages(demo: &Demo, browser: &Browser) -> Result<BTreeMap<String, String>> {
    // Of alerts one that has a history, not the first in the queue, which may be a notice of this second.
    let alert = format!("/alerts/{}", demo.active(3).await?.remove(0));
    let mut found = BTreeMap::from([("/".to_owned(), "/".to_owned()), (shape(&alert), alert.clone())]);
    let mut open = vec!["/".to_owned(), alert];
    while let Some(path) = open.pop() {
        browser.go(&demo.at(&path)).await?;
        let links = "return [...document.querySelectorAll('a[href]:not([download])')].map(a => new URL(a.href)) \
                     .filter(u => u.origin === location.origin && !u.pathname.startsWith('/api/')).map(u => u.pathname)";
        for link in browser.script(links).await?.as_array().context("no links")? {
            let link = link.as_str().context("a link")?;
            found.entry(shape(link)).or_insert_with(|| {
                open.push(link.to_owned());
                link.to_owned()
            });
        }
        ensure!(found.len() <= MAX_PAGES, "so many kinds of pages? {found:?}");
    }
    Ok(found)
}

/// What axe-core finds wrong with the page.
async fn violations(browser: &Browser, axe: &str) -> Result<Vec<String>> {
    browser.script(axe).await?;
    let run = "const done = arguments[arguments.length - 1]; axe.run(document, {resultTypes: ['violations']}).then( \
               r => done(r.violations.flatMap(v => v.nodes.map(n => `${v.id}: ${n.target}: ${n.failureSummary}`))), \
               e => done([String(e)]))";
    let found = browser.script_later(run).await?;
    let texts = found.as_array().context("axe gives a list")?.iter();
    Ok(texts.filter_map(Value::as_str).map(str::to_owned).collect())
}

/// Makes the browser's window so wide, as high as the page, and light or dark.
async fn view(browser: &Browser, width: u32, scheme: &str) -> Result<()> {
    let media = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
    browser.devtools("Emulation.setEmulatedMedia", media).await?;
    let size = |height| json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
    browser.devtools("Emulation.setDeviceMetricsOverride", size(800)).await?;
    let height = browser.script("return document.documentElement.scrollHeight").await?.as_u64();
    let height = height.context("a height")?.clamp(800, 4_000);
    browser.devtools("Emulation.setDeviceMetricsOverride", size(height)).await?;
    Ok(())
}

/// Keeps a picture, where a folder for them is named.
async fn picture(browser: &Browser, shape: &str, width: u32, scheme: &str) -> Result<()> {
    let Some(folder) = std::env::var_os("VEDETTE_SCREENSHOTS").map(PathBuf::from) else { return Ok(()) };
    std::fs::create_dir_all(&folder)?;
    let name = match shape.trim_matches('/') {
        "" => "queue".to_owned(),
        name => name.replace("/*", "-one").replace('/', "-"),
    };
    Ok(std::fs::write(folder.join(format!("{name}-{width}-{scheme}.png")), browser.screenshot().await?)?)
}

/// What is wrong with the page that is shown, at these widths.
pub async fn faults(browser: &Browser, axe: &str, shape: &str, widths: &[u32]) -> Result<Vec<String>> {
    let mut wrong = Vec::new();
    let path = browser.place().await?;
    for width in widths {
        for scheme in ["light", "dark"] {
            view(browser, *width, scheme).await?;
            picture(browser, shape, *width, scheme).await?;
            let wide = browser.script("return document.documentElement.scrollWidth").await?.as_u64();
            if wide > Some(u64::from(*width)) {
                wrong.push(format!("{path} at {width}: {wide:?} wide"));
            }
            let found = violations(browser, axe).await?;
            wrong.extend(found.into_iter().map(|text| format!("{path} at {width}, {scheme}: {text}")));
        }
    }
    Ok(wrong)
}

/// What is wrong with one page of the console at `home`, and with what it asks for.
pub async fn look(home: &str, browser: &Browser, axe: &str, shape: &str, path: &str) -> Result<Vec<String>> {
    browser.go(&format!("{home}{path}")).await?;
    let widths: &[u32] = if NARROW.contains(&shape) { &[1280, 390] } else { &[1280] };
    let mut wrong = faults(browser, axe, shape, widths).await?;
    wrong.extend(browser.complaints().await?.into_iter().map(|text| format!("{path}: {text}")));
    let own = format!("{home}/");
    let foreign = browser.requests().await?.into_iter().filter(|url| !url.starts_with(&own));
    wrong.extend(foreign.map(|url| format!("{path} asks for {url}")));
    Ok(wrong)
}

#[test]
fn every_page_is_accessible_and_asks_nobody_else() -> Result<()> {
    act_with("looks", Scripts::Run, async |demo, browser, axe| {
        let filled = content::fill(demo).await?;
        let pages = pages(demo, browser).await?;
        browser.complaints().await?;
        browser.requests().await?;
        let (mut wrong, home) = (Vec::new(), demo.at(""));
        for (shape, path) in &pages {
            wrong.extend(look(&home, browser, axe, shape, path).await?);
        }
        for content::Page { shape, path, holds: (css, least) } in &filled {
            wrong.extend(look(&home, browser, axe, shape, path).await?);
            let found = browser.all(css).await?.len();
            ensure!(found >= *least, "{found} of {css} on {path}, at least {least}");
        }
        // What never finds anything proves nothing.
        browser.go(&demo.at("/")).await?;
        browser.script("document.documentElement.removeAttribute('lang')").await?;
        let control = violations(browser, axe).await?;
        ensure!(
            control.iter().any(|text| text.starts_with("html-has-lang:")),
            "a page without a language is no fault: {control:?}"
        );
        for needed in NEEDED {
            ensure!(pages.contains_key(*needed), "no link leads to {needed}: {pages:?}");
        }
        ensure!(wrong.is_empty(), "{} faults:\n{}", wrong.len(), wrong.join("\n"));
        Ok(())
    })
}
