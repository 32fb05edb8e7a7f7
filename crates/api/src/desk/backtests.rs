//! Backtests: rules tried on what the lake holds, asked for and followed.
//!
//! In: a text of rules, a stretch of time, who asks. Out: a backtest, under way or over. Invariants: each is in the audit log before it begins;
//! who may not try rules is let in by no route.

use std::sync::Arc;

use serde::Deserialize;
use utoipa::ToSchema;

use super::filter::time;
use crate::{
    app::App,
    auth::Caller,
    backtests::{Backtest, BacktestDocument, Backtests, MAX_UNDER_WAY, Question},
    checking::MAX_TEXT,
    metrics::now,
    problem::{Kind, Problem, short},
};

/// A backtest to be.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct BacktestBody {
    /// The rules as in a file, at most 65,536 bytes.
    #[schema(min_length = 1, max_length = 65_536)]
    pub rules: String,
    /// Alerts that begin at this time or later (RFC 3339); all there are, without it.
    #[schema(value_type = Option<String>, format = DateTime)]
    #[serde(default)]
    pub from: Option<String>,
    /// Alerts that begin before this time (RFC 3339), as they are by then.
    #[schema(value_type = Option<String>, format = DateTime)]
    #[serde(default)]
    pub to: Option<String>,
    /// Events of this source only.
    #[serde(default)]
    pub source: Option<String>,
}

impl BacktestBody {
    fn question(&self) -> Result<Question, Problem> {
        let invalid = |detail: String| Problem::new(Kind::InvalidBody, detail);
        if self.rules.trim().is_empty() || self.rules.len() > MAX_TEXT {
            return Err(invalid(format!("`rules` must be 1 to {MAX_TEXT} bytes.")));
        }
        let (from, to) = (time("from", self.from.as_deref())?, time("to", self.to.as_deref())?);
        if let (Some(from), Some(to)) = (from, to)
            && from >= to
        {
            return Err(invalid("`from` must lie before `to`.".to_owned()));
        }
        Ok(Question { rules: self.rules.clone(), from, to, source: self.source.clone() })
    }
}

fn backtests(app: &App) -> Result<&Backtests, Problem> {
    let none =
        || Problem::new(Kind::NotReady, "This service keeps no events, so there is nothing to try rules on.");
    app.backtests.as_ref().ok_or_else(none)
}

/// Begins one, or has it wait for its turn.
pub(crate) async fn begin(app: &App, body: &BacktestBody, caller: &Caller) -> Result<Arc<Backtest>, Problem> {
    let question = body.question()?;
    let backtests = backtests(app)?;
    app.store.note_backtest(&caller.name, &question.rules).await?;
    backtests.ask(question, &caller.name, now()).ok_or_else(|| {
        let detail = format!("{MAX_UNDER_WAY} backtests are under way; stop one, or wait.");
        Problem::new(Kind::TooManyRequests, detail)
    })
}

/// One of them.
pub(crate) fn one(app: &App, id: &str) -> Result<Arc<Backtest>, Problem> {
    let gone = || {
        Problem::new(
            Kind::NotFound,
            format!("There is no backtest `{}`; the last ones are kept until the service ends.", short(id)),
        )
    };
    backtests(app)?.one(id).ok_or_else(gone)
}

/// All that are kept, the newest first, without what they came to.
pub(crate) fn all(app: &App) -> Result<Vec<BacktestDocument>, Problem> {
    Ok(backtests(app)?.all().iter().map(|backtest| backtest.document(false)).collect())
}
