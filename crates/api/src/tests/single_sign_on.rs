//! Single sign-on against a provider of the test's own, which lies when it is told to. `tests/browser` has a real one.

use std::sync::{Arc, Mutex};

use axum::{
    Form, Json, Router,
    body::Body,
    extract::State,
    http::{HeaderMap, header},
    routing::{get, post},
};
use openidconnect::{
    JsonWebKeyId, PrivateSigningKey as _,
    core::{CoreEdDsaPrivateSigningKey, CoreHmacKey, CoreJwsSigningAlgorithm},
};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::net::TcpListener;
use vedette_store::model::{AuditQuery, Identity, Method, Proof, Role};

use super::{Answer, Api, empty, request};
use crate::{
    metrics::now,
    oidc::{ClientSecret, OidcSettings, RoleMapping},
    proof::oidc::Provider,
};

const CLIENT: &str = "vedette";
const SECRET: &str = "correct-horse";

/// An Ed25519 key made of this byte alone.
fn key(byte: u8, id: &str) -> CoreEdDsaPrivateSigningKey {
    let mut der = vec![0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
    der.extend([byte; 32]);
    let text = base64(&der, b'+', b'/');
    let pem = format!("-----BEGIN PRIVATE KEY-----\n{text}\n-----END PRIVATE KEY-----\n");
    CoreEdDsaPrivateSigningKey::from_ed25519_pem(&pem, Some(JsonWebKeyId::new(id.to_owned()))).unwrap()
}

/// Without padding.
fn base64(bytes: &[u8], sixty_two: u8, sixty_three: u8) -> String {
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let group =
            chunk.iter().fold(0_u32, |group, b| group << 8 | u32::from(*b)) << (8 * (3 - chunk.len()));
        for at in 0..=chunk.len() {
            let digit = (group >> (18 - 6 * at)) as u8 & 63;
            out.push(char::from(match digit {
                0..26 => b'A' + digit,
                26..52 => b'a' + digit - 26,
                52..62 => b'0' + digit - 52,
                62 => sixty_two,
                _ => sixty_three,
            }));
        }
    }
    // A whole number of groups of three bytes needs no padding; what is used here in a PEM is one.
    out
}

fn url64(bytes: &[u8]) -> String {
    base64(bytes, b'-', b'_')
}

/// How a token is signed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Signed {
    Rightly,
    /// With a key that is in no list, under the name of one that is.
    ByAnother,
    /// With a key that comes into the list with this token.
    ByANewOne,
    /// With the client's secret.
    BySecret,
    Not,
}

/// What the provider answers.
struct Says {
    issuer: String,
    /// Of the ID token, over the usual ones; null takes one away.
    claims: Value,
    user_info: Value,
    signed: Signed,
    /// Of what the browser was sent with.
    nonce: String,
    challenge: String,
    /// Codes that were taken.
    taken: Vec<String>,
    looks: u32,
    tokens: u32,
}

type Shared = Arc<Mutex<Says>>;

fn jwt(says: &Says) -> String {
    let now = now().0 / 1_000_000;
    let mut claims = json!({
        "iss": says.issuer, "sub": "1", "aud": CLIENT, "exp": now + 300, "iat": now, "nonce": says.nonce,
        "groups": ["soc"], "preferred_username": "Ann",
    });
    for (claim, value) in says.claims.as_object().unwrap() {
        claims[claim] = value.clone();
    }
    claims.as_object_mut().unwrap().retain(|_, value| !value.is_null());
    let (alg, kid) = match says.signed {
        Signed::BySecret => ("HS256", "old"),
        Signed::Not => ("none", "old"),
        Signed::ByANewOne => ("EdDSA", "new"),
        _ => ("EdDSA", "old"),
    };
    let head = json!({"alg": alg, "kid": kid, "typ": "JWT"}).to_string();
    let text = format!("{}.{}", url64(head.as_bytes()), url64(claims.to_string().as_bytes()));
    let signature = match says.signed {
        Signed::Rightly => key(7, "old").sign(&CoreJwsSigningAlgorithm::EdDsa, text.as_bytes()).unwrap(),
        Signed::ByAnother => key(8, "old").sign(&CoreJwsSigningAlgorithm::EdDsa, text.as_bytes()).unwrap(),
        Signed::ByANewOne => key(9, "new").sign(&CoreJwsSigningAlgorithm::EdDsa, text.as_bytes()).unwrap(),
        Signed::BySecret => {
            CoreHmacKey::new(SECRET).sign(&CoreJwsSigningAlgorithm::HmacSha256, text.as_bytes()).unwrap()
        }
        Signed::Not => Vec::new(),
    };
    format!("{text}.{}", url64(&signature))
}

