//! Requests that leave this process: one connection each, to the one address that is configured.
//!
//! In: a request. Out: the answer, whole, or why there is none. Invariants: where it goes is decided before the first byte: TLS whose
//! certificate is checked and public addresses only, unless somebody allowed more; the address that was looked at is the one that is
//! connected to, so that no second look-up leads elsewhere; a redirect is an answer like any other and never followed, so nobody who answers
//! has this process ask something inside the network; time and size have bounds; no error quotes the address, which may be a secret.

use std::{error::Error as StdError, io, net::SocketAddr, path::Path, sync::Arc, time::Duration};

use http::{
    Request, Response, StatusCode, Uri,
    header::{CONNECTION, HOST, HeaderValue, USER_AGENT},
};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::{body::Bytes, client::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, lookup_host},
    time::timeout,
};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        ClientConfig, RootCertStore,
        crypto::ring,
        pki_types::{CertificateDer, ServerName, pem::PemObject},
    },
};
use vedette_respond::gate::is_private;

/// Bytes of an answer's body: the keys of the largest identity providers are a tenth of it.
pub const MAX_BODY: usize = 1 << 20;
/// Bytes of an answer's head.
const MAX_HEAD: usize = 64 * 1024;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The address has no host, or another scheme.
    #[error("the address is no http or https URL with a host")]
    NoUrl,
    /// It would go in the clear.
    #[error("`{0}` is not asked without TLS")]
    NoTls(String),
    /// It is inside the network.
    #[error("`{0}` is a private address; say `private: true` where that is meant")]
    Private(String),
    /// Nobody answers there.
    #[error("no connection to {host}:{port}")]
    Connect {
        /// Whom.
        host: String,
        /// At.
        port: u16,
        /// Why.
        source: io::Error,
    },
    /// It is not who it should be, or speaks no TLS.
    #[error("no TLS with {host}")]
    Tls {
        /// Who.
        host: String,
        /// Why.
        source: io::Error,
    },
    /// It speaks no HTTP.
    #[error("no HTTP")]
    Http(#[from] hyper::Error),
    /// The answer is too long.
    #[error("the answer is longer than a mebibyte")]
    TooLarge(StatusCode),
    /// The answer is not whole.
    #[error("the answer broke off")]
    Body(StatusCode, #[source] Box<dyn StdError + Send + Sync>),
    /// It took too long.
    #[error("no answer within {} seconds", .0.as_secs())]
    TimedOut(Duration),
}

/// Where requests may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Over TLS to public addresses.
    Public,
    /// Over TLS anywhere, and in the clear on this machine: to what an administrator names as trusted.
    Trusted,
    /// Anywhere, also in the clear.
    Private,
}

impl Reach {
    /// By what is configured of a connector.
    pub(crate) const fn of(private: bool) -> Self {
        if private { Self::Private } else { Self::Public }
    }

    /// Whether requests may go to a URL, as far as it says itself.
    ///
    /// # Errors
    /// Why not.
    pub fn allows(self, uri: &Uri) -> Result<(), HttpError> {
        let host = bare(uri.host().unwrap_or_default());
        let secure = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(HttpError::NoUrl),
        };
        if host.is_empty() {
            return Err(HttpError::NoUrl);
        }
        let here = host == "localhost" || host.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback());
        match self {
            _ if secure => Ok(()),
            Self::Private => Ok(()),
            Self::Trusted if here => Ok(()),
            Self::Trusted | Self::Public => Err(HttpError::NoTls(host.to_owned())),
        }
    }
}

/// Makes requests.
#[derive(Clone)]
pub struct Client {
    tls: TlsConnector,
    reach: Reach,
    patience: Duration,
}

impl Client {
    /// Trusts the authorities of this PEM file, or those that browsers trust; waits so long for a whole answer.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub fn new(authorities: Option<&Path>, reach: Reach, patience: Duration) -> Result<Self, String> {
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
        Ok(Self { tls: TlsConnector::from(Arc::new(config)), reach, patience })
    }

    /// Sends a request and waits for the whole answer.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn send(&self, request: Request<Vec<u8>>) -> Result<Response<Vec<u8>>, HttpError> {
        let answer = timeout(self.patience, self.exchange(request)).await;
        answer.unwrap_or(Err(HttpError::TimedOut(self.patience)))
    }

    async fn exchange(&self, mut request: Request<Vec<u8>>) -> Result<Response<Vec<u8>>, HttpError> {
        let uri = request.uri().clone();
        self.reach.allows(&uri)?;
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
        let stream = self.connect(&host, port).await?;
        if !secure {
            return talk(stream, request).await;
        }
        talk(self.secure(&host, stream).await?, request).await
    }

    /// TLS with a host over a connection to it.
    pub(crate) async fn secure(
        &self,
        host: &str,
        stream: TcpStream,
    ) -> Result<TlsStream<TcpStream>, HttpError> {
        let no_tls = |source| HttpError::Tls { host: host.to_owned(), source };
        let name = ServerName::try_from(host.to_owned()).map_err(|e| no_tls(io::Error::other(e)))?;
        self.tls.connect(name, stream).await.map_err(no_tls)
    }

    /// Looks the host up once, looks at what came, and connects to that.
    pub(crate) async fn connect(&self, host: &str, port: u16) -> Result<TcpStream, HttpError> {
        let failed = |source| HttpError::Connect { host: host.to_owned(), port, source };
        let found: Vec<SocketAddr> = lookup_host((host, port)).await.map_err(failed)?.collect();
        if self.reach == Reach::Public && found.iter().any(|address| is_private(address.ip())) {
            return Err(HttpError::Private(host.to_owned()));
        }
        TcpStream::connect(found.as_slice()).await.map_err(failed)
    }
}

/// A host without the brackets that an address of IPv6 has in a URL.
fn bare(host: &str) -> &str {
    host.trim_start_matches('[').trim_end_matches(']')
}

async fn talk<S>(stream: S, request: Request<Vec<u8>>) -> Result<Response<Vec<u8>>, HttpError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin,
{
    let mut client = http1::Builder::new();
    let (mut sender, connection) = client.max_buf_size(MAX_HEAD).handshake(TokioIo::new(stream)).await?;
    let request: Request<Full<Bytes>> = request.map(|body| Full::new(body.into()));
    let answer = async {
        let (parts, body) = sender.send_request(request).await?.into_parts();
        let whole =
            Limited::new(body, MAX_BODY).collect().await.map_err(|e| match e.is::<LengthLimitError>() {
                true => HttpError::TooLarge(parts.status),
                false => HttpError::Body(parts.status, e),
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
