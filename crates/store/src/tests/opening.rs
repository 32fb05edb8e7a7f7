//! The lease, the format, damage and a full disk.

use std::fs;

use super::*;
use crate::{
    Error,
    store::{STEPS, database_url, migrator},
};

fn inner(error: Error) -> Error {
    match error {
        Error::Open { source, .. } => *source,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_second_engine_on_the_folder_is_refused_and_a_tool_is_not() {
    let (folder, store) = store().await;
    let error = Store::open(StoreSettings::new(folder.path(), Access::Engine)).await.unwrap_err();
    assert!(matches!(error, Error::InUse { .. }));
    assert!(error.to_string().contains(folder.path().to_str().unwrap()), "{error}");
    let tool = Store::open(StoreSettings::new(folder.path(), Access::Tool)).await.unwrap();
    tool.create_token("ci", Role::Analyst, [1; 32], "root").await.unwrap();
    assert!(matches!(tool.publish(&Publication::default()).await, Err(Error::NotLeased)));
    assert_eq!(store.tokens().await.unwrap()[0].name, "ci");
    drop(store);
    let again = Store::open(StoreSettings::new(folder.path(), Access::Engine)).await.unwrap();
    assert_eq!(again.epoch(), Some(2));
}

/// A command that ends holds the lock for a moment.
#[tokio::test]
async fn an_engine_waits_a_moment_for_the_lock() {
    let folder = tempfile::tempdir().unwrap();
    let held = crate::lease::lock(folder.path()).unwrap();
    let release = async {
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        drop(held);
    };
    let (taken, ()) = tokio::join!(crate::lease::take(folder.path()), release);
    assert!(taken.is_ok(), "{taken:?}");
}

#[tokio::test]
async fn a_zombie_changes_nothing() {
    let (_folder, store) = store().await;
    publish_alerts(&store, vec![alert("a", 1, 10, 5)]).await;
    sqlx::query("update engine set epoch = 2").execute(&store.inner.writer).await.unwrap();
    let publication = Publication { alerts: vec![alert("a", 2, 10, 6)], ..Default::default() };
    let error = store.publish(&publication).await.unwrap_err();
    assert!(matches!(error, Error::LeaseLost { ours: 1, current: 2 }));
    assert!(error.fatal() && !error.retryable());
    let checkpoint = Checkpoint { group: 0, bytes: vec![1] };
    assert!(matches!(store.save_checkpoints(&[checkpoint]).await, Err(Error::LeaseLost { .. })));
    let patched = store.patch_triage("a", 0, &to(Status::Closed), "ann").await;
    assert!(matches!(patched, Err(Error::LeaseLost { .. })));
    let row = get(&store, "a").await;
    assert_eq!((row.revision, row.triage.status), (1, Status::New));
    assert_eq!(checkpoints(&store).await.unwrap(), vec![]);
}

#[tokio::test]
async fn a_newer_store_is_refused_and_left_as_it_is() {
    let (folder, store) = store().await;
    sqlx::query(
        "insert into _sqlx_migrations (version, description, success, checksum, execution_time) \
         values (99, 'later', 1, $1, 0)",
    )
    .bind(vec![0_u8])
    .execute(&store.inner.writer)
    .await
    .unwrap();
    store.close().await;
    for access in [Access::Engine, Access::Tool] {
        let error = Store::open(StoreSettings::new(folder.path(), access)).await.unwrap_err();
        let source = inner(error);
        let supported = STEPS.iter().map(|step| step.0).max().unwrap();
        assert!(
            matches!(source, Error::NewerStore { found: 99, supported: s } if s == supported),
            "{source:?}"
        );
        assert_eq!(
            source.to_string(),
            format!(
                "the store has format 99, and this version of vedette knows formats up to {supported}; use the newer \
                 version"
            )
        );
    }
}

#[tokio::test]
async fn a_store_of_the_first_format_is_brought_up_and_tells_the_truth_about_its_evidence() {
    use sqlx::Connection as _;
    let folder = tempfile::tempdir().unwrap();
    sqlx::any::install_default_drivers();
    let url = database_url(&folder.path().join("vedette.db"));
    let mut old = sqlx::AnyConnection::connect(&url).await.unwrap();
    migrator(&STEPS[..1]).run(&mut old).await.unwrap();
    for statement in [
        "insert into alerts (id, state, revision, rule_id, rule_title, severity, group_key, first_seen, \
         crossed_at, last_seen, covers_until, event_count, summary, search, body, evidence_pending, status, \
         triage_version, recurred, closed_here, created_at, created_seq, revision_seq, triage_seq, seq) \
         values ('a', 'active', 0, 'rule-1', 'Port Scan', 0, '{\"source.ip\":\"10.0.0.1\"}', 0, 0, 0, 0, 0, 'a', 'a', \
         '{\"rule\":{\"tags\":[\"attack.t1046\"]}}', 0, 'new', 0, 0, 0, 0, 0, 0, 0, 0)",
        "insert into topics (name, incarnation) values ('api', 3)",
        "insert into changes (seq, kind, id) values (7, 'rule_version', 'old'), (9, 'rule_version', 'new')",
        "insert into rule_versions (version, in_force_from, content) values ('new', 5, ''), ('old', 8, '')",
        "insert into evidence (id, topic, partition_no, offset_no, index_no, content) values \
         ('a', 'api', 0, 1, 0, '{}'), ('a', 'api', 0, 2, 0, ''), ('a', 'api', 0, 3, 0, null)",
    ] {
        sqlx::query(statement).execute(&mut old).await.unwrap();
    }
    old.close().await.unwrap();
    let store = Store::open(StoreSettings::new(folder.path(), Access::Engine)).await.unwrap();
    let contents: Vec<_> = store.evidence("a").await.unwrap().into_iter().map(|c| c.content).collect();
    let fault = Content::Undecodable("the record could not be decoded".to_owned());
    assert_eq!(contents, [Content::Present("{}".to_owned()), fault, Content::Gone]);
    assert_eq!(store.incarnations().await.unwrap()["api"], 3);
    let versions = store.rule_versions().await.unwrap().into_iter().map(|v| v.version);
    assert_eq!(versions.collect::<Vec<_>>(), ["old", "new"]);
    let row = get(&store, "a").await;
    assert_eq!(row.body, "{\"rule\":{\"tags\":[\"attack.t1046\"]}}");
    assert_eq!(row.techniques, ["T1046"]);
    for q in ["t1046", "10.0.0.1", "port sca"] {
        let filter = Filter { q: Some(q.into()), ..Default::default() };
        assert_eq!(
            store.list(&ListQuery { filter, ..Default::default() }).await.unwrap().items.len(),
            1,
            "{q}"
        );
    }
    let technique = Filter { technique: ["T1046".to_owned()].into(), ..Default::default() };
    let found = store.list(&ListQuery { filter: technique, ..Default::default() }).await.unwrap();
    assert_eq!(found.items.len(), 1);
}

/// Steps are added between others where several are made at a time: a store that has later ones takes it up all the same.
#[tokio::test]
async fn a_store_that_lacks_a_step_between_others_is_brought_up() {
    use sqlx::Connection as _;
    for lacking in [&[10, 13, 15, 16, 31][..], &[10, 14, 15], &[10, 15, 16]] {
        let folder = tempfile::tempdir().unwrap();
        sqlx::any::install_default_drivers();
        let url = database_url(&folder.path().join("vedette.db"));
        let mut old = sqlx::AnyConnection::connect(&url).await.unwrap();
        let steps: Vec<_> = STEPS.iter().filter(|step| !lacking.contains(&step.0)).copied().collect();
        migrator(&steps).run(&mut old).await.unwrap();
        sqlx::query(
            "insert into alerts (id, state, revision, rule_id, rule_title, severity, entity_type, entity_value, \
             group_key, first_seen, crossed_at, last_seen, covers_until, event_count, summary, search, body, \
             evidence_pending, status, triage_version, recurred, closed_here, created_at, created_seq, revision_seq, \
             triage_seq, seq) values ('a', 'active', 2, 'r', 'R', 3, 'client.ip', '192.0.2.1', '{}', 1, 1, 1, 1, 1, \
             's', 's', '{\"revision\":2}', 0, 'new', 0, 0, 0, 1, 4, 6, 0, 6)",
        )
        .execute(&mut old)
        .await
        .unwrap();
        for (revision, at) in [(1, 1), (2, 2)] {
            let sql = "insert into alert_revisions (id, revision, last_seen, event_count, severity, stored_at) \
                       values ('a', $1, 1, 1, 3, $2)";
            sqlx::query(sql).bind(revision).bind(at).execute(&mut old).await.unwrap();
        }
        sqlx::query(
            "insert into audit (seq, at, actor, action, target, after) values (5, 1, 'ann', 'triage', 'a', \
             '{\"status\":\"closed\",\"assignee\":null,\"disposition\":null,\"version\":1}')",
        )
        .execute(&mut old)
        .await
        .unwrap();
        sqlx::query("insert into changes (seq, kind, id) values (6, 'alert', 'a')")
            .execute(&mut old)
            .await
            .unwrap();
        old.close().await.unwrap();
        let store = Store::open(StoreSettings::new(folder.path(), Access::Engine)).await.unwrap();
        let row = store.alert("a").await.unwrap().unwrap();
        let entity = row.entity.clone().unwrap();
        let found = store.entity_rows(&entity, (None, 10)).await.unwrap();
        if lacking.contains(&13) {
            // Of the alerts of then the entity is known, and the newest revision's place; the one before cannot be made.
            assert_eq!(found.rows.len(), 1);
            let then = store.alert_at("a", 5).await.unwrap().unwrap();
            assert!(!then.exact && then.row.revision == 2, "{then:?}");
            assert!(store.alert_at("a", 6).await.unwrap().unwrap().exact);
        }
        // What was done then is told, and belongs to no change that can be taken back.
        assert_eq!(store.history("a").await.unwrap()[0].change_id, None);
        let refused = store.undo_triage(5, "ann", None).await;
        assert!(matches!(refused, Err(Error::NotFound { .. })));
        publish_alerts(&store, vec![alert("b", 1, 1, 1)]).await;
        store.close().await;
        let again = Store::open(StoreSettings::new(folder.path(), Access::Engine)).await.unwrap();
        assert_eq!(get(&again, "b").await.revision, 1);
    }
}

#[tokio::test]
async fn an_altered_format_is_refused() {
    let (folder, store) = store().await;
    sqlx::query("update _sqlx_migrations set checksum = $1")
        .bind(vec![0_u8])
        .execute(&store.inner.writer)
        .await
        .unwrap();
    store.close().await;
    let error = Store::open(StoreSettings::new(folder.path(), Access::Engine)).await.unwrap_err();
    assert!(matches!(inner(error), Error::Altered { version: 1 }));
}

#[tokio::test]
async fn a_file_that_is_no_database_is_called_damaged() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("vedette.db"), vec![b'x'; 8_192]).unwrap();
    let error = Store::open(StoreSettings::new(folder.path(), Access::Engine)).await.unwrap_err();
    assert!(error.fatal());
    assert!(error.to_string().contains(folder.path().to_str().unwrap()), "{error}");
    assert!(matches!(inner(error), Error::Corrupt { .. }));
}

