//! A courier: what one connector is to tell, one after the other.
//!
//! In: its deliveries in the store, its settings. Out: requests, and notes of how they went.

use std::{sync::Arc, time::Duration};

use tokio::{sync::watch, time::sleep};
use vedette_event::{Micros, Span};
use vedette_respond::desired::Reconciled;
use vedette_store::{
    Store,
    model::{Delivery, Tried},
};

use super::{
    Connectors, OPENS, TRIES, enforcement,
    message::Told,
    request::{Answer, meaning, post, signed},
};
use crate::{
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
/// How long it waits for changes before it looks all the same: a clock that was set is noticed then.
const LOOK: Duration = Duration::from_secs(30);

/// Tells what one connector is to tell.
pub struct Courier {
    response: Response,
    settings: ConnectorSettings,
    client: Client,
    health: Connectors,
    wanted: watch::Receiver<Option<Arc<Wanted>>>,
    clock: fn() -> Micros,
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
        let (Means::Webhook { private, authorities, .. }
        | Means::Slack { private, authorities, .. }
        | Means::Pagerduty { private, authorities, .. }) = &settings.means
        else {
            return Ok(None);
        };
        let reach = if *private { Reach::Private } else { Reach::Public };
        let client = Client::new(authorities.as_deref(), reach, PATIENCE)?;
        let health = response.connectors().clone();
        Ok(Some(Self { response, settings, client, health, wanted, clock }))
    }

    /// The connector's name.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.settings.connector.name
    }

    /// Tells what is due, and waits for more, until it is to stop.
    pub async fn run(self, stop: impl Future<Output = ()>) {
        let mut stop = std::pin::pin!(stop);
        let mut changes = self.response.store().watch();
        let mut wanted = self.wanted.clone();
        loop {
            changes.mark_unchanged();
            wanted.mark_unchanged();
            let pause = tokio::select! {
                pause = self.turn() => pause,
                () = &mut stop => return,
            };
            tokio::select! {
                () = sleep(pause) => {}
                () = &mut stop => return,
                // Not while it rests: everything that happens would wake it.
                changed = changes.changed(), if pause == LOOK => {
                    if changed.is_err() {
                        return;
                    }
                }
                // A responder that is gone has nothing more to say.
                Ok(()) = wanted.changed(), if pause == LOOK => {}
            }
        }
    }

    /// Tells what is due; how long to wait then.
    async fn turn(&self) -> Duration {
        match self.due().await {
            Ok(pause) => pause,
            Err(error) => {
                tracing::warn!(connector = %self.name(), %error, "what is to be told waits: the store did not answer");
                Duration::from_secs(1)
            }
        }
    }

    async fn due(&self) -> Result<Duration, ActError> {
        let store = self.response.store();
        let (due, next) = store.due_deliveries(self.name(), (self.clock)(), TOGETHER).await?;
        // One that failed is due again later, which this reading did not know.
        let more = !due.is_empty();
        for delivery in due {
            if let Some(rest) = self.tell(store, &delivery).await? {
                return Ok(span(rest));
            }
        }
        if let Some(rest) = self.enforce(store).await? {
            return Ok(span(rest));
        }
        let now = (self.clock)();
        Ok(match next {
            _ if more => Duration::ZERO,
            Some(next) => span(next.since(now)).min(LOOK),
            None => LOOK,
        })
    }

    /// Tells one; how long to leave the connector alone after it, if at all.
    async fn tell(&self, store: &Store, delivery: &Delivery) -> Result<Option<Span>, ActError> {
        let Some(action) = store.action(delivery.action).await? else { return Ok(None) };
        let alert = store.alert(&action.alert_id).await?;
        let console = self.response.settings().console.as_deref();
        let link = console.map(|console| format!("{console}/alerts/{}", action.alert_id));
        let told = Told { action: &action, alert: alert.as_ref(), link };
        let answer = match self.request(&told) {
            Ok(request) => meaning(self.client.send(request).await),
            Err(error) => Answer::Refused(error.to_string()),
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
                let tired = self.failures() + 1 >= OPENS;
                let rest = tired.then_some(pause);
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

    /// Has a program do what it must; how long to leave it alone where it would not.
    async fn enforce(&self, store: &Store) -> Result<Option<Span>, ActError> {
        let Means::Webhook { url, secret, .. } = &self.settings.means else { return Ok(None) };
        let Some(wanted) = self.wanted.borrow().clone() else { return Ok(None) };
        let Reconciled { commands, uncut } =
            enforcement::commands(store, self.name(), &wanted, (self.clock)()).await?;
        for (action, target) in uncut {
            tracing::error!(connector = %self.name(), %action, %target, "cut into too many prefixes; it is not in force");
        }
        for command in commands {
            let (body, key) = enforcement::message(self.name(), &command);
            let request = signed((url.show(), secret), &body, &key, (self.clock)());
            let answer = match request {
                Ok(request) => meaning(self.client.send(request).await),
                Err(error) => Answer::Refused(error.to_string()),
            };
            let now = (self.clock)();
            match answer {
                Answer::Taken => {
                    self.health.took(self.name(), now);
                    enforcement::taken(store, self.name(), &command).await?;
                }
                Answer::Refused(why) | Answer::Again(why, _) => {
                    // Whatever the reason: it is to be in force, so it is tried again as long as that is so.
                    let rest = doubled(self.failures());
                    tracing::warn!(connector = %self.name(), key, why, "not enforced");
                    self.health.failed(self.name(), &why, now, Some(now.plus(rest)));
                    return Ok(Some(rest));
                }
            }
        }
        Ok(None)
    }

    fn failures(&self) -> u32 {
        self.health.read().get(self.name()).map_or(0, |health| health.in_a_row)
    }

    fn request(&self, told: &Told<'_>) -> Result<http::Request<Vec<u8>>, HttpError> {
        match &self.settings.means {
            Means::Webhook { url, secret, .. } => {
                let key = format!("{}:{}", told.action.id, told.action.alert_id);
                signed((url.show(), secret), &told.webhook(), &key, (self.clock)())
            }
            Means::Slack { url, .. } => post(url.show(), &told.slack()),
            Means::Pagerduty { url, routing_key, .. } => {
                post(url.show(), &told.pagerduty(routing_key.show()))
            }
            Means::Fetched(_) => Err(HttpError::NoUrl),
        }
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
