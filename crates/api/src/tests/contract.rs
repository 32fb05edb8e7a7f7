//! The published schemas: generated from the code, held as files.

use std::{fs, path::Path};

use serde_json::{Value, json};
use vedette_event::{Alert, Notice};

use vedette_store::model::{ListQuery, RowState};

use super::seeded;
use crate::{
    alert_schema, openapi_document,
    problem::Kind,
    wire::{AlertDocument, AlertOrNotice},
};

/// Compares with the file in `schemas/`; `UPDATE_SCHEMAS=1` writes it.
fn held(name: &str, generated: &Value) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../schemas").join(name);
    let text = format!("{}\n", serde_json::to_string_pretty(generated).unwrap());
    if std::env::var_os("UPDATE_SCHEMAS").is_some() {
        fs::write(&path, &text).unwrap();
    }
    let held = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        held == text,
        "schemas/{name} differs from the code; if that is meant, run with UPDATE_SCHEMAS=1"
    );
}

#[test]
fn the_openapi_document_is_held() {
    held("openapi.json", &serde_json::to_value(openapi_document()).unwrap());
}

#[test]
fn the_alert_schema_is_held() {
    held("alert.schema.json", &alert_schema());
}

#[tokio::test]
async fn topics_say_of_an_alert_what_lists_say() {
    let api = seeded().await;
    let rows = api.store.list(&ListQuery { limit: 100, ..ListQuery::default() }).await.unwrap().items;
    assert!(
        [RowState::Notice, RowState::Active, RowState::Ended]
            .iter()
            .all(|state| rows.iter().any(|row| row.state == *state))
    );
    for row in rows {
        let told = vedette_act::document(&row).unwrap();
        assert_eq!(told, serde_json::to_string(&AlertDocument::of(row)).unwrap());
    }
}

#[test]
fn every_reference_resolves() {
    fn references(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(members) => {
                found.extend(members.get("$ref").and_then(Value::as_str).map(str::to_owned));
                members.values().for_each(|inner| references(inner, found));
            }
            Value::Array(items) => items.iter().for_each(|inner| references(inner, found)),
            _ => {}
        }
    }
    for document in [serde_json::to_value(openapi_document()).unwrap(), alert_schema()] {
        let mut found = Vec::new();
        references(&document, &mut found);
        assert!(!found.is_empty());
        for reference in found {
            let target = document.pointer(reference.strip_prefix('#').unwrap());
            assert!(target.is_some(), "{reference}");
        }
    }
}

#[test]
fn operations_have_names_of_their_own() {
    let document = serde_json::to_value(openapi_document()).unwrap();
    let paths = document["paths"].as_object().unwrap();
    let mut names: Vec<_> = paths.values().flat_map(|path| path.as_object().unwrap().values()).collect();
    names.retain(|operation| operation.get("operationId").is_some());
    let all = names.len();
    let mut names: Vec<_> = names.into_iter().map(|operation| operation["operationId"].to_string()).collect();
    names.sort();
    names.dedup();
    assert!(all >= 15 && names.len() == all, "{names:?}");
}

#[tokio::test]
async fn what_is_served_is_what_the_types_describe() {
    let api = seeded().await;
    for item in api.get("/api/v1/alerts").await.json()["items"].as_array().unwrap() {
        let typed: AlertOrNotice = serde_json::from_value(item.clone()).unwrap();
        assert_eq!(&serde_json::to_value(typed).unwrap(), item);
        let id = item.get("alert_id").or(item.get("notice_id")).unwrap().as_str().unwrap();
        let whole = api.get(&format!("/api/v1/alerts/{id}")).await.json();
        let typed: AlertOrNotice = serde_json::from_value(whole.clone()).unwrap();
        assert_eq!(serde_json::to_value(typed).unwrap(), whole);
        // The body alone has exactly the members that its type has.
        let body: Value = serde_json::from_str(&api.store.alert(id).await.unwrap().unwrap().body).unwrap();
        let again = match body.get("alert_id") {
            Some(_) => serde_json::to_value(serde_json::from_value::<Alert>(body.clone()).unwrap()),
            None => serde_json::to_value(serde_json::from_value::<Notice>(body.clone()).unwrap()),
        };
        assert_eq!(again.unwrap(), body);
    }
}

#[tokio::test]
async fn the_document_is_served() {
    let api = seeded().await;
    let served = api.get("/api/v1/openapi.json").await.json();
    assert_eq!(served["openapi"], "3.1.0");
    assert_eq!(served, serde_json::to_value(openapi_document()).unwrap());
}

#[test]
fn problem_types_hold() {
    let types: Vec<_> = Kind::ALL.iter().map(|kind| json!(kind.parts())).collect();
    insta::assert_json_snapshot!("problem_types", types);
}
