//! Hunts: SQL over events, asked and followed.
//!
//! In: a text, times, how many rows, who asks. Out: a [`Hunt`], whose rows come piece by piece. Invariants: each is in the audit log before
//! it reads anything and when it is over, however it ends; so many are under way at once, and of one caller fewer; one whose
//! asker has gone is stopped; each answer says how far it is complete and what is missing.

pub(crate) mod draft;
pub(crate) mod saved;
pub(crate) mod schedule;
pub(crate) mod text;

use std::{io, sync::Arc};

use futures::{Stream, StreamExt as _};
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::ToSchema;
use vedette_event::Micros;
use vedette_store::{HUNT_ENDED, Store, model::AuditQuery};

use super::filter::time;
use crate::{
    access::Permission,
    app::App,
    auth::Caller,
    hunting::{HuntDocument, Known, State},
    hunts::{Begun, Form, HuntSchema, Hunts, MAX_ROWS, Piece, Question, Refusal, Why},
    metrics::now,
    problem::{Kind, Problem, short},
    shape,
    shares::Share,
};

/// Rows unless asked otherwise.
const ROWS: usize = 1_000;
/// Bytes of a text: what the parser takes.
pub(crate) const MAX_SQL: usize = 64 << 10;

/// A hunt to be.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct HuntBody {
    /// One `select`, `with … select` or `explain`, at most 65,536 bytes.
    #[schema(min_length = 1, max_length = 65_536, example = "select count(*) from events")]
    pub sql: String,
    /// Only events of this source.
    #[serde(default)]
    pub source: Option<String>,
    /// Only events of this time or later (RFC 3339).
    #[schema(value_type = Option<String>, format = DateTime)]
    #[serde(default)]
    pub since: Option<String>,
    /// Only events before this time (RFC 3339).
    #[schema(value_type = Option<String>, format = DateTime)]
    #[serde(default)]
    pub until: Option<String>,
    /// Rows at most. Default: 1,000.
    #[schema(value_type = Option<shape::HuntLimit>)]
    #[serde(default)]
    pub limit: Option<usize>,
}

impl HuntBody {
    /// What is asked, checked as far as its text need not be read; `originals` says whether the asker may see records as they came.
    pub(crate) fn question(&self, form: Form, originals: bool) -> Result<Question, Problem> {
        let invalid = |detail: String| Problem::new(Kind::InvalidBody, detail);
        if self.sql.trim().is_empty() || self.sql.len() > MAX_SQL {
            return Err(invalid(format!("`sql` must be 1 to {MAX_SQL} bytes.")));
        }
        let rows = self.limit.unwrap_or(ROWS);
        if !(1..=MAX_ROWS).contains(&rows) {
            return Err(invalid(format!("`limit` must be 1 to {MAX_ROWS} rows.")));
        }
        let (since, until) = (time("since", self.since.as_deref())?, time("until", self.until.as_deref())?);
        if let (Some(since), Some(until)) = (since, until)
            && since >= until
        {
            return Err(invalid("`since` must lie before `until`.".to_owned()));
        }
        Ok(Question {
            sql: self.sql.clone(),
            source: self.source.clone(),
            since,
            until,
            rows,
            form,
            originals,
        })
    }
}

/// What the audit log says of a question.
fn written(question: &Question) -> String {
    let Question { sql, source, since, until, rows, .. } = question;
    json!({"sql": sql, "source": source, "since": since, "until": until, "limit": rows}).to_string()
}

/// A hunt under way.
pub(crate) struct Hunt {
    begun: Begun,
    form: Form,
    record: Record,
    over: bool,
}

/// What is noted of a hunt, at the latest when it is dropped.
struct Record {
    known: Arc<Known>,
    store: Store,
    asked: String,
    noted: bool,
    /// Given back when the end is noted.
    place: Option<Share>,
}

/// Begins a hunt.
pub(crate) async fn begin(
    app: &Arc<App>,
    body: &HuntBody,
    form: Form,
    caller: &Caller,
) -> Result<Hunt, Problem> {
    let question = body.question(form, caller.may(Permission::Originals))?;
    let hunts = asked(app)?;
    let place = app.hunting.places.take(caller)?;
    let asked = written(&question);
    let id = app.store.begin_hunt(&caller.name, asked.clone()).await?;
    let known = app.hunting.known(id, caller, &question, now());
    let mut record = Record { known, store: app.store.clone(), asked, noted: false, place: Some(place) };
    match hunts.ask(question).await {
        Ok(begun) => {
            record.known.begins(&begun);
            Ok(Hunt { begun, form, record, over: false })
        }
        Err(refusal) => {
            record.known.ends(State::of(&refusal), None, Some(&refusal));
            record.note().await;
            Err(refusal.into())
        }
    }
}

