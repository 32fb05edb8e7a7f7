//! A firewall that follows the documented XML interface of PAN-OS, as far as registered addresses and high availability go.
//!
//! In: requests over HTTP. Out: the documented answers, from a state of its own. It shares no code with what it tests: it takes requests
//! apart by itself, and notes whatever no client may do ([`Device::wrong`]). Its clock is the test's.

use std::{
    collections::{BTreeMap, VecDeque},
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use ipnet::{IpNet, Ipv4Net};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

/// The key that it takes.
pub(super) const KEY: &str = "LUFRPT1hK2V5Zm9ydGVzdHM9PQ==";
/// The documented limits.
const MAX_POST: usize = 5_000_000;
const MAX_TIMEOUT: u64 = 2_592_000;
const MAX_TAGS: usize = 32;
const MAX_PAGE: usize = 500;

/// What it says of how long a tag stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Says {
    /// For how long still.
    Left,
    /// For how long it was registered.
    Given,
    /// Nothing.
    Nothing,
}

/// What it does with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// Closes the connection, and has done nothing.
    Closes,
    /// Does it, and closes the connection.
    ClosesAfter,
    /// Does it, and answers too late.
    Slow,
    /// Is busy.
    Busy,
    /// Answers with an error of its own.
    Internal,
    /// Answers half a document.
    Half,
}

/// A tag on an address: for how long it was registered, and until when that is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Until {
    timeout: u64,
    end: i64,
}

/// Its state.
pub(super) struct Device {
    /// Addresses as they were registered, with their tags.
    pub registered: BTreeMap<String, BTreeMap<String, Until>>,
    /// How many addresses it takes.
    pub capacity: usize,
    pub says: Says,
    /// Addresses that it does not list, as when pages shift while they are read.
    pub hides: Vec<String>,
    /// It unregisters nothing.
    pub keeps: bool,
    /// `active`, `passive`, …; none where it is in no pair.
    pub state: Option<&'static str>,
    pub key: &'static str,
    /// What becomes of the next requests, where it is not as it should be.
    pub faults: VecDeque<Option<Fault>>,
    /// Messages that it took: each entry's command, address, tag.
    pub told: Vec<String>,
    /// Requests that came, without their body.
    pub asked: Vec<String>,
    /// What no client may do.
    pub wrong: Vec<String>,
    clock: Arc<AtomicI64>,
}

/// One that listens.
#[derive(Clone)]
pub(super) struct Double {
    pub port: u16,
    device: Arc<Mutex<Device>>,
}

impl Double {
    /// Listens on this machine, and goes by a clock of microseconds.
    pub async fn new(clock: &Arc<AtomicI64>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let device = Device {
            registered: BTreeMap::new(),
            capacity: 1_000,
            says: Says::Left,
            hides: Vec::new(),
            keeps: false,
            state: None,
            key: KEY,
            faults: VecDeque::new(),
            told: Vec::new(),
            asked: Vec::new(),
            wrong: Vec::new(),
            clock: clock.clone(),
        };
        let device = Arc::new(Mutex::new(device));
        let own = device.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(own.clone(), stream));
            }
        });
        Self { port, device }
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub fn lock(&self) -> MutexGuard<'_, Device> {
        self.device.lock().unwrap()
    }
}

impl Device {
    fn now(&self) -> i64 {
        self.clock.load(Ordering::SeqCst)
    }

    fn forget(&mut self) {
        let now = self.now();
        for tags in self.registered.values_mut() {
            tags.retain(|_, until| until.timeout == 0 || until.end > now);
        }
        self.registered.retain(|_, tags| !tags.is_empty());
    }

    /// A tag as somebody else sets it.
    pub fn set(&mut self, ip: &str, tag: &str, timeout: u64) {
        let end = self.now() + i64::try_from(timeout).unwrap() * 1_000_000;
        self.registered.entry(ip.to_owned()).or_default().insert(tag.to_owned(), Until { timeout, end });
    }

