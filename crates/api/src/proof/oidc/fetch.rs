//! Requests to the identity provider, and to nobody else.
//!
//! In: a request of the library. Out: the answer, whole, or why there is none. Invariants: TLS whose certificate is checked, but
//! for a provider on this machine; time and size have bounds; what the answer says of another address is not followed, so
//! nobody who answers for the provider has this process ask something inside the network.

use std::{error::Error as StdError, io, path::Path, pin::Pin, sync::Arc, time::Duration};

use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::{
    Request, Response, Uri,
    body::Bytes,
    client::conn::http1,
    header::{CONNECTION, HOST, HeaderValue, USER_AGENT},
};
use hyper_util::rt::TokioIo;
use openidconnect::{AsyncHttpClient, HttpRequest, HttpResponse};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{
    TlsConnector,
    rustls::{
        ClientConfig, RootCertStore,
        crypto::ring,
        pki_types::{CertificateDer, ServerName, pem::PemObject},
    },
};

use crate::bind::is_loopback;

/// For one request from the first look-up to the last byte.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes of a body: the keys of the largest providers and the claims of somebody in thousands of groups are a tenth of it.
const MAX_BODY: usize = 1 << 20;
/// Bytes of an answer's head.
const MAX_HEAD: usize = 64 * 1024;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    #[error("`{0}` is neither https nor on this machine")]
    NotAllowed(String),
    #[error("no connection to {host}:{port}")]
    Connect { host: String, port: u16, source: io::Error },
    #[error("no TLS with {host}")]
    Tls { host: String, source: io::Error },
    #[error("no HTTP")]
    Http(#[from] hyper::Error),
    #[error("the answer is longer than a mebibyte")]
    TooLarge,
    #[error("the answer broke off")]
    Body(#[source] Box<dyn StdError + Send + Sync>),
    #[error("no answer within 5 seconds")]
    TimedOut,
}

/// What the library waits for.
pub(crate) type Fetching = Pin<Box<dyn Future<Output = Result<HttpResponse, FetchError>> + Send>>;

/// The client: one connection for each request, since people sign in a few times a day.
#[derive(Clone)]
pub(crate) struct Fetcher {
    tls: TlsConnector,
}

impl Fetcher {
    /// Trusts the authorities of this PEM file, or those that browsers trust.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub fn new(authorities: Option<&Path>) -> Result<Self, String> {
        let mut roots = RootCertStore::empty();
        match authorities {
            Some(path) => {
                let pem =
                    std::fs::read(path).map_err(|e| format!("`{}` cannot be read: {e}", path.display()))?;
                for certificate in CertificateDer::pem_slice_iter(&pem) {
                    let certificate =
                        certificate.map_err(|e| format!("`{}` is no PEM: {e}", path.display()))?;
                    let added = roots.add(certificate);
                    added.map_err(|e| format!("`{}` holds no authority: {e}", path.display()))?;
                }
                if roots.is_empty() {
                    return Err(format!("`{}` holds no certificate", path.display()));
                }
            }
            None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        }
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|e| e.to_string())?;
        let config = config.with_root_certificates(roots).with_no_client_auth();
        Ok(Self { tls: TlsConnector::from(Arc::new(config)) })
    }
}

impl<'c> AsyncHttpClient<'c> for Fetcher {
    type Error = FetchError;
    type Future = Fetching;

    fn call(&'c self, request: HttpRequest) -> Fetching {
        let tls = self.tls.clone();
        Box::pin(async move {
            timeout(TIMEOUT, exchange(&tls, request)).await.unwrap_or(Err(FetchError::TimedOut))
        })
    }
}

/// True of an address that requests may go to.
pub(crate) fn allowed(uri: &Uri) -> bool {
    let host = uri.host().unwrap_or_default();
    let here = host == "localhost" || bare(host).parse().is_ok_and(is_loopback);
    !host.is_empty() && (uri.scheme_str() == Some("https") || (here && uri.scheme_str() == Some("http")))
}

