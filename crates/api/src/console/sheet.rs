//! The sides of an alert's page: the rule it comes from, whom it is about, what was said of that before.
//!
//! In: a body, a dossier, the rules in force. Out: texts and links for the template.

use vedette_event::Alert;
use vedette_store::model::{AlertRow, Disposition, EarlierVerdict};

use super::{Stamp, events::entity_href, href, queue::row::of_then, segment, words};
use crate::{
    attack::Attack,
    desk::dossier::Standing,
    live::{Live, RuleStatus},
};

/// A link with its text.
pub(super) struct Link {
    pub text: String,
    pub href: String,
    /// What it is for, beside the text.
    pub small: String,
}

/// The rule that an alert comes from.
pub(super) struct About {
    pub id: String,
    /// It is a scheduled hunt and no rule.
    pub hunted: bool,
    pub href: String,
    pub version: String,
    /// What is different about the rule now.
    pub note: Option<String>,
    pub description: Option<String>,
    pub false_positives: Vec<String>,
    pub next_steps: Vec<String>,
    /// Technique or tactic: id, name, page elsewhere, alerts here.
    pub attack: Vec<(Attack, String)>,
    /// Those of no technique; each leads to its alerts.
    pub tags: Vec<Link>,
    pub rests_on: Vec<Link>,
    pub coverage: Vec<(&'static str, String)>,
    pub text: String,
    /// The text is that of another version.
    pub another: bool,
}

impl About {
    /// As it is told with an alert; `text` is what its version said, if that is kept.
    pub fn of(body: &Alert, live: &Live, text: Option<String>) -> Self {
        let rule = &body.rule;
        let now = live.rule(&rule.id);
        let hunted = &*rule.kind == "hunt";
        let note = match now {
            None if hunted => None,
            None => Some("This rule is not in force any more.".to_owned()),
            Some(now) if now.version != *rule.version => {
                Some(format!("The rule was changed since; in force is version {}.", now.version))
            }
            Some(_) => None,
        };
        let mut attack = Vec::new();
        let mut tags = Vec::new();
        for tag in rule.tags.iter() {
            match Attack::of(tag) {
                Some(found) => {
                    let alerts = href("/", &[("status", "all"), ("q", &found.id)]);
                    attack.push((found, alerts));
                }
                None => tags.push(Link {
                    text: tag.to_string(),
                    href: href("/", &[("status", "all"), ("q", tag)]),
                    small: String::new(),
                }),
            }
        }
        Self {
            id: rule.id.to_string(),
            href: if hunted { "/hunt#scheduled".to_owned() } else { segment("/rules/", &rule.id) },
            hunted,
            version: rule.version.to_string(),
            note,
            description: now.and_then(|now| now.description.clone()),
            false_positives: now.map(|now| now.false_positives.clone()).unwrap_or_default(),
            next_steps: now.map(|now| now.next_steps.clone()).unwrap_or_default(),
            attack,
            tags,
            rests_on: now.map(|now| rests_on(now, live)).unwrap_or_default(),
            coverage: now.map(coverage).unwrap_or_default(),
            another: text.is_none() && now.is_some_and(|now| now.version != *rule.version),
            text: text.or_else(|| now.map(|now| now.text.to_string())).unwrap_or_default(),
        }
    }
}

/// The rules that a rule refers to, with what each looks for.
fn rests_on(rule: &RuleStatus, live: &Live) -> Vec<Link> {
    let link = |id: &String| {
        let found = live.rule(id);
        Link {
            text: found.map_or_else(|| id.clone(), |found| found.title.clone()),
            href: segment("/rules/", id),
            small: found.and_then(|found| found.condition.clone()).unwrap_or_default(),
        }
    };
    rule.refers_to.iter().map(link).collect()
}

/// Whether the rule sees what it should.
fn coverage(rule: &RuleStatus) -> Vec<(&'static str, String)> {
    let of = &rule.coverage;
    let mut facts = Vec::new();
    facts.push((
        "Evaluated through",
        of.through.map_or_else(|| "nothing yet".to_owned(), |at| Stamp::of(at).text),
    ));
    if !of.silent_sources.is_empty() {
        facts.push(("Silent", of.silent_sources.join(", ")));
    }
    for (name, n) in
        [("Lost", of.lost), ("Not evaluated", of.unevaluated), ("Dead letters", of.dead_lettered)]
    {
        if n > 0 {
            facts.push((name, words::number(n)));
        }
    }
    facts.extend(of.degradations.iter().map(|degraded| ("Degraded", degraded.message.clone())));
    facts
}

/// Whom an alert is about, and how that stands.
pub(super) struct Who {
    pub kind: String,
    pub value: String,
    pub open: Vec<Link>,
    pub more: Option<String>,
    /// `11 false positive`, the most frequent first.
    pub verdicts: Vec<(String, &'static str)>,
    pub queue: String,
    /// At which `seq`, where that is not now.
    pub at: Option<i64>,
}

impl Who {
    /// The entity of a row.
    pub fn of(row: &AlertRow, standing: Option<Standing>, at: Option<i64>) -> Option<Self> {
        let entity = row.entity.as_ref()?;
        let Standing { open, more, verdicts } = standing.unwrap_or_default();
        let link = |row: &AlertRow| Link {
            text: row.rule_title.clone(),
            href: of_then(segment("/alerts/", &row.id), at),
            small: format!("{}, {}", row.severity.name(), Stamp::of(row.crossed_at).text),
        };
        let mut counted: Vec<(Disposition, u64)> = verdicts.into_iter().collect();
        counted.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
        let verdict = |(disposition, n): (Disposition, u64)| {
            let name = words::label(disposition.name()).to_lowercase();
            (format!("{} {name}", words::number(n)), disposition.name())
        };
        Some(Self {
            kind: entity.kind.clone(),
            value: entity.value.clone(),
            open: open.iter().map(link).collect(),
            more: more.then(|| of_then(entity_href(&entity.kind, &entity.value), at)),
            verdicts: counted.into_iter().map(verdict).collect(),
            at,
            queue: of_then(
                href("/", &[("status", "all"), ("entity", &entity.value), ("entity_type", &entity.kind)]),
                at,
            ),
        })
    }
}

/// A verdict on an earlier alert of the rule about the same entity.
pub(super) struct Before {
    pub href: String,
    pub crossed_at: Stamp,
    pub count: String,
    pub disposition: String,
    pub name: &'static str,
    pub by: Option<String>,
    pub reason: Option<String>,
}

impl Before {
    /// As it is told.
    pub fn of(of: EarlierVerdict, at: Option<i64>) -> Self {
        let events =
            if of.count == 1 { "1 event".to_owned() } else { format!("{} events", words::number(of.count)) };
        Self {
            href: of_then(segment("/alerts/", &of.id), at),
            crossed_at: Stamp::of(of.crossed_at),
            count: events,
            disposition: words::label(of.disposition.name()),
            name: of.disposition.name(),
            by: of.by,
            reason: of.reason,
        }
    }
}
