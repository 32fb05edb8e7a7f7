//! The program and the reference evaluator agree: random rules over random events from an alphabet that is hard on both.
#![allow(clippy::unwrap_used)]

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    Evaluator, Program, Spread, needed_fields, reference,
    work::{TooDear, Work},
};
use proptest::{collection::vec, prelude::*, sample::select};
use serde_json::{Map, Value, json};
use vedette_event::{
    BatchBuilder, Cell, EventBatch, Hit, Kind, LogSource, Partition, Projection, RuleIx, Severity, SourceDef,
    SourceIx, Sources, TopicIx, cell::number, schema::Fields, source::Form,
};
use vedette_sigma::{
    Cmp, Decimal, Detection, Expr, Extras, Leaf, Pattern, Piece, Relation, Rule, RuleKind, RuleSet, Test,
};

/// Words that are hard on folding, escaping and gates.
const WORDS: &[&str] = &[
    "",
    "a",
    "k",
    "K",
    "\u{212a}",
    "ſ",
    "s",
    "İ",
    "i",
    "\\",
    "\\u",
    "/",
    "\"",
    "*",
    "?",
    "\n",
    "é",
    "É",
    "cmd",
    ".exe",
    "CMD.EXE",
    "whoami /all",
    "powershell -enc",
    "5",
    "-1",
    "0.5",
    "1e21",
    "true",
    "FALSE",
    "null",
    "10.0.0.1",
    "::ffff:10.0.0.1",
    "2001:db8::1",
    "\u{fb01}",
    "😀",
    "kk",
    "Sk",
    "task",
    "tas\u{212a}",
    "TA\u{17f}k",
    "SELECT",
    "\\u0063md",
    "a/b/c/d",
    "é",
];
const REGEXES: &[&str] = &[
    "(?i)cmd",
    "cmd|5",
    "^$",
    "(?i)[k]s?",
    "whoami.*all",
    "(?s)a.*é",
    "[aé]",
    "(?i)İ",
    r"\\u",
    "(?i)ss|kk+",
    "(?i)CMD\\.exe$",
    "[0-9]{1,2}",
    "po+wer",
    "(?i)task",
    "(?i)TASK|SELECT",
    "[sé]",
    "(cm|éé?)[dé]?",
    "t[aé]sk|xxxx",
];

const FIELDS: [&str; 5] = ["a", "b", "c.d", "both", "never"];

fn source(form: Form) -> SourceDef {
    let def = json!({
        "name": "test", "description": "", "form": form, "logsource": {"product": "P"}, "disorder": "0s",
        "future": "0s", "entity": [], "taxonomy": {"both": ["a", "b"]},
    });
    serde_json::from_value(def).unwrap()
}

/// Words that meet often, so that predicates are true often enough.
fn word() -> impl Strategy<Value = String> {
    let words = WORDS;
    prop_oneof![
        2 => vec(select(words.to_vec()), 0..4).prop_map(|words| words.concat()),
        4 => select(words.to_vec()).prop_map(str::to_owned),
        1 => vec(select("abkK\u{212a}ſ\\/*?é\u{1}".chars().collect::<Vec<_>>()), 0..20).prop_map(String::from_iter),
    ]
}

fn scalar() -> impl Strategy<Value = Value> {
    prop_oneof![
        6 => word().prop_map(Value::from),
        1 => select(vec![json!(5), json!(-1), json!(0.5), json!(5.0), json!(1e21), json!(u64::MAX), json!(9_007_199_254_740_993_u64)]),
        1 => any::<bool>().prop_map(Value::from),
        1 => Just(Value::Null),
    ]
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        6 => scalar(),
        1 => vec(scalar(), 0..4).prop_map(Value::from),
        1 => (scalar(), scalar()).prop_map(|(a, b)| json!({"x": a, "y": [b, {"z": "cmd.exe"}]})),
        1 => (scalar(), scalar()).prop_map(|(a, b)| json!([[a], {"cmd": b}, "k"])),
    ]
}

fn event() -> impl Strategy<Value = Map<String, Value>> {
    let name = select(vec!["a", "b", "c.d", "other", "product", "category", "service"]);
    let logsource = select(vec!["P", "p", "q", "\u{212a}"]).prop_map(Value::from);
    vec((name, value(), logsource), 0..7).prop_map(|pairs| {
        let pair = |(name, value, logsource): (&str, Value, Value)| match name {
            "product" | "category" if value.is_string() => (name.to_owned(), logsource),
            _ => (name.to_owned(), value),
        };
        pairs.into_iter().map(pair).collect()
    })
}

