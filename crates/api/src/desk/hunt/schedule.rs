//! Kept hunts that are run again and again, and raise alerts.
//!
//! In: a kept hunt, how often, how severe, whom a row is about. Out: schedules with how far each has come. Invariants: what is refused names the
//! member and what would be right; a text is not asked here: what is wrong with it is said by the schedule, once it has run.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use vedette_event::{
    Micros, Severity, Span,
    time::{DAY, SECOND},
};
use vedette_store::model::{HuntRun, HuntSchedule, Key, Made, NewHuntSchedule, Once};

use crate::{
    app::App,
    auth::Caller,
    problem::{Kind, Problem, short},
    shape,
};

/// The shortest and the longest that a hunt may be run apart.
pub(crate) const EVERY: (Span, Span) = (Span(300 * SECOND.0), Span(7 * DAY.0));
/// Alerts of one run unless asked otherwise, and at most.
const MOST: (u32, u32) = (20, 100);
/// Characters of a title and of a summary.
const MAX_TITLE: usize = 200;
/// See [`MAX_TITLE`].
const MAX_SUMMARY: usize = 300;
/// Characters of a column's name.
const MAX_COLUMN: usize = 100;

/// A run that ended.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct HuntRunDocument {
    /// When it ended.
    #[schema(value_type = String, format = DateTime)]
    pub at: Micros,
    /// It looked at events of this time or later.
    #[schema(value_type = String, format = DateTime)]
    pub since: Micros,
    /// It looked at events before this time.
    #[schema(value_type = String, format = DateTime)]
    pub until: Micros,
    /// How long it took.
    pub seconds: f64,
    /// Rows that it found.
    pub rows: u64,
    /// There were more than a run looks at.
    pub more: bool,
    /// Alerts that they came to.
    pub alerts: u64,
    /// Bytes that were read.
    pub bytes_read: u64,
    /// All events that the broker took up to then were looked at.
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    pub complete_through: Option<Micros>,
}

impl From<HuntRun> for HuntRunDocument {
    fn from(run: HuntRun) -> Self {
        let HuntRun { at, from, until, took, rows, more, alerts, bytes_read, complete_through } = run;
        let seconds = took.0 as f64 / 1e6;
        Self { at, since: from, until, seconds, rows, more, alerts, bytes_read, complete_through }
    }
}

/// Windows that nobody looked at, and nobody will.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct PassedOverDocument {
    /// How many, in all.
    pub windows: u64,
    /// The last time: from then.
    #[schema(value_type = String, format = DateTime)]
    pub since: Micros,
    /// The last time: until before then.
    #[schema(value_type = String, format = DateTime)]
    pub until: Micros,
}

/// A kept hunt that is run again and again.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct HuntScheduleDocument {
    /// Its number.
    pub schedule_id: i64,
    /// The kept hunt's number.
    pub saved_hunt_id: i64,
    /// The kept hunt's name.
    pub name: String,
    /// What it asks.
    pub sql: String,
    /// How often, as `15m`.
    #[schema(value_type = String)]
    pub every: Span,
    /// How severe its alerts are.
    pub severity: Severity,
    /// Their title.
    pub title: String,
    /// What they say beside whom they are about.
    #[schema(required = true)]
    pub summary: Option<String>,
    /// The column that says whom a row is about.
    #[schema(required = true)]
    pub entity: Option<String>,
    /// Alerts of one run at most; what is beyond is one alert more.
    pub most_alerts: u32,
    /// It is not run for the time being.
    pub paused: bool,
    /// Who made it.
    pub created_by: String,
    /// Since when.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Micros,
    /// The next run looks at events of this time or later.
    #[schema(value_type = String, format = DateTime)]
    pub next_since: Micros,
    /// The next run looks at events before this time. It begins once the lake is complete for then, a minute or two later.
    #[schema(value_type = String, format = DateTime)]
    pub next_until: Micros,
    /// The run that ended last.
    #[schema(required = true)]
    pub last_run: Option<HuntRunDocument>,
    /// Why it does not get on, or what the last trouble was; null once a run has ended well since.
    #[schema(required = true)]
    pub error: Option<String>,
    /// Since when.
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    pub error_since: Option<Micros>,
    /// What was passed over.
    #[schema(required = true)]
    pub passed_over: Option<PassedOverDocument>,
}

impl From<HuntSchedule> for HuntScheduleDocument {
    fn from(of: HuntSchedule) -> Self {
        let NewHuntSchedule { hunt, every, severity, title, summary, entity, most } = of.schedule;
        let (error, error_since) = of.fault.unzip();
        let windows = of.passed.windows;
        Self {
            schedule_id: of.id,
            saved_hunt_id: hunt,
            name: of.name,
            sql: of.sql,
            every,
            severity,
            title,
            summary,
            entity,
            most_alerts: most,
            paused: of.paused,
            created_by: of.created_by,
            created_at: of.created_at,
            next_since: of.next_from,
            next_until: of.next_from.plus(every),
            last_run: of.last.map(Into::into),
            error,
            error_since,
            passed_over: of.passed.last.map(|(since, until)| PassedOverDocument { windows, since, until }),
        }
    }
}

