//! Search: which words a row is found by, and the index of them, in SQLite's own form.
//!
//! In: a row's title, rule, entity, key and tags; what somebody types. Out: words for the index, a query of it.
//! Invariants: what users type never becomes query syntax; a row is found by the words of what it is about, which a
//! revision does not change, so that only new rows and new titles are written; a word is found by its beginning and by
//! that of its parts (`T1046` finds `attack.t1046`); words are cut alike on both sides.
//!
//! FTS5 with words of our own making: its tokenizers cut `10.0.0.4` into four numbers that every row has, so that an
//! address would be a phrase of the commonest words, and phrases need an index three times as large. Everything else in the
//! store is one text for two databases; this file and its step of the format are what PostgreSQL would have its own of.

use std::collections::BTreeSet;

use serde_json::Value;
use sqlx::{AnyConnection, Connection as _, Row};

use crate::{
    bulk::Bulk,
    error::Error,
    model::{AlertRow, EntityRef, Filter},
    store::Store,
    techniques,
    transaction::WriteTx,
};

/// Rows that a search looks at, the newest first: what has more words in common than so many rows is no search. With 10,000 the page of a
/// word that each of 100,000 rows has took 83 ms (the queue's own 17), with 2,500 46.
pub const MAX_FOUND: i64 = 1_000;
/// Words of a row.
const MAX_WORDS: usize = 128;
/// Characters of a word.
const MAX_WORD: usize = 64;
/// Words of a query.
const MAX_ASKED: usize = 16;
/// A shorter word is only found whole: as a beginning it would be that of too many.
const MIN_BEGINNING: usize = 3;
/// How words are made, under this name in `meta`; a store whose words were made in another way is indexed anew.
const META: &str = "search_words";
const WAY: &[u8] = b"1";
/// Rows indexed at once when a store is brought up.
const STEP: i64 = 512;

const INSERT: Bulk = Bulk { head: "insert into alert_search (rowid, words) values ", columns: 2, tail: "" };
const FORGET: Bulk = Bulk { head: "delete from alert_search where rowid in (", columns: 1, tail: ")" };

/// What a row is found by.
pub(crate) struct FoundBy<'a> {
    pub(crate) rule_id: &'a str,
    pub(crate) rule_title: &'a str,
    pub(crate) entity: Option<&'a EntityRef>,
    /// The group key as JSON text.
    pub(crate) key: &'a str,
    pub(crate) tags: &'a [String],
}

impl FoundBy<'_> {
    /// The words, with blanks between them.
    pub(crate) fn words(&self) -> String {
        self.set().into_iter().collect::<Vec<_>>().join(" ")
    }

    fn set(&self) -> BTreeSet<String> {
        let key: Option<Value> = serde_json::from_str(self.key).ok();
        let mut words = BTreeSet::new();
        for text in [self.rule_id, self.rule_title].into_iter().chain(self.tags.iter().map(String::as_str)) {
            add_words(text, &mut words);
        }
        if let Some(entity) = self.entity {
            add_words(&entity.value, &mut words);
        }
        key.iter().for_each(|key| add_values(key, &mut words));
        words
    }
}

fn add_values(value: &Value, words: &mut BTreeSet<String>) {
    match value {
        Value::String(text) => add_words(text, words),
        Value::Number(number) => add_words(&number.to_string(), words),
        Value::Array(list) => list.iter().for_each(|value| add_values(value, words)),
        Value::Object(fields) => fields.values().for_each(|value| add_values(value, words)),
        Value::Null | Value::Bool(_) => {}
    }
}

/// A text's words, and what follows each mark within one. Of numbers with points and colons (addresses, times) only the whole.
fn add_words(text: &str, words: &mut BTreeSet<String>) {
    for word in text.split_whitespace() {
        let word = bare(word);
        let letters = word.iter().any(|c| c.is_alphabetic());
        let begins = |at: usize| match at.checked_sub(1).and_then(|before| word.get(before)) {
            None => true,
            Some(mark) => !mark.is_alphanumeric() && (letters || !matches!(mark, '.' | ':')),
        };
        for at in (0..word.len()).filter(|at| word[*at].is_alphanumeric() && begins(*at)) {
            if words.len() == MAX_WORDS {
                return;
            }
            words.insert(written(&word[at..]));
        }
    }
}

/// A word in lower case without the marks around it.
fn bare(word: &str) -> Vec<char> {
    let word = word.to_lowercase();
    word.trim_matches(|c: char| !c.is_alphanumeric()).chars().collect()
}

/// A word as the index has it: letters and digits of any script, and one mark for all others.
fn written(word: &[char]) -> String {
    word.iter().take(MAX_WORD).map(|c| if c.is_alphanumeric() { *c } else { '_' }).collect()
}

/// The words that somebody asks for.
fn asked(text: &str) -> impl Iterator<Item = String> {
    let words = text.split_whitespace().map(|word| written(&bare(word)));
    words.filter(|word| !word.is_empty()).take(MAX_ASKED)
}

fn is_beginning(word: &str) -> bool {
    word.chars().nth(MIN_BEGINNING - 1).is_some()
}

/// The query of the index; `None` if there is no word in the text.
pub(crate) fn query(text: &str) -> Option<String> {
    let terms: Vec<String> =
        asked(text).map(|word| format!("\"{word}\"{}", if is_beginning(&word) { "*" } else { "" })).collect();
    (!terms.is_empty()).then(|| terms.join(" AND "))
}

