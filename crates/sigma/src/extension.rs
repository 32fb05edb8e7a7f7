//! The `vedette:` map: what Sigma cannot say.
//!
//! In: the node and the body it belongs to. Out: [`Extension`]. Keys that are planned are refused as not supported yet,
//! others as unknown.

use std::sync::Arc;

use crate::{
    Cmp, Extras, RuleTest,
    budget::FileBudget,
    correlation::RawCorrelation,
    document::Body,
    fault::{Fault, Place, did_you_mean, shown},
    inline_test,
    yaml::{Entry, Node},
};

/// What the map says.
#[derive(Debug, Clone, Default)]
pub(crate) struct Extension {
    pub extras: Extras,
    pub tests: Vec<RuleTest>,
    /// Where it says `mode: off`.
    pub off: Option<Place>,
}

const KEYS: [&str; 7] = ["emit", "entity", "risk", "summary", "next_steps", "mode", "tests"];
const LATER: [&str; 9] =
    ["until", "step_max", "anchor", "look", "require_live", "indicator", "except", "respond", "severity_by"];

/// Highest score of a risk.
const MAX_RISK: u64 = 1000;
/// Longest summary, in characters, and longest step.
const MAX_SUMMARY: usize = 500;
/// Most steps: who has more to say writes a page of its own and links to it.
const MAX_STEPS: usize = 10;

/// Reads the map.
pub(crate) fn read(node: &Node, body: &Body, budget: &mut FileBudget) -> Result<Extension, Fault> {
    let correlation = match body {
        Body::Correlation(raw) => Some(raw),
        Body::Detection(_) => None,
    };
    let mut out = Extension::default();
    for entry in node.map("`vedette`")? {
        match entry.key.as_str() {
            "emit" => emit(entry, correlation, &mut out.extras)?,
            "entity" => out.extras.entity = Some(entity(entry, correlation)?),
            "risk" => out.extras.risk = Some(risk(entry)?),
            "summary" => out.extras.summary = Some(summary(entry, correlation)?),
            "next_steps" => out.extras.next_steps = next_steps(entry)?,
            "mode" => out.off = mode(entry)?,
            "tests" => out.tests = inline_test::read(&entry.value, budget)?,
            _ => return Err(entry.unknown("vedette", &KEYS, &LATER)),
        }
    }
    Ok(out)
}

fn emit(entry: &Entry, correlation: Option<&RawCorrelation>, extras: &mut Extras) -> Result<(), Fault> {
    let judged = correlation
        .is_some_and(|raw| raw.condition.iter().any(|(cmp, _)| !matches!(cmp, Cmp::Gt | Cmp::Gte)));
    if judged {
        let message =
            "`emit` means nothing here: each window is judged when it ends and is an alert of its own";
        return Err(Fault::new(entry.key_at, "meaningless-key", message).help("remove it"));
    }
    for item in entry.value.map("`emit`")? {
        match item.key.as_str() {
            "rearm" => extras.rearm = Some(item.value.span("`rearm`")?),
            "update" => extras.update = Some(item.value.span("`update`")?),
            _ => return Err(item.unknown("emit", &["rearm", "update"], &[])),
        }
    }
    Ok(())
}

fn entity(entry: &Entry, correlation: Option<&RawCorrelation>) -> Result<Arc<str>, Fault> {
    let field = entry.value.text("`entity`")?.trim();
    if let Some(raw) = correlation
        && !raw.group_by.iter().any(|(name, _)| &**name == field)
    {
        let names: Vec<&str> = raw.group_by.iter().map(|(name, _)| &**name).collect();
        let fault = Fault::new(
            entry.value.at,
            "unknown-entity",
            format!("{} is no part of the group key", shown(field)),
        );
        return Err(match names.as_slice() {
            [] => fault.help("this correlation has one group and so no entity: remove it, or add `group-by`"),
            names => fault.help(did_you_mean(field, names)),
        });
    }
    Ok(field.into())
}

fn risk(entry: &Entry) -> Result<u32, Fault> {
    let mut score = None;
    for item in entry.value.map("`risk`")? {
        match item.key.as_str() {
            "score" => {
                let n = item.value.whole("`score`")?;
                let small = u32::try_from(n).ok().filter(|_| n <= MAX_RISK);
                score =
                    Some(small.ok_or_else(|| item.value.wrong("`score`", "a whole number from 0 to 1000"))?);
            }
            _ => return Err(item.unknown("risk", &["score"], &["entity"])),
        }
    }
    score.ok_or_else(|| Fault::new(entry.value.at, "missing-key", "`risk` has no `score`"))
}

fn summary(entry: &Entry, correlation: Option<&RawCorrelation>) -> Result<Arc<str>, Fault> {
    let text = entry.value.text("`summary`")?.trim();
    if text.chars().count() > MAX_SUMMARY || text.contains('\n') {
        return Err(entry.value.wrong("`summary`", "one line of at most 500 characters"));
    }
    let mut rest = text;
    while let Some(at) = rest.find(['{', '}']) {
        let closed =
            rest.get(at..).and_then(|tail| tail.strip_prefix('{')).and_then(|tail| tail.split_once('}'));
        let Some((name, tail)) = closed else {
            return Err(Fault::new(
                entry.value.at,
                "bad-template",
                "the summary has a brace without its partner",
            ));
        };
        if let Some(raw) = correlation {
            let mut valid: Vec<&str> = raw.group_by.iter().map(|(name, _)| &**name).collect();
            valid.extend(["count", "value", "title"]);
            if !valid.contains(&name) {
                let message = format!("the summary names {}, which is no part of the group key", shown(name));
                return Err(
                    Fault::new(entry.value.at, "bad-template", message).help(did_you_mean(name, &valid))
                );
            }
        }
        rest = tail;
    }
    Ok(text.into())
}

fn next_steps(entry: &Entry) -> Result<Vec<Arc<str>>, Fault> {
    let steps = entry.value.items("`next_steps`")?;
    if steps.len() > MAX_STEPS {
        return Err(entry.value.wrong("`next_steps`", "a list of at most 10 lines"));
    }
    let step = |step: &Node| {
        let text = step.text("a step")?.trim();
        if text.is_empty() || text.chars().count() > MAX_SUMMARY || text.contains('\n') {
            return Err(step.wrong("a step", "one line of at most 500 characters"));
        }
        Ok(Arc::from(text))
    };
    steps.iter().map(step).collect()
}

fn mode(entry: &Entry) -> Result<Option<Place>, Fault> {
    match entry.value.text("`mode`")? {
        "live" => Ok(None),
        "off" => Ok(Some(entry.value.at)),
        "shadow" => Err(Fault::new(entry.value.at, "not-supported", "`mode: shadow` is not supported yet")
            .help("supported are: live, off")),
        other => {
            let message = format!("there is no mode {}", shown(other));
            Err(Fault::new(entry.value.at, "unknown-mode", message)
                .help(did_you_mean(other, &["live", "off"])))
        }
    }
}
