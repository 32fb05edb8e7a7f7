//! What a served socket does under peers that mean harm: nobody who asks and reads is kept out.
//!
//! Each test opens more such peers than there are places, and asks for health and (with a token) for alerts meanwhile.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use tokio_rustls::{TlsConnector, rustls::pki_types::ServerName};
use vedette_store::{Access, Store, model::Role};

use super::{
    NOON,
    served::{certificate, connector},
    watched,
};
use crate::{
    Metrics, Server, ServerSettings, TlsFiles, auth::create_token, connections::Places, live, server::Limits,
};

/// A second or two, and some for a machine that does other things as well.
const SOON: Duration = Duration::from_secs(5);

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

struct Served {
    address: SocketAddr,
    tls: Option<TlsConnector>,
    token: String,
    running: tokio::task::JoinHandle<()>,
    _folder: tempfile::TempDir,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.running.abort();
    }
}

/// The usual limits, but for buffers, so that it takes fewer answers until a peer that reads nothing is felt.
const LIMITS: Limits = Limits { buffer: 8 * 1024, send_buffer: 8 * 1024, ..Limits::USUAL };

/// A server that wants a token.
async fn serve(limits: Limits, tls: Option<TlsFiles>) -> Served {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(vedette_store::StoreSettings::new(folder.path(), Access::Engine)).await.unwrap();
    let token = create_token().unwrap();
    store.create_token("ann", Role::Analyst, token.hash, "test").await.unwrap();
    let (_sender, live) = watched(live::Live::starting(live::Mode::Run, "0.1.0", NOON));
    let settings = ServerSettings {
        address: "127.0.0.1:0".parse().unwrap(),
        open_loopback: false,
        console: false,
        sessions: crate::SessionLimits::USUAL,
        proxy_tls: false,
        tls: tls.clone(),
        hosts: Vec::new(),
        oidc: None,
        reloads: None,
        check: super::check(),
        backtests: None,
        board: None,
        response: None,
        hunts: None,
    };
    let metrics = Arc::new(Metrics::new(live.clone()));
    let server = Server::bind_within(limits, settings, store, live, metrics).await.unwrap();
    let address = server.address();
    let running = tokio::spawn(server.run(std::future::pending()));
    Served { address, tls: tls.as_ref().map(connector), token: token.text, running, _folder: folder }
}

impl Served {
    /// A connection whose own end takes in as little as the system allows.
    async fn connect(&self) -> std::io::Result<Box<dyn Stream>> {
        let socket = TcpSocket::new_v4()?;
        socket.set_recv_buffer_size(4_096)?;
        self.over(socket.connect(self.address).await?).await
    }

    async fn over(&self, stream: TcpStream) -> std::io::Result<Box<dyn Stream>> {
        let name = ServerName::try_from("localhost").unwrap();
        Ok(match &self.tls {
            None => Box::new(stream),
            Some(tls) => Box::new(tls.connect(name, stream).await?),
        })
    }

    /// One honest request on a connection of its own: its status.
    async fn ask(&self, path: &str) -> std::io::Result<u16> {
        let mut stream = self.over(TcpStream::connect(self.address).await?).await?;
        let head = format!(
            "GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\nConnection: close\r\n\r\n",
            self.token
        );
        stream.write_all(head.as_bytes()).await?;
        let mut answer = Vec::new();
        // Not every end of TLS is announced.
        let _ = stream.read_to_end(&mut answer).await;
        let status = String::from_utf8_lossy(&answer).split(' ').nth(1).and_then(|code| code.parse().ok());
        status.ok_or_else(|| std::io::Error::other("no answer"))
    }

    /// The same, asked again where it is told to come again: those who have just come are left alone for a moment, and of a thousand at once
    /// nobody may have to make room yet.
    async fn let_in(&self, path: &str) -> std::io::Result<u16> {
        loop {
            match self.ask(path).await? {
                503 => sleep(Duration::from_millis(50)).await,
                status => return Ok(status),
            }
        }
    }

