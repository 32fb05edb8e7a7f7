//! A report for people: what stretch, what it cost, each rule, the keys that are loud.

use std::io::{self, Write};

use vedette_api::backtests::{OfKey, OfRule, Outcome, Report};
use vedette_event::Micros;

use crate::table;

/// Days that are shown one by one; of more the busiest.
const DAYS: usize = 14;

/// Writes a report.
pub fn print(out: &mut impl Write, report: &Report) -> io::Result<()> {
    let Report { from, through, events, seconds, nanoseconds_an_event, alerts, .. } = report;
    let from = from.map_or_else(|| "the lake's first event".to_owned(), |from| from.to_string());
    let cost = nanoseconds_an_event / 1_000.0;
    writeln!(out, "{alerts} alerts from {from} through {through}")?;
    writeln!(out, "{events} events in {seconds:.1} s; {cost:.2} µs of processor time an event\n")?;
    if *alerts > 0 {
        let mut days: Vec<(&String, &u64)> = report.days.iter().collect();
        if days.len() > DAYS {
            days.sort_by_key(|(day, n)| (std::cmp::Reverse(**n), *day));
            days.truncate(DAYS);
        }
        let rows = days.iter().map(|(day, n)| vec![(*day).clone(), n.to_string()]);
        writeln!(out, "{}\n", table::of(&["day", "alerts"], &rows.collect::<Vec<_>>()))?;
    }
    let heads = ["rule", "alerts", "a day", "most in a day", "keys", "fired then", "new", "no longer"];
    let rows: Vec<_> = report.rules.iter().map(rule).collect();
    writeln!(out, "{}", table::of(&heads, &rows))?;
    let keys: Vec<Vec<String>> = report
        .rules
        .iter()
        .flat_map(|rule| rule.noisiest.iter().map(move |of| (rule, of)))
        .filter(|(_, of)| of.alerts > 1)
        .map(|(rule, of)| key(rule, of))
        .collect();
    if !keys.is_empty() {
        let heads = ["rule", "key", "an exception would have hidden", "of these fired then"];
        writeln!(out, "\n{}", table::of(&heads, &keys))?;
    }
    for note in report.notes.iter().chain(&report.not_tried) {
        writeln!(out, "\n{}", table::plain(note))?;
    }
    Ok(())
}

fn rule(rule: &OfRule) -> Vec<String> {
    let most = rule.busiest_day.as_ref().map(|day| format!("{} on {day}", rule.most_in_a_day));
    vec![
        rule.title.clone(),
        rule.alerts.to_string(),
        rule.a_day.to_string(),
        most.unwrap_or_else(|| "-".to_owned()),
        rule.keys.to_string(),
        outcome(&rule.fired_then),
        (rule.alerts - rule.fired_then.alerts.min(rule.alerts)).to_string(),
        outcome(&rule.no_longer),
    ]
}

fn key(rule: &OfRule, of: &OfKey) -> Vec<String> {
    let part = of.alerts as f64 * 100.0 / rule.alerts.max(1) as f64;
    let hidden = format!("{} ({part:.0} %)", of.alerts);
    vec![rule.title.clone(), table::pairs(&of.key), hidden, outcome(&of.fired_then)]
}

/// `12: 3 true positive, 9 open`.
fn outcome(of: &Outcome) -> String {
    if of.alerts == 0 {
        return "-".to_owned();
    }
    let parts: Vec<String> = of.parts().map(|(n, what)| format!("{n} {what}")).collect();
    format!("{}: {}", of.alerts, parts.join(", "))
}

/// What the lake lacks of a stretch, in words.
pub fn lacking(first: Micros, read_from: Micros) -> Option<String> {
    let lacks = read_from > Micros::MIN && first > read_from;
    lacks.then(|| {
        format!(
            "The lake begins at {first}; these rules look back to {read_from} for what is asked: what began before may be missing, or count less."
        )
    })
}
