//! Which of ATT&CK's techniques the rules in force look for.
//!
//! In: the tags of rules that raise alerts. Out: a matrix of tactics and techniques, and the same as a layer of the ATT&CK Navigator.
//! Invariants: a technique is told because a rule names it, never because one might; one that is not known here stands below the
//! tactics that its rules name, else below none.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;
use vedette_event::Micros;

use super::tactics::{TACTICS, tactics_of};
use crate::{
    attack::Attack,
    live::{Live, RuleStatus},
};

/// The techniques that the rules in force look for.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AttackCoverage {
    /// All tactics, in the order of an attack; techniques of no known tactic stand at the end, below a tactic without an id.
    pub items: Vec<TacticCoverage>,
    /// Rules that raise alerts.
    pub rules: u64,
    /// Of those, rules that name no technique.
    pub unnamed: u64,
    /// The rules in force are as of then.
    #[schema(value_type = String, format = DateTime)]
    pub as_of: Micros,
    /// Always null: all tactics are on one page.
    #[schema(required = true)]
    pub next_cursor: Option<String>,
}

/// One tactic.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TacticCoverage {
    /// Its id, such as `TA0006`; null for techniques of no known tactic.
    #[schema(required = true)]
    pub id: Option<String>,
    /// Its name.
    pub name: String,
    /// Its techniques that a rule names, by id.
    pub techniques: Vec<TechniqueCoverage>,
}

/// One technique.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct TechniqueCoverage {
    /// Its id, such as `T1110.004`.
    pub id: String,
    /// Its name, where it is known here.
    #[schema(required = true)]
    pub name: Option<String>,
    /// The page that explains it.
    pub url: String,
    /// The ids of the rules that name it.
    pub rules: Vec<String>,
}

impl AttackCoverage {
    /// Of the rules in force.
    pub fn of(live: &Live) -> Self {
        let raising: Vec<&RuleStatus> = live.rules.iter().filter(|rule| rule.emits).collect();
        // By tactic's place and technique; the place behind the last is that of no tactic.
        let mut cells: BTreeMap<(usize, String), TechniqueCoverage> = BTreeMap::new();
        let mut unnamed = 0;
        for rule in &raising {
            let named: Vec<Attack> = rule.tags.iter().filter_map(|tag| Attack::of(tag)).collect();
            unnamed += u64::from(!named.iter().any(|attack| attack.technique));
            for technique in named.iter().filter(|attack| attack.technique) {
                for place in places(technique, &named) {
                    let cell =
                        cells.entry((place, technique.id.clone())).or_insert_with(|| TechniqueCoverage {
                            id: technique.id.clone(),
                            name: technique.name.clone(),
                            url: technique.url(),
                            rules: Vec::new(),
                        });
                    if cell.rules.last() != Some(&rule.id) {
                        cell.rules.push(rule.id.clone());
                    }
                }
            }
        }
        let below = |place: usize| -> Vec<TechniqueCoverage> {
            let own = cells.range((place, String::new())..(place + 1, String::new()));
            own.map(|(_, cell)| cell.clone()).collect()
        };
        let known = TACTICS.iter().enumerate().filter_map(|(place, slug)| {
            let tactic = Attack::of(&format!("attack.{slug}"))?;
            let name = tactic.name.unwrap_or_else(|| tactic.id.clone());
            Some(TacticCoverage { id: Some(tactic.id), name, techniques: below(place) })
        });
        let mut items: Vec<TacticCoverage> = known.collect();
        let techniques = below(TACTICS.len());
        if !techniques.is_empty() {
            items.push(TacticCoverage { id: None, name: "No tactic known".to_owned(), techniques });
        }
        Self { items, rules: raising.len() as u64, unnamed, as_of: live.as_of, next_cursor: None }
    }

    /// Each technique once.
    pub fn techniques(&self) -> BTreeMap<&str, &TechniqueCoverage> {
        let all = self.items.iter().flat_map(|tactic| &tactic.techniques);
        all.map(|technique| (technique.id.as_str(), technique)).collect()
    }

