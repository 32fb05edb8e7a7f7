//! Which alerts: the words of a filter, as a person or a program gives them.
//!
//! In: texts by name. Out: the store's filter, or a problem that names what would be valid. Invariants: what is not understood is
//! refused, never left out; the list, its counts, its stream and a bulk change understand the same words.

use std::collections::BTreeSet;

use serde::{Deserialize, Deserializer, de::Error as _};
use serde_json::{Map, Value};
use utoipa::{
    IntoParams, PartialSchema, ToSchema,
    openapi::{
        RefOr,
        schema::{AdditionalProperties, ObjectBuilder, Schema},
    },
};
use vedette_event::{Micros, Severity};
use vedette_store::{
    is_technique,
    model::{Filter, RowState, Status},
};

use crate::{
    problem::{Kind, Problem, short},
    shape,
};

/// Which alerts.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct FilterParams {
    /// Any of `new`, `acknowledged`, `in_progress`, `closed`, separated by commas.
    #[param(inline, value_type = Option<shape::Statuses>)]
    pub status: Option<String>,
    /// Any of `notice`, `active`, `ended`, separated by commas.
    #[param(inline, value_type = Option<shape::States>)]
    pub state: Option<String>,
    /// Any of `informational`, `low`, `medium`, `high`, `critical`, separated by commas.
    #[param(inline, value_type = Option<shape::Severities>)]
    pub severity: Option<String>,
    /// Any of these rules' ids, separated by commas.
    #[param(inline, value_type = Option<shape::Ids>)]
    pub rule: Option<String>,
    /// The entity's value, exactly.
    pub entity: Option<String>,
    /// The entity's type, exactly, as in `source.ip`: one value can be of several.
    pub entity_type: Option<String>,
    /// A source that the rule reads.
    pub source: Option<String>,
    /// Who handles it; empty: nobody.
    pub assignee: Option<String>,
    /// Any of these ATT&CK techniques, separated by commas, as in `T1110` or `T1110.001`; the first finds the second, too.
    #[param(inline, value_type = Option<shape::Techniques>)]
    pub technique: Option<String>,
    /// Crossed at or after this time (RFC 3339), or this day (2026-01-31, which begins at 00:00 UTC).
    #[param(inline, value_type = Option<shape::TimeOrDay>)]
    pub since: Option<String>,
    /// Crossed before this time (RFC 3339), or before this day began.
    #[param(inline, value_type = Option<shape::TimeOrDay>)]
    pub until: Option<String>,
    /// Words that all must be in the title, entity, key, rule id, tags or ATT&CK techniques, ignoring case: each a whole word, or,
    /// from three characters on, the beginning of one or of a part of one. Or the beginning of an id. Of the rows found the
    /// newest 1,000 are looked at; `search_capped` says so.
    #[param(inline, value_type = Option<shape::Search>)]
    pub q: Option<String>,
    /// Of the case of this number.
    #[param(inline, value_type = Option<shape::CaseNumber>)]
    pub case: Option<String>,
    /// `yes`: only what a snooze hides from the queue; `no`: only what none hides. Default: both.
    #[param(inline, value_type = Option<shape::YesOrNo>)]
    pub snoozed: Option<String>,
}

impl FilterParams {
    /// The filter they mean.
    pub fn filter(&self) -> Result<Filter, Problem> {
        let statuses = Status::ALL.iter().map(|status| status.name()).collect::<Vec<_>>();
        let states = RowState::ALL.iter().map(|state| state.name()).collect::<Vec<_>>();
        let severities = Severity::ALL.map(Severity::name);
        Ok(Filter {
            status: any_of("status", self.status.as_deref(), Status::parse, &statuses)?,
            state: any_of("state", self.state.as_deref(), RowState::parse, &states)?,
            severity: any_of("severity", self.severity.as_deref(), Severity::parse, &severities)?,
            rule: any_of("rule", self.rule.as_deref(), |id| Some(id.to_owned()), &[])?,
            entity_type: self.entity_type.clone(),
            entity: self.entity.clone(),
            source: self.source.clone(),
            assignee: self.assignee.as_deref().map(|name| name.trim().to_owned()),
            technique: any_of("technique", self.technique.as_deref(), technique, &[])?,
            since: time("since", self.since.as_deref())?,
            until: time("until", self.until.as_deref())?,
            case: self.case.as_deref().map(|number| case_number("case", number)).transpose()?,
            snoozed: snoozed(self.snoozed.as_deref())?,
            q: match &self.q {
                Some(q) if q.trim().is_empty() => return Err(empty("q")),
                q => q.clone(),
            },
        })
    }
}

