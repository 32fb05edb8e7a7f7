//! Exports: the list's rows, each once, in three formats.

use axum::http::header;
use serde_json::Value;

use super::{Answer, Api, empty, seed, seeded};

async fn export(api: &Api, query: &str) -> Answer {
    let answer = api.get(&format!("/api/v1/alerts/export?{query}")).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer
}

fn lines(answer: &Answer) -> Vec<Value> {
    answer.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The fields of RFC 4180's text: quoted or not, quotes doubled.
fn table(text: &str) -> Vec<Vec<String>> {
    let mut rows = vec![vec![String::new()]];
    let mut quoted = false;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let field = rows.last_mut().unwrap().last_mut().unwrap();
        match (quoted, c) {
            (true, '"') if chars.peek() == Some(&'"') => field.push(chars.next().unwrap()),
            (_, '"') => quoted = !quoted,
            (false, ',') => rows.last_mut().unwrap().push(String::new()),
            (false, '\r') if chars.peek() == Some(&'\n') => {
                chars.next();
                rows.push(vec![String::new()]);
            }
            (_, c) => field.push(c),
        }
    }
    assert_eq!(rows.pop().unwrap(), [""], "the last line ends, too");
    rows
}

#[tokio::test]
async fn an_export_has_the_rows_of_the_list() {
    let api = seeded().await;
    let whole = export(&api, "").await;
    let all = lines(&whole);
    assert_eq!((all.len(), whole.headers["x-total-count"].to_str().unwrap()), (11, "11"));
    assert_eq!(whole.headers["x-row-limit"], "100000");
    assert!(whole.header(header::CONTENT_DISPOSITION).contains("alerts.ndjson"));
    // As in the list, in the order in which they appeared.
    let listed = api.get("/api/v1/alerts?sort=created").await.json();
    assert_eq!(&Value::Array(all), &listed["items"]);
    assert_eq!(lines(&export(&api, "severity=critical&state=active").await).len(), 2);
    assert_eq!(export(&api, "rule=nothing").await.text(), "");
    for wrong in ["format=xlsx", "colour=red", "severity=bad", "limit=5"] {
        assert_eq!(api.get(&format!("/api/v1/alerts/export?{wrong}")).await.status, 400, "{wrong}");
    }
}

#[tokio::test]
async fn many_rows_come_each_once_a_page_at_a_time() {
    let api = empty(|_| {}).await;
    let alerts = (0..1_003).map(|n| {
        let mut alert = seed::revision("waf-fuzz", super::NOON);
        alert.body = alert.body.replacen(&alert.alert_id, &format!("{n:064}"), 1);
        alert.alert_id = format!("{n:064}");
        alert
    });
    let publication = vedette_store::model::Publication { alerts: alerts.collect(), ..Default::default() };
    api.store.publish(&publication).await.unwrap();
    let ids: Vec<_> =
        lines(&export(&api, "").await).iter().map(|line| line["alert_id"].to_string()).collect();
    assert!(ids.len() == 1_003 && ids.is_sorted(), "{}", ids.len());
    assert_eq!(table(&export(&api, "format=csv").await.text()).len(), 1_004);
}

#[tokio::test]
async fn a_table_can_be_read_back_and_starts_no_formula() {
    let api = empty(|_| {}).await;
    let mut alert = seed::revision("waf-fuzz", super::NOON);
    alert.rule_title = "=HYPERLINK(\"http://x\",\"y\")".to_owned();
    alert.summary = "two\r\nlines, with \"quotes\" \u{202e}".to_owned();
    let id = alert.alert_id.clone();
    let publication = vedette_store::model::Publication { alerts: vec![alert], ..Default::default() };
    api.store.publish(&publication).await.unwrap();
    let patch = serde_json::json!({"assignee": "@SUM(1+1)*cmd|' /C calc'!A0"});
    assert_eq!(api.patch(&format!("/api/v1/alerts/{id}"), "\"0\"", patch).await.status, 200);
    let answer = export(&api, "format=csv").await;
    assert!(answer.header(header::CONTENT_TYPE).starts_with("text/csv"));
    let rows = table(&answer.text());
    assert_eq!((rows.len(), rows[0].len(), rows[1].len()), (2, 17, 17));
    let of = |name: &str| rows[1][rows[0].iter().position(|own| own == name).unwrap()].as_str();
    assert_eq!(of("rule_title"), "'=HYPERLINK(\"http://x\",\"y\")");
    assert_eq!(of("summary"), "two\r\nlines, with \"quotes\" \u{202e}");
    assert_eq!(of("assignee"), "'@SUM(1+1)*cmd|' /C calc'!A0");
    assert_eq!((of("count"), of("entity"), of("crossed_at").len()), ("3911", "192.0.2.88", 27));
}

