//! The listening end: connections in, answered requests out, until told to stop.
//!
//! In: [`ServerSettings`], the store, the snapshots, a shutdown signal. Out: a bound [`Server`] and, at the end, nothing left open.
//! Invariants: nothing is served before the policy for the address is met; each connection has a [`Slot`], and every
//! wait for its peer has an end: for the handshake, for a head, for the peer to take an answer, and for the connection
//! as a whole; on shutdown event streams end and requests under way are answered.

use std::{
    convert::Infallible,
    fs, io,
    net::SocketAddr,
    path::PathBuf,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::{Body, Bytes},
    http::{HeaderValue, Request, Response, header},
};
use hyper::{
    body::{Frame, Incoming, SizeHint},
    server::conn::http1,
    service::{Service as _, service_fn},
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpSocket, TcpStream},
    sync::{mpsc, watch},
    time::{MissedTickBehavior, interval, sleep, timeout},
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    },
};
use vedette_act::Board;
use vedette_store::Store;

use crate::{
    admission::{Admission, Known, SessionLimits},
    app::{self, App},
    backtests::Backtests,
    bind::{bind_policy, is_loopback},
    checking::RuleCheck,
    connections::{Connections, Places, Progress, Reserve, Slot, Visiting},
    desk::follow,
    error::Error,
    hunting::Hunting,
    hunts::Hunts,
    live::LiveView,
    metrics::{Metrics, now},
    pace::{self, Pace},
    proof::{
        Proofs,
        oidc::{OidcSettings, Provider},
    },
    relay::Relays,
    reload::Reloads,
    router::router,
    shares::Shares,
    socket::Socket,
};

/// How long what is waited for, and how much is held meanwhile.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub places: Places,
    /// For the TLS handshake.
    pub handshake: Duration,
    /// For a whole head, counted from the end of the answer before: so this ends idle connections, too.
    pub head: Duration,
    /// For the peer to take one byte more of what waits for it.
    pub write: Duration,
    /// After this age a connection takes no further request; clients connect again. Without it a peer that takes a
    /// little now and then would hold its place for ever.
    pub age: Duration,
    /// From then on, for the last answer to be taken; event streams have a bound of their own.
    pub last: Duration,
    /// For a connection of the reserve, from its accept to its end.
    pub reserve: Duration,
    /// Bytes of heads read and of answers written that a connection holds: 768 of them make 96 MiB at most. Larger
    /// answers are held once, as they were made.
    pub buffer: usize,
    /// Bytes that the system holds of what a peer has not taken yet (Linux takes twice as much). By itself it takes up
    /// to 4 MiB for each, 3 GiB for as many peers that read nothing; so much still carries a megabyte a second over 100 ms.
    pub send_buffer: u32,
}

impl Limits {
    pub(crate) const USUAL: Self = Self {
        places: Places::USUAL,
        handshake: Duration::from_secs(10),
        head: Duration::from_secs(10),
        write: Duration::from_secs(10),
        age: Duration::from_secs(300),
        last: Duration::from_secs(30),
        reserve: Duration::from_secs(3),
        buffer: 64 * 1024,
        send_buffer: 128 * 1024,
    };
}

/// For answers under way; half of the ten seconds in which the process ends.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(5);

/// How to serve.
#[derive(Debug, Clone)]
pub struct ServerSettings {
    /// Where to listen; port 0 takes a free one.
    pub address: SocketAddr,
    /// On loopback nobody needs to sign in; has no effect elsewhere.
    pub open_loopback: bool,
    /// Whether to serve the console's pages.
    pub console: bool,
    /// Where people sign in besides with passwords, if anywhere.
    pub oidc: Option<OidcSettings>,
    /// How long sessions last.
    pub sessions: SessionLimits,
    /// The operator's word that a proxy in front of it does TLS.
    pub proxy_tls: bool,
    /// Do TLS in this process.
    pub tls: Option<TlsFiles>,
    /// Host names to answer to besides loopback's own; beyond loopback an empty list means any.
    pub hosts: Vec<String>,
    /// How the rules are read again, where they can be.
    pub reloads: Option<Reloads>,
    /// How a rule's text is checked.
    pub check: RuleCheck,
    /// By whom rules are tried on the past, if anybody does.
    pub backtests: Option<Backtests>,
    /// What enforcement points fetch, if any may.
    pub board: Option<Board>,
    /// By what people act; nobody does without it.
    pub response: Option<vedette_act::Response>,
    /// By whom hunts are run, if there are any.
    pub hunts: Option<Hunts>,
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
    front: Front,
    connections: Arc<Connections>,
    access: watch::Receiver<Arc<Known>>,
    /// People may come in by the word of a provider.
    vouched_for: bool,
    stopping: watch::Sender<bool>,
    /// What is looked at while it runs, and where that is kept.
    watch: (LiveView, Arc<Pace>),
}

