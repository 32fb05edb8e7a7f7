//! Requests that are carried out once: a body with the `Idempotency-Key` it came with.
//!
//! In: a request. Out: the typed body, and the key with a hash of method, path and body. Invariant: what makes something takes its
//! body through here, so that a request sent again, because the answer was lost, makes nothing twice.

use axum::{
    Json,
    body::{Body, Bytes},
    extract::FromRequest,
    http::{HeaderName, HeaderValue, Request, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::{Serialize, de::DeserializeOwned};
use sha2::{Digest as _, Sha256};
use utoipa::IntoParams;
use vedette_store::model::{Key, Made};

use crate::{
    auth::Caller,
    params::{is_json, json, refused_body},
    problem::{Kind, Problem},
    shape,
};

/// Characters of a key.
const MAX_KEY: usize = 200;

const KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// On an answer that was given before.
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// The header with the key.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[allow(dead_code, reason = "only its description is used")]
pub(crate) struct KeyHeader {
    /// The same request again gets the same answer, for 24 hours.
    #[param(rename = "Idempotency-Key", inline, value_type = shape::RequestKey, required = false)]
    key: String,
}

/// A JSON body as a `T`, and its key.
pub(crate) struct Keyed<T> {
    pub body: T,
    pub key: Option<Key>,
}

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Keyed<T> {
    type Rejection = Problem;

    async fn from_request(request: Request<Body>, state: &S) -> Result<Self, Problem> {
        is_json(request.headers())?;
        let name = request.headers().get(KEY).map(key_of).transpose()?;
        let caller = request.extensions().get::<Caller>().map(|caller| caller.name.clone());
        let mut hash = Sha256::new();
        hash.update(request.method().as_str());
        hash.update(b" ");
        hash.update(request.uri().path());
        hash.update(b"\n");
        let bytes = Bytes::from_request(request, state).await.map_err(refused_body)?;
        hash.update(&bytes);
        let request = hash.finalize().into();
        let key = name.zip(caller).map(|(name, caller)| Key { caller, name, request });
        Ok(Self { body: json(&bytes)?, key })
    }
}

fn key_of(value: &HeaderValue) -> Result<String, Problem> {
    let key = value.to_str().unwrap_or_default().trim();
    if key.is_empty() || key.len() > MAX_KEY {
        let detail = format!("`Idempotency-Key` must be 1 to {MAX_KEY} visible ASCII characters.");
        return Err(Problem::new(Kind::InvalidParameter, detail));
    }
    Ok(key.to_owned())
}

/// The answer to a request that makes something: 201, also when it had been made before.
pub(crate) fn created<T: Serialize>(made: Made<T>) -> Response {
    answered(StatusCode::CREATED, made)
}

/// The answer to a request with this status, also when it had been given before.
pub(crate) fn answered<T: Serialize>(status: StatusCode, made: Made<T>) -> Response {
    match made {
        Made::New(made) => (status, Json(made)).into_response(),
        Made::Again(answer) => {
            let headers = [
                (header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
                (REPLAYED, HeaderValue::from_static("true")),
            ];
            (status, headers, answer).into_response()
        }
    }
}
