//! The tools: what each is called, takes and gives.
//!
//! In: the shared state, who asks, a tool's name and arguments. Out: what a use case of the desk gives, as JSON. Invariants: arguments
//! are the parameters of the route that says the same, refused by the same words; each answer is at most [`MAX_ANSWER`] bytes.

use axum::http::Uri;
use rmcp::model::{JsonObject, Tool, ToolAnnotations};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use utoipa::{
    IntoParams,
    openapi::path::{Parameter, ParameterIn},
};

use super::work::{self, PlaybookParams};
use crate::{
    access::Permission,
    app::App,
    auth::Caller,
    checking::MAX_TEXT,
    desk::{
        action::ActionParams,
        alert,
        audit::AuditParams,
        case::CaseParams,
        dead_letters::{self, DeadLetterParams},
        dossier::{self, Dossier, without_records},
        entity::{self, EntityParams},
        exception,
        history::HistoryEntry,
        list::{self, ListParams, page_size},
        past::{self, AsOfParams},
        rules::{RuleCoverage, find},
        summary::{self, SummaryParams},
    },
    live::Live,
    metrics::now,
    params::query,
    problem::{Kind, Problem, short},
    wire::AlertDocument,
};

/// Bytes of an answer. An assistant pays for each; what is longer is asked for in pages.
const MAX_ANSWER: usize = 256 * 1024;
/// The newest health events of a status.
const HEALTH_EVENTS: u32 = 20;

/// One alert, rule, ….
#[derive(Debug, Deserialize, IntoParams)]
pub(super) struct IdParams {
    /// Its id.
    pub(super) id: String,
}

/// One alert, now or as it was.
#[derive(Debug, Deserialize)]
struct AlertParams {
    #[serde(flatten)]
    id: IdParams,
    #[serde(flatten)]
    at: AsOfParams,
}

impl IntoParams for AlertParams {
    fn into_params(place: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        [IdParams::into_params(&place), AsOfParams::into_params(&place)].concat()
    }
}

/// One entity.
#[derive(Debug, Deserialize, IntoParams)]
struct EntityName {
    /// A field that names it, such as `source.ip`; fields of one sort name the same.
    #[serde(rename = "type")]
    kind: String,
    /// Its value, exactly.
    value: String,
}

/// One entity, and which page of its alerts.
#[derive(Debug, Deserialize)]
struct WholeEntityParams {
    #[serde(flatten)]
    name: EntityName,
    #[serde(flatten)]
    page: EntityParams,
}

impl IntoParams for WholeEntityParams {
    fn into_params(place: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        [EntityName::into_params(&place), EntityParams::into_params(&place)].concat()
    }
}

/// Which rules.
#[derive(Debug, Deserialize, IntoParams)]
struct RuleParams {
    /// A part of the id, title or a tag, ignoring case.
    q: Option<String>,
    /// At most so many: 1 to 500. Default: 50.
    limit: Option<String>,
}

/// A rule's text.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CheckParams {
    text: String,
}

/// No parameters.
#[derive(Debug, Deserialize, IntoParams)]
pub(super) struct Nothing {}

/// A rule among many.
#[derive(Serialize)]
struct RuleLine<'a> {
    id: &'a str,
    title: &'a str,
    level: &'a str,
    #[serde(rename = "type")]
    kind: &'a str,
    tags: &'a [String],
    matched: u64,
    alerts: u64,
}

