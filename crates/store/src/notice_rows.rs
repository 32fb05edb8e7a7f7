//! Writing notices: many at once, each only where it says something new.
//!
//! In: notices in the order in which the engine gave them. Out: rows of the queue. Invariants: at most one notice of a
//! rule and key waits for its alert, a closed one too, because its alert is closed with it; one that an alert covers
//! already, or that was stored before, changes nothing.

use std::collections::BTreeSet;

use sqlx::Row;

use crate::{
    alert_rows::QueueRow,
    bulk::Bulk,
    error::Error,
    model::{ChangeKind, NewNotice},
    transaction::WriteTx,
    triage::TriageRow,
};

/// The numbers of those that are there, or have nothing to say.
const KNOWN: Bulk = Bulk {
    head: "with wanted (n, of_id, of_rule, of_key, at) as (values ",
    columns: 5,
    tail: ") select n from wanted where exists (select 1 from alerts where id = of_id) or exists (select 1 from alerts \
           where rule_id = of_rule and group_key = of_key and ((state = 'notice' and covered_by is null and withdrawn is null) \
           or (state <> 'notice' and first_seen <= at and covers_until >= at)))",
};

impl WriteTx {
    /// Writes notices; how many were new and covered by no alert.
    pub(crate) async fn write_notices(&mut self, notices: &[NewNotice]) -> Result<u64, Error> {
        if notices.is_empty() {
            return Ok(0);
        }
        let numbered: Vec<(i64, &NewNotice)> = (0..).zip(notices).collect();
        let known = self.all_bulk(KNOWN, &numbered, |select, (n, notice)| {
            let select = select.bind(n).bind(&notice.notice_id).bind(&notice.rule_id);
            select.bind(&notice.key).bind(notice.crossed_at.0)
        });
        let known = known.await?;
        let known =
            known.iter().map(|row| Ok(row.try_get("n")?)).collect::<Result<BTreeSet<i64>, Error>>()?;
        let (mut ids, mut open) = (BTreeSet::new(), BTreeSet::new());
        let mut rows = Vec::new();
        let snoozes = self.snoozes_in_force().await?;
        for (n, notice) in numbered {
            if known.contains(&n)
                || !ids.insert(&notice.notice_id)
                || !open.insert((&notice.rule_id, &notice.key))
            {
                continue;
            }
            let seq = self.change(ChangeKind::Notice, &notice.notice_id);
            let mut triage = TriageRow::fresh(notice.severity);
            triage.triage_seq = seq;
            triage.snooze = snoozes.hiding(&notice.rule_id, notice.entity.as_ref(), notice.severity);
            rows.push(QueueRow {
                id: &notice.notice_id,
                state: "notice",
                revision: 0,
                rule_id: &notice.rule_id,
                rule_title: &notice.rule_title,
                tags: &notice.tags,
                is_found_anew: true,
                severity: notice.severity,
                key: &notice.key,
                entity: notice.entity.as_ref(),
                sources: &notice.sources,
                concerns: &notice.concerns,
                times: [notice.crossed_at.0; 4],
                count: notice.count,
                summary: &notice.summary,
                body: &notice.body,
                predecessor: None,
                successor: None,
                triage,
                created_seq: seq,
                revision_seq: seq,
                seq,
            });
        }
        self.write_queue_rows(&rows).await?;
        Ok(rows.len() as u64)
    }
}

#[cfg(test)]
pub(crate) fn known_statement() -> String {
    KNOWN.text(2)
}
