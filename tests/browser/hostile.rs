//! Hostile content in every field that a page shows: it stays text, in its place, and short.
//!
//! In: a service in this process over a store and a rule set of which every text is an attack. Out: what a real browser makes of each page.

use std::{collections::BTreeMap, sync::Arc};

use anyhow::{Context, Result, ensure};
use serde_json::{Value as Json, json};
use vedette_api::live::{
    Coverage, Degradation, Degraded, Health, Live, LiveView, Mode, Rejected, RuleStatus, SourceStatus,
    TimeSource, TopicState, TopicStatus,
};
use vedette_event::{
    Alert, Entity, Evidence, Flags, Micros, Notice, RuleIx, RuleRef, Severity, Span, State, Value,
    alert::{Number, references},
};
use vedette_store::{
    Access, Store, StoreSettings,
    model::{
        AlertRevision, Content, EvidenceContent, EvidenceOf, HealthEvent, NewDeadLetter, NewNotice,
        Publication,
    },
};

use super::{
    act::wait,
    driver::{Browser, Scripts, axe},
    hostile_acts::{NAME, respond},
};
use crate::served;

pub const ID: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const NOTICE: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";
/// Characters of a text, of a row's title and summary together, and of what is looked at by itself: 4,096, twice 300 and two megabytes with what
/// hidden ones are written as; and characters of a page, and of one that shows an event or a document as a whole.
const CELL: u64 = 4_096 + 1_024;
const ROW: u64 = 2 * (300 + 600);
const WHOLE: u64 = (2 << 20) + 1_024;
const PAGE: u64 = 512 * 1024;
const PAGES_OF_WHOLE: u64 = 8 << 20;

/// What breaks out of an element, an attribute, a script and a line, and moves what stands beside it.
pub fn attack(place: &str) -> String {
    let script = format!("window.hurt=`{place}`");
    let tower = "Z\u{334}\u{351}\u{306}".to_owned() + &"\u{310}".repeat(60);
    format!(
        "{place} \"'`><script>{script}</script><img src=x onerror={script}></title></textarea></style></svg>--> \
         javascript:{script} \u{202e}drow\u{2067}\u{200b}\u{0}\u{1b}[2J\r\n\u{85}{{{{7*7}}}}%0a&lt;&#x3c;{tower} {}",
        "W".repeat(400)
    )
}

/// The same, a megabyte of it.
pub fn long(place: &str) -> String {
    attack(place) + &"W".repeat(1 << 20)
}

fn text(value: &str) -> Value {
    Value::Text(value.into())
}

/// As long as the engine leaves a part of a key.
fn entity() -> Entity {
    Entity { kind: "user.name".into(), value: text(&attack("entity")) }
}

fn rule() -> Arc<RuleRef> {
    Arc::new(RuleRef {
        id: attack("id").into(),
        title: long("title").into(),
        level: Severity::Critical,
        kind: "event_count".into(),
        version: attack("version").into(),
        tags: [Arc::from(attack("tag")), Arc::from("attack.t1110"), Arc::from(long("tag"))].into(),
    })
}

fn key() -> BTreeMap<Arc<str>, Value> {
    let parts = [("user.name", "entity"), ("<b>key</b>", "key")];
    parts.into_iter().map(|(name, value)| (Arc::from(name), text(&attack(value)))).collect()
}

fn evidence(at: Micros) -> Vec<Evidence> {
    let one = |offset| Evidence {
        topic: attack("topic").into(),
        incarnation: 0,
        partition: 0,
        offset,
        index: 0,
        time: at,
        flags: Flags::NONE,
    };
    (0..3).map(one).collect()
}

fn alert(at: Micros, revision: u32) -> Alert {
    let explanation = json!({
        "type": "event_count", "rules": [attack("rules")], "group_by": [attack("group")], "window": attack("window"),
        "condition": {"gte": 3, "field": attack("field")}, "children_total": 1,
        "children": [{"rule": {"id": attack("child"), "title": long("child"), "level": "low", "type": "single",
            "version": "1", "tags": []}, "key": {"user.name": long("child")}, "first_seen": at, "crossed_at": at,
            "last_seen": at, "count": 1, "value": 1, "evidence": [], "flags": []}],
    });
    Alert {
        alert_id: ID.into(),
        revision,
        state: State::Active,
        continuation: false,
        rule: rule(),
        key: key(),
        entity: Some(entity()),
        first_seen: at,
        crossed_at: at,
        last_seen: at,
        count: u64::from(revision),
        value: Number::Int(1),
        severity: Severity::Critical,
        risk: 1,
        summary: long("summary"),
        evidence: evidence(at),
        evidence_total: 3,
        explanation: serde_json::from_value(explanation).expect("an explanation"),
        flags: Flags::NONE,
    }
}

