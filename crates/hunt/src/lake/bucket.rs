//! A bucket of an object store that is asked as S3 is.
//!
//! In: files that are whole in a folder of this machine, names. Out: objects of the same names below a prefix, or none.
//! Invariants: each request has an end; an object is whole, and as long as its file, before that is said; a name is used for one file and never
//! again, so a request that comes twice or late changes nothing; what is in the bucket and in no catalog has a file of its name in
//! the folder, so that whatever an ended process was at is found without asking what else is in the bucket, and what others put there is
//! never touched; one folder holds a place at a time; no error and no `Debug` has a key.
//!
//! An object is put with one request: parts of one that nobody ends stay in a bucket, unseen and paid for. So a file has at most [`LARGE`] bytes
//! here, which is what its upload has in memory. Requests go to the one address that is configured: no proxy, no redirect.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use object_store::{
    BackoffConfig, ObjectStore, ObjectStoreExt as _, RetryConfig,
    aws::AmazonS3Builder,
    client::{ClientOptions, HttpClient, HttpConnector, SpawnService},
    path::Path as Name,
    prefix::PrefixStore,
};
use reqwest::{Certificate, redirect::Policy};
use tokio::{
    runtime::{Handle, Runtime},
    time::timeout,
};
use vedette_store::model::LakeFile;

use super::{LakeError, remove_if_there, skip, writer::files_below};

/// Bytes that one file is to have at most.
pub(super) const LARGE: u64 = 128 << 20;
/// How long one question may take, with its repetitions.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long one request may take, but for those that put something.
const REQUEST: Duration = Duration::from_secs(30);
/// How long one request may take that puts something. It is ended sooner by [`SLOWEST`].
const UPLOAD: Duration = Duration::from_secs(600);
/// How long it may take to be connected.
const CONNECT: Duration = Duration::from_secs(5);
/// Bytes a second that an upload must move at least.
const SLOWEST: u64 = 256 << 10;
/// How often a request is repeated at once. Who asks comes again later.
const RETRIES: usize = 2;
/// Files that are put at once.
const AT_ONCE: usize = 4;
/// The object, and the file, that say which folder holds the place. A backup has no such file: whoever goes on from one has to say that the
/// original is gone, since each of the two would delete what the other still names.
const HOLDER: &str = "vedette-holder";

/// How a bucket is reached.
#[derive(Clone)]
pub struct S3 {
    /// The address that is asked, such as `https://s3.example.com`; that of the region without it.
    pub endpoint: Option<String>,
    /// What requests are signed for.
    pub region: String,
    /// The bucket.
    pub bucket: String,
    /// What comes before all names in it; may be empty.
    pub prefix: String,
    /// Who asks.
    pub access_key: String,
    /// What requests are signed with.
    pub secret_key: String,
    /// PEM file of the authorities to trust; those that browsers trust without it.
    pub authorities: Option<PathBuf>,
}

impl fmt::Debug for S3 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3")
            .field("bucket", &self.bucket)
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}

/// A place in a bucket.
pub struct Bucket {
    /// Below the prefix.
    store: Arc<dyn ObjectStore>,
    /// The same, with more time for a request.
    uploads: Arc<dyn ObjectStore>,
    /// For people.
    name: String,
    /// Where files are written first.
    folder: PathBuf,
    /// What tells names of this process from those of others.
    mark: String,
    patience: Duration,
    /// Requests are made on a thread of its own: who hunts has none that could wait for a network, and who asks may be gone before
    /// its connection is.
    runtime: Option<Runtime>,
}

impl fmt::Debug for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bucket").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Drop for Bucket {
    fn drop(&mut self) {
        // It may be dropped where nothing may wait.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Makes connections: to the one address, on the one runtime.
#[derive(Debug)]
struct Connector {
    runtime: Handle,
    clear: bool,
    authorities: Option<Vec<Certificate>>,
    time: Duration,
}

impl HttpConnector for Connector {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        let mut client = reqwest::Client::builder()
            .user_agent("vedette")
            .no_proxy()
            .redirect(Policy::none())
            .https_only(!self.clear)
            .http1_only()
            .connect_timeout(CONNECT)
            .timeout(self.time)
            .tls_built_in_root_certs(false);
        client = match &self.authorities {
            None => client.tls_built_in_webpki_certs(true),
            Some(all) => all.iter().cloned().fold(client, reqwest::ClientBuilder::add_root_certificate),
        };
        let failed = |e| object_store::Error::Generic { store: "S3", source: Box::new(e) };
        let client = client.build().map_err(failed)?;
        Ok(HttpClient::new(SpawnService::new(client, self.runtime.clone())))
    }
}