/// What every connection needs.
#[derive(Clone)]
struct Front {
    router: Router,
    tls: Option<TlsAcceptor>,
    limits: Limits,
    stopping: watch::Receiver<bool>,
}

impl Server {
    /// Checks the policy and takes the address.
    ///
    /// # Errors
    /// If the policy forbids the address, it is taken, or the certificate cannot be used.
    pub async fn bind(
        settings: ServerSettings,
        store: Store,
        live: LiveView,
        metrics: Arc<Metrics>,
    ) -> Result<Self, Error> {
        Self::bind_within(Limits::USUAL, settings, store, live, metrics).await
    }

    pub(crate) async fn bind_within(
        limits: Limits,
        settings: ServerSettings,
        store: Store,
        live: LiveView,
        metrics: Arc<Metrics>,
    ) -> Result<Self, Error> {
        let admission = Admission::follow(&store, settings.sessions).await?;
        let provider = settings.oidc.map(Provider::new).transpose()?.map(Arc::new);
        let anybody = admission.any() || provider.is_some();
        bind_policy(settings.address, anybody, settings.tls.is_some(), settings.proxy_tls)?;
        let tls = settings.tls.as_ref().map(acceptor).transpose()?;
        let bind = |source| Error::Bind { address: settings.address, source };
        let listener = listen(settings.address, limits.send_buffer).map_err(bind)?;
        let address = listener.local_addr().map_err(bind)?;
        let connections = Arc::new(Connections::new(limits.places, settings.proxy_tls));
        let (stopping, watch_stopping) = watch::channel(false);
        let access = admission.changes();
        let pace = Arc::<Pace>::default();
        let app = App {
            relays: Relays::new(store.clone(), app::STREAM_READS),
            store,
            live: live.clone(),
            metrics,
            pace: Arc::clone(&pace),
            admission,
            proofs: Proofs { provider: provider.clone(), ..Proofs::default() },
            connections: Arc::clone(&connections),
            open: settings.open_loopback && is_loopback(address.ip()),
            secure: settings.tls.is_some() || settings.proxy_tls,
            proxied: settings.proxy_tls,
            loopback: is_loopback(address.ip()),
            console: settings.console,
            hosts: settings.hosts,
            reloads: settings.reloads,
            check: settings.check,
            backtests: settings.backtests,
            board: settings.board,
            response: settings.response,
            hunts: settings.hunts,
            hunting: Hunting::default(),
            streams: Shares::new("streams and exports", app::MAX_STREAMS, app::STREAMS_EACH),
            bulks: Shares::new("changes of many alerts", app::MAX_BULKS, app::BULKS_EACH),
            stopping: watch_stopping.clone(),
        };
        let front = Front { router: router(app), tls, limits, stopping: watch_stopping };
        let vouched_for = provider.is_some();
        if let Some(provider) = provider {
            // Nobody waits for it, and it ends within seconds.
            tokio::spawn(async move { provider.look().await });
        }
        Ok(Self { listener, address, front, connections, access, vouched_for, stopping, watch: (live, pace) })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// True if there is no user, no token and no provider that vouches for people, so that nobody can come in.
    #[must_use]
    pub fn admits_nobody(&self) -> bool {
        let known = self.access.borrow();
        !self.vouched_for && known.admitted.users.is_empty() && known.admitted.tokens.is_empty()
    }

    /// Serves until `shutdown` is ready, then answers what is under way, for at most five seconds. It ends by itself if
    /// users and tokens are not read any more: who was kept out would be let in for ever.
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        let Self { listener, front, connections, mut access, stopping, watch: (live, pace), .. } = self;
        let mut looks = interval(pace::EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // Every connection holds a sender, and nothing is sent: the end of the channel is the end of the last one.
        let (open, mut ended) = mpsc::channel::<()>(1);
        let mut shutdown = pin!(shutdown);
        loop {
            let accepted = tokio::select! {
                () = &mut shutdown => break,
                accepted = listener.accept() => accepted,
                _ = looks.tick() => {
                    pace.look(&live.now(), now());
                    continue;
                }
                () = async { while access.changed().await.is_ok() {} } => {
                    tracing::error!("users and tokens are not read any more");
                    break;
                }
            };
            match accepted {
                Ok((stream, peer)) => {
                    let slot = connections.admit(peer.ip(), Instant::now());
                    let (front, open) = (front.clone(), open.clone());
                    tokio::spawn(async move {
                        let _open = open;
                        front.serve(stream, slot).await;
                    });
                }
                Err(error) => rest_after(&error, &connections).await,
            }
        }
        drop((listener, open, front));
        stopping.send_replace(true);
        if timeout(SHUTDOWN_TIMEOUT, ended.recv()).await.is_err() {
            let left = connections.cut_all();
            tracing::warn!(left, "some requests were cut off at shutdown");
        }
    }
}

/// Connections that wait to be accepted: the most that Linux allows by default. A short queue overflows in a flood, and
/// then everybody's attempts are dropped and tried again after seconds.
const BACKLOG: u32 = 4_096;

fn listen(address: SocketAddr, send_buffer: u32) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    // Accepted sockets inherit it.
    socket.set_send_buffer_size(send_buffer)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Makes room where the system has no more descriptors; a client that hung up needs none.
async fn rest_after(error: &io::Error, connections: &Connections) {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    if !matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset) {
        let made_room = connections.shed(Instant::now());
        tracing::warn!(%error, made_room, "cannot accept connections");
        sleep(Duration::from_millis(if made_room { 10 } else { 500 })).await;
    }
}