async fn metadata(State(says): State<Shared>) -> Json<Value> {
    let mut says = says.lock().unwrap();
    says.looks += 1;
    let issuer = &says.issuer;
    Json(json!({
        "issuer": issuer, "authorization_endpoint": format!("{issuer}/authorize"),
        "token_endpoint": format!("{issuer}/token"), "userinfo_endpoint": format!("{issuer}/me"),
        "jwks_uri": format!("{issuer}/keys"), "end_session_endpoint": format!("{issuer}/end"),
        "response_types_supported": ["code"], "subject_types_supported": ["public"],
        // Whatever it may say, a secret is no key and no signature is none.
        "id_token_signing_alg_values_supported": ["EdDSA", "HS256", "none"],
    }))
}

async fn keys(State(says): State<Shared>) -> Json<Value> {
    let mut keys = vec![key(7, "old").as_verification_key()];
    if says.lock().unwrap().signed == Signed::ByANewOne {
        keys.push(key(9, "new").as_verification_key());
    }
    Json(json!({"keys": keys}))
}

async fn token(
    State(says): State<Shared>,
    headers: HeaderMap,
    Form(form): Form<Vec<(String, String)>>,
) -> (axum::http::StatusCode, Json<Value>) {
    let mut says = says.lock().unwrap();
    says.tokens += 1;
    let field = |name: &str| form.iter().find(|(given, _)| given == name).map_or("", |(_, value)| value);
    let expected = format!("Basic {}", base64(format!("{CLIENT}:{SECRET}:").as_bytes(), b'+', b'/'));
    // `vedette:correct-horse` has 21 bytes; the last digits are of the colon after them.
    let authorized = headers.get(header::AUTHORIZATION).is_some_and(|given| {
        given.to_str().is_ok_and(|given| given.len() > 30 && expected.starts_with(given))
    });
    let proven = url64(&Sha256::digest(field("code_verifier").as_bytes())) == says.challenge;
    let code = field("code").to_owned();
    let redirect = field("redirect_uri") == "https://soc.example/sign-in/callback";
    if !authorized || !proven || !redirect || says.taken.contains(&code) {
        let error = json!({"error": "invalid_grant", "error_description": "no"});
        return (axum::http::StatusCode::BAD_REQUEST, Json(error));
    }
    says.taken.push(code);
    let answer = json!({"access_token": "a", "token_type": "Bearer", "id_token": jwt(&says)});
    (axum::http::StatusCode::OK, Json(answer))
}

async fn me(State(says): State<Shared>) -> Json<Value> {
    Json(says.lock().unwrap().user_info.clone())
}

/// A provider, and a closed API that trusts it.
struct World {
    says: Shared,
    api: Api,
    codes: std::sync::atomic::AtomicU32,
}

async fn serve(listener: TcpListener, says: Shared) {
    let router = Router::new()
        .route("/.well-known/openid-configuration", get(metadata))
        .route("/keys", get(keys))
        .route("/token", post(token))
        .route("/me", get(me))
        .with_state(says);
    axum_serve(listener, router).await;
}

/// As little of a server as the test needs: one request a connection.
async fn axum_serve(listener: TcpListener, router: Router) {
    while let Ok((stream, _)) = listener.accept().await {
        let service = hyper_util::service::TowerToHyperService::new(router.clone());
        let connection = hyper::server::conn::http1::Builder::new()
            .serve_connection(hyper_util::rt::TokioIo::new(stream), service);
        tokio::spawn(async move {
            let _ = connection.await;
        });
    }
}

