//! A lake in a bucket: each event once, whatever is refused, torn, lost or slow; and what cannot be read is an error.

use std::{
    collections::BTreeSet,
    path::Path,
    time::{Duration, Instant},
};

use datafusion::arrow::compute::concat_batches;
use futures::TryStreamExt as _;
use object_store::{ObjectStore as _, ObjectStoreExt as _, path::Path as Name};
use tokio::runtime::Runtime;
use vedette_simulate::Random;
use vedette_store::{Access, Store, StoreSettings, model::LakeFile};

use super::{
    faulty::{Fault, Faulty, When},
    live::{lake_columns, of, offsets, position, topics},
    *,
};
use crate::{
    Read,
    lake::{
        Bucket, InTime, Lake, LakeError, LakeReader, Live, Place, S3, Wanted, Writer, index_name, merge,
        verify,
    },
};

const SEED: u64 = 20_261_129;
/// How long a request may take: nobody but who is slow takes as long.
const PATIENCE: Duration = Duration::from_millis(400);
/// The same where it is often somebody slow, and where who is taken for that is asked again.
const SHORT: Duration = Duration::from_millis(50);

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

fn bucket(objects: &Faulty, folder: &Path) -> Place {
    with_patience(objects, folder, PATIENCE)
}

fn with_patience(objects: &Faulty, folder: &Path, patience: Duration) -> Place {
    Place::Bucket(Arc::new(Bucket::over(Arc::new(objects.clone()), folder, patience)))
}

fn names(objects: &Faulty, runtime: &Runtime) -> BTreeSet<String> {
    let all = objects.objects().list(None).map_ok(|object| object.location.to_string());
    runtime.block_on(all.try_collect()).unwrap()
}

/// Files of a place, of so many events each.
fn filled(place: &Place, runtime: &Runtime, events: &[i64]) -> Vec<LakeFile> {
    let (mut all, mut next) = (Vec::new(), 0);
    for (number, events) in events.iter().enumerate() {
        let mut writer = Writer::new(place.clone());
        writer.push(&"fw".into(), &of("fw", next..next + events), 1).unwrap();
        let files = writer.write(Micros(NOON + number as i64)).unwrap();
        runtime.block_on(place.bring(&files)).unwrap();
        writer.written();
        next += events;
        all.extend(files);
    }
    all
}

fn asked(place: &Place, files: &[LakeFile], sql: &str, limits: Limits) -> Result<(Vec<Value>, Read), Error> {
    let lake = Lake::new(place.clone(), files.to_vec()).unwrap();
    let answer = Query::new(sql)?.ask(lake_columns(), Supply::Lake(Box::new(lake)), limits)?;
    let gauge = answer.gauge().clone();
    Ok((all(answer)?, gauge.read()))
}

/// A service that is killed again and again.
struct Lives {
    store: Store,
    objects: Faulty,
    folder: std::path::PathBuf,
    runtime: Runtime,
    random: Random,
    clock: i64,
    /// How often something was tried again; something was removed that a life before had left; files were merged.
    again: u64,
    removed: u64,
    merged: u64,
}

/// It is killed here.
struct Killed;

impl Lives {
    fn dies(&mut self, of: u64) -> Result<(), Killed> {
        if self.random.below(of) == 0 { Err(Killed) } else { Ok(()) }
    }

    fn named(&self) -> BTreeSet<String> {
        let files = self.runtime.block_on(self.store.lake_files(None, Micros::MIN, Micros::MAX)).unwrap();
        let leaving = self.runtime.block_on(self.store.leaving_lake()).unwrap();
        files.into_iter().map(|file| file.path).chain(leaving.into_iter().map(|file| file.path)).collect()
    }

