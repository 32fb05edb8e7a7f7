//! AWS WAF: the fields that no single path of the record holds.
//!
//! In: the record's lists of headers, rules, labels and matches. Out: canonical cells. Fields that one path holds are
//! mapped by the source definition.

use std::sync::Arc;

use hashbrown::HashMap;
use vedette_event::{Cell, Kind};

use crate::{
    columns::Columns,
    json::walk::{elements, member, text},
};

/// What the record's paths are called that derived fields come from, in the order of [`AwsWaf::new`]'s targets.
pub const PATHS: [&str; 7] = [
    "httpRequest.headers",
    "action",
    "webaclId",
    "terminatingRuleId",
    "ruleGroupList",
    "nonTerminatingMatchingRules",
    "terminatingRuleMatchDetails",
];
/// The path of the labels.
pub const LABELS: &str = "labels";

const HEADERS: &str = "http.request.headers.";

/// Fields that are headers under another name.
const HEADER_FIELDS: [(&str, &str); 3] =
    [("user_agent.original", "user-agent"), ("http.request.referrer", "referer"), ("url.domain", "host")];

/// What a rule's or label's name says about the attack: the first that occurs in it, case ignored.
const CLASSES: [(&str, &str); 14] = [
    ("sqli", "sqli"),
    ("sql_injection", "sqli"),
    ("crosssitescripting", "xss"),
    ("xss", "xss"),
    ("lfi", "lfi"),
    ("rfi", "lfi"),
    ("ec2metadata", "ssrf"),
    ("ssrf", "ssrf"),
    ("xxe", "xxe"),
    ("log4j", "rce"),
    ("javadeserialization", "rce"),
    ("exploitablepaths", "lfi"),
    ("shell", "rce"),
    ("rce", "rce"),
];

/// A field made of several parts of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Derived {
    Vendor,
    Action,
    Region,
    Account,
    RuleIds,
    Labels,
    AttackClass,
    MatchedVar,
    MatchedData,
}

const DERIVED: [(&str, Derived); 10] = [
    ("waf.vendor", Derived::Vendor),
    ("waf.action", Derived::Action),
    ("event.action", Derived::Action),
    ("cloud.region", Derived::Region),
    ("cloud.account.id", Derived::Account),
    ("waf.rule.ids", Derived::RuleIds),
    ("waf.labels", Derived::Labels),
    ("waf.attack_class", Derived::AttackClass),
    ("waf.matched.var", Derived::MatchedVar),
    ("waf.matched.data", Derived::MatchedData),
];

/// The canonical names of all derived fields, headers aside.
pub fn names() -> impl Iterator<Item = &'static str> {
    DERIVED.iter().map(|(name, _)| *name).chain(HEADER_FIELDS.iter().map(|(name, _)| *name))
}

/// The canonical names of a record's headers.
pub fn headers(record: &str) -> impl Iterator<Item = String> {
    let list = member(record.trim_ascii(), "httpRequest").and_then(|request| member(request, "headers"));
    elements(list.unwrap_or_default()).filter_map(|header| {
        let mut scratch = String::new();
        let name = member(header, "name").and_then(|raw| text(raw, &mut scratch))?;
        Some(format!("{HEADERS}{}", name.to_ascii_lowercase()))
    })
}

/// The paths of a record that derived fields say in full, of those fields that the event has.
pub fn consumed(has: impl Fn(&str) -> bool) -> Vec<&'static str> {
    let fields = [("httpRequest.headers", ""), ("action", "waf.action"), (LABELS, "waf.labels")];
    let said = fields.into_iter().filter(|(_, name)| name.is_empty() || has(name));
    said.map(|(path, _)| path).collect()
}

/// The raw parts of one record that derived fields are made of.
#[derive(Debug, Default)]
pub struct Parts<'a> {
    /// By [`PATHS`]; empty if the record lacks it.
    pub paths: [&'a str; PATHS.len()],
    /// By [`LABELS`].
    pub labels: &'a str,
}

/// The derived columns of one projection.
pub struct AwsWaf {
    derived: Vec<(usize, Derived)>,
    headers: HashMap<String, Vec<usize>, foldhash::fast::FixedState>,
    out: String,
    scratch: String,
    lower: String,
}

impl AwsWaf {
    /// For a projection.
    pub fn new(projection: &[Arc<str>]) -> Self {
        let mut headers: HashMap<String, Vec<usize>, _> = HashMap::default();
        let mut derived = Vec::new();
        for (column, name) in projection.iter().enumerate() {
            let known = HEADER_FIELDS.iter().find(|(field, _)| *field == &**name).map(|(_, header)| *header);
            if let Some(header) = name.strip_prefix(HEADERS).or(known) {
                headers.entry(header.to_owned()).or_default().push(column);
            }
            derived.extend(
                DERIVED.iter().filter(|(field, _)| *field == &**name).map(|(_, what)| (column, *what)),
            );
        }
        Self { derived, headers, out: String::new(), scratch: String::new(), lower: String::new() }
    }

