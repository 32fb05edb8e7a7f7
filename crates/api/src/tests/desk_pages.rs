//! The pages of cases, snoozes, views, exceptions and the audit log; their forms work without any script.

use axum::http::header;
use serde_json::json;

use super::{Answer, Api, request, seeded};

pub(super) async fn form(api: &Api, path: &str, body: &str) -> Answer {
    let request = request("POST", path)
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
        .header("sec-fetch-site", "same-origin");
    api.send(request.body(body.to_owned().into()).unwrap()).await
}

/// Where a form led.
pub(super) async fn led(api: &Api, path: &str, body: &str) -> String {
    let answer = form(api, path, body).await;
    assert_eq!(answer.status, 303, "{path} {body}: {}", answer.text());
    answer.header(header::LOCATION).to_owned()
}

#[tokio::test]
async fn a_case_is_worked_on_with_forms_alone() {
    let api = seeded().await;
    let id = api.first().await;
    assert!(api.get("/cases").await.text().contains("No case"));
    let alert = api.get(&format!("/alerts/{id}")).await.text();
    assert!(alert.contains("action=\"/cases\"") && alert.contains("action=\"/snoozes\""));
    assert_eq!(led(&api, "/cases", &format!("title=A+%3Cb%3Ecase%3C%2Fb%3E&alert={id}")).await, "/cases/1");
    let page = api.get("/cases/1").await.text();
    assert!(page.contains("A &#60;b&#62;case&#60;/b&#62;") && page.contains(&format!("value=\"{id}\"")));
    assert!(api.get(&format!("/alerts/{id}")).await.text().contains("Into case 1"));
    assert!(api.get("/cases").await.text().contains("href=\"/cases/1\""));
    assert_eq!(led(&api, "/cases/1/notes", "text=Called+%3Ci%3Eher%3C%2Fi%3E").await, "/cases/1");
    assert_eq!(led(&api, "/cases/1/split", &format!("title=Part&alert={id}")).await, "/cases/2");
    assert_eq!(led(&api, "/cases/1/merge", "from=2").await, "/cases/1");
    let page = api.get("/cases/1").await.text();
    for text in
        ["Called &#60;i&#62;her", "split off into case 2", "case 2: Merged into case 1", "Case 2 merged in"]
    {
        assert!(page.contains(text), "{text}");
    }
    assert!(api.get("/cases/2").await.text().contains("into <a href=\"/cases/1\">case 1"));
    let saved = "version=1&title=New&assignee=ann&severity_floor=critical&status=in_progress";
    assert_eq!(led(&api, "/cases/1/change", saved).await, "/cases/1");
    let stale = form(&api, "/cases/1/change", saved).await;
    assert!(stale.status == 412 && stale.text().contains("Not saved"));
    let seq = api.get("/api/v1/cases/1").await.json()["seq"].clone();
    let close = format!("version=2&status=closed&disposition=benign&close_alerts=yes&as_of={seq}");
    assert_eq!(led(&api, "/cases/1/change", &close).await, "/cases/1");
    assert_eq!(api.get(&format!("/api/v1/alerts/{id}")).await.json()["triage"]["disposition"], "benign");
    assert!(api.get("/cases/1").await.text().contains("Open again"));
    assert_eq!(led(&api, "/cases/1/change", "version=3&status=open").await, "/cases/1");
    assert_eq!(led(&api, "/cases/1/remove", &format!("title=&alert={id}")).await, "/cases/1");
    assert_eq!(led(&api, "/cases", &format!("case=1&alert={id}")).await, "/cases/1");
    assert_eq!(form(&api, "/cases/1/remove", "").await.status, 400);
    assert_eq!(form(&api, "/cases/1/notes", "colour=red").await.status, 400);
    assert_eq!(form(&api, "/cases/9/notes", "text=x").await.status, 404);
}

#[tokio::test]
async fn snoozes_views_and_the_audit_log_are_pages() {
    let api = seeded().await;
    let id = api.first().await;
    let back = led(&api, "/snoozes", &format!("alert={id}&hours=24&reason=Load+test")).await;
    assert_eq!(back, format!("/alerts/{id}"));
    assert!(api.get(&back).await.text().contains("Snoozed by local until"));
    let listed = api.get("/snoozes").await.text();
    assert!(listed.contains("Load test") && listed.contains("action=\"/snoozes/1/lift\""));
    assert_eq!(form(&api, "/snoozes", &format!("alert={id}&hours=169&reason=x")).await.status, 400);
    assert_eq!(led(&api, "/snoozes/1/lift", "").await, "/snoozes");
    assert!(api.get("/snoozes").await.text().contains("Nothing is snoozed"));

    assert_eq!(led(&api, "/views", "name=High&query=severity%3Dhigh&shared=yes").await, "/views");
    let views = api.get("/views?query=status%3Dclosed").await.text();
    assert!(views.contains("href=\"/?severity=high\"") && views.contains("value=\"status=closed\""));
    assert_eq!(led(&api, "/views/1/remove", "").await, "/views");

    let audit = api.get("/audit").await.text();
    for text in ["snoozed", "snooze_lifted", "view_saved", "href=\"/audit?target=snooze%3A1\""] {
        assert!(audit.contains(text), "{text}");
    }
    assert!(api.get("/audit?actor=nobody&action=").await.text().contains("No change matches"));
    let told = api.get(&format!("/alerts/{id}/exception")).await.text();
    assert!(told.contains("What works today") && told.contains("known_"));
    api.json("POST", "/api/v1/cases", json!({"title": "x"})).await;
}