    fn live(&mut self) -> Result<(), Killed> {
        let place = with_patience(&self.objects, &self.folder, SHORT);
        let named = self.named();
        loop {
            match self.runtime.block_on(place.sweep(&named)) {
                Ok(removed) => break self.removed += removed,
                Err(LakeError::Store { .. }) => self.dies(4)?,
                Err(error) => panic!("{error}"),
            }
        }
        let before = self.runtime.block_on(self.store.lake_positions()).unwrap();
        let mut next = before.first().map_or(0, |position| position.next_offset);
        let mut writer = Writer::new(place.clone());
        for _ in 0..1 + self.random.below(5) {
            let to = next + 1 + self.random.below(6) as i64;
            self.clock += 1;
            writer.push(&"fw".into(), &of("fw", next..to), 1).unwrap();
            let files = writer.write(Micros(self.clock)).unwrap();
            self.dies(12)?;
            while let Err(error) = self.runtime.block_on(place.bring(&files)) {
                // One that is not there after it was taken is as much the store's fault.
                assert!(matches!(error, LakeError::Store { .. } | LakeError::Damaged { .. }), "{error}");
                self.again += 1;
                self.dies(8)?;
                assert_eq!(writer.write(Micros(self.clock + 1)).unwrap(), files, "written once");
            }
            self.dies(12)?;
            let positions = [position("t", to)];
            self.runtime.block_on(self.store.add_to_lake(&files, &positions)).unwrap();
            self.dies(12)?;
            writer.written();
            next = to;
            self.keep(&place)?;
        }
        Ok(())
    }

    /// Merges some files, and deletes those that left.
    fn keep(&mut self, place: &Place) -> Result<(), Killed> {
        let files = self.runtime.block_on(self.store.lake_files(None, Micros::MIN, Micros::MAX)).unwrap();
        if files.len() > 3 {
            self.clock += 1;
            let merged = match merge(place.clone(), &files[..3], Micros(self.clock), &mut || true) {
                Ok(merged) => merged.unwrap(),
                Err(LakeError::Store { .. }) => return Ok(()),
                Err(error) => panic!("{error}"),
            };
            self.dies(8)?;
            let alone = std::slice::from_ref(&merged);
            if self.runtime.block_on(place.bring(alone)).is_err() {
                while self.runtime.block_on(place.remove(&merged.path)).is_err() {
                    self.again += 1;
                    self.dies(8)?;
                }
                return Ok(());
            }
            self.dies(8)?;
            self.runtime.block_on(self.store.replace_in_lake(&files[..3], &merged)).unwrap();
            self.dies(8)?;
            place.named(alone);
            self.merged += 1;
        }
        let leaving = self.runtime.block_on(self.store.leaving_lake()).unwrap();
        for file in leaving {
            if self.runtime.block_on(place.remove(&file.path)).is_ok() {
                self.dies(20)?;
                self.runtime.block_on(self.store.left_lake(&[file])).unwrap();
            }
        }
        Ok(())
    }
}

