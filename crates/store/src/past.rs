//! The past of a row: as it was at a `seq`, which is what a link of yesterday shows.
//!
//! In: a row's id, a place in commit order. Out: the row as it was. Invariants: what has not changed since is what it is; triage comes
//! from the audit log, bodies from the differences that each revision keeps; where points of the course are not kept any more,
//! the oldest that can be made is given, and said to be that; a row that was not there yet is not there.

use serde_json::Value;
use sqlx::Row;
use vedette_event::{Micros, Severity};

use crate::{
    alerts::unsigned,
    error::Error,
    model::{AlertRow, AuditEntry, PastRow, RowState, Status, Triage, Withdrawal, Withdrawn},
    store::Store,
    techniques,
    then::snoozed::Snoozed,
    transaction::{WriteTx, minute},
    triage::{Closing, Handled, audit_entry},
};

/// The analysts' side of a row at some time.
struct Handling {
    triage: Triage,
    recurred: bool,
    withdrawn: Option<Withdrawn>,
    case: Option<i64>,
    closing: Option<Closing>,
}

impl Handling {
    /// What the entries up to some time, in order, come to.
    fn after(entries: &[AuditEntry]) -> Self {
        let triage = Triage::fresh();
        let mut handling = Self { triage, recurred: false, withdrawn: None, case: None, closing: None };
        for entry in entries {
            let to = entry.to.as_deref().unwrap_or_default();
            match entry.action.as_str() {
                "triage" | "recurred" | "inherited" => {
                    if let Ok(handled) = serde_json::from_str::<Handled>(to) {
                        let closed = handled.triage.status == Status::Closed;
                        let before = entry.action == "recurred" || (handling.recurred && !closed);
                        handling.recurred = handled.recurred.unwrap_or(before);
                        (handling.triage, handling.closing) = (handled.triage, handled.closing);
                    }
                }
                "withdrawn" => {
                    let reason = serde_json::from_str::<String>(to).ok();
                    let reason = reason.as_deref().and_then(Withdrawal::parse);
                    handling.withdrawn = reason.map(|reason| Withdrawn { reason, at: entry.at });
                    handling.triage.status = Status::Closed;
                }
                "case" => {
                    let state = serde_json::from_str::<Value>(to).ok();
                    handling.case = state.as_ref().and_then(|state| state.get("case")?.as_i64());
                }
                _ => {}
            }
        }
        handling
    }
}

impl Store {
    /// An alert or a notice as it was at `seq`; for a notice that was covered by then, its alert. None if it was not there yet.
    pub async fn alert_at(&self, id: &str, seq: i64) -> Result<Option<PastRow>, Error> {
        let row = sqlx::query("select covered_by, seq, created_seq from alerts where id = $1").bind(id);
        let Some(row) = row.fetch_optional(&self.inner.readers).await? else { return Ok(None) };
        if row.try_get::<i64, _>("created_seq")? > seq {
            return Ok(None);
        }
        let covered_by: Option<String> = row.try_get("covered_by")?;
        let covered = covered_by.filter(|_| row.try_get::<i64, _>("seq").is_ok_and(|at| at <= seq));
        let Some(row) = self.own_row(covered.as_deref().unwrap_or(id)).await? else { return Ok(None) };
        self.as_it_was(row, seq).await.map(Some)
    }

    /// A row as it was at `seq`, from what it is.
    pub(crate) async fn as_it_was(&self, mut row: AlertRow, seq: i64) -> Result<PastRow, Error> {
        if row.seq <= seq {
            return Ok(PastRow { row, exact: true });
        }
        let mut exact = true;
        if row.state != RowState::Notice {
            let past = self.body_at(&row.id, (row.revision, &row.body), seq).await?;
            exact = past.exact;
            if past.revision != row.revision {
                told(&mut row, &past.body);
                row.revision = past.revision;
                row.body = past.body;
            }
        }
        let entries = sqlx::query(
            "select seq, at, actor, action, target, before, after, change_id from audit where target = $1 and seq <= $2 order by seq",
        );
        let entries = entries.bind(&row.id).bind(seq).fetch_all(&self.inner.readers).await?;
        let entries = entries.iter().map(audit_entry).collect::<Result<Vec<_>, _>>()?;
        let handling = Handling::after(&entries);
        (row.triage, row.recurred, row.withdrawn) = (handling.triage, handling.recurred, handling.withdrawn);
        row.case = handling.case;
        row.since_closed = handling.closing.map(|closing| {
            let shown = if closing.here { unsigned(closing.count) } else { 0 };
            row.count.saturating_sub(shown)
        });
        row.snooze = self.snooze_at(&row, &entries, seq).await?;
        let covers = sqlx::query("select id from alerts where covered_by = $1 and seq <= $2 order by id");
        let covers = covers.bind(&row.id).bind(seq).fetch_all(&self.inner.readers).await?;
        row.covers = covers.iter().map(|row| row.try_get("id")).collect::<Result<_, _>>()?;
        if let Some(successor) = &row.successor
            && self.there_at(std::slice::from_ref(successor), seq).await?.is_empty()
        {
            row.successor = None;
        }
        row.seq = seq;
        Ok(PastRow { row, exact })
    }

