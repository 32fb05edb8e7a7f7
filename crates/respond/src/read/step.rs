//! `steps:` of a playbook.
//!
//! In: the node of one step. Out: [`Step`] and where its parts stand. A connector that is unknown or cannot do what is asked, a
//! countermeasure without target or time limit, and keys that mean nothing for a step are refused.

use vedette_event::Span;
use vedette_sigma::{
    fault::{Fault, Place, did_you_mean, shown},
    yaml::{Entry, Node},
};

use super::{MAX_LIST, condition, find, guards, list, need};
use crate::{
    deed::{Action, Connector, ConnectorKind, Deed, Limit},
    gate::Policy,
    playbook::Step,
    target::{Prefix, Sort},
};

/// Where parts of a step stand.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StepMarks {
    pub at: Place,
    pub name: Place,
    pub deed: Place,
    pub target: Place,
    pub when: Place,
}

const KEYS: [&str; 8] = ["name", "do", "target", "prefix", "connectors", "for", "when", "last"];

/// Reads a step.
pub(super) fn read(node: &Node, number: usize, policy: &Policy) -> Result<(Step, StepMarks), Fault> {
    let entries = node.map("a step")?;
    if let Some(entry) = entries.iter().find(|entry| !KEYS.contains(&entry.key.as_str())) {
        return Err(entry.unknown("a step", &KEYS, &[]));
    }
    let what = need(entries, node, "step", "do")?;
    let deed = deed(what, entries, node, policy)?;
    let target = target(deed, entries, node)?;
    let sort = target.and_then(|entry| Sort::of(entry.value.text("").ok()?));
    let name = find(entries, "name");
    let when = find(entries, "when");
    let marks = StepMarks {
        at: node.at,
        name: name.map_or(node.at, |entry| entry.value.at),
        deed: what.value.at,
        target: target.map_or(node.at, |entry| entry.value.at),
        when: when.map_or(node.at, |entry| entry.key_at),
    };
    let step = Step {
        name: match name {
            Some(entry) => entry.value.text("`name`")?.trim().into(),
            None => (number + 1).to_string().into(),
        },
        deed,
        target: target.map(|entry| entry.value.text("`target`")).transpose()?.map(|text| text.trim().into()),
        prefix: prefix(entries, deed, sort)?,
        connectors: connectors(need(entries, node, "step", "connectors")?, deed, sort)?,
        when: when.map(|entry| condition::read(&entry.value)).transpose()?.unwrap_or_default(),
        last: find(entries, "last")
            .map(|entry| entry.value.boolean("`last`"))
            .transpose()?
            .unwrap_or_default(),
    };
    Ok((step, marks))
}

/// Refuses two steps of one name, by which records and routes tell them apart.
pub(super) fn names_differ(steps: &[Step], marks: &[StepMarks]) -> Result<(), Fault> {
    for (at, (step, mark)) in steps.iter().zip(marks).enumerate() {
        if steps.iter().take(at).any(|before| before.name == step.name) {
            let message = format!("there is another step {}", shown(&step.name));
            return Err(Fault::new(mark.name, "duplicate-step", message).help("give it another `name`"));
        }
    }
    Ok(())
}

fn deed(what: &Entry, entries: &[Entry], node: &Node, policy: &Policy) -> Result<Deed, Fault> {
    let text = what.value.text("`do`")?;
    let limit = find(entries, "for");
    let told = match text {
        "notify" => Some(Deed::Notify),
        "ticket" => Some(Deed::Ticket),
        "webhook" => Some(Deed::Webhook),
        _ => Action::ALL.into_iter().find(|action| action.lifted_by() == Some(text)).map(Deed::Lift),
    };
    if let Some(deed) = told {
        return match limit {
            Some(entry) => {
                let message = format!("`for` means nothing on `{text}`");
                Err(Fault::new(entry.key_at, "meaningless-key", message)
                    .help("it says how long a countermeasure stands; remove it"))
            }
            None => Ok(deed),
        };
    }
    let action = Action::ALL.into_iter().find(|action| action.name() == text).ok_or_else(|| {
        Fault::new(what.value.at, "unknown-step", format!("there is no step {}", shown(text)))
            .help(did_you_mean(text, &Deed::names()))
    })?;
    let limit = limit.ok_or_else(|| {
        Fault::new(node.at, "missing-limit", format!("`{text}` has no time limit"))
            .help("say how long it stands, such as `for: 30m`: nothing is for ever")
    })?;
    Ok(Deed::Impose(action, duration(&limit.value, policy)?))
}