#[test]
fn each_event_is_there_once_whatever_fails() {
    let data = tempfile::tempdir().unwrap();
    let runtime = runtime();
    let store = runtime.block_on(Store::open(StoreSettings::new(data.path(), Access::Engine))).unwrap();
    let (objects, folder) = (Faulty::new(SEED), data.path().join("lake-uploads"));
    let (random, counts) = (Random::new(SEED), (0, 0, 0));
    let (again, removed, merged) = counts;
    let mut lives = Lives { store, objects, folder, runtime, random, clock: NOON, again, removed, merged };
    let (mut killed, mut ended) = (0, 0);
    // Who holds the bucket is said once, before anything fails.
    let place = bucket(&lives.objects, &lives.folder);
    lives.runtime.block_on(place.hold()).unwrap();
    lives.objects.fails(When::OfHundred(6));
    let began = Instant::now();
    while killed < 40 || began.elapsed() < Duration::from_secs(3) {
        match lives.live() {
            Ok(()) => ended += 1,
            Err(Killed) => killed += 1,
        }
    }
    lives.objects.fails(When::Never);
    let place = bucket(&lives.objects, &lives.folder);
    let named = lives.named();
    lives.runtime.block_on(place.sweep(&named)).unwrap();
    let positions = lives.runtime.block_on(lives.store.lake_positions()).unwrap();
    let reader = LakeReader::new(lives.store.clone(), place.clone(), Live::default(), topics());
    let lake = lives.runtime.block_on(reader.now(None)).unwrap();
    assert_eq!(offsets(&lake), (0..positions[0].next_offset).collect::<Vec<_>>());
    lake.files().iter().for_each(|file| verify(place.clone(), file).unwrap());
    // Nothing is in the bucket but what is named, and nothing on this machine.
    let mut expected = BTreeSet::from(["vedette-holder".to_owned()]);
    expected.extend(lake.files().iter().map(|file| file.path.clone()));
    expected.extend(lake.files().iter().map(|file| index_name(&file.path)));
    let leaving = lives.runtime.block_on(lives.store.leaving_lake()).unwrap();
    let is_left =
        |name: &String| leaving.iter().any(|file| *name == file.path || *name == index_name(&file.path));
    let there: BTreeSet<String> =
        names(&lives.objects, &lives.runtime).into_iter().filter(|name| !is_left(name)).collect();
    assert_eq!(there, expected);
    assert_eq!(lives.runtime.block_on(place.sweep(&BTreeSet::new())).unwrap(), 0, "nothing is left here");
    let seen = lives.objects.seen();
    let Lives { again, removed, merged, .. } = lives;
    let figures = format!(
        "seed {SEED}: {} events, {killed} lives killed, {ended} ended, {again} tries, {removed} removed, {merged} merged, faults {seen:?}",
        positions[0].next_offset
    );
    let enough = again > 5 && removed > 2 && merged > 5 && seen.iter().all(|seen| *seen > 0);
    assert!(enough, "{figures}");
}

#[test]
fn who_waits_within_a_runtime_is_not_held_up_by_it() {
    let (data, objects) = (tempfile::tempdir().unwrap(), Faulty::new(SEED));
    let place = bucket(&objects, data.path());
    let files = filled(&place, &runtime(), &[300]);
    let one = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    // More requests than a task may make without giving way.
    one.block_on(async { (0..100).for_each(|_| verify(place.clone(), &files[0]).unwrap()) });
}

#[test]
fn what_cannot_be_read_is_an_error_and_never_a_shorter_answer() {
    let (data, runtime, objects) = (tempfile::tempdir().unwrap(), runtime(), Faulty::new(SEED));
    let place = bucket(&objects, data.path());
    let files = filled(&place, &runtime, &[40, 100, 7, 90]);
    let limits = || Limits { time: Some(Duration::from_secs(1)), ..Limits::default() };
    let every = "select vedette.offset as o, source.ip from events order by o";
    let (rows, _) = asked(&place, &files, every, limits()).unwrap();
    assert_eq!(rows.len(), 237);
    for fault in [Fault::Refused, Fault::Torn, Fault::Lost] {
        objects.fails(When::Always(fault));
        for sql in [every, "select count(*) as n from events where source.ip = '10.0.0.3'"] {
            let error = asked(&place, &files, sql, limits()).unwrap_err();
            assert!(matches!(error, Error::Source(_)), "{fault:?}: {error:?}");
            assert!(error.to_string().contains("500 Internal"), "{fault:?}: {error}");
        }
        let error = verify(place.clone(), &files[0]).unwrap_err();
        assert!(matches!(error, LakeError::Store { .. }), "{error}");
        let wanted = Wanted::from([("fw".into(), BTreeSet::new())]);
        let error = InTime::new(place.clone(), files.clone(), wanted).unwrap().read().unwrap_err();
        assert!(matches!(error, LakeError::Store { .. }), "{error}");
    }
    // Whoever is slow takes a hunt no longer than it may.
    for fault in [Fault::Slow, Fault::SlowDone] {
        objects.fails(When::Always(fault));
        for sql in [every, "select count(*) as n from events where source.ip = '10.0.0.3'"] {
            let began = Instant::now();
            let error = asked(&place, &files, sql, limits()).unwrap_err();
            assert!(matches!(error, Error::Timeout { .. }), "{fault:?}: {error:?}");
            assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
        }
        let error = verify(place.clone(), &files[0]).unwrap_err().to_string();
        assert!(error.contains("no answer within"), "{error}");
    }
    let (mut whole, mut failed) = (0, 0);
    objects.fails(When::OfHundred(4));
    for _ in 0..60 {
        match asked(&place, &files, every, limits()) {
            Ok((again, _)) => {
                assert_eq!(again, rows);
                whole += 1;
            }
            Err(Error::Source(_) | Error::Timeout { .. }) => failed += 1,
            Err(error) => panic!("{error:?}"),
        }
    }
    assert!(whole > 5 && failed > 5, "{whole} answers, {failed} errors");
}