fn pattern() -> impl Strategy<Value = Pattern> {
    let piece = prop_oneof![
        4 => word().prop_map(|text| Piece::Literal(text.into())),
        1 => Just(Piece::One),
        3 => Just(Piece::Many),
    ];
    prop_oneof![
        2 => vec(piece, 0..5).prop_map(Pattern),
        3 => (word(), any::<bool>(), any::<bool>()).prop_map(|(text, before, after)| {
            let mut pieces = vec![Piece::Literal(text.into())];
            if before { pieces.insert(0, Piece::Many) }
            if after { pieces.push(Piece::Many) }
            Pattern(pieces)
        }),
    ]
}

fn test() -> impl Strategy<Value = Test> {
    let nets = ["10.0.0.0/8", "0.0.0.0/0", "2001:db8::/32", "::ffff:10.0.0.0/104", "::/0"];
    let cmp = select(vec![Cmp::Lt, Cmp::Lte, Cmp::Gt, Cmp::Gte, Cmp::Eq, Cmp::Neq]);
    let how = select(vec![Relation::Equal, Relation::Contains, Relation::StartsWith, Relation::EndsWith]);
    let plain = prop_oneof![
        8 => (pattern(), any::<bool>()).prop_map(|(pattern, cased)| Test::Text { pattern, cased }),
        1 => select(vec!["5", "-1", "0.5", "1e21"]).prop_map(|text| Test::Number(text.into())),
        1 => any::<bool>().prop_map(Test::Bool),
        2 => select(REGEXES.to_vec()).prop_map(|text| Test::Regex(text.into())),
        1 => select(nets.to_vec()).prop_map(|net| Test::Cidr(net.parse().unwrap())),
        1 => (cmp, select(vec![5.0, 0.5, -1.0, 9_007_199_254_740_992.0])).prop_map(|(cmp, right)| Test::Compare(cmp, Decimal(right))),
        1 => Just(Test::Null),
        1 => any::<bool>().prop_map(Test::Exists),
        1 => (select(FIELDS.to_vec()), how, any::<bool>())
            .prop_map(|(other, how, cased)| Test::FieldRef { other: other.into(), how, cased }),
    ];
    plain.prop_recursive(2, 4, 1, |inner| inner.prop_map(|test| Test::Not(Box::new(test))))
}

fn leaf() -> impl Strategy<Value = Leaf> {
    let field = prop_oneof![4 => select(FIELDS.to_vec()).prop_map(Some), 1 => Just(None)];
    (field, test()).prop_map(|(field, test)| Leaf { field: field.map(Arc::from), test })
}

fn expr() -> impl Strategy<Value = Expr> {
    (0..4_usize).prop_map(Expr::Leaf).prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            2 => vec(inner.clone(), 0..4).prop_map(Expr::And),
            2 => vec(inner.clone(), 0..4).prop_map(Expr::Or),
            1 => inner.prop_map(|part| Expr::Not(Box::new(part))),
        ]
    })
}

fn rule() -> impl Strategy<Value = Rule> {
    let name =
        || select(vec![None, None, Some("p"), Some("Q"), Some("k")]).prop_map(|name| name.map(str::to_owned));
    let logsource = (name(), name(), name());
    (expr(), vec(leaf(), 4), logsource).prop_map(|(condition, leaves, (product, category, service))| {
        let logsource = LogSource { product, category, service };
        let kind = RuleKind::Detection(Detection { logsource, condition, leaves });
        Rule { kind, ..rule_of(Leaf { field: None, test: Test::Null }) }
    })
}

fn cell_of(value: Option<&Value>) -> (Kind, String) {
    match value {
        None => (Kind::Missing, String::new()),
        Some(Value::Null) => (Kind::Null, String::new()),
        Some(Value::String(text)) => (Kind::Text, text.clone()),
        Some(Value::Bool(truth)) => (Kind::Bool, truth.to_string()),
        Some(Value::Number(n)) => number(&n.to_string()).unwrap(),
        Some(list @ Value::Array(_)) => (Kind::List, list.to_string()),
        Some(object @ Value::Object(_)) => (Kind::Object, object.to_string()),
    }
}

/// The record's text, with some characters escaped that need no escape.
fn spell(event: &Map<String, Value>, escape: bool) -> String {
    let plain = Value::from(event.clone()).to_string();
    if escape { plain.replace('/', "\\/").replace('c', "\\u0063").replace('é', "\\u00e9") } else { plain }
}

