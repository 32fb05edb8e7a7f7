//! Serves the console with the seed, for looking at it: `cargo test -p vedette-api look -- --ignored --nocapture`.

use std::{sync::Arc, time::Duration};

use super::{live, seed};
use crate::{
    Metrics, Server, Settings,
    live::{Obstacle, Readiness},
    metrics::now,
};

#[tokio::test(flavor = "multi_thread")]
#[ignore = "serves the seeded console on 127.0.0.1:8099 for ten minutes"]
async fn look() {
    let folder = tempfile::tempdir().unwrap();
    let settings = vedette_store::Settings::new(folder.path(), vedette_store::Access::Engine);
    let store = vedette_store::Store::open(settings).await.unwrap();
    seed::fill(&store, now()).await;
    let (sender, receiver) = live::channel(seed::live(now()));
    let settings = Settings {
        address: "127.0.0.1:8099".parse().unwrap(),
        open_loopback: true,
        console: true,
        proxy_tls: false,
        tls: None,
        hosts: Vec::new(),
    };
    let metrics = Arc::new(Metrics::new(receiver.clone()));
    let server = Server::bind(settings, store, receiver, metrics).await.unwrap();
    println!("console: http://{}", server.address());
    let flip = async {
        for second in 0..600 {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let mut live = seed::live(now());
            if std::path::Path::new("/tmp/vedette-not-ready").exists() {
                let message = "The broker at 127.0.0.1:9092 does not answer; trying again every 5 s.";
                let obstacle =
                    Obstacle { code: "broker-unreachable".into(), message: message.into(), since: now() };
                live.ready = Readiness { ready: false, obstacles: vec![obstacle] };
                live.rejected.clear();
            }
            live.status.publish.seq = second;
            sender.send_replace(Arc::new(live));
        }
    };
    server.run(flip).await;
}