    /// All that it holds, as `address tag`.
    pub fn holds(&mut self) -> Vec<String> {
        self.forget();
        let of = |(ip, tags): (&String, &BTreeMap<String, Until>)| {
            tags.keys().map(|tag| format!("{ip} {tag}")).collect::<Vec<_>>()
        };
        self.registered.iter().flat_map(of).collect()
    }

    /// Until when an address has a tag, by itself or by a network or range that it is in; for ever is the end of time.
    pub fn until(&mut self, address: IpAddr, tag: &str) -> Option<i64> {
        self.forget();
        let held = self.registered.iter().filter(|(ip, _)| covers(ip, address));
        held.filter_map(|(_, tags)| tags.get(tag))
            .map(|until| if until.timeout == 0 { i64::MAX } else { until.end })
            .max()
    }

    /// Power off and on: what is not persistent is gone.
    pub fn restart(&mut self) {
        self.registered.clear();
    }

    fn answer(&mut self, query: &BTreeMap<String, String>, command: &str) -> String {
        self.forget();
        let show = "<show><object><registered-ip>";
        match query.get("type").map(String::as_str) {
            Some("op")
                if command == "<show><high-availability><state></state></high-availability></show>" =>
            {
                self.high_availability()
            }
            Some("op") if command.starts_with(show) => self.list(command),
            Some("user-id") => self.take(command),
            _ => error(17, "Invalid command"),
        }
    }

    fn high_availability(&self) -> String {
        match self.state {
            None => success("<enabled>no</enabled>"),
            Some(state) => success(&format!(
                "<enabled>yes</enabled><group><mode>Active-Passive</mode><local-info><priority>100</priority>\
                 <state>{state}</state></local-info><peer-info><state>other</state></peer-info></group>"
            )),
        }
    }

    fn list(&mut self, command: &str) -> String {
        let number = |name: &str| -> Option<usize> {
            let (_, rest) = command.split_once(&format!("<{name}>"))?;
            rest.split_once(&format!("</{name}>"))?.0.parse().ok()
        };
        let (Some(limit), Some(start)) = (number("limit"), number("start-point")) else {
            return error(17, "limit and start-point are expected");
        };
        if !(1..=MAX_PAGE).contains(&limit) || start == 0 {
            return error(17, "limit is out of range");
        }
        let now = self.now();
        let listed = self.registered.iter().filter(|(ip, _)| !self.hides.contains(ip));
        let page: Vec<_> = listed.skip(start - 1).take(limit).collect();
        let mut text = String::new();
        for (ip, tags) in &page {
            text += &format!("<entry ip=\"{ip}\" from_agent=\"0\" persistent=\"0\"><tag>");
            for (tag, until) in *tags {
                let seconds = match (self.says, until.timeout) {
                    (_, 0) => 0,
                    (Says::Left, _) => u64::try_from((until.end - now) / 1_000_000).unwrap().max(1),
                    (_, timeout) => timeout,
                };
                match self.says {
                    Says::Nothing => text += &format!("<member>{tag}</member>"),
                    _ => text += &format!("<member timeout=\"{seconds}\">{tag}</member>"),
                }
            }
            text += "</tag></entry>\n";
        }
        text += &format!("<count>{}</count>", page.len());
        success(&text)
    }

