//! The store as it was at a `seq`: what was listed, counted and known then.
//!
//! In: a place in commit order. Out: pages, counts and verdicts as they would have been answered then. Invariants: all that one
//! [`Then`] says is of one snapshot; rows that have not changed since are asked for in SQL as those of the present are, and those
//! that have are each made once, of a point of their course and two entries of the audit log, however much is asked; where more
//! than [`MAX_CHANGED`] have changed, that is an error and never a smaller number.
//!
//! What was open then and is not any more has changed since, so the work is that of the queue of then, not of all that is stored.

mod queue;
pub(crate) mod snoozed;
mod standing;

use std::collections::{BTreeMap, BTreeSet};

use futures::TryStreamExt as _;
use sqlx::{Any, AssertSqlSafe, Row, Transaction, any::AnyRow};
use vedette_event::{Micros, Severity};

use self::snoozed::{Began, Snoozed};
use crate::{
    alerts::{severity_of, unsigned},
    error::Error,
    filter::MAX_PAGE,
    model::{Became, EntityRef, Filter, RowState, SortKey, Status, Triage},
    search,
    store::Store,
    techniques,
    triage::Handled,
};

/// Rows that have changed since a place in commit order, at most: some 300 bytes each.
pub const MAX_CHANGED: usize = 100_000;

/// Rows that were there at `$1` and changed since. A covered notice has changed when it was covered. Where no point from then is
/// kept, the oldest that is stands for it.
const CHANGED: &str = "select a.created_seq, a.id, a.state, a.rule_id, a.techniques, a.entity_type, a.entity_value, a.crossed_at, \
    a.last_seen, a.event_count, a.severity, a.body_bytes, a.revision_seq, a.withdrawn, case when a.covered_by is null then 0 \
    else 1 end as covered, p.seq as p_seq, p.severity as p_severity, p.last_seen as p_last_seen, p.event_count as p_count, \
    (select max(case when r.back like '%\"rule\":%' then 1 else 0 end) from alert_revisions r where a.revision_seq > $1 \
    and r.id = a.id and r.seq > $1) as renamed, h.seq as h_seq, h.at as h_at, h.action as h_action, h.before as h_before, \
    h.after as h_after, c.after as c_after, (select max(u.seq) from audit u where a.withdrawn is not null and u.target = a.id \
    and u.seq <= $1 and u.action = 'withdrawn') as w_seq from alerts a \
    left join alert_revisions p on a.revision_seq > $1 and p.id = a.id and p.revision = coalesce((select max(r.revision) \
    from alert_revisions r where r.id = a.id and r.seq <= $1), (select min(r.revision) from alert_revisions r where r.id = a.id)) \
    left join audit h on h.seq = (select max(u.seq) from audit u where u.target = a.id and u.seq <= $1 \
    and u.action in ('triage', 'recurred', 'inherited', 'withdrawn')) \
    left join audit c on c.seq = (select max(u.seq) from audit u where u.target = a.id and u.seq <= $1 and u.action = 'case') \
    where a.created_seq <= $1 and a.seq > $1";

/// Those of them that are about one entity. A covered notice is about whom its alert is about.
const OF_ENTITY: &str = " and a.entity_value = $2 and a.entity_type = $3 and a.id in (select id from alerts where covered_by is null \
    and entity_value = $2 union all select n.id from alerts o join alerts n on n.covered_by = o.id where o.covered_by is null \
    and o.entity_value = $2)";

/// The store as it was.
pub struct Then {
    store: Store,
    seq: i64,
    snapshot: Transaction<'static, Any>,
    changed: Vec<Changed>,
    /// Whether the techniques of rows whose rule was renamed since are those of then.
    told: bool,
    /// What the last search found.
    found: Option<(String, Found)>,
}

/// A row that was there and has changed since, as it was.
struct Changed {
    number: i64,
    id: String,
    rule_id: String,
    techniques: String,
    entity: Option<EntityRef>,
    crossed_at: i64,
    last_seen: i64,
    count: i64,
    severity: Severity,
    state: RowState,
    /// Where its revision of then stands, or where it appeared.
    moved: i64,
    /// Where what was done to it last stands; 0 if nothing was.
    handled: i64,
    triage: Triage,
    closed_at: Option<Micros>,
    withdrawn: bool,
    case: Option<i64>,
    snooze: Option<i64>,
    body_bytes: u64,
    /// A notice that was covered since.
    covered: bool,
    /// Its rule had another title or other tags.
    renamed: bool,
}

