//! People: signing in and out, sessions, forms, roles.

use std::{sync::OnceLock, time::Duration};

use axum::{body::Body, http::header};
use tower::ServiceExt as _;
use vedette_event::Span;
use vedette_store::model::{AuditEntry, AuditQuery, Proof, Role, Totp};

use super::{Answer, Api, empty, over, request};
use crate::{
    access::ROUTES,
    admission::{Admission, SessionLimits},
    auth::create_authenticator,
    proof::password,
};

const PASSWORD: &str = "correct horse battery";
/// In which a change made elsewhere counts.
const WITHIN: Duration = Duration::from_secs(1);

fn proof() -> Proof {
    static HASH: OnceLock<String> = OnceLock::new();
    Proof::Password { hash: HASH.get_or_init(|| password::hash(PASSWORD).unwrap()).clone(), totp: None }
}

async fn add(api: &Api, name: &str, role: Role) {
    api.store.add_user(name, role, &proof(), "test").await.unwrap();
}

/// A closed API with users of each role of people, named by it.
async fn staffed() -> Api {
    let api = empty(|app| app.open = false).await;
    for role in [Role::Reader, Role::Analyst, Role::Engineer, Role::Admin] {
        add(&api, role.name(), role).await;
    }
    super::seed::fill(&api.store, super::NOON).await;
    tokio::time::sleep(WITHIN).await;
    api
}

fn form(pairs: &[(&str, &str)]) -> String {
    form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish()
}

impl Api {
    /// A form posted by a browser, with this cookie.
    async fn form(&self, path: &str, cookie: &str, pairs: &[(&str, &str)]) -> Answer {
        let request = request("POST", path)
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header("sec-fetch-site", "same-origin")
            .header(header::ACCEPT, "text/html")
            .header(header::COOKIE, cookie);
        self.send(request.body(form(pairs).into()).unwrap()).await
    }

    async fn sign_in(&self, name: &str, password: &str, code: &str) -> Answer {
        self.form("/sign-in", "", &[("name", name), ("password", password), ("code", code)]).await
    }

    /// The cookie of somebody who signs in.
    async fn cookie(&self, name: &str) -> String {
        let answer = self.sign_in(name, PASSWORD, "").await;
        assert_eq!(answer.status, 303, "{}", answer.text());
        cookie_of(&answer)
    }

    async fn page(&self, path: &str, cookie: &str) -> Answer {
        let request = request("GET", path).header(header::ACCEPT, "text/html").header(header::COOKIE, cookie);
        self.send(request.body(Body::empty()).unwrap()).await
    }
}

fn cookie_of(answer: &Answer) -> String {
    answer.header(header::SET_COOKIE).split(';').next().unwrap().to_owned()
}

/// What the forms of a page carry.
fn csrf_of(page: &Answer) -> String {
    let text = page.text();
    let (_, rest) = text.split_once("name=\"csrf\" value=\"").unwrap_or_else(|| panic!("{text}"));
    rest.split('"').next().unwrap().to_owned()
}

async fn audit(api: &Api, limit: u32) -> Vec<AuditEntry> {
    api.store.audit(&AuditQuery { limit, ..AuditQuery::default() }).await.unwrap().items
}

