//! Versions of the rules as the store holds them: from which log time on each is in force, and what it is compiled from.
//!
//! In: stored rows, the texts of each. Out: [`Version`]s for the engine, rows to store.
//! Invariants: what is in force when is decided by the engine when a version comes into force, and stored before anything that
//! follows from it, so every later start agrees; the first version of all is in force from the beginning.

use std::{collections::BTreeMap, sync::Arc};

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};
use vedette_engine::Version;
use vedette_event::{Micros, Sources, Span};
use vedette_sigma::{RuleSet, ir::Rule};
use vedette_store::model::{RuleText, RuleVersion};

use crate::texts::{TakenUp, Texts};

/// Versions that may be needed at once: each holds the programs of all its rules. More are asked for only while a source stands
/// still and the rules are changed again and again.
pub const MOST: usize = 16;

/// One rule of a stored version.
#[derive(Debug, Serialize, Deserialize)]
struct StoredRule {
    id: String,
    meaning: String,
    since_us: i64,
}

/// Since when the rules of a stored version have meant what they mean.
pub struct Since(BTreeMap<(String, String), Micros>);

impl Since {
    /// Of a stored row.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn of(row: &RuleVersion) -> Result<Self> {
        let entries: Vec<StoredRule> = serde_json::from_str(&row.content)
            .with_context(|| format!("stored rule version {}", row.version))?;
        Ok(Self(entries.into_iter().map(|e| ((e.id, e.meaning), Micros(e.since_us))).collect()))
    }

    /// Of a rule.
    pub fn get(&self, rule: &Rule) -> Option<Micros> {
        self.0.get(&(rule.id.to_string(), hexadecimal(&rule.meaning))).copied()
    }
}

/// What to say where one more than [`MOST`] would be needed.
pub fn too_many() -> String {
    format!(
        "{MOST} versions of the rules are needed still, since a source has not come past their changes; `status` names what is not \
         read: bring it back and reload, or take its topic out of the configuration, start again, and then reload"
    )
}

/// What a start has taken up, after the texts before and beside so many versions that are needed still, if there is room for it.
///
/// # Errors
/// If it would be one more than may be.
pub fn one_more(taken: TakenUp, before: Option<&Texts>, versions: usize) -> Result<TakenUp> {
    let another = before.is_some_and(|before| *before != taken.texts);
    ensure!(!another || versions < MOST, "{}", too_many());
    Ok(taken)
}

/// The versions that are stored with their texts, the oldest first: all, because what is read next may need each of them.
///
/// # Errors
/// If one cannot be read.
pub fn stored(rows: &[RuleVersion]) -> Result<Vec<(&RuleVersion, Texts)>> {
    let kept: Vec<&RuleVersion> = rows.iter().filter(|row| !row.texts.is_empty()).collect();
    let unpack = |row: &RuleVersion| {
        Texts::unpack(&row.texts).with_context(|| format!("stored rule version {}", row.number))
    };
    kept.into_iter().map(|row| Ok((row, unpack(row)?))).collect()
}

/// One of them, compiled.
///
/// # Errors
/// If it cannot be read.
pub fn compile_stored(row: &RuleVersion, rules: Arc<RuleSet>, sources: Arc<Sources>) -> Result<Version> {
    let since = Since::of(row)?;
    // A rule that is not listed was refused when the version came into force, and is not now.
    let from = row.in_force_from;
    Ok(Version::compile_reading(rules, sources, &vedette_act::WITNESSED)
        .in_force(from, |rule| since.get(rule).unwrap_or(from)))
}

/// The same, none of them in force from much later than `above`, which lies above every `ts_log` that was read: a clock that was
/// ahead once does not silence a rule until it is right, and what was to speak only from then on has said nothing yet. Those that come
/// earlier now keep their order, a microsecond apart. This is to be stored, because `above` is another one at each start, and what a
/// rule has kept is known by when it came into force.
pub fn no_later(versions: &[Version], above: Micros) -> Vec<Version> {
    let late = versions.iter().map(|version| version.from).filter(|from| *from > above);
    let earlier: BTreeMap<Micros, Micros> = late.zip((0..).map(|n| above.plus(Span(n)))).collect();
    let at = |was: Micros| earlier.get(&was).copied().unwrap_or_else(|| was.min(above));
    let put_earlier = |version: &Version| {
        let since: BTreeMap<_, _> = version
            .rules
            .rules
            .iter()
            .zip(version.since.iter())
            .map(|(rule, since)| ((rule.id.to_string(), rule.meaning), at(*since)))
            .collect();
        let from = at(version.from);
        let of = |rule: &Rule| since.get(&(rule.id.to_string(), rule.meaning)).copied().unwrap_or(from);
        version.clone().in_force(from, of)
    };
    versions.iter().map(put_earlier).collect()
}

