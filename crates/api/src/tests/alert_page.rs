//! An alert's page in full, its events and its form; an entity's page and route.

use axum::http::{StatusCode, header};
use vedette_event::Alert;
use vedette_store::model::{AlertRevision, EvidenceOf, Publication, RuleText};

use super::{Answer, Api, request, seeded};

async fn id_of(api: &Api, rule: &str) -> String {
    let found = api.get(&format!("/api/v1/alerts?rule={rule}&state=active,ended")).await.json();
    found["items"][0]["alert_id"].as_str().unwrap().to_owned()
}

async fn page(api: &Api, rule: &str) -> String {
    api.get(&format!("/alerts/{}", id_of(api, rule).await)).await.text()
}

/// A section of a page.
fn part<'a>(page: &'a str, id: &str) -> &'a str {
    let from = page.split(&format!("id=\"{id}\"")).nth(1).unwrap_or_else(|| panic!("no part {id}"));
    from.split("</section>").next().unwrap()
}

async fn act(api: &Api, id: &str, form: &str) -> Answer {
    let request = request("POST", &format!("/alerts/{id}/triage"))
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
        .header(header::ACCEPT, "text/html");
    api.send(request.body(form.to_owned().into()).unwrap()).await
}

#[tokio::test]
async fn what_an_analyst_needs_stands_there_without_a_click() {
    let api = seeded().await;
    let page = page(&api, "bot-stuffing").await;
    let title = page.split("<title>").nth(1).unwrap().split("</title>").next().unwrap();
    assert_eq!(title, "Credential stuffing from one address: 203.0.113.54 · Vedette");
    // The sentence comes before everything else.
    let sentence = page.find("client.ip 203.0.113.54, 1284 events").unwrap();
    assert!(sentence < page.find("<h1>").unwrap());
    let about = part(&page, "about");
    for text in [
        "Looks for what its title says",
        "Look whether the address belongs to a customer",
        "Registered scanners",
        "href=\"https://attack.mitre.org/techniques/T1110/004/\">T1110.004 Brute Force: Credential Stuffing</a>",
        "href=\"https://attack.mitre.org/tactics/TA0001/\">TA0001 Initial Access</a>",
        "rel=\"noreferrer\"",
    ] {
        assert!(about.contains(text), "{text} in {about}");
    }
    assert!(!about.contains("<details"));
    let why = part(&page, "why");
    for text in [
        "class=\"threshold\"",
        "threshold 15</text>",
        "class=\"crossing\"",
        "crossed <tspan data-at=\"2026-01-31T11:51:07",
        "\">2026-01-31 11:51:07</tspan></text>",
        "The threshold of 15 distinct values was crossed at 2026-01-31 11:51:07 UTC; 1\u{202f}000 distinct values by",
        "<table class=\"values\">",
    ] {
        assert!(why.contains(text), "{text} in {why}");
    }
    let steps = why.split("class=\"steps\" d=\"").nth(1).unwrap().split('"').next().unwrap();
    assert!(!steps.contains('L'), "steps do not slant: {steps}");
    let rule = part(&page, "rule");
    for text in
        ["version 5be1c4d09a77f213", "Failed log-in", "Evaluated through", "title: Credential stuffing"]
    {
        assert!(rule.contains(text), "{text} in {rule}");
    }
}

#[tokio::test]
async fn evidence_is_a_table_with_what_matched_marked_and_filters_as_links() {
    let api = seeded().await;
    let id = id_of(&api, "bot-stuffing").await;
    let page = api.get(&format!("/alerts/{id}")).await.text();
    let evidence = part(&page, "evidence");
    assert!(evidence.contains("10 of 1\u{202f}284 events"));
    assert!(
        evidence.contains("<mark>failure</mark>") && evidence.contains("m.<mark>oka</mark>for"),
        "{evidence}"
    );
    assert!(evidence.contains("href=\"/entities/client.ip/203.0.113.54\""));
    let only = format!("/alerts/{id}?only=event.outcome%3Afailure#evidence");
    assert!(evidence.contains(&format!("href=\"{only}\"")));
    // Of ten events, eight have contents.
    let filtered = api.get(&format!("/alerts/{id}?only=event.outcome%3Afailure")).await.text();
    assert!(filtered.contains("8 shown, 10 of") && filtered.contains("event.outcome is failure"));
    let without = api.get(&format!("/alerts/{id}?without=event.outcome%3Afailure")).await.text();
    assert!(without.contains("2 shown, 10 of") && without.contains("event.outcome is not failure"));
    assert_eq!(api.get(&format!("/alerts/{id}?only=nothing")).await.status, 400);
    // The record itself is on the event's own page.
    assert!(!page.contains("11:58:02.114Z"));
    let event = api.get(&format!("/alerts/{id}/events/0")).await.text();
    assert!(event.contains("11:58:02.114Z") && event.contains("<mark>failure</mark>"));
    for number in ["2", "99", "x", "-1"] {
        assert_eq!(api.get(&format!("/alerts/{id}/events/{number}")).await.status, 404, "{number}");
    }
}