impl Bucket {
    /// Nothing is asked yet. `folder` is where files are written first, and is this lake's alone.
    ///
    /// # Errors
    /// If the system gives no thread or no random bytes, or authorities or an address cannot be made of what is given.
    pub fn open(s3: &S3, folder: &Path) -> Result<Self, LakeError> {
        let runtime = runtime(folder)?;
        let clear = s3.endpoint.as_ref().is_some_and(|endpoint| endpoint.starts_with("http://"));
        let retry = RetryConfig {
            backoff: BackoffConfig {
                init_backoff: Duration::from_millis(200),
                max_backoff: Duration::from_secs(2),
                base: 2.,
            },
            max_retries: RETRIES,
            retry_timeout: PATIENCE,
        };
        let authorities = s3.authorities.as_deref().map(certificates).transpose()?;
        let name = format!("s3://{}/{}", s3.bucket, s3.prefix).trim_end_matches('/').to_owned();
        let connect = |time: Duration| -> Result<Arc<dyn ObjectStore>, LakeError> {
            let (runtime, authorities) = (runtime.handle().clone(), authorities.clone());
            let mut builder = AmazonS3Builder::new()
                .with_bucket_name(&s3.bucket)
                .with_region(&s3.region)
                .with_access_key_id(&s3.access_key)
                .with_secret_access_key(&s3.secret_key)
                .with_allow_http(clear)
                .with_retry(retry.clone())
                .with_http_connector(Connector { runtime, clear, authorities, time });
            if let Some(endpoint) = &s3.endpoint {
                builder = builder.with_endpoint(endpoint);
            }
            let store = builder.build().map_err(|error| LakeError::of_store(&name, &error))?;
            Ok(Arc::new(PrefixStore::new(store, Name::from(s3.prefix.as_str()))))
        };
        let (store, uploads) = (connect(REQUEST)?, connect(UPLOAD)?);
        let (folder, mark) = (folder.to_owned(), mark(folder)?);
        Ok(Self { store, uploads, name, folder, mark, patience: PATIENCE, runtime: Some(runtime) })
    }

    /// Over a store of tests, which has so long for each request.
    #[cfg(test)]
    pub(crate) fn over(store: Arc<dyn ObjectStore>, folder: &Path, patience: Duration) -> Self {
        let (uploads, name) = (Arc::clone(&store), "s3://tests".to_owned());
        let runtime = Some(runtime(folder).expect("a runtime"));
        let mark = mark(folder).expect("random bytes");
        Self { store, uploads, name, folder: folder.to_owned(), mark, patience, runtime }
    }

