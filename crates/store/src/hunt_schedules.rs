//! Kept hunts that are run again and again: what is to be run, how far each has come, and the alerts that it raises.
//!
//! In: [`NewHuntSchedule`], what people decide, [`HuntOutcome`]. Out: [`HuntSchedule`]s. Invariants: a kept hunt has one schedule at most, and of all
//! there are [`MAX_HUNT_SCHEDULES`]; the alerts of a run, how far its schedule has come with it and what people must know of it are one
//! transaction, and one of a window that is not the next any more changes nothing: so nothing is raised twice and no window is left out,
//! whatever is killed when; a hunt that is run is not removed; each change of a schedule is in the audit log, and so is each run that raises something.

use serde_json::json;
use sqlx::{AssertSqlSafe, Row, any::AnyRow};
use vedette_event::{Micros, Span};

use crate::{
    alert_rows::signed,
    alerts::{narrow, severity_of, unsigned},
    error::Error,
    kept_answers::Begun,
    model::{
        ChangeKind, HealthEvent, HuntOutcome, HuntRun, HuntSchedule, Made, NewHuntSchedule, Once, PassedOver,
        RuleText,
    },
    store::Store,
    transaction::{Audit, SYSTEM, WriteTx},
};

/// Schedules there may be: at five minutes each, one run every three seconds, one after the other.
pub const MAX_HUNT_SCHEDULES: usize = 100;

const SELECT: &str = "select s.id, s.hunt_id, s.every, s.severity, s.title, s.summary, s.entity, s.most, s.paused, s.created_by, \
    s.created_at, s.next_from, s.tries, s.ran_at, s.ran_from, s.ran_until, s.took, s.found, s.more, s.raised, s.bytes_read, \
    s.complete_through, s.fault, s.fault_since, s.passed, s.passed_from, s.passed_until, h.name, h.sql \
    from hunt_schedules s join saved_hunts h on h.id = s.hunt_id";

fn target(id: i64) -> String {
    format!("hunt_schedule:{id}")
}

fn none(id: i64) -> Error {
    Error::NotFound { what: "schedule of a hunt", id: id.to_string() }
}

impl Store {
    /// Has a kept hunt run again and again.
    ///
    /// # Errors
    /// If there is no such hunt that others see, it has a schedule, there is no room for more, and those of writing.
    pub async fn schedule_hunt(
        &self,
        new: &NewHuntSchedule,
        actor: &str,
        once: Option<&Once<HuntSchedule>>,
    ) -> Result<Made<HuntSchedule>, Error> {
        let mut tx = match self.begin_once(once).await? {
            Begun::New(tx) => tx,
            Begun::Again(answer) => return Ok(Made::Again(answer)),
        };
        let hunt = "select name, sql, shared from saved_hunts where id = $1 and (shared = 1 or owner = $2)";
        let hunt = tx.one(sqlx::query(hunt).bind(new.hunt).bind(actor)).await?;
        let hunt = hunt.ok_or_else(|| Error::NotFound { what: "saved hunt", id: new.hunt.to_string() })?;
        if hunt.try_get::<i64, _>("shared")? != 1 {
            let detail = "Only a hunt that is shown to everybody who hunts can be scheduled.".to_owned();
            return Err(Error::Clash { detail });
        }
        let others = tx.all(sqlx::query("select hunt_id from hunt_schedules")).await?;
        for other in &others {
            if other.try_get::<i64, _>("hunt_id")? == new.hunt {
                let detail = "This hunt has a schedule already; remove that first.".to_owned();
                return Err(Error::Clash { detail });
            }
        }
        if others.len() >= MAX_HUNT_SCHEDULES {
            return Err(Error::Full { what: "scheduled hunts", max: MAX_HUNT_SCHEDULES });
        }
        let id = tx.number("hunt_schedule").await?;
        let NewHuntSchedule { hunt: of, every, severity, title, summary, entity, most } = new;
        let insert = sqlx::query(
            "insert into hunt_schedules (id, hunt_id, every, severity, title, summary, entity, most, paused, created_by, \
             created_at, next_from, tries, passed) values ($1, $2, $3, $4, $5, $6, $7, $8, 0, $9, $10, $11, 0, 0)",
        );
        let insert = insert.bind(id).bind(of).bind(every.0).bind(*severity as i64).bind(title).bind(summary);
        let insert = insert.bind(entity).bind(i64::from(*most)).bind(actor).bind(tx.now.0);
        tx.run(insert.bind(new.first_window(tx.now).0)).await?;
        let mut after = told(new);
        after["hunt"] = json!({"id": of, "name": hunt.try_get::<String, _>("name")?, "sql": hunt.try_get::<String, _>("sql")?});
        tx.note(id, actor, "hunt_scheduled", (None, Some(after.to_string()))).await?;
        let made = tx.hunt_schedule(id).await?;
        tx.commit_once(once, made).await
    }

