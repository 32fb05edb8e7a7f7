//! The result of a check, for people and for machines.
//!
//! In: refusals, warnings and test results. Out: text, JSON, SARIF 2.1.0 or JUnit XML on standard output.

use std::{
    collections::BTreeMap,
    io::{self, IsTerminal as _, Write as _},
};

use serde_json::{Value, json};
use vedette_sigma::{Rejection, Style};

use super::{Checked, Outcome, RuleMemory, TestResult};
use crate::{content::RuleText, rejected::colour_on, table};

/// For people: carets under what is wrong, one line a failed test, one line of summary.
pub fn text(checked: &Checked<'_>, text: &RuleText, room: &RuleMemory) -> io::Result<()> {
    let Checked { rules, results, playbooks } = *checked;
    let mut out = io::stdout().lock();
    say_messages(&rules.rejected, &rules.warnings, text, &mut out)?;
    say_messages(&playbooks.set.rejected, &playbooks.set.warnings, &playbooks.text, &mut out)?;
    for result in results {
        if let Outcome::Failed(why) = &result.outcome {
            let rule = rules.get(result.rule);
            let (file, line, name, title) = (&rule.file, result.line, &result.name, &rule.title);
            let told = format!("{file}:{line}: test `{name}` of `{title}` failed: {why}");
            writeln!(out, "{}", table::plain_lines(&told))?;
        }
    }
    for (playbook, trial, why) in playbooks.failures() {
        let (file, line) = (&playbook.file, trial.line);
        let told = format!("{file}:{line}: test `{}` of `{}` failed: {why}", trial.name, playbook.title);
        writeln!(out, "{}", table::plain_lines(&told))?;
    }
    say_room(room, &mut out)?;
    let failed = failures(results);
    writeln!(
        out,
        "{} rules accepted, {} refused, {} warnings; {} tests passed, {failed} failed",
        rules.rules.len(),
        rules.rejected.len(),
        rules.warnings.len(),
        results.len() - failed,
    )?;
    let untested = rules.rules.iter().filter(|r| r.emits && r.tests.is_empty()).count();
    if untested > 0 {
        writeln!(out, "{untested} rules have no tests")?;
    }
    if playbooks.text.files.is_empty() {
        return Ok(());
    }
    let failed = playbooks.failed();
    writeln!(
        out,
        "{} playbooks accepted, {} refused, {} warnings; {} tests passed, {failed} failed",
        playbooks.set.playbooks.len(),
        playbooks.set.rejected.len(),
        playbooks.set.warnings.len(),
        playbooks.trials.len() - failed,
    )
}

/// Refusals and warnings with carets.
fn say_messages(
    refused: &[Rejection],
    warnings: &[Rejection],
    text: &RuleText,
    out: &mut io::StdoutLock<'_>,
) -> io::Result<()> {
    let color = colour_on(out.is_terminal());
    let refused = refused.iter().map(|r| (r, false));
    // A file can have a message for each of its lines, so they are found once.
    let mut files: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (rejection, warning) in refused.chain(warnings.iter().map(|w| (w, true))) {
        let style = Style { warning, color };
        let lines = files
            .entry(&rejection.file)
            .or_insert_with(|| vedette_sigma::lines(text.text_of(&rejection.file)).collect());
        let line = lines.get(rejection.line.saturating_sub(1)).copied();
        writeln!(out, "{}", vedette_sigma::render_at(rejection, line, style))?;
    }
    Ok(())
}

/// What the rules may hold on this machine: how many keys, from the fewest to the most.
fn say_room(room: &RuleMemory, out: &mut impl io::Write) -> io::Result<()> {
    let keys = || room.entries.iter().map(|(_, entries)| entries * usize::from(vedette_engine::KEY_GROUPS));
    let (Some(few), Some(many)) = (keys().min(), keys().max()) else { return Ok(()) };
    let mib = room.budget >> 20;
    let keys = if few == many { few.to_string() } else { format!("{few} to {many}") };
    writeln!(
        out,
        "with {mib} MiB of memory each rule may hold {keys} keys with one event; --format json says how many each"
    )
}

fn failures(results: &[TestResult]) -> usize {
    results.iter().filter(|r| r.outcome != Outcome::Passed).count()
}

fn place(r: &Rejection) -> Value {
    json!({"file": &*r.file, "line": r.line, "column": r.column, "rule_id": r.rule_id.as_deref(),
           "code": r.code, "message": r.message, "help": r.help})
}

/// One JSON object.
pub fn json(checked: &Checked<'_>, room: &RuleMemory) -> io::Result<()> {
    let Checked { rules, results, playbooks } = *checked;
    let tests: Vec<_> = results
        .iter()
        .map(|r| {
            let rule = rules.get(r.rule);
            let why = if let Outcome::Failed(why) = &r.outcome { Some(why) } else { None };
            json!({"rule_id": &*rule.id, "file": &*rule.file, "line": r.line, "name": &*r.name,
                   "passed": why.is_none(), "failure": why})
        })
        .collect();
    let trials = playbooks.trials.iter().filter_map(|(at, trial)| {
        let playbook = playbooks.set.playbooks.get(*at)?;
        Some(json!({"playbook": &*playbook.name, "file": &*playbook.file, "line": trial.line, "name": &*trial.name,
                    "passed": trial.failed.is_none(), "failure": trial.failed}))
    });
    let trials: Vec<Value> = trials.collect();
    let report = json!({
        "accepted": rules.rules.len(),
        "rejected": rules.rejected.iter().map(place).collect::<Vec<_>>(),
        "warnings": rules.warnings.iter().map(place).collect::<Vec<_>>(),
        "tests": tests,
        "playbooks": {
            "accepted": playbooks.set.playbooks.len(),
            "rejected": playbooks.set.rejected.iter().map(place).collect::<Vec<_>>(),
            "warnings": playbooks.set.warnings.iter().map(place).collect::<Vec<_>>(),
            "tests": trials,
        },
        "memory": {
            "budget": room.budget,
            "entries": room.entries.iter().map(|(id, n)| json!({"rule_id": &**id, "entries": n})).collect::<Vec<_>>(),
        },
    });
    print(&report)
}