/// The bounds of ids that begin with the text, if it can be the beginning of one.
pub(crate) fn id_bounds(text: &str) -> Option<(String, String)> {
    let text = text.trim();
    let is_one = (8..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit());
    is_one.then(|| (text.to_ascii_lowercase(), format!("{}~", text.to_ascii_lowercase())))
}

/// The tags of the rule that a body names.
fn tags_of(body: &Value) -> Vec<String> {
    let tags = body.pointer("/rule/tags").and_then(Value::as_array).into_iter().flatten();
    tags.filter_map(|tag| tag.as_str().map(str::to_owned)).collect()
}

/// Whether a row is found by a text: what the index would say, for one row.
pub(crate) fn finds(text: &str, row: &AlertRow) -> bool {
    let body: Value = serde_json::from_str(&row.body).unwrap_or_default();
    let tags = tags_of(&body);
    let key = body.get("key").map(ToString::to_string).unwrap_or_default();
    let of = FoundBy {
        rule_id: &row.rule_id,
        rule_title: &row.rule_title,
        entity: row.entity.as_ref(),
        key: &key,
        tags: &tags,
    };
    let words = of.set();
    let found = |word: String| {
        let next = words.range(word.clone()..).next();
        next.is_some_and(|next| *next == word || (is_beginning(&word) && next.starts_with(&word)))
    };
    let mut asked = asked(text).peekable();
    let by_id = id_bounds(text).is_some_and(|(from, to)| (from..to).contains(&row.id));
    by_id || (asked.peek().is_some() && asked.all(found))
}

impl Store {
    /// Whether more rows hold a filter's words than a search looks at, so that a list leaves the oldest out.
    pub async fn search_capped(&self, filter: &Filter) -> Result<bool, Error> {
        let Some(query) = filter.q.as_deref().and_then(query) else { return Ok(false) };
        let beyond = sqlx::query(
            "select rowid from alert_search where alert_search match $1 order by rowid desc limit 1 offset $2",
        );
        let beyond = beyond.bind(query).bind(MAX_FOUND).fetch_optional(&self.inner.searchers).await?;
        Ok(beyond.is_some())
    }
}

impl WriteTx {
    /// Puts new rows into the index.
    pub(crate) async fn write_words(&mut self, rows: &[(i64, String)]) -> Result<(), Error> {
        self.run_bulk(INSERT, rows, |insert, (seq, words)| insert.bind(seq).bind(words)).await.map(drop)
    }

    /// Takes rows out of the index.
    pub(crate) async fn forget_words(&mut self, rows: &[i64]) -> Result<(), Error> {
        self.run_bulk(FORGET, rows, |delete, seq| delete.bind(seq)).await.map(drop)
    }
}

/// Whether all rows are in the index, their words made as they are now.
pub(crate) async fn is_current(connection: &mut AnyConnection) -> Result<bool, Error> {
    let row =
        sqlx::query("select value from meta where name = $1").bind(META).fetch_optional(connection).await?;
    let way: Option<Vec<u8>> = row.map(|row| row.try_get("value")).transpose()?;
    Ok(way.as_deref() == Some(WAY))
}

/// Puts all rows into the index and notes their techniques: those of a store that had neither, or other words.
pub(crate) async fn index_all(connection: &mut AnyConnection) -> Result<(), Error> {
    let mut tx = connection.begin().await?;
    sqlx::query("delete from alert_search").execute(&mut *tx).await?;
    let mut last = -1_i64;
    loop {
        let rows = sqlx::query(
            "select a.created_seq, rule_id, rule_title, entity_type, entity_value, group_key, covered_by, body from alerts a \
             join alert_bodies b on b.created_seq = a.created_seq where a.created_seq > $1 \
             order by a.created_seq limit $2",
        )
        .bind(last)
        .bind(STEP)
        .fetch_all(&mut *tx)
        .await?;
        for row in &rows {
            last = row.try_get("created_seq")?;
            let body: Value = serde_json::from_str(row.try_get("body")?).unwrap_or_default();
            let tags = tags_of(&body);
            let (kind, value): (Option<String>, Option<String>) =
                (row.try_get("entity_type")?, row.try_get("entity_value")?);
            let entity = kind.zip(value).map(|(kind, value)| EntityRef { kind, value });
            let found = FoundBy {
                rule_id: row.try_get("rule_id")?,
                rule_title: row.try_get("rule_title")?,
                entity: entity.as_ref(),
                key: row.try_get("group_key")?,
                tags: &tags,
            };
            if row.try_get::<Option<String>, _>("covered_by")?.is_none() {
                let insert = sqlx::query("insert into alert_search (rowid, words) values ($1, $2)");
                insert.bind(last).bind(found.words()).execute(&mut *tx).await?;
            }
            let named = techniques::named(&tags);
            for technique in techniques::with_whole(&named) {
                let insert = sqlx::query(
                    "insert into technique_sets (technique, techniques) values ($1, $2) on conflict do nothing",
                );
                insert.bind(technique).bind(&named).execute(&mut *tx).await?;
            }
            let update = sqlx::query("update alerts set techniques = $2 where created_seq = $1");
            update.bind(last).bind(&named).execute(&mut *tx).await?;
        }
        if rows.is_empty() {
            break;
        }
    }
    let note = sqlx::query(
        "insert into meta (name, value) values ($1, $2) on conflict (name) do update set value = excluded.value",
    );
    note.bind(META).bind(WAY).execute(&mut *tx).await?;
    Ok(tx.commit().await?)
}
