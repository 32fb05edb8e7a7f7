//! The queue's page: views, groups, the past, one form for what is selected, undo.

use axum::http::header;
use serde_json::json;

use super::{Answer, Api, request, seeded};

async fn post(api: &Api, path: &str, form: &[(&str, &str)]) -> Answer {
    let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
    let request = request("POST", path)
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
        .header(header::ACCEPT, "text/html");
    api.send(request.body(body.into()).unwrap()).await
}

/// The first rows of a page as its form would send them.
fn shown(page: &str) -> Vec<(String, String)> {
    let seen = page.split("name=\"alert\" value=\"").skip(1).map(|part| part.split('"').next().unwrap());
    seen.map(|seen| (seen.split(':').next().unwrap().to_owned(), seen.to_owned())).collect()
}

async fn status(api: &Api, id: &str) -> String {
    let alert = api.get(&format!("/api/v1/alerts/{id}")).await.json();
    alert["triage"]["status"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_selection_is_closed_and_taken_back() {
    let api = seeded().await;
    let page = api.get("/?sort=crossed_at").await.text();
    let rows = shown(&page);
    let mut form = vec![("act", "false_positive"), ("back", "sort=crossed_at")];
    form.extend(rows[..2].iter().map(|(_, seen)| ("alert", seen.as_str())));
    let done = post(&api, "/alerts/bulk", &form).await;
    assert_eq!(done.status, 303);
    let back = done.header(header::LOCATION).to_owned();
    assert!(back.starts_with("/?sort=crossed_at&did="), "{back}");
    assert_eq!(status(&api, &rows[0].0).await, "closed");
    assert_eq!(status(&api, &rows[2].0).await, "new");
    let page = api.get(&back).await.text();
    assert!(page.contains("2 changed."));
    // One of them somebody changed since: it stays as it is, and is named.
    let path = format!("/api/v1/alerts/{}", rows[1].0);
    assert_eq!(api.patch(&path, "\"1\"", json!({"status": "in_progress"})).await.status, 200);
    let undo = [("change", back.rsplit('=').next().unwrap()), ("back", "")];
    let told = post(&api, "/alerts/undo", &undo).await;
    assert!(told.status == 200 && told.text().contains("1 changed, 1 not"), "{}", told.text());
    assert!(told.text().contains(&rows[1].0));
    assert_eq!(status(&api, &rows[0].0).await, "new");
    assert_eq!(status(&api, &rows[1].0).await, "in_progress");
}

#[tokio::test]
async fn what_was_not_seen_is_not_changed_by_the_form() {
    let api = seeded().await;
    let rows = shown(&api.get("/").await.text());
    let id = rows[0].0.as_str();
    let stale = format!("{id}:7:1");
    let form = [("act", "acknowledge"), ("back", ""), ("alert", stale.as_str())];
    let told = post(&api, "/alerts/bulk", &form).await.text();
    assert!(told.contains("0 changed, 1 not") && told.contains(id), "{told}");
    assert_eq!(status(&api, id).await, "new");
    // All that match, as they were: the filter is the page's.
    let seq = api.get("/api/v1/alerts").await.json()["items"][0]["seq"].as_i64().unwrap();
    let all = [("act", "acknowledge"), ("back", "severity=critical"), ("all", &*(seq + 1_000).to_string())];
    assert_eq!(post(&api, "/alerts/bulk", &all).await.status, 400);
    assert_eq!(post(&api, "/alerts/bulk", &[("act", "explode"), ("back", "")]).await.status, 400);
    let unread = [("act", "acknowledge"), ("back", ""), ("alert", id)];
    assert_eq!(post(&api, "/alerts/bulk", &unread).await.status, 400);
}

#[tokio::test]
async fn an_address_offers_to_take_back_what_its_reader_did_and_nothing_else() {
    let api = seeded().await;
    let id = api.first().await;
    let close = |version: &str, note: &str| (format!("\"{version}\""), json!({"assignee": note}));
    let (version, change) = close("0", "ann");
    let path = format!("/api/v1/alerts/{id}");
    let own = api.patch(&path, &version, change).await.json()["change_id"].as_i64().unwrap();
    assert!(api.get(&format!("/?did={own}")).await.text().contains("1 changed."));
    let patch = vedette_store::model::TriagePatch { assignee: Some("eve".into()), ..Default::default() };
    let of_eve = api.store.patch_triage(&id, 1, &patch, "eve").await.unwrap().change_id.unwrap();
    for other in [&*of_eve.to_string(), "0", "-1", "1.9999999.3", "x", "99999999"] {
        let page = api.get(&format!("/?did={other}")).await;
        assert!(page.status == 200 && !page.text().contains("/alerts/undo\" data-change"), "{other}");
    }
    let back = post(&api, "/alerts/undo", &[("change", &*of_eve.to_string()), ("back", "")]).await;
    assert_eq!(back.status, 403);
    assert_eq!(api.get(&path).await.json()["triage"]["assignee"], "eve");
}

#[tokio::test]
async fn the_figure_is_of_what_was_changed() {
    let api = seeded().await;
    let rows = shown(&api.get("/?status=new&state=active").await.text());
    let (id, seen) = (rows[0].0.as_str(), rows[0].1.as_str());
    let form = [("act", "renew"), ("back", ""), ("alert", seen)];
    let told = post(&api, "/alerts/bulk", &form).await;
    let page = told.text();
    assert!(
        told.status == 200 && page.contains("0 changed, 0 not") && page.contains("1 was so already"),
        "{page}"
    );
    let stale = format!("{id}:0:0");
    let form = [("act", "benign"), ("back", ""), ("alert", stale.as_str())];
    let page = post(&api, "/alerts/bulk", &form).await.text();
    assert!(page.contains("0 changed, 1 not") && page.contains("It is back in the queue"), "{page}");
    assert!(page.contains("Undo the change"));
}

#[tokio::test]
async fn a_case_of_all_takes_all_that_match() {
    let api = seeded().await;
    let rows = shown(&api.get("/?source=waf").await.text());
    assert!(rows.len() > 1);
    let seq = api.store.newest_seq().await.unwrap().to_string();
    let form =
        [("act", "case"), ("back", "source=waf"), ("all", &*seq), ("title", "All"), ("alert", &*rows[0].1)];
    assert_eq!(post(&api, "/alerts/bulk", &form).await.header(header::LOCATION), "/cases/1");
    let case = api.get("/api/v1/cases/1").await.json();
    assert_eq!(case["alert_count"], rows.len());
}

#[tokio::test]
async fn rows_are_told_apart_and_are_a_table_however_they_are_laid_out() {
    let api = seeded().await;
    let page = api.get("/?status=all").await.text();
    let labels: Vec<_> = page.split("aria-label=\"Select ").skip(1).collect();
    let labels: Vec<_> = labels.iter().map(|part| part.split('"').next().unwrap()).collect();
    let distinct: std::collections::BTreeSet<_> = labels.iter().collect();
    assert!(labels.len() > 5 && distinct.len() == labels.len(), "{labels:?}");
    assert!(labels.iter().all(|label| label.contains(", since ")), "{labels:?}");
    let of = |role: &str| page.matches(&format!("role=\"{role}\"")).count();
    let rows = labels.len();
    let told = [of("table"), of("rowgroup"), of("row"), of("columnheader"), of("cell")];
    assert_eq!(told, [1, 2, rows + 1, 9, 9 * rows]);
}

#[tokio::test]
async fn links_of_entities_name_their_type() {
    let api = seeded().await;
    let groups = api.get("/?status=all&group=entity").await.text();
    let counted = api.get("/api/v1/alerts/summary?by=entity").await.json();
    for item in counted["items"].as_array().unwrap().iter().filter(|item| item["name"] != "") {
        let (name, kind) = (item["name"].as_str().unwrap(), item["entity_type"].as_str().unwrap());
        let name: String = form_urlencoded::byte_serialize(name.as_bytes()).collect();
        let list =
            api.get(&format!("/api/v1/alerts?entity={name}&entity_type={kind}&limit=500")).await.json();
        assert_eq!(list["items"].as_array().unwrap().len() as u64, item["count"].as_u64().unwrap());
        assert!(groups.contains(&format!("entity={name}&#38;entity_type={kind}\"")), "{name} {kind}");
    }
    let none = api.get("/api/v1/alerts?entity_type=no.such.type").await.json();
    assert_eq!(none["items"], json!([]));
}

#[tokio::test]
async fn views_groups_and_the_past_are_addresses() {
    let api = seeded().await;
    let groups = api.get("/?status=all&group=rule").await.text();
    let counted = api.get("/api/v1/alerts/summary?by=rule").await.json();
    for item in counted["items"].as_array().unwrap() {
        let link =
            format!("rule={}\" aria-label=\"{} alerts of", item["name"].as_str().unwrap(), item["count"]);
        assert!(groups.contains(&link), "{link}");
    }
    assert_eq!(api.get("/?group=colour").await.status, 400);
    assert!(api.get("/?assignee=").await.text().contains("nobody"));

    let page = api.get("/?status=all").await.text();
    let lasting = page.split("Link to what is shown here").next().unwrap().rsplit("href=\"").next().unwrap();
    let lasting = lasting.split('"').next().unwrap().replace("&#38;", "&");
    let rows = shown(&page);
    let path = format!("/api/v1/alerts/{}", rows[0].0);
    let close = json!({"status": "closed", "disposition": "benign"});
    assert_eq!(api.patch(&path, "\"0\"", close).await.status, 200);
    let past = api.get(&lasting).await.text();
    assert!(
        past.contains("This is the past") && !past.contains("id=\"bulk\"") && !past.contains("id=\"live\"")
    );
    assert!(past.contains(&format!("/alerts/{}?as_of=", rows[0].0)));
    let row = past.split(&format!("id=\"row-{}\"", rows[0].0)).nth(1).unwrap().split("</tr>").next().unwrap();
    assert!(row.contains("New") && !row.contains("Closed"), "{row}");
}

#[tokio::test]
async fn only_a_page_that_new_rows_come_to_calls_itself_live() {
    let api = seeded().await;
    let word = |page: &str| {
        let live = page.split("id=\"live\"").nth(1).unwrap().split("</a>").next().unwrap().to_owned();
        assert!(live.contains("As of <time ") && live.contains(">UTC</span>, <a href="), "{live}");
        live
    };
    let first = word(&api.get("/?status=all").await.text());
    assert!(first.contains("data-rows=\"first\"") && first.contains("href=\"/?status=all\""), "{first}");
    for path in ["/?sort=-count", "/?group=rule"] {
        let later = word(&api.get(path).await.text());
        assert!(
            later.contains("data-rows=\"later\"") && later.contains(&format!("href=\"{path}\"")),
            "{later}"
        );
    }
}

/// What a page shows, its boxes and links of the past left out.
fn looked_at(page: &str, seq: i64) -> String {
    let tallies = page.split("id=\"tallies\"").nth(1).unwrap().split("</ul>").next().unwrap();
    let rows = page.split("id=\"rows\"").nth(1).unwrap().split("class=\"more\"").next().unwrap();
    let rows = rows.split("</main>").next().unwrap().split("<form class=\"bulk\"").next().unwrap();
    let mut text = format!("{tallies} {rows}");
    while let Some(from) = text.find("<label><input") {
        let until = from + text[from..].find("</label>").unwrap() + "</label>".len();
        text.replace_range(from..until, "");
    }
    ["?as_of=", "&#38;as_of="].iter().fold(text, |text, mark| {
        text.replace(&format!("{mark}{seq}&#38;"), "?").replace(&format!("{mark}{seq}"), "")
    })
}

/// A link opened tomorrow shows what was seen today: rows, counts, groups, courses, what was seen before.
#[tokio::test]
async fn a_page_of_the_past_shows_all_that_was_seen() {
    let api = seeded().await;
    let pages = [
        "/",
        "/?status=all",
        "/?status=all&sort=-count",
        "/?sort=-severity",
        "/?group=entity",
        "/?group=rule",
        "/?status=all&group=technique",
        "/?q=bot",
        "/?state=notice",
    ];
    let mut seen = Vec::new();
    for turn in 0..4 {
        let seq = api.store.newest_seq().await.unwrap();
        for path in pages {
            let page = api.get(path).await.text();
            let lasting = format!("{path}{}as_of={seq}", if path.contains('?') { '&' } else { '?' });
            let link = format!("{}\">Link to what is shown here", lasting.replace('&', "&#38;"));
            assert!(page.contains(&link), "{path}: {link}");
            seen.push((lasting, seq, looked_at(&page, seq)));
        }
        let rows = shown(&api.get("/").await.text());
        let act = ["benign", "false_positive", "acknowledge", "true_positive"][turn];
        let mut form = vec![("act", act), ("back", "")];
        form.extend(rows.iter().skip(turn).take(2).map(|(_, seen)| ("alert", seen.as_str())));
        assert_eq!(post(&api, "/alerts/bulk", &form).await.status, 303);
    }
    let texts: std::collections::BTreeSet<&String> = seen.iter().map(|(_, _, text)| text).collect();
    assert!(texts.len() > pages.len(), "what is seen changes");
    for (lasting, seq, before) in seen {
        let past = api.get(&lasting).await;
        assert_eq!(past.status, 200, "{lasting}");
        assert_eq!(looked_at(&past.text(), seq), before, "{lasting}");
    }
    let seq = api.store.newest_seq().await.unwrap();
    let by_severity = api.get("/api/v1/alerts/summary?by=severity").await.json();
    let close = json!({"status": "closed", "disposition": "benign"});
    let rows = shown(&api.get("/?status=new").await.text());
    assert_eq!(api.patch(&format!("/api/v1/alerts/{}", rows[0].0), "\"0\"", close).await.status, 200);
    let open = "status=new,acknowledged,in_progress&by=severity";
    let now = api.get(&format!("/api/v1/alerts/summary?{open}")).await.json();
    let then = api.get(&format!("/api/v1/alerts/summary?{open}&as_of={seq}")).await.json();
    assert_ne!(now, then);
    let all = api.get(&format!("/api/v1/alerts/summary?by=severity&as_of={seq}")).await.json();
    assert_eq!(all, by_severity);
}

/// What a browser lays out of fifty rows decides when anything is seen.
#[tokio::test]
async fn a_row_is_light() {
    let api = seeded().await;
    let page = api.get("/?status=all").await.text();
    let rows: Vec<&str> =
        page.split("<tr class=\"sev-").skip(1).map(|row| row.split("</tr>").next().unwrap()).collect();
    assert!(rows.len() > 5);
    for row in rows {
        let elements = row.matches('<').count() - row.matches("</").count();
        assert!(elements <= 24, "{elements} elements: {row}");
        // Its id: of the row, in its box and in its link.
        let id = row.split("id=\"row-").nth(1).unwrap().split('"').next().unwrap();
        assert_eq!(row.matches(id).count(), 3, "{row}");
    }
}

#[tokio::test]
async fn an_alerts_page_takes_back_what_its_reader_did_there() {
    let api = seeded().await;
    let id = api.first().await;
    let (page, triage) = (format!("/alerts/{id}"), format!("/alerts/{id}/triage"));
    let offered = async || {
        let page = api.get(&page).await.text();
        let change = page.split("name=\"change\" value=\"").nth(1)?;
        Some(change.split('"').next().unwrap().to_owned())
    };
    assert_eq!(offered().await, None, "nothing was done");
    for (version, act) in [("0", "acknowledge"), ("1", "false_positive")] {
        let form = [("version", version), ("act", act)];
        assert_eq!(post(&api, &triage, &form).await.status, 303);
    }
    for expected in ["acknowledged", "new"] {
        let change = offered().await.unwrap();
        let back = post(&api, "/alerts/undo", &[("change", &*change), ("alert", &*id)]).await;
        assert_eq!((back.status.as_u16(), back.header(header::LOCATION)), (303, &*page));
        assert_eq!(status(&api, &id).await, expected);
    }
    assert_eq!(offered().await, None, "all is taken back");
    // What somebody else changed since is not, and the page says so.
    assert_eq!(post(&api, &triage, &[("version", "4"), ("act", "work")]).await.status, 303);
    let change = offered().await.unwrap();
    let patch = vedette_store::model::TriagePatch { assignee: Some("eve".into()), ..Default::default() };
    api.store.patch_triage(&id, 5, &patch, "eve").await.unwrap();
    assert_eq!(offered().await, None, "the last change is another's");
    let refused = post(&api, "/alerts/undo", &[("change", &*change), ("alert", &*id)]).await;
    assert!(refused.status == 412 && refused.text().contains("Not saved."), "{}", refused.status);
    assert_eq!(status(&api, &id).await, "in_progress");
    // A change of several alerts is not offered as one of this.
    let rows = shown(&api.get("/?status=new").await.text());
    let both: Vec<_> = rows[..2].iter().map(|(_, seen)| ("alert", seen.as_str())).collect();
    let form = [[("act", "acknowledge"), ("back", "")].to_vec(), both].concat();
    assert_eq!(post(&api, "/alerts/bulk", &form).await.status, 303);
    assert!(!api.get(&format!("/alerts/{}", rows[0].0)).await.text().contains("name=\"change\""));
}
