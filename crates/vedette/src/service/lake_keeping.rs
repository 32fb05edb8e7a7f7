//! What the lake is to keep: what is too old or too much goes, small files become large ones, and files that nobody needs are deleted.
//!
//! In: the catalog, how long and how much is to be kept. Out: changes of the catalog, and of the files.
//! Invariants: what goes is taken out of the catalog and counted first; a file is deleted only once the catalog has not named it for a while
//! and nobody here began to read before that; small files and the one that replaces them are exchanged in one transaction. Nobody waits for
//! it, and it works half of the time at most, so that detection has the processors.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Result;
use tokio::runtime::Handle;
use vedette_event::{Micros, Severity, Span, time::DAY};
use vedette_hunt::lake::{LakeError, Live, Place, merge, mergeable};
use vedette_store::{
    Store,
    model::{DropReason, HealthEvent, Holds, LakeFile, LeavingFile, Publication},
};

use super::{
    lake::{WHERE, in_time},
    supervisor::Stage,
};
use crate::config::lake::LakeConfig;

/// How often it looks for what there is to do.
const LOOK: Duration = Duration::from_secs(10);
/// How often it asks whether it may begin.
const SOON: Duration = Duration::from_millis(200);
/// How long a file stays that the catalog names no more: as long as somebody who hunts in a process of their own may read it.
const GRACE: Span = Span::secs(600);
/// The same in a bucket, of which a backup has no copy: so the files that one of the last day names are there when it is restored.
const GRACE_IN_BUCKET: Span = DAY;

/// What the stage works with.
pub struct Wires {
    /// Where the files are.
    pub place: Place,
    /// What is to be kept.
    pub lake: LakeConfig,
    /// The catalog.
    pub store: Store,
    /// Who reads.
    pub live: Live,
    /// Set once nothing is left behind by an ended process: until then a file that is about to be named could be taken for that.
    pub swept: Arc<AtomicBool>,
}

/// Works until it is to stop. What cannot be done is said and tried again.
pub fn run(wires: Wires, runtime: &Handle, stage: &Stage) -> Result<()> {
    let mut keeper = Keeper { wires, runtime, spoilt: BTreeSet::new(), unwanted: None };
    while !stage.stopping() {
        stage.works();
        let swept = keeper.wires.swept.load(Ordering::Acquire);
        if swept && let Err(error) = keeper.turn(stage) {
            tracing::error!(
                "the lake's files are not looked after: {error:#}; it is tried again, and detection goes on"
            );
        }
        stage.rests();
        let pause = if swept { LOOK } else { SOON };
        // A word to stop ends the pause.
        runtime.block_on(async {
            let _ = tokio::time::timeout(pause, stage.asked_to_stop()).await;
        });
    }
    Ok(())
}

struct Keeper<'a> {
    wires: Wires,
    runtime: &'a Handle,
    /// Files that could not be read: what they are in is left as it is.
    spoilt: BTreeSet<String>,
    /// A file that may be there, and is not to be named.
    unwanted: Option<String>,
}