    /// A message: entries that are registered or unregistered.
    fn take(&mut self, message: &str) -> String {
        if self.state.is_some_and(|state| state != "active") {
            self.wrong.push("it was told something while it was passive".to_owned());
        }
        let head = "<uid-message><version>1.0</version><type>update</type><payload>";
        let Some(payload) =
            message.strip_prefix(head).and_then(|rest| rest.strip_suffix("</payload></uid-message>"))
        else {
            self.wrong.push(format!("no message: {message}"));
            return error(18, "Malformed command");
        };
        let mut said = String::new();
        for what in ["register", "unregister"] {
            let inner = payload.strip_prefix(&format!("<{what}>"));
            let Some(inner) = inner.and_then(|rest| rest.strip_suffix(&format!("</{what}>"))) else {
                continue;
            };
            let mut bad = String::new();
            for entry in inner.split_inclusive("</entry>") {
                if let Some((ip, problem)) = self.entry(what, entry) {
                    bad += &format!("<entry ip=\"{ip}\" message=\"{problem}\"/>\n");
                }
            }
            said = format!("<{what}>\n{bad}</{what}>");
            if bad.is_empty() {
                return success(&uid(&said));
            }
        }
        if said.is_empty() {
            self.wrong.push(format!("no message: {message}"));
            return error(18, "Malformed command");
        }
        format!("<response status=\"error\"><msg><line>{}</line></msg></response>", uid(&said))
    }

    /// One entry; what there is to say of it.
    fn entry(&mut self, what: &str, entry: &str) -> Option<(String, String)> {
        let between = |from: &str, to: &str| Some(entry.split_once(from)?.1.split_once(to)?.0.to_owned());
        let parts = (between("<entry ip=\"", "\""), between("<member", "</member>"));
        let (Some(ip), Some(member)) = parts else {
            self.wrong.push(format!("no entry: {entry}"));
            return Some((String::new(), "malformed".to_owned()));
        };
        let (attributes, tag) = member.split_once('>').unwrap();
        self.told.push(format!("{what} {ip} {tag}"));
        if what == "unregister" {
            let tags = self.registered.get_mut(&ip);
            let Some(tags) = tags else {
                return Some((ip.clone(), format!("ip {ip} does not exist, ignore unreg")));
            };
            if self.keeps {
                return Some((ip, "failed to unregister".to_owned()));
            }
            if tags.remove(tag).is_none() {
                return Some((ip, format!("tag {tag} does not exist, ignore unreg")));
            }
            self.forget();
            return None;
        }
        if !entry.contains("persistent=\"0\"") {
            self.wrong.push(format!("it would outlast a restart: {entry}"));
        }
        let timeout = attributes.trim().strip_prefix("timeout=\"").and_then(|rest| rest.strip_suffix('"'));
        let timeout: u64 = timeout.map_or(0, |timeout| timeout.parse().unwrap_or(u64::MAX));
        if timeout == 0 {
            self.wrong.push(format!("it would stay for ever: {entry}"));
        }
        if timeout > MAX_TIMEOUT {
            self.wrong.push(format!("it would stay too long: {entry}"));
            return Some((ip, "timeout is out of range".to_owned()));
        }
        let v6_net = ip.contains(':') && ip.contains('/');
        if v6_net || !(ip.parse::<IpAddr>().is_ok() || ip.parse::<Ipv4Net>().is_ok()) {
            return Some((ip, "invalid ip address".to_owned()));
        }
        let full = self.registered.len() >= self.capacity;
        match self.registered.get(&ip) {
            None if full => {
                return Some((ip, "Failed to register, maximum number of entries reached".to_owned()));
            }
            Some(tags) if tags.contains_key(tag) => {
                return Some((ip, format!("tag {tag} already exists, ignore")));
            }
            Some(tags) if tags.len() >= MAX_TAGS => {
                return Some((ip, "maximum number of tags reached".to_owned()));
            }
            _ => {}
        }
        self.set(&ip, tag, timeout);
        None
    }
}

/// Whether an address is what was registered, or in it.
fn covers(ip: &str, address: IpAddr) -> bool {
    if let Some((from, to)) = ip.split_once('-') {
        return (from.parse::<IpAddr>().unwrap()..=to.parse().unwrap()).contains(&address);
    }
    match ip.parse::<IpNet>() {
        Ok(net) => net.contains(&address),
        Err(_) => ip.parse() == Ok(address),
    }
}

fn success(result: &str) -> String {
    format!("<response status=\"success\"><result>{result}</result></response>")
}