    /// Fills the derived columns of a row; cells that are there already stay.
    pub fn fill(&mut self, parts: &Parts<'_>, columns: &mut Columns) {
        self.fill_headers(parts.paths[0], columns);
        for &(column, what) in &self.derived {
            self.out.clear();
            let kind = derive(what, parts, &mut self.out, &mut self.scratch);
            if let Some(kind) = kind {
                columns.put(column, Cell { kind, text: &self.out });
            }
        }
    }

    fn fill_headers(&mut self, list: &str, columns: &mut Columns) {
        if self.headers.is_empty() {
            return;
        }
        for header in elements(list) {
            let Some(name) = member(header, "name").and_then(|raw| text(raw, &mut self.scratch)) else {
                continue;
            };
            self.lower.clear();
            self.lower.extend(name.chars().map(|c| c.to_ascii_lowercase()));
            let Some(wanted) = self.headers.get(&self.lower) else { continue };
            let Some(value) = member(header, "value").and_then(|raw| text(raw, &mut self.out)) else {
                continue;
            };
            for &column in wanted {
                columns.put(column, Cell { kind: Kind::Text, text: value });
            }
        }
    }
}

/// Writes a derived field; `None` if the record does not have it.
fn derive(what: Derived, parts: &Parts<'_>, out: &mut String, scratch: &mut String) -> Option<Kind> {
    let [_, action, acl, terminating, ..] = parts.paths;
    match what {
        Derived::Vendor => out.push_str("aws"),
        Derived::Action => out.push_str(match text(action, scratch)? {
            "ALLOW" => "allow",
            "BLOCK" => "block",
            "COUNT" => "log",
            "CAPTCHA" | "CHALLENGE" => "challenge",
            other => other,
        }),
        // arn:aws:wafv2:<region>:<account>:…
        Derived::Region => out.push_str(arn(text(acl, scratch)?, 3)?),
        Derived::Account => {
            out.push_str(arn(text(acl, scratch)?, 4)?.split('_').next().unwrap_or_default());
        }
        Derived::RuleIds => {
            let mut list = List::begin(out);
            rule_ids(parts, |raw| list.push(raw));
            return list.end();
        }
        Derived::Labels => {
            let mut list = List::begin(out);
            labels(parts, |raw| list.push(raw));
            return list.end();
        }
        Derived::AttackClass => {
            let mut class = None;
            let mut look = |raw: &str| class = class.or_else(|| attack_class(raw));
            for detail in elements(parts.paths[6]) {
                look(member(detail, "conditionType").unwrap_or_default());
            }
            look(terminating);
            rule_ids(parts, &mut look);
            labels(parts, &mut look);
            out.push_str(class?);
        }
        Derived::MatchedVar => {
            let detail = elements(parts.paths[6]).next()?;
            out.push_str(text(member(detail, "location")?, scratch)?);
        }
        Derived::MatchedData => {
            let detail = elements(parts.paths[6]).next()?;
            for (at, data) in elements(member(detail, "matchedData")?).enumerate() {
                out.push_str(if at == 0 { "" } else { " " });
                out.push_str(text(data, scratch)?);
            }
        }
    }
    (!out.is_empty()).then_some(Kind::Text)
}

fn arn(arn: &str, part: usize) -> Option<&str> {
    arn.strip_prefix("arn:").and_then(|_| arn.split(':').nth(part)).filter(|part| !part.is_empty())
}

/// The raw names of the rules that matched, the one that decided first.
fn rule_ids(parts: &Parts<'_>, mut each: impl FnMut(&str)) {
    let [_, _, _, terminating, groups, others, _] = parts.paths;
    if terminating.starts_with('"') && terminating != "\"Default_Action\"" {
        each(terminating);
    }
    for group in elements(groups) {
        let terminating = member(group, "terminatingRule").and_then(|rule| member(rule, "ruleId"));
        terminating.into_iter().for_each(&mut each);
        for key in ["nonTerminatingMatchingRules", "excludedRules"] {
            for rule in elements(member(group, key).unwrap_or_default()) {
                member(rule, "ruleId").into_iter().for_each(&mut each);
            }
        }
    }
    for rule in elements(others) {
        member(rule, "ruleId").into_iter().for_each(&mut each);
    }
}

fn labels(parts: &Parts<'_>, mut each: impl FnMut(&str)) {
    for label in elements(parts.labels) {
        member(label, "name").into_iter().for_each(&mut each);
    }
}

fn attack_class(name: &str) -> Option<&'static str> {
    let contains = |word: &str| {
        name.as_bytes().windows(word.len()).any(|window| window.eq_ignore_ascii_case(word.as_bytes()))
    };
    CLASSES.iter().find(|(word, _)| contains(word)).map(|(_, class)| *class)
}

/// A JSON list in the making.
struct List<'a>(&'a mut String);

impl<'a> List<'a> {
    fn begin(out: &'a mut String) -> Self {
        out.push('[');
        Self(out)
    }

    fn push(&mut self, raw: &str) {
        if self.0.len() > 1 {
            self.0.push(',');
        }
        self.0.push_str(raw);
    }

    fn end(self) -> Option<Kind> {
        self.0.push(']');
        (self.0.len() > 2).then_some(Kind::List)
    }
}
