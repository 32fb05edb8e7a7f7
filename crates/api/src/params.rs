//! Strict requests: unknown query parameters, malformed values and wrong bodies are refused, never ignored.
//!
//! In: a path's segment, a query string or a body. Out: the typed value, or a problem that names what would be valid.
//! Invariant: the valid names are those of the OpenAPI document, since both come from the same type.

use axum::{
    body::{Body, Bytes},
    extract::{FromRequest, FromRequestParts, Path, Query, rejection::BytesRejection},
    http::{HeaderMap, Request, Uri, header, request::Parts},
    response::IntoResponse as _,
};
use serde::{Deserialize, de::DeserializeOwned};
use utoipa::IntoParams;

use crate::problem::{Kind, Problem, short};

/// The one variable segment of the path; one that is no text names nothing that is here.
#[derive(Debug)]
pub struct Segment(pub String);

impl<S: Send + Sync> FromRequestParts<S> for Segment {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let segment = Path::from_request_parts(parts, state).await;
        segment.map(|Path(text)| Self(text)).map_err(|_| {
            Problem::new(Kind::NotFound, "A part of the path is not UTF-8, and all names here are.")
        })
    }
}

/// The two variable segments of the path.
#[derive(Debug)]
pub struct Segments(pub String, pub String);

impl<S: Send + Sync> FromRequestParts<S> for Segments {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let segments = Path::from_request_parts(parts, state).await;
        segments.map(|Path((first, second))| Self(first, second)).map_err(|_| {
            Problem::new(Kind::NotFound, "A part of the path is not UTF-8, and all names here are.")
        })
    }
}

/// The query string as a `T`.
#[derive(Debug)]
pub struct Strict<T>(pub T);

impl<T: DeserializeOwned + IntoParams, S: Sync> FromRequestParts<S> for Strict<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        query(&parts.uri).map(Self)
    }
}

/// The query of an address as a `T`.
pub(crate) fn query<T: DeserializeOwned + IntoParams>(uri: &Uri) -> Result<T, Problem> {
    let valid: Vec<String> = T::into_params(|| None).into_iter().map(|param| param.name).collect();
    let Query(pairs) = Query::<Vec<(String, String)>>::try_from_uri(uri)
        .map_err(|_| Problem::new(Kind::InvalidParameter, "The query string cannot be read."))?;
    for (at, (name, _)) in pairs.iter().enumerate() {
        if !valid.contains(name) {
            let detail = format!("`{}` is no parameter of this route.", short(name));
            return Err(Problem::new(Kind::UnknownParameter, detail).valid(valid));
        }
        if pairs.iter().take(at).any(|(earlier, _)| earlier == name) {
            let detail = format!("`{name}` is given more than once; separate several values by commas.");
            return Err(Problem::new(Kind::InvalidParameter, detail));
        }
    }
    let Query(value) = Query::try_from_uri(uri).map_err(|e| {
        let text = e.to_string();
        let detail = text.rsplit_once("query string: ").map_or(text.as_str(), |(_, inner)| inner);
        Problem::new(Kind::InvalidParameter, in_words(detail))
    })?;
    Ok(value)
}

/// A query string, as it stands behind `?`, as a `T`.
pub(crate) fn query_of<T: DeserializeOwned + IntoParams>(text: &str) -> Result<T, Problem> {
    let uri = format!("/?{text}").parse();
    query(&uri.map_err(|_| Problem::new(Kind::InvalidParameter, "The query string cannot be read."))?)
}

/// A JSON body as a `T`.
#[derive(Debug)]
pub struct JsonBody<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for JsonBody<T> {
    type Rejection = Problem;

    async fn from_request(request: Request<Body>, state: &S) -> Result<Self, Problem> {
        is_json(request.headers())?;
        let bytes = Bytes::from_request(request, state).await.map_err(refused_body)?;
        json(&bytes).map(Self)
    }
}

/// Refuses bodies that say they are something else than JSON.
pub(crate) fn is_json(headers: &HeaderMap) -> Result<(), Problem> {
    let media = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = media.unwrap_or_default().split(';').next().unwrap_or_default().trim();
    let json = ["application/json", "application/merge-patch+json"];
    if json.iter().any(|valid| essence.eq_ignore_ascii_case(valid)) {
        return Ok(());
    }
    Err(Problem::new(Kind::UnsupportedMediaType, "The body must be application/json.").valid(json))
}

/// A body as a `T`.
pub(crate) fn json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(bytes).map_err(|e| {
        Problem::new(Kind::InvalidBody, format!("The body cannot be read: {}.", in_words(&e.to_string())))
    })
}

/// What serde says is wrong, in the words of who asks: it names what it expected as Rust does (`struct HuntBody`, `usize`). What stands in
/// backquotes is the caller's own and stays.
fn in_words(said: &str) -> String {
    let (said, place) = match said.rsplit_once(" at line ") {
        Some((said, place)) => (said, format!(" at line {place}")),
        None => (said, String::new()),
    };
    if let Some(name) = said.strip_prefix("missing field ") {
        return format!("{name} is missing{place}");
    }
    let Some((found, what)) = said.rsplit_once(", expected ") else { return format!("{said}{place}") };
    let words = match what.split_whitespace().next().unwrap_or_default() {
        "struct" | "map" | "internally" | "adjacently" => "an object",
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number that is not negative",
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number",
        "f32" | "f64" => "a number",
        "tuple" => "a list",
        _ if what == "a sequence" => "a list",
        _ => what,
    };
    format!("{found}, expected {words}{place}")
}

/// The problem for a body that could not be taken in.
pub(crate) fn refused_body(rejection: BytesRejection) -> Problem {
    match rejection.into_response().status().as_u16() {
        413 => Problem::new(Kind::BodyTooLarge, "The body is larger than this route takes."),
        _ => Problem::new(Kind::InvalidBody, "The body could not be received."),
    }
}

/// A route without query parameters.
#[derive(Debug, Deserialize, IntoParams)]
pub(crate) struct NoParams {}
