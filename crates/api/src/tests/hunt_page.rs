//! The Hunt page: what runs a hunt and what does not, hostile values, narrowing, what is kept, what leads here.

use axum::{
    body::Body,
    http::{StatusCode, header},
};
use serde_json::json;

use super::{Answer, Api, NOON, hunts::stand_in, request, seed, seeded};
use crate::{app::App, live::Live};

pub(super) async fn hunting() -> Api {
    super::empty(|app: &mut App| app.hunts = Some(stand_in(std::sync::Arc::default()))).await
}

pub(super) async fn form(api: &Api, path: &str, pairs: &[(&str, &str)]) -> Answer {
    let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish();
    let request = request("POST", path).header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
    api.send(request.header("accept", "text/html").body(Body::from(body)).unwrap()).await
}

async fn hunts(api: &Api) -> usize {
    api.get("/api/v1/hunts").await.json()["items"].as_array().unwrap().len()
}

const SQL: &str = "/hunt?sql=select+1&span=1h";

#[tokio::test]
async fn a_link_of_another_site_fills_the_form_and_asks_nothing() {
    let api = hunting().await;
    let page = api.get(SQL).await;
    assert_eq!(page.status, StatusCode::OK, "{}", page.text());
    assert!(page.text().contains(">select 1</textarea>"));
    for (site, mode, method) in [
        ("cross-site", "navigate", "GET"),
        ("same-site", "navigate", "GET"),
        ("none", "navigate", "GET"),
        ("same-origin", "cors", "GET"),
        ("same-origin", "navigate", "HEAD"),
    ] {
        let request = request(method, SQL).header("sec-fetch-site", site).header("sec-fetch-mode", mode);
        let page = api.send(request.body(Body::empty()).unwrap()).await;
        assert_eq!(page.status, StatusCode::OK);
    }
    assert_eq!(hunts(&api).await, 0);
    let own =
        request("GET", SQL).header("sec-fetch-site", "same-origin").header("sec-fetch-mode", "navigate");
    let page = api.send(own.body(Body::empty()).unwrap()).await.text();
    assert_eq!(hunts(&api).await, 1);
    assert!(page.contains("3 rows") && page.contains("Complete through"), "{page}");
}

#[tokio::test]
async fn a_link_with_a_slip_of_the_pen_is_told() {
    let api = hunting().await;
    for (query, told) in [
        ("span=yesterday", "`span` must be a whole number"),
        ("since=yesterday", "`since=yesterday` is no RFC 3339 time"),
        ("source=nowhere", "There is no source `nowhere`; there are: "),
    ] {
        let page = api.get(&format!("/hunt?sql=select+1&{query}")).await;
        assert_eq!(page.status, StatusCode::BAD_REQUEST, "{query}");
        let text = page.text().replace("&#96;", "`");
        assert!(text.contains(told), "{query}: {text}");
    }
    let page = api.get("/hunt?sql=select+1&span=3h").await;
    assert_eq!(page.status, StatusCode::OK);
    assert!(page.text().contains("<option value=\"3h\" selected>3h</option>"), "{}", page.text());
}

#[tokio::test]
async fn an_answer_is_a_table_with_figures_and_says_what_it_rests_on() {
    let api = hunting().await;
    let page = form(&api, "/hunt", &[("sql", "select *\r\nfrom events"), ("span", "all")]).await;
    assert_eq!(page.status, StatusCode::OK, "{}", page.text());
    let page = page.text();
    for part in [
        "3 rows",
        "back to",
        "bytes read in",
        "1 of 4 files opened, 2 parts of them skipped",
        "records 3 to 5 of partition 0 of waf",
        "class=\"bars\"",
        "1 value<",
        "/entities/client.ip/203.0.113.9",
        // A value is text.
        "/&#60;b&#62;&#39;0",
    ] {
        assert!(page.contains(part), "{part}: {page}");
    }
    assert!(!page.contains("<b>"));
    // Line ends are those that were written, and not the form's.
    let asked = api.get("/api/v1/hunts").await.json();
    assert_eq!(asked["items"][0]["sql"], "select *\nfrom events");
}

