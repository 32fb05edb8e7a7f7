//! Accepting topics, with an engine and beside it.

use sqlx::Row as _;

use super::*;

#[tokio::test]
async fn a_tool_asks_and_the_engine_accepts_once() {
    let (folder, store) = store().await;
    let tool = Store::open(StoreSettings::new(folder.path(), Access::Tool)).await.unwrap();
    for _ in 0..2 {
        tool.ask_to_accept("waf", "ann").await.unwrap();
    }
    assert_eq!(store.asked_to_accept().await.unwrap(), [("waf".to_owned(), 0)].into());
    // What comes with it is still of the topic before.
    let both = Publication {
        dead_letters: vec![letter(3)],
        incarnations: vec![NewIncarnation { topic: "waf".to_owned(), incarnation: 1 }],
        ..Publication::default()
    };
    assert_eq!(store.publish(&both).await.unwrap().applied, 1);
    let again = Publication { dead_letters: Vec::new(), ..both };
    let seq = store.newest_seq().await.unwrap();
    assert_eq!(store.publish(&again).await.unwrap().seq, seq, "a repetition changes nothing");
    let after = Publication { dead_letters: vec![letter(3)], ..Publication::default() };
    assert_eq!(store.publish(&after).await.unwrap().applied, 1, "its offsets are new");
    assert_eq!(tool.incarnations().await.unwrap()["waf"], 1);
    assert!(tool.asked_to_accept().await.unwrap().is_empty());
    let audit = sqlx::query("select actor, after from audit where target = 'waf'");
    let audit = audit.fetch_all(&store.inner.readers).await.unwrap();
    let said: Vec<(String, String)> = audit.iter().map(|row| (row.get("actor"), row.get("after"))).collect();
    assert_eq!(said, [("ann".to_owned(), "1".to_owned())]);
}

#[tokio::test]
async fn what_was_asked_while_no_engine_ran_is_accepted_when_one_starts() {
    let (folder, store) = store().await;
    store.ask_to_accept("waf", "ann").await.unwrap();
    store.ask_to_accept("api", "ann").await.unwrap();
    store.close().await;
    let store = Store::open(StoreSettings::new(folder.path(), Access::Engine)).await.unwrap();
    let accepted = store.accept_asked().await.unwrap();
    assert_eq!(accepted, [("api".to_owned(), 1), ("waf".to_owned(), 1)].into());
    assert!(store.accept_asked().await.unwrap().is_empty());
    let incarnations = store.incarnations().await.unwrap();
    assert_eq!((incarnations["waf"], incarnations["api"]), (1, 1));
}

#[tokio::test]
async fn what_is_tried_again_is_still_of_the_topic_before() {
    let (_folder, store) = store().await;
    let of = alert("a", 1, 10, 5);
    publish_notices(&store, vec![notice("n", &of)]).await;
    let settled = Micros(90_000_000);
    let rule_id = of.rule_id.clone();
    let publication = Publication {
        passed: vec![Passed { rule_id, below: settled, settled, reason: Withdrawal::Uncovered }],
        dead_letters: vec![letter(3)],
        incarnations: vec![NewIncarnation { topic: "waf".to_owned(), incarnation: 1 }],
        ..Publication::default()
    };
    let fail =
        "create trigger fails before update of withdrawn on alerts begin select raise(abort, 'disk'); end";
    sqlx::query(fail).execute(&store.inner.writer).await.unwrap();
    assert!(store.publish(&publication).await.is_err());
    assert_eq!(store.incarnations().await.unwrap().get("waf"), None, "accepting it comes last");
    sqlx::query("drop trigger fails").execute(&store.inner.writer).await.unwrap();
    assert_eq!(store.publish(&publication).await.unwrap().applied, 0, "its letter is there");
    assert_eq!(store.incarnations().await.unwrap()["waf"], 1);
    let letters = sqlx::query("select incarnation from dead_letters").fetch_all(&store.inner.readers).await;
    let of: Vec<i64> = letters.unwrap().iter().map(|row| row.get("incarnation")).collect();
    assert_eq!(of, [0]);
}