#[tokio::test]
async fn a_browser_is_sent_to_sign_in_and_back() {
    let api = staffed().await;
    let away = api.page("/rules?x=1", "").await;
    assert_eq!(
        (away.status.as_u16(), away.header(header::LOCATION)),
        (303, "/sign-in?next=%2Frules%3Fx%3D1")
    );
    let page = api.page("/sign-in?next=%2Frules", "").await;
    assert_eq!(page.status, 200);
    assert!(page.text().contains("name=\"next\" value=\"/rules\""));
    assert!(
        !page.text().contains("Watching") && !page.text().contains("Not ready"),
        "a stranger is told nothing"
    );
    let pairs = [("name", "Analyst "), ("password", PASSWORD), ("next", "/rules")];
    let entered = api.form("/sign-in", "", &pairs).await;
    assert_eq!((entered.status.as_u16(), entered.header(header::LOCATION)), (303, "/rules"));
    let set = entered.header(header::SET_COOKIE);
    assert!(set.starts_with("vedette=") && set.ends_with("; HttpOnly; SameSite=Lax"), "{set}");
    let cookie = cookie_of(&entered);
    let queue = api.page("/", &cookie).await;
    assert_eq!(queue.status, 200);
    assert!(queue.text().contains(">analyst</a>") && queue.text().contains("Sign out"));
    let out = api.form("/sign-out", &cookie, &[("csrf", &csrf_of(&queue))]).await;
    // What a browser keeps to go back to is shown to nobody any more, nor where a session ended elsewhere.
    for left in [&out, &api.page("/", &cookie).await] {
        assert_eq!(left.headers["clear-site-data"], "\"cache\"");
    }
    assert_eq!((out.status.as_u16(), out.header(header::LOCATION)), (303, "/sign-in"));
    assert!(out.header(header::SET_COOKIE).starts_with("vedette=; Path=/; Max-Age=0;"));
    assert_eq!(api.page("/", &cookie).await.status, 303);
    let actions: Vec<_> = audit(&api, 2).await.into_iter().map(|e| e.action).collect();
    assert_eq!(actions, ["signed_out", "signed_in"]);
}

#[tokio::test]
async fn nobody_is_sent_elsewhere() {
    let api = staffed().await;
    for next in
        ["//evil.example", "https://evil.example/", "/\\evil.example", "/\t/evil.example", "/sign-out"]
    {
        let entered =
            api.form("/sign-in", "", &[("name", "reader"), ("password", PASSWORD), ("next", next)]).await;
        assert_eq!(entered.header(header::LOCATION), "/", "{next}");
    }
    let cookie = api.cookie("reader").await;
    let signed_in = api.page("/sign-in?next=%2F%2Fevil.example", &cookie).await;
    assert_eq!((signed_in.status.as_u16(), signed_in.header(header::LOCATION)), (303, "/"));
    assert_eq!(api.page("//evil.example", "").await.header(header::LOCATION), "/sign-in");
}

/// Who does not exist, is kept out or mistypes gets the same page, byte by byte.
#[tokio::test]
async fn a_refusal_tells_nothing() {
    let api = staffed().await;
    api.store.set_user_disabled("engineer", true, "test").await.unwrap();
    let secret = Totp { secret: create_authenticator().unwrap(), step: 0 };
    api.store.set_totp("admin", Some(&secret), "test").await.unwrap();
    let mut pages = Vec::new();
    for (name, password, code) in [
        ("nobody", PASSWORD, ""),
        ("analyst", "wrong", ""),
        ("engineer", PASSWORD, ""),
        ("admin", PASSWORD, ""),
        ("admin", PASSWORD, "000000"),
        ("admin", "wrong", "000000"),
    ] {
        let answer = api.sign_in(name, password, code).await;
        assert_eq!(answer.status, 401, "{name}");
        assert_eq!(answer.header(header::SET_COOKIE), "");
        pages.push(answer.text().replace(&format!("value=\"{name}\""), ""));
    }
    assert!(pages.windows(2).all(|two| two[0] == two[1]));
    // What was typed as a name and is none stays out of the audit: it may be a password.
    let audit = audit(&api, 100).await;
    let refused: Vec<_> = audit.iter().filter(|entry| entry.action == "sign_in_refused").collect();
    assert_eq!(refused.len(), 5);
    assert!(refused.iter().all(|entry| entry.target != "nobody"));
}

#[tokio::test]
async fn too_many_attempts_are_held_whoever_it_is() {
    let api = staffed().await;
    for name in ["analyst", "nobody"] {
        for _ in 0..5 {
            assert_eq!(api.sign_in(name, "wrong", "").await.status, 401);
        }
        let held = api.sign_in(name, PASSWORD, "").await;
        assert_eq!((held.status.as_u16(), held.header(header::RETRY_AFTER)), (429, "1"), "{name}");
        assert!(held.text().contains("Too many attempts"));
    }
    assert_eq!(api.sign_in("reader", PASSWORD, "").await.status, 303);
    let metrics = crate::metrics::Metric::SignIns.parts().0;
    let admin = api.cookie("admin").await;
    let scraped = api.page("/metrics", &admin).await.text();
    assert!(scraped.contains(&format!("{metrics}_total{{outcome=\"held\"}} 2")), "{scraped}");
    assert!(scraped.contains(&format!("{metrics}_total{{outcome=\"refused\"}} 10")));
}

