//! The listening end: connections in, answered requests out, until told to stop.
//!
//! In: [`Settings`], the store, the snapshots, a shutdown signal. Out: a bound [`Server`] and, at the end, nothing left open.
//! Invariants: nothing is served before the policy for the address is met; the number of connections and the time a
//! client may take for its headers are bounded; on shutdown event streams end and requests under way are answered.

use std::{fs, io, net::SocketAddr, path::PathBuf, pin::pin, sync::Arc, time::Duration};

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    sync::{Semaphore, watch},
    time::{sleep, timeout},
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    },
};
use vedette_store::Store;

use crate::{
    app::{self, App},
    auth::Tokens,
    bind::{bind_policy, is_loopback},
    error::Error,
    live::LiveReceiver,
    metrics::Metrics,
};

const MAX_CONNECTIONS: usize = 512;
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(5);

/// How to serve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Where to listen; port 0 takes a free one.
    pub address: SocketAddr,
    /// On loopback no token is needed; has no effect elsewhere.
    pub open_loopback: bool,
    /// Whether to serve the console's pages.
    pub console: bool,
    /// The operator's word that a proxy in front of it does TLS.
    pub proxy_tls: bool,
    /// Do TLS in this process.
    pub tls: Option<TlsFiles>,
    /// Host names to answer to besides loopback's own; beyond loopback an empty list means any.
    pub hosts: Vec<String>,
}

/// A certificate chain and its key, both PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The chain, the server's own certificate first.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// A server that has its address but answers nothing yet.
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    router: Router,
    tls: Option<TlsAcceptor>,
    stopping: watch::Sender<bool>,
}

impl Server {
    /// Checks the policy and takes the address.
    ///
    /// # Errors
    /// If the policy forbids the address, it is taken, or the certificate cannot be used.
    pub async fn bind(
        settings: Settings,
        store: Store,
        live: LiveReceiver,
        metrics: Arc<Metrics>,
    ) -> Result<Self, Error> {
        let tokens = Tokens::load(&store).await?;
        let has_tokens = tokens.any_in_force().await;
        bind_policy(settings.address, has_tokens, settings.tls.is_some(), settings.proxy_tls)?;
        let tls = settings.tls.as_ref().map(acceptor).transpose()?;
        let bind = |source| Error::Bind { address: settings.address, source };
        let listener = TcpListener::bind(settings.address).await.map_err(bind)?;
        let address = listener.local_addr().map_err(bind)?;
        let (stopping, watch_stopping) = watch::channel(false);
        let app = App {
            store,
            live,
            metrics,
            tokens,
            open: settings.open_loopback && is_loopback(address.ip()),
            loopback: is_loopback(address.ip()),
            console: settings.console,
            hosts: settings.hosts,
            streams: Arc::new(Semaphore::new(app::MAX_STREAMS)),
            stopping: watch_stopping,
        };
        Ok(Self { listener, address, router: app::router(app), tls, stopping })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `shutdown` is ready, then answers what is under way, for at most five seconds.
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        let graceful = GracefulShutdown::new();
        let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let mut shutdown = pin!(shutdown);
        loop {
            let slot = tokio::select! {
                () = &mut shutdown => break,
                slot = Arc::clone(&slots).acquire_owned() => slot,
            };
            let accepted = tokio::select! {
                () = &mut shutdown => break,
                accepted = self.listener.accept() => accepted,
            };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    rest_after(&error).await;
                    continue;
                }
            };
            let (router, tls, watcher) = (self.router.clone(), self.tls.clone(), graceful.watcher());
            tokio::spawn(async move {
                let _slot = slot;
                match tls {
                    None => connection(stream, router, watcher).await,
                    Some(tls) => match timeout(HANDSHAKE_TIMEOUT, tls.accept(stream)).await {
                        Ok(Ok(stream)) => connection(stream, router, watcher).await,
                        Ok(Err(error)) => tracing::debug!(%error, "TLS handshake failed"),
                        Err(_) => tracing::debug!("TLS handshake took too long"),
                    },
                }
            });
        }
        drop(self.listener);
        self.stopping.send_replace(true);
        tokio::select! {
            () = graceful.shutdown() => {}
            () = sleep(SHUTDOWN_TIMEOUT) => tracing::warn!("some requests were cut off at shutdown"),
        }
    }
}

/// Waits where the system has no more descriptors; a client that hung up needs no wait.
async fn rest_after(error: &io::Error) {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    if !matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset) {
        tracing::warn!(%error, "cannot accept connections");
        sleep(Duration::from_millis(500)).await;
    }
}

async fn connection<S>(stream: S, router: Router, watcher: hyper_util::server::graceful::Watcher)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = TowerToHyperService::new(router);
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = watcher.watch(connection).await {
        tracing::debug!(%error, "connection ended early");
    }
}

fn acceptor(files: &TlsFiles) -> Result<TlsAcceptor, Error> {
    let read = |path: &PathBuf| {
        fs::read(path).map_err(|error| Error::Tls(format!("{} cannot be read: {error}", path.display())))
    };
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read(&files.certificate)?).collect();
    let chain = chain.map_err(|e| Error::Tls(format!("{} is no PEM: {e}", files.certificate.display())))?;
    let key = PrivateKeyDer::from_pem_slice(&read(&files.key)?)
        .map_err(|e| Error::Tls(format!("{} holds no private key: {e}", files.key.display())))?;
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
        .map_err(|e| Error::Tls(e.to_string()))?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}