#[tokio::test]
async fn a_button_narrows_the_hunt_by_a_literal() {
    let api = hunting().await;
    let narrow = json!({"column": "url.path", "kind": "text", "value": "/' or 1=1 --\n", "has": true});
    let pairs = [("sql", "select * from events"), ("span", "1h"), ("narrow", &*narrow.to_string())];
    let page = form(&api, "/hunt", &pairs).await;
    assert_eq!(page.status, StatusCode::OK, "{}", page.text());
    let asked = api.get("/api/v1/hunts").await.json();
    let expected = "select * from events\nwhere url.path = ('/'' or 1=1 --' || chr(10))";
    assert_eq!(asked["items"][0]["sql"], expected);
    let wrong = form(&api, "/hunt", &[("sql", "select 1"), ("narrow", "{}")]).await;
    assert_eq!(wrong.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn what_cannot_be_asked_is_said_above_what_was_written() {
    let api = hunting().await;
    let page = form(&api, "/hunt", &[("sql", "selct <b>"), ("span", "1h")]).await;
    assert_eq!(page.status, StatusCode::BAD_REQUEST);
    let page = page.text();
    assert!(page.contains("this is no SQL") && page.contains("selct &#60;b&#62;"), "{page}");
    let page = form(&api, "/hunt", &[("sql", "select 1"), ("span", "soon")]).await;
    assert!(page.text().contains("a whole number and"), "{}", page.text());
    let none = super::empty(|_| {}).await;
    assert!(none.get("/hunt").await.text().contains("Nothing to ask"));
}

#[tokio::test]
async fn what_was_asked_and_what_is_kept_is_listed() {
    let api = hunting().await;
    for sql in ["select 1", "select 2", "select 1"] {
        form(&api, "/hunt", &[("sql", sql), ("span", "1h")]).await;
    }
    let kept = form(
        &api,
        "/hunt/saved",
        &[("name", "mine"), ("sql", "select\r\n3"), ("span", "7d"), ("shared", "yes")],
    )
    .await;
    assert_eq!(kept.status, StatusCode::SEE_OTHER, "{}", kept.text());
    let page = api.get("/hunt").await.text();
    assert_eq!(page.matches(">select 1</a>").count(), 1, "{page}");
    assert!(page.contains(">select 2</a>"));
    assert!(page.contains("href=\"/hunt?sql=select%0A3&#38;span=7d\">mine</a>"), "{page}");
    let id = api.get("/api/v1/hunts/saved").await.json()["items"][0]["saved_hunt_id"].to_string();
    form(&api, &format!("/hunt/saved/{id}/remove"), &[]).await;
    assert!(!api.get("/hunt").await.text().contains(">mine</a>"));
    let case = form(&api, "/hunt/case", &[("title", "a case"), ("note", "found\r\nby a hunt")]).await;
    assert_eq!(case.status, StatusCode::SEE_OTHER);
    let page = api.get(case.header(header::LOCATION)).await.text();
    assert!(page.contains("a case") && page.contains("by a hunt"), "{page}");
}

#[tokio::test]
async fn alerts_and_entities_lead_to_their_events() {
    let api = super::empty(|app: &mut App| app.hunts = Some(stand_in(std::sync::Arc::default()))).await;
    seed::fill(&api.store, NOON).await;
    api.live.send_replace(std::sync::Arc::<Live>::new(seed::live(NOON)));
    let id = api.first().await;
    let page = api.get(&format!("/alerts/{id}")).await.text();
    assert!(page.contains("15 minutes before and after") && page.contains("/hunt?sql=select"), "{page}");
    // Where there is nothing to ask, nothing leads there.
    let without = seeded().await;
    let id = without.first().await;
    assert!(!without.get(&format!("/alerts/{id}")).await.text().contains("/hunt?sql="));
}
