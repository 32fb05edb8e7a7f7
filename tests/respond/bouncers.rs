//! The real bouncers of Debian's packages fetch from the API and set real firewalls.
//!
//! In: `VEDETTE_BOUNCERS`, as `.ci/bouncers/fetch` leaves it. Out: connections that are refused or let in. Invariants: all of it happens in
//! a network namespace of the test's own, to which the test starts itself again; nothing outside it is changed.

use std::{
    env, fs,
    net::IpAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use ipnet::IpNet;
use tokio::{
    net::{TcpListener, TcpSocket},
    sync::oneshot,
    task::JoinHandle,
    time::{sleep, timeout},
};
use vedette_act::{Board, Outlet};
use vedette_api::{
    Metrics, Server, ServerSettings, SessionLimits, auth,
    checking::RuleCheck,
    live::{Live, LiveView, Mode},
};
use vedette_event::{Micros, Span};
use vedette_respond::{Action, ConnectorKind, Target, desired::InForce, subtract};
use vedette_store::{Access, Store, StoreSettings, model::Role};

use crate::skipped;

/// In which a decision is in force, or in force no more.
const WITHIN: Duration = Duration::from_secs(10);
/// Set where the test has started itself again.
const INSIDE: &str = "VEDETTE_BOUNCERS_INSIDE";

#[test]
fn real_bouncers_enforce_what_is_shown() {
    let Ok(Some(output)) = started_again() else { return };
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && said.contains("3 passed"), "{said}");
}

/// Runs the tests below in a network namespace; `None` where that cannot be.
fn started_again() -> Result<Option<Output>> {
    if env::var_os("VEDETTE_BOUNCERS").is_none() {
        skipped::say("respond", "VEDETTE_BOUNCERS is not set; .ci/bouncers/fetch fetches them");
        return Ok(None);
    }
    // As root, or else as root of a user namespace.
    let ways: [&[&str]; 2] = [&["--net"], &["--map-root-user", "--net"]];
    let can = |way: &&&[&str]| {
        let rules = Command::new("unshare").args(**way).args(["nft", "list", "ruleset"]).output();
        rules.is_ok_and(|output| output.status.success())
    };
    let Some(way) = ways.iter().find(can) else {
        skipped::say(
            "respond",
            "no network namespace with nftables can be made here: it takes root, or user namespaces",
        );
        return Ok(None);
    };
    let mut again = Command::new("unshare");
    again.args(*way).arg(env::current_exe()?).args(["respond::bouncers::inside", "--ignored", "--nocapture"]);
    Ok(Some(again.args(["--test-threads", "1"]).env(INSIDE, "1").output()?))
}

/// What runs in the namespace, one after the other.
mod inside {
    use super::*;

    #[test]
    #[ignore = "changes the firewall: started in a network namespace by the test above"]
    fn a_firewall_with_nftables() -> Result<()> {
        within(|scene| Box::pin(nftables(scene)))
    }

    #[test]
    #[ignore = "changes the firewall: started in a network namespace by the test above"]
    fn a_firewall_with_ranges() -> Result<()> {
        within(|scene| Box::pin(ranges(scene)))
    }

    #[test]
    #[ignore = "changes the firewall: started in a network namespace by the test above"]
    fn a_program_of_ones_own() -> Result<()> {
        within(|scene| Box::pin(custom(scene)))
    }
}

type Played<'a> = std::pin::Pin<Box<dyn Future<Output = Result<()>> + 'a>>;

fn within(play: impl for<'a> Fn(&'a mut Scene) -> Played<'a>) -> Result<()> {
    ensure!(env::var_os(INSIDE).is_some(), "this is started by another test, in a network namespace");
    run("ip", &["link", "set", "lo", "up"])?;
    // All addresses of it are local then, and can be connected from.
    let _ = run("ip", &["address", "add", "203.0.113.1/24", "dev", "lo"]);
    tokio::runtime::Runtime::new()?.block_on(async {
        let mut scene = Scene::new().await?;
        play(&mut scene).await
    })
}

fn run(program: &str, args: &[&str]) -> Result<String> {
    let output = Command::new(program).args(args).output().with_context(|| program.to_owned())?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "{program} {args:?}: {said}");
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// An API with its board, somebody who can be connected to, and the bouncers started so far.
struct Scene {
    board: Board,
    api: u16,
    key: String,
    server: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
    listener: u16,
    bouncers: Vec<Child>,
    folder: tempfile::TempDir,
}

impl Drop for Scene {
    fn drop(&mut self) {
        for bouncer in &mut self.bouncers {
            let _ = bouncer.kill();
            let _ = bouncer.wait();
        }
    }
}

