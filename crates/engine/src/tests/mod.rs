//! The kernel from outside: rules and records in, alerts and checkpoints out.
#![allow(clippy::unwrap_used)]

mod releases;
mod restarts;
mod sources;
mod versions;
mod waiting;

use std::sync::Arc;

use serde_json::{Value as Json, json};
use vedette_event::{
    FieldType, Fields, Flags, Micros, Partition, RawBatchBuilder, SourceDef, SourceIx, Sources, Topics,
    schema::FieldDef,
};
use vedette_sigma::{Lists, RuleFile};

use crate::{Compiled, Detector, Engine, EngineSettings, Output, TopicStanding};

/// `D` of every source here, and `F`.
const DISORDER: i64 = 1;

/// A rule for each of the sources `a` and `b` alone, and others.
fn for_a_and_b(others: &str) -> String {
    let alone = "
title: A
id: 00000000-0000-4000-8000-00000000000a
name: a
logsource: {category: a}
detection: {x: {k: x}, condition: x}
---
title: B
id: 00000000-0000-4000-8000-00000000000b
name: b
logsource: {category: b}
detection: {x: {k: x}, condition: x}
---
";
    [alone, others].concat()
}

/// A source whose records are its name's category.
fn source(name: &'static str) -> (&'static str, Json) {
    (name, json!({"form": "api_json", "logsource": {"category": name}, "fields": {"k": "k", "host": "host"}}))
}

/// An event of its own host, that a rule for `a` or `b` alone finds.
fn hit(second: i64) -> Json {
    json!({"k": "x", "host": format!("h{second}")})
}

/// A kernel that is fed by hand: topics are numbered by name, times are seconds.
pub(super) struct Bench {
    compiled: Arc<Compiled>,
    detector: Detector,
    pub engine: Engine,
    pub out: Output,
}

impl Bench {
    /// Sources (name and what differs from plain JSON), topics (each of the source of its first letters), rules.
    pub fn new(sources: &[(&str, Json)], topics: &[&str], rules: &str, settings: EngineSettings) -> Self {
        let def = |(name, more): &(&str, Json)| -> SourceDef {
            let mut def = json!({
                "name": name, "description": "", "form": "json", "disorder": format!("{DISORDER}s"),
                "future": format!("{DISORDER}s"), "entity": ["host"],
            });
            def.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            serde_json::from_value(def).unwrap()
        };
        let field =
            |(name, kind): (&str, _)| (name.to_owned(), FieldDef { kind, description: String::new() });
        let fields =
            [("host", FieldType::Text), ("k", FieldType::Text), ("@timestamp", FieldType::Time)].map(field);
        let fields = Fields(fields.into());
        let sources = Arc::new(Sources::new(fields, sources.iter().map(def).collect()));
        let file = RuleFile { path: "rules.yml".into(), text: rules.to_owned() };
        let rules = Arc::new(vedette_sigma::load(&[file], &Lists::new(), &sources));
        assert!(rules.rejected.is_empty(), "{:?}", rules.rejected);
        let topics = Arc::new(Topics::new(topics.iter().copied()));
        let compiled = Compiled::new(rules, sources, topics, settings.secret);
        Self {
            detector: compiled.detector().unwrap(),
            engine: Engine::new(compiled.clone(), settings),
            out: Output::default(),
            compiled,
        }
    }

    pub fn partition(&self, topic: &str, number: i32) -> Partition {
        Partition { topic: self.compiled.topics.find(topic).unwrap(), number }
    }

    /// The source whose name a topic begins with.
    pub fn source(&self, topic: &str) -> SourceIx {
        self.compiled.sources.iter().find(|(_, def)| topic.starts_with(&*def.name)).unwrap().0
    }

    /// A partition is read from its start.
    pub fn assign(&mut self, topic: &str, number: i32) {
        let (partition, source) = (self.partition(topic, number), self.source(topic));
        self.engine.assign(partition, source, 0);
    }

    /// What becomes of a topic.
    pub fn topic(&mut self, topic: &str, state: TopicStanding) {
        let topic = self.compiled.topics.find(topic).unwrap();
        self.engine.set_topic(topic, state, &mut self.out);
    }

    /// One batch of records: offset, broker time in seconds, content.
    pub fn read(
        &mut self,
        (topic, number): (&str, i32),
        records: impl IntoIterator<Item = (i64, i64, Json)>,
    ) {
        let mut batch = RawBatchBuilder::new(self.source(topic), self.partition(topic, number));
        for (offset, second, content) in records {
            let content = content.to_string();
            batch.push(offset, Some(Micros(second * 1_000_000)), Flags::NONE, Some(content.as_bytes()));
        }
        let detected = self.detector.detect(&batch.take());
        self.engine.absorb(detected, &mut self.out);
    }

    /// Nothing unread at this second.
    pub fn idle(&mut self, topic: &str, number: i32, second: i64) {
        let partition = self.partition(topic, number);
        self.engine.idle(partition, Micros(second * 1_000_000), &mut self.out);
    }

    /// Titles of the rules of all alerts so far, one for each alert, in the order in which they came.
    pub fn alerted(&self) -> Vec<String> {
        let first = self.out.correlated.alerts.iter().filter(|p| p.alert.revision == 1);
        first.map(|p| p.alert.rule.title.to_string()).collect()
    }
}
