//! Reading the audit log: who changed what, when, from what to what.
//!
//! In: [`AuditQuery`]. Out: entries, newest first. Invariant: entries are only ever added.

use sqlx::AssertSqlSafe;

use crate::{
    error::Error,
    model::{AuditEntry, AuditQuery, Page},
    store::Store,
    triage::audit_entry,
};

impl Store {
    /// One page of the audit log. Its cursor is the last entry's time and `seq`.
    pub async fn audit(&self, query: &AuditQuery) -> Result<Page<AuditEntry>, Error> {
        let mut sql = String::from(
            "select seq, at, actor, action, target, before, after, change_id from audit where 1 = 1",
        );
        let mut arguments = 0;
        let mut and = |condition: &str| {
            let mut parts = condition.split('?');
            sql.push_str(parts.next().unwrap_or_default());
            for part in parts {
                arguments += 1;
                sql.push_str(&format!("${arguments}{part}"));
            }
        };
        let texts = [
            (&query.actor, " and actor = ?"),
            (&query.action, " and action = ?"),
            (&query.target, " and target = ?"),
        ];
        texts.iter().filter(|(text, _)| text.is_some()).for_each(|(_, condition)| and(condition));
        let times = [(query.since, " and at >= ?"), (query.until, " and at < ?")];
        times.iter().filter(|(time, _)| time.is_some()).for_each(|(_, condition)| and(condition));
        if query.before.is_some() {
            and(" and (at, seq) < (?, ?)");
        }
        and(" order by at desc, seq desc limit ?");
        let mut select = sqlx::query(AssertSqlSafe(sql));
        for (text, _) in texts {
            if let Some(text) = text {
                select = select.bind(text);
            }
        }
        for time in [query.since, query.until].into_iter().flatten() {
            select = select.bind(time.0);
        }
        if let Some((at, seq)) = query.before {
            select = select.bind(at).bind(seq);
        }
        let limit = query.limit.max(1);
        let rows = select.bind(i64::from(limit) + 1).fetch_all(&self.inner.searchers).await?;
        let mut items = rows.iter().map(audit_entry).collect::<Result<Vec<_>, _>>()?;
        let more = items.len() > limit as usize;
        items.truncate(limit as usize);
        let next_cursor = items.last().filter(|_| more).map(|last| format!("{}-{}", last.at.0, last.seq));
        Ok(Page { items, next_cursor })
    }
}