#[test]
fn an_object_that_is_gone_or_damaged_is_told_by_its_name() {
    let (data, runtime, objects) = (tempfile::tempdir().unwrap(), runtime(), Faulty::new(SEED));
    let place = bucket(&objects, data.path());
    let files = filled(&place, &runtime, &[40, 100]);
    let name = Name::from(files[1].path.as_str());
    let whole = runtime.block_on(async { objects.objects().get(&name).await?.bytes().await }).unwrap();
    let every = "select * from events";
    let (rows, _) = asked(&place, &files, every, Limits::default()).unwrap();
    let put = |bytes: Vec<u8>| runtime.block_on(objects.objects().put(&name, bytes.into())).unwrap();
    for at in [4, whole.len() / 3, whole.len() - 6] {
        let mut bent = whole.to_vec();
        bent[at..].iter_mut().take(32).for_each(|byte| *byte ^= 0x5a);
        put(bent);
        let error = verify(place.clone(), &files[1]).unwrap_err();
        assert!(matches!(error, LakeError::Damaged { .. }), "{at}: {error}");
        match asked(&place, &files, every, Limits::default()) {
            // What the catalog knows as well is not read.
            Ok((again, _)) => assert_eq!(again, rows),
            Err(error) => assert!(matches!(error, Error::Source(_) | Error::Value { .. }), "{at}: {error:?}"),
        }
    }
    put(whole[..whole.len() - 1].to_vec());
    let error = verify(place.clone(), &files[1]).unwrap_err().to_string();
    assert!(error.contains(&files[1].path) && error.contains("bytes long and not"), "{error}");
    assert!(asked(&place, &files, every, Limits::default()).is_err());
    runtime.block_on(objects.objects().delete(&name)).unwrap();
    let error = asked(&place, &files, every, Limits::default()).unwrap_err().to_string();
    assert!(error.contains(&files[1].path) && error.contains("vedette lake verify"), "{error}");
    assert_eq!(runtime.block_on(place.lacking(&files)).unwrap(), 1);
    let error = verify(place.clone(), &files[1]).unwrap_err().to_string();
    assert!(error.contains("not there"), "{error}");
    // An index that is gone costs time, and no event.
    put(whole.to_vec());
    let index = Name::from(index_name(&files[1].path));
    runtime.block_on(objects.objects().delete(&index)).unwrap();
    let (rows, read) =
        asked(&place, &files, "select * from events where source.ip = '10.0.0.3'", Limits::default())
            .unwrap();
    assert_eq!((rows.len(), read.indexes_damaged), (20, 1));
}