/// What the class Detection Finding of OCSF 1.8.0 requires where no profile is named (profiles require more: `cloud`, `osint`), as the
/// schema compiled for that version says.
const REQUIRED: [&str; 8] = [
    "activity_id",
    "category_uid",
    "class_uid",
    "finding_info",
    "metadata",
    "severity_id",
    "time",
    "type_uid",
];
/// Those of its attributes in that version that a finding here may have. Later versions have others (1.9.0: `notes` for `comment`).
const ATTRIBUTES: [&str; 24] = [
    "activity_id",
    "activity_name",
    "category_name",
    "category_uid",
    "class_name",
    "class_uid",
    "count",
    "end_time",
    "finding_info",
    "is_alert",
    "message",
    "metadata",
    "observables",
    "risk_score",
    "severity",
    "severity_id",
    "start_time",
    "status",
    "status_detail",
    "status_id",
    "time",
    "type_name",
    "type_uid",
    "unmapped",
];
/// The objects in it, each with what that version requires and what it has of that which is used here.
const OBJECTS: [(&str, &[&str], &[&str]); 8] = [
    (
        "/finding_info",
        &["uid"],
        &[
            "analytic",
            "attacks",
            "created_time",
            "desc",
            "first_seen_time",
            "last_seen_time",
            "related_events_count",
            "title",
            "uid",
        ],
    ),
    ("/finding_info/analytic", &["type_id"], &["name", "type", "type_id", "uid"]),
    ("/finding_info/attacks/0", &[], &["sub_technique", "tactic", "technique"]),
    ("/finding_info/attacks/0/technique", &[], &["name", "src_url", "uid"]),
    ("/finding_info/attacks/0/sub_technique", &[], &["name", "src_url", "uid"]),
    ("/metadata", &["product", "version"], &["product", "sequence", "uid", "version"]),
    ("/metadata/product", &[], &["name", "vendor_name", "version"]),
    ("/observables/0", &["type_id"], &["name", "type", "type_id", "value"]),
];

#[tokio::test]
async fn findings_have_what_the_schema_requires() {
    let api = seeded().await;
    let listed = api.get("/api/v1/alerts?rule=bot-stuffing&state=active").await.json();
    let id = listed["items"][0]["alert_id"].as_str().unwrap();
    let patch = serde_json::json!({"status": "closed", "disposition": "false_positive", "assignee": "ann"});
    assert_eq!(api.patch(&format!("/api/v1/alerts/{id}"), "\"0\"", patch).await.status, 200);
    let findings = lines(&export(&api, "format=ocsf").await);
    assert_eq!(findings.len(), 11);
    for finding in &findings {
        let members = finding.as_object().unwrap();
        for name in REQUIRED {
            assert!(members.contains_key(name), "{name} in {finding}");
        }
        for name in members.keys() {
            assert!(ATTRIBUTES.contains(&name.as_str()), "{name}");
        }
        for (path, required, known) in OBJECTS {
            let Some(object) = finding.pointer(path) else { continue };
            let names: Vec<&str> = object.as_object().unwrap().keys().map(String::as_str).collect();
            assert!(required.iter().all(|name| names.contains(name)), "{path}: {object}");
            assert!(names.iter().all(|name| known.contains(name)), "{path}: {object}");
        }
        let number = |name: &str| finding[name].as_i64().unwrap_or_else(|| panic!("{name}: {finding}"));
        assert_eq!((number("class_uid"), number("category_uid")), (2004, 2));
        assert_eq!(number("type_uid"), 2004 * 100 + number("activity_id"));
        assert!((1..=3).contains(&number("activity_id")) && (1..=5).contains(&number("severity_id")));
        assert!((1..=6).contains(&number("status_id")));
        // Milliseconds since 1970: of this century.
        for name in ["time", "start_time", "end_time"] {
            assert!((1_000_000_000_000..4_000_000_000_000).contains(&number(name)), "{name}");
        }
        let metadata = &finding["metadata"];
        assert_eq!(metadata["version"], "1.8.0");
        assert!(metadata["product"]["name"].is_string() && metadata["product"]["vendor_name"].is_string());
        assert!(finding["finding_info"]["uid"].is_string());
        assert!(finding["finding_info"]["analytic"]["type_id"].is_i64());
        for attack in finding["finding_info"]["attacks"].as_array().into_iter().flatten() {
            assert!(attack.get("technique").or(attack.get("tactic")).is_some(), "{attack}");
        }
        for observable in finding["observables"].as_array().into_iter().flatten() {
            assert!(observable["type_id"].is_i64() && observable["value"].is_string());
            let address = observable["name"].as_str().unwrap().ends_with(".ip");
            assert_eq!(observable["type_id"] == 2, address, "{observable}");
        }
    }
    let closed = findings.iter().find(|finding| finding["finding_info"]["uid"] == *id).unwrap();
    assert_eq!((closed["activity_id"].as_i64(), closed["status"].as_str()), (Some(3), Some("Suppressed")));
    let attacks = closed["finding_info"]["attacks"].to_string();
    assert!(attacks.contains("\"uid\":\"T1110.004\"") && attacks.contains("\"uid\":\"TA0001\""), "{attacks}");
}