/// All tools. What each takes is what its parameters' type says.
pub(super) fn all() -> Vec<Tool> {
    let text = json!({"type": "object", "properties": {"text": {"type": "string",
        "description": "The YAML text: one or more documents, with all that they refer to", "maxLength": MAX_TEXT}},
        "required": ["text"], "additionalProperties": false});
    vec![
        tool::<ListParams>("list_alerts", "Lists and searches alerts and notices, newest first, by pages."),
        tool::<SummaryParams>("count_alerts", "Counts alerts by one of their properties."),
        tool::<AlertParams>(
            "get_alert",
            "One alert or notice: why it fired (`explanation`), its evidence with the events' content, its revisions and what people did.",
        ),
        tool::<IdParams>(
            "explain_alert",
            "What helps to judge an alert or notice: why it fired, what its rule looks for, known false positives and next steps, \
             the open alerts and the verdicts of thirty days about the same entity, earlier verdicts on the same rule and entity with their reasons, \
             and what its rule may have missed.",
        ),
        tool::<WholeEntityParams>(
            "get_entity",
            "All that concerns one address, user, key or host: open alerts, all alerts by pages, verdicts, neighbours.",
        ),
        tool::<IdParams>(
            "propose_exception",
            "Proposes what to write into a rule so that it says nothing about an alert's entity any more, and how many past alerts, \
             true positives among them, that would have hidden. Nothing is changed: a person decides, where the rules are kept.",
        ),
        tool::<RuleParams>("list_rules", "Lists the rules in force, and how many documents were refused."),
        tool::<IdParams>(
            "get_rule",
            "One rule in force, what it has seen, and whether it could have fired: each gap that the coverage ledger knows, in words.",
        ),
        tool::<Nothing>("list_sources", "The sources: topics, health, lag, watermarks, clock flags."),
        tool::<Nothing>(
            "get_status",
            "Whether the service does its work, what is lost or late, the newest health events.",
        ),
        tool::<DeadLetterParams>(
            "list_dead_letters",
            "Records that could not be evaluated, newest first, each with its reason.",
        ),
        described(
            "check_rule",
            "Checks the text of Sigma rules without taking it up: what would be in force, what refused and why.",
            text,
        ),
        tool::<CaseParams>("list_cases", "Lists cases, newest first, by pages."),
        tool::<IdParams>(
            "get_case",
            "One case with its alerts, what was done about them, and what people did and noted.",
        ),
        tool::<ActionParams>(
            "list_actions",
            "Lists what playbooks and people proposed and what became of it: blocks, throttles, messages; newest first, by pages.",
        ),
        tool::<IdParams>("get_action", "One action with each of its steps and what connectors were told."),
        tool::<Nothing>("list_playbooks", "The playbooks in force, what each does and by which connectors."),
        tool::<PlaybookParams>(
            "propose_playbook",
            "What a playbook would do about an alert: whom it would hit, what the guards say, how many people must approve. Nothing is done \
             or written: a person starts it on the page that the answer names.",
        ),
        tool::<AuditParams>(
            "list_audit",
            "Who changed what, when, from what to what; newest first, by pages. For engineers.",
        ),
        tool::<Nothing>(
            "get_overview",
            "The last hour at a glance: what could not be seen first, events and alerts over time, delay.",
        ),
    ]
}

fn tool<T: IntoParams>(name: &'static str, description: &'static str) -> Tool {
    // Of a query, since all of a path are required, whatever their type says.
    let params = T::into_params(|| Some(ParameterIn::Query));
    let properties = params.iter().map(|p| {
        let kind = if p.name == "limit" { "integer" } else { "string" };
        (p.name.clone(), json!({"type": kind, "description": p.description}))
    });
    let required = params.iter().filter(|p| p.required == utoipa::openapi::Required::True);
    let required: Vec<_> = required.map(|p| p.name.clone()).collect();
    let properties: JsonObject = properties.collect();
    let schema = json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false});
    described(name, description, schema)
}

fn described(name: &'static str, description: &'static str, schema: Value) -> Tool {
    let schema = match schema {
        Value::Object(schema) => schema,
        _ => JsonObject::new(),
    };
    Tool::new(name, description, schema).annotate(ToolAnnotations::new().read_only(true))
}

/// Calls a tool; nothing if there is none of this name.
pub(super) async fn call(
    app: &App,
    caller: &Caller,
    name: &str,
    arguments: &JsonObject,
) -> Option<Result<Value, Problem>> {
    Some(match name {
        "list_alerts" => list_alerts(app, arguments).await,
        "count_alerts" => count_alerts(app, arguments).await,
        "get_alert" => get_alert(app, caller, arguments).await,
        "explain_alert" => explain_alert(app, arguments).await,
        "get_entity" => get_entity(app, arguments).await,
        "propose_exception" => propose_exception(app, caller, arguments).await,
        "list_rules" => list_rules(&app.live.now(), arguments),
        "get_rule" => get_rule(&app.live.now(), arguments),
        "list_sources" => given::<Nothing>(arguments).and_then(|_| {
            let live = app.live.now();
            bounded(&json!({"items": live.sources, "as_of": live.as_of}))
        }),
        "get_status" => get_status(app, arguments).await,
        "list_dead_letters" => list_dead_letters(app, caller, arguments).await,
        "check_rule" => check_rule(app, arguments).await,
        "list_cases" => work::list_cases(app, arguments).await,
        "get_case" => work::get_case(app, arguments).await,
        "list_actions" => work::list_actions(app, arguments).await,
        "get_action" => work::get_action(app, arguments).await,
        "list_playbooks" => work::list_playbooks(app, arguments).await,
        "propose_playbook" => work::propose_playbook(app, caller, arguments).await,
        "list_audit" => work::list_audit(app, caller, arguments).await,
        "get_overview" => work::get_overview(app, arguments).await,
        _ => return None,
    })
}

