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
    let seen = page.split("name=\"seen\" value=\"").skip(1).map(|part| part.split('"').next().unwrap());
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
    for (id, seen) in &rows[..2] {
        form.extend([("alert", id.as_str()), ("seen", seen.as_str())]);
    }
    // Shown and not selected.
    form.push(("seen", &rows[2].1));
    let done = post(&api, "/alerts/bulk", &form).await;
    assert_eq!(done.status, 303);
    let back = done.header(header::LOCATION).to_owned();
    assert!(back.starts_with("/?sort=crossed_at&did=") && back.ends_with(".2"), "{back}");
    assert_eq!(status(&api, &rows[0].0).await, "closed");
    assert_eq!(status(&api, &rows[2].0).await, "new");
    let page = api.get(&back).await.text();
    assert!(page.contains("2 changed."));
    // One of them somebody changed since: it stays as it is, and is named.
    let path = format!("/api/v1/alerts/{}", rows[1].0);
    assert_eq!(api.patch(&path, "\"1\"", json!({"status": "in_progress"})).await.status, 200);
    let mut did = back.rsplit('=').next().unwrap().split('.');
    let undo = [("after", did.next().unwrap()), ("until", did.next().unwrap()), ("back", "")];
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
    let form = [("act", "acknowledge"), ("back", ""), ("alert", id), ("seen", stale.as_str())];
    let told = post(&api, "/alerts/bulk", &form).await.text();
    assert!(told.contains("0 changed, 1 not") && told.contains(id), "{told}");
    assert_eq!(status(&api, id).await, "new");
    // All that match, as they were: the filter is the page's.
    let seq = api.get("/api/v1/alerts").await.json()["items"][0]["seq"].as_i64().unwrap();
    let all = [("act", "acknowledge"), ("back", "severity=critical"), ("all", &*(seq + 1_000).to_string())];
    assert_eq!(post(&api, "/alerts/bulk", &all).await.status, 400);
    assert_eq!(post(&api, "/alerts/bulk", &[("act", "explode"), ("back", "")]).await.status, 400);
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