    /// The snooze that hid a row then.
    async fn snooze_at(
        &self,
        row: &AlertRow,
        entries: &[AuditEntry],
        seq: i64,
    ) -> Result<Option<i64>, Error> {
        if row.entity.is_none() {
            return Ok(None);
        }
        let mut reader = self.inner.readers.acquire().await?;
        let snoozed = Snoozed::read(&mut reader, seq).await?;
        let Some(began) = snoozed.of(&row.rule_id, row.entity.as_ref(), row.severity) else {
            return Ok(None);
        };
        let before =
            entries.get(..entries.partition_point(|entry| entry.seq <= began.seq)).unwrap_or_default();
        if Handling::after(before).triage.status != Status::Closed {
            return Ok(Some(began.id));
        }
        // What was closed when it began was passed by, until it was written again.
        let written = sqlx::query(
            "select max(seq) as seq from (select seq from alert_revisions where id = $1 and seq <= $2 union all \
             select created_seq from alerts where id = $1) as places",
        );
        let written = written.bind(&row.id).bind(seq).fetch_one(&mut *reader).await?;
        let since: Option<i64> = written.try_get("seq")?;
        Ok(since.filter(|since| *since > began.seq).map(|_| began.id))
    }

    /// The `seq` that a time stands for, to the minute: all that had been committed when its minute began or, where nothing was
    /// in that minute, before. None if nothing is known of that time any more.
    pub async fn seq_at(&self, time: Micros) -> Result<Option<i64>, Error> {
        // The first change at or after that minute came behind all that was before it.
        let row = sqlx::query("select seq from minutes where minute >= $1 order by minute limit 1")
            .bind(minute(time));
        if let Some(row) = row.fetch_optional(&self.inner.readers).await? {
            return Ok(Some(row.try_get("seq")?));
        }
        let any = sqlx::query("select count(*) as n from minutes").fetch_one(&self.inner.readers).await?;
        if unsigned(any.try_get("n")?) == 0 { Ok(None) } else { self.newest_seq().await.map(Some) }
    }
}

impl WriteTx {
    /// Notes the newest `seq` before the first change of a minute: some twenty bytes for each minute in which something changed.
    pub(crate) async fn note_minute(&mut self) -> Result<(), Error> {
        if self.minute_noted() {
            return Ok(());
        }
        let before = self.first_seq;
        let note =
            sqlx::query("insert into minutes (minute, seq) values ($1, $2) on conflict (minute) do nothing");
        self.run(note.bind(minute(self.now)).bind(before)).await.map(drop)
    }
}

/// Takes from a body what a row tells of it.
fn told(row: &mut AlertRow, body: &str) {
    let Ok(Value::Object(body)) = serde_json::from_str(body) else { return };
    let text = |name: &str| body.get(name).and_then(Value::as_str);
    if let Some(state) = text("state").and_then(RowState::parse) {
        row.state = state;
    }
    if let Some(severity) = text("severity").and_then(Severity::parse) {
        row.severity = severity;
    }
    if let Some(time) = text("last_seen").and_then(Micros::parse_rfc3339) {
        row.last_seen = time;
    }
    if let Some(summary) = text("summary") {
        summary.clone_into(&mut row.summary);
    }
    if let Some(count) = body.get("count").and_then(Value::as_u64) {
        row.count = count;
    }
    let Some(rule) = body.get("rule") else { return };
    if let Some(title) = rule.get("title").and_then(Value::as_str) {
        title.clone_into(&mut row.rule_title);
    }
    if let Some(tags) = rule.get("tags").and_then(Value::as_array) {
        let tags: Vec<String> = tags.iter().filter_map(|tag| tag.as_str().map(str::to_owned)).collect();
        row.techniques = techniques::named(&tags).split_whitespace().map(str::to_owned).collect();
    }
}
