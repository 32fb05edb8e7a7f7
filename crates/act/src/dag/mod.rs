//! A firewall's dynamic address group (PAN-OS): addresses are tagged over its XML interface, and no commit is needed.
//!
//! In: what is to be in force. Out: the firewall's registered addresses made the same, and what of it is not in force there. Invariants:
//! level-triggered: each time the firewall is read back and only the difference is told, so that one that was restarted gets all
//! again and nothing is remembered that it may have forgotten; tags of others are never touched, nor ours on what is right; every tag
//! ends by itself, so that nothing stays when we are away; the key is in no URL, no error and no log.

mod answer;
mod plan;
mod request;

use std::{collections::BTreeMap, time::Duration};

use ipnet::IpNet;
use vedette_event::{Micros, Span};
use vedette_respond::{Action, Target, network};

use self::{
    answer::{Answer, Role, Said, Unreadable},
    plan::{Given, Listed, Plan, Registration, Tags, plan},
    request::{Entry, PAGE, STATE, Timeout, command, messages, page, request},
};
pub use plan::LeftOut;

use crate::{
    http::{Client, HttpError},
    responder::Wanted,
    settings::Firewall,
    tell::InForceThere,
};

/// For one request: a message may have tens of thousands of entries.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// How often it is read back though nothing changed: a firewall that was restarted has forgotten all.
const LOOK: Span = Span::secs(180);
/// After a change it is looked at once more: what it says then is what counts.
const CONFIRM: Span = Span::secs(10);
/// Addresses that are read at most: twice as many as the largest firewall takes.
const MAX_LISTED: usize = 1_000_000;

/// What came of making a firewall the same.
pub(crate) struct Done {
    /// What is in force there now, and what is not.
    pub there: InForceThere,
    /// Entries that it took.
    pub taken: u64,
    /// When to look again.
    pub pause: Span,
}

/// Why it could not be done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    /// Nothing but a person can help.
    #[error("{0}")]
    Refused(String),
    /// The page is longer than an answer may be.
    #[error("its answer is longer than a mebibyte")]
    TooLong,
    /// It may pass.
    #[error("{0}")]
    Passing(String),
}

impl From<Unreadable> for Fault {
    fn from(error: Unreadable) -> Self {
        Self::Passing(error.to_string())
    }
}

impl From<HttpError> for Fault {
    fn from(error: HttpError) -> Self {
        let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}"));
        let why = format!("{error}{}", cause.unwrap_or_default());
        match error {
            HttpError::TooLarge(_) => Self::TooLong,
            HttpError::NoUrl | HttpError::NoTls(_) | HttpError::Private(_) => Self::Refused(why),
            _ => Self::Passing(why),
        }
    }
}

/// A firewall, or a pair of them.
pub(crate) struct Group {
    firewall: Firewall,
    tags: Tags,
    client: Client,
    /// Which host answered last.
    host: usize,
    given: Given,
}

impl Group {
    pub fn new(firewall: Firewall, client: Client) -> Self {
        let tags = Tags::new(&firewall.tag);
        Self { firewall, tags, client, host: 0, given: Given::new() }
    }

    /// Makes the firewall hold what is to be in force at the connector of this name.
    pub async fn enforce(
        &mut self,
        name: &str,
        wanted: &Wanted,
        clock: impl Fn() -> Micros,
    ) -> Result<Done, Fault> {
        self.find_active().await?;
        let listed = self.read_back(clock()).await?;
        let now = clock();
        self.given.retain(|_, (_, until)| *until > now);
        let wanted = wanted.desired.in_force(name, &wanted.world, now);
        let Plan { unregister, register, mut left_out, in_force } =
            plan(wanted, (&listed, &self.given), (&self.tags, self.firewall.capacity), now);
        let (gone, new) = (unregister.len(), register.len());
        let kept = self.tell("unregister", &unregister).await?;
        let refused = self.register(register, clock()).await?;
        let count = refused.len();
        left_out.extend(refused);
        if gone + new > 0 {
            let (registered, took) = (new - count, clock().since(listed.at).0 / 1_000);
            tracing::info!(connector = name, unregistered = gone, registered, refused = count, took, "told");
        }
        if let Some(said) = kept.into_values().find(|said| !said.is_fine()) {
            return Err(Fault::Passing(format!("it does not let go of {}: {}", said.ip, said.message)));
        }
        let pause = if gone + new > 0 && count == 0 { CONFIRM } else { LOOK };
        let there = InForceThere { as_of: clock(), in_force: in_force - count, left_out };
        Ok(Done { there, taken: (gone + new - count) as u64, pause })
    }

