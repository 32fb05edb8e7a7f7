//! Problem documents (RFC 9457): how every refusal leaves this crate.
//!
//! In: a [`Kind`] and what exactly was wrong. Out: `application/problem+json` with a stable `type`.
//! Invariants: the `type` of a kind never changes; a detail never holds a secret nor an inner error's text.

use std::{borrow::Cow, collections::BTreeMap};

use axum::{
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::{Serialize, Serializer};
use serde_json::{Map, Value};
use utoipa::{
    IntoResponses, ToSchema,
    openapi::{self, ContentBuilder, Ref, RefOr, ResponseBuilder},
};
use vedette_store::Error as StoreError;

/// The first 64 characters of something a stranger sent.
pub(crate) fn short(text: &str) -> String {
    text.chars().take(64).collect()
}

/// Characters of a detail.
const MAX_DETAIL: usize = 500;

/// What can go wrong with a request. The names are stable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// No such path, alert, rule.
    NotFound,
    /// The path exists, the method does not.
    MethodNotAllowed,
    /// No session and no token, or one that is not known.
    Unauthenticated,
    /// The caller's role is too low.
    Forbidden,
    /// Name, password or code is wrong, or the user may not sign in.
    SignInRefused,
    /// A form without the token of the session.
    FormExpired,
    /// A query parameter that the route does not have.
    UnknownParameter,
    /// A parameter's value makes no sense.
    InvalidParameter,
    /// A cursor that this server did not issue for this list.
    InvalidCursor,
    /// The body is not what the route takes.
    InvalidBody,
    /// The text of a hunt is no question that can be answered.
    InvalidQuery,
    /// A hunt needs more than it may use.
    TooCostly,
    /// Somebody stopped it.
    Stopped,
    /// None of the media types that are accepted is one of this route.
    NotAcceptable,
    /// The body is too large.
    BodyTooLarge,
    /// The body is of another media type.
    UnsupportedMediaType,
    /// `If-Match` is missing.
    VersionRequired,
    /// `If-Match` names another version than the current one.
    VersionMismatch,
    /// It does not go together with what is there.
    Conflict,
    /// More of something than is kept.
    LimitReached,
    /// The `Idempotency-Key` came with another request before.
    KeyReused,
    /// Too many requests at once.
    TooManyRequests,
    /// It took too long.
    Timeout,
    /// The body did not come in time.
    BodyTooSlow,
    /// All connections are in use.
    Overloaded,
    /// More than one `Host` header.
    InvalidHost,
    /// The `Host` header names a host that this server does not answer to.
    UnknownHost,
    /// A state-changing request from another site.
    CrossSite,
    /// The service is not ready.
    NotReady,
    /// Nothing of the rules on disk can be taken up.
    RulesRefused,
    /// A stage of the service hangs.
    Stuck,
    /// The store did not answer; trying again can help.
    StoreUnavailable,
    /// The identity provider did not answer; trying again can help.
    ProviderUnavailable,
    /// A fault of ours.
    Internal,
}

impl Kind {
    /// All kinds, in the order in which they are documented.
    pub const ALL: [Self; 34] = [
        Self::NotFound,
        Self::MethodNotAllowed,
        Self::Unauthenticated,
        Self::Forbidden,
        Self::SignInRefused,
        Self::FormExpired,
        Self::UnknownParameter,
        Self::InvalidParameter,
        Self::InvalidCursor,
        Self::InvalidBody,
        Self::InvalidQuery,
        Self::TooCostly,
        Self::Stopped,
        Self::NotAcceptable,
        Self::BodyTooLarge,
        Self::UnsupportedMediaType,
        Self::VersionRequired,
        Self::VersionMismatch,
        Self::Conflict,
        Self::LimitReached,
        Self::KeyReused,
        Self::TooManyRequests,
        Self::Timeout,
        Self::BodyTooSlow,
        Self::Overloaded,
        Self::InvalidHost,
        Self::UnknownHost,
        Self::CrossSite,
        Self::NotReady,
        Self::RulesRefused,
        Self::Stuck,
        Self::StoreUnavailable,
        Self::ProviderUnavailable,
        Self::Internal,
    ];