/// The filters of the list in a body, written as there; one that is unknown is refused. A type of its own, since what is flattened
/// into a query's type cannot refuse it.
#[derive(Debug)]
pub(crate) struct BulkFilter(pub FilterParams);

impl<'de> Deserialize<'de> for BulkFilter {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let members = Map::<String, Value>::deserialize(deserializer)?;
        let known: Vec<String> =
            FilterParams::into_params(|| None).into_iter().map(|param| param.name).collect();
        if let Some(unknown) = members.keys().find(|name| !known.contains(name)) {
            let (unknown, known) = (short(unknown), known.join("`, `"));
            return Err(D::Error::custom(format!("unknown field `{unknown}`, expected one of `{known}`")));
        }
        FilterParams::deserialize(Value::Object(members)).map(Self).map_err(D::Error::custom)
    }
}

impl PartialSchema for BulkFilter {
    fn schema() -> RefOr<Schema> {
        let object = ObjectBuilder::new().description(Some("The filters of the list, written as there."));
        let object = object.additional_properties(Some(AdditionalProperties::FreeForm(false)));
        let filters = FilterParams::into_params(|| None).into_iter();
        let filters = filters.filter_map(|param| Some((param.name, param.schema?)));
        filters.fold(object, |object, (name, schema)| object.property(name, schema)).into()
    }
}

impl ToSchema for BulkFilter {}

/// The number of a case.
pub(crate) fn case_number(name: &str, given: &str) -> Result<i64, Problem> {
    given.parse().ok().filter(|number| *number > 0).ok_or_else(|| {
        let detail = format!("`{name}={}` is no number of a case.", short(given));
        Problem::new(Kind::InvalidParameter, detail)
    })
}

fn snoozed(given: Option<&str>) -> Result<Option<bool>, Problem> {
    match given {
        None => Ok(None),
        Some("yes") => Ok(Some(true)),
        Some("no") => Ok(Some(false)),
        Some(other) => {
            let detail = format!("`{}` is no value of `snoozed`.", short(other));
            Err(Problem::new(Kind::InvalidParameter, detail).valid(["yes", "no"]))
        }
    }
}

/// A technique's id as the store writes it.
fn technique(given: &str) -> Option<String> {
    let name = given.to_ascii_uppercase();
    is_technique(&name).then_some(name)
}

/// Values that one filter takes at most.
const MAX_VALUES: usize = 100;

pub(super) fn any_of<T: Ord>(
    name: &str,
    given: Option<&str>,
    parse: impl Fn(&str) -> Option<T>,
    valid: &[&'static str],
) -> Result<BTreeSet<T>, Problem> {
    let Some(given) = given else { return Ok(BTreeSet::new()) };
    if given.split(',').count() > MAX_VALUES {
        let detail = format!("`{name}` has more than {MAX_VALUES} values.");
        return Err(Problem::new(Kind::InvalidParameter, detail));
    }
    let parsed = given.split(',').map(str::trim).map(|item| {
        if item.is_empty() {
            return Err(empty(name).valid(valid.iter().copied()));
        }
        parse(item).ok_or_else(|| {
            let detail = format!("`{}` is no value of `{name}`.", short(item));
            Problem::new(Kind::InvalidParameter, detail).valid(valid.iter().copied())
        })
    });
    parsed.collect()
}

fn empty(name: &str) -> Problem {
    let detail = format!("`{name}` has an empty value; leave the filter out to have all.");
    Problem::new(Kind::InvalidParameter, detail)
}

pub(super) fn time(name: &str, given: Option<&str>) -> Result<Option<Micros>, Problem> {
    let parse = |text| {
        let day = Micros::parse_rfc3339(&format!("{text}T00:00:00Z"));
        day.or_else(|| Micros::parse_rfc3339(text)).ok_or_else(|| {
            let detail = format!(
                "`{name}={}` is no RFC 3339 time such as 2026-01-31T12:00:00Z, and no day such as 2026-01-31.",
                short(text)
            );
            Problem::new(Kind::InvalidParameter, detail)
        })
    };
    given.map(parse).transpose()
}
