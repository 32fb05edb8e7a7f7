//! A courier: what one connector is to tell, one after the other.
//!
//! In: its deliveries in the store, its settings. Out: requests and letters, and notes of how they went.

use std::{sync::Arc, time::Duration};

use tokio::{sync::watch, time::sleep};
use vedette_event::{Micros, Span};
use vedette_respond::{
    Proposal,
    desired::{Command, Reconciled},
};
use vedette_store::{
    MAX_ACTIONS, Store,
    model::{ActionQuery, ActionRow, ActionState, Delivery, Tried},
};

use super::{
    Connectors, OPENS, TRIES, enforcement,
    mailer::{self, Mailer},
    message::Told,
    request::{Answer, meaning, post, signed},
    topics::{Followed, Topics},
};
use crate::{
    dag::{self, Fault, Group},
    http::{Client, HttpError, Reach},
    responder::Wanted,
    response::{ActError, Response},
    settings::{ConnectorSettings, Means},
};

/// Deliveries that are read at once.
const TOGETHER: u32 = 32;
/// For one request.
const PATIENCE: Duration = Duration::from_secs(10);
/// The pause after the first failure, and the longest.
const PAUSE: (Span, Span) = (Span::secs(1), Span::secs(300));
/// The longest that a connector is left alone: a message that nobody would take must not hold up a page for long.
const RESTS: Span = Span::secs(60);
/// How long it waits for changes before it looks all the same: a clock that was set is noticed then.
const LOOK: Duration = Duration::from_secs(30);

/// How it goes there.
enum Way {
    Http(Client),
    Mail(Mailer),
    Group(Group),
    Topics(Topics),
}

impl Way {
    /// None for what the other side fetches.
    fn of(means: &Means) -> Result<Option<Self>, String> {
        match means {
            Means::Webhook { private, authorities, .. }
            | Means::Slack { private, authorities, .. }
            | Means::Pagerduty { private, authorities, .. } => {
                let client = Client::new(authorities.as_deref(), Reach::of(*private), PATIENCE)?;
                Ok(Some(Self::Http(client)))
            }
            Means::Dag { firewall, private, authorities } => {
                let client = Client::new(authorities.as_deref(), Reach::of(*private), dag::PATIENCE)?;
                Ok(Some(Self::Group(Group::new(firewall.clone(), client))))
            }
            Means::Email(mail) => Mailer::new(mail, mailer::PATIENCE).map(|mailer| Some(Self::Mail(mailer))),
            Means::Kafka(topics) => Topics::new(topics).map(|topics| Some(Self::Topics(topics))),
            Means::Fetched(_) => Ok(None),
        }
    }
}

/// Tells what one connector is to tell.
pub struct Courier {
    response: Response,
    settings: ConnectorSettings,
    way: Way,
    health: Connectors,
    wanted: watch::Receiver<Option<Arc<Wanted>>>,
    clock: fn() -> Micros,
    /// No message is sent before.
    rests_until: Micros,
    /// What is to be in force is seen to then, though it is not new; and how often in a row it could not be.
    enforce_at: Option<Micros>,
    tries: u32,
}

impl Courier {
    /// One for a connector that sends; none for one whose other side fetches.
    ///
    /// # Errors
    /// If the authorities that it is to trust cannot be read.
    pub fn new(
        response: Response,
        settings: ConnectorSettings,
        wanted: watch::Receiver<Option<Arc<Wanted>>>,
        clock: fn() -> Micros,
    ) -> Result<Option<Self>, String> {
        let Some(way) = Way::of(&settings.means)? else { return Ok(None) };
        let health = response.connectors().clone();
        let (rests_until, enforce_at, tries) = (Micros(0), None, 0);
        Ok(Some(Self { response, settings, way, health, wanted, clock, rests_until, enforce_at, tries }))
    }

