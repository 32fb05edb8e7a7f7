//! The page of ATT&CK: tactics and techniques that the rules in force look for.
//!
//! In: the matrix of the desk. Out: a table with a row for each technique, by tactic. Invariant: what is shown is what the layer to
//! download holds.

use std::{collections::BTreeMap, sync::Arc};

use askama::Template;
use axum::{extract::State, response::Response};

use super::{Frame, Stamp, href, render, segment, words};
use crate::{
    app::App,
    desk::{
        coverage::{AttackCoverage, TacticCoverage, TechniqueCoverage},
        outcomes,
    },
    live::Live,
    params::{NoParams, Strict},
    problem::Problem,
};

struct Cell {
    id: String,
    /// Within its tactic: the same technique may stand in several.
    place: String,
    name: String,
    url: String,
    count: usize,
    /// How dark, from 1 to 4.
    shade: usize,
    href: String,
    alerts: String,
    rules: Vec<(String, String)>,
}

struct Tactic {
    id: String,
    name: String,
    url: Option<String>,
    rules: usize,
    cells: Vec<Cell>,
}

#[derive(Template)]
#[template(path = "coverage.html")]
struct CoveragePage {
    frame: Frame,
    as_of: Stamp,
    rules: u64,
    unnamed: u64,
    techniques: usize,
    tactics: Vec<Tactic>,
    /// The cells of the matrix by rows: one of each tactic, or none.
    grid: Vec<Vec<Option<Square>>>,
}

/// A technique in the matrix.
struct Square {
    id: String,
    name: String,
    /// Where the table below tells of it.
    place: String,
    count: usize,
    shade: usize,
}

/// `GET /attack`.
pub(super) async fn page(
    State(app): State<Arc<App>>,
    Strict(NoParams {}): Strict<NoParams>,
) -> Result<Response, Problem> {
    let live = app.live.now();
    let coverage = AttackCoverage::of(&live);
    let outcomes = outcomes::of(&app).await?;
    let alerts: BTreeMap<String, u64> =
        outcomes.items.into_iter().map(|outcome| (outcome.rule_id, outcome.alerts)).collect();
    let techniques = coverage.techniques().len();
    let tactics: Vec<Tactic> =
        coverage.items.iter().map(|tactic| tactic_of(tactic, &live, &alerts)).collect();
    let deepest = tactics.iter().map(|tactic| tactic.cells.len()).max().unwrap_or(0);
    let cell = |tactic: &Tactic, row: usize| {
        let cell = tactic.cells.get(row)?;
        let (id, name, place) = (cell.id.clone(), cell.name.clone(), cell.place.clone());
        Some(Square { id, name, place, count: cell.count, shade: cell.shade })
    };
    let row = |row| tactics.iter().map(|tactic| cell(tactic, row)).collect();
    render(&CoveragePage {
        frame: Frame::new(&live, "/rules"),
        as_of: Stamp::of(coverage.as_of),
        rules: coverage.rules,
        unnamed: coverage.unnamed,
        techniques,
        grid: (0..deepest).map(row).collect(),
        tactics,
    })
}

fn tactic_of(tactic: &TacticCoverage, live: &Live, alerts: &BTreeMap<String, u64>) -> Tactic {
    let id = tactic.id.clone().unwrap_or_else(|| "none".to_owned());
    let mut rules: Vec<&String> = tactic.techniques.iter().flat_map(|technique| &technique.rules).collect();
    rules.sort_unstable();
    rules.dedup();
    Tactic {
        name: tactic.name.clone(),
        url: tactic.id.as_ref().map(|id| format!("https://attack.mitre.org/tactics/{id}/")),
        rules: rules.len(),
        cells: tactic.techniques.iter().map(|technique| cell_of(technique, &id, live, alerts)).collect(),
        id,
    }
}

fn cell_of(technique: &TechniqueCoverage, tactic: &str, live: &Live, alerts: &BTreeMap<String, u64>) -> Cell {
    let title = |id: &String| live.rule(id).map_or_else(|| id.clone(), |rule| rule.title.clone());
    let count = technique.rules.len();
    Cell {
        id: technique.id.clone(),
        place: format!("{tactic}-{}", technique.id),
        name: technique.name.clone().unwrap_or_else(|| "A technique not known here".to_owned()),
        url: technique.url.clone(),
        count,
        shade: count.clamp(1, 4),
        href: href("/rules", &[("technique", &technique.id)]),
        alerts: words::number(technique.rules.iter().filter_map(|id| alerts.get(id)).sum()),
        rules: technique.rules.iter().map(|id| (segment("/rules/", id), title(id))).collect(),
    }
}