fn revision(at: Micros, revision: u32) -> Result<AlertRevision> {
    let alert = alert(at, revision);
    Ok(AlertRevision::of(&alert, vec![attack("source")], at.plus(Span::secs(300)))?)
}

fn notice(at: Micros) -> Result<NewNotice> {
    let notice = Notice {
        notice_id: NOTICE.into(),
        rule_ix: RuleIx(0),
        rule: rule(),
        key: BTreeMap::new(),
        entity: Some(Entity { kind: "<i>host</i>".into(), value: text(&attack("host")) }),
        crossed_at: at,
        count: 1,
        value: Number::Int(1),
        severity: Severity::Low,
        summary: long("notice"),
        evidence: evidence(at),
    };
    Ok(NewNotice::of(&notice, vec![attack("source")])?)
}

/// An event of which every name and every value is one, as JSON; a text that is none; a refusal.
async fn contents(store: &Store, at: Micros) -> Result<()> {
    let event = json!({
        "user.name": attack("entity"), attack("name"): attack("value"), "long": long("value"),
        "list": [attack("item"), {"deep": long("deep")}], "event.original": long("original"),
    });
    let content = [
        Content::Present(event.to_string()),
        Content::Present(long("no JSON")),
        Content::Undecodable(long("undecodable")),
    ];
    let body = serde_json::to_string(&alert(at, 1))?;
    let contents = references(&body).into_iter().zip(content).map(|(evidence, content)| EvidenceContent {
        topic: evidence.topic.to_string(),
        incarnation: evidence.incarnation,
        partition: evidence.partition,
        offset: evidence.offset,
        index: evidence.index,
        content,
    });
    store.store_evidence(&[EvidenceOf { id: ID.to_owned(), contents: contents.collect() }]).await?;
    Ok(())
}

async fn fill(store: &Store, at: Micros) -> Result<()> {
    let letter = |offset, payload: &[u8]| NewDeadLetter {
        source: attack("source"),
        topic: attack("topic"),
        partition: 0,
        offset,
        index: None,
        ts_log: Some(at),
        reason: "malformed".into(),
        detail: long("detail"),
        payload: payload.to_vec(),
    };
    let health = HealthEvent {
        key: attack("health"),
        at,
        kind: "lost".into(),
        severity: Severity::Critical,
        message: long("health"),
    };
    let publication = Publication {
        alerts: vec![revision(at, 1)?],
        notices: vec![notice(at)?],
        dead_letters: vec![letter(1, long("payload").as_bytes()), letter(2, b"\xff\x00<script>")],
        health: vec![health],
        ..Publication::default()
    };
    store.publish(&publication).await?;
    contents(store, at).await
}

fn coverage(at: Micros) -> Coverage {
    Coverage {
        silent_sources: vec![attack("source")],
        degradations: vec![Degradation {
            rule_id: attack("id"),
            code: "keys-over-budget".into(),
            message: long("degradation"),
            since: at,
            until: None,
        }],
        ..Coverage::default()
    }
}

fn rules(at: Micros) -> Vec<RuleStatus> {
    vec![RuleStatus {
        id: attack("id"),
        title: attack("title"),
        description: Some(long("description")),
        level: Severity::Critical,
        kind: "event_count".into(),
        version: attack("version"),
        tags: vec![attack("tag"), "attack.t1110".into(), long("tag")],
        false_positives: vec![attack("false positive"), long("false positive")],
        file: attack("file"),
        line: 1,
        emits: true,
        refers_to: vec![attack("id")],
        sources: vec![attack("source")],
        group_by: vec![attack("group")],
        timespan: Some(Span::secs(60)),
        condition: Some(attack("condition")),
        next_steps: vec![attack("step"), long("step")],
        text: long("text").into(),
        looks_for: Arc::default(),
        coverage: coverage(at),
    }]
}

fn source(at: Micros) -> SourceStatus {
    SourceStatus {
        name: attack("source"),
        description: long("source"),
        topic: attack("topic"),
        topics: vec![TopicStatus {
            name: attack("topic"),
            state: TopicState::Stopped,
            since: at,
            message: Some(long("topic")),
            time_source: Some(TimeSource::Producer),
            partitions: Some(1),
            unassigned: 1,
            paused: 0,
        }],
        health: Health::Stopped,
        message: Some(long("source")),
        time_source: TimeSource::Producer,
        disorder: Span::secs(1),
        future: Span::secs(1),
        watermark: Some(at),
        newest: Some(at),
        lag: 1,
        records: 1,
        events: 1,
        dead_letters: BTreeMap::from([(attack("reason"), 1)]),
        flags: BTreeMap::from([(attack("flag"), 1)]),
        lost: 1,
        partitions: Vec::new(),
    }
}

