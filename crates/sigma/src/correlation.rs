//! Correlations as written, before what they refer to is known.
//!
//! In: the `correlation:` node. Out: [`RawCorrelation`]. Keys that the type gives no meaning are refused.

use std::sync::Arc;

use vedette_event::Span;

use crate::{
    Cmp, CorrelationKind, detection,
    fault::{Fault, Place, did_you_mean, shown},
    yaml::{self, Entry, Node},
};

/// Most rules a correlation refers to, most parts of a key and most fields counted.
const MAX_RULES: usize = 256;
const MAX_FIELDS: usize = 16;

/// A correlation whose references are still names.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct RawCorrelation {
    pub kind: CorrelationKind,
    pub rules: Vec<(Arc<str>, Place)>,
    pub group_by: Vec<(Arc<str>, Place)>,
    pub aliases: Vec<Alias>,
    pub timespan: Span,
    /// Where the type stands.
    pub kind_at: Place,
    pub condition: Vec<(Cmp, u64)>,
    pub condition_at: Place,
}

/// A name for fields that are called differently in different rules.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Alias {
    pub name: Arc<str>,
    pub at: Place,
    /// Reference to a rule, its place, and the field there.
    pub fields: Vec<(Arc<str>, Place, Arc<str>)>,
}

const KEYS: [&str; 7] = ["type", "rules", "group-by", "timespan", "condition", "aliases", "generate"];
const COMPARISONS: [(&str, Cmp); 6] = [
    ("lt", Cmp::Lt),
    ("lte", Cmp::Lte),
    ("gt", Cmp::Gt),
    ("gte", Cmp::Gte),
    ("eq", Cmp::Eq),
    ("neq", Cmp::Neq),
];
const TYPES: [&str; 4] = ["event_count", "value_count", "temporal", "temporal_ordered"];
const LATER: [&str; 7] = [
    "value_sum",
    "value_avg",
    "value_percentile",
    "vedette_first_seen",
    "vedette_baseline",
    "vedette_ratio",
    "vedette_fanout",
];

/// Reads the `correlation:` node.
pub(crate) fn read(node: &Node) -> Result<RawCorrelation, Fault> {
    let entries = node.map("`correlation`")?;
    for entry in entries {
        if !KEYS.contains(&entry.key.as_str()) {
            let help = if entry.key == "timeframe" {
                "did you mean `timespan`?".to_owned()
            } else {
                did_you_mean(&entry.key, &KEYS)
            };
            let message = format!("{} is no key of a correlation", shown(&entry.key));
            return Err(Fault::new(entry.key_at, "unknown-key", message).help(help));
        }
    }
    let need = |key: &str| {
        yaml::find(entries, key)
            .ok_or_else(|| Fault::new(node.at, "missing-key", format!("the correlation has no `{key}`")))
    };
    let kind_entry = need("type")?;
    let condition_entry = yaml::find(entries, "condition");
    let (kind, condition) = kind_and_condition(kind_entry, condition_entry, node.at)?;
    let rules = names(need("rules")?, "`rules`", MAX_RULES)?;
    if rules.is_empty() {
        return Err(Fault::new(node.at, "missing-key", "the correlation refers to no rule"));
    }
    let group_by = match yaml::find(entries, "group-by").filter(|e| !e.value.is_null()) {
        Some(entry) => field_names(entry, "`group-by`")?,
        None => Vec::new(),
    };
    if let Some((name, at)) = repeated(&group_by) {
        return Err(Fault::new(at, "repeated-field", format!("the group key has {} twice", shown(name))));
    }
    if let Some(generate) = yaml::find(entries, "generate") {
        generate.value.boolean("`generate`")?;
    }
    Ok(RawCorrelation {
        kind,
        rules,
        group_by,
        aliases: aliases(yaml::find(entries, "aliases"))?,
        timespan: timespan(need("timespan")?)?,
        kind_at: kind_entry.value.at,
        condition,
        condition_at: condition_entry.map_or(kind_entry.value.at, |e| e.value.at),
    })
}

/// What the correlation among a document's keys refers to, and whether `generate` (the inner one counts) is true.
///
/// It takes what it can read, since it also speaks for a correlation that is refused.
pub(crate) fn governs(document: &[Entry]) -> (Vec<Arc<str>>, bool) {
    let Some(entries) = yaml::find(document, "correlation").and_then(|e| e.value.map("").ok()) else {
        return (Vec::new(), false);
    };
    let generate = yaml::find(entries, "generate").or_else(|| yaml::find(document, "generate"));
    let generate = generate.is_some_and(|e| e.value.boolean("") == Ok(true));
    let rules = yaml::find(entries, "rules").and_then(|e| names(e, "", MAX_RULES).ok()).unwrap_or_default();
    (rules.into_iter().map(|(name, _)| name).collect(), generate)
}