impl Keeper<'_> {
    fn turn(&mut self, stage: &Stage) -> Result<()> {
        self.drop_what_goes(stage)?;
        self.delete(stage)?;
        while self.merge_some(stage)? {}
        Ok(())
    }

    /// Drops what is older than it is to be, and what goes first where all is larger.
    fn drop_what_goes(&self, stage: &Stage) -> Result<()> {
        let Wires { store, lake, .. } = &self.wires;
        let now = crate::now();
        let mut old = Vec::new();
        for holds in [Holds::Events, Holds::Originals] {
            let asked = store.lake_files_before(holds, now.minus(lake.shortest(holds)));
            let files = self.runtime.block_on(stage.awaits("store", asked))?;
            old.extend(files.into_iter().filter(|file| file.latest < now.minus(lake.keep_of_file(file))));
        }
        self.drop(old, DropReason::Age, stage)?;
        let held = self.runtime.block_on(stage.awaits("store", store.lake_bytes()))?;
        if held <= lake.size.0 {
            return Ok(());
        }
        // The whole catalog is read only where some of what is young enough has to go, too.
        let asked = store.lake_files(None, Micros::MIN, Micros::MAX);
        let files = self.runtime.block_on(stage.awaits("store", asked))?;
        self.drop(too_much(files, lake, now), DropReason::Size, stage)
    }

    fn drop(&self, files: Vec<LakeFile>, why: DropReason, stage: &Stage) -> Result<()> {
        let Some(through) = files.iter().map(|file| file.latest).max() else { return Ok(()) };
        let store = &self.wires.store;
        self.runtime.block_on(stage.awaits("store", store.drop_from_lake(&files, why)))?;
        tracing::info!(files = files.len(), %through, ?why, "what the lake is to keep no longer was dropped");
        if why == DropReason::Size {
            let publication =
                Publication { health: announced(&files, &self.wires.lake), ..Publication::default() };
            self.runtime.block_on(stage.awaits("store", store.publish(&publication)))?;
        }
        Ok(())
    }

    /// Deletes files that the catalog has not named for a while.
    fn delete(&self, stage: &Stage) -> Result<()> {
        let Wires { place, store, live, .. } = &self.wires;
        let leaving = self.runtime.block_on(stage.awaits("store", store.leaving_lake()))?;
        let grace = if matches!(place, Place::Bucket(_)) { GRACE_IN_BUCKET } else { GRACE };
        let due = due(leaving, crate::now().minus(grace), live.read_since());
        let mut deleted = Vec::with_capacity(due.len());
        for file in due {
            if stage.stopping() {
                break;
            }
            match self.runtime.block_on(stage.awaits(WHERE, place.remove(&file.path))) {
                Ok(()) => deleted.push(file),
                Err(error @ LakeError::Store { .. }) => {
                    // The others would have to wait as long.
                    tracing::warn!(%error, "files that the lake needs no longer could not be deleted");
                    break;
                }
                Err(error) => {
                    tracing::warn!(file = file.path, %error, "a file that the lake needs no longer could not be deleted");
                }
            }
        }
        if deleted.is_empty() {
            return Ok(());
        }
        self.runtime.block_on(stage.awaits("store", store.left_lake(&deleted)))?;
        tracing::info!(files = deleted.len(), "files that the lake needs no longer were deleted");
        Ok(())
    }

    /// Makes one file of many small ones, if there are such.
    fn merge_some(&mut self, stage: &Stage) -> Result<bool> {
        let Wires { place, store, .. } = &self.wires;
        if let Some(unwanted) = &self.unwanted {
            self.runtime.block_on(stage.awaits(WHERE, place.remove(unwanted)))?;
            self.unwanted = None;
        }
        let asked = store.lake_files(None, Micros::MIN, Micros::MAX);
        let files = self.runtime.block_on(stage.awaits("store", asked))?;
        let groups = mergeable(files, place.largest(), crate::now());
        let whole = |group: &Vec<LakeFile>| group.iter().all(|file| !self.spoilt.contains(&file.path));
        let Some(group) = groups.into_iter().find(whole) else { return Ok(false) };
        let mut began = Instant::now();
        let mut go_on = || {
            stage.works();
            std::thread::sleep(began.elapsed());
            began = Instant::now();
            !stage.stopping()
        };
        match merge(place.clone(), &group, crate::now(), &mut go_on) {
            Ok(None) => Ok(false),
            Ok(Some(merged)) => {
                let merged_alone = std::slice::from_ref(&merged);
                let brought = in_time(place.bring(merged_alone), stage);
                let brought = self.runtime.block_on(stage.awaits(WHERE, brought));
                if !matches!(brought, Some(Ok(()))) {
                    self.unwanted = Some(merged.path);
                    return brought.transpose().map(|_| false).map_err(Into::into);
                }
                let replaced = store.replace_in_lake(&group, &merged);
                let replaced = self.runtime.block_on(stage.awaits("store", replaced));
                // Where it is not said that this was done, the file may be named: it stays until the next start tells.
                replaced?;
                place.named(merged_alone);
                tracing::debug!(
                    files = group.len(),
                    into = merged.path,
                    "small files of the lake became one"
                );
                Ok(true)
            }
            // What else is wrong passes, or is the disk's.
            Err(error @ (LakeError::Damaged { .. } | LakeError::Arrow(_))) => {
                tracing::error!("small files of the lake stay as they are: {error}");
                self.spoilt.extend(group.into_iter().map(|file| file.path));
                Ok(true)
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// Of these the files to be deleted: those that left before this time, and before all who read began to.
fn due(leaving: Vec<LeavingFile>, before: Micros, read_since: Option<Micros>) -> Vec<LeavingFile> {
    let before = read_since.unwrap_or(Micros::MAX).min(before);
    leaving.into_iter().filter(|file| file.left_at < before).collect()
}

/// Of all files, originals among them, those that go since all are too large: first what is older than a day, of the sources that are to go first in their order,
/// then of all others; then the rest. The oldest before the younger.
fn too_much(mut files: Vec<LakeFile>, lake: &LakeConfig, now: Micros) -> Vec<LakeFile> {
    let mut held: u64 = files.iter().map(LakeFile::stored).sum();
    let rank = |file: &LakeFile| {
        let last = lake.drop_first.len();
        let place = lake.drop_first.iter().position(|source| *source == file.source).unwrap_or(last);
        let fresh = file.latest >= now.minus(DAY);
        (fresh, if fresh { last } else { place }, file.latest)
    };
    files.sort_by_key(rank);
    let goes = |file: &&LakeFile| {
        let goes = held > lake.size.0;
        held -= if goes { file.stored() } else { 0 };
        goes
    };
    let gone = files.iter().take_while(goes).count();
    files.truncate(gone);
    files
}

/// What people must know of it, once a day and source.
fn announced(files: &[LakeFile], lake: &LakeConfig) -> Vec<HealthEvent> {
    let at = crate::now();
    let of = |file: &LakeFile| (file.source.clone(), file.holds);
    let sources: BTreeSet<(String, Holds)> = files.iter().map(of).collect();
    let event = |(source, holds): (String, Holds)| {
        let of = files.iter().filter(|file| file.source == source && file.holds == holds);
        let through = of.map(|file| file.latest).max().unwrap_or(at);
        let (what, key, keep) = match holds {
            Holds::Events => ("events", "lake_dropped", lake.keep_of(&source)),
            Holds::Originals => ("originals", "lake_originals_dropped", lake.originals.keep),
        };
        HealthEvent {
            key: format!("{key}/{source}/{}", at.floor(DAY)),
            at,
            kind: "lake_dropped".to_owned(),
            severity: Severity::Low,
            message: format!(
                "the lake has more than {}: {what} of `{source}` up to {through} were dropped before they were {keep} old; raise \
                 `lake.size`, or keep less",
                lake.size,
            ),
        }
    };
    sources.into_iter().map(event).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::bytes::Bytes;

    const NOW: Micros = Micros(1_000 * DAY.0);

    /// Of a source, that ended so many days ago.
    fn file(source: &str, days: i64, bytes: u64) -> LakeFile {
        let latest = NOW.minus(Span(days * DAY.0));
        LakeFile {
            path: format!("{source}/{days}"),
            layout: 1,
            holds: Holds::Events,
            source: source.to_owned(),
            hour: 0,
            earliest: latest.minus(Span(1)),
            latest,
            events: 1,
            bytes,
            index_bytes: 0,
            written_at: Micros(0),
        }
    }

    #[test]
    fn the_oldest_go_where_there_is_too_much_and_some_sources_before_others() {
        let gone = |size, first: &[&str]| -> Vec<String> {
            let files = vec![
                file("fw", 0, 10),
                file("fw", 4, 10),
                file("api", 9, 10),
                file("api", 2, 10),
                file("waf", 6, 10),
            ];
            let drop_first = first.iter().map(|source| (*source).to_owned()).collect();
            let lake = LakeConfig { size: Bytes(size), drop_first, ..LakeConfig::default() };
            too_much(files, &lake, NOW).into_iter().map(|file| file.path).collect()
        };
        assert_eq!(gone(50, &[]), [""; 0]);
        assert_eq!(gone(49, &[]), ["api/9"]);
        assert_eq!(gone(20, &[]), ["api/9", "waf/6", "fw/4"]);
        assert_eq!(gone(20, &["fw", "waf"]), ["fw/4", "waf/6", "api/9"], "what is of today stays");
        assert_eq!(gone(30, &["nowhere", "fw"]), ["fw/4", "api/9"]);
        assert_eq!(gone(0, &["fw"]), ["fw/4", "api/9", "waf/6", "api/2", "fw/0"]);
    }

    #[test]
    fn originals_are_kept_for_as_long_as_is_said_and_no_longer_than_their_events() {
        let original = |source, days| LakeFile { holds: Holds::Originals, ..file(source, days, 10) };
        let lake = LakeConfig {
            keep_by_source: [("api".to_owned(), Span(3 * DAY.0))].into(),
            ..LakeConfig::default()
        };
        let days = |file: LakeFile| lake.keep_of_file(&file).0 / DAY.0;
        assert_eq!((days(original("fw", 1)), days(file("fw", 1, 1))), (7, 90));
        assert_eq!((days(original("api", 1)), days(file("api", 1, 1))), (3, 3));
        let shortest =
            |lake: &LakeConfig| [Holds::Events, Holds::Originals].map(|holds| lake.shortest(holds).0 / DAY.0);
        assert_eq!((shortest(&lake), shortest(&LakeConfig::default())), ([3, 3], [90, 7]));
        let lake = LakeConfig { size: Bytes(35), ..lake };
        let files = vec![original("fw", 4), file("fw", 4, 10), original("api", 2), file("fw", 20, 10)];
        let gone = too_much(files, &lake, NOW);
        let gone: Vec<_> = gone.iter().map(|file| (file.holds, &*file.path)).collect();
        assert_eq!(gone, [(Holds::Events, "fw/20")], "the oldest, whatever it is");
        let said = announced(&[original("fw", 4)], &lake);
        assert!(said[0].message.contains("originals of `fw`") && said[0].message.contains("7d"), "{said:?}");
        assert_eq!(announced(&[original("fw", 4), file("fw", 4, 1)], &lake).len(), 2);
    }

    #[test]
    fn files_are_deleted_once_nobody_can_be_reading_them() {
        let leaving = |minutes: i64| LeavingFile {
            path: minutes.to_string(),
            bytes: 1,
            left_at: NOW.minus(Span::secs(60 * minutes)),
        };
        let due = |read_since| -> Vec<String> {
            let all = [5, 10, 11, 30].map(leaving).to_vec();
            due(all, NOW.minus(GRACE), read_since).into_iter().map(|file| file.path).collect()
        };
        assert_eq!(due(None), ["11", "30"]);
        assert_eq!(due(Some(NOW)), ["11", "30"]);
        assert_eq!(
            due(Some(NOW.minus(Span::secs(60 * 20)))),
            ["30"],
            "who began twenty minutes ago has the other"
        );
        assert_eq!(due(Some(NOW.minus(Span::secs(60 * 40)))), [""; 0]);
    }

    #[test]
    fn what_is_dropped_for_want_of_room_is_announced_by_source() {
        let lake = LakeConfig {
            keep_by_source: [("fw".to_owned(), Span(7 * DAY.0))].into(),
            ..LakeConfig::default()
        };
        let events = announced(&[file("fw", 4, 1), file("api", 9, 1), file("fw", 3, 1)], &lake);
        let said: Vec<&str> = events.iter().map(|event| event.message.as_str()).collect();
        assert_eq!(said.len(), 2);
        assert!(
            said[0].contains("`api`") && said[0].contains("90d") && said[0].contains("100GiB"),
            "{said:?}"
        );
        assert!(
            said[1].contains("`fw`") && said[1].contains(&NOW.minus(Span(3 * DAY.0)).to_string()),
            "{said:?}"
        );
    }
}