#[tokio::test]
async fn one_form_does_everything_and_loses_nothing() {
    let api = seeded().await;
    let id = id_of(&api, "bot-stuffing").await;
    let triage = async || api.get(&format!("/api/v1/alerts/{id}")).await.json()["triage"].clone();
    assert_eq!(act(&api, &id, "version=0&seen_revision=9&act=take&assignee=&was=&text=").await.status, 303);
    assert_eq!(
        (triage().await["status"].clone(), triage().await["assignee"].clone()),
        ("acknowledged".into(), "local".into())
    );
    // A comment alone needs no version: nobody's change stands in its way.
    assert_eq!(
        act(&api, &id, "version=0&act=save&assignee=local&was=local&text=Looks+odd").await.status,
        303
    );
    assert_eq!(triage().await["version"], 1);
    // What was typed is still there where the change was refused, and was not stored.
    let stale = act(&api, &id, "version=0&act=benign&assignee=local&was=local&text=My+%3Creason%3E").await;
    assert_eq!(stale.status, StatusCode::PRECONDITION_FAILED);
    assert!(stale.text().contains("My &#60;reason&#62;</textarea>"));
    let long = format!("version=1&act=benign&text={}", "x".repeat(4_001));
    assert_eq!(act(&api, &id, &long).await.status, 400);
    assert_eq!(triage().await["version"], 1);
    let done =
        act(&api, &id, "version=1&seen_revision=9&act=false_positive&assignee=ann&was=local&text=A+scanner")
            .await;
    assert_eq!(done.status, 303);
    let state = triage().await;
    assert_eq!(
        (state["status"].as_str(), state["disposition"].as_str()),
        (Some("closed"), Some("false_positive"))
    );
    assert_eq!(state["assignee"], "ann");
    let page = api.get(&format!("/alerts/{id}")).await.text();
    let line: Vec<_> = part(&page, "history").split("<li").skip(1).collect();
    let told: Vec<_> = line.iter().map(|entry| entry.starts_with(" class=\"by-person\"")).collect();
    // People above the machine's revisions, which came before.
    assert!(told[..4].iter().all(|person| *person) && !told[4..].contains(&true), "{told:?}");
    assert!(line[0].contains("A scanner") && line[1].contains("Closed, as false positive, assigned to ann"));
    let ends = line.last().unwrap();
    assert!(ends.contains("First event"), "{ends}");
}

#[tokio::test]
async fn who_and_before_are_told_with_links() {
    let api = seeded().await;
    // Another alert of the rule about the same address, closed with a reason.
    let earlier = {
        let mut alert = super::seed::revision("bot-stuffing", super::NOON);
        alert.alert_id = "earlier".to_owned();
        alert.body = alert.body.replacen(&id_of(&api, "bot-stuffing").await, "earlier", 1);
        alert.crossed_at = alert.crossed_at.minus(vedette_event::Span::secs(200_000));
        alert
    };
    let publication = vedette_store::model::Publication { alerts: vec![earlier], ..Default::default() };
    api.store.publish(&publication).await.unwrap();
    let page_now = page(&api, "bot-stuffing&sort=-crossed_at").await;
    assert!(part(&page_now, "who").contains("href=\"/alerts/earlier\">Credential stuffing"));
    assert!(part(&page_now, "before").contains("No verdict yet"));
    assert_eq!(act(&api, "earlier", "version=0&act=false_positive&text=A+%3Cb%3Epartner").await.status, 303);
    let page_now = page(&api, "bot-stuffing&sort=-crossed_at").await;
    let (who, before) = (part(&page_now, "who"), part(&page_now, "before"));
    assert!(who.contains("1 false positive") && who.contains("nothing else"), "{who}");
    for text in ["href=\"/alerts/earlier\"", "False positive", "closed by local", "A &#60;b&#62;partner"] {
        assert!(before.contains(text), "{text} in {before}");
    }
}