    /// The stable `type`, the status and the title.
    #[must_use]
    pub const fn parts(self) -> (&'static str, u16, &'static str) {
        match self {
            Self::NotFound => ("urn:vedette:problem:not-found", 404, "Not found"),
            Self::MethodNotAllowed => ("urn:vedette:problem:method-not-allowed", 405, "Method not allowed"),
            Self::Unauthenticated => ("urn:vedette:problem:unauthenticated", 401, "Authentication needed"),
            Self::Forbidden => ("urn:vedette:problem:forbidden", 403, "Not allowed"),
            Self::SignInRefused => ("urn:vedette:problem:sign-in-refused", 401, "Not signed in"),
            Self::FormExpired => ("urn:vedette:problem:form-expired", 403, "Form expired"),
            Self::UnknownParameter => {
                ("urn:vedette:problem:unknown-parameter", 400, "Unknown query parameter")
            }
            Self::InvalidParameter => ("urn:vedette:problem:invalid-parameter", 400, "Invalid parameter"),
            Self::InvalidCursor => ("urn:vedette:problem:invalid-cursor", 400, "Invalid cursor"),
            Self::InvalidBody => ("urn:vedette:problem:invalid-body", 400, "Invalid body"),
            Self::InvalidQuery => ("urn:vedette:problem:invalid-query", 400, "Invalid query"),
            Self::TooCostly => ("urn:vedette:problem:too-costly", 422, "Needs more than it may use"),
            Self::Stopped => ("urn:vedette:problem:stopped", 409, "Stopped"),
            Self::NotAcceptable => ("urn:vedette:problem:not-acceptable", 406, "Not in such a form"),
            Self::BodyTooLarge => ("urn:vedette:problem:body-too-large", 413, "Body too large"),
            Self::UnsupportedMediaType => {
                ("urn:vedette:problem:unsupported-media-type", 415, "Unsupported media type")
            }
            Self::VersionRequired => ("urn:vedette:problem:version-required", 428, "If-Match needed"),
            Self::VersionMismatch => ("urn:vedette:problem:version-mismatch", 412, "Changed by someone else"),
            Self::Conflict => ("urn:vedette:problem:conflict", 409, "Not possible as things are"),
            Self::LimitReached => ("urn:vedette:problem:limit-reached", 409, "No more of these"),
            Self::KeyReused => ("urn:vedette:problem:idempotency-key-reused", 422, "Idempotency key reused"),
            Self::TooManyRequests => ("urn:vedette:problem:too-many-requests", 429, "Too many requests"),
            Self::Timeout => ("urn:vedette:problem:timeout", 503, "Took too long"),
            Self::BodyTooSlow => ("urn:vedette:problem:body-too-slow", 408, "Body too slow"),
            Self::Overloaded => ("urn:vedette:problem:overloaded", 503, "All connections in use"),
            Self::InvalidHost => ("urn:vedette:problem:invalid-host", 400, "Invalid Host header"),
            Self::UnknownHost => ("urn:vedette:problem:unknown-host", 421, "Unknown host"),
            Self::CrossSite => ("urn:vedette:problem:cross-site", 403, "Cross-site request refused"),
            Self::NotReady => ("urn:vedette:problem:not-ready", 503, "Not ready"),
            Self::RulesRefused => ("urn:vedette:problem:rules-refused", 409, "The rules in force stay"),
            Self::Stuck => ("urn:vedette:problem:stuck", 503, "Stuck"),
            Self::StoreUnavailable => ("urn:vedette:problem:store-unavailable", 503, "Store unavailable"),
            Self::ProviderUnavailable => {
                ("urn:vedette:problem:provider-unavailable", 503, "Identity provider unavailable")
            }
            Self::Internal => ("urn:vedette:problem:internal", 500, "Internal error"),
        }
    }
}

/// A refusal on its way out.
#[derive(Debug, Clone)]
pub struct Problem {
    kind: Kind,
    detail: String,
    valid: Vec<Cow<'static, str>>,
    members: Map<String, Value>,
    header: Option<Box<(HeaderName, HeaderValue)>>,
}

/// What any route answers where it cannot do what was asked: the same everywhere.
impl IntoResponses for ProblemDocument<'_> {
    fn responses() -> BTreeMap<String, RefOr<openapi::Response>> {
        let schema = Ref::from_schema_name(Self::name());
        let content = ContentBuilder::new().schema(Some(schema)).build();
        let answer =
            ResponseBuilder::new().description("A problem").content("application/problem+json", content);
        BTreeMap::from([("default".to_owned(), answer.build().into())])
    }
}

/// A problem document (RFC 9457).
#[derive(Serialize, ToSchema)]
#[schema(as = Problem)]
pub(crate) struct ProblemDocument<'a> {
    /// Stable name of the kind of problem.
    #[serde(rename = "type")]
    #[schema(example = "urn:vedette:problem:unknown-parameter")]
    name: &'static str,
    /// The kind, for a person.
    title: &'static str,
    /// The HTTP status.
    status: u16,
    /// What exactly was wrong and what would be right.
    detail: &'a str,
    /// What would have been valid, where that is a short list.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    #[schema(value_type = Vec<String>, required = false)]
    valid: &'a [Cow<'static, str>],
    /// What only some routes add.
    #[serde(flatten)]
    #[schema(ignore)]
    members: &'a Map<String, Value>,
}

impl Serialize for Problem {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (name, status, title) = self.kind.parts();
        let Self { detail, valid, members, .. } = self;
        ProblemDocument { name, title, status, detail, valid, members }.serialize(serializer)
    }
}