/// A host without the brackets that an address of IPv6 has in a URL.
fn bare(host: &str) -> &str {
    host.trim_start_matches('[').trim_end_matches(']')
}

async fn exchange(tls: &TlsConnector, mut request: HttpRequest) -> Result<HttpResponse, FetchError> {
    let uri = request.uri().clone();
    if !allowed(&uri) {
        return Err(FetchError::NotAllowed(uri.to_string().chars().take(200).collect()));
    }
    let host = bare(uri.host().unwrap_or_default()).to_owned();
    let secure = uri.scheme_str() == Some("https");
    let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
    let authority = uri.authority().map(|authority| authority.as_str()).unwrap_or_default();
    // What stands before an `@` is no part of the header.
    let named = authority.rsplit('@').next().unwrap_or_default();
    if let Ok(named) = HeaderValue::from_str(named) {
        request.headers_mut().insert(HOST, named);
    }
    request.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    request.headers_mut().insert(USER_AGENT, HeaderValue::from_static("vedette"));
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    *request.uri_mut() = path.parse().unwrap_or(Uri::from_static("/"));
    let connected = TcpStream::connect((host.as_str(), port)).await;
    let stream = connected.map_err(|source| FetchError::Connect { host: host.clone(), port, source })?;
    if !secure {
        return talk(stream, request).await;
    }
    let no_tls = |source| FetchError::Tls { host: host.clone(), source };
    let name = ServerName::try_from(host.clone()).map_err(|e| no_tls(io::Error::other(e)))?;
    talk(tls.connect(name, stream).await.map_err(no_tls)?, request).await
}

async fn talk<S>(stream: S, request: HttpRequest) -> Result<HttpResponse, FetchError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin,
{
    let mut client = http1::Builder::new();
    let (mut sender, connection) = client.max_buf_size(MAX_HEAD).handshake(TokioIo::new(stream)).await?;
    let request: Request<Full<Bytes>> = request.map(|body| Full::new(body.into()));
    let answer = async {
        let (parts, body) = sender.send_request(request).await?.into_parts();
        let whole = Limited::new(body, MAX_BODY).collect().await.map_err(|e| {
            if e.is::<LengthLimitError>() { FetchError::TooLarge } else { FetchError::Body(e) }
        })?;
        Ok(Response::from_parts(parts, whole.to_bytes().to_vec()))
    };
    // The connection moves the bytes; what comes of it, also its failure, the answer tells.
    let moving = async {
        let _ = connection.await;
        std::future::pending().await
    };
    tokio::select! {
        answer = answer => answer,
        never = moving => never,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };
    use tokio_rustls::{
        TlsAcceptor,
        rustls::{ServerConfig, pki_types::PrivateKeyDer},
    };

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
        assert!(matches!(refused, FetchError::TooLarge), "{refused}");
        let (port, _heard) = answering(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhi".to_vec()).await;
        let broken = fetcher.call(get(&format!("http://localhost:{port}/"))).await.unwrap_err();
        assert!(matches!(broken, FetchError::Body(_)), "{broken}");
        let mut head = b"HTTP/1.1 200 OK\r\nx: ".to_vec();
        head.resize(2 * MAX_HEAD, b'x');
        let (port, _heard) = answering(head).await;
        let endless = fetcher.call(get(&format!("http://127.0.0.1:{port}/"))).await.unwrap_err();
        assert!(matches!(endless, FetchError::Http(_)), "{endless}");
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
        assert!(matches!(refused, FetchError::Tls { .. }), "{refused}");
        let other = trusting.call(get(&format!("https://127.0.0.1:{port}/"))).await.unwrap_err();
        assert!(matches!(other, FetchError::Tls { .. }), "the certificate is for localhost: {other}");
        let empty = folder.path().join("empty.pem");
        std::fs::write(&empty, "nothing").unwrap();
        assert!(Fetcher::new(Some(&empty)).is_err_and(|e| e.contains("holds no certificate")));
    }
}
