//! Random logs.
//!
//! In: proptest's choices. Out: [`RawLog`]s: records as bytes and as claims, with times that lie close together around
//! 2026-01-03T00:00:00Z, exactly on and one microsecond beside the bounds of windows, ends and placements.

use std::sync::LazyLock;

use proptest::{prelude::*, sample};
use serde_json::{Map, Value as Json, json};
use vedette_event::{Micros, SourceIx};

use super::{SKEW, Shape, source, sources};
use crate::oracle::placement::{Claimed, Log, Record};

/// 2026-01-03T00:00:00Z, in microseconds.
pub const MIDNIGHT: i64 = 1_767_398_400_000_000;
const SECOND: i64 = 1_000_000;

/// The records of one partition as they lie in Kafka or in a file.
#[derive(Debug, Clone)]
pub struct RawLog {
    pub topic: String,
    pub incarnation: u16,
    pub source: SourceIx,
    pub partition: i32,
    pub records: Vec<Raw>,
}

/// One record.
#[derive(Debug, Clone)]
pub struct Raw {
    pub offset: i64,
    /// Broker time; none in a file.
    pub ts_log: Option<i64>,
    /// None for a null payload.
    pub payload: Option<String>,
    /// The broker time that it bore, where ingest's clock (`ts_log`) replaced it.
    pub forged: Option<i64>,
    /// What the oracle takes it for; none if it is a dead letter.
    pub claimed: Option<Claimed>,
}

impl RawLog {
    /// As the oracle takes it.
    pub fn claimed(&self) -> Log {
        let records = self.records.iter().map(|raw| Record {
            offset: raw.offset,
            ts_log: raw.forged.or(raw.ts_log),
            events: raw.claimed.iter().cloned().collect(),
        });
        Log {
            topic: self.topic.clone(),
            incarnation: self.incarnation.into(),
            partition: self.partition,
            source: self.source,
            records: records.collect(),
        }
    }
}

/// The incarnation of a topic from the beginning.
pub fn incarnation(topic: &str) -> u16 {
    if topic == "topic-quick" { 2 } else { 0 }
}

/// How a claim lies to the broker's time.
#[derive(Debug, Clone, Copy)]
enum Claim {
    /// This much later (earlier, below zero).
    After(i64),
    /// `D` before it, and this much more.
    Late(i64),
    /// `F` after it, and this much more.
    Future(i64),
    /// This very time.
    At(i64),
    Missing,
    Unreadable,
}

/// 9999-12-31T23:59:59.999999Z, 1969-12-31T23:59:59Z, 0001-01-01T00:00:00Z.
const EXTREMES: [i64; 3] = [253_402_300_799_999_999, -1_000_000, -62_135_596_800_000_000];

/// A record to be.
#[derive(Debug, Clone)]
struct Choice {
    /// From the record before it, in microseconds.
    gap: i64,
    /// Offsets left out before it.
    hole: i64,
    claim: Claim,
    /// How the time is written.
    spelling: u8,
    fields: Map<String, Json>,
    /// 0 for a dead letter, 1 for a forged broker time, 2 for an extreme claim.
    sound: u8,
}

fn gap() -> impl Strategy<Value = i64> {
    let beside = vec![5, 10, 20, 60];
    prop_oneof![
        4 => Just(0),
        1 => Just(1),
        8 => (1..6_i64).prop_map(|s| s * SECOND),
        3 => (sample::select(beside), -1..2_i64).prop_map(|(s, off)| s * SECOND + off),
        1 => sample::select(vec![-1, -3 * SECOND, -5 * SECOND]),
        1 => sample::select(vec![3_600 * SECOND, 86_400 * SECOND]),
    ]
}

fn claim() -> impl Strategy<Value = Claim> {
    prop_oneof![
        8 => Just(Claim::After(0)),
        4 => (-5..2_i64).prop_map(|s| Claim::After(s * SECOND)),
        1 => (-1..2_i64).prop_map(Claim::Late),
        1 => (-1..2_i64).prop_map(Claim::Future),
        1 => sample::select(vec![Claim::Late(7_200 * SECOND), Claim::Future(7_200 * SECOND)]),
        1 => sample::select(vec![Claim::Missing, Claim::Unreadable, Claim::At(EXTREMES[1])]),
    ]
}

/// One of these, or nothing at all (an empty list of choices stands for the field left out).
fn field(often: Vec<Json>, seldom: Vec<Json>) -> impl Strategy<Value = Option<Json>> {
    prop_oneof![
        12 => sample::select(often).prop_map(Some),
        3 => sample::select(seldom).prop_map(Some),
        1 => Just(None),
    ]
}

/// Texts too long for a key that begin alike, and one just short enough.
static LONG: LazyLock<[String; 3]> =
    LazyLock::new(|| [format!("{}y", "€".repeat(350)), format!("{}z", "€".repeat(350)), "x".repeat(1_024)]);