#[tokio::test]
async fn a_code_is_asked_for_and_good_once() {
    let api = staffed().await;
    let cookie = api.cookie("analyst").await;
    let page = api.page("/account", &cookie).await;
    let (csrf, text) = (csrf_of(&page), page.text());
    let secret = text.split("name=\"secret\" value=\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    let code = |ahead: i64| {
        let bytes = totp_rs::Secret::Encoded(secret.clone()).to_bytes().unwrap();
        let totp = totp_rs::TOTP::new_unchecked(totp_rs::Algorithm::SHA1, 6, 1, 30, bytes);
        totp.generate((crate::metrics::now().0 / 1_000_000 + 30 * ahead).unsigned_abs())
    };
    let set = async |code: &str, password: &str| {
        let pairs = [("csrf", csrf.as_str()), ("secret", &secret), ("code", code), ("password", password)];
        api.form("/account/authenticator", &cookie, &pairs).await.status.as_u16()
    };
    assert_eq!(set("000000", PASSWORD).await, 400);
    assert_eq!(set(&code(-1), "wrong").await, 401);
    assert_eq!(set(&code(-1), PASSWORD).await, 303);
    assert_eq!(api.sign_in("analyst", PASSWORD, "").await.status, 401);
    assert_eq!(api.sign_in("analyst", PASSWORD, &code(1)).await.status, 303);
    assert_eq!(api.sign_in("analyst", PASSWORD, &code(1)).await.status, 401, "taken");
    let listed = api.page("/api/v1/sessions", &cookie).await.json();
    assert_eq!(listed["items"][0]["method"], "password_and_code");
}

#[tokio::test]
async fn a_form_without_its_token_changes_nothing() {
    let api = staffed().await;
    let id = api_first(&api).await;
    let (ann, other) = (api.cookie("analyst").await, api.cookie("engineer").await);
    let (csrf, foreign) =
        (csrf_of(&api.page("/account", &ann).await), csrf_of(&api.page("/account", &other).await));
    assert_ne!(csrf, foreign);
    let path = format!("/alerts/{id}/comments");
    for wrong in [None, Some(""), Some("x"), Some(foreign.as_str())] {
        let mut pairs = vec![("text", "hello")];
        pairs.extend(wrong.map(|wrong| ("csrf", wrong)));
        assert_eq!(api.form(&path, &ann, &pairs).await.status, 403, "{wrong:?}");
    }
    let send = async |media: &str, headers: &[(&str, &str)], path: &str, body: &str| {
        let mut request =
            request("POST", path).header(header::COOKIE, &ann).header(header::CONTENT_TYPE, media);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        api.send(request.body(body.to_owned().into()).unwrap()).await.status.as_u16()
    };
    let same = [("sec-fetch-site", "same-origin")];
    let api_path = format!("/api/v1{path}");
    let body = "{\"text\": \"hello\"}";
    for media in ["text/plain", "multipart/form-data; boundary=x", ""] {
        assert_eq!(send(media, &same, &api_path, body).await, 403, "{media}");
    }
    assert_eq!(
        send("application/json", &[], &api_path, body).await,
        403,
        "it does not say where it comes from"
    );
    assert_eq!(send("application/json", &[("sec-fetch-site", "cross-site")], &api_path, body).await, 403);
    let history = format!("/api/v1/alerts/{id}/history");
    assert_eq!(api.page(&history, &ann).await.json()["items"].as_array().unwrap().len(), 0);
    assert_eq!(send("application/json", &same, &api_path, body).await, 201);
    assert_eq!(send("application/json", &[("x-csrf-token", &csrf)], &api_path, body).await, 201);
    assert_eq!(api.form(&path, &ann, &[("text", "a&b=ü"), ("csrf", &csrf)]).await.status, 303);
    let history = api.page(&history, &ann).await.json();
    assert_eq!(history["items"].as_array().unwrap().len(), 3);
    assert!(history.to_string().contains("a&b=ü"));
}

