//! Checkpoints of any quality, taken up and worked with.
//!
//! In: bytes. The first says what they are: a checkpoint as the store gives it, or a correlator's state or a list of
//! partitions to which the seals of a sound checkpoint are added here, so that what lies behind the seals is reached.
//! Invariants: a checkpoint is taken up or refused; what was taken up can be worked with, and is written as it was read.

use std::sync::{Arc, LazyLock};

use vedette_engine::{Compiled, Engine, EngineSettings, GroupCheckpoint, KEY_GROUPS, Output};
use vedette_event::{Micros, RawBatch};
use vedette_sigma::{Lists, load};
use vedette_simulate::Simulator;

use crate::{CORRELATIONS, SECRET, SOURCES, batch, detection::compile, file};

/// Bytes of the correlator's seal.
const SEAL: usize = 16;
/// 2026-01-01T12:00:00Z.
pub const START: Micros = Micros(1_767_268_800_000_000);

static COMPILED: LazyLock<Arc<Compiled>> = LazyLock::new(|| {
    let rules = load(&[file("every_correlation.yml", CORRELATIONS)], &Lists::default(), &SOURCES);
    assert!(rules.rejected.is_empty(), "{:?}", rules.rejected);
    compile(rules)
});

/// Minutes of the simulator's day, cut into batches; the second half comes after the checkpoints of the seeds.
static DAY: LazyLock<[Vec<RawBatch>; 2]> = LazyLock::new(|| {
    let mut simulator = Simulator::new(1, START, 20);
    let mut offsets = [0_i64; 3];
    [600, 200].map(|records| {
        let mut lines: [Vec<String>; 3] = Default::default();
        for record in (0..records).map(|_| simulator.next_record()) {
            lines[record.feed as usize].push(record.line);
        }
        let feeds = vedette_simulate::Feed::ALL.iter().zip(lines).zip(&mut offsets);
        feeds
            .map(|((feed, lines), from)| {
                let source = SOURCES.find(feed.source()).expect("one of the project's sources");
                let raw = batch(source, lines.join("\n").as_bytes(), *from, Some(START));
                *from += raw.records.len() as i64;
                raw
            })
            .collect()
    })
});

fn engine() -> Engine {
    Engine::new(COMPILED.clone(), EngineSettings { notices: true, ..EngineSettings::new(SECRET) })
}

fn feed(engine: &mut Engine, half: usize) -> Output {
    let mut detector = COMPILED.detector().expect("the project's sources");
    let mut out = Output::default();
    for raw in &DAY[half] {
        engine.absorb(detector.detect(raw), &mut out);
    }
    out
}

/// A sound engine's checkpoints, in the middle of its day.
#[must_use]
pub fn checkpoints() -> Vec<GroupCheckpoint> {
    let mut engine = engine();
    feed(&mut engine, 0);
    (0..KEY_GROUPS).map(|group| written(&mut engine, group)).collect()
}

/// The list of partitions and the correlator's state of a sound checkpoint, without its seals.
#[must_use]
pub fn unsealed(checkpoint: &GroupCheckpoint) -> (&[u8], &[u8]) {
    let bytes = &checkpoint.bytes[..checkpoint.bytes.len() - blake3::OUT_LEN];
    let (len, rest) = bytes.split_first_chunk::<4>().expect("a sound checkpoint");
    let (header, state) = rest.split_at(u32::from_le_bytes(*len) as usize);
    (header, &state[..state.len() - SEAL])
}

fn sealed(group: u8, header: &[u8], state: &[u8]) -> GroupCheckpoint {
    let mut bytes = (header.len() as u32).to_le_bytes().to_vec();
    bytes.extend_from_slice(header);
    bytes.extend_from_slice(state);
    bytes.extend_from_slice(&blake3::keyed_hash(&SECRET, state).as_bytes()[..SEAL]);
    let sum = blake3::hash(&bytes);
    bytes.extend_from_slice(sum.as_bytes());
    GroupCheckpoint { group, bytes }
}

/// Takes up a checkpoint, works on from it and writes it again.
pub fn check(data: &[u8]) {
    static SOUND: LazyLock<Vec<GroupCheckpoint>> = LazyLock::new(checkpoints);
    let Some(([kind, group], bytes)) = data.split_first_chunk::<2>() else { return };
    let group = group % KEY_GROUPS;
    let sound = &SOUND[usize::from(group)];
    let (header, state) = unsealed(sound);
    let checkpoint = match kind % 3 {
        0 => GroupCheckpoint { group, bytes: bytes.to_vec() },
        1 => sealed(group, header, bytes),
        _ => sealed(group, bytes, state),
    };
    let mut engine = engine();
    if restore(&mut engine, &checkpoint).is_err() {
        // Nothing was changed, so that a sound one can still be taken up.
        restore(&mut engine, sound).expect("a sound checkpoint");
        assert_eq!(
            unsealed(&written(&mut engine, group)).1,
            state,
            "a refused checkpoint left something behind"
        );
        return;
    }
    let first = written(&mut engine, group);
    let mut again = self::engine();
    restore(&mut again, &first).expect("what the engine wrote");
    assert_eq!(unsealed(&written(&mut again, group)).1, unsealed(&first).1, "restoring changes a checkpoint");
    feed(&mut engine, 1);
    engine.forget_released();
    (0..KEY_GROUPS).for_each(|group| drop(written(&mut engine, group)));
    engine.finish(&mut Output::default());
}

fn written(engine: &mut Engine, group: u8) -> GroupCheckpoint {
    engine.checkpoint(group).expect("what the engine knows can be read back")
}

fn restore(engine: &mut Engine, checkpoint: &GroupCheckpoint) -> Result<(), vedette_engine::Error> {
    engine.take_up(checkpoint)?;
    engine.starts(|topic| SOURCES.find(topic));
    Ok(())
}