/// What the first of them is written as in a key.
static FORGED: LazyLock<String> = LazyLock::new(|| vedette_event::key_part(&LONG[0]).into_owned());

/// Addresses, and what else may stand in their place.
fn user() -> impl Strategy<Value = Option<Json>> {
    field(
        vec![json!("10.0.0.1"), json!("10.0.0.1"), json!("10.0.0.2")],
        vec![
            json!("2001:db8::1"),
            json!("2001:DB8:0:0:1::2"),
            json!("2001:db8:0:1::2"),
            json!("::ffff:10.0.0.1"),
            json!(5),
            json!(5.0),
            json!(0.1),
            json!(1e21),
            json!(-0.0),
            json!(18_446_744_073_709_551_615_u64),
            json!(9_007_199_254_740_993.0),
            json!("x"),
            json!("X"),
            json!("5"),
            json!(true),
            json!(null),
            json!(""),
            json!("-"),
            json!(["10.0.0.1"]),
            json!(LONG[0]),
            json!(LONG[1]),
            json!(LONG[2]),
            json!(*FORGED),
        ],
    )
}

fn fields() -> impl Strategy<Value = Map<String, Json>> {
    let k = prop_oneof![
        6 => sample::select(vec![json!("p"), json!("q"), json!("r"), json!("p"), json!("P")]),
        2 => sample::select(vec![json!(["p", "q"]), json!(["q", "r"]), json!(["p", "q", "r"]), json!([])]),
    ];
    let u = user();
    let v = field(vec![json!("1"), json!("2")], vec![json!(1), json!(null)]);
    let d = field(
        vec![json!(0), json!(1), json!(2), json!(3)],
        vec![
            json!("1"),
            json!(1.0),
            json!([0, 1]),
            json!([1, 2, 3]),
            json!([null]),
            json!([]),
            json!({"a": 1}),
            json!(LONG[0]),
            json!([LONG[0], LONG[1], 1, LONG[1]]),
        ],
    );
    let e = field(vec![json!("x"), json!("y")], vec![json!(["x", "y"]), json!(["z", null]), json!(null)]);
    let ip = || field(vec![json!("a"), json!("b")], vec![json!("c")]);
    let n = field(vec![json!(1), json!(2)], vec![json!(0), json!(3.0), json!(20_000), json!("2"), json!(-4)]);
    let seldom = (any::<bool>(), prop::bool::weighted(0.1), prop::option::weighted(0.2, ip()));
    let category = field(
        vec![json!("test"), json!("Test")],
        vec![json!("other"), json!(5), json!(null), json!({"a": "other"})],
    );
    (k, u, v, d, e, (ip(), ip(), n), seldom, category).prop_map(
        |(k, u, v, d, e, (src, dst, n), (nested, hosted, plain), category)| {
            let mut map = Map::new();
            map.insert("k".into(), k);
            let given = [("u", u), ("d", d), ("e", e), ("src", src), ("dst", dst), ("n", n)];
            let given = given.into_iter().chain([("category", category), ("ip", plain.flatten())]);
            map.extend(given.filter_map(|(name, json)| Some((name.to_owned(), json?))));
            match v {
                Some(v) if nested => {
                    // A flat field goes before the nested one, also if it is null.
                    if hosted {
                        map.insert("o.v".into(), json!(null));
                    }
                    map.insert("o".into(), json!({"v": v}))
                }
                Some(v) => map.insert("o.v".into(), v),
                None => None,
            };
            if hosted {
                map.insert("host".into(), json!({"name": "h"}));
            }
            map
        },
    )
}

fn choice() -> impl Strategy<Value = Choice> {
    (gap(), prop_oneof![6 => Just(0), 1 => 1..3_i64], claim(), 0..6_u8, fields(), 0..40_u8).prop_map(
        |(gap, hole, claim, spelling, fields, sound)| Choice { gap, hole, claim, spelling, fields, sound },
    )
}

/// A partition of each of the three sources, and up to two more; all of Kafka, or all plain files.
pub fn logs(shape: Shape) -> impl Strategy<Value = Vec<RawLog>> {
    let one = || {
        let start = (1..100_i64).prop_map(|s| MIDNIGHT - s * SECOND);
        (
            start,
            prop_oneof![4 => prop::collection::vec(choice(), 0..16), 1 => prop::collection::vec(choice(), 0..50)],
        )
    };
    let more = (sample::select(vec!["slow", "quick", "typed"]), one());
    (one(), one(), one(), prop::collection::vec(more, 0..3)).prop_map(move |(slow, quick, typed, more)| {
        let all = [("slow", slow), ("quick", quick), ("typed", typed)].into_iter().chain(more);
        let numbered = all.enumerate();
        numbered.map(|(i, (name, (start, choices)))| log(shape, i as i32, name, start, choices)).collect()
    })
}