    /// All schedules, by the name of their hunt.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn hunt_schedules(&self) -> Result<Vec<HuntSchedule>, Error> {
        let select = sqlx::query(AssertSqlSafe(format!("{SELECT} order by h.name, s.id")));
        select.fetch_all(&self.inner.readers).await?.iter().map(schedule).collect()
    }

    /// Pauses a schedule, or lets it go on. What took place while it was paused is not looked at: it goes on with the last whole window.
    ///
    /// # Errors
    /// If there is none, and those of writing.
    pub async fn pause_hunt_schedule(
        &self,
        id: i64,
        paused: bool,
        actor: &str,
    ) -> Result<HuntSchedule, Error> {
        let mut tx = self.begin().await?;
        let before = tx.hunt_schedule(id).await?;
        if before.paused == paused {
            return Ok(before);
        }
        let from = match paused {
            true => before.next_from,
            false => before.next_from.max(before.schedule.first_window(tx.now)),
        };
        let update = sqlx::query(
            "update hunt_schedules set paused = $2, next_from = $3, tries = 0, fault = null, fault_since = null where id = $1",
        );
        tx.run(update.bind(id).bind(i64::from(paused)).bind(from.0)).await?;
        let state = |paused: bool, from: Micros| Some(json!({"paused": paused, "next": from}).to_string());
        let change = (state(before.paused, before.next_from), state(paused, from));
        tx.note(id, actor, if paused { "hunt_paused" } else { "hunt_resumed" }, change).await?;
        let after = tx.hunt_schedule(id).await?;
        tx.commit().await?;
        Ok(after)
    }

    /// Removes a schedule; the hunt is kept, and so are the alerts.
    ///
    /// # Errors
    /// If there is none, and those of writing.
    pub async fn remove_hunt_schedule(&self, id: i64, actor: &str) -> Result<(), Error> {
        let mut tx = self.begin().await?;
        let HuntSchedule { schedule, name, sql, .. } = tx.hunt_schedule(id).await?;
        tx.run(sqlx::query("delete from hunt_schedules where id = $1").bind(id)).await?;
        let mut before = told(&schedule);
        before["hunt"] = json!({"id": schedule.hunt, "name": name, "sql": sql});
        tx.note(id, actor, "hunt_unscheduled", (Some(before.to_string()), None)).await?;
        tx.commit().await.map(drop)
    }

    /// Notes that the next window is begun, before it is: a run that ends the process counts, too. False if it is not the next any
    /// more, or nobody wants it run.
    ///
    /// # Errors
    /// Those of writing.
    pub async fn begin_hunt_run(&self, id: i64, from: Micros) -> Result<bool, Error> {
        let mut tx = self.begin_as_engine().await?;
        let update = sqlx::query(
            "update hunt_schedules set tries = tries + 1 where id = $1 and next_from = $2 and paused = 0",
        );
        let begun = tx.run(update.bind(id).bind(from.0)).await? > 0;
        tx.commit().await?;
        Ok(begun)
    }

    /// Writes what a run came to, and that the next window begins where its own ends. False, and nothing is written, if its window was
    /// not the next any more: the schedule is gone, or another run of the same window was quicker.
    ///
    /// # Errors
    /// Those of writing.
    pub async fn hunt_ran(&self, outcome: &HuntOutcome) -> Result<bool, Error> {
        let HuntOutcome { schedule, version, run, alerts, health } = outcome;
        let mut tx = self.begin_as_engine().await?;
        let update = sqlx::query(
            "update hunt_schedules set next_from = $3, tries = 0, ran_at = $4, ran_from = $2, ran_until = $3, took = $5, \
             found = $6, more = $7, raised = $8, bytes_read = $9, complete_through = $10, fault = null, fault_since = null \
             where id = $1 and next_from = $2",
        );
        let update = update.bind(schedule).bind(run.from.0).bind(run.until.0).bind(run.at.0).bind(run.took.0);
        let update = update.bind(signed(run.rows)).bind(i64::from(run.more)).bind(signed(run.alerts));
        let update = update.bind(signed(run.bytes_read)).bind(run.complete_through.map(|time| time.0));
        if tx.run(update).await? == 0 {
            return Ok(false);
        }
        tx.write_health(health).await?;
        if let Some(first) = alerts.first() {
            let sql = tx.hunt_schedule(*schedule).await?.sql;
            let text =
                RuleText { rule_id: first.rule_id.clone(), version: version.clone(), text: sql.into() };
            tx.write_rule_texts(&[text]).await?;
            let new = tx.write_alerts(alerts).await?;
            let HuntRun { from, until, rows, bytes_read, .. } = run;
            let after = json!({"since": from, "until": until, "rows": rows, "bytes_read": bytes_read,
                "alerts": alerts.len(), "new": new, "version": version});
            tx.note(*schedule, SYSTEM, "hunt_raised", (None, Some(after.to_string()))).await?;
        }
        tx.commit().await?;
        Ok(true)
    }

    /// Notes why a schedule does not get on. `counted` says whether this was one of the tries of its window.
    ///
    /// # Errors
    /// Those of writing.
    pub async fn hunt_failed(&self, id: i64, fault: &str, counted: bool) -> Result<(), Error> {
        let mut tx = self.begin_as_engine().await?;
        let update = sqlx::query(
            "update hunt_schedules set fault = $2, fault_since = coalesce(fault_since, $3), \
             tries = case when $4 = 1 then tries else 0 end where id = $1",
        );
        tx.run(update.bind(id).bind(fault).bind(tx.now.0).bind(i64::from(counted))).await?;
        tx.commit().await.map(drop)
    }

    /// Goes on with a later window, and says which are passed over. Nothing is changed if the first of them is not the next any more.
    ///
    /// # Errors
    /// Those of writing.
    pub async fn pass_over_hunts(
        &self,
        id: i64,
        (from, until): (Micros, Micros),
        windows: u64,
        said: &HealthEvent,
    ) -> Result<(), Error> {
        let mut tx = self.begin_as_engine().await?;
        let update = sqlx::query(
            "update hunt_schedules set next_from = $3, tries = 0, passed = passed + $4, passed_from = $2, passed_until = $3, \
             fault = $5, fault_since = $6 where id = $1 and next_from = $2",
        );
        let update = update.bind(id).bind(from.0).bind(until.0).bind(signed(windows));
        if tx.run(update.bind(&said.message).bind(tx.now.0)).await? > 0 {
            tx.write_health(std::slice::from_ref(said)).await?;
        }
        tx.commit().await.map(drop)
    }
}