/// The row of a version.
///
/// # Errors
/// If it cannot be written out.
pub fn row(number: u64, version: &Version, texts: Vec<u8>) -> Result<RuleVersion> {
    let rules = version.rules.rules.iter().zip(version.since.iter());
    let entry = |(rule, since): (&Rule, &Micros)| StoredRule {
        id: rule.id.to_string(),
        meaning: hexadecimal(&rule.meaning),
        since_us: since.0,
    };
    let mut entries: Vec<StoredRule> = rules.map(entry).collect();
    entries.sort_by(|a, b| a.id.cmp(&b.id));
    let content = serde_json::to_string(&entries)?;
    let hash = vedette_event::raw::record_hash(Some(content.as_bytes()));
    Ok(RuleVersion { number, version: hexadecimal(&hash), in_force_from: version.from, content, texts })
}

/// What the rules say that came into force with a version.
pub fn new_texts(version: &Version) -> impl Iterator<Item = RuleText> {
    let rules = version.rules.rules.iter().zip(version.since.iter());
    rules.filter(|(_, since)| **since == version.from).map(|(rule, _)| RuleText {
        rule_id: rule.id.to_string(),
        version: vedette_correlate::body::rule_ref(rule).version.to_string(),
        text: rule.text.clone(),
    })
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use vedette_sigma::{Lists, RuleFile};

    use super::*;
    use crate::content;

    fn version(value: &str, from: i64, since: i64) -> Version {
        let sources = Arc::new(content::sources(None).unwrap());
        let rule = |id: &str, value: &str| {
            format!(
                "title: t\nid: {id}\nlogsource: {{category: api}}\ndetection:\n  a:\n    x: {value}\n  condition: a\n"
            )
        };
        let text = [rule("changes", value), rule("stays", "0")].join("---\n");
        let file = RuleFile { path: "t.yml".into(), text };
        let rules = Arc::new(vedette_sigma::load(&[file], &Lists::new(), &sources));
        let since = |rule: &Rule| if &*rule.id == "stays" { Micros::MIN } else { Micros(since) };
        Version::compile(rules, sources).in_force(Micros(from), since)
    }

    /// When each comes into force, and its rules.
    fn times(versions: &[Version]) -> Vec<(i64, Vec<i64>)> {
        let of = |version: &Version| (version.from.0, version.since.iter().map(|since| since.0).collect());
        versions.iter().map(of).collect()
    }

    #[test]
    fn no_version_that_is_stored_is_forgotten_and_a_start_takes_no_more_than_may_be() {
        let take = |lists: &[(&str, &str)], before: Option<&Texts>| {
            let lists = lists.iter().map(|(name, value)| ((*name).to_owned(), vec![(*value).to_owned()]));
            let text = content::RuleText::of(Vec::new(), lists.collect());
            crate::texts::take(text, content::schemas(None).unwrap(), before, Ok).unwrap()
        };
        let first = take(&[], None).texts;
        let row = |number| RuleVersion {
            number,
            version: String::new(),
            in_force_from: Micros(number as i64),
            content: "[]".to_owned(),
            texts: first.pack().unwrap(),
        };
        let rows: Vec<_> = (1..=MOST as u64 + 2).map(row).collect();
        assert_eq!(stored(&rows).unwrap().len(), rows.len());
        let taken = |value, versions| {
            one_more(take(&[("l", value)], Some(&first)), Some(&first), versions).map(|taken| taken.texts)
        };
        assert!(taken("v", MOST - 1).is_ok());
        assert!(taken("v", MOST).unwrap_err().to_string().contains("are needed still"));
        assert!(one_more(take(&[], Some(&first)), Some(&first), MOST).is_ok());
    }

    #[test]
    fn what_a_clock_that_was_ahead_decided_is_put_earlier_once() {
        let min = i64::MIN;
        let known =
            [version("1", min, min), version("2", 10, 10), version("3", 900, 900), version("4", 950, 950)];
        let now = no_later(&known, Micros(100));
        let expected =
            [(min, vec![min; 2]), (10, vec![10, min]), (100, vec![100, min]), (101, vec![101, min])];
        assert_eq!(times(&now), expected);
        // As the next start finds them, whose clock has gone on.
        let again = now.iter().zip(1..).map(|(version, number)| {
            let row = row(number, version, vec![1]).unwrap();
            compile_stored(&row, version.rules.clone(), version.sources.clone()).unwrap()
        });
        let again: Vec<_> = again.collect();
        assert_eq!(times(&again), expected);
        assert_eq!(times(&no_later(&again, Micros(5_000))), expected);
    }
}