async fn api_first(api: &Api) -> String {
    let cookie = api.cookie("reader").await;
    let list = api.page("/api/v1/alerts?state=active&limit=1", &cookie).await.json();
    list["items"][0]["alert_id"].as_str().unwrap().to_owned()
}

/// Who is let in where, by session: the same as by token.
#[tokio::test]
async fn sessions_have_the_roles_of_the_table() {
    let api = staffed().await;
    for role in [Role::Reader, Role::Analyst, Role::Engineer, Role::Admin] {
        let cookie = api.cookie(role.name()).await;
        let csrf = csrf_of(&api.page("/account", &cookie).await);
        for (method, template, least, _) in ROUTES {
            if *template == "/sign-out" {
                continue;
            }
            let path = template.replace("{id}", "x").replace("{name}", "console.css");
            let request = request(method.as_str(), &path).header(header::COOKIE, &cookie);
            let request = request.header("x-csrf-token", &csrf).body(Body::empty()).unwrap();
            let status = api.router.clone().oneshot(request).await.unwrap().status().as_u16();
            let kept_out = least.is_some_and(|least| !role.includes(least));
            assert_eq!(status == 403, kept_out, "{role} {method} {template}: {status}");
            // The form of signing in is empty here, and so refused as one that cannot be read.
            assert_ne!(status, 401, "{role} {method} {template}");
        }
    }
}

/// Whether a role is let into the route of this path.
fn let_in(role: Role, method: &str, path: &str) -> bool {
    let path = path.split(['?', '#']).next().unwrap();
    let fits = |template: &str| {
        let (own, given): (Vec<_>, Vec<_>) = (template.split('/').collect(), path.split('/').collect());
        own.len() == given.len()
            && own.iter().zip(given).all(|(own, given)| own.starts_with('{') || *own == given)
    };
    let route = ROUTES.iter().find(|(own, template, ..)| *own == *method && fits(template));
    route.unwrap_or_else(|| panic!("{method} {path}")).2.is_none_or(|least| role.includes(least))
}

/// What the attribute says, wherever it stands on the page.
fn said<'a>(page: &'a str, attribute: &str) -> Vec<&'a str> {
    page.split(&format!(" {attribute}=\"")).skip(1).map(|rest| rest.split('"').next().unwrap()).collect()
}

#[tokio::test]
async fn nobody_is_shown_a_button_that_would_refuse_him() {
    let api = staffed().await;
    let id = api_first(&api).await;
    let analyst = api.cookie("analyst").await;
    let csrf = csrf_of(&api.page("/account", &analyst).await);
    let csrf = ("csrf", csrf.as_str());
    let case = [("title", "A case"), ("alert", &id), csrf];
    assert_eq!(api.form("/cases", &analyst, &case).await.status, 303);
    let snooze = [("alert", id.as_str()), ("hours", "1"), ("reason", "A test"), csrf];
    assert_eq!(api.form("/snoozes", &analyst, &snooze).await.status, 303);
    let alert = format!("/alerts/{id}");
    let exception = format!("{alert}/exception");
    let pages = [
        "/", &alert, &exception, "/cases", "/cases/1", "/snoozes", "/views", "/rules", "/sources", "/account",
    ];
    let mut forms = Vec::new();
    for role in [Role::Reader, Role::Analyst] {
        let cookie = api.cookie(role.name()).await;
        let mut of_role = 0;
        for path in pages {
            let page = api.page(path, &cookie).await.text();
            let posts: Vec<_> =
                page.split("<form method=\"post\"").skip(1).map(|form| said(form, "action")[0]).collect();
            for action in posts.into_iter().chain(said(&page, "formaction")) {
                assert!(let_in(role, "POST", action), "{role} on {path}: {action}");
                of_role += 1;
            }
            let nav = page.split("<nav class=\"nav\"").nth(1).unwrap().split("</nav>").next().unwrap();
            let links = said(nav, "href");
            assert!(
                links.len() > 6 && links.iter().all(|link| let_in(role, "GET", link)),
                "{role} on {path}: {links:?}"
            );
        }
        forms.push(of_role);
        // What is not his to change he still sees.
        let page = api.page(&alert, &cookie).await.text();
        assert!(
            page.contains("case 1") && page.contains("id=\"triage\"") && page.contains("Snoozed by analyst")
        );
        assert_eq!(page.contains("name=\"act\""), role == Role::Analyst);
    }
    assert!(forms[0] >= 10 && forms[1] >= forms[0] + 8, "{forms:?}");
}