fn kind_and_condition(
    entry: &Entry,
    condition: Option<&Entry>,
    at: Place,
) -> Result<(CorrelationKind, Vec<(Cmp, u64)>), Fault> {
    let name = entry.value.text("`type`")?;
    let (fields, comparisons) = match condition {
        Some(condition) => read_condition(condition)?,
        None => (None, Vec::new()),
    };
    let kind = match name {
        "event_count" => CorrelationKind::EventCount,
        "value_count" => match &fields {
            Some((fields, _)) => CorrelationKind::ValueCount(fields.clone()),
            None => {
                let message = "`value_count` needs `condition: field`: the field whose values are counted";
                return Err(Fault::new(condition.map_or(at, |c| c.key_at), "missing-key", message));
            }
        },
        "temporal" => CorrelationKind::Temporal,
        "temporal_ordered" => CorrelationKind::TemporalOrdered,
        _ if LATER.contains(&name) => {
            let message = format!("correlations of type {} are not supported yet", shown(name));
            return Err(Fault::new(entry.value.at, "not-supported", message)
                .help(format!("supported are: {}", TYPES.join(", "))));
        }
        _ => {
            let message = format!("there is no correlation of type {}", shown(name));
            return Err(Fault::new(entry.value.at, "unknown-type", message).help(did_you_mean(name, &TYPES)));
        }
    };
    if let (Some((_, field_at)), false) = (&fields, matches!(kind, CorrelationKind::ValueCount(_))) {
        let message = format!("`field` means nothing in a correlation of type `{name}`");
        return Err(Fault::new(*field_at, "meaningless-key", message).help("it belongs to `value_count`"));
    }
    match (&kind, condition) {
        (CorrelationKind::TemporalOrdered, Some(condition)) => {
            let message = "`condition` means nothing in `temporal_ordered`, which needs all rules in order";
            Err(Fault::new(condition.key_at, "meaningless-key", message)
                .help("use `temporal` to ask for some of the rules"))
        }
        (CorrelationKind::EventCount | CorrelationKind::ValueCount(_), _) if comparisons.is_empty() => {
            let message = format!("`{name}` needs a comparison such as `condition: {{gte: 10}}`");
            Err(Fault::new(condition.map_or(at, |c| c.key_at), "missing-key", message))
        }
        _ => Ok((kind, comparisons)),
    }
}

type Condition = (Option<(Vec<Arc<str>>, Place)>, Vec<(Cmp, u64)>);

fn read_condition(condition: &Entry) -> Result<Condition, Fault> {
    let mut fields = None;
    let mut comparisons = Vec::new();
    let entries = condition.value.map("`condition` of a correlation").map_err(|fault| {
        fault.help("write a map such as `gte: 10`; boolean conditions over rules are not part of Sigma 2.1")
    })?;
    for entry in entries {
        if entry.key == "field" {
            let names = field_names(entry, "`field`")?;
            if names.is_empty() {
                let message = "`field` names no field of which to count the values";
                return Err(Fault::new(entry.key_at, "missing-key", message));
            }
            if let Some((name, at)) = repeated(&names) {
                return Err(Fault::new(at, "repeated-field", format!("{} is counted twice", shown(name))));
            }
            fields = Some((names.into_iter().map(|(name, _)| name).collect(), entry.key_at));
            continue;
        }
        let Some((_, cmp)) = COMPARISONS.iter().find(|(name, _)| *name == entry.key) else {
            let message = format!("{} is no comparison", shown(&entry.key));
            let valid = ["lt", "lte", "gt", "gte", "eq", "neq", "field"];
            return Err(
                Fault::new(entry.key_at, "unknown-key", message).help(did_you_mean(&entry.key, &valid))
            );
        };
        comparisons.push((*cmp, entry.value.whole(&format!("`{}`", entry.key))?));
    }
    Ok((fields, comparisons))
}

/// A list of names of fields, or one.
fn field_names(entry: &Entry, what: &str) -> Result<Vec<(Arc<str>, Place)>, Fault> {
    let names = names(entry, what, MAX_FIELDS)?;
    names.iter().try_for_each(|(name, at)| detection::not_stamped(name, *at))?;
    Ok(names)
}

/// A list of names, or one.
fn names(entry: &Entry, what: &str, limit: usize) -> Result<Vec<(Arc<str>, Place)>, Fault> {
    let items = entry.value.items(what)?;
    if items.len() > limit {
        return Err(Fault::new(
            entry.value.at,
            "too-many-names",
            format!("{what} takes at most {limit} names"),
        ));
    }
    let name = |item: &Node| {
        let text = item.text("a name")?.trim();
        if text.is_empty() { Err(item.wrong("a name", "text")) } else { Ok((Arc::from(text), item.at)) }
    };
    items.iter().map(name).collect()
}

fn repeated(names: &[(Arc<str>, Place)]) -> Option<(&str, Place)> {
    let again =
        names.iter().enumerate().find(|(at, (name, _))| names.iter().take(*at).any(|(n, _)| n == name));
    again.map(|(_, (name, at))| (&**name, *at))
}

fn aliases(entry: Option<&Entry>) -> Result<Vec<Alias>, Fault> {
    let Some(entry) = entry.filter(|e| !e.value.is_null()) else { return Ok(Vec::new()) };
    let alias = |entry: &Entry| {
        let field = |field: &Entry| {
            Ok((
                Arc::from(field.key.as_str()),
                field.key_at,
                Arc::from(field.value.text("the field of an alias")?),
            ))
        };
        let fields = entry.value.map("an alias")?.iter().map(field).collect::<Result<Vec<_>, Fault>>()?;
        Ok(Alias { name: entry.key.as_str().into(), at: entry.key_at, fields })
    };
    entry.value.map("`aliases`")?.iter().map(alias).collect()
}

fn timespan(entry: &Entry) -> Result<Span, Fault> {
    entry.value.span("`timespan`")
}
