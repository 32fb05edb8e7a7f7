//! Response: what playbooks looked at, what they propose, what became of it, what is told to whom.
//!
//! In: alerts and notices since the position, proposals with what the gate said, what people decide, how tries of connectors went. Out:
//! actions and their steps, deliveries that are due. Invariants: the position moves in the transaction that writes what was proposed up
//! to there, so that a crash loses no alert and repeats no proposal; a proposal is written once, by its id; every change of an action
//! raises its version, has its place in the order of changes and an entry of the audit log, which are its steps.

mod actions;
mod deliveries;
mod feed;
mod shown;

use std::collections::BTreeSet;

use sqlx::{Row, any::AnyRow};
use vedette_event::Micros;

use crate::{
    error::Error,
    model::{ActionState, ChangeKind, ResponseState, ToRespond},
    store::Store,
    transaction::{Audit, WriteTx},
};

pub use actions::MAX_ACTIONS;

/// What the audit log calls the settings that hold for all actions.
const SETTINGS: &str = "response";

/// What is set for all actions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Setting {
    /// What nothing may hit, as JSON.
    NeverBlock(String),
    /// Nothing is done, and all that is live is taken back.
    KillSwitch(bool),
}

impl Store {
    /// What holds for all actions.
    pub async fn response_state(&self) -> Result<ResponseState, Error> {
        let row =
            sqlx::query("select position, kill_switch, never_block, version from response where id = 1")
                .fetch_one(&self.inner.readers)
                .await?;
        let position: i64 = row.try_get("position")?;
        Ok(ResponseState {
            position: (position >= 0).then_some(position),
            kill_switch: row.try_get::<i64, _>("kill_switch")? == 1,
            never_block: row.try_get("never_block")?,
            version: row.try_get("version")?,
        })
    }

    /// Has playbooks begin here, if they never looked: what was there before they were switched on is history.
    pub async fn begin_responding(&self) -> Result<(), Error> {
        let mut tx = self.begin_as_engine().await?;
        let seq = tx.first_seq;
        let begin = sqlx::query("update response set position = $1 where id = 1 and position < 0").bind(seq);
        tx.run(begin).await?;
        tx.commit().await.map(drop)
    }

    /// Alerts and notices that appeared or were revised after a position, at most `limit`, with the position that looking at them comes
    /// to. They are found among the changes; where those go back less far (playbooks were away for long), by a walk over all rows, which
    /// is slow and misses nothing. An index of its own was tried and would be written with every revision.
    pub async fn to_respond(&self, position: i64, limit: u32) -> Result<(Vec<ToRespond>, i64), Error> {
        let (kinds, most) = (("alert", "notice"), i64::from(limit));
        let changed = sqlx::query(
            "select seq, id from changes where seq > $1 and kind in ($2, $3) order by seq limit $4",
        );
        let changed = changed.bind(position).bind(kinds.0).bind(kinds.1).bind(most);
        let changed = changed.fetch_all(&self.inner.readers).await?;
        // Read after the changes: what was forgotten in between is walked over, never left out.
        let engine = sqlx::query("select seq, oldest_change from engine where id = 1");
        let engine = engine.fetch_one(&self.inner.readers).await?;
        let (mut out, mut reached) = (Vec::new(), position);
        if position < engine.try_get::<i64, _>("oldest_change")? {
            let walk = sqlx::query(
                "select revision_seq, id, state, body from alerts join alert_bodies using (created_seq) \
                 where revision_seq > $1 and withdrawn is null order by revision_seq limit $2",
            );
            for row in walk.bind(position).bind(most).fetch_all(&self.inner.readers).await? {
                reached = row.try_get("revision_seq")?;
                out.push(self.with_covered(&row).await?);
            }
            return Ok((out, reached));
        }
        let mut seen = BTreeSet::new();
        for row in changed {
            reached = row.try_get("seq")?;
            let id: String = row.try_get("id")?;
            if !seen.insert(id.clone()) {
                continue;
            }
            let row = sqlx::query(
                "select revision_seq, id, state, body from alerts join alert_bodies using (created_seq) \
                 where id = $1 and revision_seq > $2 and withdrawn is null",
            );
            let row = row.bind(id).bind(position).fetch_optional(&self.inner.readers).await?;
            if let Some(row) = row {
                out.push(self.with_covered(&row).await?);
            }
        }
        Ok((out, reached))
    }