#[tokio::test]
async fn an_entity_is_told_with_its_neighbours_in_all_its_spellings() {
    let api = seeded().await;
    let of = async |path: &str| api.get(&format!("/api/v1/entities/{path}")).await;
    let found = of("client.ip/203.0.113.54").await.json();
    assert_eq!((found["type"].as_str(), found["value"].as_str()), (Some("client.ip"), Some("203.0.113.54")));
    // The stuffing itself, and the chain in an episode of which it takes part.
    let items: Vec<_> = found["items"].as_array().unwrap().iter().collect();
    let told: Vec<_> = items
        .iter()
        .map(|item| (item["role"].as_str().unwrap(), item["alert"]["rule"]["id"].as_str().unwrap()))
        .collect();
    assert_eq!(told, [("entity", "bot-stuffing"), ("child", "ato-device-2fa-withdraw")]);
    assert_eq!(found["open"].as_array().unwrap().len(), 2);
    let near: Vec<_> =
        found["neighbours"].as_array().unwrap().iter().map(|n| n["value"].as_str().unwrap()).collect();
    assert!(near.contains(&"m.okafor") && near.contains(&"u-48213"), "{near:?}");
    assert_eq!(found["neighbours_of"], 2);
    // The same address by another field's name; not as a user.
    assert_eq!(of("source.ip/203.0.113.54").await.json()["items"].as_array().unwrap().len(), 2);
    assert_eq!(of("user.name/203.0.113.54").await.json()["items"].as_array().unwrap().len(), 0);
    // One at a time.
    let first = of("client.ip/203.0.113.54?limit=1").await.json();
    let cursor = first["next_cursor"].as_str().unwrap();
    let second = of(&format!("client.ip/203.0.113.54?limit=1&cursor={cursor}")).await.json();
    assert_eq!(second["items"][0]["role"], "child");
    assert_eq!(
        (second["open"].as_array().unwrap().len(), &second["next_cursor"]),
        (0, &serde_json::Value::Null)
    );
    assert_eq!(of("client.ip/203.0.113.54?cursor=x").await.status, 400);
    // A network is one segment, and pages of what nobody knows are pages.
    let network = api.get("/entities/client.ip/2001%3Adb8%3A41%3A%3A%2F64").await;
    assert!(network.text().contains("Password spraying"));
    assert!(
        api.get("/entities/user.name/%3Cscript%3E")
            .await
            .text()
            .contains("No alert and no notice concerns it")
    );
}

/// A megabyte in a field is a few kilobytes of a page.
#[tokio::test]
async fn what_is_long_is_cut_with_the_rest_one_click_away() {
    use vedette_store::model::{Content, EvidenceContent, EvidenceOf, Publication};
    let api = super::empty(|_| {}).await;
    let alert = super::seed::revision("seg-admin-from-dmz", super::NOON);
    let at = vedette_event::alert::references(&alert.body).remove(0);
    let long = "<i>é".repeat(250_000);
    let content = EvidenceContent {
        topic: at.topic.to_string(),
        incarnation: 0,
        partition: at.partition,
        offset: at.offset,
        index: 0,
        content: Content::Present(
            serde_json::json!({"url.path": long, "zz.other": long, "event.original": long}).to_string(),
        ),
    };
    let id = alert.alert_id.clone();
    api.store.publish(&Publication { alerts: vec![alert], ..Publication::default() }).await.unwrap();
    api.store.store_evidence(&[EvidenceOf { id: id.clone(), contents: vec![content] }]).await.unwrap();
    let page = api.get(&format!("/alerts/{id}")).await.text();
    assert!(page.len() < 60_000 && !page.contains("<i>"), "{}", page.len());
    assert!(page.contains(&format!("href=\"/alerts/{id}/events/0\"")));
    let whole = api.get(&format!("/alerts/{id}/events/0")).await.text();
    assert_eq!(whole.matches("&#60;i&#62;é").count(), 750_000);
}