fn log(shape: Shape, partition: i32, name: &str, start: i64, choices: Vec<Choice>) -> RawLog {
    let files = shape == Shape::Files;
    let (mut clock, mut highest, mut offset) = (start, i64::MIN, -1);
    let mut records = Vec::new();
    for mut choice in choices {
        if shape == Shape::Calm {
            choice = Choice {
                gap: choice.gap.max(0),
                claim: Claim::After(0),
                sound: choice.sound.max(3),
                ..choice
            };
        }
        clock += choice.gap;
        if shape == Shape::SteppedBack && choice.spelling == 0 {
            clock -= 30 * SECOND;
        } else if shape != Shape::SteppedBack {
            clock = clock.max(highest.saturating_sub(SKEW));
        }
        highest = highest.max(clock);
        offset += 1 + if files { 0 } else { choice.hole };
        records.push(raw(files, name, offset, clock, choice));
    }
    // A file's topic is its source; files are numbered in the order given.
    let topic = if files { name.to_owned() } else { format!("topic-{name}") };
    RawLog { incarnation: incarnation(&topic), topic, source: source(name), partition, records }
}

fn raw(files: bool, name: &str, offset: i64, clock: i64, choice: Choice) -> Raw {
    let ts_log = (!files).then_some(clock);
    let forged = ts_log.filter(|_| choice.sound == 1).map(|t| t + 86_400 * SECOND);
    if choice.sound == 0 || (choice.sound == 1 && choice.spelling == 5) {
        let payload = match choice.spelling {
            0 => Some("[1, 2]".to_owned()),
            1 => Some(String::from("{\"k\": \"p\"")),
            2 if name != "typed" => {
                Some(format!("{{\"k\": \"p\", \"@timestamp\": {clock}, \"z\": [1e400]}}"))
            }
            _ if files => Some("p".to_owned()),
            _ => None,
        };
        return Raw { offset, ts_log, payload, forged, claimed: None };
    }
    let sources = sources();
    let def = sources.get(source(name));
    let extreme = EXTREMES[usize::from(choice.spelling) % EXTREMES.len()];
    let claim = if choice.sound == 2 { Claim::At(extreme) } else { choice.claim };
    let ts_raw = match claim {
        Claim::At(time) => Some(time),
        Claim::After(by) => Some(clock + by),
        Claim::Late(by) => Some(clock - def.disorder.0 - by),
        Claim::Future(by) => Some(clock + def.future.0 + by),
        Claim::Missing | Claim::Unreadable => None,
    };
    let mut event = choice.fields;
    if name == "typed" && event.contains_key("o") {
        event.remove("o.v");
    }
    match (claim, ts_raw) {
        (Claim::Unreadable, _) => {
            let said = [json!("soon"), json!("1767398400"), json!(true), json!({"a": 1})];
            event.insert("@timestamp".into(), said[usize::from(choice.spelling) % said.len()].clone());
        }
        (_, Some(time)) => {
            event.insert("@timestamp".into(), spelled(time, choice.spelling));
        }
        _ => {}
    }
    let payload = Some(Json::Object(event.clone()).to_string());
    let fields = if name == "typed" { canonical(&event) } else { event };
    Raw { offset, ts_log, payload, forged, claimed: Some(Claimed { ts_raw, fields }) }
}

/// A time, written in one of several ways that mean the same.
fn spelled(time: i64, spelling: u8) -> Json {
    let text = Micros(time).to_string();
    match spelling {
        _ if EXTREMES.contains(&time) => json!(text),
        0 => json!(time),
        1 => json!(time * 1_000),
        2 if time % SECOND == 0 => json!(time / SECOND),
        3 if time % 1_000 == 0 => json!(time / 1_000),
        4 => json!(text.replace('Z', "999+00:00")),
        _ => json!(text),
    }
}

/// The fields of a record of the source `typed`: those that its definition maps, beside all others as they are.
fn canonical(event: &Map<String, Json>) -> Map<String, Json> {
    let sources = sources();
    let def = sources.get(source("typed"));
    let mapped = |name: &String| def.fields.values().any(|path| path.names().contains(name));
    let others = event.iter().filter(|(name, _)| !mapped(name));
    let mut fields: Map<String, Json> = others.map(|(name, json)| (name.clone(), json.clone())).collect();
    for (name, path) in &def.fields {
        let path = &path.names()[0];
        let flat = event.get(path);
        let nested = || path.split_once('.').and_then(|(head, rest)| event.get(head)?.get(rest));
        if let Some(json) = flat.or_else(nested) {
            fields.insert(name.clone(), json.clone());
        }
    }
    fields
}

/// A sound record of untyped JSON at a time, whose claim is the broker's time.
pub fn plain(offset: i64, time: i64, mut fields: Map<String, Json>) -> Raw {
    fields.insert("@timestamp".into(), json!(time));
    let payload = Some(Json::Object(fields.clone()).to_string());
    let claimed = Some(Claimed { ts_raw: Some(time), fields });
    Raw { offset, ts_log: Some(time), payload, forged: None, claimed }
}
