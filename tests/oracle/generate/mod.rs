//! Small random worlds: rules and logs in which windows, ends and midnights nearly touch.
//!
//! In: proptest's choices, so that failures shrink. Out: [`World`]: rule files, sources, and records both as the bytes
//! that the kernel reads and as the claims that the oracle takes.

pub mod records;
pub mod rules;

use std::sync::Arc;

use proptest::prelude::*;
use vedette_event::{
    FieldType, Fields, Flags, LogSource, Micros, SourceDef, SourceIx, Sources, Span, StoredPlacement, Topics,
    schema::FieldDef,
    source::{Form, OneOrMany},
};
use vedette_sigma::{Lists, RuleFile, RuleSet};

use self::records::RawLog;
use super::placement::{Log, Stored};

/// `S`.
pub const SKEW: i64 = 5_000_000;

/// Rules and logs, before they are read.
#[derive(Debug, Clone)]
pub struct World {
    /// Texts of rule files.
    pub files: Vec<String>,
    /// Whether each rule must raise alerts itself, by name.
    pub emits: Vec<(String, bool)>,
    /// The records of each partition.
    pub logs: Vec<RawLog>,
}

impl World {
    /// The rules; all of them must load.
    pub fn rules(&self) -> Arc<RuleSet> {
        let files: Vec<RuleFile> = self
            .files
            .iter()
            .enumerate()
            .map(|(i, text)| RuleFile { path: format!("{i}.yml").into(), text: text.clone() })
            .collect();
        let set = vedette_sigma::load(&files, &Lists::new(), &sources());
        assert!(set.rejected.is_empty(), "{:#?}\n{}", set.rejected, self.files.join("\n===\n"));
        for (name, emits) in &self.emits {
            let rule = set.rules.iter().find(|rule| rule.name.as_deref() == Some(name)).expect("loaded");
            assert_eq!(rule.emits, *emits, "{name} emits\n{}", self.files.join("\n===\n"));
        }
        Arc::new(set)
    }

    /// The logs as the oracle takes them.
    pub fn claimed(&self) -> Vec<Log> {
        self.logs.iter().map(RawLog::claimed).collect()
    }

    /// The topics as they are at first; in files a topic is its source's name.
    pub fn topics(&self) -> Arc<Topics> {
        // Of the incarnations of one topic, the table takes the first.
        let topics = self.logs.iter().map(|log| (log.topic.as_str().into(), log.incarnation));
        Arc::new(Topics::with_incarnations(topics))
    }

    /// The placements that ingest stored: of broker times ahead of its clock.
    pub fn replaced(&self) -> Vec<Stored> {
        let of_log = |log: &RawLog| {
            let forged = log.records.iter().filter(|raw| raw.forged.is_some());
            let placed = forged.map(|raw| {
                let placement = StoredPlacement {
                    topic: log.topic.as_str().into(),
                    partition: log.partition,
                    offset: raw.offset,
                    flag: Flags::CLOCK_BROKER,
                    time: Micros(raw.ts_log.expect("Kafka")),
                };
                (log.incarnation.into(), placement)
            });
            placed.collect::<Vec<_>>()
        };
        self.logs.iter().flat_map(of_log).collect()
    }
}

/// Three sources: two of untyped JSON with different bounds, one typed.
pub fn sources() -> Sources {
    let json = |name: &str, disorder: i64| SourceDef {
        name: name.into(),
        description: String::new(),
        form: Form::Json,
        logsource: LogSource::default(),
        disorder: Span::secs(disorder),
        future: Span::secs(10),
        time_zone: "UTC".into(),
        entity: vec!["host.name".into(), "u".into()],
        weight: Some("n".into()),
        secrets: Vec::new(),
        secret_parameters: Vec::new(),
        fields: Default::default(),
        taxonomy: Default::default(),
    };
    let one = |name: &str, path: &str| (name.to_owned(), OneOrMany::One(path.to_owned()));
    let mut typed = json("typed", 10);
    typed.form = Form::ApiJson;
    typed.logsource.category = Some("test".into());
    typed.entity = vec!["client.ip".into()];
    typed.weight = Some("times".into());
    typed.fields = [
        one("@timestamp", "@timestamp"),
        one("client.ip", "u"),
        one("kinds", "k"),
        one("user.id", "o.v"),
        one("times", "n"),
        one("d", "d"),
        one("e", "e"),
        one("src", "src"),
        one("dst", "dst"),
    ]
    .into();
    typed.taxonomy = [one("k", "kinds"), one("u", "client.ip"), one("o.v", "user.id")].into();
    let field = |name: &str, kind| (name.to_owned(), FieldDef { kind, description: String::new() });
    let fields = Fields(
        [
            field("@timestamp", FieldType::Time),
            field("client.ip", FieldType::Ip),
            field("kinds", FieldType::List),
            field("user.id", FieldType::Text),
            field("times", FieldType::U32),
            field("d", FieldType::U16),
            field("e", FieldType::Text),
            field("src", FieldType::Text),
            field("dst", FieldType::Text),
        ]
        .into(),
    );
    Sources::new(fields, vec![json("slow", 60), json("quick", 10), typed])
}

/// The position of a source of [`sources`].
pub fn source(name: &str) -> SourceIx {
    sources().find(name).expect("one of the three")
}

/// What the logs of a world are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// Kafka topics of a healthy cluster: broker clocks step back by at most `S`.
    Topics,
    /// Kafka topics in which every event comes in order and claims the broker's time.
    Calm,
    /// Kafka topics whose broker clocks step back by more.
    SteppedBack,
    /// Plain files.
    Files,
}

/// A world of this shape.
pub fn world(shape: Shape) -> impl Strategy<Value = World> {
    (rules::files(), records::logs(shape)).prop_map(|((files, emits), logs)| World { files, emits, logs })
}
