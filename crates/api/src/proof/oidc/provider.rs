//! The provider: what is known of it, and the two steps of a sign-in.
//!
//! In: settings; a path to go on to; what a browser brings back. Out: an address and a cookie; an identity with its role. Invariants:
//! what the provider says of itself is asked for once an hour at most, or where a key is new, and by one request at a time; after a
//! failure nobody asks again for some seconds.

use std::{
    error::Error as StdError,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use chrono::DateTime;
use openidconnect::{
    AccessToken, AccessTokenHash, AdditionalClaims, AuthType, AuthenticationFlow, AuthorizationCode,
    ClaimsVerificationError, Client, ClientId, CsrfToken, EmptyExtraTokenFields, EndpointMaybeSet,
    EndpointNotSet, EndpointSet, IdToken, IdTokenFields, IssuerUrl, LogoutRequest, Nonce,
    OAuth2TokenResponse as _, PkceCodeChallenge, PkceCodeVerifier, PostLogoutRedirectUrl,
    ProviderMetadataWithLogout, RedirectUrl, RequestTokenError, Scope, SignatureVerificationError,
    StandardErrorResponse, StandardTokenResponse, SubjectIdentifier, TokenResponse as _, UserInfoClaims,
    core::{
        CoreAuthDisplay, CoreAuthPrompt, CoreClientAuthMethod, CoreErrorResponseType, CoreGenderClaim,
        CoreJsonWebKey, CoreJweContentEncryptionAlgorithm, CoreJwsSigningAlgorithm, CoreResponseType,
        CoreRevocableToken, CoreRevocationErrorResponse, CoreTokenIntrospectionResponse, CoreTokenType,
    },
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use vedette_act::http::HttpError;
use vedette_event::Micros;
use vedette_store::model::{Identity, Role};

use super::{CALLBACK, OidcSettings, Refusal, claims, fetch::Fetcher, flow::Flow};
use crate::{error::Error, proof::seconds};

/// How long what the provider says of itself is taken for true: keys that it withdraws are not taken for longer.
const KEPT: Duration = Duration::from_secs(3_600);
/// After a failure, and between two looks for a new key.
const PAUSE: Duration = Duration::from_secs(5);
/// What both clocks may differ by.
const SKEW: i64 = 60;
/// For both of the requests of an answer, before the ten seconds in which everything is answered.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(8);
/// A code is a few hundred bytes; longer than this it is none.
const MAX_CODE: usize = 4_096;
/// Characters of the provider's own words that are shown.
const MAX_WORDS: usize = 200;

/// Signatures that a public key checks. A secret as a key would make everybody who knows it a provider.
const ALGORITHMS: [CoreJwsSigningAlgorithm; 9] = [
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha256,
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha384,
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha512,
    CoreJwsSigningAlgorithm::RsaSsaPssSha256,
    CoreJwsSigningAlgorithm::RsaSsaPssSha384,
    CoreJwsSigningAlgorithm::RsaSsaPssSha512,
    CoreJwsSigningAlgorithm::EcdsaP256Sha256,
    CoreJwsSigningAlgorithm::EcdsaP384Sha384,
    CoreJwsSigningAlgorithm::EdDsa,
];

/// All claims that the standard does not name: one of them gives the role.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct OwnClaims(Map<String, Value>);

impl AdditionalClaims for OwnClaims {}

type OwnIdToken =
    IdToken<OwnClaims, CoreGenderClaim, CoreJweContentEncryptionAlgorithm, CoreJwsSigningAlgorithm>;

type OwnTokenResponse = StandardTokenResponse<
    IdTokenFields<
        OwnClaims,
        EmptyExtraTokenFields,
        CoreGenderClaim,
        CoreJweContentEncryptionAlgorithm,
        CoreJwsSigningAlgorithm,
    >,
    CoreTokenType,
>;

/// The library's client, as discovery leaves it.
type OwnClient = Client<
    OwnClaims,
    CoreAuthDisplay,
    CoreGenderClaim,
    CoreJweContentEncryptionAlgorithm,
    CoreJsonWebKey,
    CoreAuthPrompt,
    StandardErrorResponse<CoreErrorResponseType>,
    OwnTokenResponse,
    CoreTokenIntrospectionResponse,
    CoreRevocableToken,
    CoreRevocationErrorResponse,
    EndpointSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointMaybeSet,
    EndpointMaybeSet,
>;

/// What a browser brings back from the provider.
#[derive(Debug, Default)]
pub(crate) struct Returned {
    pub code: Option<String>,
    pub state: Option<String>,
    pub issuer: Option<String>,
    pub error: Option<String>,
    pub description: Option<String>,
}

/// Whom the provider vouches for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Vouched {
    pub identity: Identity,
    /// What to call them, should they come for the first time.
    pub name: String,
    pub role: Role,
    /// Where they wanted to go.
    pub next: String,
}

/// What the provider said of itself, and when.
#[derive(Clone)]
struct Known {
    metadata: Arc<ProviderMetadataWithLogout>,
    at: Instant,
}

/// The provider's state as the last look found it.
#[derive(Default)]
struct Looked {
    known: Option<Known>,
    failed: Option<Instant>,
}

/// The provider.
pub(crate) struct Provider {
    settings: OidcSettings,
    issuer: IssuerUrl,
    redirect: RedirectUrl,
    after_logout: PostLogoutRedirectUrl,
    fetcher: Fetcher,
    looked: Mutex<Looked>,
    /// Held by who looks.
    looking: tokio::sync::Mutex<()>,
}

impl Provider {
    /// Checks the settings; asks nobody yet.
    ///
    /// # Errors
    /// [`Error::Oidc`] with what is wrong.
    pub fn new(settings: OidcSettings) -> Result<Self, Error> {
        let base = settings.public_url.trim_end_matches('/');
        let no_url = |what: &str| Error::Oidc(format!("{what} is no URL"));
        let issuer = IssuerUrl::new(settings.issuer.clone()).map_err(|_| no_url("the issuer"))?;
        let redirect =
            RedirectUrl::new(format!("{base}{CALLBACK}")).map_err(|_| no_url("the public address"))?;
        let after_logout = PostLogoutRedirectUrl::new(format!("{base}/sign-in"))
            .map_err(|_| no_url("the public address"))?;
        let fetcher = Fetcher::new(settings.ca_file.as_deref()).map_err(Error::Oidc)?;
        let (looked, looking) = (Mutex::default(), tokio::sync::Mutex::default());
        Ok(Self { settings, issuer, redirect, after_logout, fetcher, looked, looking })
    }

    /// What people know it as.
    pub fn name(&self) -> &str {
        &self.settings.name
    }

    /// True if it did not answer when it was last asked.
    pub fn is_away(&self) -> bool {
        self.looked().failed.is_some()
    }

    /// Where a browser signs out there too, if that is known.
    pub fn sign_out_url(&self) -> Option<String> {
        let metadata = self.looked().known.as_ref().map(|known| Arc::clone(&known.metadata))?;
        let endpoint = metadata.additional_metadata().end_session_endpoint.clone()?;
        // It becomes a link, so nothing but an address of the web.
        if !super::may_be_asked(endpoint.as_str()) {
            return None;
        }
        let request = LogoutRequest::from(endpoint)
            .set_client_id(ClientId::new(self.settings.client_id.clone()))
            .set_post_logout_redirect_uri(self.after_logout.clone());
        Some(request.http_get_url().to_string())
    }

    /// Asks the provider what it says of itself, before anybody signs in.
    pub async fn look(&self) {
        // What fails is in the log, and asked again at the first use.
        let _ = self.metadata(KEPT).await;
    }

    /// Where the browser goes that begins this sign-in.
    pub async fn begin(&self, flow: &Flow) -> Result<String, Refusal> {
        let metadata = self.metadata(KEPT).await?;
        let client = self.client(&metadata);
        let (state, nonce, verifier) = (flow.state(), flow.nonce(), PkceCodeVerifier::new(flow.verifier()));
        let (url, ..) = client
            .authorize_url(
                AuthenticationFlow::<CoreResponseType>::AuthorizationCode,
                || CsrfToken::new(state),
                || Nonce::new(nonce),
            )
            .add_scopes(self.settings.scopes.iter().cloned().map(Scope::new))
            .set_pkce_challenge(PkceCodeChallenge::from_code_verifier_sha256(&verifier))
            .url();
        Ok(url.to_string())
    }

    /// Takes what a browser brought back, with the cookie that it got when it began.
    pub async fn finish(
        &self,
        cookie: Option<&str>,
        returned: &Returned,
        now: Micros,
    ) -> Result<Vouched, Refusal> {
        let flow = cookie.and_then(|cookie| Flow::read(cookie, now)).ok_or(Refusal::NotBegun)?;
        // Before a word of it is believed or shown.
        if !returned.state.as_deref().is_some_and(|state| flow.is_of(state)) {
            return Err(Refusal::NotBegun);
        }
        if returned.issuer.as_deref().is_some_and(|issuer| issuer != self.issuer.as_str()) {
            tracing::warn!("an answer to a sign-in is of another provider");
            return Err(Refusal::Token);
        }
        if let Some(error) = &returned.error {
            let words = [Some(error), returned.description.as_ref()].into_iter().flatten();
            let words = words.map(String::as_str).collect::<Vec<_>>().join(": ");
            return Err(Refusal::Said(words.chars().filter(|c| !c.is_control()).take(MAX_WORDS).collect()));
        }
        let code = returned.code.as_ref().filter(|code| code.len() <= MAX_CODE).ok_or(Refusal::Code)?;
        match tokio::time::timeout(ANSWER_TIMEOUT, self.redeem(&flow, code)).await {
            Ok(answer) => answer,
            Err(_) => Err(self.failed(&HttpError::TimedOut(ANSWER_TIMEOUT))),
        }
    }

    async fn redeem(&self, flow: &Flow, code: &str) -> Result<Vouched, Refusal> {
        let metadata = self.metadata(KEPT).await?;
        let client = self.client(&metadata);
        let request = client.exchange_code(AuthorizationCode::new(code.to_owned())).map_err(|error| {
            tracing::error!(error = &error as &dyn StdError, "the identity provider names no token endpoint");
            Refusal::Token
        })?;
        let request = request.set_pkce_verifier(PkceCodeVerifier::new(flow.verifier()));
        let tokens = match request.request_async(&self.fetcher).await {
            Ok(tokens) => {
                self.looked().failed = None;
                tokens
            }
            Err(RequestTokenError::Request(error)) => return Err(self.failed(&error)),
            Err(RequestTokenError::ServerResponse(said)) => {
                tracing::warn!(error = %said.error(), "the identity provider does not take a code");
                return Err(Refusal::Code);
            }
            // Not with what it was: that may be a token.
            Err(_) => {
                tracing::warn!("the identity provider's answer to a code is no token");
                return Err(Refusal::Token);
            }
        };
        let Some(token) = tokens.id_token() else {
            tracing::warn!("the identity provider gave no ID token");
            return Err(Refusal::Token);
        };
        let nonce = Nonce::new(flow.nonce());
        let client = match self.verify(&client, token, &nonce, tokens.access_token()) {
            // A key of which nothing is known may be new.
            Err(ClaimsVerificationError::SignatureVerification(
                SignatureVerificationError::NoMatchingKey,
            )) => self.client(&*self.metadata(PAUSE).await?),
            _ => client,
        };
        let said = self.verify(&client, token, &nonce, tokens.access_token()).map_err(|error| {
            tracing::warn!(error = &error as &dyn StdError, "a token of the identity provider is not taken");
            Refusal::Token
        })?;
        let said = self.completed(&client, said, tokens.access_token()).await?;
        self.vouched(&said, flow)
    }

    /// The claims of a token that is what it has to be.
    fn verify(
        &self,
        client: &OwnClient,
        token: &OwnIdToken,
        nonce: &Nonce,
        access: &AccessToken,
    ) -> Result<Value, ClaimsVerificationError> {
        let now = seconds(crate::metrics::now());
        let time = |seconds: i64| DateTime::from_timestamp(seconds, 0).unwrap_or_default();
        let verifier = client
            .id_token_verifier()
            .set_allowed_algs(ALGORITHMS)
            .set_time_fn(move || time(now - SKEW))
            .set_issue_time_verifier_fn(move |issued| {
                if issued > time(now + SKEW) { Err("it is of the future".to_owned()) } else { Ok(()) }
            });
        let claims = token.claims(&verifier, nonce)?;
        let other = |what: &str| ClaimsVerificationError::Other(what.to_owned());
        if claims.authorized_party().is_some_and(|party| party.as_str() != self.settings.client_id) {
            return Err(other("it was issued for another party"));
        }
        if let Some(expected) = claims.access_token_hash() {
            let key = token.signing_key(&verifier).map_err(ClaimsVerificationError::SignatureVerification)?;
            let alg = token.signing_alg().map_err(|e| other(&e.to_string()))?;
            let actual = AccessTokenHash::from_token(access, alg, key).map_err(|e| other(&e.to_string()))?;
            if actual != *expected {
                return Err(other("it belongs to another access token"));
            }
        }
        serde_json::to_value(claims).map_err(|e| other(&e.to_string()))
    }

    /// The claims, with those that the provider gives on asking where the one for the role is not in the token.
    async fn completed(
        &self,
        client: &OwnClient,
        mut said: Value,
        access: &AccessToken,
    ) -> Result<Value, Refusal> {
        let subject = said["sub"].as_str().map(|subject| SubjectIdentifier::new(subject.to_owned()));
        if self.settings.roles.is_in(&said) {
            return Ok(said);
        }
        // Without the address of one, the token is all there is.
        let Ok(request) = client.user_info(access.clone(), subject) else { return Ok(said) };
        let more: Result<UserInfoClaims<OwnClaims, CoreGenderClaim>, _> =
            request.request_async(&self.fetcher).await;
        let more = more.map_err(|error| {
            tracing::warn!(
                error = &error as &dyn StdError,
                "the identity provider does not tell more of somebody"
            );
            Refusal::Away
        })?;
        if let (Value::Object(said), Ok(Value::Object(more))) = (&mut said, serde_json::to_value(&more)) {
            for (claim, value) in more {
                // What is signed counts.
                said.entry(claim).or_insert(value);
            }
        }
        Ok(said)
    }

    fn vouched(&self, said: &Value, flow: &Flow) -> Result<Vouched, Refusal> {
        let subject = said["sub"].as_str().unwrap_or_default().to_owned();
        let identity = Identity { issuer: self.issuer.as_str().to_owned(), subject };
        match self.settings.roles.role(said) {
            Some(role) => Ok(Vouched { identity, name: claims::name(said), role, next: flow.next.clone() }),
            None => Err(Refusal::NoRole { identity, missing: self.settings.roles.missing(said) }),
        }
    }

    fn client(&self, metadata: &ProviderMetadataWithLogout) -> OwnClient {
        let OidcSettings { client_id, client_secret, .. } = &self.settings;
        let client = OwnClient::from_provider_metadata(
            metadata.clone(),
            ClientId::new(client_id.clone()),
            Some(client_secret.clone()),
        );
        // In the header, as the standard has it where the provider says nothing.
        let in_header = metadata.token_endpoint_auth_methods_supported().is_none_or(|methods| {
            methods.contains(&CoreClientAuthMethod::ClientSecretBasic)
                || !methods.contains(&CoreClientAuthMethod::ClientSecretPost)
        });
        let how = if in_header { AuthType::BasicAuth } else { AuthType::RequestBody };
        client.set_redirect_uri(self.redirect.clone()).set_auth_type(how)
    }

    fn looked(&self) -> std::sync::MutexGuard<'_, Looked> {
        self.looked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failed(&self, error: &HttpError) -> Refusal {
        tracing::warn!(
            issuer = self.issuer.as_str(),
            error = error as &dyn StdError,
            "the identity provider does not answer; it is asked again at the next sign-in"
        );
        self.looked().failed = Some(Instant::now());
        Refusal::Away
    }

    /// What the provider says of itself, at most so old.
    async fn metadata(&self, age: Duration) -> Result<Arc<ProviderMetadataWithLogout>, Refusal> {
        let young = || {
            let looked = self.looked();
            looked
                .known
                .as_ref()
                .filter(|known| known.at.elapsed() < age)
                .map(|known| Arc::clone(&known.metadata))
        };
        if let Some(metadata) = young() {
            return Ok(metadata);
        }
        let _looking = self.looking.lock().await;
        // Somebody else may have looked meanwhile.
        if let Some(metadata) = young() {
            return Ok(metadata);
        }
        if self.looked().failed.is_some_and(|at| at.elapsed() < PAUSE) {
            return Err(Refusal::Away);
        }
        match ProviderMetadataWithLogout::discover_async(self.issuer.clone(), &self.fetcher).await {
            Ok(metadata) => {
                let metadata = Arc::new(metadata);
                let known = Some(Known { metadata: Arc::clone(&metadata), at: Instant::now() });
                *self.looked() = Looked { known, failed: None };
                Ok(metadata)
            }
            Err(error) => {
                tracing::warn!(
                    issuer = self.issuer.as_str(),
                    error = &error as &dyn StdError,
                    "the identity provider does not say what it is; it is asked again at the next sign-in"
                );
                self.looked().failed = Some(Instant::now());
                Err(Refusal::Away)
            }
        }
    }
}
