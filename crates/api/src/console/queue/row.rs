//! A row of the queue: what one sees of an alert or a notice before it is opened.
//!
//! In: rows of the store. Out: [`Row`]s for the page's table and, from the same template, as fragments of its stream. Invariants:
//! verdicts and courses of a page are each one question to the store; a text is cut at 300 characters; what a page of the past says and
//! leads to is of then.

use askama::Template;
use vedette_event::{Alert, Severity};
use vedette_store::{
    Then, Verdicts,
    model::{AlertRow, EntityRef, RowState},
};

use crate::{
    app::App,
    console::{Stamp, events::entity_href, href, segment, words},
    problem::Problem,
};

/// The box of a course, in pixels.
const WIDE: u64 = 48;
const HIGH: u64 = 14;

/// Whom a row is about.
pub(super) struct Whom {
    pub kind: String,
    pub value: String,
    pub href: String,
}

/// How a rule's earlier alerts on an entity turned out.
pub(in crate::console) struct Seen {
    /// `12×: 11 FP 1 TP`.
    pub text: String,
    /// The same in words.
    pub words: String,
    pub href: String,
}

impl Seen {
    /// `None` if none was closed.
    pub fn of(rule: &str, entity: &EntityRef, verdicts: Verdicts, at: Option<i64>) -> Option<Self> {
        let more = if verdicts.capped() { "+" } else { "" };
        let counts = [
            (verdicts.false_positive, "FP", "false positive"),
            (verdicts.true_positive, "TP", "true positive"),
            (verdicts.benign, "B", "benign"),
            (verdicts.duplicate, "D", "duplicate"),
            (verdicts.undecided, "?", "without a verdict"),
        ];
        let of = |long: bool| {
            let told = counts.iter().filter(|(n, ..)| *n > 0);
            let told: Vec<String> =
                told.map(|(n, short, words)| format!("{n} {}", if long { words } else { short })).collect();
            told.join(if long { ", " } else { " " })
        };
        (verdicts.total() > 0).then(|| Self {
            text: format!("{}{more}×: {}", verdicts.total(), of(false)),
            words: format!("{}{more} closed before: {}", verdicts.total(), of(true)),
            href: of_then(
                href(
                    "/",
                    &[
                        ("status", "closed"),
                        ("rule", rule),
                        ("entity", &entity.value),
                        ("entity_type", &entity.kind),
                    ],
                ),
                at,
            ),
        })
    }
}

pub(super) struct Row {
    pub id: String,
    pub href: String,
    pub version: i64,
    pub revision: u32,
    pub severity: &'static str,
    pub severity_label: String,
    pub letter: &'static str,
    pub title: String,
    pub summary: String,
    pub state: &'static str,
    pub withdrawn: bool,
    pub continued: bool,
    pub flags: Vec<String>,
    pub whom: Option<Whom>,
    pub count: String,
    /// The path of the course, if there is more than one point.
    pub course: Option<String>,
    pub seen: Option<Seen>,
    pub last_seen: Stamp,
    pub crossed_at: Stamp,
    pub status: &'static str,
    pub status_label: String,
    pub recurred: bool,
    pub since_closed: Option<String>,
    pub assignee: Option<String>,
    pub case: Option<i64>,
    /// Whether who looks may change it.
    pub triages: bool,
}

/// The row alone, for the stream.
#[derive(Template)]
#[template(path = "queue_row.html")]
struct Fragment<'a> {
    row: &'a Row,
}

impl Row {
    /// Its HTML.
    pub fn html(&self) -> Result<String, askama::Error> {
        Fragment { row: self }.render()
    }

    fn of(
        row: AlertRow,
        course: Option<&Vec<u64>>,
        verdicts: Option<Verdicts>,
        (triages, at): (bool, Option<i64>),
    ) -> Self {
        let alert: Option<Alert> = serde_json::from_str(&row.body).ok();
        let entity = row.entity.as_ref();
        let whom = entity.map(|entity| Whom {
            kind: entity.kind.clone(),
            value: words::cut(&entity.value),
            href: of_then(entity_href(&entity.kind, &entity.value), at),
        });
        Self {
            whom,
            seen: entity
                .zip(verdicts)
                .and_then(|(entity, verdicts)| Seen::of(&row.rule_id, entity, verdicts, at)),
            summary: words::cut(summary(&words::without_title(&row.summary, &row.rule_title), entity)),
            crossed_at: Stamp::of(row.crossed_at),
            last_seen: Stamp::of(row.last_seen),
            continued: alert.as_ref().is_some_and(|body| body.continuation),
            flags: alert.map(|body| words::flags(body.flags)).unwrap_or_default(),
            version: row.triage.version,
            revision: row.revision,
            severity: row.severity.name(),
            severity_label: words::label(row.severity.name()),
            letter: letter(row.severity),
            title: words::cut(&row.rule_title),
            state: row.state.name(),
            withdrawn: row.withdrawn.is_some(),
            count: if row.state == RowState::Notice { String::new() } else { words::number(row.count) },
            course: course.and_then(|course| path(course)),
            status: row.triage.status.name(),
            status_label: words::label(row.triage.status.name()),
            recurred: row.recurred,
            since_closed: row.since_closed.filter(|n| *n > 0).map(words::number),
            assignee: row.triage.assignee,
            case: row.case,
            triages,
            href: of_then(segment("/alerts/", &row.id), at),
            id: row.id,
        }
    }
}

