//! What each version of a rule said: an alert's page shows the text that raised it, also when another is in force.
//!
//! In: texts of rules that are new or changed, as they come into force. Out: the text of a version. Invariants: of each rule the one that came
//! last stays; those before it go once it has been in force for as long as closed alerts are kept.

use sqlx::Row as _;
use vedette_event::Micros;

use crate::{bulk::Bulk, error::Error, model::RuleText, store::Store, transaction::WriteTx};

/// Texts that one step of retention removes.
const STEP: i64 = 200;
const PUT: Bulk = Bulk {
    head: "insert into rule_texts (rule_id, version, text, stored_at) values ",
    columns: 4,
    tail: " on conflict (rule_id, version) do update set text = excluded.text, stored_at = excluded.stored_at",
};

impl WriteTx {
    pub(crate) async fn write_rule_texts(&mut self, texts: &[RuleText]) -> Result<(), Error> {
        let now = self.now.0;
        self.run_bulk(PUT, texts, |insert, rule| {
            insert.bind(&rule.rule_id).bind(&rule.version).bind(&*rule.text).bind(now)
        })
        .await
        .map(drop)
    }
}

impl Store {
    /// What a version of a rule said; `None` if that was before texts were kept, or too long ago.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn rule_text(&self, rule: &str, version: &str) -> Result<Option<String>, Error> {
        let select = sqlx::query("select text from rule_texts where rule_id = $1 and version = $2");
        let row = select.bind(rule).bind(version).fetch_optional(&self.inner.readers).await?;
        row.map(|row| Ok(row.try_get("text")?)).transpose()
    }

    /// Removes texts after which another of the same rule has been in force since before then.
    pub(crate) async fn forget_rule_texts(&self, before: Micros) -> Result<(u64, bool), Error> {
        let outlived = sqlx::query(
            "select o.rule_id, o.version, o.stored_at from rule_texts o where o.stored_at < $1 and exists (select 1 from rule_texts n \
             where n.rule_id = o.rule_id and n.stored_at > o.stored_at and n.stored_at < $1) limit $2",
        );
        let outlived = outlived.bind(before.0).bind(STEP).fetch_all(&self.inner.readers).await?;
        if outlived.is_empty() {
            return Ok((0, false));
        }
        let mut tx = self.begin_as_engine().await?;
        for row in &outlived {
            // It may have come into force again meanwhile.
            let delete =
                sqlx::query("delete from rule_texts where rule_id = $1 and version = $2 and stored_at = $3");
            let delete =
                delete.bind(row.try_get::<String, _>("rule_id")?).bind(row.try_get::<String, _>("version")?);
            tx.run(delete.bind(row.try_get::<i64, _>("stored_at")?)).await?;
        }
        tx.commit().await?;
        // The alerts that they were kept for are gone: nobody misses them, so they are not counted.
        Ok((0, true))
    }
}