#[tokio::test]
async fn a_full_disk_stops_all_writing_for_good() {
    let (_folder, store) = store().await;
    publish_alerts(&store, vec![alert("a", 1, 1, 1)]).await;
    sqlx::query("pragma max_page_count = 1").fetch_one(&store.inner.writer).await.unwrap();
    let bytes = vec![7; 4 << 20];
    let error = store.save_checkpoints(&[Checkpoint { group: 3, bytes }]).await.unwrap_err();
    assert!(matches!(error, Error::Disk { .. }), "{error:?}");
    assert!(error.fatal() && !error.retryable());
    sqlx::query("pragma max_page_count = 1000000").fetch_one(&store.inner.writer).await.unwrap();
    assert!(matches!(store.publish(&Publication::default()).await, Err(Error::Stopped)));
    assert_eq!(get(&store, "a").await.revision, 1);
    assert_eq!(checkpoints(&store).await.unwrap(), vec![]);
}

#[tokio::test]
async fn a_folder_that_cannot_be_made_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let error = Store::open(StoreSettings::new(file.join("data"), Access::Engine)).await.unwrap_err();
    assert!(matches!(error, Error::Folder { .. }));
    assert!(error.to_string().contains("file/data"), "{error}");
}

#[cfg(unix)]
#[tokio::test]
async fn nobody_else_can_read_the_store() {
    use std::os::unix::fs::PermissionsExt as _;
    let parent = tempfile::tempdir().unwrap();
    let made = parent.path().join("made");
    let found = parent.path().join("found");
    fs::create_dir(&found).unwrap();
    fs::set_permissions(&found, fs::Permissions::from_mode(0o755)).unwrap();
    for (folder, open) in [(&made, None), (&found, Some(0o755))] {
        let store = Store::open(StoreSettings::new(folder, Access::Engine)).await.unwrap();
        publish_alerts(&store, vec![alert("a", 1, 1, 1)]).await;
        assert_eq!(crate::lease::open_to_others(folder).unwrap(), open);
        let files: Vec<_> = fs::read_dir(folder).unwrap().map(|file| file.unwrap()).collect();
        assert_eq!(files.len(), 5, "database, two logs, lock, mark: {files:?}");
        for file in files {
            let mode = file.metadata().unwrap().permissions().mode() & 0o777;
            assert_eq!(mode, 0o600, "{file:?}");
        }
    }
}

