//! Deliveries: what each connector is to tell, and what those have taken that cannot be asked.
//!
//! In: how tries went. Out: what is due, by connector, oldest first. Invariants: one connector's row says nothing of another's, so that one
//! that is down delays nobody else; an action is done when all have taken it, and failed when one was given up and none is left to try;
//! what was given up stays until a person has it tried again.

use sqlx::{Row, any::AnyRow};
use vedette_event::Micros;

use crate::{
    alerts::{narrow, unsigned},
    error::Error,
    model::{ActionChange, ActionRow, ActionState, ConnectorFigures, Delivery, DeliveryState, Held, Tried},
    store::Store,
    transaction::{SYSTEM, WriteTx},
};

/// Characters of what the other side said that are kept.
const MAX_DETAIL: usize = 300;

impl Store {
    /// What a connector is to tell by now, and when the next is due beyond that.
    pub async fn due_deliveries(
        &self,
        connector: &str,
        now: Micros,
        limit: u32,
    ) -> Result<(Vec<Delivery>, Option<Micros>), Error> {
        let select = sqlx::query(
            "select action_id, connector, state, tries, next_at, detail, changed_at from deliveries \
             where state = 'due' and connector = $1 order by next_at limit $2",
        );
        let rows = select.bind(connector).bind(i64::from(limit)).fetch_all(&self.inner.readers).await?;
        let mut due = rows.iter().map(delivery).collect::<Result<Vec<_>, _>>()?;
        let later = due.iter().position(|delivery| delivery.next_at > now);
        let next = later.map(|at| due[at].next_at);
        due.truncate(later.unwrap_or(due.len()));
        Ok((due, next))
    }

    /// Notes how a try went; the action, if it changed with that.
    pub async fn note_try(&self, delivery: &Delivery, tried: &Tried) -> Result<Option<ActionRow>, Error> {
        let mut tx = self.begin_as_engine().await?;
        let (state, next, detail) = match tried {
            Tried::Done => (DeliveryState::Done, delivery.next_at, None),
            Tried::Again(at, why) => (DeliveryState::Due, *at, Some(why)),
            Tried::Dead(why) => (DeliveryState::Dead, delivery.next_at, Some(why)),
        };
        let detail = detail.map(|why| why.chars().take(MAX_DETAIL).collect::<String>());
        let note = sqlx::query(
            "update deliveries set state = $1, tries = tries + 1, next_at = $2, detail = $3, changed_at = $4 \
             where action_id = $5 and connector = $6 and state = 'due'",
        );
        let note = note.bind(state.name()).bind(next.0).bind(detail).bind(tx.now.0);
        tx.run(note.bind(delivery.action).bind(&delivery.connector)).await?;
        let changed = match state {
            DeliveryState::Due => None,
            _ => tx.settle_action(delivery.action).await?,
        };
        tx.commit().await?;
        Ok(changed)
    }

    /// Has what was given up of an action tried again.
    pub async fn replay(&self, id: i64, version: i64, actor: &str) -> Result<ActionRow, Error> {
        let mut tx = self.begin().await?;
        let again = sqlx::query(
            "update deliveries set state = 'due', tries = 0, next_at = $1, changed_at = $1 where action_id = $2 and state = 'dead'",
        );
        if tx.run(again.bind(tx.now.0).bind(id)).await? == 0 {
            let detail = format!("Action {id} has nothing that a connector gave up.");
            return Err(Error::Clash { detail });
        }
        let change = ActionChange { state: Some(ActionState::Telling), ..ActionChange::default() };
        let row = tx.change_action(id, version, &change, actor, "action_replayed").await?;
        tx.commit().await?;
        Ok(row)
    }

    /// The deliveries of an action, by connector.
    pub async fn deliveries(&self, action: i64) -> Result<Vec<Delivery>, Error> {
        let select = sqlx::query(
            "select action_id, connector, state, tries, next_at, detail, changed_at from deliveries \
             where action_id = $1 order by connector",
        );
        select.bind(action).fetch_all(&self.inner.readers).await?.iter().map(delivery).collect()
    }