async fn list_alerts(app: &App, arguments: &JsonObject) -> Result<Value, Problem> {
    bounded(&list::page(app, &given::<ListParams>(arguments)?).await?)
}

async fn count_alerts(app: &App, arguments: &JsonObject) -> Result<Value, Problem> {
    bounded(&summary::count(app, &given::<SummaryParams>(arguments)?).await?)
}

async fn get_alert(app: &App, caller: &Caller, arguments: &JsonObject) -> Result<Value, Problem> {
    let AlertParams { id: IdParams { id }, at } = given(arguments)?;
    let (mut document, history) = match at.seq(app).await? {
        None => {
            let document = alert::full(app, &id).await?;
            let history = app.store.history(&document.row.id).await?;
            (document, history.into_iter().map(HistoryEntry::from).collect())
        }
        Some(seq) => {
            let document = past::full(app, &id, seq).await?.document;
            let history = past::history(app, &document.row.id, seq).await?;
            (document, history)
        }
    };
    if !caller.may(Permission::RawRecords) {
        without_records(&mut document);
    }
    let whole = |document: &AlertDocument| bounded(&json!({"alert": document, "history": history}));
    whole(&document).or_else(|_| {
        // Up to fifty events of 32 KiB. Without them it is the alert still.
        document.envelope.events = None;
        whole(&document)
    })
}

async fn explain_alert(app: &App, arguments: &JsonObject) -> Result<Value, Problem> {
    let IdParams { id } = given(arguments)?;
    let Dossier { mut document, history, standing, earlier, covered, .. } =
        dossier::of(app, &id, now()).await?;
    document.envelope.events = None;
    let live = app.live.now();
    let rule = live.rule(&document.row.rule_id).map(|rule| {
        let RuleCoverage { gaps, as_of, .. } = RuleCoverage::of(rule, &live);
        json!({"title": rule.title, "description": rule.description, "condition": rule.condition,
            "false_positives": rule.false_positives, "next_steps": rule.next_steps, "gaps": gaps, "as_of": as_of})
    });
    let entity = standing.map(|standing| {
        let open: Vec<_> = standing.open.into_iter().map(AlertDocument::of).collect();
        json!({"open": open, "more_open": standing.more, "verdicts_of_30_days": standing.verdicts})
    });
    let earlier: Vec<_> = earlier
        .iter()
        .map(|verdict| {
            json!({"id": verdict.id, "crossed_at": verdict.crossed_at, "closed_at": verdict.closed_at, "count": verdict.count,
                "disposition": verdict.disposition, "by": verdict.by, "reason": verdict.reason})
        })
        .collect();
    let covered: Vec<_> = covered.iter().map(|notice| &notice.id).collect();
    bounded(
        &json!({"alert": document, "history": history, "rule": rule, "entity": entity, "earlier_verdicts": earlier, "covers": covered}),
    )
}

async fn get_entity(app: &App, arguments: &JsonObject) -> Result<Value, Problem> {
    let WholeEntityParams { name: EntityName { kind, value }, page } = given(arguments)?;
    bounded(&entity::of(app, (kind, value), &page, now()).await?)
}

async fn propose_exception(app: &App, caller: &Caller, arguments: &JsonObject) -> Result<Value, Problem> {
    let IdParams { id } = given(arguments)?;
    bounded(&exception::of(app, &id, caller).await?)
}