    /// A layer of the ATT&CK Navigator, in version 4.5 of its format. The score of a technique is how many rules name it; no version of
    /// ATT&CK is named, so that the Navigator takes its own newest.
    pub fn layer(&self, live: &Live) -> Value {
        let title = |id: &String| live.rule(id).map_or_else(|| id.clone(), |rule| rule.title.clone());
        let techniques = self.techniques();
        let most = techniques.values().map(|technique| technique.rules.len()).max().unwrap_or(0).max(1);
        let told = |technique: &TechniqueCoverage| {
            json!({
                "techniqueID": technique.id,
                "score": technique.rules.len(),
                "enabled": true,
                "comment": technique.rules.iter().map(title).collect::<Vec<_>>().join("\n"),
                "metadata": technique.rules.iter().map(|id| json!({"name": "rule", "value": id})).collect::<Vec<_>>(),
                "showSubtechniques": technique.id.contains('.'),
            })
        };
        let version = &live.status.rule_set.version;
        json!({
            "name": "Vedette: rules in force",
            "versions": {"navigator": "5.1.0", "layer": "4.5"},
            "domain": "enterprise-attack",
            "description": format!(
                "{} rules that raise alerts, version {version}, as of {}; the score is how many of them name a technique.",
                self.rules, self.as_of
            ),
            "sorting": 0,
            "hideDisabled": false,
            "techniques": techniques.into_values().map(told).collect::<Vec<_>>(),
            "gradient": {"colors": ["#c7e9e9ff", "#0b6e74ff"], "minValue": 1, "maxValue": most},
        })
    }
}

/// The places of a technique's tactics; of one that is not known here, those that stand beside it on the rule.
fn places(technique: &Attack, named: &[Attack]) -> Vec<usize> {
    let known: Vec<usize> = tactics_of(&technique.id)
        .iter()
        .filter_map(|slug| TACTICS.iter().position(|tactic| tactic == slug))
        .collect();
    if !known.is_empty() {
        return known;
    }
    let beside = named.iter().filter(|attack| !attack.technique).filter_map(|attack| {
        TACTICS.iter().position(|slug| Attack::of(&format!("attack.{slug}")).as_ref() == Some(attack))
    });
    let beside: Vec<usize> = beside.collect();
    if beside.is_empty() { vec![TACTICS.len()] } else { beside }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;

    use super::*;
    use crate::tests::{NOON, seed};

    fn with(rules: &[(&str, &[&str], bool)]) -> Live {
        let mut live = seed::live(NOON);
        let first = live.rules[0].clone();
        let rule = |(id, tags, emits): &(&str, &[&str], bool)| RuleStatus {
            id: (*id).into(),
            title: format!("Title of {id}"),
            tags: tags.iter().map(|tag| (*tag).into()).collect(),
            emits: *emits,
            ..first.clone()
        };
        live.rules = Arc::new(rules.iter().map(rule).collect());
        live
    }

    #[test]
    fn techniques_stand_below_their_own_tactics_whatever_a_rule_names_beside_them() {
        let live = with(&[
            ("a", &["attack.initial-access", "attack.t1110.004", "attack.t1190"], true),
            ("b", &["attack.t1110.004", "attack.t1110.004", "cve.2021-44228"], true),
            ("c", &["attack.t1046"], false),
            ("d", &["attack.impact", "attack.t9998"], true),
            ("e", &["attack.t9999"], true),
            ("f", &["attack.impact"], true),
        ]);
        let coverage = AttackCoverage::of(&live);
        let cells: Vec<(&str, &str, Vec<&str>)> = coverage
            .items
            .iter()
            .flat_map(|tactic| tactic.techniques.iter().map(|cell| (&*tactic.name, cell)))
            .map(|(tactic, cell)| (tactic, &*cell.id, cell.rules.iter().map(|id| &**id).collect()))
            .collect();
        assert_eq!(
            cells,
            [
                ("Initial Access", "T1190", vec!["a"]),
                ("Credential Access", "T1110.004", vec!["a", "b"]),
                ("Impact", "T9998", vec!["d"]),
                ("No tactic known", "T9999", vec!["e"]),
            ]
        );
        assert_eq!((coverage.rules, coverage.unnamed, coverage.items.len()), (5, 1, 15));
    }

    #[test]
    fn a_layer_holds_each_technique_once() {
        // Persistence, privilege escalation, defence evasion and initial access.
        let live =
            with(&[("a", &["attack.t1078"], true), ("b", &["attack.t1078", "attack.t1595.002"], true)]);
        let layer = AttackCoverage::of(&live).layer(&live);
        assert_eq!(layer["versions"]["layer"], "4.5");
        assert_eq!(layer["domain"], "enterprise-attack");
        let techniques = layer["techniques"].as_array().unwrap();
        assert_eq!(techniques.len(), 2);
        assert_eq!((&techniques[0]["techniqueID"], &techniques[0]["score"]), (&json!("T1078"), &json!(2)));
        assert_eq!(techniques[0]["comment"], "Title of a\nTitle of b");
        assert_eq!(techniques[1]["showSubtechniques"], true);
        assert_eq!(layer["gradient"]["maxValue"], 2);
    }
}
