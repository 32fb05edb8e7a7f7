//! What a backtest comes to, for a person who decides.
//!
//! In: the alerts of a backtest ([`Told`]), those that fired then. Out: the parts of a report that are counted. Invariants: what is counted twice is
//! nothing: an alert that fired then is held against one alert of now; of what no stored alert is left nothing is said.
//!
//! An alert of now *fired then* if one of the same rule and key is stored whose time from first to last event meets its own. One with the same id
//! has the same crossing of a rule that means the same; a rule that was changed raises others, which are held against each other by time.

use std::collections::BTreeMap;

use vedette_api::backtests::{Days, OfKey, OfRule, Outcome};
use vedette_event::{Micros, time::DAY};
use vedette_sigma::RuleSet;
use vedette_store::model::{Disposition, FiredAlert};

/// Keys that are told of each rule.
const KEYS: usize = 5;

/// One alert of the backtest, as far as it is counted.
#[derive(Debug, Clone)]
pub struct Told {
    /// Its id.
    pub alert_id: String,
    /// Its rule's number.
    pub rule: u32,
    /// Its key as JSON text.
    pub key: String,
    /// Its first event.
    pub first_seen: Micros,
    /// Its crossing.
    pub crossed_at: Micros,
    /// Its last event.
    pub last_seen: Micros,
    /// Whether it is open at the end.
    pub open: bool,
}

/// Counts one more alert that fired then.
fn add(to: &mut Outcome, fired: &FiredAlert) {
    to.alerts += 1;
    *match (fired.closed, fired.disposition) {
        (false, _) => &mut to.open,
        (true, Some(Disposition::TruePositive)) => &mut to.true_positive,
        (true, Some(Disposition::Benign)) => &mut to.benign,
        (true, Some(Disposition::FalsePositive)) => &mut to.false_positive,
        (true, Some(Disposition::Duplicate)) => &mut to.duplicate,
        (true, None) => &mut to.undecided,
    } += 1;
}

/// What stays of a rule while it is counted.
#[derive(Default)]
struct Counted<'a> {
    days: Days,
    keys: BTreeMap<&'a str, (u64, Outcome)>,
    open: u64,
    fired_then: Outcome,
    same: u64,
    no_longer: Outcome,
}

/// What fired then, and what of it is held against an alert of now.
struct Then<'a> {
    fired: &'a [FiredAlert],
    by_id: BTreeMap<&'a str, usize>,
    /// By rule and key, in the order of crossing.
    by_key: BTreeMap<(&'a str, &'a str), Vec<usize>>,
    taken: Vec<bool>,
}

impl<'a> Then<'a> {
    fn of(fired: &'a [FiredAlert]) -> Self {
        let mut by_key: BTreeMap<(&str, &str), Vec<usize>> = BTreeMap::new();
        for (at, alert) in fired.iter().enumerate() {
            by_key.entry((&alert.rule_id, &alert.key)).or_default().push(at);
        }
        let by_id = fired.iter().enumerate().map(|(at, alert)| (&*alert.alert_id, at)).collect();
        Self { fired, by_id, by_key, taken: vec![false; fired.len()] }
    }

    fn take(&mut self, at: usize) -> Option<&'a FiredAlert> {
        let free = self.taken.get_mut(at).filter(|taken| !**taken)?;
        *free = true;
        self.fired.get(at)
    }

    /// For each alert of now the one that fired then: first the very same, then those that meet in time.
    fn found(&mut self, rules: &RuleSet, told: &[Told]) -> Vec<Option<&'a FiredAlert>> {
        let same = |of: &mut Self, alert: &Told| {
            let at = of.by_id.get(&*alert.alert_id).copied()?;
            of.take(at)
        };
        let mut found: Vec<_> = told.iter().map(|alert| same(self, alert)).collect();
        for (alert, found) in told.iter().zip(&mut found).filter(|(_, found)| found.is_none()) {
            let Some(rule) = rules.rules.get(alert.rule as usize) else { continue };
            let of_key = self.by_key.get(&(&*rule.id, &*alert.key)).map(Vec::as_slice).unwrap_or_default();
            let ended = |at: &usize| self.fired.get(*at).is_some_and(|of| of.last_seen < alert.first_seen);
            let from = of_key.partition_point(ended);
            let meets = |at: &&usize| self.fired.get(**at).is_some_and(|of| of.first_seen <= alert.last_seen);
            let free = |at: &&usize| self.taken.get(**at) == Some(&false);
            let met = of_key.iter().skip(from).take_while(meets).find(free).copied();
            *found = met.and_then(|at| self.take(at));
        }
        found
    }

    /// What no alert of now was held against.
    fn left(&self) -> impl Iterator<Item = &'a FiredAlert> {
        self.fired.iter().zip(&self.taken).filter(|(_, taken)| !**taken).map(|(of, _)| of)
    }
}