    /// Notes from where it tells what happens, if it never did: all that happens from now on is told, also what does before it runs.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn begin(&mut self) -> Result<(), ActError> {
        if let Way::Topics(topics) = &mut self.way {
            topics.begin(self.response.store(), &self.settings.connector.name).await?;
        }
        Ok(())
    }

    /// The connector's name.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.settings.connector.name
    }

    /// Tells what is due, and waits for more, until it is to stop.
    pub async fn run(mut self, stop: impl Future<Output = ()>) {
        let mut stop = std::pin::pin!(stop);
        let mut changes = self.response.store().watch();
        let mut wanted = self.wanted.clone();
        wanted.mark_changed();
        loop {
            changes.mark_unchanged();
            let anew = wanted.has_changed().unwrap_or(false);
            wanted.mark_unchanged();
            let pause = tokio::select! {
                pause = self.turn(anew) => pause,
                () = &mut stop => return,
            };
            let rests = self.rests_until > (self.clock)();
            tokio::select! {
                () = sleep(pause) => {}
                () = &mut stop => return,
                // Not while it rests: everything that happens would wake it.
                changed = changes.changed(), if !rests => {
                    if changed.is_err() {
                        return;
                    }
                }
                // A responder that is gone has nothing more to say. What is to be in force waits for no message.
                Ok(()) = wanted.changed() => wanted.mark_changed(),
            }
        }
    }

    /// Sees to what is to be in force, if that is `anew`, and tells what is due; how long to wait then.
    async fn turn(&mut self, anew: bool) -> Duration {
        let now = (self.clock)();
        let due = self.enforce_at.is_some_and(|at| at <= now);
        // A device that failed again and again is left alone for a while, also when something changes.
        let rests = matches!(self.way, Way::Group(_)) && self.tries >= OPENS;
        let enforces = due || (anew && !rests);
        let enforced = if enforces { self.enforce().await } else { Ok(()) };
        let told = match enforced {
            Ok(()) => self.due().await,
            Err(error) => Err(error),
        };
        told.unwrap_or_else(|error| {
            tracing::warn!(connector = %self.name(), %error, "it waits: the store did not answer");
            self.enforce_at = Some(now);
            Duration::from_secs(1)
        })
    }

    /// Tells what is due.
    async fn due(&mut self) -> Result<Duration, ActError> {
        let store = self.response.store().clone();
        let now = (self.clock)();
        let (mut more, mut next) = (false, None);
        if self.rests_until <= now {
            more = self.follow().await?;
        }
        if self.rests_until <= now {
            let (due, later) = store.due_deliveries(self.name(), now, TOGETHER).await?;
            // One that failed is due again later, which this reading did not know.
            (more, next) = (more || !due.is_empty(), later);
            for delivery in due {
                if let Some(rest) = self.tell(&store, &delivery).await? {
                    self.rests_until = (self.clock)().plus(rest);
                    more = false;
                    break;
                }
            }
        }
        let now = (self.clock)();
        let rest = Some(self.rests_until).filter(|until| *until > now);
        let due = [next, rest, self.enforce_at].into_iter().flatten().min();
        Ok(match due {
            _ if more => Duration::ZERO,
            Some(due) => span(due.since(now)).min(LOOK),
            None => LOOK,
        })
    }

    /// Has topics say what happened since; true if there is more. Where they do not take it the connector is left alone for a while.
    async fn follow(&mut self) -> Result<bool, ActError> {
        let Way::Topics(topics) = &mut self.way else { return Ok(false) };
        let name = &self.settings.connector.name;
        let followed = topics.follow(self.response.store(), name).await?;
        let now = (self.clock)();
        match followed {
            Followed::All => Ok(false),
            Followed::Some => {
                self.health.took(name, now);
                Ok(true)
            }
            Followed::Failed(why) => {
                let rest = Span(doubled(self.failures()).0.min(RESTS.0));
                self.rests_until = now.plus(rest);
                tracing::warn!(connector = %self.name(), why, "topics do not say what happened");
                self.health.failed(self.name(), &why, now, Some(self.rests_until));
                Ok(false)
            }
        }
    }

    /// Tells one; how long to leave the connector alone after it, if at all.
    async fn tell(&self, store: &Store, delivery: &Delivery) -> Result<Option<Span>, ActError> {
        let Some(action) = store.action(delivery.action).await? else { return Ok(None) };
        let alert = store.alert(&action.alert_id).await?;
        let console = self.response.settings().console.as_deref();
        let link = console.map(|console| format!("{console}/alerts/{}", action.alert_id));
        let told = Told { action: &action, alert: alert.as_ref(), link };
        let answer = match &self.way {
            Way::Http(client) => match self.request(&told) {
                Ok(request) => meaning(client.send(request).await),
                Err(error) => Answer::Refused(error.to_string()),
            },
            Way::Mail(mailer) => self.write(store, mailer, &told).await?,
            Way::Topics(topics) => topics.tell(&told).await,
            Way::Group(_) => Answer::Refused("a firewall is told no messages".to_owned()),
        };
        let now = (self.clock)();
        let pause = pause(delivery);
        let (tried, rest) = match answer {
            Answer::Taken => {
                self.health.took(self.name(), now);
                (Tried::Done, None)
            }
            Answer::Refused(why) => {
                self.health.failed(self.name(), &why, now, None);
                (Tried::Dead(why), None)
            }
            Answer::Again(why, after) => {
                let pause = after.map_or(pause, |s| pause.max(Span::secs(s.min(3_600) as i64)));
                // By how often it failed in a row, not by what this one message says: others may be taken.
                let failures = self.failures() + 1;
                let rest = (failures >= OPENS).then(|| Span(doubled(failures - OPENS).0.min(RESTS.0)));
                self.health.failed(self.name(), &why, now, rest.map(|rest| now.plus(rest)));
                let given_up = delivery.tries + 1 >= TRIES;
                (if given_up { Tried::Dead(why) } else { Tried::Again(now.plus(pause), why) }, rest)
            }
        };
        if let Tried::Dead(why) | Tried::Again(_, why) = &tried {
            tracing::warn!(connector = %self.name(), action = action.id, tries = delivery.tries + 1, why, "not told");
        }
        store.note_try(delivery, &tried).await?;
        Ok(rest)
    }

    /// Has a program do what it must. What it would not do is tried again, later each time, for as long as it is to be done; what it
    /// refuses keeps no other command from it.
    async fn enforce(&mut self) -> Result<(), ActError> {
        let Some(wanted) = self.wanted.borrow().clone() else { return Ok(()) };
        if matches!(self.way, Way::Group(_)) {
            self.register(&wanted).await;
            return Ok(());
        }
        if !matches!((&self.settings.means, &self.way), (Means::Webhook { .. }, _) | (_, Way::Topics(_))) {
            return Ok(());
        }
        let store = self.response.store();
        let Reconciled { commands, uncut } =
            enforcement::commands(store, self.name(), &wanted, (self.clock)()).await?;
        for (action, target) in uncut {
            tracing::error!(connector = %self.name(), %action, %target, "cut into too many prefixes; it is not in force");
        }
        let mut failed = false;
        for command in commands {
            let answer = self.order(&command).await;
            let now = (self.clock)();
            match answer {
                Answer::Taken => {
                    self.health.took(self.name(), now);
                    enforcement::taken(store, self.name(), &command).await?;
                }
                Answer::Refused(why) | Answer::Again(why, _) => {
                    failed = true;
                    tracing::warn!(connector = %self.name(), why, "not enforced");
                    self.health.failed(self.name(), &why, now, None);
                    if matches!(self.way, Way::Topics(_)) {
                        // The others would not be taken either, and each would be waited for.
                        break;
                    }
                }
            }
        }
        self.tries = if failed { self.tries.saturating_add(1) } else { 0 };
        self.enforce_at = failed.then(|| (self.clock)().plus(doubled(self.tries - 1)));
        Ok(())
    }

    /// Tells a program what it is to do.
    async fn order(&self, command: &Command) -> Answer {
        let (client, url, secret) = match (&self.way, &self.settings.means) {
            (Way::Topics(topics), _) => return topics.order(command).await,
            (Way::Http(client), Means::Webhook { url, secret, .. }) => (client, url, secret),
            _ => return Answer::Refused(HttpError::NoUrl.to_string()),
        };
        let request = signed((url.show(), secret), &enforcement::message(command), None, (self.clock)());
        let answer = match request {
            Ok(request) => client.send(request).await,
            Err(error) => Err(error),
        };
        // What is not there need not be taken away.
        let gone = matches!(command, Command::Withdraw { .. })
            && answer.as_ref().is_ok_and(|answer| matches!(answer.status().as_u16(), 404 | 410));
        if gone { Answer::Taken } else { meaning(answer) }
    }

    /// Has a firewall hold what is to be in force, and looks again later whether it does.
    async fn register(&mut self, wanted: &Wanted) {
        let name = self.settings.connector.name.clone();
        let Way::Group(group) = &mut self.way else { return };
        let done = group.enforce(&name, wanted, self.clock).await;
        let now = (self.clock)();
        let pause = match done {
            Ok(done) => {
                let left_out = &done.there.left_out;
                let before = self.health.read().remove(&name).and_then(|health| health.there);
                let known = before.is_some_and(|before| before.left_out == *left_out);
                if let Some(((action, target), why)) = left_out.first_key_value().filter(|_| !known) {
                    let count = left_out.len();
                    tracing::warn!(connector = %name, count, %action, %target, %why, "not in force there, this and others");
                }
                self.tries = 0;
                self.health.enforces(&name, done.there, done.taken);
                done.pause
            }
            Err(fault) => {
                self.tries = self.tries.saturating_add(1);
                let pause = match fault {
                    Fault::Refused(_) => RESTS,
                    _ => Span(doubled(self.tries - 1).0.min(RESTS.0)),
                };
                let why = fault.to_string();
                tracing::warn!(connector = %name, why, "not enforced");
                let rests = self.tries >= OPENS;
                self.health.failed(&name, &why, now, rests.then(|| now.plus(pause)));
                pause
            }
        };
        self.enforce_at = Some(now.plus(pause));
    }

    fn failures(&self) -> u32 {
        self.health.read().get(self.name()).map_or(0, |health| health.in_a_row)
    }

    fn request(&self, told: &Told<'_>) -> Result<http::Request<Vec<u8>>, HttpError> {
        match &self.settings.means {
            Means::Webhook { url, secret, .. } => {
                let key = format!("{}:{}", told.action.id, told.action.alert_id);
                signed((url.show(), secret), &told.webhook(), Some(&key), (self.clock)())
            }
            Means::Slack { url, .. } => post(url.show(), &told.slack()),
            Means::Pagerduty { url, routing_key, .. } => {
                post(url.show(), &told.pagerduty(routing_key.show()))
            }
            Means::Email(_) | Means::Kafka(_) | Means::Fetched(_) | Means::Dag { .. } => {
                Err(HttpError::NoUrl)
            }
        }
    }

    /// Writes a letter, in the thread of its alert.
    async fn write(&self, store: &Store, mailer: &Mailer, told: &Told<'_>) -> Result<Answer, ActError> {
        let mail = mailer.mail();
        let first = self.is_first(store, told.action).await?;
        let letter = match told.letter((&mail.from, &mail.to), first, (self.clock)()) {
            Ok(letter) => letter,
            Err(why) => return Ok(Answer::Refused(why)),
        };
        let posted = mailer.send(&letter).await;
        if let Some(why) = posted.left_out {
            tracing::warn!(connector = %self.name(), action = told.action.id, why, "told to the others");
            self.health.failed(self.name(), &why, (self.clock)(), None);
        }
        Ok(posted.answer)
    }

    /// Whether no action of this alert that this connector has told, or may yet tell, came before this one. By what was proposed and not by
    /// what was sent, so that a letter that is sent again is the one that it was.
    async fn is_first(&self, store: &Store, action: &ActionRow) -> Result<bool, ActError> {
        let alert = Some(action.alert_id.clone());
        let query =
            ActionQuery { alert, before: Some(action.id), limit: MAX_ACTIONS, ..ActionQuery::default() };
        let tells = |row: &ActionRow| {
            use ActionState::{DryRun, Lapsed, Refused, Rejected};
            let proposal = serde_json::from_str::<Proposal>(&row.proposal);
            let named = proposal.is_ok_and(|of| of.connectors.iter().any(|of| of.name == *self.name()));
            named && !matches!(row.state, DryRun | Lapsed | Refused | Rejected)
        };
        Ok(!store.actions(&query).await?.items.iter().any(tells))
    }
}

/// How long to wait after a failure: twice as long each time, and up to half as long again by which delivery it is, so that those that
/// failed together do not come back together.
fn pause(delivery: &Delivery) -> Span {
    let doubled = doubled(delivery.tries).0;
    let spread = blake3::hash(format!("{} {}", delivery.action, delivery.tries).as_bytes());
    Span(doubled + doubled / 2 * i64::from(spread.as_bytes()[0]) / 255)
}

/// The first pause, doubled so many times.
fn doubled(times: u32) -> Span {
    Span(PAUSE.0.0.saturating_mul(1 << times.min(20)).min(PAUSE.1.0))
}

fn span(span: Span) -> Duration {
    Duration::from_micros(u64::try_from(span.0).unwrap_or(0).max(1_000))
}