fn list_rules(live: &Live, arguments: &JsonObject) -> Result<Value, Problem> {
    let RuleParams { q, limit } = given(arguments)?;
    let limit = page_size(limit.as_deref())? as usize;
    let q = q.unwrap_or_default().to_lowercase();
    let fits = |text: &str| text.to_lowercase().contains(&q);
    let mut found =
        live.rules.iter().filter(|r| fits(&r.id) || fits(&r.title) || r.tags.iter().any(|t| fits(t)));
    let line = |rule: &'_ crate::live::RuleStatus| {
        json!(RuleLine {
            id: &rule.id,
            title: &rule.title,
            level: rule.level.name(),
            kind: &rule.kind,
            tags: &rule.tags,
            matched: rule.coverage.matched,
            alerts: rule.coverage.alerts,
        })
    };
    let items: Vec<_> = found.by_ref().take(limit).map(line).collect();
    bounded(
        &json!({"items": items, "more": found.count(), "refused_documents": live.rejected.len(), "as_of": live.as_of}),
    )
}

fn get_rule(live: &Live, arguments: &JsonObject) -> Result<Value, Problem> {
    let IdParams { id } = given(arguments)?;
    let rule = find(live, &id)?;
    let RuleCoverage { complete, gaps, as_of, .. } = RuleCoverage::of(rule, live);
    bounded(&json!({"rule": rule, "could_have_fired": {"complete": complete, "gaps": gaps, "as_of": as_of}}))
}

async fn get_status(app: &App, arguments: &JsonObject) -> Result<Value, Problem> {
    let Nothing {} = given(arguments)?;
    let health = app.store.health_events(HEALTH_EVENTS).await?;
    let health: Vec<_> = health
        .iter()
        .map(|event| json!({"at": event.at, "kind": event.kind, "severity": event.severity, "message": event.message}))
        .collect();
    let lost = app.store.lost_intervals().await?.len();
    let Live { ready, status, as_of, stages, .. } = app.live.now();
    bounded(
        &json!({"readiness": ready, "process": status, "stages": stages, "lost_intervals": lost, "health": health, "as_of": as_of}),
    )
}

async fn list_dead_letters(app: &App, caller: &Caller, arguments: &JsonObject) -> Result<Value, Problem> {
    bounded(&dead_letters::page(app, caller, &given::<DeadLetterParams>(arguments)?).await?)
}

async fn check_rule(app: &App, arguments: &JsonObject) -> Result<Value, Problem> {
    let given = CheckParams::deserialize(Value::Object(arguments.clone()));
    let CheckParams { text } = given
        .map_err(|e| Problem::new(Kind::InvalidParameter, format!("The arguments cannot be read: {e}.")))?;
    if text.len() > MAX_TEXT {
        return Err(Problem::new(Kind::InvalidParameter, format!("`text` is longer than {MAX_TEXT} bytes.")));
    }
    let check = app.check.clone();
    // It reads files and compiles.
    let checked = tokio::task::spawn_blocking(move || check.of(text)).await;
    match checked {
        Ok(Ok(checked)) => bounded(&checked),
        Ok(Err(why)) => Err(Problem::new(Kind::NotReady, why)),
        Err(_) => Err(Problem::new(Kind::Internal, "Checking this text hit a fault in Vedette.")),
    }
}

/// The arguments as the parameters of a route, by the same rules.
pub(super) fn given<T: DeserializeOwned + IntoParams>(arguments: &JsonObject) -> Result<T, Problem> {
    let mut pairs = form_urlencoded::Serializer::new(String::new());
    for (name, value) in arguments {
        match value {
            Value::Null => continue,
            Value::String(text) => pairs.append_pair(name, text),
            Value::Number(_) | Value::Bool(_) => pairs.append_pair(name, &value.to_string()),
            Value::Array(_) | Value::Object(_) => {
                let detail = format!("`{}` must be a text; separate several values by commas.", short(name));
                return Err(Problem::new(Kind::InvalidParameter, detail));
            }
        };
    }
    let uri = format!("/?{}", pairs.finish());
    let uri: Uri =
        uri.parse().map_err(|_| Problem::new(Kind::InvalidParameter, "The arguments are too long."))?;
    query(&uri)
}

/// An answer, if it is not too long.
pub(super) fn bounded(answer: &impl Serialize) -> Result<Value, Problem> {
    let failed = |_| Problem::new(Kind::Internal, "This answer could not be written.");
    let answer = serde_json::to_value(answer).map_err(failed)?;
    if answer.to_string().len() <= MAX_ANSWER {
        return Ok(answer);
    }
    let detail =
        format!("The answer is longer than {MAX_ANSWER} bytes; ask for less, with `limit` or a filter.");
    Err(Problem::new(Kind::InvalidParameter, detail))
}