fn settings(issuer: &str) -> OidcSettings {
    let roles = [("soc", Role::Analyst), ("leads", Role::Admin)];
    OidcSettings {
        name: "Acme ID".to_owned(),
        issuer: issuer.to_owned(),
        client_id: CLIENT.to_owned(),
        client_secret: ClientSecret::new(SECRET.to_owned()),
        public_url: "https://soc.example/".to_owned(),
        scopes: vec!["profile".to_owned()],
        roles: RoleMapping {
            claim: "groups".to_owned(),
            roles: roles.map(|(value, role)| (value.to_owned(), role)).to_vec(),
            otherwise: None,
        },
        ca_file: None,
    }
}

impl World {
    /// With the provider there, or a place where it may come to be.
    async fn new(there: bool) -> (Self, Option<TcpListener>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let issuer = format!("http://{}", listener.local_addr().unwrap());
        let says = Arc::new(Mutex::new(Says {
            issuer: issuer.clone(),
            claims: json!({}),
            user_info: json!({"sub": "1"}),
            signed: Signed::Rightly,
            nonce: String::new(),
            challenge: String::new(),
            taken: Vec::new(),
            looks: 0,
            tokens: 0,
        }));
        let kept = if there {
            tokio::spawn(serve(listener, Arc::clone(&says)));
            None
        } else {
            Some(listener)
        };
        let provider = Arc::new(Provider::new(settings(&issuer)).unwrap());
        let api = empty(|app| {
            app.open = false;
            app.secure = true;
            app.hosts = vec!["soc.example".to_owned()];
            app.proofs.provider = Some(provider);
        })
        .await;
        (Self { says, api, codes: std::sync::atomic::AtomicU32::default() }, kept)
    }

    async fn page(&self, path: &str, cookie: &str) -> Answer {
        // What the header says is nobody's public address.
        let request = request("GET", path).header(header::ACCEPT, "text/html").header(header::COOKIE, cookie);
        self.api.send(request.body(Body::empty()).unwrap()).await
    }

    /// Begins; gives the cookie and the state, and tells the provider the rest.
    async fn begin(&self, next: &str) -> (String, String) {
        let answer = self.page(&format!("/sign-in/begin?next={next}"), "").await;
        assert_eq!(answer.status, 303, "{}", answer.text());
        let place = answer.header(header::LOCATION).to_owned();
        let (end, query) = place.split_once('?').unwrap();
        let query: Vec<(String, String)> = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        let of = |name: &str| query.iter().find(|(given, _)| given == name).unwrap().1.clone();
        let mut says = self.says.lock().unwrap();
        assert_eq!(end, format!("{}/authorize", says.issuer));
        assert_eq!(of("redirect_uri"), "https://soc.example/sign-in/callback");
        assert_eq!(
            (of("response_type"), of("scope"), of("code_challenge_method"), of("client_id")),
            ("code".into(), "openid profile".into(), "S256".into(), CLIENT.into())
        );
        (says.nonce, says.challenge) = (of("nonce"), of("code_challenge"));
        let set = answer.header(header::SET_COOKIE);
        assert!(set.starts_with("__Host-vedette-sign-in="), "{set}");
        assert!(set.ends_with("; Path=/; Max-Age=600; HttpOnly; SameSite=Lax; Secure"), "{set}");
        (set.split(';').next().unwrap().to_owned(), of("state"))
    }

    fn code(&self) -> String {
        format!("code-{}", self.codes.fetch_add(1, std::sync::atomic::Ordering::Relaxed))
    }

    async fn back(&self, cookie: &str, state: &str) -> Answer {
        self.page(&format!("/sign-in/callback?code={}&state={state}", self.code()), cookie).await
    }

    async fn sign_in(&self) -> Answer {
        let (cookie, state) = self.begin("/rules").await;
        self.back(&cookie, &state).await
    }

    fn says(&self, claims: Value) {
        self.says.lock().unwrap().claims = claims;
    }
}

fn session(answer: &Answer) -> String {
    let cookies = answer.headers.get_all(header::SET_COOKIE).iter().map(|value| value.to_str().unwrap());
    let mut pairs = cookies.map(|cookie| cookie.split(';').next().unwrap());
    pairs.find(|pair| pair.starts_with("__Host-vedette=")).unwrap_or_default().to_owned()
}

