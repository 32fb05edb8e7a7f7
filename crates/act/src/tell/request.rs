//! The request that a connector sends, and what its answer means.
//!
//! In: what is told, how the connector is configured, the time. Out: a request; of an answer whether it was taken, is to be tried again, or is
//! refused for good. A webhook's request is signed: `Vedette-Signature: v1=` and the HMAC-SHA256 of `{timestamp}.{body}` in hexadecimal, with
//! `Vedette-Timestamp` in Unix seconds, so that who knows the secret can tell it from any other and from one of yesterday.

use hmac::{Hmac, Mac as _};
use http::{HeaderValue, Request, Response, StatusCode, header};
use serde_json::Value;
use sha2::Sha256;
use vedette_event::Micros;

use crate::{http::HttpError, settings::Secret};

/// What came of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    Taken,
    /// It is to be tried again, not before so many seconds where the other side says so.
    Again(String, Option<u64>),
    /// Trying again would come to the same.
    Refused(String),
}

/// A request with JSON.
pub(crate) fn post(url: &str, body: &Value) -> Result<Request<Vec<u8>>, HttpError> {
    let body = body.to_string().into_bytes();
    let request = Request::post(url)
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::CONTENT_LENGTH, body.len())
        .body(body);
    request.map_err(|_| HttpError::NoUrl)
}

/// The same, signed; a message has a key by which the other side knows one that comes twice.
pub(crate) fn signed(
    (url, secret): (&str, &Secret),
    body: &Value,
    key: Option<&str>,
    now: Micros,
) -> Result<Request<Vec<u8>>, HttpError> {
    let mut request = post(url, body)?;
    let seconds = now.0.div_euclid(1_000_000).to_string();
    let signature = signature(secret.show(), &seconds, request.body());
    let headers = request.headers_mut();
    let pairs = [("vedette-timestamp", seconds.as_str()), ("vedette-signature", signature.as_str())];
    for (name, value) in pairs.into_iter().chain(key.map(|key| ("idempotency-key", key))) {
        headers.insert(name, HeaderValue::from_str(value).map_err(|_| HttpError::NoUrl)?);
    }
    Ok(request)
}

/// `v1=` and the signature.
fn signature(secret: &str, seconds: &str, body: &[u8]) -> String {
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.as_bytes()) else {
        unreachable!("HMAC takes keys of any length")
    };
    mac.update(seconds.as_bytes());
    mac.update(b".");
    mac.update(body);
    let bytes = mac.finalize().into_bytes();
    bytes.iter().fold("v1=".to_owned(), |text, byte| text + &format!("{byte:02x}"))
}

/// What an answer means.
pub(crate) fn meaning(answer: Result<Response<Vec<u8>>, HttpError>) -> Answer {
    let answer = match answer {
        Ok(answer) => answer,
        // It was taken, whatever else it says.
        Err(HttpError::TooLarge(status) | HttpError::Body(status, _)) if status.is_success() => {
            return Answer::Taken;
        }
        Err(error @ (HttpError::NoUrl | HttpError::NoTls(_) | HttpError::Private(_))) => {
            return Answer::Refused(error.to_string());
        }
        Err(error) => {
            let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}"));
            return Answer::Again(format!("{error}{}", cause.unwrap_or_default()), None);
        }
    };
    let status = answer.status();
    if status.is_success() {
        return Answer::Taken;
    }
    let said: String = String::from_utf8_lossy(answer.body())
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(200)
        .collect();
    let said = format!("it answered {status}: {}", said.trim());
    if status.is_redirection() {
        return Answer::Refused(format!("it answered {status}, and redirects are not followed"));
    }
    let passing = status.is_server_error()
        || [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_EARLY, StatusCode::TOO_MANY_REQUESTS]
            .contains(&status);
    if !passing {
        return Answer::Refused(said);
    }
    let after = answer.headers().get(header::RETRY_AFTER);
    Answer::Again(said, after.and_then(|after| after.to_str().ok()?.trim().parse().ok()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_signature_is_of_time_and_body() {
        // `printf '1700000000.{"a":1}' | openssl dgst -sha256 -hmac secret`
        let own = signature("secret", "1700000000", b"{\"a\":1}");
        assert_eq!(own, "v1=49f24e537407743fa4a0242bb63b94b9a47ee99cbbe071ccd8a22550ae411686");
    }

    #[test]
    fn what_an_answer_means() {
        let answer = |status: u16| {
            let answer =
                Response::builder().status(status).header("retry-after", "7").body(b"no\x1b".to_vec());
            meaning(Ok(answer.unwrap()))
        };
        assert_eq!(answer(202), Answer::Taken);
        assert_eq!(answer(503), Answer::Again("it answered 503 Service Unavailable: no".into(), Some(7)));
        assert!(matches!(answer(429), Answer::Again(..)));
        for refused in [301, 307, 400, 401, 404, 410] {
            assert!(matches!(answer(refused), Answer::Refused(_)), "{refused}");
        }
        assert!(matches!(meaning(Err(HttpError::Private("x".into()))), Answer::Refused(_)));
        let patience = std::time::Duration::from_secs(5);
        assert!(matches!(meaning(Err(HttpError::TimedOut(patience))), Answer::Again(..)));
    }
}