    async fn with_covered(&self, row: &AnyRow) -> Result<ToRespond, Error> {
        let id: String = row.try_get("id")?;
        let covered = sqlx::query("select id from alerts where covered_by = $1 order by id limit 16");
        let covered = covered.bind(&id).fetch_all(&self.inner.readers).await?;
        let covers = covered.iter().map(|row| row.try_get("id"));
        Ok(ToRespond {
            notice: row.try_get::<&str, _>("state")? == "notice",
            body: row.try_get("body")?,
            covers: covers.collect::<Result<_, _>>()?,
            id,
        })
    }

    /// Sets what holds for all actions, from the version that was seen, where one was. The kill switch takes back all that is live.
    pub async fn set_response(
        &self,
        setting: &Setting,
        version: Option<i64>,
        actor: &str,
    ) -> Result<ResponseState, Error> {
        let mut tx = self.begin().await?;
        let row = tx
            .one(sqlx::query("select kill_switch, never_block, version from response where id = 1"))
            .await?
            .ok_or_else(|| Error::Corrupt { detail: "the row of the response is missing".to_owned() })?;
        let found: i64 = row.try_get("version")?;
        if version.is_some_and(|version| version != found) {
            return Err(Error::Stale { what: "never-block set and kill switch", id: 1, version: found });
        }
        let before = serde_json::json!({"kill_switch": row.try_get::<i64, _>("kill_switch")? == 1,
            "never_block": json(row.try_get("never_block")?)});
        let (action, after) = match setting {
            Setting::NeverBlock(set) => {
                tx.run(sqlx::query("update response set never_block = $1 where id = 1").bind(set)).await?;
                ("never_block_changed", serde_json::json!({"never_block": json(set)}))
            }
            Setting::KillSwitch(on) => {
                let set = sqlx::query("update response set kill_switch = $1 where id = 1");
                tx.run(set.bind(i64::from(*on))).await?;
                let reverted = if *on { tx.revert_all(actor).await? } else { 0 };
                let action = if *on { "kill_switch_on" } else { "kill_switch_off" };
                (action, serde_json::json!({"kill_switch": on, "reverted": reverted}))
            }
        };
        tx.run(sqlx::query("update response set version = version + 1 where id = 1")).await?;
        let seq = tx.change(ChangeKind::Response, SETTINGS);
        let (before, after) = (Some(before.to_string()), Some(after.to_string()));
        tx.audit(seq, Audit { actor, action, target: SETTINGS, before, after }).await?;
        tx.commit().await?;
        self.response_state().await
    }
}

/// Stored JSON as a value; the text itself where it is none.
fn json(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap_or_else(|_| text.into())
}

impl WriteTx {
    /// Whether nothing may be done.
    async fn is_stopped(&mut self) -> Result<bool, Error> {
        let row = self.one(sqlx::query("select kill_switch from response where id = 1")).await?;
        Ok(row.map(|row| row.try_get::<i64, _>("kill_switch")).transpose()? == Some(1))
    }

    /// Takes back all that is live, and what is about to be; how many.
    async fn revert_all(&mut self, actor: &str) -> Result<u64, Error> {
        let live = sqlx::query("select id from actions where state in ($1, $2) order by id");
        let live = self.all(live.bind(ActionState::Live.name()).bind(ActionState::Due.name())).await?;
        let now = self.now.0;
        for row in &live {
            let id: i64 = row.try_get("id")?;
            let target = actions::audit_target(id);
            let seq = self.change(ChangeKind::Action, &id.to_string());
            let revert = sqlx::query(
                "update actions set state = $1, changed_at = $2, version = version + 1, seq = $3 where id = $4",
            );
            self.run(revert.bind(ActionState::Reverted.name()).bind(now).bind(seq).bind(id)).await?;
            let after = Some("{\"why\":\"kill switch\"}".to_owned());
            let entry = Audit { actor, action: "action_reverted", target: &target, before: None, after };
            self.audit(seq, entry).await?;
        }
        Ok(live.len() as u64)
    }

    /// Moves the position of playbooks, never back.
    async fn note_position(&mut self, position: i64) -> Result<(), Error> {
        let moved = sqlx::query("update response set position = $1 where id = 1 and position < $1");
        self.run(moved.bind(position)).await.map(drop)
    }
}

/// The time that a nullable column holds.
fn time(micros: Option<i64>) -> Option<Micros> {
    micros.map(Micros)
}