fn live(at: Micros) -> Live {
    let mut live = Live::starting(Mode::Run, "test", at);
    live.ready.degraded.push(Degraded {
        reason: "topic-stopped".into(),
        message: long("degraded"),
        since: at,
    });
    live.status.broker.bootstrap = attack("broker");
    live.status.broker.last_error = Some(long("broker"));
    live.status.degradations = coverage(at).degradations;
    live.sources.push(source(at));
    live.rules = Arc::new(rules(at));
    live.rejected = Arc::new(vec![Rejected {
        file: attack("refused"),
        line: 1,
        column: 1,
        rule_id: Some(attack("refused")),
        code: "unknown-field".into(),
        message: long("refused"),
        help: Some(long("help")),
        kept: false,
    }]);
    live
}

async fn serve(store: &Store, at: Micros) -> Result<String> {
    let live = live(at);
    let response = respond(store, at).await?;
    let server = served::bind(store, LiveView::new(move || live.clone()), Some(response)).await?;
    let home = format!("http://{}", server.address());
    tokio::spawn(server.run(std::future::pending()));
    Ok(home)
}

/// What people write: as long as they may.
async fn write(browser: &Browser, home: &str) -> Result<()> {
    browser.go(&format!("{home}/account")).await?;
    let text = |n: usize, place| attack(place).chars().take(n).collect::<String>();
    let line =
        |n: usize, place| attack(place).chars().filter(|c| !c.is_control()).take(n).collect::<String>();
    let until = chrono::Utc::now() + chrono::Duration::hours(1);
    let waiting = send(browser, "GET", "/api/v1/actions?state=waiting", None).await?;
    let waiting: Json = serde_json::from_str(waiting[1].as_str().context("actions")?)?;
    let rejected = waiting["items"][0]["action_id"].as_i64().context("none waits")?;
    let spared =
        json!({"entries": [{"field": "user.name", "value": line(300, "spared"), "note": line(200, "note")}]});
    let writes = [
        ("POST", format!("/api/v1/alerts/{ID}/comments"), json!({"text": text(4_000, "comment")})),
        ("POST", "/api/v1/cases".to_owned(), json!({"title": line(200, "case"), "alert_ids": [ID]})),
        ("POST", "/api/v1/cases/1/notes".to_owned(), json!({"text": text(4_000, "note")})),
        ("POST", "/api/v1/views".to_owned(), json!({"name": line(60, "view"), "query": "status=all"})),
        (
            "POST",
            "/api/v1/snoozes".to_owned(),
            json!({"alert_id": NOTICE, "reason": line(500, "reason"), "until": until.to_rfc3339()}),
        ),
        ("POST", format!("/api/v1/actions/{rejected}/reject"), json!({"reason": text(500, "reject")})),
        ("PUT", "/api/v1/never-block".to_owned(), spared),
    ];
    for (method, path, body) in writes {
        let answer = send(browser, method, &path, Some(&body)).await?;
        ensure!(answer[0].as_u64().is_some_and(|status| status < 300), "{path}: {answer}");
    }
    // What is longer, or in several lines where there is one, is refused and nowhere.
    for (path, body) in [
        ("/api/v1/cases", json!({"title": long("case"), "alert_ids": [ID]})),
        ("/api/v1/cases", json!({"title": attack("case"), "alert_ids": [ID]})),
        ("/api/v1/cases/1/notes", json!({"text": long("note")})),
        (&*format!("/api/v1/alerts/{ID}/comments"), json!({"text": long("comment")})),
    ] {
        let answer = send(browser, "POST", path, Some(&body)).await?;
        ensure!(answer[0].as_u64().is_some_and(|status| (400..500).contains(&status)), "{path}: {answer}");
    }
    // The browser itself complains of those.
    browser.complaints().await.map(drop)
}

/// Asks the service as a page of its own would; status and text of the answer.
async fn send(browser: &Browser, method: &str, path: &str, body: Option<&Json>) -> Result<Json> {
    let body = body.map(|body| serde_json::to_string(&body.to_string())).transpose()?;
    let script = format!(
        "const done = arguments[arguments.length - 1]; fetch({path:?}, {{method: '{method}', headers: \
         {{'content-type': 'application/json', 'if-match': '\"0\"'}}, body: {}}}).then(async r => done([r.status, await r.text()]))",
        body.as_deref().unwrap_or("undefined")
    );
    browser.script_later(&script).await
}