/// `for: 30m`, or `{first, growth, ceiling}`.
fn duration(node: &Node, policy: &Policy) -> Result<Limit, Fault> {
    const KEYS: [&str; 3] = ["first", "growth", "ceiling"];
    /// By more than this nobody's time grows usefully.
    const MAX_GROWTH: u64 = 100;
    let Ok(entries) = node.map("") else {
        let first = guards::limited(node, "`for`", policy)?;
        return Ok(Limit { first, growth: 1, ceiling: first });
    };
    if let Some(entry) = entries.iter().find(|entry| !KEYS.contains(&entry.key.as_str())) {
        return Err(entry.unknown("for", &KEYS, &[]));
    }
    let span = |key: &str| -> Result<Option<(Span, &Entry)>, Fault> {
        let Some(entry) = find(entries, key) else { return Ok(None) };
        Ok(Some((guards::limited(&entry.value, &format!("`{key}`"), policy)?, entry)))
    };
    let (first, _) = span("first")?.ok_or_else(|| {
        Fault::new(node.at, "missing-limit", "`for` has no `first`")
            .help("say how long it stands the first time")
    })?;
    let growth = find(entries, "growth");
    let factor = growth.map(|entry| {
        let factor = entry.value.whole("`growth`")?;
        let small = u32::try_from(factor).ok().filter(|_| (2..=MAX_GROWTH).contains(&factor));
        small.ok_or_else(|| entry.value.wrong("`growth`", "a whole number from 2 to 100"))
    });
    match (factor.transpose()?, span("ceiling")?) {
        (None, None) => Ok(Limit { first, growth: 1, ceiling: first }),
        (Some(_), None) => Err(Fault::new(node.at, "missing-key", "`for` grows and has no `ceiling`")
            .help("say how long it stands at the most, such as `ceiling: 24h`")),
        (None, Some((_, entry))) => {
            Err(Fault::new(entry.key_at, "meaningless-key", "`ceiling` means nothing without `growth`")
                .help("add `growth: 4` for who comes back, or remove it"))
        }
        (Some(growth), Some((ceiling, entry))) if ceiling < first => {
            let message =
                format!("the ceiling of {ceiling} is less than the first {first}, which grows by {growth}");
            Err(Fault::new(entry.value.at, "below-first", message).help("raise it, or shorten `first`"))
        }
        (Some(growth), Some((ceiling, _))) => Ok(Limit { first, growth, ceiling }),
    }
}

fn target<'a>(deed: Deed, entries: &'a [Entry], node: &Node) -> Result<Option<&'a Entry>, Fault> {
    let Some(action) = deed.action() else {
        return match find(entries, "target") {
            Some(entry) => {
                let message = format!("`target` means nothing on `{}`", deed.name());
                Err(Fault::new(entry.key_at, "meaningless-key", message).help("remove it"))
            }
            None => Ok(None),
        };
    };
    let entry = need(entries, node, "step", "target")?;
    let field = entry.value.text("`target`")?.trim();
    let sorts: Vec<&str> = action.sorts().iter().map(|sort| sort.name()).collect();
    let wanted = || format!("`{}` is done to {}", deed.name(), sorts.join(", "));
    match Sort::of(field) {
        None => {
            let message = format!("nothing can be done about what {} names", shown(field));
            Err(Fault::new(entry.value.at, "no-target", message).help(wanted()))
        }
        Some(sort) if !action.sorts().contains(&sort) => {
            let message =
                format!("{} names {}, to which `{}` cannot be done", shown(field), sort.name(), deed.name());
            Err(Fault::new(entry.value.at, "no-target", message).help(wanted()))
        }
        Some(_) => Ok(Some(entry)),
    }
}

fn prefix(entries: &[Entry], deed: Deed, sort: Option<Sort>) -> Result<Option<Prefix>, Fault> {
    let Some(entry) = find(entries, "prefix") else { return Ok(None) };
    if deed.action().is_none() || sort != Some(Sort::Address) {
        return Err(Fault::new(entry.key_at, "meaningless-key", "`prefix` means nothing here")
            .help("it widens the address that `target` names; remove it"));
    }
    let mut prefix = Prefix { ipv4: 32, ipv6: 128 };
    for item in entry.value.map("`prefix`")? {
        let (slot, most) = match item.key.as_str() {
            "ipv4" => (&mut prefix.ipv4, 32),
            "ipv6" => (&mut prefix.ipv6, 128),
            _ => return Err(item.unknown("prefix", &["ipv4", "ipv6"], &[])),
        };
        let bits = item.value.whole("a prefix")?;
        let bits = u8::try_from(bits).ok().filter(|bits| (1..=most).contains(bits));
        *slot =
            bits.ok_or_else(|| item.value.wrong("a prefix", &format!("a number of bits from 1 to {most}")))?;
    }
    Ok(Some(prefix))
}

fn connectors(entry: &Entry, deed: Deed, sort: Option<Sort>) -> Result<Vec<Connector>, Fault> {
    let mut out: Vec<Connector> = Vec::new();
    for node in list(&entry.value, "`connectors`", MAX_LIST)? {
        let name = node.text("a connector")?.trim();
        let kind_name = name.split_once('/').map_or(name, |(kind, _)| kind);
        let kind = ConnectorKind::parse(kind_name).ok_or_else(|| {
            let message = format!("there is no kind of connector {}", shown(kind_name));
            Fault::new(node.at, "unknown-connector", message)
                .help(did_you_mean(kind_name, &ConnectorKind::ALL.map(ConnectorKind::name)))
        })?;
        if name.split('/').any(str::is_empty) || name.matches('/').count() > 1 {
            return Err(node.wrong("a connector", "its kind, or kind and name as in `slack/soc`"));
        }
        if !kind.carries(deed, sort) {
            let able = ConnectorKind::ALL.into_iter().filter(|kind| kind.carries(deed, sort));
            let able: Vec<&str> = able.map(ConnectorKind::name).collect();
            let to = sort.map(|sort| format!(" to {}", sort.name())).unwrap_or_default();
            let message = format!("`{}` cannot do `{}`{to}", kind.name(), deed.name());
            return Err(Fault::new(node.at, "unable-connector", message)
                .help(format!("connectors that can: {}", able.join(", "))));
        }
        if out.iter().any(|known| *known.name == *name) {
            return Err(Fault::new(node.at, "listed-twice", format!("{} is here twice", shown(name)))
                .help("keep one of them"));
        }
        out.push(Connector { kind, name: name.into() });
    }
    Ok(out)
}