/// SARIF 2.1.0, for code hosts that show findings beside the lines.
pub fn sarif(checked: &Checked<'_>) -> io::Result<()> {
    let Checked { rules, results, playbooks } = *checked;
    let result = |level: &str, code: &str, message: &str, file: &str, line: usize, column: usize| {
        json!({"ruleId": code, "level": level, "message": {"text": message},
               "locations": [{"physicalLocation": {"artifactLocation": {"uri": uri(file)},
                   "region": {"startLine": line, "startColumn": column}}}]})
    };
    let of = |level: &'static str| {
        move |r: &Rejection| {
            let help = r.help.as_ref().map_or(String::new(), |h| format!(" ({h})"));
            result(level, r.code, &format!("{}{help}", r.message), &r.file, r.line, r.column)
        }
    };
    let refused = rules.rejected.iter().chain(&playbooks.set.rejected);
    let mut all: Vec<Value> = refused.map(of("error")).collect();
    all.extend(rules.warnings.iter().chain(&playbooks.set.warnings).map(of("warning")));
    for r in results {
        if let Outcome::Failed(why) = &r.outcome {
            let message = format!("test `{}` failed: {why}", r.name);
            all.push(result("error", "test-failed", &message, &rules.get(r.rule).file, r.line, 1));
        }
    }
    for (playbook, trial, why) in playbooks.failures() {
        let message = format!("test `{}` failed: {why}", trial.name);
        all.push(result("error", "test-failed", &message, &playbook.file, trial.line, 1));
    }
    print(&json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{"tool": {"driver": {"name": "vedette", "version": env!("CARGO_PKG_VERSION")}}, "results": all}],
    }))
}

/// A path as a relative URI.
fn uri(path: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"/-._~".contains(&b);
    path.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

/// JUnit XML: one test case a refused document and a test.
pub fn junit(checked: &Checked<'_>) -> io::Result<()> {
    let Checked { rules, results, playbooks } = *checked;
    let mut out = io::stdout().lock();
    let refused = || rules.rejected.iter().chain(&playbooks.set.rejected);
    let failed = failures(results) + playbooks.failed() + refused().count();
    let total = results.len() + playbooks.trials.len() + refused().count();
    writeln!(out, r#"<?xml version="1.0" encoding="UTF-8"?>"#)?;
    writeln!(out, r#"<testsuite name="vedette check" tests="{total}" failures="{failed}">"#)?;
    for r in refused() {
        let place = format!("{}:{}:{}", r.file, r.line, r.column);
        case(&mut out, (&r.file, "loads"), Some((&r.message, &place)))?;
    }
    for r in results {
        let rule = rules.get(r.rule);
        let place = format!("{}:{}", rule.file, r.line);
        let why =
            if let Outcome::Failed(why) = &r.outcome { Some((why.as_str(), place.as_str())) } else { None };
        case(&mut out, (&rule.id, &r.name), why)?;
    }
    for (at, trial) in &playbooks.trials {
        let Some(playbook) = playbooks.set.playbooks.get(*at) else { continue };
        let place = format!("{}:{}", playbook.file, trial.line);
        let why = trial.failed.as_deref().map(|why| (why, place.as_str()));
        case(&mut out, (&playbook.name, &trial.name), why)?;
    }
    writeln!(out, "</testsuite>")
}

/// One test case: its class and name, and, where it failed, why and at which place.
fn case(
    out: &mut impl io::Write,
    (class, name): (&str, &str),
    failure: Option<(&str, &str)>,
) -> io::Result<()> {
    write!(out, r#"  <testcase classname="{}" name="{}""#, xml(class), xml(name))?;
    let Some((why, place)) = failure else { return writeln!(out, "/>") };
    writeln!(out, ">")?;
    writeln!(out, r#"    <failure message="{}">{}</failure>"#, xml(why), xml(place))?;
    writeln!(out, "  </testcase>")
}

/// Text as it may stand in XML: markup escaped, characters that XML cannot hold replaced.
fn xml(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\n' => escaped.push_str("&#10;"),
            c if c < ' ' && c != '\t' => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}

fn print(value: &Value) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let text = serde_json::to_string_pretty(value)?;
    let text = if out.is_terminal() { table::escaped(&text) } else { text };
    writeln!(out, "{text}")
}

#[cfg(test)]
mod tests {
    use super::{uri, xml};

    #[test]
    fn a_path_becomes_a_uri() {
        assert_eq!(uri("rules/my rule:é.yml"), "rules/my%20rule%3A%C3%A9.yml");
    }

    #[test]
    fn xml_holds_no_markup_of_ours() {
        assert_eq!(xml("a<b>&\"\u{1}"), "a&lt;b&gt;&amp;&quot;\u{fffd}");
    }
}