/// What is wrong with the page that is shown.
async fn faults(browser: &Browser, page: &str) -> Result<Vec<String>> {
    let mut wrong = Vec::new();
    for width in [1280, 390] {
        let size = json!({"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": false});
        browser.devtools("Emulation.setDeviceMetricsOverride", size).await?;
        let look = "
            for (const details of document.querySelectorAll('details')) details.open = true;
            const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
            let longest = [0];
            while (texts.nextNode()) {
                const {length, parentElement: of} = texts.currentNode;
                if (!of.matches('script, pre.raw, textarea') && !of.closest('dl.whole') && length > longest[0]) longest = [length, of.tagName + '.' + of.className];
            }
            const row = Math.max(0, ...[...document.querySelectorAll('.lines td')].map(td => td.textContent.length));
            const whole = Math.max(0, ...[...document.querySelectorAll('pre.raw')].map(pre => pre.textContent.length));
            const widest = [...document.querySelectorAll('main *')].filter(e => e.getBoundingClientRect().right > innerWidth + 1
                && !e.closest('.scroll, pre, .nowrap, svg')).map(e => e.tagName + '.' + e.className).slice(0, 4);
            return {
                hurt: window.hurt ?? null,
                wide: document.documentElement.scrollWidth,
                widest,
                longest, row, whole,
                bytes: document.documentElement.outerHTML.length,
                made: [...document.querySelectorAll('main script, img:not([src^=\"/assets\"]), [onerror], style, [style], \
                    a[href^=\"javascript\" i], form[action^=\"javascript\" i]')].map(e => e.outerHTML.slice(0, 100)),
                text: document.body.innerText.includes('<script>window.hurt='),
                // What would turn or move what stands beside it, in texts, fields and titles.
                raw: [document.body.innerText, ...[...document.querySelectorAll('input, textarea')].map(e => e.value),
                    ...[...document.querySelectorAll('[title], [aria-label]')].map(e => e.title + e.ariaLabel)].some(text =>
                    /[\\0-\\x08\\x0b\\x0c\\x0e-\\x1f\\x7f-\\x9f\\u061c\\u200e\\u200f\\u202a-\\u202e\\u2066-\\u2069]/.test(text)),
            }";
        let seen = browser.script(look).await?;
        let mut say = |what: &str| wrong.push(format!("{page} at {width}: {what}: {seen}"));
        if seen["hurt"] != Json::Null {
            say("a script ran");
        }
        if seen["made"].as_array().is_none_or(|made| !made.is_empty()) {
            say("a text became an element");
        }
        if seen["raw"] != false {
            say("a mark is obeyed and not shown");
        }
        if seen["wide"].as_u64() > Some(width) {
            say("wider than the window");
        }
        let cut = [(&seen["longest"][0], CELL), (&seen["row"], ROW), (&seen["whole"], WHOLE)];
        if cut.iter().any(|(shown, most)| shown.as_u64() > Some(*most)) {
            say("a cell is not cut");
        }
        let whole = seen["whole"].as_u64() > Some(CELL) || page.contains("/events/");
        if seen["bytes"].as_u64() > Some(if whole { PAGES_OF_WHOLE } else { PAGE }) {
            say("the page is too large");
        }
        if seen["text"] != true && page != "/account" {
            say("the text is not shown");
        }
    }
    wrong.extend(browser.complaints().await?.into_iter().map(|text| format!("{page}: {text}")));
    Ok(wrong)
}

/// On these pages stand these texts, each with its name in it.
const SHOWN: &[(&str, &[&str])] = &[
    ("/actions?tab=failed", &["tell", "proposer", "approver", "reason"]),
    ("/actions?tab=over", &["again", "entity", "reason"]),
    (
        "/playbooks",
        &["playbook title", "playbook description", "connector", "playbook file", "refused playbook"],
    ),
    ("/guards", &["spared", "note"]),
    ("/cases/1", &["case", "note", "title", "entity"]),
    ("/cases", &["case"]),
];

/// Which of them do not.
async fn missing(browser: &Browser, home: &str) -> Result<Vec<String>> {
    let mut missing = Vec::new();
    for (page, places) in SHOWN {
        browser.go(&format!("{home}{page}")).await?;
        let text = browser.script("return document.body.innerText").await?;
        let text = text.as_str().context("a text")?;
        let not_there = places.iter().filter(|place| !text.contains(&format!("window.hurt=`{place}`")));
        missing.extend(not_there.map(|place| format!("{page} does not show {place}: {text}")));
    }
    // And of the action that was given up, what the other side said, at what the link leads to.
    browser.go(&format!("{home}/actions?tab=failed")).await?;
    browser.leaving(async || browser.click("tr[data-action] .what > a").await).await?;
    let text = browser.script("return document.body.innerText").await?;
    let text = text.as_str().context("a text")?;
    for place in ["what the other side said", "delivery", "actor"] {
        if !text.contains(&format!("window.hurt=`{place}`")) {
            missing.push(format!("the action does not show {place}: {text}"));
        }
    }
    Ok(missing)
}

