//! Users and their sessions.

use vedette_event::Span;

use sqlx::Row as _;

use super::*;
use crate::{Error, MAX_SESSIONS, NewSession};

fn password() -> Proof {
    Proof::Password { hash: "$argon2id$…".to_owned(), totp: None }
}

fn session<'a>(user: &'a str, n: u8, id: &'a str) -> NewSession<'a> {
    let method = Method::Password;
    NewSession { hash: [n; 32], id, user, method, step: None, address: "10.0.0.1", agent: "browser" }
}

async fn actions(store: &Store) -> Vec<String> {
    store.audit(&newest(50)).await.unwrap().items.into_iter().rev().map(|entry| entry.action).collect()
}

#[tokio::test]
async fn a_name_is_given_once_to_users_and_tokens() {
    let (_folder, store) = store().await;
    store.add_user("Ann", Role::Analyst, &password(), "root").await.unwrap();
    assert_eq!(store.user("ANN").await.unwrap().unwrap().name, "ann");
    for name in ["ann", "aNN"] {
        let again = store.add_user(name, Role::Admin, &password(), "root").await;
        assert!(matches!(again, Err(Error::UserExists { .. })));
        let token = store.create_token(name, Role::Admin, [1; 32], "root").await;
        assert!(matches!(token, Err(Error::UserExists { .. })));
    }
    store.create_token("Siem", Role::Reader, [1; 32], "root").await.unwrap();
    let taken = store.add_user("siem", Role::Reader, &password(), "root").await;
    assert!(matches!(taken, Err(Error::TokenExists { .. })));
    store.set_user_disabled("ann", true, "root").await.unwrap();
    let again = store.add_user("ann", Role::Admin, &password(), "root").await;
    assert!(matches!(again, Err(Error::UserExists { .. })), "nobody inherits a name");
}

#[tokio::test]
async fn nobody_is_called_as_the_system_is() {
    let (_folder, store) = store().await;
    for name in ["vedette", "Vedette", "VEDETTE"] {
        let user = store.add_user(name, Role::Reader, &password(), "root").await;
        assert!(matches!(user, Err(Error::SystemsName { .. })), "{name}");
        let token = store.create_token(name, Role::Reader, [1; 32], "root").await;
        assert!(matches!(token, Err(Error::SystemsName { .. })), "{name}");
        assert!(matches!(store.name_is_free(name).await, Err(Error::SystemsName { .. })));
    }
    assert!(store.name_is_free("vedette-2").await.is_ok());
    assert!(actions(&store).await.is_empty());
}

#[tokio::test]
async fn who_is_kept_out_has_no_session_and_gets_none() {
    let (_folder, store) = store().await;
    for name in ["ann", "bob"] {
        store.add_user(name, Role::Analyst, &password(), "root").await.unwrap();
        assert!(store.begin_session(&session(name, name.as_bytes()[0], name)).await.unwrap());
    }
    assert!(!store.begin_session(&session("eve", 9, "eve")).await.unwrap());
    let before = store.access_version().await.unwrap();
    assert!(store.set_user_disabled("ann", true, "root").await.unwrap());
    assert!(!store.set_user_disabled("ann", true, "root").await.unwrap());
    assert!(store.access_version().await.unwrap() > before);
    let users: Vec<_> = store.sessions().await.unwrap().into_iter().map(|session| session.user).collect();
    assert_eq!(users, ["bob"]);
    assert!(!store.begin_session(&session("ann", 2, "b")).await.unwrap());
    assert!(store.set_user_disabled("ann", false, "root").await.unwrap());
    assert!(store.begin_session(&session("ann", 2, "b")).await.unwrap());
    assert!(store.user("ann").await.unwrap().unwrap().last_signed_in_at.is_some());
    assert_eq!(
        actions(&store).await,
        ["user_added", "signed_in", "user_added", "signed_in", "user_disabled", "user_enabled", "signed_in"]
    );
}

#[tokio::test]
async fn a_new_password_ends_all_sessions_and_stays_out_of_the_audit() {
    let (_folder, store) = store().await;
    store.add_user("ann", Role::Analyst, &password(), "root").await.unwrap();
    store.begin_session(&session("ann", 1, "a")).await.unwrap();
    store.set_password("ann", "$argon2id$new", "root").await.unwrap();
    assert_eq!(store.sessions().await.unwrap(), []);
    let user = store.user("ann").await.unwrap().unwrap();
    assert!(user.proof == Proof::Password { hash: "$argon2id$new".to_owned(), totp: None });
    assert!(!format!("{:?} {user:?}", store.audit(&newest(50)).await.unwrap().items).contains("argon2id"));
    assert!(matches!(store.set_password("eve", "x", "root").await, Err(Error::NotFound { .. })));
}