impl Front {
    /// Serves one connection until its end, its bounds, or word that it has to make room.
    async fn serve(self, stream: TcpStream, slot: Slot) {
        let limits = self.limits;
        let progress = Arc::clone(&slot.progress);
        // Who has hung up already is asked nothing.
        let Ok(peer) = stream.peer_addr() else { return };
        let peer = Visiting(peer.ip());
        let stream = Socket::new(stream, Arc::clone(&progress), limits.write);
        let served = async {
            match self.tls.clone() {
                None => self.http(stream, peer, &slot).await,
                Some(tls) => match timeout(limits.handshake, tls.accept(stream)).await {
                    Ok(Ok(stream)) => self.http(stream, peer, &slot).await,
                    Ok(Err(error)) => tracing::debug!(%error, "TLS handshake failed"),
                    Err(_) => tracing::debug!("TLS handshake took too long"),
                },
            }
        };
        let time = if slot.reserve { limits.reserve } else { Duration::MAX };
        tokio::select! {
            () = progress.cut() => tracing::debug!("a connection that waited for its peer made room"),
            served = timeout(time, served) => {
                if served.is_err() {
                    tracing::debug!("a connection of the reserve took too long");
                }
            }
        }
    }

    async fn http<S>(&self, stream: S, peer: Visiting, slot: &Slot)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let limits = self.limits;
        let (router, progress) = (TowerToHyperService::new(self.router.clone()), Arc::clone(&slot.progress));
        let (reserve, connections) = (slot.reserve, Arc::clone(&slot.connections));
        let service = service_fn(move |mut request: Request<Incoming>| {
            progress.asked();
            request.extensions_mut().insert(peer);
            if reserve {
                request.extensions_mut().insert(Reserve);
            }
            let (answer, progress) = (router.call(request), Arc::clone(&progress));
            let connections = Arc::clone(&connections);
            async move {
                // Also where the answer is given up.
                let answering = Answering(progress);
                let mut answer = answer.await?;
                if is_stream(&answer) {
                    answering.0.streams();
                } else if connections.scarce() {
                    answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
                }
                Ok::<_, Infallible>(answer.map(|body| Answer { body, _answering: answering }))
            }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(limits.head)
            .max_buf_size(limits.buffer)
            .keep_alive(!reserve)
            .serve_connection(TokioIo::new(stream), service);
        let mut connection = pin!(connection);
        let mut stopping = self.stopping.clone();
        let ended = tokio::select! {
            ended = connection.as_mut() => Ok(ended),
            () = sleep(limits.age) => Err(()),
            // The sender lives until the server stops.
            _ = stopping.wait_for(|stop| *stop) => Err(()),
        };
        let ended = match ended {
            Ok(ended) => ended,
            Err(()) => {
                connection.as_mut().graceful_shutdown();
                // A stream ends by itself: when its time is over, its token is revoked, or the server stops.
                let time = if slot.progress.is_stream() { follow::MAX_TIME } else { Duration::ZERO };
                match timeout(time + limits.last, connection).await {
                    Ok(ended) => ended,
                    Err(_) => return tracing::debug!("a connection ended at its greatest age"),
                }
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "connection ended early");
        }
    }
}

/// While it lives, a request is being answered.
struct Answering(Arc<Progress>);

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.answered();
    }
}

/// An answer's body, which notes when it has been handed over.
struct Answer {
    body: Body,
    _answering: Answering,
}

impl hyper::body::Body for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

fn is_stream(answer: &Response<Body>) -> bool {
    let media = answer.headers().get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    media.is_some_and(|media| media.starts_with(b"text/event-stream"))
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