/// Who reads alerts does not thereby read records.
#[tokio::test]
async fn records_need_a_role_that_may_read_them() {
    use vedette_store::model::Role;
    let api = super::empty(|app| app.open = false).await;
    super::seed::fill(&api.store, super::NOON).await;
    let mut seen = Vec::new();
    for role in [Role::Reader, Role::Analyst] {
        let token = crate::auth::create_token().unwrap();
        api.store.create_token(role.name(), role, token.hash, "test").await.unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(600)).await;
        let get = async |path: &str| {
            let request =
                request("GET", path).header(header::AUTHORIZATION, format!("Bearer {}", token.text));
            api.send(request.body(axum::body::Body::empty()).unwrap()).await
        };
        let listed = get("/api/v1/alerts?rule=bot-stuffing&state=active").await.json();
        let id = listed["items"][0]["alert_id"].as_str().unwrap().to_owned();
        let whole = get(&format!("/api/v1/alerts/{id}")).await.text();
        let event = get(&format!("/alerts/{id}/events/0")).await.text();
        assert!(whole.contains("bad_password") && event.contains("bad_password"), "the fields are there");
        seen.push((
            whole.contains("11:58:02.114Z"),
            event.contains("11:58:02.114Z"),
            event.contains("needs a role"),
        ));
    }
    assert_eq!(seen, [(false, false, true), (true, true, false)]);
}