fn uid(said: &str) -> String {
    format!("<uid-response><version>2.0</version><payload>{said}</payload></uid-response>")
}

fn error(code: u16, line: &str) -> String {
    format!("<response status=\"error\" code=\"{code}\"><msg><line>{line}</line></msg></response>")
}

async fn serve(device: Arc<Mutex<Device>>, mut stream: TcpStream) {
    let Some((head, body)) = request(&mut stream).await else { return };
    let fault = device.lock().unwrap().faults.pop_front().flatten();
    if fault == Some(Fault::Closes) {
        return;
    }
    let (status, text) = match fault {
        Some(Fault::Busy) => ("503 Service Unavailable", String::new()),
        Some(Fault::Internal) => ("200 OK", error(11, "Internal error")),
        _ => respond(&mut device.lock().unwrap(), &head, &body),
    };
    let text = match fault {
        Some(Fault::ClosesAfter) => return,
        Some(Fault::Slow) => {
            tokio::time::sleep(Duration::from_millis(2_500)).await;
            text
        }
        Some(Fault::Half) => text.chars().take(text.len() / 2).collect(),
        _ => text,
    };
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/xml\r\ncontent-length: {}\r\n\r\n",
        text.len()
    );
    let _ = stream.write_all(format!("{head}{text}").as_bytes()).await;
}

fn respond(device: &mut Device, head: &str, body: &str) -> (&'static str, String) {
    let line = head.lines().next().unwrap_or_default().to_owned();
    device.asked.push(line.clone());
    let header = |name: &str| {
        let lines = head.lines().skip(1).filter_map(|line| line.split_once(": "));
        lines.filter(|(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned()).next()
    };
    if line.contains(KEY) || body.contains(KEY) {
        device.wrong.push("the key stands where logs write it down".to_owned());
    }
    if body.len() > MAX_POST {
        device.wrong.push(format!("a request of {} bytes", body.len()));
        return ("413 Payload Too Large", String::new());
    }
    if header("x-pan-key").as_deref() != Some(device.key) {
        let refused = "<response status = 'error' code = '403'><result><msg>Invalid Credential</msg></result></response>";
        return ("403 Forbidden", refused.to_owned());
    }
    let query = line.strip_prefix("POST /api/?").and_then(|rest| rest.strip_suffix(" HTTP/1.1"));
    let command = body.strip_prefix("cmd=");
    let (Some(query), Some(command)) = (query, command) else {
        device.wrong.push(format!("no request: {line}"));
        return ("400 Bad Request", error(400, "Bad request"));
    };
    let query = query.split('&').filter_map(|pair| pair.split_once('='));
    let query = query.map(|(name, value)| (name.to_owned(), decoded(value))).collect();
    ("200 OK", device.answer(&query, &decoded(command)))
}

/// As a form writes it.
fn decoded(text: &str) -> String {
    let (mut bytes, mut rest) = (Vec::new(), text.bytes());
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digits = [rest.next().unwrap(), rest.next().unwrap()];
                u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap()
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).unwrap()
}

/// A request's head and body.
async fn request(stream: &mut TcpStream) -> Option<(String, String)> {
    let (mut bytes, mut part) = (Vec::new(), vec![0; 65_536]);
    let mut wanted = None;
    loop {
        if wanted.is_some_and(|wanted| bytes.len() >= wanted) {
            let text = String::from_utf8(bytes).ok()?;
            let (head, body) = text.split_once("\r\n\r\n")?;
            return Some((head.to_owned(), body.to_owned()));
        }
        let n = stream.read(&mut part).await.ok().filter(|n| *n > 0)?;
        bytes.extend_from_slice(&part[..n]);
        if wanted.is_none()
            && let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n")
        {
            let head = std::str::from_utf8(&bytes[..at]).ok()?.to_ascii_lowercase();
            let length =
                head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
            wanted = Some(at + 4 + length.unwrap_or(0));
        }
    }
}