#[tokio::test]
async fn unusual_folder_names_work() {
    let folder = tempfile::tempdir().unwrap();
    let odd = folder.path().join("with space %41 ? # ü");
    let store = Store::open(StoreSettings::new(&odd, Access::Engine)).await.unwrap();
    store.close().await;
    assert!(odd.join("vedette.db").exists());
}

#[tokio::test]
async fn durability_is_as_promised() {
    use sqlx::Row;
    let (_folder, store) = store().await;
    for (pragma, value) in [("pragma synchronous", 2_i64), ("pragma foreign_keys", 1)] {
        let row = sqlx::query(pragma).fetch_one(&store.inner.writer).await.unwrap();
        assert_eq!(row.get::<i64, _>(0), value, "{pragma}");
    }
    let row = sqlx::query("pragma journal_mode").fetch_one(&store.inner.writer).await.unwrap();
    assert_eq!(row.get::<String, _>(0), "wal");
    let written = sqlx::query("delete from alerts").execute(&store.inner.readers).await;
    assert!(written.is_err(), "readers cannot write");
}

#[tokio::test]
async fn reading_goes_on_while_a_write_is_open() {
    let (_folder, store) = store().await;
    publish_alerts(&store, vec![alert("a", 1, 1, 1)]).await;
    let mut tx = store.begin().await.unwrap();
    tx.change(ChangeKind::Admin, "x");
    assert_eq!(store.list(&ListQuery::default()).await.unwrap().items.len(), 1);
    tx.commit().await.unwrap();
}