fn cleared(answer: &Answer) -> bool {
    let mut cookies = answer.headers.get_all(header::SET_COOKIE).iter().map(|value| value.to_str().unwrap());
    cookies.any(|cookie| cookie.starts_with("__Host-vedette-sign-in=; Path=/; Max-Age=0;"))
}

#[tokio::test]
async fn somebody_comes_in_and_the_claim_gives_the_role_each_time() {
    let (world, _) = World::new(true).await;
    let page = world.page("/sign-in?next=/rules", "").await.text();
    assert!(page.contains("href=\"/sign-in/begin?next=%2Frules\">Sign in with Acme ID</a>"), "{page}");
    assert!(!page.contains("type=\"password\""), "nobody has one: {page}");
    let entered = world.sign_in().await;
    assert_eq!(
        (entered.status.as_u16(), entered.header(header::LOCATION)),
        (303, "/rules"),
        "{}",
        entered.text()
    );
    assert!(cleared(&entered));
    let cookie = session(&entered);
    assert!(world.page("/rules", &cookie).await.text().contains(">ann</a>"));
    let identity = Identity { issuer: world.says.lock().unwrap().issuer.clone(), subject: "1".to_owned() };
    let store = &world.api.store;
    let user = store.user_of(&identity).await.unwrap().unwrap();
    assert_eq!((user.name.as_str(), user.role), ("ann", Role::Analyst));
    assert_eq!(store.sessions().await.unwrap()[0].method, Method::Provider);
    // Another name of the same subject is the same user; the role follows the claim.
    world.says(json!({"groups": ["leads", "soc"], "preferred_username": "eve", "email": "eve@x"}));
    assert_eq!(world.sign_in().await.status, 303);
    assert_eq!(store.user_of(&identity).await.unwrap().unwrap().role, Role::Admin);
    assert_eq!(store.users().await.unwrap().len(), 1);
    let audit = store.audit(&AuditQuery { limit: 10, ..AuditQuery::default() }).await.unwrap().items;
    let said: Vec<_> = audit.iter().map(|e| (e.actor.as_str(), e.action.as_str())).collect();
    let actor = "single sign-on";
    assert_eq!(
        said,
        [("ann", "signed_in"), (actor, "user_role"), ("ann", "signed_in"), (actor, "user_added")]
    );
    assert_eq!(world.says.lock().unwrap().looks, 1, "it says of itself what it is once");
    // Kept out, whatever the provider says.
    store.set_user_disabled("ann", true, "test").await.unwrap();
    let refused = world.sign_in().await;
    assert_eq!((refused.status.as_u16(), session(&refused).as_str()), (403, ""));
    assert!(refused.text().contains("Acme ID knows you, but the user ann is disabled here."));
    let audit = store.audit(&AuditQuery { limit: 1, ..AuditQuery::default() }).await.unwrap().items;
    assert_eq!(audit[0].action, "sign_in_refused");
}

#[tokio::test]
async fn signing_out_offers_to_sign_out_there_too() {
    let (world, _) = World::new(true).await;
    let cookie = session(&world.sign_in().await);
    let page = world.page("/account", &cookie).await.text();
    let (_, rest) = page.split_once("name=\"csrf\" value=\"").unwrap();
    let csrf = rest.split('"').next().unwrap();
    let out = request("POST", "/sign-out")
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
        .header("sec-fetch-site", "same-origin")
        .header(header::COOKIE, &cookie);
    let out = world.api.send(out.body(format!("csrf={csrf}").into()).unwrap()).await;
    assert_eq!((out.status.as_u16(), out.header(header::LOCATION)), (303, "/sign-in?signed_out=1"));
    let issuer = world.says.lock().unwrap().issuer.clone();
    let page = world.page("/sign-in?signed_out=1", "").await.text();
    assert!(page.contains(&format!("href=\"{issuer}/end?client_id=vedette&#38;post_logout_redirect_uri=https%3A%2F%2Fsoc.example%2Fsign-in\"")), "{page}");
    assert!(!world.page("/sign-in", "").await.text().contains("/end?"));
}

