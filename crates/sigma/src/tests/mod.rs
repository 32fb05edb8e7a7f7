//! Tests of the whole loader: rules in, rule sets and messages out.
#![allow(clippy::unwrap_used)]

mod correlations;
mod detections;
mod documents;
mod hostile;
mod messages;
mod vedette_map;

use std::sync::Arc;

use vedette_event::{LogSource, Sources, Span, schema::FieldDef, source::Form};

use crate::*;

/// Loads files written one after another, without lists, over the test sources.
fn load_texts(texts: &[&str]) -> RuleSet {
    let files: Vec<RuleFile> = texts
        .iter()
        .enumerate()
        .map(|(at, text)| RuleFile { path: format!("rules/{at}.yml").into(), text: (*text).to_owned() })
        .collect();
    let lists = Lists::from([
        ("admins".to_owned(), vec!["alice".to_owned(), "b*b".to_owned()]),
        ("nets".to_owned(), vec!["10.0.0.0/8".to_owned(), "2001:db8::/32".to_owned()]),
        ("none".to_owned(), Vec::new()),
    ]);
    load(&files, &lists, &sources())
}

/// A firewall with a taxonomy, an API, and the generic source.
fn sources() -> Sources {
    let def = |name: &str, form, category: &str, taxonomy: &[(&str, &str)]| vedette_event::SourceDef {
        name: name.into(),
        description: String::new(),
        form,
        logsource: LogSource {
            category: (!category.is_empty()).then(|| category.to_owned()),
            ..LogSource::default()
        },
        disorder: Span::secs(60),
        future: Span::secs(10),
        time_zone: "UTC".to_owned(),
        entity: Vec::new(),
        weight: None,
        secrets: Vec::new(),
        secret_parameters: Vec::new(),
        fields: Default::default(),
        taxonomy: taxonomy
            .iter()
            .map(|(from, to)| ((*from).to_owned(), vedette_event::source::OneOrMany::One((*to).to_owned())))
            .collect(),
    };
    let field = |name: &str, kind| (name.to_owned(), FieldDef { kind, description: String::new() });
    let fields = [
        field("api_key.scopes", vedette_event::FieldType::List),
        field("source.ip", vedette_event::FieldType::Ip),
    ];
    let defs = vec![
        def("panos", Form::PanosCsv, "firewall", &[("src_ip", "source.ip")]),
        def("api", Form::ApiJson, "api", &[("scopes", "api_key.scopes")]),
        def("json", Form::Json, "", &[]),
    ];
    Sources::new(vedette_event::Fields(fields.into_iter().collect()), defs)
}

/// A detection rule with this `detection:` block, indented by two.
fn rule_with(detection: &str) -> String {
    format!("title: t\nlogsource: {{category: test}}\ndetection:\n{detection}")
}

/// The only rule of a text.
fn only(text: &str) -> Rule {
    let set = load_texts(&[text]);
    assert_eq!((set.rejected.as_slice(), set.rules.len()), ([].as_slice(), 1), "{text}");
    set.rules.into_iter().next().unwrap()
}

/// The condition of a detection as text.
fn detected(detection: &str) -> String {
    show(&only(&rule_with(detection)))
}

/// Line, column and code of the only rejection of a text.
fn refused(text: &str) -> (usize, usize, &'static str) {
    let set = load_texts(&[text]);
    assert_eq!(set.rejected.len(), 1, "{text:.500}\n{:?}", set.rejected);
    let rejection = set.rejected.into_iter().next().unwrap();
    (rejection.line, rejection.column, rejection.code)
}

/// The code of the only rejection of a rule with this detection.
fn refused_detection(detection: &str) -> &'static str {
    refused(&rule_with(detection)).2
}

/// A rule in a notation for tests.
fn show(rule: &Rule) -> String {
    match &rule.kind {
        RuleKind::Detection(detection) => show_expr(&detection.condition, &detection.leaves),
        RuleKind::Correlation(c) => {
            let part = |part: &KeyPart| {
                let fields: String = part.fields.iter().map(|(ix, f)| format!("[{}:{f}]", ix.0)).collect();
                format!("{}{fields}", part.name)
            };
            let rules: Vec<u32> = c.rules.iter().map(|ix| ix.0).collect();
            let by: Vec<String> = c.group_by.iter().map(part).collect();
            let condition: Vec<String> = c.condition.iter().map(|(cmp, n)| format!("{cmp:?} {n}")).collect();
            format!("{:?} of {rules:?} by {by:?} in {} if {condition:?}", c.kind, c.timespan)
        }
    }
}

fn show_expr(expr: &Expr, leaves: &[Leaf]) -> String {
    let join = |parts: &[Expr], by: &str| {
        let parts: Vec<String> = parts.iter().map(|part| show_expr(part, leaves)).collect();
        format!("({})", parts.join(by))
    };
    match expr {
        Expr::And(parts) => join(parts, " & "),
        Expr::Or(parts) => join(parts, " | "),
        Expr::Not(inner) => format!("!{}", show_expr(inner, leaves)),
        Expr::Leaf(at) => {
            let field: Arc<str> = leaves[*at].field.clone().unwrap_or_else(|| "§".into());
            format!("{field}{}", show_test(&leaves[*at].test))
        }
    }
}

fn show_test(test: &Test) -> String {
    match test {
        Test::Text { pattern, cased } => {
            let piece = |piece: &Piece| match piece {
                Piece::Literal(text) => text.to_string(),
                Piece::One => "⟨?⟩".to_owned(),
                Piece::Many => "⟨*⟩".to_owned(),
            };
            let text: String = pattern.0.iter().map(piece).collect();
            format!("{}'{text}'", if *cased { "==" } else { "=" })
        }
        Test::Number(text) => format!("=#{text}"),
        Test::Bool(value) => format!("={value}"),
        Test::Regex(text) => format!("~/{text}/"),
        Test::Cidr(net) => format!("∈{net}"),
        Test::Compare(cmp, value) => format!(" {cmp:?} {}", value.0),
        Test::Null => "=null".to_owned(),
        Test::Exists(value) => format!(" exists {value}"),
        Test::FieldRef { other, how, cased } => format!(" {how:?}({other}, {cased})"),
        Test::Not(inner) => format!("≠({})", show_test(inner)),
    }
}