/// A link opened tomorrow shows what was seen today.
#[tokio::test]
async fn the_past_is_shown_as_it_was_and_cannot_be_changed() {
    let api = seeded().await;
    let id = id_of(&api, "bot-stuffing").await;
    let seq = api.store.newest_seq().await.unwrap();
    let path = format!("/api/v1/alerts/{id}");
    let before = api.get(&path).await.json();
    let page_now = api.get(&format!("/alerts/{id}")).await.text();
    let lasting =
        page_now.split("Link to what is shown here").next().unwrap().rsplit("href=\"").next().unwrap();
    assert!(lasting.starts_with(&format!("/alerts/{id}?as_of={seq}#credential-stuffing")), "{lasting}");
    assert_eq!(act(&api, &id, "version=0&seen_revision=9&act=benign&text=Later").await.status, 303);
    let mut past = api.get(&format!("{path}?as_of={seq}")).await.json();
    past["seq"] = before["seq"].clone();
    assert_eq!(past, before);
    let page = api.get(&format!("/alerts/{id}?as_of={seq}")).await.text();
    assert!(
        page.contains("This is the past")
            && !page.contains("method=\"post\"")
            && !page.contains("id=\"live\"")
    );
    assert!(!page.contains("Later") && part(&page, "triage").contains("New"));
    let now = api.get(&format!("/alerts/{id}")).await.text();
    assert!(now.contains("Later") && now.contains("method=\"post\"") && !now.contains("This is the past"));
    // Three revisions earlier there were fewer events.
    let first = api.get(&format!("{path}?as_of={}", before["seq"].as_i64().unwrap() - 30)).await;
    if first.status == 200 {
        assert!(first.json()["count"].as_u64() < before["count"].as_u64());
    }
    // The queue, the alert and the entity agree, and each leads to the others of the same place.
    let listed = async |more: &str| {
        let list = api.get(&format!("/api/v1/alerts?rule=bot-stuffing&entity=203.0.113.54&{more}")).await;
        list.json()["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|item| item["triage"]["status"].to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(listed("status=new").await, Vec::<String>::new());
    assert_eq!(listed(&format!("status=new&as_of={seq}")).await, ["\"new\""]);
    assert_eq!(listed(&format!("status=closed&as_of={seq}")).await, Vec::<String>::new());
    assert!(!api.get("/?entity=203.0.113.54").await.text().contains(&id), "it is closed now");
    let entity = format!("entities/client.ip/203.0.113.54?as_of={seq}");
    let then = api.get(&format!("/api/v1/{entity}")).await.json();
    assert_eq!(then["items"][0]["alert"]["triage"]["status"], "new");
    assert!(api.get(&format!("/{entity}")).await.text().contains("This is the past"));
    for wrong in ["x", "-1", "99999999", "2026-13-01T00:00:00Z"] {
        assert_eq!(api.get(&format!("{path}?as_of={wrong}")).await.status, 400, "{wrong}");
    }
    assert_eq!(api.get(&format!("{path}?as_of=0")).await.status, 404);
}

/// A part of a page of the past, its links as they are on the page of the present.
fn undated(part: &str, seq: i64) -> String {
    ["?as_of=", "&#38;as_of=", "&amp;as_of="]
        .iter()
        .fold(part.to_owned(), |part, mark| part.replace(&format!("{mark}{seq}"), ""))
}

#[tokio::test]
async fn who_and_what_was_before_are_told_of_the_past_as_they_were() {
    let api = seeded().await;
    let id = id_of(&api, "bot-stuffing").await;
    let row = api.get(&format!("/api/v1/alerts/{id}")).await.json();
    let entity = row["entity"]["value"].as_str().unwrap().to_owned();
    let others = api.get(&format!("/api/v1/alerts?entity={entity}&limit=50")).await.json();
    let others: Vec<String> = others["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item["alert_id"].as_str().or(item["notice_id"].as_str()).unwrap().to_owned())
        .collect();
    let parts = async |seq: Option<i64>| {
        let at = seq.map(|seq| format!("?as_of={seq}")).unwrap_or_default();
        let alert = api.get(&format!("/alerts/{id}{at}")).await.text();
        let about = api.get(&format!("/entities/client.ip/{entity}{at}")).await.text();
        let about = about.split("id=\"now\"").nth(1).unwrap().split("id=\"everything\"").next().unwrap();
        [part(&alert, "who"), part(&alert, "before"), about].map(|part| undated(part, seq.unwrap_or(-1)))
    };
    let mut then = vec![(api.store.newest_seq().await.unwrap(), parts(None).await)];
    for other in &others {
        let text = format!("version=0&seen_revision=9&act=benign&text=Seen {other}");
        assert_eq!(act(&api, other, &text).await.status, 303);
        then.push((api.store.newest_seq().await.unwrap(), parts(None).await));
    }
    assert!(then.windows(2).all(|two| two[0].1 != two[1].1), "each verdict shows");
    for (seq, before) in then {
        assert_eq!(parts(Some(seq)).await, before, "at {seq}");
    }
}

/// What the newest revision does not refer to is not kept: that is said, and nobody is told to wait.
#[tokio::test]
async fn an_event_of_then_that_is_not_kept_says_so() {
    let hunts = super::hunts::stand_in(std::sync::Arc::default());
    let api = super::empty(|app| app.hunts = Some(hunts)).await;
    super::seed::fill(&api.store, super::NOON).await;
    api.live.send_replace(std::sync::Arc::new(super::seed::live(super::NOON)));
    let id = id_of(&api, "bot-stuffing").await;
    let seq = api.store.newest_seq().await.unwrap();
    let row = api.store.alert(&id).await.unwrap().unwrap();
    let mut alert: Alert = serde_json::from_str(&row.body).unwrap();
    alert.revision += 1;
    alert.evidence.iter_mut().for_each(|event| event.offset += 1_000_000);
    let revision = AlertRevision::of(&alert, vec!["api".into()], alert.last_seen).unwrap();
    let publication = Publication { alerts: vec![revision], ..Publication::default() };
    api.store.publish(&publication).await.unwrap();
    api.store.store_evidence(&[EvidenceOf { id: id.clone(), contents: Vec::new() }]).await.unwrap();
    let states = async |at: String| {
        let alert = api.get(&format!("/api/v1/alerts/{id}{at}")).await.json();
        alert["events"].as_array().unwrap().iter().map(|event| event["state"].to_string()).collect::<Vec<_>>()
    };
    assert!(states(String::new()).await.iter().all(|state| state == "\"pending\""));
    let then = states(format!("?as_of={seq}")).await;
    assert!(!then.is_empty() && then.iter().all(|state| state == "\"left\""), "{then:?}");
    let page = api.get(&format!("/alerts/{id}?as_of={seq}")).await.text();
    assert!(page.contains("not kept: the alert went on") && !page.contains("being fetched"));
    // What the store has no more the lake may have.
    assert!(page.contains("<a href=\"/hunt/event?topic=api") && page.contains("ask the lake"), "{page}");
}

#[tokio::test]
async fn the_text_that_raised_it_is_shown_also_when_the_rule_says_something_else_by_now() {
    let api = seeded().await;
    let rule = part(&page(&api, "bot-stuffing").await, "rule").to_owned();
    assert!(rule.contains("Text of the rule that raised this"), "{rule}");
    // As it would be had the rule been changed since.
    let text = |version: &str, text: &str| RuleText {
        rule_id: "bot-stuffing".into(),
        version: version.into(),
        text: text.into(),
    };
    let rule_texts =
        vec![text("5be1c4d09a77f213", "title: as it was then"), text("another", "title: another")];
    api.store.publish(&Publication { rule_texts, ..Publication::default() }).await.unwrap();
    let page = page(&api, "bot-stuffing").await;
    let rule = part(&page, "rule");
    assert!(rule.contains("title: as it was then") && !rule.contains("title: another"), "{rule}");
}
