//! "Copy as `except:`": what to write into a rule so that it says nothing about an entity any more, and what that costs.
//!
//! In: an alert. Out: YAML to paste, and how many stored alerts of the last 90 days it would have hidden, true positives apart.
//! Invariants: values are written as YAML strings that mean exactly the value; nothing is changed here: a rule is changed
//! where it is kept, with its tests. Rules with `except` are refused today, so the text that works today comes with it.

use serde::Serialize;
use utoipa::ToSchema;
use vedette_event::{Micros, Span};
use vedette_store::model::{EntityRef, WouldHide};

use super::{alert, entity::EntityName};
use crate::{
    app::App,
    auth::Caller,
    metrics::now,
    problem::{Kind, Problem},
};

/// How far back alerts are counted.
const DAYS: i64 = 90;

/// For how long an exception is proposed: one that nobody looks at again ends.
const PROPOSED: Span = Span::secs(30 * 86_400);

/// An exception of a rule for an entity.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ExceptionDocument {
    /// The rule's id.
    pub rule: String,
    /// Whom the alert is about.
    #[schema(value_type = EntityName)]
    pub entity: EntityRef,
    /// The file of the list that `except` names, for `detections/lists/`.
    pub list: String,
    /// That file's text.
    pub list_yaml: String,
    /// What to put into the rule.
    pub except_yaml: String,
    /// Whether rules with `except` are taken today.
    pub honoured: bool,
    /// What says the same in the rule's own condition, which is taken today.
    pub today_yaml: String,
    /// Alerts of the rule and the entity are counted from then on; older ones may not be stored any more.
    #[schema(value_type = String, format = DateTime)]
    pub since: Micros,
    /// How many alerts it would have hidden; 10,000 stands for that or more.
    pub hidden: u64,
    /// How many of these were closed as true positives.
    pub hidden_true_positives: u64,
}

/// The exception for an alert's rule and entity.
pub(crate) async fn of(app: &App, id: &str, caller: &Caller) -> Result<ExceptionDocument, Problem> {
    let row = alert::row(app, id).await?;
    let entity = row.entity.ok_or_else(|| {
        let detail = "This alert is about no entity; an exception needs a field and its value.";
        Problem::new(Kind::Conflict, detail)
    })?;
    let since = now().minus(Span::secs(DAYS * 86_400));
    let WouldHide { alerts, true_positives } = app.store.would_hide(&row.rule_id, &entity, since).await?;
    let expires = now().plus(PROPOSED).to_string();
    let expires = expires.split('T').next().unwrap_or_default();
    let name = list_name(&row.rule_id);
    let (field, value) = (quoted(&entity.kind), quoted(&entity.value));
    Ok(ExceptionDocument {
        list: format!("{name}.yml"),
        list_yaml: format!("- {value}\n"),
        except_yaml: format!(
            "vedette:\n  except:\n    - list: {name}\n      field: {field}\n      expires: {expires}\n      owner: {}\n",
            quoted(&caller.name)
        ),
        honoured: false,
        today_yaml: format!(
            "detection:\n  # … the selections that are there\n  known:\n    {field}: {}\n  condition: selection and not known  # yours, with `and not known`\n",
            literal(&entity.value)
        ),
        since,
        hidden: alerts,
        hidden_true_positives: true_positives,
        rule: row.rule_id,
        entity,
    })
}

/// A name for a list of what a rule says nothing about.
fn list_name(rule: &str) -> String {
    let kept = rule.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' });
    format!("known_{}", kept.take(60).collect::<String>())
}

/// A double-quoted YAML string that means exactly this text: JSON's escapes are YAML's.
fn quoted(text: &str) -> String {
    serde_json::to_string(text).unwrap_or_default()
}

/// A Sigma value that means exactly this text: `*`, `?` and the backslashes before them are no wildcards.
fn literal(text: &str) -> String {
    let mut escaped = String::new();
    for c in text.chars() {
        if matches!(c, '*' | '?' | '\\') {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    quoted(&escaped)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_mean_what_they_are() {
        assert_eq!(quoted("a\"b\n- c: d"), r#""a\"b\n- c: d""#);
        assert_eq!(literal(r"C:\a*"), r#""C:\\\\a\\*""#);
        assert_eq!(list_name("Bot Stuffing/1"), "known_bot_stuffing_1");
    }
}