/// All that begins with these can be reached by links from what is shown, and the rest of one place.
async fn pages(browser: &Browser, home: &str) -> Result<Vec<String>> {
    let links =
        "return [...document.querySelectorAll('main a[href^=\"/\"]')].map(a => a.getAttribute('href'))";
    let mut pages: Vec<String> =
        ["/", "/?group=entity", "/?group=rule", "/?group=technique", "/?q=entity&status=all"]
            .map(str::to_owned)
            .into();
    for page in
        ["/cases", "/cases/1", "/rules", "/attack", "/sources", "/dead-letters", "/overview", "/audit"]
    {
        pages.push(page.to_owned());
    }
    for page in ["/snoozes", "/views", "/views?query=q%3D%3Cscript%3Ewindow.hurt=1%3C/script%3E", "/account"]
    {
        pages.push(page.to_owned());
    }
    pages.extend(["/playbooks", "/guards"].map(str::to_owned));
    for tab in ["waiting", "failed", "refused", "over"] {
        pages.push(format!("/actions?tab={tab}"));
    }
    pages.extend(["", "/exception"].map(|rest| format!("/alerts/{NOTICE}{rest}")));
    pages.extend(["", "/exception", "/events/0", "/events/1"].map(|rest| format!("/alerts/{ID}{rest}")));
    for from in ["/", "/rules", "/actions?tab=failed", "/actions?tab=over"] {
        browser.go(&format!("{home}{from}")).await?;
        let found = browser.script(links).await?;
        let found = found.as_array().context("links")?.iter().filter_map(Json::as_str);
        let led = ["/entities/", "/rules/", "/actions/"];
        pages.extend(found.filter(|link| led.iter().any(|room| link.starts_with(room))).map(str::to_owned));
    }
    pages.dedup();
    Ok(pages)
}

#[test]
fn hostile_content_is_text_in_its_place_on_every_page() -> Result<()> {
    if axe("hostile content")?.is_none() {
        return Ok(());
    }
    wait(async {
        let at = Micros(1_769_860_800_000_000);
        let folder = tempfile::tempdir()?;
        let store = Store::open(StoreSettings::new(folder.path(), Access::Engine)).await?;
        fill(&store, at).await?;
        let home = serve(&store, at).await?;
        let browser = Browser::start(Scripts::Run).await?;
        let looked = async {
            write(&browser, &home).await?;
            let mut wrong = Vec::new();
            for page in pages(&browser, &home).await? {
                browser.go(&format!("{home}{page}")).await?;
                wrong.extend(faults(&browser, page.get(..60).unwrap_or(&page)).await?);
            }
            wrong.extend(missing(&browser, &home).await?);
            // What a playbook would come to, which only a form leads to.
            browser.go(&format!("{home}/alerts/{ID}")).await?;
            ensure!(browser.text("#playbook option").await? == NAME);
            browser.leaving(async || browser.click("#response form button").await).await?;
            browser.shows("h1", "would do").await?;
            wrong.extend(faults(&browser, "a playbook").await?);
            // What the stream brings into a page that is open.
            browser.go(&format!("{home}/")).await?;
            browser.shows("#live", "Live").await?;
            store.publish(&Publication { alerts: vec![revision(at, 2)?], ..Publication::default() }).await?;
            browser.find(&format!("[id='row-{ID}'].fresh")).await?;
            wrong.extend(faults(&browser, "the stream").await?);
            // What never finds anything proves nothing.
            let hurt = "document.querySelector('main').insertAdjacentHTML('beforeend', '<img src=x onerror=\"window.hurt=1\">');";
            browser.script(hurt).await?;
            browser.script("document.querySelector('h1').append('\\u202e')").await?;
            let control = faults(&browser, "the control").await?;
            let policy = "violates the following Content Security Policy";
            for found in ["a text became an element", "a mark is obeyed", policy] {
                ensure!(control.iter().any(|text| text.contains(found)), "{found}: {control:?}");
            }
            ensure!(wrong.is_empty(), "{} faults:\n{}", wrong.len(), wrong.join("\n"));
            Ok(())
        };
        let looked = looked.await;
        looked.and(browser.close().await)
    })
}