    pub(super) fn store(&self) -> &Arc<dyn ObjectStore> {
        &self.store
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(super) fn mark(&self) -> &str {
        &self.mark
    }

    pub(super) const fn patience(&self) -> Duration {
        self.patience
    }

    /// Waits for an answer on the thread that asks, whatever runs on that.
    pub(super) fn wait<T>(&self, answer: impl Future<Output = T>) -> T {
        let _clock = self.runtime.as_ref().map(Runtime::enter);
        // A task of another runtime that asks has a share of its thread, and once that is used up is woken only after it has returned.
        futures_executor::block_on(tokio::task::unconstrained(answer))
    }

    /// Puts files that are whole in the folder, with their indexes.
    pub(super) async fn put_all(&self, files: &[LakeFile]) -> Result<(), LakeError> {
        stream::iter(files).map(Ok).try_for_each_concurrent(AT_ONCE, |file| self.put_both(file)).await
    }

    async fn put_both(&self, file: &LakeFile) -> Result<(), LakeError> {
        if file.index_bytes > 0 {
            self.put(&skip::name(&file.path)).await?;
        }
        self.put(&file.path).await
    }

    async fn put(&self, name: &str) -> Result<(), LakeError> {
        let from = self.folder.join(name);
        let bytes = fs::read(&from).map_err(LakeError::of_disk(&from))?;
        let (object, length) = (Name::from(name), bytes.len() as u64);
        let time = self.patience + Duration::from_secs(length / SLOWEST);
        self.within(time, name, self.uploads.put(&object, bytes.into())).await?;
        // That it was taken is no proof of a store on a full disk, or behind somebody who answers for it.
        let there = self.within(self.patience, name, self.store.head(&object)).await?.size;
        if there == length {
            return Ok(());
        }
        Err(self.said(name, format!("was taken, and has {there} bytes there and not {length}")))
    }

    /// Removes a file and its index, wherever they are; that they are not there is as well.
    pub(super) async fn remove(&self, name: &str) -> Result<(), LakeError> {
        for name in [skip::name(name), name.to_owned()] {
            let gone = timeout(self.patience, self.store.delete(&Name::from(name.as_str()))).await;
            match gone {
                Ok(Ok(()) | Err(object_store::Error::NotFound { .. })) => {}
                Ok(Err(error)) => return Err(self.failed(&name, &error)),
                Err(_) => return Err(self.late(&name, self.patience)),
            }
        }
        self.forget(name)
    }

    /// Removes what was written here first of a file.
    pub(super) fn forget(&self, name: &str) -> Result<(), LakeError> {
        // In this order: the file tells by its name what may be in the bucket.
        for path in [self.folder.join(skip::name(name)), self.folder.join(name)] {
            remove_if_there(&path)?;
        }
        Ok(())
    }

    /// Makes sure that no other folder holds the place.
    pub(super) async fn hold(&self) -> Result<(), LakeError> {
        let (ours, object) = (self.holder()?, Name::from(HOLDER));
        let mut there = self.held_by().await?;
        if there.is_none() {
            let put = self.store.put(&object, ours.clone().into_bytes().into());
            self.within(self.patience, HOLDER, put).await?;
            // Of two who begin at once the later one has it.
            there = self.held_by().await?;
        }
        if there.is_some_and(|there| *there == *ours.as_bytes()) {
            return Ok(());
        }
        let what = "another data folder keeps its lake here; name another prefix, or, once that folder is gone for good, delete this object";
        Err(self.said(HOLDER, what.to_owned()))
    }

    async fn held_by(&self) -> Result<Option<Bytes>, LakeError> {
        let object = Name::from(HOLDER);
        let found = async { self.store.get(&object).await?.bytes().await };
        match self.within(self.patience, HOLDER, found).await {
            Ok(found) => Ok(Some(found)),
            Err(LakeError::Damaged { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// What this folder is known by, made once.
    fn holder(&self) -> Result<String, LakeError> {
        let path = self.folder.join(HOLDER);
        match fs::read_to_string(&path) {
            Ok(known) if !known.is_empty() => return Ok(known),
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(LakeError::of_disk(&path)(error));
            }
            _ => {}
        }
        let half = self.folder.join("vedette-holder.new");
        let made = || {
            fs::create_dir_all(&self.folder)?;
            fs::write(&half, &self.mark)?;
            fs::File::open(&half)?.sync_all()?;
            fs::rename(&half, &path)
        };
        made().map_err(LakeError::of_disk(&path))?;
        Ok(self.mark.clone())
    }

    /// Removes what an ended process was at; how many files.
    pub(super) async fn sweep(&self, named: &BTreeSet<String>) -> Result<u64, LakeError> {
        self.hold().await?;
        let mut removed = 0;
        for (name, path) in files_below(&self.folder)? {
            if !name.ends_with(".parquet") {
                // Indexes go with their files, which are what may be in the bucket.
                if name.ends_with(".part") {
                    remove_if_there(&path)?;
                }
            } else if named.contains(&name) {
                self.forget(&name)?;
            } else {
                self.remove(&name).await?;
                removed += 1;
            }
        }
        for (_, path) in files_below(&self.folder)? {
            remove_if_there(&path)?;
        }
        Ok(removed)
    }

    /// How many of these files are not there, as long as the catalog says.
    pub(super) async fn lacking(&self, files: &[LakeFile]) -> Result<u64, LakeError> {
        let mut wanted: BTreeMap<&str, u64> =
            files.iter().map(|file| (file.path.as_str(), file.bytes)).collect();
        let mut objects = self.store.list(None);
        while let Some(object) = self.within(self.patience, "", objects.try_next()).await? {
            let name = object.location.as_ref();
            if wanted.get(name) == Some(&object.size) {
                wanted.remove(name);
            }
        }
        Ok(wanted.len() as u64)
    }

    /// The length of an object.
    pub(super) async fn length(&self, name: &str) -> Result<u64, LakeError> {
        let object = Name::from(name);
        Ok(self.within(self.patience, name, self.store.head(&object)).await?.size)
    }

    async fn within<T>(
        &self,
        time: Duration,
        name: &str,
        answer: impl Future<Output = object_store::Result<T>>,
    ) -> Result<T, LakeError> {
        match timeout(time, answer).await {
            Ok(answer) => answer.map_err(|error| self.failed(name, &error)),
            Err(_) => Err(self.late(name, time)),
        }
    }

    fn late(&self, name: &str, time: Duration) -> LakeError {
        self.said(name, format!("no answer within {} s", time.as_secs_f32()))
    }

    fn said(&self, name: &str, what: String) -> LakeError {
        LakeError::Store { place: format!("{}/{name}", self.name), what }
    }

    pub(super) fn failed(&self, name: &str, error: &object_store::Error) -> LakeError {
        if matches!(error, object_store::Error::NotFound { .. }) {
            return LakeError::Damaged { path: name.to_owned(), found: "not there".to_owned() };
        }
        LakeError::of_store(&format!("{}/{name}", self.name), error)
    }
}

fn certificates(path: &Path) -> Result<Vec<Certificate>, LakeError> {
    let pem = fs::read(path).map_err(LakeError::of_disk(path))?;
    let failed = |why| LakeError::of_disk(path)(io::Error::new(io::ErrorKind::InvalidData, why));
    let all = Certificate::from_pem_bundle(&pem).map_err(|_| failed("it is no PEM of certificates"))?;
    if all.is_empty() { Err(failed("it holds no certificate")) } else { Ok(all) }
}

/// Where requests are made.
fn runtime(folder: &Path) -> Result<Runtime, LakeError> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = builder.worker_threads(1).thread_name("lake-store").enable_all().build();
    runtime.map_err(LakeError::of_disk(folder))
}

fn mark(folder: &Path) -> Result<String, LakeError> {
    let mut random = [0; 8];
    getrandom::fill(&mut random).map_err(|e| LakeError::of_disk(folder)(io::Error::other(e)))?;
    Ok(format!("-{:016x}", u64::from_ne_bytes(random)))
}
