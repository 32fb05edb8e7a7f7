//! Records that ended unevaluated.
//!
//! In: a source, if only its own are asked for; who asks. Out: a page of them, newest first. Invariant: what the record says is
//! shown to those only who may see it, and never more of it than its first 4,096 characters.

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use vedette_event::{Micros, Span};
use vedette_store::{DeadLetterTotal, model::DeadLetterRow};

use super::list::{Listed, page_size};
use crate::{access::Permission, app::App, auth::Caller, metrics::now, problem::Problem};

/// Characters of a dead letter's record that are shown.
const SHOWN: usize = 4_096;

/// Which dead letters.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct DeadLetterParams {
    /// Of this source.
    pub source: Option<String>,
    /// At most so many: 1 to 500. Default: 50.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 500)]
    pub limit: Option<String>,
    /// `next_cursor` of the page before.
    pub cursor: Option<String>,
}

/// A record, or one event of it, that ended unevaluated.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DeadLetter {
    /// Place in commit order.
    pub seq: i64,
    /// When it was stored.
    #[schema(value_type = String, format = DateTime)]
    pub stored_at: Micros,
    /// The source.
    pub source: String,
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The offset.
    pub offset: i64,
    /// The event within the record; null if the record as a whole.
    #[schema(required = true)]
    pub index: Option<u32>,
    /// Broker time, where known.
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    pub ts_log: Option<Micros>,
    /// The stable reason.
    pub reason: String,
    /// What exactly was wrong.
    pub detail: String,
    /// The record as it came, unmasked, its first 4,096 characters; only for engineers and admins, else null.
    #[schema(required = true)]
    pub payload: Option<String>,
    /// Bytes of the record.
    pub payload_bytes: u64,
}

impl DeadLetter {
    fn of(row: DeadLetterRow, show: bool) -> Self {
        let DeadLetterRow {
            seq,
            stored_at,
            source,
            topic,
            partition,
            offset,
            index,
            ts_log,
            reason,
            detail,
            start,
            bytes,
        } = row;
        let text = show.then(|| String::from_utf8_lossy(&start).chars().take(SHOWN).collect());
        Self {
            seq,
            stored_at,
            source,
            topic,
            partition,
            offset,
            index,
            ts_log,
            reason,
            detail,
            payload: text,
            payload_bytes: bytes,
        }
    }
}

/// One page of dead letters.
pub(crate) async fn page(
    app: &App,
    caller: &Caller,
    params: &DeadLetterParams,
) -> Result<Listed<DeadLetter>, Problem> {
    let limit = page_size(params.limit.as_deref())?;
    let page = app.store.dead_letters(params.source.as_deref(), limit, params.cursor.as_deref()).await?;
    let show = caller.may(Permission::DeadLetterRecords);
    let items = page.items.into_iter().map(|row| DeadLetter::of(row, show)).collect();
    Ok(Listed { items, next_cursor: page.next_cursor, search_capped: None })
}

/// What dead letters are told of together.
const LOOK_BACK: Span = Span::secs(24 * 60 * 60);

/// Where dead letters came from in the last day.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DeadLetterTotals {
    /// By source, reason, topic and partition, those of the most first; at most 500.
    pub items: Vec<DeadLetterTotalItem>,
    /// From then on, to the hour.
    #[schema(value_type = String, format = DateTime)]
    pub since: Micros,
    /// Always null: all are on one page.
    #[schema(required = true)]
    pub next_cursor: Option<String>,
}

/// Dead letters of one source, reason and partition.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct DeadLetterTotalItem {
    /// The source.
    pub source: String,
    /// The stable reason.
    pub reason: String,
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// How many, those too of which only the number is kept.
    pub count: u64,
    /// When the newest was stored.
    #[schema(value_type = String, format = DateTime)]
    pub last: Micros,
}

impl From<DeadLetterTotal> for DeadLetterTotalItem {
    fn from(DeadLetterTotal { source, reason, topic, partition, count, last }: DeadLetterTotal) -> Self {
        Self { source, reason, topic, partition, count, last }
    }
}

/// Where dead letters came from in the last day.
pub(crate) async fn totals(app: &App) -> Result<DeadLetterTotals, Problem> {
    let since = now().minus(LOOK_BACK);
    let totals = app.store.dead_letter_totals(since).await?;
    Ok(DeadLetterTotals { items: totals.into_iter().map(Into::into).collect(), since, next_cursor: None })
}