    /// Finds the one of a pair that passes traffic, the one of last time first.
    async fn find_active(&mut self) -> Result<(), Fault> {
        let hosts = self.firewall.hosts.len();
        if hosts < 2 {
            return Ok(());
        }
        let (mut said, mut refused) = (Vec::new(), true);
        for host in (0..hosts).map(|n| (self.host + n) % hosts) {
            let name = self.firewall.hosts.get(host).cloned().unwrap_or_default();
            let answer = self.ask(host, ("op", true), command(STATE)).await;
            let why = match answer.and_then(|answer| Ok(answer.role()?)) {
                Ok(Role::Active) => {
                    if self.host != host {
                        tracing::warn!(host = %name, "the other of the pair is active");
                        // What the one was given says nothing of the other.
                        self.given.clear();
                        self.host = host;
                    }
                    return Ok(());
                }
                Ok(Role::Standby(state)) => {
                    refused = false;
                    format!("it is {state}")
                }
                Err(fault) => {
                    refused &= matches!(fault, Fault::Refused(_));
                    fault.to_string()
                }
            };
            said.push(format!("{name}: {why}"));
        }
        let why = format!("neither of the pair is active; {}", said.join("; "));
        Err(if refused { Fault::Refused(why) } else { Fault::Passing(why) })
    }

    /// All that the firewall lists, page by page.
    async fn read_back(&self, now: Micros) -> Result<Listed, Fault> {
        let mut listed = Listed::new(now);
        let (mut most, mut start, mut before) = (PAGE, 1, None);
        while start <= MAX_LISTED {
            let rows = match self.ask(self.host, ("op", false), command(&page(most, start))).await {
                // An address may have many long tags.
                Err(Fault::TooLong) if most == PAGE => {
                    most = PAGE / 10;
                    continue;
                }
                answer => answer?.page()?,
            };
            let (count, first) = (rows.len(), rows.first().map(|row| row.ip.clone()));
            if first.is_some() && first == before {
                let why = "it gives the same page of its registered addresses again";
                return Err(Fault::Passing(why.to_owned()));
            }
            before = first;
            listed.add(rows, &self.tags);
            if count < most {
                return Ok(listed);
            }
            start += count;
        }
        Err(Fault::Passing(format!("it lists more than {MAX_LISTED} addresses")))
    }

    /// Registers; those that the firewall refuses.
    async fn register(&mut self, all: Vec<Registration>, now: Micros) -> Result<Refused, Fault> {
        let mut entries = Vec::with_capacity(all.len());
        let mut given = Vec::with_capacity(all.len());
        for Registration { action, target, tag, until } in all {
            let key = (action, target);
            self.given.remove(&key);
            // What is over before it could be told is left to the next look.
            let Some(timeout) = Timeout::between(now, until) else { continue };
            entries.push(Entry { ip: key.1.to_string(), tag, timeout: Some(timeout) });
            given.push((key, timeout, until));
        }
        let mut said = self.tell("register", &entries).await?;
        let mut refused = Vec::new();
        for (key, timeout, until) in given {
            match key.1.network().and_then(|net| said.remove(&net)) {
                None => drop(self.given.insert(key, (timeout, until))),
                // It is there with an end that nobody knows: it was not listed, as when pages shift while they are read.
                Some(said) if said.is_fine() => {}
                Some(said) => refused.push((key, LeftOut::Refused(said.message))),
            }
        }
        Ok(refused)
    }

    /// Sends entries in as few messages as fit; what the firewall says of some of them.
    async fn tell(&self, what: &'static str, entries: &[Entry]) -> Result<BTreeMap<IpNet, Said>, Fault> {
        let mut all = BTreeMap::new();
        for body in messages(what, entries) {
            let answer = self.ask(self.host, ("user-id", false), body).await?;
            all.extend(answer.said.into_iter().filter_map(|said| Some((network(&said.ip)?, said))));
        }
        Ok(all)
    }

    /// Asks a host; of the firewall behind a Panorama if there is one, unless `itself` is meant.
    async fn ask(&self, host: usize, (kind, itself): (&str, bool), body: Vec<u8>) -> Result<Answer, Fault> {
        let host = self.firewall.hosts.get(host).cloned().unwrap_or_default();
        let request = request(&self.firewall, &host, (kind, itself), body);
        let request = request.map_err(|error| Fault::Refused(error.to_string()))?;
        let answer = self.client.send(request).await?;
        let status = answer.status();
        if status.is_redirection() {
            return Err(Fault::Refused(format!("it answered {status}, and redirects are not followed")));
        }
        let read = answer::read(answer.body());
        let said = read.as_ref().map(|answer| answer.message.clone()).unwrap_or_default();
        if matches!(status.as_u16(), 401 | 403) || read.as_ref().is_ok_and(Answer::is_refusal) {
            return Err(Fault::Refused(format!(
                "it refuses the API key ({said}): give one of an administrator who may use the XML API for operational requests and User-ID"
            )));
        }
        if !status.is_success() {
            return Err(Fault::Passing(format!("it answered {status}: {said}")));
        }
        let answer = read?;
        if answer.is_taken() {
            return Ok(answer);
        }
        let code = answer.code.map(|code| format!(" {code}")).unwrap_or_default();
        Err(Fault::Passing(format!("it answered an error{code}: {said}")))
    }
}

/// What a firewall refuses, and why.
type Refused = Vec<((Action, Target), LeftOut)>;

#[cfg(test)]
mod tests;