    /// Asks for a while, and has each question answered soon.
    async fn answers(&self, during: Duration) {
        let until = Instant::now() + during;
        let mut asked = 0;
        while asked < 3 || Instant::now() < until {
            for path in ["/healthz", "/api/v1/alerts?limit=5", "/metrics"] {
                let answer = async { if asked < 3 { self.let_in(path).await } else { self.ask(path).await } };
                let answer = timeout(SOON, answer).await;
                let answer =
                    answer.unwrap_or_else(|_| panic!("{path} was not answered soon, after {asked} answers"));
                assert_eq!(answer.unwrap(), 200, "{path} after {asked} answers");
                asked += 1;
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Opens so many peers, each of which does `what` for as long as its connection lasts.
    async fn peers<F>(&self, n: usize, what: impl Fn(Box<dyn Stream>) -> F) -> JoinSet<()>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let mut peers = JoinSet::new();
        for _ in 0..n {
            // One that has to make room during its handshake may see it fail.
            if let Ok(Ok(stream)) = timeout(SOON, self.connect()).await {
                peers.spawn(what(stream));
            }
        }
        peers
    }
}

/// Asks again and again, and never reads an answer.
async fn reads_nothing(mut stream: Box<dyn Stream>) {
    let questions = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(100);
    while stream.write_all(questions.as_bytes()).await.is_ok() {}
}

/// Sends a head, one byte at a time.
async fn slow_head(mut stream: Box<dyn Stream>) {
    let head = "GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Padding: ";
    for byte in head.bytes().chain(std::iter::repeat(b'x')) {
        if stream.write_all(&[byte]).await.is_err() {
            return;
        }
        sleep(Duration::from_millis(300)).await;
    }
}

/// Says nothing.
async fn silent(mut stream: Box<dyn Stream>) {
    let _ = stream.read(&mut [0]).await;
}

async fn pressed(n: usize, tls: bool) {
    let folder = tempfile::tempdir().unwrap();
    let files = if tls {
        let Some(files) = certificate(folder.path()) else { return };
        Some(files)
    } else {
        None
    };
    let served = serve(LIMITS, files).await;
    let _peers = served.peers(n, reads_nothing).await;
    served.answers(Duration::from_secs(2)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn peers_that_read_nothing_keep_nobody_out() {
    pressed(800, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_thousand_peers_that_read_nothing_keep_nobody_out() {
    pressed(2_000, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn peers_that_read_nothing_keep_nobody_out_over_tls() {
    pressed(800, true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_heads_and_silence_keep_nobody_out() {
    let served = serve(LIMITS, None).await;
    let _slow = served.peers(512, slow_head).await;
    let _silent = served.peers(512, silent).await;
    served.answers(Duration::from_secs(2)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_bodies_keep_nobody_out() {
    let served = serve(LIMITS, None).await;
    let head = format!(
        "POST /api/v1/alerts/bulk HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\n\
         Content-Type: application/json\r\nContent-Length: 200000\r\n\r\n{{",
        served.token
    );
    let slow_body = |mut stream: Box<dyn Stream>| {
        let head = head.clone();
        async move {
            stream.write_all(head.as_bytes()).await.unwrap();
            silent(stream).await;
        }
    };
    let _peers = served.peers(400, slow_body).await;
    served.answers(Duration::from_secs(2)).await;
}

fn few() -> Limits {
    let places = Places { connections: 4, reserve: 2, ..Places::USUAL };
    let soon = Duration::from_millis(500);
    Limits { places, write: soon, head: soon, reserve: soon, ..LIMITS }
}

/// True if the server closes it within a few seconds.
async fn is_closed(stream: &mut (impl AsyncRead + Unpin)) -> bool {
    let rest = async {
        let mut bytes = [0; 4_096];
        while stream.read(&mut bytes).await.is_ok_and(|n| n > 0) {}
    };
    timeout(SOON, rest).await.is_ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_wait_for_a_peer_has_an_end() {
    let served = serve(few(), None).await;
    // Says nothing at all; says nothing after its first answer; never ends its head.
    let mut mute = served.connect().await.unwrap();
    let mut idle = served.connect().await.unwrap();
    idle.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let mut slow = served.connect().await.unwrap();
    slow.write_all(b"GET /healthz HT").await.unwrap();
    // Reads nothing: its writes fail in the end, since the server closes.
    let unread = tokio::spawn(reads_nothing(served.connect().await.unwrap()));
    for stream in [&mut mute, &mut idle, &mut slow] {
        assert!(is_closed(stream).await);
    }
    timeout(SOON, unread).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_ends_at_its_greatest_age_with_its_answer_whole() {
    let served = serve(Limits { age: Duration::from_millis(500), ..LIMITS }, None).await;
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    let busy = async {
        let mut answers = 0;
        loop {
            let question = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
            let mut answer = vec![0; 4_096];
            if stream.write_all(question).await.is_err() {
                return answers;
            }
            match stream.read(&mut answer).await {
                Ok(0) | Err(_) => return answers,
                Ok(n) => assert!(answer[..n].ends_with(b"ok\n")),
            }
            answers += 1;
            sleep(Duration::from_millis(20)).await;
        }
    };
    assert!(timeout(SOON, busy).await.unwrap() > 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_all_places_are_taken_probes_are_answered_and_others_told_when_to_come_again() {
    let served = serve(few(), None).await;
    let mut streams = Vec::new();
    for _ in 0..4 {
        let mut stream = TcpStream::connect(served.address).await.unwrap();
        let head = format!(
            "GET /api/v1/alerts/stream HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\n\r\n",
            served.token
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut head = [0; 15];
        stream.read_exact(&mut head).await.unwrap();
        assert_eq!(&head, b"HTTP/1.1 200 OK");
        streams.push(stream);
    }
    for (path, status) in [("/healthz", 200), ("/readyz", 503), ("/metrics", 200), ("/api/v1/alerts", 503)] {
        assert_eq!(timeout(SOON, served.ask(path)).await.unwrap().unwrap(), status, "{path}");
    }
    let mut refused = TcpStream::connect(served.address).await.unwrap();
    refused.write_all(b"GET /api/v1/alerts HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    timeout(SOON, refused.read_to_string(&mut answer)).await.unwrap().unwrap();
    let answer = answer.to_lowercase();
    for part in ["503", "retry-after: 1", "connection: close", "urn:vedette:problem:overloaded"] {
        assert!(answer.contains(part), "{part}: {answer}");
    }
    // What says nothing on a place of the reserve is closed soon.
    let mut mute = TcpStream::connect(served.address).await.unwrap();
    assert!(is_closed(&mut mute).await);
    drop(streams);
    sleep(Duration::from_millis(200)).await;
    assert_eq!(served.ask("/api/v1/alerts").await.unwrap(), 200);
}

/// How long answers take while 512 peers read nothing; prints a line for the record.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement: cargo test --release -p vedette-api measure -- --ignored --nocapture"]
async fn measure_answers_while_512_peers_read_nothing() {
    let served = serve(Limits::USUAL, None).await;
    for pressed in [false, true] {
        let n = if pressed { 512 } else { 0 };
        let _peers = served.peers(n, reads_nothing).await;
        for path in ["/healthz", "/api/v1/alerts"] {
            let mut times = Vec::new();
            for _ in 0..400 {
                let began = Instant::now();
                assert_eq!(served.ask(path).await.unwrap(), 200);
                times.push(began.elapsed());
                sleep(Duration::from_millis(5)).await;
            }
            times.sort();
            let (p50, p99, max) = (times[200], times[396], times[399]);
            println!("{n} peers, {path}: p50 {p50:?}, p99 {p99:?}, max {max:?}");
        }
    }
}
