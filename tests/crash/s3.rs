//! A server on loopback that speaks S3's protocol, over a folder.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
};

use anyhow::{Context as _, Result};
use http::{HeaderValue, Request, Response, StatusCode, header::AUTHORIZATION};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use s3s::{
    Body, HttpError,
    auth::SimpleAuth,
    service::{S3Service, S3ServiceBuilder},
};
use s3s_fs::FileSystem;
use tokio::{net::TcpListener, runtime::Runtime};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    },
};

use crate::certificate::self_signed;

/// Who may ask, and what they sign with.
pub const KEYS: (&str, &str) = ("AKVEDETTE", "of-nobody-else-8c1f");

const ANSWERS: u8 = 0;
const REFUSES: u8 = 1;
const KNOWS_NOBODY: u8 = 2;

/// The server; it ends when dropped.
pub struct S3 {
    address: SocketAddr,
    secured: SocketAddr,
    root: tempfile::TempDir,
    mood: Arc<AtomicU8>,
    _runtime: Runtime,
}

impl S3 {
    /// With one bucket.
    pub fn start(bucket: &str) -> Result<Self> {
        let root = tempfile::Builder::new().prefix("vedette-s3-").tempdir()?;
        let objects = root.path().join("objects");
        fs::create_dir_all(objects.join(bucket))?;
        let tls = tls(root.path())?;
        let store = FileSystem::new(&objects).map_err(|e| anyhow::anyhow!("{e:?}"))?;
        let mut builder = S3ServiceBuilder::new(store);
        builder.set_auth(SimpleAuth::from_single(KEYS.0, KEYS.1));
        let service = builder.build();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let mood = Arc::new(AtomicU8::new(ANSWERS));
        let mut addresses = [None, Some(tls)].into_iter().map(|tls| -> Result<SocketAddr> {
            let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
            let address = listener.local_addr()?;
            runtime.spawn(listen(listener, tls, service.clone(), Arc::clone(&mood)));
            Ok(address)
        });
        let address = addresses.next().context("an address")??;
        let secured = addresses.next().context("an address")??;
        drop(addresses);
        Ok(Self { address, secured, root, mood, _runtime: runtime })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it speaks TLS, and who vouches for it.
    pub fn secured(&self) -> (SocketAddr, PathBuf) {
        (self.secured, self.root.path().join("certificate.pem"))
    }

    /// Where the objects of a bucket lie.
    pub fn bucket(&self, name: &str) -> PathBuf {
        self.root.path().join("objects").join(name)
    }

    /// Whether it answers with nothing but 500.
    pub fn refuses(&self, yes: bool) {
        self.mood.store(if yes { REFUSES } else { ANSWERS }, Ordering::Relaxed);
    }

    /// Whether it takes the key for nobody's.
    pub fn knows_nobody(&self, yes: bool) {
        self.mood.store(if yes { KNOWS_NOBODY } else { ANSWERS }, Ordering::Relaxed);
    }
}

/// Takes connections, in the clear or over TLS.
async fn listen(listener: TcpListener, tls: Option<TlsAcceptor>, service: S3Service, mood: Arc<AtomicU8>) {
    while let Ok((stream, _)) = listener.accept().await {
        let (tls, service, mood) = (tls.clone(), service.clone(), Arc::clone(&mood));
        tokio::spawn(async move {
            let answers =
                service_fn(move |request| answer(service.clone(), request, mood.load(Ordering::Relaxed)));
            let http = http1::Builder::new();
            // Who was killed, or does not trust this server, has hung up.
            match tls {
                None => drop(http.serve_connection(TokioIo::new(stream), answers).await),
                Some(tls) => {
                    if let Ok(stream) = tls.accept(stream).await {
                        drop(http.serve_connection(TokioIo::new(stream), answers).await);
                    }
                }
            }
        });
    }
}

async fn answer(
    service: S3Service,
    mut request: Request<Incoming>,
    mood: u8,
) -> Result<Response<Body>, HttpError> {
    if mood == REFUSES {
        let mut no = Response::new(Body::from("no".to_owned()));
        *no.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        return Ok(no);
    }
    if mood == KNOWS_NOBODY {
        let nobody = "AWS4-HMAC-SHA256 Credential=AKNOBODY/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=00";
        request.headers_mut().insert(AUTHORIZATION, HeaderValue::from_static(nobody));
    }
    service.call(request.map(Body::from)).await
}

/// A certificate of this address alone, which vouches for itself.
fn tls(at: &Path) -> Result<TlsAcceptor> {
    self_signed(at, "127.0.0.1", "IP:127.0.0.1")?;
    let certificate = CertificateDer::from_pem_file(at.join("certificate.pem"))?;
    let key = PrivateKeyDer::from_pem_file(at.join("key.pem"))?;
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}
