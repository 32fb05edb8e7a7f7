//! A served socket: binding, limits, shutdown.

use std::{net::SocketAddr, path::Path, process::Command, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::oneshot,
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
use vedette_store::{Access, Store};

use super::{NOON, watched};
use crate::{
    Error, Metrics, Server, ServerSettings, SessionLimits, TlsFiles,
    live::{Live, Mode},
};

type Bound = (Result<Server, Error>, Store, tempfile::TempDir);

async fn bind(address: &str, proxy_tls: bool) -> Bound {
    bind_with(address, proxy_tls, None).await
}

async fn bind_with(address: &str, proxy_tls: bool, tls: Option<TlsFiles>) -> Bound {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(vedette_store::StoreSettings::new(folder.path(), Access::Engine)).await.unwrap();
    let (_sender, live) = watched(Live::starting(Mode::Demo, "0.1.0", NOON));
    let settings = ServerSettings {
        address: address.parse().unwrap(),
        open_loopback: true,
        console: true,
        sessions: SessionLimits::USUAL,
        proxy_tls,
        tls,
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
    (Server::bind(settings, store.clone(), live, metrics).await, store, folder)
}

async fn ask(address: SocketAddr, head: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(format!("{head}\r\nHost: localhost\r\n\r\n").as_bytes()).await.unwrap();
    stream
}

#[tokio::test]
async fn beyond_loopback_it_does_not_start_unprotected() {
    assert!(matches!(bind("0.0.0.0:0", true).await.0, Err(Error::Nobody(_))));
    let (taken, _store, _folder) = bind("127.0.0.1:0", false).await;
    let address = taken.as_ref().unwrap().address();
    assert!(matches!(bind(&address.to_string(), false).await.0, Err(Error::Bind { .. })));
}

#[tokio::test]
async fn shutdown_ends_streams_and_answers_what_is_under_way() {
    let (server, _store, _folder) = bind("127.0.0.1:0", false).await;
    let server = server.unwrap();
    let address = server.address();
    let (stop, stopped) = oneshot::channel::<()>();
    let running = tokio::spawn(server.run(async {
        let _ = stopped.await;
    }));
    let mut health = ask(address, "GET /healthz HTTP/1.1\r\nConnection: close").await;
    let mut answer = String::new();
    health.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");

    let mut stream = ask(address, "GET /api/v1/alerts/stream HTTP/1.1").await;
    let mut head = vec![0; 15];
    stream.read_exact(&mut head).await.unwrap();
    assert_eq!(head, b"HTTP/1.1 200 OK");
    let idle = TcpStream::connect(address).await.unwrap();
    stop.send(()).unwrap();
    timeout(Duration::from_secs(3), running).await.unwrap().unwrap();
    let mut rest = Vec::new();
    timeout(Duration::from_secs(1), stream.read_to_end(&mut rest)).await.unwrap().unwrap();
    drop(idle);
    assert!(TcpStream::connect(address).await.is_err());
}

/// A certificate of its own for `localhost`; `None` where there is no `openssl`.
pub(crate) fn certificate(folder: &Path) -> Option<TlsFiles> {
    let files = TlsFiles { certificate: folder.join("certificate.pem"), key: folder.join("key.pem") };
    let made = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-days",
            "2",
        ])
        .args(["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE", "-keyout"])
        .arg(&files.key)
        .arg("-out")
        .arg(&files.certificate)
        .output();
    match made {
        Ok(output) if output.status.success() => Some(files),
        other => {
            eprintln!("skipped: no certificate without a working `openssl`: {other:?}");
            None
        }
    }
}

/// A client that knows the certificate.
pub(super) fn connector(files: &TlsFiles) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(&files.certificate).unwrap()).unwrap();
    let client = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    TlsConnector::from(Arc::new(client))
}

#[tokio::test]
async fn tls_is_done_in_process() {
    let folder = tempfile::tempdir().unwrap();
    let Some(files) = certificate(folder.path()) else { return };
    let (server, _store, _folder) = bind_with("127.0.0.1:0", false, Some(files.clone())).await;
    let server = server.unwrap();
    let address = server.address();
    let running = tokio::spawn(server.run(std::future::pending()));
    let client = connector(&files);
    // Somebody who speaks no TLS holds nobody up.
    let mut silent = TcpStream::connect(address).await.unwrap();
    silent.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let stream = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let mut stream = client.connect(name, stream).await.unwrap();
    let head = "GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    assert!(answer.starts_with(b"HTTP/1.1 200 OK"));
    running.abort();
}

#[tokio::test]
async fn wrong_tls_files_keep_it_from_starting() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("empty.pem"), "").unwrap();
    for name in ["empty.pem", "nothing.pem"] {
        let file = folder.path().join(name);
        let files = TlsFiles { certificate: file.clone(), key: file };
        let (server, _store, _folder) = bind_with("127.0.0.1:0", false, Some(files)).await;
        let Err(error) = server else { panic!("{name} was taken") };
        assert!(error.to_string().contains(name), "{error}");
    }
}
