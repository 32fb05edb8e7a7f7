//! Actions: rows, and every step that one takes.
//!
//! In: [`NewAction`], [`ActionChange`]. Out: [`ActionRow`]s. Invariants: a change names the version that it rests on; who approves
//! is there once; what is told of an action is due from the same transaction that lets it be told.

use std::collections::BTreeMap;

use serde::Deserialize;
use sqlx::{AssertSqlSafe, Row, any::AnyRow};
use vedette_event::{Micros, Span};

use super::{json, time};
use crate::{
    alerts::{narrow, severity_of, unsigned},
    bulk::Bulk,
    error::Error,
    model::{
        ActionChange, ActionQuery, ActionRow, ActionState, AuditEntry, ChangeKind, Effectiveness, NewAction,
        Page,
    },
    store::Store,
    transaction::{Audit, SYSTEM, WriteTx},
    triage::audit_entry,
};

/// Actions of one page.
pub const MAX_ACTIONS: u32 = 500;

const COLUMNS: &str = "id, state, playbook, step, deed, action, target, alert_id, rule_id, severity, proposal, reasons, proposer, \
    approvals, people, given_order, acted_at, until, effect, effect_at, proposed_at, changed_at, version, seq";

const DELIVERIES: Bulk = Bulk { head: "delete from deliveries where action_id in (", columns: 1, tail: ")" };
const ACTIONS: Bulk = Bulk { head: "delete from actions where id in (", columns: 1, tail: ")" };

/// By what the audit log calls an action.
pub(super) fn audit_target(id: i64) -> String {
    format!("action:{id}")
}

impl Store {
    /// Writes what was proposed, each once, and that playbooks have looked at everything up to a position. The rows as they are
    /// now, in the order given; of those that were there before, as they were.
    pub async fn propose(&self, new: &[NewAction], position: Option<i64>) -> Result<Vec<ActionRow>, Error> {
        let mut tx = match position {
            Some(_) => self.begin_as_engine().await?,
            // By hand, which a tool beside the engine may do, too.
            None => self.begin().await?,
        };
        let mut rows = Vec::with_capacity(new.len());
        for action in new {
            rows.push(tx.propose(action).await?);
        }
        if let Some(position) = position {
            tx.note_position(position).await?;
        }
        tx.commit().await?;
        Ok(rows)
    }

    /// Changes an action from the version that was seen.
    pub async fn change_action(
        &self,
        id: i64,
        version: i64,
        change: &ActionChange,
        actor: &str,
        step: &'static str,
    ) -> Result<ActionRow, Error> {
        let mut tx = self.begin().await?;
        let row = tx.change_action(id, version, change, actor, step).await?;
        tx.commit().await?;
        Ok(row)
    }

    /// The action of this number.
    pub async fn action(&self, id: i64) -> Result<Option<ActionRow>, Error> {
        let select = sqlx::query(AssertSqlSafe(format!("select {COLUMNS} from actions where id = $1")));
        select.bind(id).fetch_optional(&self.inner.readers).await?.as_ref().map(action).transpose()
    }

    /// A page of actions, the newest first; its cursor is the last one's number.
    pub async fn actions(&self, query: &ActionQuery) -> Result<Page<ActionRow>, Error> {
        let mut sql = format!("select {COLUMNS} from actions where id < $1");
        let mut arguments = 1;
        let mut place = || {
            arguments += 1;
            format!("${arguments}")
        };
        if !query.states.is_empty() {
            let places: Vec<String> = query.states.iter().map(|_| place()).collect();
            sql.push_str(&format!(" and state in ({})", places.join(", ")));
        }
        if query.effect.is_some() {
            sql.push_str(&format!(" and effect = {}", place()));
        }
        if query.alert.is_some() {
            sql.push_str(&format!(" and alert_id = {}", place()));
        }
        if query.case.is_some() {
            let case = place();
            sql.push_str(&format!(
                " and alert_id in (select id from alerts where case_id = {case} union all select n.id from alerts n \
                 join alerts a on n.covered_by = a.id where a.case_id = {case})"
            ));
        }
        sql.push_str(&format!(" order by id desc limit {}", place()));
        let mut select = sqlx::query(AssertSqlSafe(sql)).bind(query.before.unwrap_or(i64::MAX));
        for state in &query.states {
            select = select.bind(state.name());
        }
        if let Some(effect) = query.effect {
            select = select.bind(effect.name());
        }
        if let Some(alert) = &query.alert {
            select = select.bind(alert);
        }
        if let Some(case) = query.case {
            select = select.bind(case);
        }
        let limit = query.limit.clamp(1, MAX_ACTIONS);
        let rows = select.bind(i64::from(limit) + 1).fetch_all(&self.inner.readers).await?;
        let mut items = rows.iter().map(action).collect::<Result<Vec<_>, _>>()?;
        let more = items.len() > limit as usize;
        items.truncate(limit as usize);
        let next_cursor = items.last().filter(|_| more).map(|last| last.id.to_string());
        Ok(Page { items, next_cursor })
    }

