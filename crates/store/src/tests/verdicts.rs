//! How closed alerts turned out, by rule and entity.

use super::*;
use crate::Verdicts;

async fn close(store: &Store, id: &str, disposition: Option<Disposition>) {
    let patch = TriagePatch { disposition, ..to(Status::Closed) };
    let version = get(store, id).await.triage.version;
    store.patch_triage(id, version, &patch, "ann").await.unwrap();
}

#[tokio::test]
async fn verdicts_are_counted_by_rule_and_entity_for_a_page_at_once() {
    let (_folder, store) = store().await;
    let host = |value: &str| EntityRef { kind: "host.name".to_owned(), value: value.to_owned() };
    let of = |id: &str, rule: &str, value: &str| {
        let mut of = alert(id, 1, 10, 5);
        (of.rule_id, of.entity) = (rule.to_owned(), Some(host(value)));
        of
    };
    let rows = [
        ("a", "r", "h"),
        ("b", "r", "h"),
        ("c", "r", "h"),
        ("d", "r", "h"),
        ("e", "r", "g"),
        ("f", "q", "h"),
    ];
    publish_alerts(&store, rows.iter().map(|(id, rule, value)| of(id, rule, value)).collect()).await;
    close(&store, "a", Some(Disposition::FalsePositive)).await;
    close(&store, "b", Some(Disposition::FalsePositive)).await;
    close(&store, "c", None).await;
    close(&store, "e", Some(Disposition::TruePositive)).await;
    close(&store, "f", Some(Disposition::Benign)).await;
    let (h, g, user) =
        (host("h"), host("g"), EntityRef { kind: "user.name".to_owned(), value: "h".to_owned() });
    let asked = [("r", &h), ("r", &g), ("r", &h), ("r", &user), ("nobody", &h)];
    let got = store.verdicts(&asked, None).await.unwrap();
    let expected = Verdicts { false_positive: 2, undecided: 1, ..Verdicts::default() };
    assert_eq!((got[0], got[2], got[0].total(), got[0].capped()), (expected, expected, 3, false));
    assert_eq!(got[1], Verdicts { true_positive: 1, ..Verdicts::default() });
    assert_eq!(got[3..], [Verdicts::default(); 2]);
    let later = Some(Micros(i64::MAX));
    assert_eq!(store.verdicts(&asked[..1], later).await.unwrap(), [Verdicts::default()]);
    assert!(store.verdicts(&[], None).await.unwrap().is_empty());
    let rules = store.rule_verdicts(Micros(0)).await.unwrap();
    assert_eq!((rules["r"].total(), rules["q"].of(Disposition::Benign)), (4, 1));
    // Opened again, it has no verdict; a notice that was withdrawn never had one.
    let version = get(&store, "a").await.triage.version;
    store.patch_triage("a", version, &to(Status::New), "ann").await.unwrap();
    assert_eq!(store.verdicts(&asked[..1], None).await.unwrap()[0].false_positive, 1);
}