fn batch(events: &[(Map<String, Value>, bool)], fields: &[Arc<str>]) -> EventBatch {
    let mut batch = BatchBuilder::new(Projection::new(fields.iter().cloned()));
    for (row, (event, escape)) in (0..).zip(events) {
        for (column, field) in fields.iter().enumerate() {
            let (kind, text) = cell_of(event.get(&**field));
            batch.put(column, Cell { kind, text: &text });
        }
        batch.keep_original(&spell(event, *escape));
        batch.end_row(i64::from(row), 0, row, None);
    }
    batch.finish(SourceIx(0), Partition { topic: TopicIx(0), number: 0 })
}

fn expected(rules: &RuleSet, def: &SourceDef, events: &[(Map<String, Value>, bool)]) -> Vec<Hit> {
    let mut hits = Vec::new();
    for (row, (event, escape)) in events.iter().enumerate() {
        let cells: BTreeMap<&str, (Kind, String)> =
            event.iter().map(|(name, value)| (&**name, cell_of(Some(value)))).collect();
        let cell =
            |name: &str| cells.get(name).map_or(Cell::MISSING, |(kind, text)| Cell { kind: *kind, text });
        for (rule, _) in rules.iter() {
            if reference::matches(rules, rule, def, &cell, &spell(event, *escape)) {
                hits.push(Hit { row: row as u32, rule });
            }
        }
    }
    hits
}

/// What each event costs, by the reference.
fn worked(rules: &RuleSet, def: &SourceDef, events: &[(Map<String, Value>, bool)]) -> Vec<Work> {
    let of = |(event, escape): &(Map<String, Value>, bool)| {
        let cells: BTreeMap<&str, (Kind, String)> =
            event.iter().map(|(name, value)| (&**name, cell_of(Some(value)))).collect();
        let cell =
            |name: &str| cells.get(name).map_or(Cell::MISSING, |(kind, text)| Cell { kind: *kind, text });
        reference::work(rules, def, &cell, &spell(event, *escape))
    };
    events.iter().map(of).collect()
}

fn rule_of(leaf: Leaf) -> Rule {
    Rule {
        id: "r".into(),
        name: None,
        title: "r".into(),
        description: None,
        level: Severity::Low,
        tags: Arc::from([]),
        false_positives: Vec::new(),
        file: "r.yml".into(),
        line: 1,
        emits: true,
        kind: RuleKind::Detection(Detection {
            logsource: LogSource::default(),
            condition: Expr::Leaf(0),
            leaves: vec![leaf],
        }),
        extras: Extras::default(),
        meaning: [0; 32],
        tests: Vec::new(),
        text: "".into(),
    }
}

#[test]
fn every_word_in_every_place_is_found_or_not_alike() {
    let mut tests: Vec<Test> = REGEXES.iter().map(|regex| Test::Regex((*regex).into())).collect();
    for word in WORDS {
        for (before, after) in [(false, false), (false, true), (true, false), (true, true)] {
            let many = |there: bool| there.then_some(Piece::Many);
            let literal = Piece::Literal((*word).into());
            let pieces: Vec<_> = many(before).into_iter().chain([literal]).chain(many(after)).collect();
            let pattern = Pattern(pieces);
            tests.push(Test::Text { pattern, cased: before && !after });
        }
    }
    let leaf = |field: Option<&str>, test| Leaf { field: field.map(Arc::from), test };
    let leaves = tests.into_iter().flat_map(|test| [leaf(Some("a"), test.clone()), leaf(None, test)]);
    let rules = RuleSet { rules: leaves.map(rule_of).collect(), ..RuleSet::default() };
    let event = |word: &str, escape| {
        let texts = [word.to_owned(), format!("mo{word}re")];
        texts.map(|text| (json!({ "a": text }).as_object().unwrap().clone(), escape))
    };
    let events: Vec<_> =
        WORDS.iter().flat_map(|word| [event(word, false), event(word, true)]).flatten().collect();
    let sources = Sources::new(Fields::default(), vec![source(Form::Json)]);
    let def = sources.get(SourceIx(0));
    let fields: Vec<Arc<str>> = needed_fields(&rules, def).into_iter().collect();
    let program = Arc::new(Program::compile(&rules, SourceIx(0), &sources, &fields));
    let mut hits = Vec::new();
    let mut evaluator = Evaluator::new(program);
    let expected = expected(&rules, def, &events);
    let batch = batch(&events, &fields);
    for _ in 0..3 {
        evaluator.evaluate(&batch, &mut hits);
        let differ = hits.iter().find(|hit| !expected.contains(hit));
        let differ = differ.or_else(|| expected.iter().find(|hit| !hits.contains(hit)));
        let told = differ.map(|hit| (&rules.get(hit.rule).kind, &events[hit.row as usize]));
        assert!(hits == expected, "{told:?}");
    }
}