#[test]
fn a_bucket_gives_what_a_folder_gives_and_skips_as_much() {
    let (data, runtime, objects) = (tempfile::tempdir().unwrap(), runtime(), Faulty::new(SEED));
    let there = bucket(&objects, &data.path().join("uploads"));
    let here = Place::from(&data.path().join("lake"));
    let many = [900, 40, 300];
    let (there_files, here_files) = (filled(&there, &runtime, &many), filled(&here, &runtime, &many));
    let mut skipped = Read::default();
    for sql in [
        "select * from events order by vedette.offset",
        "select * from events where vedette.offset = 500",
        "select count(*) as n from events where source.ip = '10.0.0.3'",
        "select * from events where source.ip = '192.0.2.1'",
        "select * from events where \"@timestamp\" >= '2026-01-01T12:19:00Z' order by vedette.offset",
        "select source.ip, count(*) as n from events group by 1 order by 1",
    ] {
        let (rows, read) = asked(&there, &there_files, sql, Limits::default()).unwrap();
        let (expected, here_read) = asked(&here, &here_files, sql, Limits::default()).unwrap();
        assert_eq!((rows, read), (expected, here_read), "{sql}");
        skipped.groups_skipped_by_statistics += read.groups_skipped_by_statistics;
        skipped.files_skipped_by_index += read.files_skipped_by_index;
        skipped.index_bytes += read.index_bytes;
    }
    assert!(skipped.groups_skipped_by_statistics > 0 && skipped.files_skipped_by_index > 0, "{skipped:?}");
    // In the order of time, with some columns; and of one file that was made of all.
    let order = |place: &Place, files: &[LakeFile]| {
        let wanted = Wanted::from([("fw".into(), BTreeSet::from(["source.ip".into()]))]);
        let mut all = InTime::new(place.clone(), files.to_vec(), wanted).unwrap();
        let mut batches = Vec::new();
        while let Some(batch) = all.read().unwrap() {
            assert_eq!(batch.events.num_columns(), 2);
            batches.push(batch.events);
        }
        concat_batches(&batches[0].schema(), &batches).unwrap()
    };
    assert_eq!(order(&there, &there_files), order(&here, &here_files));
    let merged = merge(there.clone(), &there_files, Micros(NOON), &mut || true).unwrap().unwrap();
    runtime.block_on(there.bring(std::slice::from_ref(&merged))).unwrap();
    assert_eq!(merged.events, 1_240);
    verify(there.clone(), &merged).unwrap();
}

#[test]
fn a_copy_of_the_data_folder_changes_nothing_beside_the_original() {
    let (data, runtime, objects) = (tempfile::tempdir().unwrap(), runtime(), Faulty::new(SEED));
    let [original, copy] = ["original", "copy"].map(|name| bucket(&objects, &data.path().join(name)));
    runtime.block_on(original.sweep(&BTreeSet::new())).unwrap();
    runtime.block_on(bucket(&objects, &data.path().join("original")).hold()).unwrap();
    let refused = [
        runtime.block_on(copy.hold()).unwrap_err(),
        runtime.block_on(copy.sweep(&BTreeSet::new())).unwrap_err(),
    ];
    for error in refused.map(|error| error.to_string()) {
        assert!(error.contains("s3://tests/vedette-holder: another data folder"), "{error}");
    }
    // Somebody says that the original is gone.
    runtime.block_on(objects.objects().delete(&Name::from("vedette-holder"))).unwrap();
    runtime.block_on(copy.hold()).unwrap();
    assert!(runtime.block_on(original.hold()).is_err());
}

#[test]
fn who_does_not_answer_is_named_without_a_key() {
    let data = tempfile::tempdir().unwrap();
    // Nobody listens there: the port was given back.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let s3 = S3 {
        endpoint: Some(format!("http://{free}")),
        region: "us-east-1".to_owned(),
        bucket: "lake".to_owned(),
        prefix: "a/b".to_owned(),
        access_key: "AKSECRET".to_owned(),
        secret_key: "hunter2".to_owned(),
        authorities: None,
    };
    let place = Place::Bucket(Arc::new(Bucket::open(&s3, data.path()).unwrap()));
    let error = runtime().block_on(place.lacking(&[])).unwrap_err();
    let said = format!("{error} {error:?} {s3:?} {place:?} {place}");
    assert!(said.contains("s3://lake/a/b") && said.contains("127.0.0.1"), "{said}");
    assert!(!said.contains("hunter2") && !said.contains("AKSECRET"), "{said}");
    let no_tls = S3 { endpoint: Some("https://localhost:1".to_owned()), ..s3.clone() };
    assert!(Bucket::open(&no_tls, data.path()).is_ok(), "the authorities that browsers trust are there");
    let wrong = S3 { authorities: Some(data.path().join("no.pem")), ..s3 };
    assert!(Bucket::open(&wrong, data.path()).is_err());
}