#[tokio::test]
async fn a_disabled_user_and_a_new_role_count_within_a_second() {
    let api = staffed().await;
    let cookie = api.cookie("engineer").await;
    let open = async || {
        let request = request("GET", "/api/v1/alerts/stream").header(header::COOKIE, &cookie);
        api.router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap()
    };
    let stream = open().await;
    assert_eq!(stream.status(), 200);
    let reload = async || {
        let request = request("POST", "/api/v1/reload").header(header::COOKIE, &cookie);
        let request =
            request.header("sec-fetch-site", "same-origin").header(header::CONTENT_TYPE, "application/json");
        api.send(request.body(Body::empty()).unwrap()).await.status.as_u16()
    };
    assert_ne!(reload().await, 403);
    api.store.set_user_role("engineer", Role::Reader, "test").await.unwrap();
    tokio::time::sleep(WITHIN).await;
    assert_eq!(reload().await, 403);
    assert_eq!(api.page("/", &cookie).await.status, 200);
    api.store.set_user_disabled("engineer", true, "test").await.unwrap();
    tokio::time::sleep(WITHIN).await;
    assert_eq!(api.page("/api/v1/alerts", &cookie).await.status, 401);
    let ended = axum::body::to_bytes(stream.into_body(), 1 << 20);
    assert!(tokio::time::timeout(Duration::from_secs(2), ended).await.is_ok(), "the stream goes on");
    api.store.set_user_disabled("engineer", false, "test").await.unwrap();
    tokio::time::sleep(WITHIN).await;
    assert_eq!(api.page("/api/v1/alerts", &cookie).await.status, 401, "the session does not come back");
}