/// The last piece first, and the first one not at all: what was not run is made up for.
const PIECES: Spread = Spread::new(4, |pieces, work| (1..pieces).rev().for_each(work));

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn program_and_reference_agree(
        rules in vec(rule(), 1..6),
        events in vec((event(), any::<bool>()), 1..12),
        form in select(vec![Form::Json, Form::ApiJson, Form::PanosCsv]),
    ) {
        let rules = RuleSet { rules, ..RuleSet::default() };
        let sources = Sources::new(Fields::default(), vec![source(form)]);
        let def = sources.get(SourceIx(0));
        let fields: Vec<Arc<str>> = needed_fields(&rules, def).into_iter().collect();
        let batch = batch(&events, &fields);
        let program = Arc::new(Program::compile_on(PIECES, &rules, def, &fields));
        let whole = Program::compile(&rules, SourceIx(0), &sources, &fields);
        prop_assert_eq!(format!("{:?}", program.rules), format!("{:?}", whole.rules));
        prop_assert_eq!(format!("{:?}", program.atoms), format!("{:?}", whole.atoms));
        let works: Vec<Work> = (0..batch.rows()).map(|row| program.work(&batch, row)).collect();
        prop_assert_eq!(&works, &worked(&rules, def, &events));
        for budget in [0, works[0].steps, u64::MAX] {
            let dear = (0_u32..).zip(&works).filter(|(_, work)| work.steps > budget);
            let dear: Vec<_> = dear.map(|(row, work)| TooDear { row, work: *work }).collect();
            prop_assert_eq!(program.too_dear(&batch, budget), dear);
        }
        // As two threads do, before a class is compiled and after.
        let mut evaluators = [Evaluator::new(program.clone()), Evaluator::new(program)];
        let mut hits = vec![Hit { row: 9, rule: RuleIx(9) }];
        let expected = expected(&rules, def, &events);
        for round in 0..5 {
            evaluators[round % 2].evaluate(&batch, &mut hits);
            prop_assert_eq!(&hits, &expected);
        }
        // Each rule alone finds what it finds among the others.
        for (rule, _) in rules.iter() {
            let program = Program::alone(&rules, rule, def, &fields);
            let of_rule: Vec<Hit> = expected.iter().copied().filter(|hit| hit.rule == rule).collect();
            prop_assert!(program.is_some() || of_rule.is_empty());
            if let Some(program) = program {
                Evaluator::new(Arc::new(program)).evaluate(&batch, &mut hits);
                prop_assert_eq!(&hits, &of_rule);
            }
        }
    }
}

/// A program of some rules over events that name their own logsource.
pub fn program_of(rules: &RuleSet) -> Arc<Program> {
    let sources = Sources::new(Fields::default(), vec![source(Form::Json)]);
    let fields: Vec<Arc<str>> = needed_fields(rules, sources.get(SourceIx(0))).into_iter().collect();
    Arc::new(Program::compile(rules, SourceIx(0), &sources, &fields))
}

/// One rule: `a` is `x`.
pub fn one_rule() -> RuleSet {
    let pattern = Pattern(vec![Piece::Literal("x".into())]);
    let test = Test::Text { pattern, cased: false };
    RuleSet { rules: vec![rule_of(Leaf { field: Some("a".into()), test })], ..RuleSet::default() }
}

#[test]
fn a_class_is_compiled_once_for_all_threads_and_not_before_enough_was_seen() {
    let program = program_of(&one_rule());
    let event = |product: &str| (json!({"a": "x", "product": product}).as_object().unwrap().clone(), false);
    let fields: Vec<Arc<str>> = ["a", "category", "product", "service"].map(Arc::from).to_vec();
    let mut evaluators = [(); 3].map(|()| Evaluator::new(program.clone()));
    let mut hits = Vec::new();
    let mut seen = |thread: usize, products: &[&str]| {
        let events: Vec<_> = products.iter().map(|product| event(product)).collect();
        evaluators[thread].evaluate(&batch(&events, &fields), &mut hits);
        assert_eq!(hits.len(), products.len());
        program.classes()
    };
    // No rule names a product, so all of these are one class.
    assert_eq!(seen(0, &["q", "r"]), (1, 0));
    assert_eq!(seen(1, &["q"]), (1, 0));
    assert_eq!(seen(0, &["q", "q"]), (1, 1), "the third and fourth, and the fifth beside them");
    for thread in [0, 1, 2] {
        assert_eq!(seen(thread, &["r", "q"]), (1, 1));
    }
    let compiled = evaluators.each_ref().map(|evaluator| evaluator.compiled().clone());
    assert!(Arc::ptr_eq(&compiled[0], &compiled[1]) && Arc::ptr_eq(&compiled[1], &compiled[2]));
}