fn now() -> Micros {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

fn ban(net: IpNet, seconds: i64) -> InForce {
    let until = now().plus(Span::secs(seconds));
    InForce {
        action: Action::BlockAddress,
        target: Target::Network(net),
        until,
        except: Vec::new(),
        playbook: "perimeter-block".into(),
    }
}

impl Scene {
    async fn new() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let store = Store::open(StoreSettings::new(folder.path(), Access::Engine)).await?;
        let token = auth::create_token()?;
        store.create_token("edge", Role::Bouncer, token.hash, "test").await?;
        let outlet = Outlet { name: "crowdsec".into(), kind: ConnectorKind::Crowdsec, capacity: 1_000 };
        let board = Board::new(vec![outlet]);
        let live = Live::starting(Mode::Demo, "test", now());
        let live = LiveView::new(move || live.clone());
        let settings = ServerSettings {
            address: "127.0.0.1:0".parse()?,
            open_loopback: false,
            console: false,
            oidc: None,
            sessions: SessionLimits::USUAL,
            proxy_tls: false,
            tls: None,
            hosts: Vec::new(),
            reloads: None,
            check: RuleCheck::new(|_| Err("no rules here".to_owned())),
            response: None,
            board: Some(board.clone()),
            hunts: None,
            backtests: None,
        };
        let server = Server::bind(settings, store, live.clone(), Arc::new(Metrics::new(live))).await?;
        let api = server.address().port();
        let (stop, stopped) = oneshot::channel();
        let running = tokio::spawn(server.run(async {
            let _ = stopped.await;
        }));
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        tokio::spawn(async move { while listener.accept().await.is_ok() {} });
        let server = Some((stop, running));
        Ok(Self { board, api, key: token.text, server, listener: port, bouncers: Vec::new(), folder })
    }

    /// Starts a bouncer with this configuration, to which the address and the key of the API are added.
    fn start(&mut self, program: &str, config: &str) -> Result<()> {
        let lib = PathBuf::from(env::var_os("VEDETTE_BOUNCERS").context("VEDETTE_BOUNCERS")?);
        let file = self.folder.path().join(format!("{program}.yaml"));
        let (api, key) = (self.api, &self.key);
        let common = "update_frequency: 1s\ndaemonize: false\nlog_mode: stdout\nlog_level: info\n";
        fs::write(&file, format!("{common}api_url: http://127.0.0.1:{api}/\napi_key: {key}\n{config}"))?;
        let log = fs::File::create(self.log(program))?;
        let mut bouncer = Command::new(lib.join("usr/bin").join(program));
        bouncer.arg("-c").arg(file).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        self.bouncers.push(bouncer.spawn()?);
        Ok(())
    }

    fn log(&self, program: &str) -> PathBuf {
        self.folder.path().join(format!("{program}.log"))
    }

    fn show(&self, in_force: Vec<InForce>) {
        self.board.show("crowdsec", in_force, now());
    }

    /// Whether somebody at this address gets through.
    async fn gets_through(&self, from: &str) -> Result<bool> {
        let socket = TcpSocket::new_v4()?;
        socket.bind((from.parse::<IpAddr>()?, 0).into())?;
        let there = (IpAddr::from([127, 0, 0, 1]), self.listener).into();
        Ok(matches!(timeout(Duration::from_millis(300), socket.connect(there)).await, Ok(Ok(_))))
    }

    /// Waits until it is so.
    async fn until(&mut self, from: &str, through: bool) -> Result<()> {
        let began = Instant::now();
        while self.gets_through(from).await? != through {
            for bouncer in &mut self.bouncers {
                if let Some(status) = bouncer.try_wait()? {
                    bail!("a bouncer ended with {status}: {}", self.said());
                }
            }
            let rules = run("nft", &["list", "ruleset"]).unwrap_or_default();
            ensure!(began.elapsed() < WITHIN, "{from}, let in: {through}: {rules}\n{}", self.said());
            sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    }

    /// What the bouncers said.
    fn said(&self) -> String {
        ["crowdsec-firewall-bouncer", "crowdsec-custom-bouncer"]
            .iter()
            .filter_map(|program| fs::read_to_string(self.log(program)).ok())
            .collect()
    }
}

const NFTABLES: &str = "
mode: nftables
deny_action: DROP
supported_decisions_types: [ban]
blacklists_ipv4: crowdsec-blacklists
blacklists_ipv6: crowdsec6-blacklists
nftables:
  ipv4: {enabled: true, set-only: false, table: crowdsec, chain: crowdsec-chain}
  ipv6: {enabled: true, set-only: false, table: crowdsec6, chain: crowdsec6-chain}
prometheus: {enabled: false}
";

async fn nftables(scene: &mut Scene) -> Result<()> {
    let set = || run("nft", &["list", "set", "ip", "crowdsec", "crowdsec-blacklists"]);
    let v6: IpNet = "2001:db8::7/128".parse()?;
    let one: IpNet = "203.0.113.7/32".parse()?;
    scene.show(Vec::new());
    scene.start("crowdsec-firewall-bouncer", NFTABLES)?;
    ensure!(scene.gets_through("203.0.113.7").await?);
    scene.show(vec![ban(one, 3_600), ban(v6, 3_600)]);
    scene.until("203.0.113.7", false).await?;
    let held = set()?;
    ensure!(held.contains("203.0.113.7"), "{held}");
    let held = run("nft", &["list", "set", "ip6", "crowdsec6", "crowdsec6-blacklists"])?;
    ensure!(held.contains("2001:db8::7"), "{held}");
    ensure!(scene.gets_through("203.0.113.8").await?, "another address was hit");
    scene.show(Vec::new());
    scene.until("203.0.113.7", true).await?;
    let held = set()?;
    ensure!(!held.contains("203.0.113.7"), "{held}");
    // Ends by itself, though nobody says so.
    scene.show(vec![ban(one, 5)]);
    scene.until("203.0.113.7", false).await?;
    scene.until("203.0.113.7", true).await?;
    // Lengthened: what the bouncer holds runs out, and it is told again.
    scene.show(vec![ban(one, 4)]);
    scene.until("203.0.113.7", false).await?;
    scene.show(vec![ban(one, 3_600)]);
    sleep(Duration::from_secs(5)).await;
    scene.until("203.0.113.7", false).await?;
    sleep(Duration::from_secs(2)).await;
    ensure!(!scene.gets_through("203.0.113.7").await?, "it was let in before its end: {}", scene.said());
    // The API is away: what is in force stays.
    if let Some((stop, running)) = scene.server.take() {
        let _ = stop.send(());
        running.await?;
    }
    sleep(Duration::from_secs(3)).await;
    ensure!(
        !scene.gets_through("203.0.113.7").await?,
        "an API that is away lifted a block: {}",
        scene.said()
    );
    Ok(())
}

const IPTABLES: &str = "
mode: iptables
deny_action: DROP
disable_ipv6: true
supported_decisions_types: [ban]
blacklists_ipv4: crowdsec-blacklists
blacklists_ipv6: crowdsec6-blacklists
ipset_type: nethash
iptables_chains: [INPUT]
prometheus: {enabled: false}
";

/// A range is blocked, an address in it is spared meanwhile and gets through, and the others do not.
async fn ranges(scene: &mut Scene) -> Result<()> {
    let range: IpNet = "203.0.113.0/24".parse()?;
    let spared: IpNet = "203.0.113.99/32".parse()?;
    scene.show(vec![ban(range, 3_600)]);
    scene.start("crowdsec-firewall-bouncer", IPTABLES)?;
    scene.until("203.0.113.99", false).await?;
    scene.until("203.0.113.50", false).await?;
    let pieces = subtract(range, &[spared], 64)?;
    scene.show(pieces.into_iter().map(|piece| ban(piece, 3_600)).collect());
    scene.until("203.0.113.99", true).await?;
    for refused in ["203.0.113.50", "203.0.113.98", "203.0.113.100", "203.0.113.254"] {
        scene.until(refused, false).await?;
    }
    scene.show(Vec::new());
    scene.until("203.0.113.50", true).await
}

/// The custom bouncer calls a program with each decision.
async fn custom(scene: &mut Scene) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let program = scene.folder.path().join("enforce");
    let heard = scene.folder.path().join("heard");
    fs::write(&program, format!("#!/bin/sh\necho \"$1 $2 $3 $4\" >> {}\n", heard.display()))?;
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
    scene.show(vec![ban("203.0.113.7/32".parse()?, 3_600)]);
    let config = format!(
        "bin_path: {}\ncache_retention_duration: 1s\nprometheus: {{enabled: false}}\n",
        program.display()
    );
    scene.start("crowdsec-custom-bouncer", &config)?;
    hears(scene, &heard, "add 203.0.113.7 35").await?;
    scene.show(vec![ban("203.0.113.0/25".parse()?, 60)]);
    hears(scene, &heard, "del 203.0.113.7 ").await?;
    hears(scene, &heard, "add 203.0.113.0/25 ").await?;
    // Nothing is told twice, and the playbook's name along with all.
    sleep(Duration::from_secs(3)).await;
    let lines = fs::read_to_string(&heard)?;
    ensure!(lines.lines().filter(|line| line.starts_with("add")).count() == 2, "{lines}");
    ensure!(lines.lines().all(|line| line.ends_with("perimeter-block")), "{lines}");
    Ok(())
}

async fn hears(scene: &Scene, heard: &Path, wanted: &str) -> Result<()> {
    let began = Instant::now();
    loop {
        let lines = fs::read_to_string(heard).unwrap_or_default();
        if lines.lines().any(|line| line.starts_with(wanted)) {
            return Ok(());
        }
        ensure!(began.elapsed() < WITHIN, "{wanted} was not heard: {lines}\n{}", scene.said());
        sleep(Duration::from_millis(100)).await;
    }
}