/// Schedules.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct HuntScheduleList {
    /// All of them, by the hunt's name.
    pub items: Vec<HuntScheduleDocument>,
}

/// A schedule to be.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct HuntScheduleBody {
    /// The kept hunt, which must be shown to everybody who hunts.
    pub saved_hunt_id: i64,
    /// How often: a whole number and `s`, `m`, `h`, `d` or `w`, from `5m` to `7d`.
    #[schema(value_type = shape::HuntInterval, example = "15m")]
    pub every: String,
    /// How severe its alerts are.
    #[schema(value_type = shape::OneSeverity)]
    pub severity: Severity,
    /// Their title. Default: the hunt's name.
    #[schema(value_type = Option<shape::CaseTitle>)]
    #[serde(default)]
    pub title: Option<String>,
    /// What they say beside whom they are about, on one line.
    #[schema(value_type = Option<shape::HuntSummary>)]
    #[serde(default)]
    pub summary: Option<String>,
    /// The column that says whom a row is about; rows with the same value are one alert. Default: all rows are one alert.
    #[schema(value_type = Option<shape::ColumnName>)]
    #[serde(default)]
    pub entity: Option<String>,
    /// Alerts of one run at most, up to 100. Default: 20.
    #[schema(minimum = 1, maximum = 100)]
    #[serde(default)]
    pub most_alerts: Option<u32>,
}

/// A change of a schedule.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct HuntScheduleChange {
    /// Whether it is not to be run for the time being. What happens meanwhile is not looked at.
    pub paused: bool,
}

/// One line that says something, if it is there.
fn line(name: &str, text: Option<String>, most: usize) -> Result<Option<String>, Problem> {
    let text = text.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
    match text
        .as_deref()
        .is_some_and(|text| text.chars().count() > most || text.chars().any(char::is_control))
    {
        true => Err(invalid(format!("`{name}` must be at most {most} characters on one line."))),
        false => Ok(text),
    }
}

fn invalid(detail: String) -> Problem {
    Problem::new(Kind::InvalidBody, detail)
}

/// Has a kept hunt run again and again.
pub(crate) async fn begin(
    app: &App,
    body: HuntScheduleBody,
    key: Option<Key>,
    caller: &Caller,
) -> Result<Made<HuntScheduleDocument>, Problem> {
    let every = Span::parse(&body.every).filter(|every| (EVERY.0..=EVERY.1).contains(every));
    let every = every.ok_or_else(|| {
        invalid("`every` must be a whole number and `s`, `m`, `h`, `d` or `w`, from `5m` to `7d`.".to_owned())
    })?;
    let most = body.most_alerts.unwrap_or(MOST.0);
    if !(1..=MOST.1).contains(&most) {
        return Err(invalid(format!("`most_alerts` must be 1 to {}.", MOST.1)));
    }
    let title = match line("title", body.title, MAX_TITLE)? {
        Some(title) => title,
        None => {
            let kept = app.store.saved_hunts(&caller.name).await?;
            let kept = kept.into_iter().find(|kept| kept.id == body.saved_hunt_id);
            let none =
                || Problem::new(Kind::NotFound, format!("There is no saved hunt `{}`.", body.saved_hunt_id));
            kept.ok_or_else(none)?.hunt.name
        }
    };
    let new = NewHuntSchedule {
        hunt: body.saved_hunt_id,
        every,
        severity: body.severity,
        title,
        summary: line("summary", body.summary, MAX_SUMMARY)?,
        entity: line("entity", body.entity, MAX_COLUMN)?,
        most,
    };
    let answer = |made: &HuntSchedule| serde_json::to_string(&HuntScheduleDocument::from(made.clone()));
    let once = key.map(|key| Once { key, answer });
    Ok(match app.store.schedule_hunt(&new, &caller.name, once.as_ref()).await? {
        Made::New(made) => Made::New(made.into()),
        Made::Again(answer) => Made::Again(answer),
    })
}

/// All schedules.
pub(crate) async fn list(app: &App) -> Result<HuntScheduleList, Problem> {
    Ok(HuntScheduleList { items: app.store.hunt_schedules().await?.into_iter().map(Into::into).collect() })
}

fn number(id: &str) -> Result<i64, Problem> {
    let none = || Problem::new(Kind::NotFound, format!("There is no schedule of a hunt `{}`.", short(id)));
    id.parse().map_err(|_| none())
}

/// Pauses one, or lets it go on.
pub(crate) async fn change(
    app: &App,
    id: &str,
    to: &HuntScheduleChange,
    caller: &Caller,
) -> Result<HuntScheduleDocument, Problem> {
    Ok(app.store.pause_hunt_schedule(number(id)?, to.paused, &caller.name).await?.into())
}

/// Removes one.
pub(crate) async fn remove(app: &App, id: &str, caller: &Caller) -> Result<(), Problem> {
    Ok(app.store.remove_hunt_schedule(number(id)?, &caller.name).await?)
}