/// The rows with their courses and what their pairs turned out to be; `triages`: whether who looks may change them.
pub(super) async fn rows(app: &App, found: Vec<AlertRow>, triages: bool) -> Result<Vec<Row>, Problem> {
    let verdicts = app.store.verdicts(&pairs(&found), None).await?;
    whole(app, found, verdicts, (triages, None)).await
}

/// The rows of a page of the past, with what was known then. They lead to what was.
pub(super) async fn past(
    app: &App,
    found: Vec<AlertRow>,
    then: &mut Then,
    seq: i64,
) -> Result<Vec<Row>, Problem> {
    let verdicts = then.verdicts(&pairs(&found)).await?;
    whole(app, found, verdicts, (false, Some(seq))).await
}

/// The rule and the entity of each row that is about somebody, in their order.
fn pairs(found: &[AlertRow]) -> Vec<(&str, &EntityRef)> {
    found.iter().filter_map(|row| Some((row.rule_id.as_str(), row.entity.as_ref()?))).collect()
}

/// The rows with the verdicts on their pairs.
async fn whole(
    app: &App,
    found: Vec<AlertRow>,
    verdicts: Vec<Verdicts>,
    how: (bool, Option<i64>),
) -> Result<Vec<Row>, Problem> {
    let of: Vec<(&str, u32)> = found.iter().map(|row| (row.id.as_str(), row.revision)).collect();
    let mut courses = app.store.courses(&of).await?;
    let mut verdicts = verdicts.into_iter();
    let mut rows = Vec::with_capacity(found.len());
    for row in found {
        let own = if row.entity.is_some() { verdicts.next() } else { None };
        let course = courses.remove(&row.id);
        rows.push(Row::of(row, course.as_ref(), own, how));
    }
    Ok(rows)
}

/// A link to the same as it was, where a page shows the past.
pub(in crate::console) fn of_then(to: String, at: Option<i64>) -> String {
    let Some(seq) = at else { return to };
    let mark = if to.contains('?') { '&' } else { '?' };
    format!("{to}{mark}as_of={seq}")
}

/// A summary beside the entity that it begins with: that is told once.
fn summary<'a>(text: &'a str, entity: Option<&EntityRef>) -> &'a str {
    let rest = entity.and_then(|entity| text.strip_prefix(&*entity.value)?.strip_prefix(' '));
    rest.unwrap_or(text)
}

const fn letter(severity: Severity) -> &'static str {
    match severity {
        Severity::Critical => "C",
        Severity::High => "H",
        Severity::Medium => "M",
        Severity::Low => "L",
        Severity::Informational => "I",
    }
}

/// How a count rose, as a path in steps of one width.
fn path(course: &[u64]) -> Option<String> {
    let most = course.iter().max().filter(|_| course.len() > 1)?;
    let y = |count: u64| {
        HIGH - (u128::from(count) * u128::from(HIGH - 2) / u128::from((*most).max(1))) as u64 - 1
    };
    let steps = course.iter().enumerate().map(|(at, count)| match at {
        0 => format!("M0 {}", y(*count)),
        at => format!("H{}V{}", at as u64 * WIDE / course.len() as u64, y(*count)),
    });
    Some(steps.chain([format!("H{WIDE}")]).collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_course_goes_in_steps_from_edge_to_edge() {
        assert_eq!(path(&[]), None);
        assert_eq!(path(&[7]), None);
        assert_eq!(path(&[0, 0]).unwrap(), "M0 13H24V13H48");
        assert_eq!(path(&[3, 6, 12]).unwrap(), "M0 10H16V7H32V1H48");
        assert!(path(&[u64::MAX, u64::MAX]).unwrap().ends_with("V1H48"));
    }

    #[test]
    fn what_was_seen_before_is_told_in_short_and_in_words() {
        let entity = EntityRef { kind: "source.ip".into(), value: "10.0.0.4".into() };
        let verdicts = Verdicts { false_positive: 11, true_positive: 1, ..Verdicts::default() };
        let told = Seen::of("r", &entity, verdicts, None).unwrap();
        assert_eq!(told.text, "12×: 11 FP 1 TP");
        assert_eq!(told.words, "12 closed before: 11 false positive, 1 true positive");
        assert_eq!(told.href, "/?status=closed&rule=r&entity=10.0.0.4&entity_type=source.ip");
        let past = Seen::of("r", &entity, verdicts, Some(7)).unwrap();
        assert_eq!(past.href, format!("{}&as_of=7", told.href));
        assert!(Seen::of("r", &entity, Verdicts::default(), None).is_none());
    }
}
