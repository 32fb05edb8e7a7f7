//! Answers kept for requests that come with a key: carried out once, answered as often as they are sent.
//!
//! In: [`Once`]: a key and the request it came with. Out: the answer given before. Invariants: an answer is written in the transaction that makes what it
//! tells of, so that a crash leaves both or neither; where that is several, with the last, and the first says which change is under
//! way, so that the same request again goes on with it; of one caller the newest [`MAX_KEPT`] are
//! kept, and of those the newest long ones, for a day; a key that comes with another request, or while it is under way, is refused.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
};

use sqlx::Row;
use vedette_event::{Micros, Span};

use crate::{
    error::Error,
    model::{Key, Made, Once},
    store::{Inner, Store},
    transaction::WriteTx,
};

/// How long an answer is kept.
pub(crate) const KEPT: Span = Span::secs(86_400);

/// Answers of one caller: with a few hundred bytes each, less than a megabyte; see [`MAX_LONG`].
pub(crate) const MAX_KEPT: i64 = 1_000;

/// Bytes from which on an answer is long: what is told of a thousand rows, and more.
const LONG: usize = 64 << 10;

/// Long answers of one caller: of 100,000 rows each, some eight megabytes.
const MAX_LONG: i64 = 8;

/// Keys, by caller, whose requests are under way in several transactions.
pub(crate) type KeysUnderWay = Mutex<BTreeSet<(String, String)>>;

/// That a request with a key is under way, until this is dropped.
pub(crate) struct UnderWay {
    inner: Arc<Inner>,
    key: (String, String),
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let keys = self.inner.under_way.lock();
        keys.unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}

/// A transaction that is to make something, unless it was made before; it bears the id of the change that was cut off, if one was.
pub(crate) enum Begun {
    New(WriteTx),
    Again(String),
}

impl Store {
    /// Says that the request with this key is under way; refused where it is already.
    pub(crate) fn under_way(&self, key: &Key) -> Result<UnderWay, Error> {
        let key = (key.caller.clone(), key.name.clone());
        let keys = self.inner.under_way.lock();
        if !keys.unwrap_or_else(PoisonError::into_inner).insert(key.clone()) {
            let detail = "The request with this Idempotency-Key is still under way; ask again in a moment.";
            return Err(Error::Clash { detail: detail.to_owned() });
        }
        Ok(UnderWay { inner: Arc::clone(&self.inner), key })
    }

    /// Begins a transaction, or gives what was answered to the same request before.
    pub(crate) async fn begin_once<T>(&self, once: Option<&Once<T>>) -> Result<Begun, Error> {
        let mut tx = self.begin().await?;
        let Some(Once { key, .. }) = once else { return Ok(Begun::New(tx)) };
        let known = sqlx::query(
            "select request, answer, change_id from kept_answers where caller = $1 and name = $2 and at > $3",
        )
        .bind(&key.caller)
        .bind(&key.name)
        .bind(tx.now.minus(KEPT).0);
        match tx.one(known).await? {
            None => Ok(Begun::New(tx)),
            Some(row) if row.try_get::<Vec<u8>, _>("request")? != key.request => Err(Error::KeyReused),
            Some(row) => {
                tx.change_id = row.try_get("change_id")?;
                match tx.change_id {
                    Some(_) => Ok(Begun::New(tx)),
                    None => Ok(Begun::Again(row.try_get("answer")?)),
                }
            }
        }
    }

    /// Forgets answers that were kept before this.
    pub(crate) async fn forget_answers(&self, before: Micros, limit: i64) -> Result<(u64, bool), Error> {
        let old = sqlx::query("select 1 from kept_answers where at < $1 limit 1").bind(before.0);
        if old.fetch_optional(&self.inner.readers).await?.is_none() {
            return Ok((0, false));
        }
        let mut tx = self.begin_as_engine().await?;
        let delete = sqlx::query(
            "delete from kept_answers where (caller, name) in (select caller, name from kept_answers \
             where at < $1 order by at limit $2)",
        );
        let removed = tx.run(delete.bind(before.0).bind(limit)).await?;
        tx.commit().await?;
        Ok((removed, true))
    }
}

impl WriteTx {
    /// Commits what was made, with its answer if it is to be kept.
    pub(crate) async fn commit_once<T>(mut self, once: Option<&Once<T>>, made: T) -> Result<Made<T>, Error> {
        self.keep_answer(once, &made).await?;
        self.commit().await?;
        Ok(Made::New(made))
    }

    /// Writes what is answered, if that is to be kept.
    pub(crate) async fn keep_answer<T>(&mut self, once: Option<&Once<T>>, made: &T) -> Result<(), Error> {
        if let Some(Once { key, answer }) = once {
            let answer = answer(made)?;
            let is_long = answer.len() >= LONG;
            self.keep(key, answer, None).await?;
            if is_long {
                let surplus = sqlx::query(
                    "delete from kept_answers where caller = $1 and name in (select name from kept_answers \
                     where caller = $1 and octet_length(answer) >= $4 order by at desc, name limit $2 offset $3)",
                );
                let surplus = surplus.bind(&key.caller).bind(MAX_KEPT).bind(MAX_LONG);
                self.run(surplus.bind(LONG as i64)).await?;
            }
        }
        Ok(())
    }

    /// Says of a request with a key that it is under way, and which change it makes.
    pub(crate) async fn keep_begun(&mut self, key: &Key, change: i64) -> Result<(), Error> {
        self.keep(key, String::new(), Some(change)).await
    }

    async fn keep(&mut self, key: &Key, answer: String, change: Option<i64>) -> Result<(), Error> {
        let insert = sqlx::query(
            "insert into kept_answers (caller, name, request, answer, at, change_id) values ($1, $2, $3, $4, $5, $6) \
             on conflict (caller, name) do update set request = excluded.request, answer = excluded.answer, \
             at = excluded.at, change_id = excluded.change_id",
        );
        let insert = insert.bind(&key.caller).bind(&key.name).bind(key.request.to_vec());
        self.run(insert.bind(answer).bind(self.now.0).bind(change)).await?;
        let surplus = sqlx::query(
            "delete from kept_answers where caller = $1 and name in (select name from kept_answers \
             where caller = $1 order by at desc, name limit $2 offset $3)",
        );
        self.run(surplus.bind(&key.caller).bind(MAX_KEPT).bind(MAX_KEPT)).await.map(drop)
    }

    /// The next number of this kind of thing.
    pub(crate) async fn number(&mut self, kind: &'static str) -> Result<i64, Error> {
        let next = sqlx::query("update desk_numbers set last = last + 1 where kind = $1 returning last");
        let row = self.one(next.bind(kind)).await?;
        let row = row.ok_or_else(|| Error::Corrupt { detail: format!("no numbers for {kind}") })?;
        Ok(row.try_get("last")?)
    }
}