/// The rows that held a search's words.
#[derive(Clone, Default)]
struct Found {
    numbers: BTreeSet<i64>,
    /// More did than a search looks at.
    capped: bool,
}

impl Store {
    /// The store as it was at `seq`.
    ///
    /// # Errors
    /// If more than [`MAX_CHANGED`] rows have changed since, or the database fails.
    pub async fn then(&self, seq: i64) -> Result<Then, Error> {
        Then::open(self.clone(), seq, None).await
    }

    /// The same for what is about one entity: nothing else may be asked for.
    ///
    /// # Errors
    /// Those of [`Store::then`].
    pub async fn then_of(&self, seq: i64, entity: &EntityRef) -> Result<Then, Error> {
        Then::open(self.clone(), seq, Some(entity)).await
    }
}

impl Then {
    async fn open(store: Store, seq: i64, entity: Option<&EntityRef>) -> Result<Self, Error> {
        let mut snapshot = store.inner.pasts.begin().await?;
        let scope = if entity.is_some() { OF_ENTITY } else { "" };
        let select = sqlx::query(AssertSqlSafe(format!("{CHANGED}{scope} order by a.created_seq"))).bind(seq);
        let select = match entity {
            Some(entity) => select.bind(&entity.value).bind(&entity.kind),
            None => select,
        };
        let mut changed = Vec::new();
        let mut rows = select.fetch(&mut *snapshot);
        while let Some(row) = rows.try_next().await? {
            if changed.len() == MAX_CHANGED {
                return Err(Error::TooLongAgo { max: MAX_CHANGED });
            }
            changed.push(Changed::read(&row, seq)?);
        }
        drop(rows);
        let snoozed = Snoozed::read(&mut snapshot, seq).await?;
        let mut then = Self { store, seq, snapshot, changed, told: false, found: None };
        then.hide(&snoozed).await?;
        Ok(then)
    }

    /// Gives rows the snoozes that hid them.
    async fn hide(&mut self, snoozed: &Snoozed) -> Result<(), Error> {
        for row in &mut self.changed {
            let Some(began) = snoozed.of(&row.rule_id, row.entity.as_ref(), row.severity) else { continue };
            let hidden = row.moved > began.seq
                || if row.handled <= began.seq {
                    row.triage.status != Status::Closed
                } else {
                    was_open(&mut self.snapshot, &row.id, began).await?
                };
            row.snooze = hidden.then_some(began.id);
        }
        Ok(())
    }

    /// The places in `changed` of the rows that matched.
    async fn matching(&mut self, filter: &Filter, found: Option<&Found>) -> Result<Vec<usize>, Error> {
        if !filter.technique.is_empty() {
            self.tell().await?;
        }
        let of_source = match &filter.source {
            Some(source) => Some(self.of_source(source).await?),
            None => None,
        };
        let matches = |row: &Changed| {
            found.is_none_or(|found| found.numbers.contains(&row.number))
                && of_source.as_ref().is_none_or(|of_source| of_source.contains(&row.number))
                && row.matches(filter)
        };
        let places = self.changed.iter().enumerate().filter(|(_, row)| matches(row)).map(|(at, _)| at);
        Ok(places.collect())
    }

    /// The changed rows whose rule reads a source.
    async fn of_source(&mut self, source: &str) -> Result<BTreeSet<i64>, Error> {
        let select = sqlx::query(
            "select a.created_seq from alert_sources s join alerts a on a.id = s.id where s.source = $2 and a.created_seq <= $1 \
             and a.seq > $1",
        );
        let rows = select.bind(self.seq).bind(source).fetch_all(&mut *self.snapshot).await?;
        rows.iter().map(|row| Ok(row.try_get("created_seq")?)).collect()
    }

    /// Gives rows whose rule was renamed since the techniques of then.
    async fn tell(&mut self) -> Result<(), Error> {
        if std::mem::replace(&mut self.told, true) {
            return Ok(());
        }
        for row in self.changed.iter_mut().filter(|row| row.renamed) {
            let Some(now) = self.store.own_row(&row.id).await? else { continue };
            row.techniques = self.store.as_it_was(now, self.seq).await?.row.techniques.join(" ");
        }
        Ok(())
    }

