//! Requests to the identity provider, and to nobody else.
//!
//! In: a request of the library. Out: the answer, whole, or why there is none. Invariants: those of [`vedette_act::http`]; the provider is
//! asked over TLS, but for one on this machine.

use std::{path::Path, pin::Pin, time::Duration};

use hyper::Uri;
use openidconnect::{AsyncHttpClient, HttpRequest, HttpResponse};
use vedette_act::http::{Client, HttpError, Reach};

/// For one request from the first look-up to the last byte.
const TIMEOUT: Duration = Duration::from_secs(5);

/// What the library waits for.
pub(crate) type Fetching = Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send>>;

/// The client: one connection for each request, since people sign in a few times a day.
#[derive(Clone)]
pub(crate) struct Fetcher {
    client: Client,
}

impl Fetcher {
    /// Trusts the authorities of this PEM file, or those that browsers trust.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub fn new(authorities: Option<&Path>) -> Result<Self, String> {
        Ok(Self { client: Client::new(authorities, Reach::Trusted, TIMEOUT)? })
    }
}

impl<'c> AsyncHttpClient<'c> for Fetcher {
    type Error = HttpError;
    type Future = Fetching;

    fn call(&'c self, request: HttpRequest) -> Fetching {
        let client = self.client.clone();
        Box::pin(async move { client.send(request).await })
    }
}

/// True of an address that requests may go to.
pub(crate) fn allowed(uri: &Uri) -> bool {
    Reach::Trusted.allows(uri).is_ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;

    use hyper::Request;
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };
    use tokio_rustls::{
        TlsAcceptor,
        rustls::{
            ServerConfig,
            crypto::ring,
            pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
        },
    };
    use vedette_act::http::MAX_BODY;

    use super::*;
    use crate::tests::served::certificate;

    /// Answers each connection with these bytes, and gives the heads of requests.
    async fn answering(answer: Vec<u8>) -> (u16, tokio::sync::mpsc::UnboundedReceiver<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (port, (heard, hearing)) =
            (listener.local_addr().unwrap().port(), tokio::sync::mpsc::unbounded_channel());
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut head = vec![0; 4_096];
                let n = stream.read(&mut head).await.unwrap();
                let _ = heard.send(String::from_utf8_lossy(&head[..n]).into_owned());
                let _ = stream.write_all(&answer).await;
            }
        });
        (port, hearing)
    }

    fn get(url: &str) -> HttpRequest {
        Request::get(url).body(Vec::new()).unwrap()
    }

    #[tokio::test]
    async fn an_answer_is_taken_whole_and_a_redirect_as_it_is() {
        let answer =
            b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 2\r\n\r\nhi".to_vec();
        let (port, mut heard) = answering(answer).await;
        let fetcher = Fetcher::new(None).unwrap();
        let request = get(&format!("http://user@127.0.0.1:{port}/a/b?c=d"));
        let answer = fetcher.call(request).await.unwrap();
        assert_eq!((answer.status().as_u16(), answer.body().as_slice()), (302, &b"hi"[..]));
        let head = heard.recv().await.unwrap();
        assert!(head.starts_with("GET /a/b?c=d HTTP/1.1\r\n"), "{head}");
        assert!(head.contains(&format!("host: 127.0.0.1:{port}\r\n")), "{head}");
        assert!(heard.try_recv().is_err(), "one request");
    }

    #[tokio::test]
    async fn what_is_too_long_or_broken_off_is_no_answer() {
        let fetcher = Fetcher::new(None).unwrap();
        let length = MAX_BODY + 1;
        let mut long = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n").into_bytes();
        long.resize(long.len() + length, b'x');
        let (port, _heard) = answering(long).await;
        let refused = fetcher.call(get(&format!("http://127.0.0.1:{port}/"))).await.unwrap_err();
        assert!(matches!(refused, HttpError::TooLarge(_)), "{refused}");
        let (port, _heard) = answering(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhi".to_vec()).await;
        let broken = fetcher.call(get(&format!("http://localhost:{port}/"))).await.unwrap_err();
        assert!(matches!(broken, HttpError::Body(..)), "{broken}");
        let mut head = b"HTTP/1.1 200 OK\r\nx: ".to_vec();
        head.resize(2 * (64 << 10), b'x');
        let (port, _heard) = answering(head).await;
        let endless = fetcher.call(get(&format!("http://127.0.0.1:{port}/"))).await.unwrap_err();
        assert!(matches!(endless, HttpError::Http(_)), "{endless}");
    }

    #[test]
    fn only_tls_leaves_the_machine() {
        for url in ["https://id.example/", "http://127.0.0.1:1/", "http://[::1]/", "http://localhost:8/x"] {
            assert!(allowed(&url.parse().unwrap()), "{url}");
        }
        for url in [
            "http://id.example/",
            "http://127.0.0.1.example/",
            "ftp://localhost/",
            "/path",
            "http://10.0.0.1/",
        ] {
            assert!(!allowed(&url.parse().unwrap()), "{url}");
        }
    }

    #[tokio::test]
    async fn a_certificate_is_checked() {
        let folder = tempfile::tempdir().unwrap();
        let Some(files) = certificate(folder.path()) else { return };
        let pem = std::fs::read(&files.certificate).unwrap();
        let chain = CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>().unwrap();
        let key = PrivateKeyDer::from_pem_file(&files.key).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let Ok(mut stream) = acceptor.accept(stream).await else { continue };
                let _ = stream.read(&mut [0; 4_096]).await;
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi").await;
                let _ = stream.shutdown().await;
            }
        });
        let url = format!("https://localhost:{port}/");
        let trusting = Fetcher::new(Some(&files.certificate)).unwrap();
        assert_eq!(trusting.call(get(&url)).await.unwrap().body(), b"hi");
        let usual = Fetcher::new(None).unwrap();
        let refused = usual.call(get(&url)).await.unwrap_err();
        assert!(matches!(refused, HttpError::Tls { .. }), "{refused}");
        let other = trusting.call(get(&format!("https://127.0.0.1:{port}/"))).await.unwrap_err();
        assert!(matches!(other, HttpError::Tls { .. }), "the certificate is for localhost: {other}");
        let empty = folder.path().join("empty.pem");
        std::fs::write(&empty, "nothing").unwrap();
        assert!(Fetcher::new(Some(&empty)).is_err_and(|e| e.contains("holds no certificate")));
    }
}