/// The day of a time, in UTC.
fn day(time: Micros) -> String {
    time.to_string().get(..10).unwrap_or_default().to_owned()
}

/// How many days a stretch has, at least a part of one.
fn days(from: Micros, through: Micros) -> f64 {
    (through.since(from).0 as f64 / DAY.0 as f64).max(1.0 / 24.0)
}

/// By rule: what there is of it, the noisiest first. `stretch` is what alerts are told of, or what there is of it.
pub fn by_rule(
    rules: &RuleSet,
    told: &[Told],
    fired: &[FiredAlert],
    stretch: (Micros, Micros),
) -> Vec<OfRule> {
    let mut then = Then::of(fired);
    let mut counted: BTreeMap<u32, Counted<'_>> = BTreeMap::new();
    let found = then.found(rules, told);
    for (alert, found) in told.iter().zip(found) {
        let of = counted.entry(alert.rule).or_default();
        *of.days.entry(day(alert.crossed_at)).or_default() += 1;
        of.open += u64::from(alert.open);
        let key = of.keys.entry(&alert.key).or_default();
        key.0 += 1;
        if let Some(fired) = found {
            add(&mut of.fired_then, fired);
            add(&mut key.1, fired);
            of.same += u64::from(fired.alert_id == alert.alert_id);
        }
    }
    let numbers: BTreeMap<&str, u32> = (0..).zip(&rules.rules).map(|(at, rule)| (&*rule.id, at)).collect();
    for alert in then.left() {
        if let Some(number) = numbers.get(&*alert.rule_id) {
            add(&mut counted.entry(*number).or_default().no_longer, alert);
        }
    }
    let emitting = (0..).zip(&rules.rules).filter(|(_, rule)| rule.emits);
    let mut all: Vec<OfRule> = emitting
        .map(|(number, rule)| {
            let Counted { days: by_day, keys, open, fired_then, same, no_longer } =
                counted.remove(&number).unwrap_or_default();
            let alerts = by_day.values().sum();
            let most = by_day.iter().max_by_key(|(_, n)| **n);
            OfRule {
                rule_id: rule.id.to_string(),
                title: rule.title.to_string(),
                level: rule.level.name().to_owned(),
                alerts,
                open,
                a_day: (alerts as f64 / days(stretch.0, stretch.1) * 100.0).round() / 100.0,
                busiest_day: most.map(|(day, _)| day.clone()),
                most_in_a_day: most.map_or(0, |(_, n)| *n),
                keys: keys.len() as u64,
                noisiest: noisiest(keys),
                fired_then,
                same,
                no_longer,
            }
        })
        .collect();
    all.sort_by(|a, b| (b.alerts, &a.rule_id).cmp(&(a.alerts, &b.rule_id)));
    all
}

fn noisiest(keys: BTreeMap<&str, (u64, Outcome)>) -> Vec<OfKey> {
    let mut keys: Vec<_> = keys.into_iter().collect();
    keys.sort_by(|a, b| (b.1.0, a.0).cmp(&(a.1.0, b.0)));
    let of = |(key, (alerts, fired_then)): (&str, (u64, Outcome))| OfKey {
        key: serde_json::from_str(key).unwrap_or_default(),
        alerts,
        fired_then,
    };
    keys.into_iter().take(KEYS).map(of).collect()
}

/// Alerts by day, in UTC.
pub fn by_day(told: &[Told]) -> Days {
    let mut days = BTreeMap::new();
    for alert in told {
        *days.entry(day(alert.crossed_at)).or_default() += 1;
    }
    days
}
