//! An object store in the memory that does not do what it is asked.

use std::{
    fmt,
    ops::Range,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt as _, stream, stream::BoxStream};
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, memory::InMemory,
    path::Path,
};
use vedette_simulate::Random;

/// How long who is slow takes: longer than anybody waits here.
const LONG: Duration = Duration::from_secs(20);

/// What goes wrong with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It is not done, and that is said.
    Refused,
    /// Half of it is done, and that is said.
    Torn,
    /// Half of it is done, and nothing is said.
    TornUnsaid,
    /// It is done, and the contrary is said.
    Lost,
    /// It is not done, and nothing is said for long.
    Slow,
    /// It is done, and nothing is said for long.
    SlowDone,
}

const ALL: [Fault; 6] =
    [Fault::Refused, Fault::Torn, Fault::TornUnsaid, Fault::Lost, Fault::Slow, Fault::SlowDone];

/// What goes wrong, and when.
#[derive(Debug, Clone)]
pub enum When {
    Never,
    Always(Fault),
    /// Of a hundred requests so many, each with any of the faults.
    OfHundred(u64),
}

#[derive(Debug, Clone)]
pub struct Faulty(Arc<State>);

#[derive(Debug)]
struct State {
    objects: InMemory,
    when: Mutex<(When, Random)>,
    /// How often each happened.
    seen: [AtomicU64; 6],
}

impl fmt::Display for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Faulty")
    }
}

fn said() -> Error {
    Error::Generic { store: "S3", source: "500 Internal Server Error".into() }
}

impl Faulty {
    pub fn new(seed: u64) -> Self {
        let when = Mutex::new((When::Never, Random::new(seed)));
        Self(Arc::new(State { objects: InMemory::new(), when, seen: Default::default() }))
    }

    pub fn fails(&self, when: When) {
        self.0.when.lock().unwrap().0 = when;
    }

    pub fn seen(&self) -> Vec<u64> {
        self.0.seen.iter().map(|seen| seen.load(Ordering::Relaxed)).collect()
    }

    /// What is really there.
    pub fn objects(&self) -> &InMemory {
        &self.0.objects
    }

    fn next(&self) -> Option<Fault> {
        let mut when = self.0.when.lock().unwrap();
        let (when, random) = &mut *when;
        let fault = match when {
            When::Never => None,
            When::Always(fault) => Some(*fault),
            When::OfHundred(some) if random.below(100) < *some => Some(ALL[random.below(6) as usize]),
            When::OfHundred(_) => None,
        }?;
        let at = ALL.iter().position(|other| *other == fault)?;
        self.0.seen[at].fetch_add(1, Ordering::Relaxed);
        Some(fault)
    }

    async fn delete(self, path: Path) -> Result<Path> {
        let deleted = async |store: &InMemory| {
            store.delete_stream(stream::iter([Ok(path.clone())]).boxed()).next().await.unwrap_or(Err(said()))
        };
        match self.next() {
            None | Some(Fault::TornUnsaid) => deleted(&self.0.objects).await,
            Some(Fault::Refused | Fault::Torn) => Err(said()),
            Some(Fault::Lost) => deleted(&self.0.objects).await.and(Err(said())),
            Some(Fault::Slow) => {
                tokio::time::sleep(LONG).await;
                Err(said())
            }
            Some(Fault::SlowDone) => {
                let done = deleted(&self.0.objects).await;
                tokio::time::sleep(LONG).await;
                done
            }
        }
    }
}

#[async_trait]
impl ObjectStore for Faulty {
    async fn put_opts(&self, path: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let whole = Bytes::from(payload.clone());
        let half = PutPayload::from(whole.slice(..whole.len() / 2));
        let objects = &self.0.objects;
        match self.next() {
            None => objects.put_opts(path, payload, options).await,
            Some(Fault::Refused) => Err(said()),
            Some(Fault::Torn) => objects.put_opts(path, half, options).await.and(Err(said())),
            Some(Fault::TornUnsaid) => objects.put_opts(path, half, options).await,
            Some(Fault::Lost) => objects.put_opts(path, payload, options).await.and(Err(said())),
            Some(Fault::Slow) => {
                tokio::time::sleep(LONG).await;
                Err(said())
            }
            Some(Fault::SlowDone) => {
                let done = objects.put_opts(path, payload, options).await;
                tokio::time::sleep(LONG).await;
                done
            }
        }
    }

    async fn put_multipart_opts(&self, _: &Path, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        panic!("nothing is put in parts");
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        let head = options.head;
        match self.next() {
            None => self.0.objects.get_opts(path, options).await,
            Some(Fault::Torn | Fault::TornUnsaid) if !head => {
                let got = self.0.objects.get_opts(path, options).await?;
                let (meta, range, attributes) = (got.meta.clone(), got.range.clone(), got.attributes.clone());
                let bytes = got.bytes().await?;
                let half = bytes.slice(..bytes.len() / 2);
                // Who broke off is known by the length that was promised.
                let payload = GetResultPayload::Stream(stream::iter([Ok(half), Err(said())]).boxed());
                Ok(GetResult { payload, meta, range, attributes })
            }
            Some(Fault::Slow | Fault::SlowDone) => {
                tokio::time::sleep(LONG).await;
                Err(said())
            }
            Some(_) => Err(said()),
        }
    }

    async fn get_ranges(&self, path: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let mut all = Vec::new();
        for range in ranges {
            let options = GetOptions { range: Some(range.clone().into()), ..GetOptions::default() };
            all.push(self.get_opts(path, options).await?.bytes().await?);
        }
        Ok(all)
    }

    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let store = self.clone();
        paths.then(move |path| Self::delete_one(store.clone(), path)).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        match self.next() {
            None => self.0.objects.list(prefix),
            Some(_) => self.0.objects.list(prefix).take(1).chain(stream::iter([Err(said())])).boxed(),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.0.objects.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, _: &Path, _: &Path, _: CopyOptions) -> Result<()> {
        panic!("nothing is copied");
    }
}

impl Faulty {
    async fn delete_one(self, path: Result<Path>) -> Result<Path> {
        self.delete(path?).await
    }
}
