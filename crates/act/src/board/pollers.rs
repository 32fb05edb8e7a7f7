//! Who fetches: how far each bouncer is, and what it counted.
//!
//! In: who asks, what it was sent, its usage metrics. Out: its cursor; the bouncers with their figures. Invariant: bounded in bouncers and
//! figures; whoever was there longest ago is forgotten first, and is told everything when it comes back.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};

use serde_json::Value;
use vedette_event::Micros;

use super::Asker;

/// Bouncers that are remembered.
pub const MAX_BOUNCERS: usize = 1_024;
/// Figures of each.
pub const MAX_FIGURES: usize = 64;
/// Labels of a figure.
const MAX_LABELS: usize = 8;
/// Characters of a name or label that a bouncer sent.
const MAX_TEXT: usize = 64;

/// How far a bouncer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cursor {
    /// The version that it has.
    pub version: u64,
    /// The one that it had before.
    pub before: u64,
    /// As of when.
    pub at: Micros,
}

impl Cursor {
    /// Of one that was told everything.
    pub fn new(version: u64, at: Micros) -> Self {
        Self { version, before: 0, at }
    }

    pub fn moved(self, version: u64, at: Micros) -> Self {
        Self { version, before: self.version, at }
    }
}

/// What a bouncer counted.
#[derive(Debug, Clone, PartialEq)]
pub struct Figure {
    /// Such as `dropped` or `processed`.
    pub name: String,
    /// Such as `packet`.
    pub unit: String,
    /// Such as `origin` and `ip_type`.
    pub labels: BTreeMap<String, String>,
    /// How many.
    pub value: f64,
}

/// A bouncer that asked lately.
#[derive(Debug, Clone, PartialEq)]
pub struct Bouncer {
    /// The name of its token.
    pub name: Arc<str>,
    /// From where it came.
    pub address: IpAddr,
    /// What it calls itself.
    pub agent: Arc<str>,
    /// When it asked for the stream last.
    pub asked_at: Option<Micros>,
    /// As of when it has the stream.
    pub has: Option<Micros>,
    /// When it sent figures last.
    pub counted_at: Option<Micros>,
    /// These: of its last document only, as they are counts since the one before.
    pub figures: Arc<[Figure]>,
}

#[derive(Debug)]
struct Known {
    bouncer: Bouncer,
    cursor: Option<Cursor>,
    seen: Micros,
}

/// All bouncers.
#[derive(Debug, Default)]
pub(super) struct Pollers(Mutex<HashMap<([u8; 32], IpAddr), Known>>);

impl Pollers {
    /// Notes that a bouncer asks for the stream.
    pub fn seen(&self, asker: &Asker, now: Micros) {
        self.with(asker, now, |known| known.bouncer.asked_at = Some(now));
    }

    /// How far it is, if that is known.
    pub fn cursor(&self, asker: &Asker) -> Option<Cursor> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(&(asker.key, asker.address)).and_then(|known| known.cursor)
    }

    /// Notes how far it has come.
    pub fn moved(&self, asker: &Asker, cursor: Cursor) {
        self.with(asker, cursor.at, |known| {
            known.cursor = Some(cursor);
            known.bouncer.has = Some(cursor.at);
        });
    }

    /// Notes what it counted.
    pub fn count(&self, asker: &Asker, figures: Vec<Figure>, now: Micros) {
        self.with(asker, now, |known| {
            known.bouncer.counted_at = Some(now);
            known.bouncer.figures = figures.into();
        });
    }

    pub fn all(&self) -> Vec<Bouncer> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<Bouncer> = all.values().map(|known| known.bouncer.clone()).collect();
        all.sort_by(|a, b| (&a.name, a.address).cmp(&(&b.name, b.address)));
        all
    }

    fn with(&self, asker: &Asker, now: Micros, change: impl FnOnce(&mut Known)) {
        let key = (asker.key, asker.address);
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !all.contains_key(&key)
            && all.len() >= MAX_BOUNCERS
            && let Some(oldest) = all.iter().min_by_key(|(_, known)| known.seen).map(|(key, _)| *key)
        {
            all.remove(&oldest);
        }
        let known = all.entry(key).or_insert_with(|| Known {
            bouncer: Bouncer {
                name: asker.name.clone(),
                address: asker.address,
                agent: asker.agent.clone(),
                asked_at: None,
                has: None,
                counted_at: None,
                figures: Arc::default(),
            },
            cursor: None,
            seen: now,
        });
        known.seen = known.seen.max(now);
        known.bouncer.name = asker.name.clone();
        known.bouncer.agent = asker.agent.clone();
        change(known);
    }
}

/// The figures of a usage document; `None` if it is no JSON object. What is not as documented is passed over: some bouncers send
/// such documents, and would send them again and again if they were refused.
pub(super) fn figures(body: &[u8]) -> Option<Vec<Figure>> {
    let document: Value = serde_json::from_slice(body).ok()?;
    let components = document.as_object()?.get("remediation_components").and_then(Value::as_array);
    let list =
        |value: &Value, name: &str| value.get(name).and_then(Value::as_array).cloned().unwrap_or_default();
    let components = components.into_iter().flatten();
    let items = components.flat_map(|one| list(one, "metrics")).flat_map(|metric| list(&metric, "items"));
    Some(items.filter_map(|item| figure(&item)).take(MAX_FIGURES).collect())
}

fn figure(item: &Value) -> Option<Figure> {
    let text = |value: &Value| value.as_str().map(|text| text.chars().take(MAX_TEXT).collect::<String>());
    let labels = item.get("labels").and_then(Value::as_object).into_iter().flatten();
    let labels =
        labels.filter_map(|(name, value)| Some((name.chars().take(MAX_TEXT).collect(), text(value)?)));
    Some(Figure {
        name: text(item.get("name")?)?,
        unit: item.get("unit").and_then(text).unwrap_or_default(),
        labels: labels.take(MAX_LABELS).collect(),
        value: item.get("value")?.as_f64()?,
    })
}
