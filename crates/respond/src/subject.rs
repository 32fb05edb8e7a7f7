//! What playbooks look at: an alert or a notice, whichever it is.
//!
//! In: [`Alert`] or [`Notice`]. Out: [`Subject`], a view of it. Its flags are those of the body, of its evidence and of all episodes below it.

use std::{collections::BTreeMap, sync::Arc};

use vedette_event::{Alert, Entity, Flags, Notice, RuleRef, Severity, Value, alert::Child};

/// An alert or a notice.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// A notice, which an alert covers later or nothing does.
    pub notice: bool,
    /// `alert_id` or `notice_id`.
    pub id: &'a str,
    /// Its rule.
    pub rule: &'a RuleRef,
    /// Its key.
    pub key: &'a BTreeMap<Arc<str>, Value>,
    /// Whom it is about.
    pub entity: Option<&'a Entity>,
    /// How severe it is.
    pub severity: Severity,
    /// How many events it rests on; at least 1.
    pub count: u64,
    /// All flags of what it rests on.
    pub flags: Flags,
}

/// Episodes lie below one another at most 16 deep (the longest chain of rules).
const MAX_DEPTH: usize = 16;

impl<'a> From<&'a Alert> for Subject<'a> {
    fn from(alert: &'a Alert) -> Self {
        let own = alert.evidence.iter().fold(alert.flags, |all, of| all.with(of.flags));
        let below = alert.explanation.children.as_deref().unwrap_or_default();
        Self {
            notice: false,
            id: &alert.alert_id,
            rule: &alert.rule,
            key: &alert.key,
            entity: alert.entity.as_ref(),
            severity: alert.severity,
            count: alert.count.max(1),
            flags: below_flags(below, own, MAX_DEPTH),
        }
    }
}

fn below_flags(children: &[Child], flags: Flags, depth: usize) -> Flags {
    children.iter().fold(flags, |all, child| {
        let own = child.evidence.iter().fold(all.with(child.flags), |all, of| all.with(of.flags));
        match (&child.children, depth.checked_sub(1)) {
            (Some(below), Some(depth)) => below_flags(below, own, depth),
            _ => own,
        }
    })
}

impl<'a> From<&'a Notice> for Subject<'a> {
    fn from(notice: &'a Notice) -> Self {
        Self {
            notice: true,
            id: &notice.notice_id,
            rule: &notice.rule,
            key: &notice.key,
            entity: notice.entity.as_ref(),
            severity: notice.severity,
            count: notice.count.max(1),
            flags: notice.evidence.iter().fold(Flags::NONE, |all, of| all.with(of.flags)),
        }
    }
}

impl Subject<'_> {
    /// The value of a field: a part of the key, or whom it is about.
    #[must_use]
    pub fn value(&self, field: &str) -> Option<&Value> {
        let entity = || self.entity.filter(|entity| &*entity.kind == field).map(|entity| &entity.value);
        self.key.get(field).or_else(entity)
    }
}