impl Problem {
    /// A problem of this kind.
    #[must_use]
    pub fn new(kind: Kind, detail: impl Into<String>) -> Self {
        // A detail may quote what a stranger sent.
        let detail = detail.into().chars().take(MAX_DETAIL).collect();
        let problem = Self { kind, detail, valid: Vec::new(), members: Map::new(), header: None };
        match kind {
            Kind::Unauthenticated => {
                problem.header(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))
            }
            Kind::TooManyRequests | Kind::Timeout | Kind::Overloaded | Kind::StoreUnavailable => {
                problem.header(header::RETRY_AFTER, HeaderValue::from_static("1"))
            }
            _ => problem,
        }
    }

    /// Adds what would have been valid.
    #[must_use]
    pub fn valid<S: Into<Cow<'static, str>>>(mut self, valid: impl IntoIterator<Item = S>) -> Self {
        self.valid = valid.into_iter().map(Into::into).collect();
        self
    }

    /// Adds a member of its own to the document.
    #[must_use]
    pub(crate) fn member(mut self, name: &str, value: Value) -> Self {
        self.members.insert(name.to_owned(), value);
        self
    }

    /// A member of its own that it has.
    pub(crate) fn told(&self, name: &str) -> Option<&Value> {
        self.members.get(name)
    }

    /// Adds a response header.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.header = Some(Box::new((name, value)));
        self
    }

    /// Says when to try again.
    #[must_use]
    pub(crate) fn retry_after(self, seconds: i64) -> Self {
        self.header(header::RETRY_AFTER, HeaderValue::from(seconds))
    }

    /// The value of a header that it bears.
    pub(crate) fn header_value(&self, name: &HeaderName) -> Option<&HeaderValue> {
        self.header.as_deref().filter(|header| header.0 == *name).map(|header| &header.1)
    }

    /// The HTTP status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.kind.parts().1).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// True if it is of this kind.
    #[must_use]
    pub(crate) fn is(&self, kind: Kind) -> bool {
        self.kind == kind
    }

    /// The kind, for a person.
    #[must_use]
    pub fn title(&self) -> &'static str {
        self.kind.parts().2
    }

    /// What exactly was wrong.
    #[must_use]
    pub fn detail(&self) -> &str {
        &self.detail
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = serde_json::to_vec(&self).unwrap_or_default();
        let media = [(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"))];
        let mut response = (self.status(), media, body).into_response();
        if let Some(header) = &self.header {
            response.headers_mut().insert(header.0.clone(), header.1.clone());
        }
        // The guard makes a page of it for a browser.
        response.extensions_mut().insert(self);
        response
    }
}

/// What a store's error looks like from outside; the inside is logged.
impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        Self::from(&error)
    }
}

impl From<&StoreError> for Problem {
    fn from(error: &StoreError) -> Self {
        match error {
            StoreError::NotFound { what, id } => {
                Self::new(Kind::NotFound, format!("There is no {what} `{}`.", short(id)))
            }
            StoreError::Conflict { current, .. } => version_mismatch(current.version),
            StoreError::Stale { version, .. } => version_mismatch(*version),
            StoreError::Clash { detail } => Self::new(Kind::Conflict, detail.clone()),
            StoreError::NotListed { .. } => {
                let detail = "It was not in the list that was seen: it has come there since.";
                Self::new(Kind::Conflict, detail)
            }
            StoreError::Unreached => {
                let detail =
                    "The change ended before it came to this; the log says why. Ask again for what is left.";
                Self::new(Kind::StoreUnavailable, detail)
            }
            StoreError::OfOther { change, by } => {
                let detail =
                    format!("Change {change} is of {}; only who made a change takes it back.", short(by));
                Self::new(Kind::Forbidden, detail)
            }
            StoreError::Full { what, max } => {
                Self::new(Kind::LimitReached, format!("There is room for {max} {what}, and no more."))
            }
            StoreError::KeyReused => {
                let detail =
                    "This Idempotency-Key came with another request in the last 24 hours; use a new one.";
                Self::new(Kind::KeyReused, detail)
            }
            StoreError::BadCursor => {
                Self::new(Kind::InvalidCursor, "The cursor is not one that this list gave out.")
            }
            StoreError::Unseen { what, seen, newest } => {
                let detail = format!("There is no {what} {seen} yet; the newest is {newest}.");
                Self::new(Kind::InvalidBody, detail)
            }
            StoreError::TooMany { max } => {
                let detail = format!("The change is for more than {max} alerts; narrow it down.");
                Self::new(Kind::InvalidBody, detail)
            }
            StoreError::TooLongAgo { max } => {
                let detail = format!("More than {max} alerts have changed since; ask for a later `as_of`.");
                Self::new(Kind::InvalidParameter, detail)
            }
            error if error.retryable() => {
                tracing::warn!(error = error as &dyn std::error::Error, "the store is busy");
                Self::new(Kind::StoreUnavailable, "The store did not answer. Try again in a moment.")
            }
            error => {
                tracing::error!(error = error as &dyn std::error::Error, "the store failed");
                Self::new(Kind::Internal, "The store could not do this; the log says why.")
            }
        }
    }
}

/// The problem for an outdated `If-Match`; its `ETag` is the current version.
fn version_mismatch(current: i64) -> Problem {
    let detail = format!("It was changed in the meantime; it has version {current} now.");
    let problem = Problem::new(Kind::VersionMismatch, detail);
    match HeaderValue::from_str(&etag(current)) {
        Ok(tag) => problem.header(header::ETAG, tag),
        Err(_) => problem,
    }
}

/// The entity tag of a triage version.
pub(crate) fn etag(version: i64) -> String {
    format!("\"{version}\"")
}