#[tokio::test]
async fn a_code_begins_one_session() {
    let (_folder, store) = store().await;
    store.add_user("ann", Role::Analyst, &password(), "root").await.unwrap();
    let totp = Totp { secret: vec![7; 20], step: 100 };
    store.set_totp("ann", Some(&totp), "ann").await.unwrap();
    let with = |n, step, id| NewSession { step: Some(step), ..session("ann", n, id) };
    assert!(!store.begin_session(&with(1, 100, "a")).await.unwrap(), "taken when it was set up");
    assert!(store.begin_session(&with(1, 101, "a")).await.unwrap());
    assert!(!store.begin_session(&with(2, 101, "b")).await.unwrap());
    assert!(store.begin_session(&with(2, 102, "b")).await.unwrap());
    store.set_totp("ann", None, "root").await.unwrap();
    assert!(store.begin_session(&session("ann", 3, "c")).await.unwrap());
}

#[tokio::test]
async fn an_authenticators_secret_is_never_in_the_database_in_clear() {
    let (folder, store) = store().await;
    for name in ["ann", "bob"] {
        store.add_user(name, Role::Analyst, &password(), "root").await.unwrap();
    }
    let secret = b"twenty bytes of this";
    let totp = Totp { secret: secret.to_vec(), step: 100 };
    store.set_totp("ann", Some(&totp), "ann").await.unwrap();
    let of = async |store: &Store, name: &str| match store.user(name).await.unwrap().unwrap().proof {
        Proof::Password { totp: Some(totp), .. } => (totp.secret, totp.step),
        _ => panic!("{name} has no authenticator"),
    };
    assert_eq!(of(&store, "ann").await, (secret.to_vec(), 100));
    let held = async |store: &Store| {
        let rows = sqlx::query("select totp_secret from users where totp_secret is not null order by name");
        let rows = rows.fetch_all(&store.inner.readers).await.unwrap();
        let held: Vec<Vec<u8>> = rows.iter().map(|row| row.try_get("totp_secret").unwrap()).collect();
        assert!(
            held.iter().all(|held| held.len() == 49 && !held.windows(6).any(|part| part == &secret[..6])),
            "{held:?}"
        );
        held
    };
    assert_eq!(held(&store).await.len(), 1);
    // As an earlier build wrote it: it opens, and is sealed at the next start.
    let clear = "update users set totp_secret = $1, totp_step = 7 where name = 'bob'";
    sqlx::query(clear).bind(secret.to_vec()).execute(&store.inner.writer).await.unwrap();
    assert_eq!(of(&store, "bob").await, (secret.to_vec(), 7));
    drop(store);
    let store = Store::open(StoreSettings::new(folder.path(), Access::Engine)).await.unwrap();
    let held = held(&store).await;
    assert_ne!(held[0], held[1]);
    assert_eq!(of(&store, "bob").await, (secret.to_vec(), 7));
    // That of another does not open, nor does any without the key: then no code is right.
    let swap = sqlx::query("update users set totp_secret = $1 where name = 'ann'").bind(held[1].clone());
    swap.execute(&store.inner.writer).await.unwrap();
    assert_eq!(of(&store, "ann").await, (Vec::new(), i64::MAX));
    drop(store);
    std::fs::remove_file(folder.path().join("vedette.key")).unwrap();
    let store = Store::open(StoreSettings::new(folder.path(), Access::Engine)).await.unwrap();
    assert_eq!(of(&store, "bob").await, (Vec::new(), i64::MAX));
    store.set_totp("bob", Some(&totp), "bob").await.unwrap();
    assert_eq!(of(&store, "bob").await, (secret.to_vec(), 100));
}

#[tokio::test]
async fn who_comes_from_a_provider_has_no_password() {
    let (_folder, store) = store().await;
    let identity = Identity { issuer: "https://id.example".to_owned(), subject: "17".to_owned() };
    let proof = Proof::Provider(identity.clone());
    store.add_user("ann", Role::Analyst, &proof, "provider").await.unwrap();
    assert_eq!(store.user_of(&identity).await.unwrap().unwrap().name, "ann");
    let other = Identity { subject: "18".to_owned(), ..identity };
    assert!(store.user_of(&other).await.unwrap().is_none());
    assert!(matches!(store.set_password("ann", "x", "root").await, Err(Error::NotLocal { .. })));
    assert!(matches!(store.set_totp("ann", None, "root").await, Err(Error::NotLocal { .. })));
    assert!(store.set_user_role("ann", Role::Engineer, "provider").await.unwrap());
    assert!(!store.set_user_role("ann", Role::Engineer, "provider").await.unwrap());
    let entry = store.audit(&newest(1)).await.unwrap().items.remove(0);
    assert_eq!((entry.from.as_deref(), entry.to.as_deref()), (Some("\"analyst\""), Some("\"engineer\"")));
}

