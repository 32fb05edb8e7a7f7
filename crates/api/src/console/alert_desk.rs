//! What an alert's page shows of cases, snoozes and response, and offers.
//!
//! In: a row. Out: the case and the snooze that it bears, and its actions, for the template.

use vedette_store::model::AlertRow;

use super::{Stamp, actions::AlertActions};
use crate::{app::App, problem::Problem};

/// What an alert's page shows beside the alert, and offers.
pub(super) struct AlertDesk {
    pub id: String,
    pub title: String,
    pub case: Option<(i64, String)>,
    /// Number, until when, by whom, why.
    pub snooze: Option<(i64, Stamp, String, String)>,
    /// It has an entity, so that there is a pair to snooze or to except.
    pub pair: bool,
    pub actions: AlertActions,
}

impl AlertDesk {
    /// Of a row as it is, or as it was at a `seq`.
    pub async fn of(app: &App, row: &AlertRow, at: Option<i64>) -> Result<Self, Problem> {
        let case = match row.case {
            Some(id) => app.store.case(id).await?.map(|case| (id, case.title)),
            None => None,
        };
        let snooze = match row.snooze {
            Some(id) => app.store.snooze_of(id).await?,
            None => None,
        };
        Ok(Self {
            id: row.id.clone(),
            title: row.rule_title.chars().take(200).collect(),
            case,
            snooze: snooze
                .map(|snooze| (snooze.id, Stamp::of(snooze.until), snooze.created_by, snooze.reason)),
            pair: row.entity.is_some(),
            actions: AlertActions::of(app, row, at).await?,
        })
    }
}
