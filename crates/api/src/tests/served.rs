//! A served socket: binding, limits, shutdown.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::oneshot,
    time::timeout,
};
use vedette_store::{Access, Store};

use super::NOON;
use crate::{Error, Metrics, Server, Settings, live};

async fn bind(address: &str, proxy_tls: bool) -> (Result<Server, Error>, Store, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(vedette_store::Settings::new(folder.path(), Access::Engine)).await.unwrap();
    let (_sender, live) = live::channel(live::Live::starting(live::Mode::Demo, "0.1.0", NOON));
    let settings = Settings {
        address: address.parse().unwrap(),
        open_loopback: true,
        console: true,
        proxy_tls,
        tls: None,
        hosts: Vec::new(),
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
    assert!(matches!(bind("0.0.0.0:0", true).await.0, Err(Error::NoTokens(_))));
    let (taken, ..) = bind("127.0.0.1:0", false).await;
    let address = taken.as_ref().unwrap().address();
    assert!(matches!(bind(&address.to_string(), false).await.0, Err(Error::Bind { .. })));
}

#[tokio::test]
async fn shutdown_ends_streams_and_answers_what_is_under_way() {
    let (server, ..) = bind("127.0.0.1:0", false).await;
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
