//! From a checked configuration and an open store to everything that starts: rules, kernel, where to read.
//!
//! In: [`Config`] and rule texts. Out: [`Prepared`]. Nothing has been read from Kafka yet when this returns.

use std::{
    collections::{BTreeMap, VecDeque},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use vedette_engine::{Compiled, Engine, GivenUp, GroupCheckpoint, PartitionStart, Version};
use vedette_event::{Flags, Micros, Partition, SourceDef, SourceIx, Sources, Span, StoredPlacement, Topics};
use vedette_ingest::{DeadLetterTopic, LastRead, Recovery, Resume, StartAt, TopicSettings};
use vedette_sigma::RuleSet;
use vedette_store::{
    Store,
    model::{Checkpoint, Retention, RuleVersion},
};

use super::{notices_due::NoticesDue, versions};
use crate::{
    Failure, World as _, checkpoint,
    config::{
        self, Config,
        bytes::Bytes,
        lake::LakeConfig,
        memory::{self, Memory},
    },
    content::{self, RuleText, Schemas},
    pipeline,
    texts::{self, RefusedText, TakenUp, Texts},
};

/// Batches that may wait for the kernel before ingest waits.
const RECORDS: usize = 64;
/// Stored placements that are read at once.
const PAGE: u32 = 10_000;

/// All that a service starts from.
pub struct Prepared {
    /// Rules over sources.
    pub compiled: Arc<Compiled>,
    /// What is in force, and what is to be stored of it.
    pub content: StartContent,
    /// Where dead letters are copied to, if anywhere.
    pub dead_letters: Option<DeadLetterTopic>,
    /// Notices that the last life left without an alert.
    pub waiting: NoticesDue,
    /// The kernel, as the checkpoints left it.
    pub engine: Engine,
    /// What to read.
    pub ingest_settings: vedette_ingest::IngestSettings,
    /// From where.
    pub recovery: Recovery,
    /// What cannot be read again, since its topic was accepted anew while no service ran, or before it was released.
    pub given_up: Vec<GivenUp>,
    /// The brokers, for people.
    pub bootstrap: String,
    /// How long output may wait before it is published.
    pub pace: Duration,
    /// `S`.
    pub skew: Span,
    /// How long the store keeps what.
    pub retention: Retention,
    /// Threads that compute.
    pub threads: u16,
    /// What may be held.
    pub memory: Memory,
    /// The data folder, and what the lake is to keep.
    pub lake: (PathBuf, LakeConfig),
    /// What hashes of secrets are keyed with.
    pub secret: [u8; 32],
}

/// What a start took up of rules, lists and mappings.
pub struct StartContent {
    /// Their texts.
    pub texts: Texts,
    /// The rules in force.
    pub rules: Arc<RuleSet>,
    /// What was refused.
    pub refused: Vec<RefusedText>,
    /// The numbers of the versions in force, the oldest first.
    pub numbers: VecDeque<u64>,
    /// The newest, if it is to be stored.
    pub new: Option<RuleVersion>,
}

/// Compiles the rules and takes up the checkpoints.
pub async fn prepare(
    config: &Config,
    (text, schemas): (RuleText, Schemas),
    store: &Store,
) -> Result<Prepared, Failure> {
    let rows = store.rule_versions().await.world()?;
    let Found { known, next, texts, refused, mut numbers, fresh } = find(config, (text, schemas), &rows)?;
    let secret = secret(store).await.world()?;
    store.accept_asked().await.world()?;
    let incarnations = store.incarnations().await.world()?;
    let named = config.kafka.topics.iter().map(|t| {
        let name: Arc<str> = t.name.as_str().into();
        (name, incarnations.get(&t.name).copied().unwrap_or(0))
    });
    let topics = Arc::new(Topics::with_incarnations(named));
    let sources = known.last().map(|newest| newest.sources.clone()).unwrap_or_default();
    let newest = next.as_ref().or(known.last());
    let memory = memory(config.engine.memory.map(|memory| memory.0), newest.map_or(0, least))
        .map_err(|what| Failure::Usage(config.places.wrong("engine.memory", what)))?;
    let settings = vedette_engine::EngineSettings {
        secret,
        skew: config.engine.skew,
        notices: config.engine.notices,
        alerts_at_once: super::kernel::FULL,
        ..memory.settings(secret)
    };
    let source_of: BTreeMap<&str, SourceIx> = config
        .kafka
        .topics
        .iter()
        .filter_map(|t| Some((t.name.as_str(), sources.find(&t.source)?)))
        .collect();
    let begin = async |known: Vec<Version>| {
        let known = known.into_iter().map(Arc::new).collect();
        let compiled = Compiled::with_versions(known, topics.clone(), secret);
        begin(Engine::new(compiled, settings.clone()), &source_of, store).await
    };
    let (mut engine, mut starts, mut given_up) = begin(known.clone()).await?;
    // Above every `ts_log` read: those that ingest lets pass, and those read before, should the clock have been set back.
    let read = engine.newest_log().unwrap_or(Micros::MIN);
    let above = crate::now().plus(config.engine.skew).max(read).plus(Span(1));
    if let Some(earlier) = put_earlier(&known, &numbers, above, store).await? {
        (engine, starts, given_up) = begin(earlier).await?;
    }
    if let Some(next) = next {
        let from = above.max(engine.compiled().newest().from.plus(Span(1)));
        let compiled = engine.compiled().with(next, from);
        engine.adopt(&compiled);
    }
    let row = |number| versions::row(number, engine.compiled().newest(), texts.pack()?);
    let new = fresh.map(row).transpose().world()?;
    numbers.extend(fresh);
    let compiled = engine.compiled().clone();
    let placements = placements(store, &starts).await.world()?;
    engine.remember_placements(&placements);
    let ingest_settings = ingest_settings(config, &topics, &source_of);
    let dead_letters =
        config.kafka.dead_letter_topic.as_ref().map(|topic| {
            DeadLetterTopic::connect(&ingest_settings.brokers, &ingest_settings.security, topic)
        });
    let waiting = NoticesDue::of(&compiled, store.waiting_notices().await.world()?);
    Ok(Prepared {
        waiting,
        dead_letters: dead_letters.transpose().map_err(|e| Failure::World(e.into()))?,
        content: StartContent { rules: compiled.newest().rules.clone(), texts, refused, numbers, new },
        ingest_settings,
        recovery: recovery(&starts, &placements, &topics),
        given_up,
        bootstrap: config.kafka.brokers.clone(),
        pace: Duration::from_millis(50),
        skew: config.engine.skew,
        retention: config.store.retention.into(),
        threads: config.engine.threads.unwrap_or_else(pipeline::cores),
        memory,
        lake: (config.data.clone(), config.lake.clone()),
        secret,
        compiled,
        engine,
    })
}

/// Rules, lists and mappings as a start finds them.
struct Found {
    /// The versions that are stored with their texts, or the first.
    known: Vec<Version>,
    /// One that comes into force now.
    next: Option<Version>,
    texts: Texts,
    refused: Vec<RefusedText>,
    /// The numbers of the versions known.
    numbers: VecDeque<u64>,
    /// The number of the newest, if it is to be stored.
    fresh: Option<u64>,
}

/// Compares what stands on disk with what is stored: where it differs, a start is the same as a reload.
fn find(config: &Config, disk: (RuleText, Schemas), rows: &[RuleVersion]) -> Result<Found, Failure> {
    let stored = versions::stored(rows).world()?;
    let before = stored.last().map(|(_, newest)| newest);
    let TakenUp { texts, rules, sources, refused } = take(config, disk, before, stored.len())?;
    crate::config::lake::check_sources(config, &sources).map_err(Failure::Usage)?;
    let (rules, sources) = (Arc::new(rules), Arc::new(sources));
    // The sources of older versions are those that were there then.
    let adjust = |all: Sources| self::sources(config, &content::completed(all, &sources));
    let fresh = (before != Some(&texts)).then(|| rows.last().map_or(1, |row| row.number + 1));
    let numbers = stored.iter().map(|(row, _)| row.number).collect();
    let mut known: Vec<Version> = Vec::new();
    for (row, of_row) in stored {
        let (rules, sources) = if of_row == texts {
            (rules.clone(), sources.clone())
        } else {
            let (rules, sources) = of_row.load(adjust).map_err(Failure::Usage)?;
            (rules.into(), sources.into())
        };
        known.push(versions::compile_stored(row, rules, sources).world()?);
    }
    let mut next = fresh.map(|_| Version::compile_reading(rules, sources, &vedette_act::WITNESSED));
    if known.is_empty()
        && let Some(first) = next.take()
    {
        let above = crate::now().plus(config.engine.skew).plus(Span(1));
        known.push(first_with_texts(first, rows.last(), above)?);
    }
    Ok(Found { known, next, texts, refused, numbers, fresh })
}

/// The versions with none in force from later than `above`, if one was: that is stored before anything follows from it.
async fn put_earlier(
    known: &[Version],
    numbers: &VecDeque<u64>,
    above: Micros,
    store: &Store,
) -> Result<Option<Vec<Version>>, Failure> {
    if known.iter().all(|version| version.from <= above) {
        return Ok(None);
    }
    let earlier = versions::no_later(known, above);
    let changed = numbers.iter().zip(known).zip(&earlier).filter(|((_, was), now)| was.from != now.from);
    let rows = changed.map(|((number, _), now)| versions::row(*number, now, Vec::new()));
    store.put_versions_earlier(&rows.collect::<anyhow::Result<Vec<_>>>().world()?).await.world()?;
    Ok(Some(earlier))
}

/// Takes up the checkpoints; where to begin, and what was given up.
async fn begin(
    mut engine: Engine,
    source_of: &BTreeMap<&str, SourceIx>,
    store: &Store,
) -> Result<(Engine, Vec<PartitionStart>, Vec<GivenUp>), Failure> {
    take_up_checkpoints(&mut engine, store).await?;
    let (starts, given_up) = engine.starts(|name| source_of.get(name).copied());
    Ok((engine, starts, given_up))
}

/// What may be held. Rules that what is configured has no room for are refused.
fn memory(configured: Option<u64>, least: usize) -> Result<Memory, String> {
    let memory = if configured.is_some() { Memory::of(configured) } else { Memory::for_rules(least) };
    match too_few(&memory, least) {
        None => Ok(memory),
        Some(wanted) => Err(format!("{wanted}, or load fewer rules")),
    }
}

/// Bytes for all state that rules need by themselves. Those of versions that run out beside them are not counted: they are few for
/// long, and a start that they made impossible could not be mended but by more memory.
pub fn least(version: &Version) -> usize {
    let alone = vec![Arc::new(version.clone())];
    Compiled::with_versions(alone, Arc::default(), [0; 32]).state_for(memory::ENTRIES)
}

/// What to write instead, if there is no room for rules that need so many bytes.
pub fn too_few(memory: &Memory, least: usize) -> Option<String> {
    let mebibytes = || Bytes(Memory::with_state(least).budget.next_multiple_of(1 << 20));
    (memory.state < least).then(|| {
        let budget = Bytes(memory.budget);
        format!("{budget} are too few for the keys of so many rules; write at least {}", mebibytes())
    })
}

/// Takes up what stands on disk, after the texts in force before. Where nothing of it can be, or as many versions as may be are needed
/// still, those stay.
fn take(
    config: &Config,
    (text, schemas): (RuleText, Schemas),
    before: Option<&Texts>,
    versions: usize,
) -> Result<TakenUp, Failure> {
    let newer = schemas.parse().unwrap_or_default();
    let adjust = |all: Sources| sources(config, &all);
    let taken = texts::take(text, schemas, before, adjust);
    let older = |all: Sources| sources(config, &content::completed(all, &newer));
    let taken = taken.and_then(|taken| said_before(taken, before, older));
    let taken = taken.and_then(|taken| versions::one_more(taken, before, versions));
    let taken = match (taken, before) {
        (Ok(taken), _) => taken,
        (Err(error), Some(before)) => {
            // Where these cannot be either, what is wrong on disk is what to mend.
            let Ok((rules, sources)) = before.load(older) else { return Err(Failure::Usage(error)) };
            tracing::error!("the rules stay that were in force before: {error:#}");
            let refused = vec![texts::kept("rules", None, format!("{error:#}"))];
            TakenUp { texts: before.clone(), rules, sources, refused }
        }
        (Err(error), None) => return Err(Failure::Usage(error)),
    };
    if taken.rules.rules.is_empty() {
        let paths: Vec<_> = config.rules.iter().map(|p| p.display().to_string()).collect();
        let what = format!("no rule could be loaded from {0}; `vedette check {0}` says why", paths.join(" "));
        return Err(Failure::Usage(config.places.wrong("rules", what)));
    }
    Ok(taken)
}

/// What was taken up, and where it says what the texts before say, with these: what is only written otherwise is no version more, of which
/// only so many may be. The rules are those of what was taken up, whose lines are those on disk. `older` is what the configuration
/// says of sources of before.
fn said_before(
    taken: TakenUp,
    before: Option<&Texts>,
    older: impl Fn(Sources) -> anyhow::Result<Sources>,
) -> anyhow::Result<TakenUp> {
    let Some(before) = before.filter(|before| **before != taken.texts) else { return Ok(taken) };
    let (rules, _) = before.load(older)?;
    let same = taken.texts.says_the_same(before, (&taken.rules, &rules))?;
    Ok(if same { TakenUp { texts: before.clone(), ..taken } } else { taken })
}

/// The first version that is stored with its texts: of a new store, in force from the beginning; of a store that knows only what
/// rules meant, those that mean something else since `above`.
fn first_with_texts(version: Version, row: Option<&RuleVersion>, above: Micros) -> Result<Version, Failure> {
    let Some(row) = row else { return Ok(version) };
    let since = versions::Since::of(row).world()?;
    Ok(version.in_force(Micros::MIN, |rule| since.get(rule).unwrap_or(above).min(above)))
}

/// Takes up all checkpoints; only one at a time is in memory.
async fn take_up_checkpoints(engine: &mut Engine, store: &Store) -> Result<(), Failure> {
    let mut after = None;
    loop {
        let next = store.next_checkpoint(after).await.map_err(|e| match e {
            vedette_store::Error::CorruptCheckpoint { group } => checkpoint::refused(group, e),
            e => Failure::World(e.into()),
        })?;
        let Some(Checkpoint { group, bytes }) = next else { return Ok(()) };
        engine.take_up(&GroupCheckpoint { group, bytes }).map_err(|e| match e {
            vedette_engine::Error::Checkpoint { group, .. } => checkpoint::refused(group, e),
            e => Failure::World(e.into()),
        })?;
        after = Some(group);
    }
}

/// The stored placements of records that will be read again.
async fn placements(
    store: &Store,
    starts: &[PartitionStart],
) -> Result<Vec<StoredPlacement>, vedette_store::Error> {
    let from: BTreeMap<(&str, i32), i64> =
        starts.iter().map(|start| ((&*start.topic, start.partition), start.offset)).collect();
    let mut wanted = Vec::new();
    let mut after: Option<StoredPlacement> = None;
    loop {
        let page = store.placements(after.as_ref(), PAGE).await?;
        let Some(last) = page.last() else { return Ok(wanted) };
        after = Some(last.clone());
        // A partition that is not among them is read from its beginning.
        let read =
            |p: &StoredPlacement| from.get(&(&*p.topic, p.partition)).is_none_or(|from| p.offset >= *from);
        wanted.extend(page.into_iter().filter(read));
    }
}

/// The sources of the configured topics, with their `D` and `F` replaced where the configuration says so.
pub fn sources(config: &Config, all: &Sources) -> anyhow::Result<Sources> {
    for (at, topic) in config.kafka.topics.iter().enumerate() {
        content::only(all, &[&topic.source])
            .map_err(|e| config.places.wrong(&format!("kafka.topics[{at}].source"), e))?;
    }
    let names: Vec<&str> = config.kafka.topics.iter().map(|t| t.source.as_str()).collect();
    let chosen = content::only(all, &names)?;
    let mut defs: Vec<SourceDef> = chosen.defs;
    for def in &mut defs {
        let mut topics = config.kafka.topics.iter().filter(|t| t.source == *def.name);
        let Some(first) = topics.next() else { continue };
        if let Some(other) = topics.find(|t| (t.disorder, t.future) != (first.disorder, first.future)) {
            let what = format!(
                "`{}` and `{}` have the same source, and so must have the same disorder and future",
                first.name, other.name
            );
            return Err(config.places.wrong("kafka.topics", what));
        }
        def.disorder = first.disorder.unwrap_or(def.disorder);
        def.future = first.future.unwrap_or(def.future);
    }
    Ok(Sources::new(chosen.fields, defs))
}

/// The deployment's secret, made once.
pub async fn secret(store: &Store) -> anyhow::Result<[u8; 32]> {
    let mut fresh = [0; 32];
    getrandom::fill(&mut fresh).map_err(|e| anyhow::anyhow!("the system gives no random bytes: {e}"))?;
    let kept = store.meta_or("secret", &fresh).await?;
    kept.try_into().map_err(|_| anyhow::anyhow!("the store's secret is damaged"))
}

fn ingest_settings(
    config: &Config,
    topics: &Topics,
    source_of: &BTreeMap<&str, SourceIx>,
) -> vedette_ingest::IngestSettings {
    let topic = |t: &config::TopicConfig| {
        let topic = topics.find(&t.name)?;
        // What was accepted is read from its start.
        let accepted = topics.incarnation(topic) > 0;
        Some(TopicSettings {
            name: t.name.as_str().into(),
            topic,
            source: *source_of.get(t.name.as_str())?,
            time_source: t.time_source,
            start: if accepted { StartAt::Earliest } else { t.start },
            on_loss: t.on_loss,
        })
    };
    vedette_ingest::IngestSettings {
        brokers: config.kafka.brokers(),
        security: config.kafka.security.settings(),
        group: config.kafka.group_id.clone(),
        topics: config.kafka.topics.iter().filter_map(topic).collect(),
        allowance: config.engine.skew,
        fetch_wait: Duration::from_millis(10),
        queue: RECORDS,
        held: false,
    }
}

fn recovery(starts: &[PartitionStart], placements: &[StoredPlacement], topics: &Topics) -> Recovery {
    let partition = |topic: &str, number| topics.find(topic).map(|topic| Partition { topic, number });
    let resume = |s: &PartitionStart| {
        let last = s.last_read.map(|(offset, hash)| LastRead { offset, hash });
        Some((partition(&s.topic, s.partition)?, Resume { offset: s.offset, log_max: s.max_log, last }))
    };
    let broker = placements.iter().filter(|p| p.flag.has(Flags::CLOCK_BROKER));
    let placed = |p: &StoredPlacement| -> Option<((Partition, i64), Micros)> {
        Some(((partition(&p.topic, p.partition)?, p.offset), p.time))
    };
    Recovery {
        partitions: starts.iter().filter_map(resume).collect(),
        placements: broker.filter_map(placed).collect(),
    }
}

#[cfg(test)]
#[path = "setup_tests.rs"]
mod tests;
