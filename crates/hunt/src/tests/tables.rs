//! Tables beside `events`.

use vedette_event::{Flags, Placed, Severity, Sources, State};
use vedette_sigma::{Lists, RuleFile};
use vedette_store::{
    Access, Store, StoreSettings,
    model::{AlertRevision, EntityRef, Publication},
};

use super::*;
use crate::{
    Tables, alerts,
    lake::{Lake, Writer, lean, placed},
    rules,
};

fn columns_of(names: &[&'static str]) -> Columns {
    Columns::of_lake(names.iter().copied(), &declared(), true)
}

/// A lake with six events of each of two sources.
fn lake(folder: &std::path::Path) -> Lake {
    let mut writer = Writer::new(folder);
    for source in ["fw", "w-af"] {
        let mut converter = columns_of(&["source.ip", "message"]).converter().unwrap();
        let batch = events(&Projection::new(converter.fields().cloned()), &rows());
        let origin = Origin { source: source.into(), ..origin() };
        let made = converter.convert(&batch, &origin, |_| Vec::new()).unwrap();
        let placed_at = [Placed { time: Micros(NOON), flags: Flags::NONE }; 6];
        let made = lean(&placed(&made, &placed_at, &[Micros(NOON); 6], 0).unwrap()).unwrap();
        writer.push(&source.into(), &made, 1).unwrap();
    }
    Lake::new(folder, writer.write(Micros(NOON)).unwrap()).unwrap()
}

fn asked(lake: &Lake, sql: &str) -> Result<Vec<Value>, Error> {
    let columns = columns_of(&["source.ip", "message", "user.name"]);
    all(Query::new(sql)?.ask(columns, Supply::Lake(Box::new(lake.clone())), Limits::default())?)
}

fn alert(id: &str, ip: &str) -> AlertRevision {
    AlertRevision {
        alert_id: id.to_owned(),
        revision: 1,
        state: State::Active,
        continuation: false,
        rule_id: "scan".to_owned(),
        rule_title: "Port scan".to_owned(),
        tags: vec!["attack.t1046".to_owned()],
        severity: Severity::High,
        key: format!("{{\"source.ip\":\"{ip}\"}}"),
        entity: Some(EntityRef { kind: "source.ip".to_owned(), value: ip.to_owned() }),
        sources: vec!["fw".to_owned()],
        first_seen: Micros(NOON),
        crossed_at: Micros(NOON),
        last_seen: Micros(NOON),
        covers_until: Micros(NOON),
        count: 3,
        measured: None,
        summary: "a scan".to_owned(),
        concerns: Vec::new(),
        body: format!("{{\"alert_id\":\"{id}\",\"key\":{{\"source.ip\":\"{ip}\"}}}}"),
    }
}

#[test]
fn each_source_has_a_table_of_its_own_columns() {
    let folder = tempfile::tempdir().unwrap();
    let columns = || columns_of(&["source.ip", "message"]);
    let sources = ["fw", "w-af", "idle", "events"].map(|name| (name.to_owned(), columns())).to_vec();
    let lake = lake(folder.path()).with_tables(Tables { sources, ..Tables::default() });
    for (sql, expected) in [
        ("select count(*) as n from events", 12),
        ("select count(*) as n from fw", 6),
        ("select count(*) as n from \"w-af\" where source.ip = '10.0.0.1'", 2),
        ("select count(*) as n from idle", 0),
        ("select count(*) as n from fw where vedette.source = 'w-af'", 0),
        ("select count(*) as n from fw join \"w-af\" w on fw.source.ip = w.source.ip", 7),
        (
            "select count(*) as n from events e join FW f on e.message = f.message and e.source.ip = f.source.ip",
            4,
        ),
    ] {
        assert_eq!(asked(&lake, sql).unwrap(), [json!({"n": expected})], "{sql}");
    }
    let names = asked(&lake, "select * from fw limit 1").unwrap();
    assert!(!names[0].as_object().unwrap().contains_key("user.name"));
    assert!(asked(&lake, "select count(*) from other").is_err());
    assert!(asked(&lake, "insert into fw values (1)").is_err());
}

#[test]
fn alerts_and_rules_are_tables_of_their_moment() {
    let data = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let store = runtime.block_on(Store::open(StoreSettings::new(data.path(), Access::Engine))).unwrap();
    let revisions = vec![alert("a", "10.0.0.1"), alert("b", "10.0.0.2"), alert("c", "192.0.2.200")];
    let publication = Publication { alerts: revisions, ..Publication::default() };
    runtime.block_on(store.publish(&publication)).unwrap();
    let (alerts, more) = runtime.block_on(alerts(&store)).unwrap();
    assert!(!more);
    let text = "title: Scan\nid: scan\nlogsource: {product: x}\ntags: [attack.t1046]\nlevel: low\n\
                detection: {a: {source.ip: 10.0.0.1}, condition: a}\n";
    let file = RuleFile { path: "scan.yml".into(), text: text.into() };
    let set = vedette_sigma::load(&[file], &Lists::default(), &Sources::default());
    let rules = rules(&set).unwrap();
    let tables = Tables { rows: vec![("alerts", alerts), ("rules", rules)], ..Tables::default() };
    let lake = lake(&data.path().join("lake")).with_tables(tables);
    let all = asked(&lake, "select * from alerts order by id").unwrap();
    assert_eq!(all.len(), 3);
    let first = &all[0];
    assert_eq!(
        (&first["id"], &first["state"], &first["severity"]),
        (&json!("a"), &json!("active"), &json!("high"))
    );
    assert_eq!((&first["entity"], &first["entity_type"]), (&json!("10.0.0.1"), &json!("source.ip")));
    assert_eq!((&first["key"], &first["count"]), (&json!("{\"source.ip\":\"10.0.0.1\"}"), &json!(3)));
    assert_eq!(
        (&first["crossed_at"], &first["status"]),
        (&json!("2026-01-01T12:00:00.000000Z"), &json!("new"))
    );
    assert_eq!((&first["techniques"], &first["assignee"]), (&json!(["T1046"]), &Value::Null));
    let joined = "select a.entity as e, r.level as l, count(*) as n from alerts a join events e on e.source.ip = a.entity \
                  join rules r on r.id = a.rule_id group by 1, 2 order by 1";
    if set.rules.is_empty() {
        panic!("{:?}", set.rejected);
    }
    let expected = json!([{"e": "10.0.0.1", "l": "low", "n": 4}, {"e": "10.0.0.2", "l": "low", "n": 2}]);
    assert_eq!(Value::from(asked(&lake, joined).unwrap()), expected);
    assert!(asked(&lake, "delete from alerts").is_err());
}