    /// Actions that changed after a `seq`, in the order in which they did; with 0, all there are.
    pub async fn actions_since(&self, seq: i64, limit: u32) -> Result<Vec<ActionRow>, Error> {
        let sql = format!("select {COLUMNS} from actions where seq > $1 order by seq limit $2");
        let select = sqlx::query(AssertSqlSafe(sql)).bind(seq).bind(i64::from(limit));
        select.fetch_all(&self.inner.readers).await?.iter().map(action).collect()
    }

    /// How many actions of each state there are.
    pub async fn action_counts(&self) -> Result<BTreeMap<ActionState, u64>, Error> {
        let rows = sqlx::query("select state, count(*) as n from actions group by state");
        let rows = rows.fetch_all(&self.inner.readers).await?;
        rows.iter().map(|row| Ok((state(row)?, unsigned(row.try_get("n")?)))).collect()
    }

    /// How many actions of each effect and state there are.
    pub async fn effect_counts(&self) -> Result<BTreeMap<(Effectiveness, ActionState), u64>, Error> {
        let rows = sqlx::query(
            "select effect, state, count(*) as n from actions where effect is not null group by effect, state",
        );
        let mut counts = BTreeMap::new();
        for row in rows.fetch_all(&self.inner.readers).await? {
            let word: String = row.try_get("effect")?;
            if let Some(effect) = Effectiveness::parse(&word) {
                counts.insert((effect, state(&row)?), unsigned(row.try_get("n")?));
            }
        }
        Ok(counts)
    }

    /// Of the newest countermeasures that took effect, at most so many, the order as it was given and how long they took.
    pub async fn took_effect(&self, limit: u32) -> Result<Vec<(String, Span)>, Error> {
        let rows = sqlx::query(
            "select given_order, effect_at - acted_at as took from actions where effect = 'effective' \
             and given_order is not null and acted_at is not null and effect_at is not null order by id desc limit $1",
        );
        let rows = rows.bind(i64::from(limit)).fetch_all(&self.inner.readers).await?;
        rows.iter().map(|row| Ok((row.try_get("given_order")?, Span(row.try_get("took")?)))).collect()
    }

    /// The steps of an action, in order.
    pub async fn action_steps(&self, id: i64) -> Result<Vec<AuditEntry>, Error> {
        let select = sqlx::query(
            "select seq, at, actor, action, target, before, after, change_id from audit where target = $1 order by seq limit 1000",
        );
        let rows = select.bind(audit_target(id)).fetch_all(&self.inner.readers).await?;
        rows.iter().map(audit_entry).collect()
    }

    /// An action as it was at `seq`, by what its steps say; none if it was not there yet.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn action_at(&self, id: i64, seq: i64) -> Result<Option<ActionRow>, Error> {
        let Some(mut row) = self.action(id).await?.filter(|row| row.id <= seq) else { return Ok(None) };
        if row.seq <= seq {
            return Ok(Some(row));
        }
        let (acted_at, effect, effect_at) = (row.acted_at, row.effect, row.effect_at);
        (row.approvals, row.effect, row.effect_at) = (Vec::new(), None, None);
        (row.order, row.acted_at, row.until) = (None, None, None);
        for step in self.action_steps(id).await?.into_iter().filter(|step| step.seq <= seq) {
            let Some(said) = step.to.as_deref().and_then(|to| serde_json::from_str::<Said>(to).ok()) else {
                continue;
            };
            row.state = said.state.as_deref().and_then(ActionState::parse).unwrap_or(row.state);
            row.reasons = said.reasons.unwrap_or(row.reasons);
            row.approvals = said.approvals.unwrap_or(row.approvals);
            row.until = said.until.or(row.until);
            row.acted_at = acted_at.filter(|_| row.until.is_some());
            if let Some(told) = said.effect.as_deref().and_then(Effectiveness::parse) {
                (row.effect, row.effect_at) = (Some(told), effect_at.filter(|_| effect == Some(told)));
            }
            row.changed_at = step.at;
        }
        row.seq = seq;
        Ok(Some(row))
    }

    /// Countermeasures ordered since a time, by rule.
    pub async fn acted_since(&self, since: Micros) -> Result<BTreeMap<String, u32>, Error> {
        let select =
            sqlx::query("select rule_id, count(*) as n from actions where acted_at > $1 group by rule_id");
        let rows = select.bind(since.0).fetch_all(&self.inner.readers).await?;
        rows.iter().map(|row| Ok((row.try_get("rule_id")?, narrow(row.try_get("n")?)))).collect()
    }

    /// How often a countermeasure was ordered against a target, this action's own order not counted.
    pub async fn earlier(&self, target: &str, but: i64) -> Result<u32, Error> {
        let select = sqlx::query(
            "select count(*) as n from (select 1 from actions where target = $1 and acted_at is not null and id <> $2 limit 1000) as x",
        );
        let row = select.bind(target).bind(but).fetch_one(&self.inner.readers).await?;
        Ok(narrow(row.try_get("n")?))
    }
}