#[tokio::test]
async fn checkpoints_come_back_whole_or_name_their_group() {
    let (_folder, store) = store().await;
    let saved: Vec<_> =
        (0..64).map(|group| Checkpoint { group, bytes: vec![group; usize::from(group)] }).collect();
    store.save_checkpoints(&saved).await.unwrap();
    assert_eq!(checkpoints(&store).await.unwrap(), saved);
    let newer = Checkpoint { group: 7, bytes: b"new".to_vec() };
    let publication = Publication { checkpoints: vec![newer.clone()], ..Default::default() };
    store.publish(&publication).await.unwrap();
    assert_eq!(checkpoints(&store).await.unwrap()[7], newer);
    sqlx::query("update checkpoints set state = $1 where key_group = 9")
        .bind(vec![9_u8; 8])
        .execute(&store.inner.writer)
        .await
        .unwrap();
    let error = checkpoints(&store).await.unwrap_err();
    assert!(matches!(error, Error::CorruptCheckpoint { group: 9 }));
    assert!(error.fatal());
}

#[tokio::test]
async fn checkpoints_are_dropped_but_for_one_that_is_whole() {
    let (_folder, store) = store().await;
    let missing = store.drop_checkpoints_but(64, "root").await;
    assert!(matches!(missing, Err(Error::NotFound { .. })));
    let saved: Vec<_> = [3, 9, 64].map(|group| Checkpoint { group, bytes: vec![group; 9] }).to_vec();
    store.save_checkpoints(&saved).await.unwrap();
    let damage = |group: i64| {
        let sql = "update checkpoints set state = $1 where key_group = $2";
        sqlx::query(sql).bind(vec![0_u8]).bind(group).execute(&store.inner.writer)
    };
    damage(9).await.unwrap();
    assert_eq!(store.drop_checkpoints_but(64, "root").await.unwrap(), 2);
    assert_eq!(checkpoints(&store).await.unwrap(), saved[2..]);
    assert_eq!(store.audit(&newest(1)).await.unwrap().items[0].action, "checkpoints_dropped");
    store.save_checkpoints(&saved[..1]).await.unwrap();
    damage(64).await.unwrap();
    let damaged = store.drop_checkpoints_but(64, "root").await;
    assert!(matches!(damaged, Err(Error::CorruptCheckpoint { group: 64 })));
}