    /// The rows that held a filter's words, the newest [`search::MAX_FOUND`]; none if it has no words. The index of words knows
    /// neither a notice that was covered since nor a title that was another: of these the words are looked at.
    async fn found(&mut self, filter: &Filter) -> Result<Option<Found>, Error> {
        let Some(text) = &filter.q else { return Ok(None) };
        if let Some((_, found)) = self.found.as_ref().filter(|(of, _)| of == text) {
            return Ok(Some(found.clone()));
        }
        let renamed: BTreeMap<i64, String> =
            self.changed.iter().filter(|row| row.renamed).map(|row| (row.number, row.id.clone())).collect();
        let most = usize::try_from(search::MAX_FOUND).unwrap_or_default();
        let mut numbers = BTreeSet::new();
        if let Some(query) = search::query(text) {
            let select = sqlx::query(
                "select rowid from alert_search where alert_search match $1 and rowid <= $2 order by rowid desc limit $3",
            );
            let select = select.bind(query).bind(self.seq).bind((most + 1 + renamed.len()) as i64);
            for row in select.fetch_all(&mut *self.snapshot).await? {
                numbers.insert(row.try_get("rowid")?);
            }
        }
        for (number, id) in renamed {
            numbers.remove(&number);
            let Some(now) = self.store.own_row(&id).await? else { continue };
            if search::finds(text, &self.store.as_it_was(now, self.seq).await?.row) {
                numbers.insert(number);
            }
        }
        let covered: Vec<String> =
            self.changed.iter().filter(|row| row.covered).map(|row| row.id.clone()).collect();
        for ids in covered.chunks(MAX_PAGE as usize) {
            for (number, row) in self.store.numbered(ids).await? {
                if search::finds(text, &row) {
                    numbers.insert(number);
                }
            }
        }
        let capped = numbers.len() > most;
        let mut numbers: BTreeSet<i64> = numbers.into_iter().rev().take(most).collect();
        if let Some((from, to)) = search::id_bounds(text) {
            let select = sqlx::query(
                "select created_seq from alerts where id >= $1 and id < $2 and created_seq <= $3 limit 100",
            );
            for row in select.bind(from).bind(to).bind(self.seq).fetch_all(&mut *self.snapshot).await? {
                numbers.insert(row.try_get("created_seq")?);
            }
        }
        let found = Found { numbers, capped };
        self.found = Some((text.clone(), found.clone()));
        Ok(Some(found))
    }
}

/// Whether a row was open where a snooze began, by what had been done to it.
async fn was_open(snapshot: &mut Transaction<'static, Any>, id: &str, began: Began) -> Result<bool, Error> {
    let select = sqlx::query(
        "select seq as h_seq, at as h_at, action as h_action, before as h_before, after as h_after from audit where target = $1 \
         and seq <= $2 and action in ('triage', 'recurred', 'inherited', 'withdrawn') order by seq desc limit 1",
    );
    let entry = select.bind(id).bind(began.seq).fetch_optional(&mut **snapshot).await?;
    let handled = entry.as_ref().map(handled).transpose()?;
    Ok(handled.is_none_or(|(triage, _)| triage.status != Status::Closed))
}

/// What an entry (`h_…`) left a row as, and since when it is closed.
fn handled(row: &AnyRow) -> Result<(Triage, Option<Micros>), Error> {
    let text = |name: &str| row.try_get::<Option<String>, _>(name).map(Option::unwrap_or_default);
    let at = Micros(row.try_get("h_at")?);
    if text("h_action")? == "withdrawn" {
        let mut triage = serde_json::from_str(&text("h_before")?).unwrap_or_else(|_| Triage::fresh());
        triage.status = Status::Closed;
        return Ok((triage, Some(at)));
    }
    Ok(match serde_json::from_str::<Handled>(&text("h_after")?) {
        Ok(Handled { triage, closed_at, .. }) => {
            let closed = triage.status == Status::Closed;
            (triage, closed_at.or(Some(at)).filter(|_| closed))
        }
        Err(_) => (Triage::fresh(), None),
    })
}