impl Store {
    /// Removes actions that are over and whose alert is gone: as long as that is there it may be revised, and would be answered anew.
    /// Their steps stay in the audit log. How many, and whether there may be more.
    pub(crate) async fn forget_actions(&self, before: Micros, most: i64) -> Result<(u64, bool), Error> {
        let open = ActionState::ALL.iter().filter(|state| state.is_open()).map(|state| state.name());
        let open: Vec<String> = open.map(|name| format!("'{name}'")).collect();
        let select = format!(
            "select id from actions where changed_at < $1 and state not in ({}) \
             and not exists (select 1 from alerts where alerts.id = alert_id) order by id limit $2",
            open.join(", ")
        );
        let select = sqlx::query(AssertSqlSafe(select)).bind(before.0).bind(most);
        let rows = select.fetch_all(&self.inner.readers).await?;
        let ids = rows.iter().map(|row| row.try_get("id")).collect::<Result<Vec<i64>, _>>()?;
        if ids.is_empty() {
            return Ok((0, false));
        }
        let mut tx = self.begin_as_engine().await?;
        for of in [DELIVERIES, ACTIONS] {
            tx.run_bulk(of, &ids, |delete, id| delete.bind(id)).await?;
        }
        let removed = ids.len() as i64;
        tx.count_removed("actions", [("over".to_owned(), removed)].into()).await?;
        tx.commit().await?;
        Ok((removed.unsigned_abs(), removed == most))
    }
}

impl WriteTx {
    async fn propose(&mut self, new: &NewAction) -> Result<ActionRow, Error> {
        let known = format!("select {COLUMNS} from actions where proposal_id = $1");
        if let Some(row) = self.one(sqlx::query(AssertSqlSafe(known)).bind(&new.proposal_id)).await? {
            return action(&row);
        }
        let of = &new.row;
        let seq = self.change(ChangeKind::Action, &(self.seq + 1).to_string());
        let mut row = of.clone();
        (row.id, row.seq, row.version, row.changed_at) = (seq, seq, 1, self.now);
        let insert = sqlx::query(
            "insert into actions (id, proposal_id, state, playbook, step, deed, action, target, alert_id, rule_id, severity, \
             proposal, reasons, proposer, approvals, people, proposed_at, changed_at, version, seq) values \
             ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20)",
        );
        let insert = insert.bind(seq).bind(&new.proposal_id).bind(of.state.name()).bind(&of.playbook);
        let insert =
            insert.bind(&of.step).bind(&of.deed).bind(of.action.as_deref()).bind(of.target.as_deref());
        let insert = insert.bind(&of.alert_id).bind(&of.rule_id).bind(of.severity as i64).bind(&of.proposal);
        let insert = insert.bind(list(&of.reasons)).bind(of.proposer.as_deref()).bind(list(&of.approvals));
        let insert = insert.bind(i64::from(of.people)).bind(of.proposed_at.0).bind(self.now.0);
        self.run(insert.bind(1_i64).bind(seq)).await?;
        let after = serde_json::json!({"state": of.state, "deed": of.deed, "target": of.target, "alert": of.alert_id,
            "reasons": of.reasons, "proposal": json(&of.proposal)});
        let target = audit_target(seq);
        let actor = of.proposer.as_deref().unwrap_or(SYSTEM);
        let after = Some(after.to_string());
        self.audit(seq, Audit { actor, action: "action_proposed", target: &target, before: None, after })
            .await?;
        Ok(row)
    }