#[tokio::test]
async fn sessions_are_seen_and_ended_by_whom_they_concern() {
    let api = staffed().await;
    let (ann, again, admin) =
        (api.cookie("analyst").await, api.cookie("analyst").await, api.cookie("admin").await);
    let list = async |cookie: &str| {
        let items = api.page("/api/v1/sessions", cookie).await.json()["items"].as_array().unwrap().clone();
        items
            .into_iter()
            .map(|s| {
                (
                    s["user"].as_str().unwrap().to_owned(),
                    s["id"].as_str().unwrap().to_owned(),
                    s["current"].as_bool().unwrap(),
                )
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(list(&ann).await.len(), 2);
    let all = list(&admin).await;
    assert_eq!(all.len(), 3);
    let end = async |cookie: &str, id: &str| {
        let request = request("DELETE", &format!("/api/v1/sessions/{id}")).header(header::COOKIE, cookie);
        let csrf = csrf_of(&api.page("/account", cookie).await);
        api.send(request.header("x-csrf-token", csrf).body(Body::empty()).unwrap()).await.status.as_u16()
    };
    let admins = &all.iter().find(|(user, ..)| user == "admin").unwrap().1;
    assert_eq!(end(&ann, admins).await, 404, "nobody but an admin sees or ends another's");
    let other = list(&ann).await.into_iter().find(|(_, _, current)| !current).unwrap().1;
    assert_eq!(end(&ann, &other).await, 204);
    assert_eq!(api.page("/", &again).await.status, 303);
    let anns = list(&ann).await[0].1.clone();
    let csrf = csrf_of(&api.page("/account", &admin).await);
    let page = api.page("/account", &admin).await.text();
    assert!(page.contains("Sessions of others") && page.contains(&anns));
    assert_eq!(
        api.form(&format!("/account/sessions/{anns}/end"), &admin, &[("csrf", &csrf)]).await.status,
        303
    );
    assert_eq!(api.page("/", &ann).await.status, 303);
    assert_eq!(api.page("/api/v1/users", &admin).await.json()["items"].as_array().unwrap().len(), 4);
}

#[tokio::test]
async fn an_admin_manages_people_on_the_page() {
    let api = staffed().await;
    let (admin, engineer, analyst) =
        (api.cookie("admin").await, api.cookie("engineer").await, api.cookie("analyst").await);
    let send = async |cookie: &str, csrf: &str, name: &str, pairs: &[(&str, &str)]| {
        let pairs: Vec<_> = [("csrf", csrf)].into_iter().chain(pairs.iter().copied()).collect();
        api.form(&format!("/account/users/{name}"), cookie, &pairs).await
    };
    let own = csrf_of(&api.page("/account", &engineer).await);
    let users = async || api.page("/api/v1/users", &admin).await.json()["items"].clone();
    let before = users().await;
    // Neither who is none, nor who has not seen the form, nor what is no role of people.
    let promoted = [("act", "role"), ("role", "admin")];
    assert_eq!(send(&engineer, &own, "engineer", &promoted).await.status, 403);
    assert_eq!(send(&admin, &own, "engineer", &promoted).await.status, 403);
    let csrf = csrf_of(&api.page("/account", &admin).await);
    let manage = async |name: &str, pairs: &[(&str, &str)]| send(&admin, &csrf, name, pairs).await;
    for wrong in [&[("act", "role"), ("role", "metrics")][..], &[("act", "role")], &[("act", "x")], &[]] {
        assert_eq!(manage("analyst", wrong).await.status, 400, "{wrong:?}");
    }
    assert_eq!(manage("nobody", &promoted).await.status, 404);
    // The last admin stays: the page offers nothing else, and says why to who asks nevertheless.
    let page = api.page("/account", &admin).await.text();
    assert!(page.contains("the last admin") && !page.contains("Disable admin"), "{page}");
    for change in [&[("act", "disable")][..], &[("act", "role"), ("role", "reader")]] {
        let refused = manage("admin", change).await;
        assert_eq!(refused.status, 409);
        assert!(refused.text().contains("admin is the last admin who may sign in."));
    }
    assert_eq!(users().await, before);

    // Each counts at once.
    assert_eq!(manage("analyst", &[("act", "sign_out")]).await.status, 303);
    assert_eq!(api.page("/rules", &analyst).await.status, 303);
    assert_eq!(api.page("/rules", &engineer).await.status, 200);
    assert_eq!(manage("engineer", &promoted).await.status, 303);
    assert_eq!(api.page("/api/v1/users", &engineer).await.status, 200);
    assert_eq!(manage("engineer", &[("act", "disable")]).await.status, 303);
    assert_eq!(api.page("/rules", &engineer).await.status, 303);
    assert_eq!(api.sign_in("engineer", PASSWORD, "").await.status, 401);
    assert_eq!(manage("engineer", &[("act", "enable")]).await.status, 303);
    let engineer = api.cookie("engineer").await;
    // One admin may take the other's role, who then is none.
    let own = csrf_of(&api.page("/account", &engineer).await);
    assert_eq!(send(&engineer, &own, "admin", &[("act", "role"), ("role", "reader")]).await.status, 303);
    assert_eq!(manage("engineer", &[("act", "disable")]).await.status, 403);
    let changes = audit(&api, 100).await;
    let changes: Vec<_> = changes
        .iter()
        .rev()
        .filter(|entry| entry.actor != entry.target && ["admin", "engineer"].contains(&&*entry.actor))
        .map(|entry| format!("{} {} {}", entry.actor, entry.action, entry.target))
        .collect();
    let expected = [
        "admin sessions_revoked analyst",
        "admin user_role engineer",
        "admin user_disabled engineer",
        "admin user_enabled engineer",
        "engineer user_role admin",
    ];
    assert_eq!(changes, expected);
}

#[tokio::test]
async fn sessions_end_when_idle_and_when_old() {
    for limits in [
        SessionLimits { idle: Span::secs(1), longest: Span::secs(60) },
        SessionLimits { idle: Span::secs(60), longest: Span::secs(1) },
    ] {
        let folder = tempfile::tempdir().unwrap();
        let settings = vedette_store::StoreSettings::new(folder.path(), vedette_store::Access::Engine);
        let store = vedette_store::Store::open(settings).await.unwrap();
        store.add_user("ann", Role::Reader, &proof(), "test").await.unwrap();
        let admission = Admission::follow(&store, limits).await.unwrap();
        let api = over(store, folder, |app| {
            app.open = false;
            app.secure = true;
            app.admission = admission;
        })
        .await;
        let entered = api.sign_in("ann", PASSWORD, "").await;
        let set = entered.header(header::SET_COOKIE);
        assert!(set.starts_with("__Host-vedette=") && set.ends_with("; Secure"), "{set}");
        let cookie = cookie_of(&entered);
        assert_eq!(api.page("/", &cookie).await.status, 200);
        // The name without TLS is not the name with it.
        assert_eq!(api.page("/", &cookie.replace("__Host-", "")).await.status, 303);
        tokio::time::sleep(Duration::from_millis(1_100)).await;
        assert_eq!(api.page("/", &cookie).await.status, 303, "{limits:?}");
    }
}

#[tokio::test]
async fn a_new_password_needs_the_old_one_and_signs_out_everywhere() {
    let api = staffed().await;
    let (cookie, other) = (api.cookie("analyst").await, api.cookie("analyst").await);
    let csrf = csrf_of(&api.page("/account", &cookie).await);
    let change = async |present: &str, new: &str, again: &str| {
        let pairs = [("csrf", csrf.as_str()), ("present", present), ("new", new), ("again", again)];
        api.form("/account/password", &cookie, &pairs).await.status.as_u16()
    };
    let new = "staple of another horse";
    assert_eq!(change("wrong", new, new).await, 401);
    assert_eq!(change(PASSWORD, new, "staple").await, 400);
    assert_eq!(change(PASSWORD, "short", "short").await, 400);
    assert_eq!(change(PASSWORD, new, new).await, 303);
    for cookie in [&cookie, &other] {
        assert_eq!(api.page("/", cookie).await.status, 303);
    }
    assert_eq!(api.sign_in("analyst", PASSWORD, "").await.status, 401);
    assert_eq!(api.sign_in("analyst", new, "").await.status, 303);
}

#[tokio::test]
async fn an_open_console_needs_nobody_and_says_so() {
    let api = empty(|_| {}).await;
    assert_eq!(api.page("/", "vedette=stale").await.status, 200);
    let account = api.page("/account", "").await.text();
    assert!(account.contains("Nobody needs to sign in here") && !account.contains("Sign out"));
    assert_eq!(api.page("/api/v1/account", "").await.json()["name"], "local");
}

#[tokio::test]
async fn before_the_first_user_the_page_says_how_to_make_one() {
    let api = empty(|app| app.open = false).await;
    assert!(api.page("/sign-in", "").await.text().contains("vedette user add --name NAME --role admin"));
    assert_eq!(api.sign_in("admin", "", "").await.status, 401);
    assert!(!staffed().await.page("/sign-in", "").await.text().contains("There is no user yet"));
}

/// Every form that changes something carries the session's token.
#[test]
fn every_form_carries_the_token() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../dashboards/console");
    let mut forms = 0;
    for file in std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()) {
        if file.extension().is_none_or(|extension| extension != "html") {
            continue;
        }
        let text = std::fs::read_to_string(&file).unwrap();
        for form in text.split("<form").skip(1).filter_map(|rest| rest.split("</form>").next()) {
            if form.contains("method=\"post\"") && !form.contains("action=\"/sign-in\"") {
                forms += 1;
                assert!(form.contains("{% include \"csrf.html\" %}"), "{}: <form{form}", file.display());
            }
        }
    }
    assert!(forms >= 6, "{forms}");
}
