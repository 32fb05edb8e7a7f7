//! What the texts of parameters and bodies look like, for the OpenAPI document.
//!
//! In: the words that the handlers take. Out: schemas of them, each a type to name as `value_type`. Invariant: whatever fits
//! a shape is understood, if what it names is there (a tester from outside asks for all kinds of things that fit).

use std::borrow::Cow;

use utoipa::{
    PartialSchema, ToSchema,
    openapi::{
        RefOr,
        schema::{AnyOfBuilder, KnownFormat, ObjectBuilder, Schema, SchemaFormat, Type},
    },
};
use vedette_event::Severity;
use vedette_store::model::{
    ActionState, CaseStatus, DeliveryState, Effectiveness, RowState, SortKey, Status, SummaryBy,
};

fn text() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String)
}

/// One of these words.
fn one<S: Into<Cow<'static, str>>>(words: impl IntoIterator<Item = S>) -> RefOr<Schema> {
    let words: Vec<String> = words.into_iter().map(|word| word.into().into_owned()).collect();
    text().enum_values(Some(words)).into()
}

/// Some that look so, separated by commas.
fn list(item: &str) -> RefOr<Schema> {
    text().pattern(Some(format!("^(?:{item})(?:,(?:{item}))*$"))).into()
}

/// Some of these words, separated by commas.
fn some(words: impl IntoIterator<Item = &'static str>) -> RefOr<Schema> {
    list(&words.into_iter().collect::<Vec<_>>().join("|"))
}

/// One line of at most so many characters that says something.
fn line(most: usize) -> RefOr<Schema> {
    let inside = r"[^\x00-\x1f\x7f-\x9f]*";
    let pattern = format!(r"^{inside}[^\s\x00-\x1f\x7f-\x9f]{inside}$");
    text().min_length(Some(1)).max_length(Some(most)).pattern(Some(pattern)).into()
}

/// At most so many characters, one of them not blank.
fn some_text(most: usize) -> RefOr<Schema> {
    text().min_length(Some(1)).max_length(Some(most)).pattern(Some(r"\S")).into()
}

fn of_format(format: KnownFormat) -> Schema {
    text().format(Some(SchemaFormat::KnownFormat(format))).into()
}

/// A schema by the name of a type.
macro_rules! shape {
    ($(#[$said:meta] $name:ident = $schema:expr;)*) => {$(
        #[$said]
        pub(crate) struct $name;

        impl PartialSchema for $name {
            fn schema() -> RefOr<Schema> {
                $schema
            }
        }

        impl ToSchema for $name {}
    )*};
}

shape! {
    /// States of triage.
    Statuses = some(Status::ALL.iter().map(|status| status.name()));
    /// States of rows.
    States = some(RowState::ALL.iter().map(|state| state.name()));
    /// Severities.
    Severities = some(Severity::ALL.map(Severity::name));
    /// States of cases.
    CaseStatuses = some(CaseStatus::ALL.iter().map(|status| status.name()));
    /// Ids that may hold anything but a comma.
    Ids = list(r"[^,]*[^,\s][^,]*");
    /// Techniques of ATT&CK.
    Techniques = list(r"[Tt][0-9]{4}(?:\.[0-9]{3})?");
    /// How far an action has come.
    ActionStateName = one(ActionState::ALL.iter().map(|state| state.name()));
    /// States of actions.
    ActionStates = some(ActionState::ALL.iter().map(|state| state.name()));
    /// What the enforcement points say.
    EffectName = one(Effectiveness::ALL.iter().map(|effect| effect.name()));
    /// How a connector is doing.
    ConnectorState = one(["fetched", "ok", "failing"]);
    /// How far the telling has come.
    DeliveryStateName = one(DeliveryState::ALL.iter().map(|state| state.name()));
    /// A severity.
    OneSeverity = one(Severity::ALL.map(Severity::name));
    /// Yes or no.
    YesOrNo = one(["yes", "no"]);
    /// An order of the list.
    Order = one(SortKey::ALL.iter().flat_map(|key| [key.name().to_owned(), format!("-{}", key.name())]));
    /// A property to count by.
    By = one(SummaryBy::ALL.iter().map(|by| by.name()));
    /// Which snoozes.
    SnoozeState = one(["in_force", "ended"]);
    /// How alerts are written.
    ExportFormat = one(["ndjson", "csv", "ocsf"]);
    /// A time, or a day.
    TimeOrDay = AnyOfBuilder::new().item(of_format(KnownFormat::DateTime)).item(of_format(KnownFormat::Date)).into();
    /// A place in commit order, or a time.
    Place = AnyOfBuilder::new()
        .item(text().pattern(Some("^[0-9]{1,18}$")))
        .item(of_format(KnownFormat::DateTime))
        .into();
    /// The number of a case.
    CaseNumber = text().pattern(Some("^[1-9][0-9]{0,17}$")).into();
    /// An entity tag that is a version.
    Version = text().pattern(Some("^(?:[0-9]{1,18}|\"[0-9]{1,18}\")$")).into();
    /// The title of a case.
    CaseTitle = line(200);
    /// The name of a view.
    ViewName = line(60);
    /// A comment or a note.
    CommentText = some_text(4_000);
    /// Why something is snoozed.
    Reason = some_text(500);
    /// A text that asks the events.
    HuntText = some_text(65_536);
    /// How often a hunt is run: from five minutes to a week.
    HuntInterval = text()
        .pattern(Some("^(?:[5-9]m|[1-9][0-9]{1,3}m|[1-9][0-9]?h|1[0-5][0-9]h|16[0-8]h|[1-7]d|1w)$"))
        .into();
    /// What alerts of a hunt say.
    HuntSummary = line(300);
    /// The name of a column.
    ColumnName = line(100);
    /// How many rows a hunt may give.
    HuntLimit = ObjectBuilder::new()
        .schema_type(Type::Integer)
        .minimum(Some(1))
        .maximum(Some(crate::hunts::MAX_ROWS))
        .into();
    /// A length of time.
    Length = text().pattern(Some("^[1-9][0-9]{0,5}[smhdw]$")).into();
    /// Words that are looked for.
    Search = text().min_length(Some(1)).pattern(Some(r"\S")).into();
    /// Who handles something; empty: nobody.
    Owner = text().max_length(Some(100)).pattern(Some(r"^[^\x00-\x1f\x7f-\x9f]*$")).into();
    /// What names a request.
    RequestKey = text()
        .min_length(Some(1))
        .max_length(Some(200))
        .pattern(Some("^[!-~](?:[ -~]*[!-~])?$"))
        .into();
}