/// By whom hunts are run.
fn asked(app: &App) -> Result<&Hunts, Problem> {
    app.hunts.as_ref().ok_or_else(|| Problem::new(Kind::NotReady, "This service answers no hunts."))
}

/// What there is to ask.
pub(crate) fn schema(app: &App) -> Result<HuntSchema, Problem> {
    Ok(asked(app)?.schema()?)
}

impl Hunt {
    /// Its number.
    pub fn id(&self) -> i64 {
        self.record.known.id
    }

    /// What it rests on and its columns.
    pub fn begun(&self) -> &Begun {
        &self.begun
    }

    /// The pieces as they go out, `first` in front. An answer that breaks off says so: in JSON by its last line, elsewhere by a connection
    /// that breaks off, too.
    pub fn pieces(self, first: Vec<u8>) -> impl Stream<Item = io::Result<Vec<u8>>> {
        let rest = futures::stream::unfold(self, |mut hunt| async move {
            let piece = match hunt.next().await? {
                Err(_) if hunt.form == Form::Ndjson => Ok(hunt.last_line()),
                piece => piece.map_err(|problem| io::Error::other(problem.detail().to_owned())),
            };
            Some((piece, hunt))
        });
        futures::stream::iter((!first.is_empty()).then_some(Ok(first))).chain(rest)
    }

    /// The next piece; nothing when all is told. After an error nothing comes.
    pub async fn next(&mut self) -> Option<Result<Vec<u8>, Problem>> {
        if self.over {
            return None;
        }
        let piece = self.begun.pieces.recv().await;
        match piece {
            Some(Piece::Written(rows, bytes)) => {
                self.record.known.counts(rows);
                Some(Ok(bytes))
            }
            Some(Piece::Values(_)) => Some(Ok(Vec::new())),
            Some(Piece::End { more, mut written }) => {
                self.ends(State::Done, Some(more), None).await;
                if self.form == Form::Ndjson {
                    written.extend(self.last_line());
                }
                Some(Ok(written))
            }
            Some(Piece::Failed(refusal)) => self.fails(refusal).await,
            None => self.fails(Refusal::broken()).await,
        }
    }

    /// All rows as values; whether there are more.
    pub async fn values(&mut self) -> Result<(Vec<Vec<Value>>, bool), Problem> {
        let mut all = Vec::new();
        loop {
            match self.begun.pieces.recv().await {
                Some(Piece::Values(rows)) => {
                    self.record.known.counts(rows.len());
                    all.extend(rows);
                }
                Some(Piece::Written(..)) => {}
                Some(Piece::End { more, .. }) => {
                    self.ends(State::Done, Some(more), None).await;
                    return Ok((all, more));
                }
                Some(Piece::Failed(refusal)) => {
                    self.ends(State::of(&refusal), None, Some(&refusal)).await;
                    return Err(refusal.into());
                }
                None => {
                    let refusal = Refusal::broken();
                    self.ends(State::Failed, None, Some(&refusal)).await;
                    return Err(refusal.into());
                }
            }
        }
    }

    /// What is known of it.
    pub fn document(&self) -> HuntDocument {
        self.record.known.document()
    }

    async fn fails(&mut self, refusal: Refusal) -> Option<Result<Vec<u8>, Problem>> {
        self.ends(State::of(&refusal), None, Some(&refusal)).await;
        Some(Err(refusal.into()))
    }

    async fn ends(&mut self, state: State, more: Option<bool>, refusal: Option<&Refusal>) {
        self.over = true;
        self.record.known.ends(state, more, refusal);
        self.record.note().await;
    }

    fn last_line(&self) -> Vec<u8> {
        let mut line = json!({"vedette.hunt": self.record.known.document()}).to_string().into_bytes();
        line.push(b'\n');
        line
    }
}

