//! What a data folder knows of the past: the lake's catalog, what detection decided, what fired.
//!
//! In: an open store, the configuration. Out: [`Past`]. Invariants: nothing is written but the deployment's secret, where there was none; up
//! to where the lake is complete is read before its files, so that no file is missing of what is said to be there.

use anyhow::{Context as _, anyhow};
use vedette_engine::{Compiled, EngineSettings};
use vedette_event::{Incarnation, Micros, SourceDef, SourceIx, Sources, StoredPlacement, Topics};
use vedette_hunt::lake::Place;
use vedette_store::{
    Access, Store,
    model::{FiredAlert, Holds, LakeFile, LakePosition},
};

use crate::{
    Failure, World as _,
    config::{
        Config,
        memory::{self as budget, Memory},
    },
    content, service, table,
};

/// Alerts that fired then which are read at most.
pub const MOST_FIRED: usize = 500_000;
/// Rows that are read at once.
const PAGE: u32 = 10_000;

/// What the data folder holds of the past.
pub struct Past {
    /// Where the lake's files are.
    pub place: Place,
    /// The lake's files.
    pub files: Vec<LakeFile>,
    /// Up to where each partition is in them.
    pub positions: Vec<LakePosition>,
    /// Where detection placed what is not placed by its record alone.
    pub placements: Vec<(Incarnation, StoredPlacement)>,
    /// The topics that are or were read, each with its incarnation.
    pub topics: Topics,
    /// What hashes are keyed with.
    pub secret: [u8; 32],
    /// The alerts that fired in the stretch, of any rule.
    pub fired: Vec<FiredAlert>,
    /// There are more of them.
    pub more_fired: bool,
}

/// Reads it, for a stretch of times and of one source or all.
pub async fn read(
    store: &Store,
    config: &Config,
    source: Option<&str>,
    stretch: (Micros, Micros),
) -> Result<Past, Failure> {
    let place = service::lake_place(config, store, Access::Tool).await?;
    let positions = store.lake_positions().await.world()?;
    let mut files = store.lake_files(source, Micros::MIN, Micros::MAX).await.world()?;
    files.retain(|file| file.holds == Holds::Events);
    if files.is_empty() {
        let what = match source {
            Some(name) => format!("the lake holds nothing of a source `{}`", table::plain(name)),
            None => "the lake holds nothing yet: a service with `lake: {on: true}` fills it".to_owned(),
        };
        return Err(Failure::Usage(anyhow!(what)));
    }
    let incarnations = store.incarnations().await.world()?;
    let configured = config.kafka.topics.iter().map(|topic| topic.name.as_str());
    let named = configured.chain(positions.iter().map(|position| position.topic.as_str()));
    let topics = Topics::with_incarnations(
        named.map(|name| (name.into(), incarnations.get(name).copied().unwrap_or(0))),
    );
    let mut placements: Vec<(Incarnation, StoredPlacement)> = Vec::new();
    loop {
        let page = store.placements_ever(placements.last(), PAGE).await.world()?;
        if page.is_empty() {
            break;
        }
        placements.extend(page);
    }
    let secret = service::secret(store).await.world()?;
    let mut fired: Vec<FiredAlert> = Vec::new();
    while fired.len() < MOST_FIRED {
        let after = fired.last().map(|last| (last.crossed_at, &*last.alert_id));
        let page = store.fired(stretch, after, PAGE).await.world()?;
        if page.is_empty() {
            break;
        }
        fired.extend(page);
    }
    let more_fired = fired.len() >= MOST_FIRED;
    Ok(Past { place, files, positions, placements, topics, secret, fired, more_fired })
}

/// The sources that are read.
pub fn sources(config: &Config, source: Option<&str>) -> Result<Sources, Failure> {
    let all = content::sources(config.schemas.as_deref())
        .map_err(|e| Failure::Usage(config.places.wrong("schemas", format!("{e:#}"))))?;
    let read = service::sources(config, &all).map_err(Failure::Usage)?;
    match source {
        None => Ok(read),
        Some(source) => content::only(&read, &[source]).context("--source").map_err(Failure::Usage),
    }
}

/// By source: up to when all of its events are known, and no further than is asked for.
pub fn complete(config: &Config, compiled: &Compiled, positions: &[LakePosition], to: Micros) -> Vec<Micros> {
    let of = |(_, def): (SourceIx, &SourceDef)| {
        let topics = config.kafka.topics.iter().filter(|topic| *topic.source == *def.name);
        let topics: Vec<&str> = topics.map(|topic| topic.name.as_str()).collect();
        let current = |position: &&LakePosition| {
            let incarnation = compiled.topics.find(&position.topic).map(|ix| compiled.topics.incarnation(ix));
            topics.contains(&position.topic.as_str()) && incarnation == Some(position.incarnation)
        };
        let newest = positions.iter().filter(current).filter_map(|position| position.newest_log);
        newest.min().map(|newest| newest.minus(def.disorder).minus(config.engine.skew))
    };
    let known: Vec<Option<Micros>> = compiled.sources.iter().map(of).collect();
    // Who has no records yet holds up nobody.
    let furthest = known.iter().flatten().copied().max().unwrap_or(Micros::MIN);
    known.into_iter().map(|known| known.unwrap_or(furthest).min(to)).collect()
}

/// An engine like the service's, without notices.
pub fn settings(config: &Config, compiled: &Compiled, secret: [u8; 32]) -> EngineSettings {
    let memory = match config.engine.memory {
        Some(bytes) => Memory::of(Some(bytes.0)),
        None => Memory::for_rules(compiled.state_for(budget::ENTRIES)),
    };
    EngineSettings { skew: config.engine.skew, ..memory.settings(secret) }
}