#[tokio::test]
async fn a_token_that_is_not_what_it_has_to_be_lets_nobody_in() {
    let (world, _) = World::new(true).await;
    let now = now().0 / 1_000_000;
    for claims in [
        json!({"aud": "another"}),
        json!({"aud": [CLIENT, "another"]}),
        json!({"aud": null}),
        json!({"azp": "another"}),
        json!({"iss": "https://another.example"}),
        json!({"nonce": "another"}),
        json!({"nonce": null}),
        json!({"exp": now - 90}),
        json!({"exp": null}),
        json!({"iat": now + 90}),
        json!({"sub": null}),
        json!({"at_hash": "AAAA"}),
    ] {
        world.says(claims.clone());
        let refused = world.sign_in().await;
        assert_eq!(refused.status, 401, "{claims}: {}", refused.text());
        assert!(refused.text().contains("What Acme ID answered cannot be trusted"), "{claims}");
        assert!(session(&refused).is_empty() && cleared(&refused), "{claims}");
    }
    world.says(json!({}));
    for signed in [Signed::ByAnother, Signed::BySecret, Signed::Not] {
        world.says.lock().unwrap().signed = signed;
        assert_eq!(world.sign_in().await.status, 401);
    }
    assert!(world.api.store.users().await.unwrap().is_empty());
    world.says.lock().unwrap().signed = Signed::Rightly;
    // Clocks may differ by a minute.
    for claims in [json!({"exp": now - 20}), json!({"iat": now + 20})] {
        world.says(claims.clone());
        assert_eq!(world.sign_in().await.status, 303, "{claims}");
    }
}

#[tokio::test]
async fn only_the_browser_that_began_can_finish_and_once() {
    let (world, _) = World::new(true).await;
    let (cookie, state) = world.begin("/").await;
    let (other, other_state) = world.begin("/").await;
    let flipped =
        if state.starts_with('0') { state.replacen('0', "1", 1) } else { format!("0{}", &state[1..]) };
    let forged = cookie.replacen("%2F", "%2Frules", 1);
    assert_ne!(forged, cookie);
    for (cookie, state) in [
        ("", &state),
        (&*cookie, &other_state),
        (&*cookie, &flipped),
        (&*cookie, &String::new()),
        (&*forged, &state),
    ] {
        let refused = world.back(cookie, state).await;
        assert_eq!((refused.status.as_u16(), session(&refused).as_str()), (401, ""));
        assert!(refused.text().contains("was not begun in this browser"), "{}", refused.text());
    }
    assert_eq!(world.says.lock().unwrap().tokens, 0, "nothing of it reached the provider");
    let lure = "/sign-in/callback?error=access_denied&error_description=Call+0900";
    assert!(!world.page(lure, &cookie).await.text().contains("0900"), "strangers' words are not shown");
    let said = world.page(&format!("{lure}&state={state}"), &cookie).await;
    assert!(said.status == 401 && said.text().contains("Acme ID says: access_denied: Call 0900"));
    let mixed = format!("/sign-in/callback?code=x&iss=https%3A%2F%2Fevil.example&state={other_state}");
    assert_eq!(world.page(&mixed, &other).await.status, 401);
    // The same code again, by who kept the cookie.
    let path = format!("/sign-in/callback?code=once&state={other_state}");
    assert_eq!(world.page(&path, &other).await.status, 303);
    let again = world.page(&path, &other).await;
    assert!(
        again.status == 401 && again.text().contains("does not take this sign-in any more"),
        "{}",
        again.text()
    );
    // Nobody is sent elsewhere.
    for next in ["//evil.example", "https%3A%2F%2Fevil.example", "%2F%5Cevil.example"] {
        let (cookie, state) = world.begin(next).await;
        assert_eq!(world.back(&cookie, &state).await.header(header::LOCATION), "/", "{next}");
    }
}