impl WriteTx {
    /// The schedule of this number.
    async fn hunt_schedule(&mut self, id: i64) -> Result<HuntSchedule, Error> {
        let select = sqlx::query(AssertSqlSafe(format!("{SELECT} where s.id = $1"))).bind(id);
        self.one(select).await?.as_ref().map(schedule).transpose()?.ok_or_else(|| none(id))
    }

    async fn note(
        &mut self,
        id: i64,
        actor: &str,
        action: &'static str,
        (before, after): (Option<String>, Option<String>),
    ) -> Result<(), Error> {
        let target = target(id);
        let seq = self.change(ChangeKind::Admin, &target);
        self.audit(seq, Audit { actor, action, target: &target, before, after }).await
    }

    /// Refuses if this kept hunt is run again and again.
    pub(crate) async fn is_not_scheduled(&mut self, hunt: i64) -> Result<(), Error> {
        let select = sqlx::query("select id from hunt_schedules where hunt_id = $1").bind(hunt);
        match self.one(select).await? {
            None => Ok(()),
            Some(_) => {
                let detail = "This hunt is scheduled; remove its schedule first.".to_owned();
                Err(Error::Clash { detail })
            }
        }
    }
}

/// What the audit log says of a schedule.
fn told(new: &NewHuntSchedule) -> serde_json::Value {
    let NewHuntSchedule { hunt: _, every, severity, title, summary, entity, most } = new;
    json!({"every": every, "severity": severity, "title": title, "summary": summary, "entity": entity, "most_alerts": most})
}

fn schedule(row: &AnyRow) -> Result<HuntSchedule, Error> {
    let time = |name: &str| -> Result<Option<Micros>, Error> {
        Ok(row.try_get::<Option<i64>, _>(name)?.map(Micros))
    };
    let count = |name: &str| -> Result<u64, Error> {
        Ok(unsigned(row.try_get::<Option<i64>, _>(name)?.unwrap_or_default()))
    };
    let last = match (time("ran_at")?, time("ran_from")?, time("ran_until")?) {
        (Some(at), Some(from), Some(until)) => Some(HuntRun {
            at,
            from,
            until,
            took: Span(row.try_get::<Option<i64>, _>("took")?.unwrap_or_default()),
            rows: count("found")?,
            more: count("more")? == 1,
            alerts: count("raised")?,
            bytes_read: count("bytes_read")?,
            complete_through: time("complete_through")?,
        }),
        _ => None,
    };
    Ok(HuntSchedule {
        id: row.try_get("id")?,
        schedule: NewHuntSchedule {
            hunt: row.try_get("hunt_id")?,
            every: Span(row.try_get("every")?),
            severity: severity_of(row.try_get("severity")?)?,
            title: row.try_get("title")?,
            summary: row.try_get("summary")?,
            entity: row.try_get("entity")?,
            most: narrow(row.try_get("most")?),
        },
        name: row.try_get("name")?,
        sql: row.try_get("sql")?,
        paused: row.try_get::<i64, _>("paused")? == 1,
        created_by: row.try_get("created_by")?,
        created_at: Micros(row.try_get("created_at")?),
        next_from: Micros(row.try_get("next_from")?),
        tries: narrow(row.try_get("tries")?),
        last,
        fault: row.try_get::<Option<String>, _>("fault")?.zip(time("fault_since")?),
        passed: PassedOver {
            windows: count("passed")?,
            last: time("passed_from")?.zip(time("passed_until")?),
        },
    })
}