    /// What waits for each connector, and what each gave up.
    pub async fn connector_figures(&self) -> Result<Vec<ConnectorFigures>, Error> {
        let rows = sqlx::query(
            "select connector, sum(case when state = 'due' then 1 else 0 end) as due, \
             sum(case when state = 'dead' then 1 else 0 end) as dead from deliveries where state in ('due', 'dead') \
             group by connector order by connector",
        );
        let rows = rows.fetch_all(&self.inner.readers).await?;
        let figures = rows.iter().map(|row| {
            Ok(ConnectorFigures {
                connector: row.try_get("connector")?,
                due: unsigned(row.try_get("due")?),
                dead: unsigned(row.try_get("dead")?),
            })
        });
        figures.collect()
    }

    /// What a connector has said yes to.
    pub async fn held(&self, connector: &str) -> Result<Vec<Held>, Error> {
        let select = sqlx::query(
            "select action, target, until from held where connector = $1 order by action, target",
        );
        let rows = select.bind(connector).fetch_all(&self.inner.readers).await?;
        let held = rows.iter().map(|row| {
            Ok(Held {
                action: row.try_get("action")?,
                target: row.try_get("target")?,
                until: Micros(row.try_get("until")?),
            })
        });
        held.collect()
    }

    /// Notes that a connector has taken a countermeasure, or (without an end) that it has let go of it.
    pub async fn note_held(
        &self,
        connector: &str,
        (action, target): (&str, &str),
        until: Option<Micros>,
    ) -> Result<(), Error> {
        let mut tx = self.begin_as_engine().await?;
        match until {
            Some(until) => {
                let put = sqlx::query(
                    "insert into held (connector, action, target, until) values ($1, $2, $3, $4) \
                     on conflict (connector, action, target) do update set until = excluded.until",
                );
                tx.run(put.bind(connector).bind(action).bind(target).bind(until.0)).await?;
            }
            None => {
                let take =
                    sqlx::query("delete from held where connector = $1 and action = $2 and target = $3");
                tx.run(take.bind(connector).bind(action).bind(target)).await?;
            }
        }
        tx.commit().await.map(drop)
    }
}

impl WriteTx {
    /// Has a connector tell an action.
    pub(super) async fn tell(&mut self, action: i64, connector: &str) -> Result<(), Error> {
        let insert = sqlx::query(
            "insert into deliveries (action_id, connector, state, tries, next_at, changed_at) values ($1, $2, 'due', 0, $3, $3) \
             on conflict (action_id, connector) do nothing",
        );
        self.run(insert.bind(action).bind(connector).bind(self.now.0)).await.map(drop)
    }

    /// Makes an action done or failed once no connector is left to try.
    async fn settle_action(&mut self, id: i64) -> Result<Option<ActionRow>, Error> {
        let left = sqlx::query(
            "select version, (select count(*) from deliveries where action_id = $1 and state = 'due') as due, \
             (select count(*) from deliveries where action_id = $1 and state = 'dead') as dead from actions where id = $1 and state = 'telling'",
        );
        let Some(row) = self.one(left.bind(id)).await? else { return Ok(None) };
        if row.try_get::<i64, _>("due")? > 0 {
            return Ok(None);
        }
        let (state, step) = match row.try_get::<i64, _>("dead")? {
            0 => (ActionState::Done, "action_told"),
            _ => (ActionState::Failed, "action_failed"),
        };
        let change = ActionChange { state: Some(state), ..ActionChange::default() };
        let version = row.try_get("version")?;
        self.change_action(id, version, &change, SYSTEM, step).await.map(Some)
    }
}

fn delivery(row: &AnyRow) -> Result<Delivery, Error> {
    let action: i64 = row.try_get("action_id")?;
    let state: String = row.try_get("state")?;
    Ok(Delivery {
        action,
        connector: row.try_get("connector")?,
        state: DeliveryState::parse(&state).ok_or_else(|| Error::BadValue {
            what: "delivery",
            id: action.to_string(),
            detail: "no such state".to_owned(),
        })?,
        tries: narrow(row.try_get("tries")?),
        next_at: Micros(row.try_get("next_at")?),
        detail: row.try_get("detail")?,
        changed_at: Micros(row.try_get("changed_at")?),
    })
}