impl Changed {
    /// Reads a row of [`CHANGED`].
    fn read(row: &AnyRow, seq: i64) -> Result<Self, Error> {
        let (kind, value): (Option<String>, Option<String>) =
            (row.try_get("entity_type")?, row.try_get("entity_value")?);
        let number: i64 = row.try_get("created_seq")?;
        let handled_at: Option<i64> = row.try_get("h_seq")?;
        let (triage, closed_at) = match handled_at {
            Some(_) => handled(row)?,
            None => (Triage::fresh(), None),
        };
        let case: Option<String> = row.try_get("c_after")?;
        let case = case.and_then(|case| serde_json::from_str::<serde_json::Value>(&case).ok());
        let mut was = Self {
            number,
            id: row.try_get("id")?,
            rule_id: row.try_get("rule_id")?,
            techniques: row.try_get("techniques")?,
            entity: kind.zip(value).map(|(kind, value)| EntityRef { kind, value }),
            crossed_at: row.try_get("crossed_at")?,
            last_seen: row.try_get("last_seen")?,
            count: row.try_get("event_count")?,
            severity: severity_of(row.try_get("severity")?)?,
            state: RowState::parse(row.try_get("state")?).unwrap_or(RowState::Active),
            moved: row.try_get("revision_seq")?,
            handled: handled_at.unwrap_or_default(),
            triage,
            closed_at,
            withdrawn: row.try_get::<Option<i64>, _>("w_seq")?.is_some(),
            case: case.and_then(|case| case.get("case")?.as_i64()),
            snooze: None,
            body_bytes: unsigned(row.try_get("body_bytes")?),
            covered: row.try_get::<i64, _>("covered")? == 1,
            renamed: row.try_get::<Option<i64>, _>("renamed")? == Some(1),
        };
        if let Some(moved) = row.try_get::<Option<i64>, _>("p_seq")? {
            // Where the point is from later, because none from then is kept, the row had appeared all the same.
            was.moved = if moved <= seq { moved } else { number };
            was.severity = severity_of(row.try_get("p_severity")?)?;
            (was.last_seen, was.count) = (row.try_get("p_last_seen")?, row.try_get("p_count")?);
            // An alert that has ended is revised no more.
            if was.state != RowState::Notice && moved < row.try_get::<i64, _>("revision_seq")? {
                was.state = RowState::Active;
            }
        }
        Ok(was)
    }

    /// Whether it was what a filter asks for, but for words and source.
    fn matches(&self, filter: &Filter) -> bool {
        let became = Became {
            status: self.triage.status,
            state: self.state,
            severity: self.severity,
            assignee: self.triage.assignee.as_deref(),
            case: self.case,
            snoozed: self.snooze.is_some(),
        };
        let entity = |asked: &Option<String>, own: fn(&EntityRef) -> &String| {
            asked.as_ref().is_none_or(|asked| self.entity.as_ref().is_some_and(|entity| own(entity) == asked))
        };
        let techniques = || techniques::with_whole(&self.techniques);
        became.is(filter)
            && (filter.rule.is_empty() || filter.rule.contains(&self.rule_id))
            && entity(&filter.entity, |entity| &entity.value)
            && entity(&filter.entity_type, |entity| &entity.kind)
            && filter.since.is_none_or(|since| self.crossed_at >= since.0)
            && filter.until.is_none_or(|until| self.crossed_at < until.0)
            && (filter.technique.is_empty()
                || techniques().into_iter().any(|name| filter.technique.contains(name)))
    }

    /// What a list is sorted by.
    fn place(&self, key: SortKey) -> Vec<i64> {
        let own = match key {
            SortKey::CrossedAt => vec![],
            SortKey::LastSeen => vec![self.last_seen],
            SortKey::Severity => vec![self.severity as i64],
            SortKey::Count => vec![self.count],
            SortKey::Created => return vec![self.number],
        };
        [own, vec![self.crossed_at, self.number]].concat()
    }
}

impl Then {
    /// A time at most a minute before the newest change: when the minute in which it was made began. None before the first.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn time(&mut self) -> Result<Option<Micros>, Error> {
        let minute = sqlx::query("select minute from minutes where seq < $1 order by minute desc limit 1");
        let row = minute.bind(self.seq).fetch_optional(&mut *self.snapshot).await?;
        let time = row.map(|row| row.try_get::<i64, _>("minute")).transpose()?;
        Ok(time.map(|minute| Micros(minute.saturating_mul(60_000_000))))
    }
}