#[tokio::test]
async fn small_values_and_incarnations_last() {
    let (folder, store) = store().await;
    assert_eq!(store.meta_or("secret", b"first").await.unwrap(), b"first");
    assert_eq!(store.meta_or("secret", b"second").await.unwrap(), b"first");
    store.set_meta("semantics_version", b"1").await.unwrap();
    for incarnation in [1, 2] {
        store.ask_to_accept("waf", "ann").await.unwrap();
        assert_eq!(store.accept_asked().await.unwrap()["waf"], incarnation);
    }
    store.close().await;
    let store = Store::open(StoreSettings::new(folder.path(), Access::Engine)).await.unwrap();
    assert_eq!(store.meta("secret").await.unwrap().unwrap(), b"first");
    assert_eq!(store.meta("semantics_version").await.unwrap().unwrap(), b"1");
    assert_eq!(store.incarnations().await.unwrap()["waf"], 2);
    assert_eq!(store.audit(&newest(10)).await.unwrap().items[0].to.as_deref(), Some("2"));
}

#[tokio::test]
async fn tokens_are_listed_revoked_and_audited() {
    let (_folder, store) = store().await;
    store.create_token("ann", Role::Admin, [1; 32], "root").await.unwrap();
    let again = store.create_token("ann", Role::Analyst, [2; 32], "root").await;
    assert!(matches!(again, Err(Error::TokenExists { .. })));
    let token = store.tokens().await.unwrap().remove(0);
    assert_eq!((token.hash, token.role, token.last_used_at), ([1; 32], Role::Admin, None));
    store.token_used(&token).await.unwrap();
    assert!(store.tokens().await.unwrap()[0].last_used_at.is_some());
    store.revoke_token("ann", "root").await.unwrap();
    assert!(matches!(store.revoke_token("ann", "root").await, Err(Error::NotFound { .. })));
    store.create_token("ann", Role::Analyst, [2; 32], "root").await.unwrap();
    let tokens = store.tokens().await.unwrap();
    assert_eq!(tokens.iter().filter(|token| token.revoked_at.is_none()).count(), 1);
    let actions: Vec<_> =
        store.audit(&newest(10)).await.unwrap().items.into_iter().map(|entry| entry.action).collect();
    assert_eq!(actions, ["token_created", "token_revoked", "token_created"]);
}