#[tokio::test]
async fn who_gets_no_role_is_told_why() {
    let (world, _) = World::new(true).await;
    world.says(json!({"groups": ["guests"]}));
    let refused = world.sign_in().await;
    let wanted = "gives you no role here: the claim `groups` has to hold one of `soc`, `leads`, and";
    assert_eq!(refused.status, 403);
    assert!(refused.text().contains(&format!("{wanted} it holds `guests`.")), "{}", refused.text());
    // What is not in the token is asked for.
    world.says(json!({"groups": null}));
    assert!(world.sign_in().await.text().contains(&format!("{wanted} it is missing.")));
    world.says.lock().unwrap().user_info = json!({"sub": "2", "groups": ["soc"]});
    assert_eq!(world.sign_in().await.status, 503, "of somebody else");
    assert!(world.api.store.users().await.unwrap().is_empty());
    world.says.lock().unwrap().user_info =
        json!({"sub": "1", "groups": ["soc"], "preferred_username": "eve"});
    assert_eq!(world.sign_in().await.status, 303);
    assert_eq!(world.api.store.users().await.unwrap()[0].name, "ann", "what is signed counts");
}

#[tokio::test]
async fn a_name_that_is_taken_makes_nobody_somebody_else() {
    let (world, _) = World::new(true).await;
    let proof = Proof::Password { hash: "$argon2id$x".to_owned(), totp: None };
    world.api.store.add_user("ann", Role::Admin, &proof, "test").await.unwrap();
    assert_eq!(world.sign_in().await.status, 303);
    world.says(json!({"sub": "2"}));
    assert_eq!(world.sign_in().await.status, 303);
    let users = world.api.store.users().await.unwrap();
    let users: Vec<_> = users.iter().map(|user| (user.name.as_str(), user.role)).collect();
    assert_eq!(users, [("ann", Role::Admin), ("ann-2", Role::Analyst), ("ann-3", Role::Analyst)]);
    world.says(json!({}));
    assert_eq!(world.sign_in().await.status, 303);
    assert_eq!(world.api.store.users().await.unwrap().len(), 3);
}

#[tokio::test]
async fn nobody_comes_in_under_the_system_s_name() {
    let (world, _) = World::new(true).await;
    world.says(json!({"groups": ["soc"], "preferred_username": "Vedette"}));
    assert_eq!(world.sign_in().await.status, 303);
    assert_eq!(world.api.store.users().await.unwrap()[0].name, "vedette-2");
}

#[tokio::test]
async fn a_new_key_is_looked_for() {
    let (world, _) = World::new(true).await;
    assert_eq!(world.sign_in().await.status, 303);
    world.says.lock().unwrap().signed = Signed::ByANewOne;
    // Not sooner than some seconds after the last look, so that strange tokens have nobody asked all the time.
    assert_eq!((world.sign_in().await.status.as_u16(), world.says.lock().unwrap().looks), (401, 1));
    tokio::time::sleep(std::time::Duration::from_millis(5_100)).await;
    assert_eq!((world.sign_in().await.status.as_u16(), world.says.lock().unwrap().looks), (303, 2));
    assert_eq!((world.sign_in().await.status.as_u16(), world.says.lock().unwrap().looks), (303, 2));
}

#[tokio::test]
async fn a_provider_that_is_away_is_asked_again() {
    let (world, listener) = World::new(false).await;
    let address = listener.as_ref().unwrap().local_addr().unwrap();
    drop(listener);
    assert!(!world.page("/sign-in", "").await.text().contains("did not answer"));
    let away = world.page("/sign-in/begin?next=/rules", "").await;
    assert_eq!(away.status, 503);
    assert!(away.text().contains("Acme ID does not answer at the moment."), "{}", away.text());
    assert!(away.text().contains("/sign-in/begin?next=%2Frules"), "there is a way on");
    assert!(
        world.page("/sign-in", "").await.text().contains("Acme ID did not answer when it was last asked.")
    );
    let listener = TcpListener::bind(address).await.unwrap();
    tokio::spawn(serve(listener, Arc::clone(&world.says)));
    tokio::time::sleep(std::time::Duration::from_millis(5_100)).await;
    assert_eq!(world.sign_in().await.status, 303);
    assert!(!world.page("/sign-in", "").await.text().contains("did not answer"));
}

#[tokio::test]
async fn without_a_provider_there_is_no_way_to_one() {
    let api = empty(|app| app.open = false).await;
    for path in ["/sign-in/begin", "/sign-in/callback?code=x&state=y"] {
        assert_eq!(api.get(path).await.status, 404, "{path}");
    }
}
