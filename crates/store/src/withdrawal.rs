//! Withdrawing notices: those that no alert can cover any more say so.
//!
//! In: rules that have passed a time ([`Passed`]). Out: their notices below it that no alert covers leave the open queue,
//! with a reason, an entry of the history and a change for every stream. Invariants: a notice that an alert may still
//! cover is left alone; one that was withdrawn stays so, and no alert takes over its triage.

use std::collections::BTreeMap;

use sqlx::{Row, any::AnyRow};
use vedette_event::{Micros, time::DAY};

use crate::{
    bulk::Bulk,
    error::Error,
    model::{ChangeKind, Passed, Withdrawal, Withdrawn},
    store::Store,
    transaction::{Audit, SYSTEM, WriteTx},
    triage,
};

/// Notices withdrawn in one transaction.
const AT_ONCE: usize = 256;

/// Notices that nothing can cover. As long as an alert of the key is active, a revision of it may yet reach the notice;
/// an episode lies within a day.
const LEFT: Bulk = Bulk {
    head: "with passed (of_rule, why, below, settled, a_day) as (values ",
    columns: 5,
    tail: concat!(
        ") select why, ",
        triage_columns!(),
        " from passed cross join alerts where rule_id = of_rule and crossed_at < below and state = 'notice' \
         and covered_by is null and withdrawn is null and (crossed_at < settled or not exists (select 1 from alerts a \
         where a.rule_id = alerts.rule_id and a.group_key = alerts.group_key and a.crossed_at <= alerts.crossed_at \
         and a.crossed_at > alerts.crossed_at - a_day and a.state = 'active')) limit 256"
    ),
};
const WITHDRAW: Bulk = Bulk {
    head: "with given (of_id, why, since, at_seq) as (values ",
    columns: 4,
    tail: ") update alerts set withdrawn = why, withdrawn_at = since, status = 'closed', \
           closed_at = coalesce(closed_at, since), evidence_pending = 0, \
           triage_seq = at_seq, seq = at_seq from given where id = of_id",
};

impl Store {
    /// Withdraws the notices that nothing can cover any more; how many.
    pub(crate) async fn withdraw(&self, passed: &[Passed]) -> Result<u64, Error> {
        let mut withdrawn = 0;
        loop {
            let mut tx = self.begin_as_engine().await?;
            let found = tx.withdraw_some(passed).await?;
            withdrawn += found as u64;
            tx.commit().await?;
            if found < AT_ONCE {
                return Ok(withdrawn);
            }
        }
    }

    /// By rule, the whole seconds in which notices crossed that wait for their alert.
    pub async fn waiting_notices(&self) -> Result<BTreeMap<String, Vec<Micros>>, Error> {
        let rows = sqlx::query(
            "select distinct rule_id, crossed_at / 1000000 as second from alerts where state = 'notice' \
             and covered_by is null and withdrawn is null order by rule_id, second",
        )
        .fetch_all(&self.inner.readers)
        .await?;
        let mut waiting: BTreeMap<String, Vec<Micros>> = BTreeMap::new();
        for row in rows {
            let second: i64 = row.try_get("second")?;
            waiting
                .entry(row.try_get("rule_id")?)
                .or_default()
                .push(Micros(second.saturating_mul(1_000_000)));
        }
        Ok(waiting)
    }
}

impl WriteTx {
    /// Withdraws a bounded number of them; how many.
    async fn withdraw_some(&mut self, passed: &[Passed]) -> Result<usize, Error> {
        let rows = self.all_bulk(LEFT, passed, |select, passed| {
            let select = select.bind(&passed.rule_id).bind(passed.reason.name());
            select.bind(passed.below.0).bind(passed.settled.0).bind(DAY.0)
        });
        let mut given = Vec::new();
        for row in rows.await?.into_iter().take(AT_ONCE) {
            let (id, why): (String, String) = (row.try_get("id")?, row.try_get("why")?);
            let before = triage::triage_of(&row)?;
            let seq = self.change(ChangeKind::Withdrawn, &id);
            let entry = Audit {
                actor: SYSTEM,
                action: "withdrawn",
                target: &id,
                before: Some(serde_json::to_string(&before)?),
                after: Some(serde_json::to_string(&why)?),
            };
            self.audit(seq, entry).await?;
            given.push((id, why, self.now.0, seq));
        }
        self.run_bulk(WITHDRAW, &given, |update, (id, why, since, seq)| {
            update.bind(id).bind(why).bind(since).bind(seq)
        })
        .await?;
        Ok(given.len())
    }
}

/// Why and since when a row is withdrawn, if it is.
pub(crate) fn withdrawn_of(row: &AnyRow) -> Result<Option<Withdrawn>, Error> {
    let (why, at): (Option<String>, Option<i64>) = (row.try_get("withdrawn")?, row.try_get("withdrawn_at")?);
    let (Some(why), Some(at)) = (why, at) else { return Ok(None) };
    match Withdrawal::parse(&why) {
        Some(reason) => Ok(Some(Withdrawn { reason, at: Micros(at) })),
        None => Err(Error::BadValue { what: "withdrawal", id: why, detail: "unknown word".to_owned() }),
    }
}

#[cfg(test)]
pub(crate) fn left_statement() -> String {
    LEFT.text(2)
}