impl Record {
    /// Notes the end. A store that does not take it is told to the log: the answer is out.
    async fn note(&mut self) {
        self.noted = true;
        let (id, by) = (self.known.id, self.known.by.clone());
        let ended = self.known.ended().to_string();
        if let Err(error) = self.store.end_hunt(id, &by, self.asked.clone(), ended).await {
            tracing::error!(
                hunt = id,
                error = &error as &dyn std::error::Error,
                "the end of a hunt is not in the audit log"
            );
        }
        self.place = None;
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        if self.noted {
            return;
        }
        self.known.stop();
        self.known.ends(State::Abandoned, None, None);
        let (id, by, ended) = (self.known.id, self.known.by.clone(), self.known.ended().to_string());
        let (store, asked, place) = (self.store.clone(), std::mem::take(&mut self.asked), self.place.take());
        // Nobody waits for it, and it is stopped; that it was asked is noted already.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                if let Err(error) = store.end_hunt(id, &by, asked, ended).await {
                    tracing::error!(
                        hunt = id,
                        error = &error as &dyn std::error::Error,
                        "the end of a hunt is not in the audit log"
                    );
                }
                drop(place);
            });
        }
    }
}

/// A hunt of the past, as the audit log has it.
pub(crate) struct Past {
    pub at: Micros,
    pub sql: String,
    pub source: Option<String>,
    pub since: Option<String>,
    pub until: Option<String>,
    pub state: String,
    pub rows: u64,
    pub more: bool,
}

/// The last hunts of one's own, each text once, the newest first.
pub(crate) async fn history(app: &App, caller: &Caller, most: usize) -> Result<Vec<Past>, Problem> {
    let query = AuditQuery {
        actor: Some(caller.name.clone()),
        action: Some(HUNT_ENDED.to_owned()),
        // Some are asked again and again, and some are ours.
        limit: 100,
        ..AuditQuery::default()
    };
    let mut all: Vec<Past> = Vec::new();
    for entry in app.store.audit(&query).await?.items {
        let read = |text: Option<String>| text.and_then(|text| serde_json::from_str::<Value>(&text).ok());
        let (Some(asked), Some(ended)) = (read(entry.from), read(entry.to)) else { continue };
        let text = |name: &str| asked[name].as_str().map(str::to_owned);
        let Some(sql) = text("sql").filter(|sql| !text::is_ours(sql)) else { continue };
        if all.len() < most && all.iter().all(|other| other.sql != sql) {
            all.push(Past {
                at: entry.at,
                sql,
                source: text("source"),
                since: text("since"),
                until: text("until"),
                state: ended["state"].as_str().unwrap_or_default().to_owned(),
                rows: ended["rows"].as_u64().unwrap_or_default(),
                more: ended["more"] == true,
            });
        }
    }
    Ok(all)
}

impl Refusal {
    fn broken() -> Self {
        let message = "The hunt broke down; the log says why.".to_owned();
        Self { why: Why::Fault, message, place: None, pointed: None }
    }
}

impl From<Refusal> for Problem {
    fn from(Refusal { why, message, place, pointed }: Refusal) -> Self {
        let kind = match why {
            Why::Query => Kind::InvalidQuery,
            Why::Forbidden => Kind::Forbidden,
            Why::Cost => Kind::TooCostly,
            Why::Time => Kind::Timeout,
            Why::Stopped => Kind::Stopped,
            Why::Unavailable => Kind::NotReady,
            Why::Fault => Kind::Internal,
        };
        let mut problem = Self::new(kind, message);
        if let Some((line, column)) = place {
            problem = problem.member("line", line.into()).member("column", column.into());
        }
        match pointed {
            Some(pointed) => problem.member("pointed", pointed.into()),
            None => problem,
        }
    }
}

/// Stops a hunt of one's own; admins stop anybody's.
pub(crate) fn stop(app: &App, id: &str, caller: &Caller) -> Result<(), Problem> {
    one(app, id, caller)?.stop();
    Ok(())
}

/// What is known of a hunt of one's own; admins see anybody's.
pub(crate) fn one(app: &App, id: &str, caller: &Caller) -> Result<Arc<Known>, Problem> {
    let found = id.parse().ok().and_then(|id| app.hunting.find(id)).filter(|known| known.is_for(caller));
    found.ok_or_else(|| {
        let detail = format!("There is no hunt `{}` of yours that is under way or ended lately.", short(id));
        Problem::new(Kind::NotFound, detail)
    })
}