    pub(super) async fn change_action(
        &mut self,
        id: i64,
        version: i64,
        change: &ActionChange,
        actor: &str,
        step: &'static str,
    ) -> Result<ActionRow, Error> {
        let select = sqlx::query(AssertSqlSafe(format!("select {COLUMNS} from actions where id = $1")));
        let found = self.one(select.bind(id)).await?;
        let found = found.ok_or_else(|| Error::NotFound { what: "action", id: id.to_string() })?;
        let before = action(&found)?;
        if before.version != version {
            return Err(Error::Stale { what: "action", id, version: before.version });
        }
        if change.order.is_some() && self.is_stopped().await? {
            return Err(Error::Clash { detail: "The kill switch is on: nothing is done.".to_owned() });
        }
        let seq = self.change(ChangeKind::Action, &id.to_string());
        let mut row = before.clone();
        row.apply(change, self.now);
        (row.version, row.seq, row.changed_at) = (version + 1, seq, self.now);
        let update = sqlx::query(
            "update actions set state = $1, reasons = $2, approvals = $3, people = $4, given_order = $5, acted_at = $6, until = $7, \
             effect = $8, effect_at = $9, changed_at = $10, version = $11, seq = $12 where id = $13",
        );
        let update = update.bind(row.state.name()).bind(list(&row.reasons)).bind(list(&row.approvals));
        let update = update.bind(i64::from(row.people)).bind(row.order.as_deref());
        let update = update.bind(row.acted_at.map(|at| at.0)).bind(row.until.map(|at| at.0));
        let update = update.bind(row.effect.map(Effectiveness::name)).bind(row.effect_at.map(|at| at.0));
        self.run(update.bind(self.now.0).bind(row.version).bind(seq).bind(id)).await?;
        for connector in &change.tell {
            self.tell(id, connector).await?;
        }
        let after = serde_json::json!({"state": row.state, "reasons": change.reasons, "until": row.until,
            "effect": change.effect, "approvals": row.approvals});
        let target = audit_target(id);
        let before = Some(serde_json::json!({"state": before.state}).to_string());
        let after = Some(after.to_string());
        self.audit(seq, Audit { actor, action: step, target: &target, before, after }).await?;
        Ok(row)
    }
}

/// What a step says that an action came to.
#[derive(Deserialize)]
struct Said {
    state: Option<String>,
    reasons: Option<Vec<String>>,
    approvals: Option<Vec<String>>,
    until: Option<Micros>,
    effect: Option<String>,
}

impl ActionRow {
    fn apply(&mut self, change: &ActionChange, now: Micros) {
        if let Some(state) = change.state {
            self.state = state;
        }
        if let Some(reasons) = &change.reasons {
            self.reasons.clone_from(reasons);
        }
        if let Some(who) = &change.approved_by
            && !self.approvals.contains(who)
        {
            self.approvals.push(who.clone());
        }
        if let Some(people) = change.people {
            self.people = people;
        }
        if let Some((order, acted_at, until)) = &change.order {
            (self.order, self.acted_at, self.until) = (Some(order.clone()), Some(*acted_at), Some(*until));
        }
        if let Some(effect) = change.effect {
            (self.effect, self.effect_at) = (Some(effect), Some(change.effect_at.unwrap_or(now)));
        }
    }
}

fn list(texts: &[String]) -> String {
    serde_json::Value::from(texts.to_vec()).to_string()
}

fn state(row: &AnyRow) -> Result<ActionState, Error> {
    let name: String = row.try_get("state")?;
    ActionState::parse(&name).ok_or_else(|| bad(&name, "no such state"))
}

fn bad(id: &str, detail: &str) -> Error {
    Error::BadValue { what: "action", id: id.to_owned(), detail: detail.to_owned() }
}

fn action(row: &AnyRow) -> Result<ActionRow, Error> {
    let id: i64 = row.try_get("id")?;
    let texts = |column: &str| -> Result<Vec<String>, Error> {
        let text: String = row.try_get(column)?;
        serde_json::from_str(&text).map_err(|e| bad(&id.to_string(), &e.to_string()))
    };
    let effect: Option<String> = row.try_get("effect")?;
    Ok(ActionRow {
        id,
        state: state(row)?,
        playbook: row.try_get("playbook")?,
        step: row.try_get("step")?,
        deed: row.try_get("deed")?,
        action: row.try_get("action")?,
        target: row.try_get("target")?,
        alert_id: row.try_get("alert_id")?,
        rule_id: row.try_get("rule_id")?,
        severity: severity_of(row.try_get("severity")?)?,
        proposal: row.try_get("proposal")?,
        reasons: texts("reasons")?,
        proposer: row.try_get("proposer")?,
        approvals: texts("approvals")?,
        people: narrow(row.try_get("people")?),
        order: row.try_get("given_order")?,
        acted_at: time(row.try_get("acted_at")?),
        until: time(row.try_get("until")?),
        effect: effect.as_deref().and_then(Effectiveness::parse),
        effect_at: time(row.try_get("effect_at")?),
        proposed_at: Micros(row.try_get("proposed_at")?),
        changed_at: Micros(row.try_get("changed_at")?),
        version: row.try_get("version")?,
        seq: row.try_get("seq")?,
    })
}