#[tokio::test]
async fn an_admin_manages_all_but_the_last_admin() {
    let (_folder, store) = store().await;
    let identity = Identity { issuer: "https://id.example".to_owned(), subject: "17".to_owned() };
    store.add_user("ann", Role::Admin, &password(), "root").await.unwrap();
    store.add_user("bob", Role::Analyst, &password(), "root").await.unwrap();
    store.add_user("eve", Role::Reader, &Proof::Provider(identity), "root").await.unwrap();
    let manage = async |name: &str, change| store.manage_user(name, change, "ann").await;
    let (demoted, out) = (UserChange::Role(Role::Engineer), UserChange::Disabled(true));
    for change in [demoted, out] {
        assert!(matches!(manage("ann", change).await, Err(Error::Clash { .. })), "nobody would be left");
    }
    // An admin who is kept out is none, and neither takes away nor is the last one.
    assert!(manage("bob", UserChange::Role(Role::Admin)).await.unwrap());
    assert!(manage("bob", out).await.unwrap());
    assert!(matches!(manage("ann", demoted).await, Err(Error::Clash { .. })));
    assert!(!manage("bob", out).await.unwrap());
    assert!(manage("bob", UserChange::Disabled(false)).await.unwrap());
    assert!(manage("ann", demoted).await.unwrap());
    assert!(matches!(manage("bob", out).await, Err(Error::Clash { .. })), "now it is bob");
    assert!(!manage("bob", UserChange::Role(Role::Admin)).await.unwrap());
    // What the next sign-in would undo is not done.
    assert!(matches!(manage("eve", UserChange::Role(Role::Admin)).await, Err(Error::Clash { .. })));
    assert!(manage("eve", out).await.unwrap());
    for (n, id) in [(1, "a"), (2, "b")] {
        assert!(store.begin_session(&session("ann", n, id)).await.unwrap());
    }
    assert!(manage("ann", UserChange::SignedOut).await.unwrap());
    assert!(!manage("ann", UserChange::SignedOut).await.unwrap());
    assert_eq!(store.sessions().await.unwrap(), []);
    assert!(matches!(manage("nobody", out).await, Err(Error::NotFound { .. })));
    let expected = [
        "user_added",
        "user_added",
        "user_added",
        "user_role",
        "user_disabled",
        "user_enabled",
        "user_role",
        "user_disabled",
        "signed_in",
        "signed_in",
        "sessions_revoked",
    ];
    assert_eq!(actions(&store).await, expected);
    // The operator may: whoever reaches the command line can make another one.
    assert!(store.set_user_disabled("bob", true, "command line").await.unwrap());
}

#[tokio::test]
async fn sessions_are_bounded_ended_and_forgotten() {
    let (_folder, store) = store().await;
    for name in ["ann", "bob"] {
        store.add_user(name, Role::Analyst, &password(), "root").await.unwrap();
    }
    let ids: Vec<String> = (0..30).map(|n| format!("s{n}")).collect();
    for (n, id) in (0_u8..).zip(&ids) {
        assert!(store.begin_session(&session("ann", n, id)).await.unwrap());
    }
    let there = store.sessions().await.unwrap();
    assert_eq!(there.len() as i64, MAX_SESSIONS);
    assert!(
        there.iter().any(|session| session.id == "s29") && there.iter().all(|session| session.id != "s0")
    );
    let foreign = store.end_session("s29", Some("bob"), "bob").await;
    assert!(matches!(foreign, Err(Error::NotFound { .. })));
    store.end_session("s29", Some("ann"), "ann").await.unwrap();
    store.end_session("s28", None, "root").await.unwrap();
    assert_eq!(actions(&store).await[32..], ["signed_out", "session_revoked"]);
    let now = there[0].created_at;
    let back = |secs: i64| Micros(now.0 - Span::secs(secs).0);
    assert_eq!(store.remove_sessions(back(3_600), back(3_600)).await.unwrap(), 0);
    let left = store.remove_sessions(back(3_600), Micros(now.0 + 1)).await.unwrap();
    assert_eq!(left as i64, MAX_SESSIONS - 2);
}

#[tokio::test]
async fn a_use_is_written_once_a_minute() {
    let (_folder, store) = store().await;
    store.add_user("ann", Role::Analyst, &password(), "root").await.unwrap();
    store.begin_session(&session("ann", 1, "a")).await.unwrap();
    let version = store.access_version().await.unwrap();
    store.session_used([1; 32]).await.unwrap();
    assert_eq!(store.access_version().await.unwrap(), version);
    let old = "update sessions set last_used_at = last_used_at - 61000000";
    sqlx::query(old).execute(&store.inner.writer).await.unwrap();
    store.session_used([1; 32]).await.unwrap();
    let admitted = store.admitted().await.unwrap();
    assert_eq!(admitted.version, version + 1);
    assert!(admitted.sessions[0].last_used_at >= admitted.sessions[0].created_at);
}
