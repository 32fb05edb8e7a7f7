//! What the lake is to keep, and where.
//!
//! In: `lake` of the configuration. Out: checked values, and the [`Place`]. Invariant: keys of a bucket come from files or the environment, and
//! are in no error.

use std::{
    collections::BTreeMap,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::Result;
use serde::Deserialize;
use vedette_act::http::Reach;
use vedette_event::{
    Sources, Span,
    time::{DAY, HOUR},
};
use vedette_hunt::lake::{Bucket, Place, S3};
use vedette_store::model::{Holds, LakeFile};

use super::{Config, For, bytes::Bytes, secret::SecretFrom};

/// From a file for each second, which makes many small ones, to what a hunt would miss too long.
const FLUSH: RangeInclusive<Span> = Span::secs(1)..=Span::secs(300);
/// Beyond it a number is a slip of the pen.
const KEEP: RangeInclusive<Span> = DAY..=Span(36_500 * DAY.0);
/// Of originals, which may be many: less than a day is worth something, too.
const KEEP_ORIGINALS: RangeInclusive<Span> = HOUR..=Span(36_500 * DAY.0);
/// With less, what was just written would go.
const LEAST: Bytes = Bytes(64 << 20);

/// What a location may be.
const LOCATIONS: &str =
    "write s3://bucket/prefix, file:///srv/lake, or nothing for the folder `lake` of the data folder";
/// Bytes of a bucket's prefix at most: with a file's name it must stay below what S3 takes of a name.
const MAX_PREFIX: usize = 512;

/// The lake.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LakeConfig {
    /// Whether events are kept.
    pub on: bool,
    /// Where its files are; in the folder `lake` beside the store without it.
    pub location: Option<String>,
    /// How the bucket is reached, if they are in one.
    pub s3: Option<S3Config>,
    /// How long events wait at most until they are in a file.
    pub flush: Span,
    /// How long events are kept, by their times.
    pub keep: Span,
    /// How long those of some sources are kept instead.
    pub keep_by_source: BTreeMap<String, Span>,
    /// How large all files may become; then the oldest go.
    pub size: Bytes,
    /// Of which sources what is older than a day goes first then, in this order.
    pub drop_first: Vec<String>,
    /// Records as they came.
    pub originals: OriginalsConfig,
}

/// Which records are kept as they came, beside their events.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OriginalsConfig {
    /// Which.
    pub records: Records,
    /// Which of some sources instead.
    pub records_by_source: BTreeMap<String, Records>,
    /// How long they are kept, by the times of their events; no longer than these.
    pub keep: Span,
}

/// Which records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Records {
    /// None.
    None,
    /// Those whose events do not say all of them.
    Altered,
    /// All.
    All,
}

impl OriginalsConfig {
    /// Which records of a source are kept.
    pub fn of(&self, source: &str) -> Records {
        self.records_by_source.get(source).copied().unwrap_or(self.records)
    }
}

impl Default for OriginalsConfig {
    fn default() -> Self {
        Self { records: Records::Altered, records_by_source: BTreeMap::new(), keep: Span(7 * DAY.0) }
    }
}

/// How a bucket is reached.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct S3Config {
    /// The address of what speaks S3's protocol; Amazon's without it.
    #[serde(default)]
    pub endpoint: Option<String>,
    /// The region that requests are signed for.
    #[serde(default = "region")]
    pub region: String,
    /// Who asks.
    pub access_key: SecretFrom,
    /// What requests are signed with.
    pub secret_key: SecretFrom,
    /// Whether requests may go in the clear beyond this machine.
    #[serde(default)]
    pub private: bool,
    /// PEM file of the authorities to trust with its certificate.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
}

fn region() -> String {
    "us-east-1".to_owned()
}

/// A location that is read.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Location {
    Folder(PathBuf),
    Bucket { bucket: String, prefix: String },
}

impl LakeConfig {
    fn location(&self, data: &Path) -> Result<Location, String> {
        let Some(text) = &self.location else { return Ok(Location::Folder(data.join("lake"))) };
        if let Some(path) = text.strip_prefix("file://") {
            let path = Path::new(path);
            let plain = path.components().all(|part| !matches!(part, std::path::Component::ParentDir));
            if path.is_absolute() && plain && path.parent().is_some() {
                return Ok(Location::Folder(path.to_owned()));
            }
        } else if let Some(rest) = text.strip_prefix("s3://") {
            let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
            let prefix = prefix.trim_end_matches('/');
            let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b".-".contains(&b);
            let plain = |part: &str| {
                let fits = |b: u8| b.is_ascii_alphanumeric() || b"._-=".contains(&b);
                !part.is_empty() && part.bytes().all(fits) && part != "." && part != ".."
            };
            if (3..=63).contains(&bucket.len())
                && bucket.bytes().all(fits)
                && bucket.starts_with(|c: char| c.is_ascii_alphanumeric())
                && prefix.len() <= MAX_PREFIX
                && (prefix.is_empty() || prefix.split('/').all(plain))
            {
                return Ok(Location::Bucket { bucket: bucket.to_owned(), prefix: prefix.to_owned() });
            }
        }
        Err(format!("`{text}` is no place for files; {LOCATIONS}"))
    }

    /// The location as it is remembered, by which another one is known.
    pub fn said(&self) -> String {
        let location = self.location.as_deref().unwrap_or_default().trim_end_matches('/');
        let endpoint = self.s3.as_ref().and_then(|s3| s3.endpoint.as_deref());
        match endpoint {
            Some(endpoint) => format!("{location} at {}", endpoint.trim_end_matches('/')),
            None => location.to_owned(),
        }
    }

    /// How long events of a source are kept.
    pub fn keep_of(&self, source: &str) -> Span {
        self.keep_by_source.get(source).copied().unwrap_or(self.keep)
    }

    /// How long a file is kept.
    pub fn keep_of_file(&self, file: &LakeFile) -> Span {
        let events = self.keep_of(&file.source);
        match file.holds {
            Holds::Events => events,
            Holds::Originals => events.min(self.originals.keep),
        }
    }

    /// How long the file of these is kept that goes first.
    pub fn shortest(&self, holds: Holds) -> Span {
        let events = self.keep_by_source.values().copied().fold(self.keep, Ord::min);
        match holds {
            Holds::Events => events,
            Holds::Originals => events.min(self.originals.keep),
        }
    }
}

impl Default for LakeConfig {
    fn default() -> Self {
        Self {
            on: true,
            location: None,
            s3: None,
            flush: Span::secs(30),
            keep: Span(90 * DAY.0),
            keep_by_source: BTreeMap::new(),
            size: Bytes(100 << 30),
            drop_first: Vec::new(),
            originals: OriginalsConfig::default(),
        }
    }
}

/// Checks the names of sources, where it is known which there are.
pub fn check_sources(config: &Config, sources: &Sources) -> Result<()> {
    let LakeConfig { keep_by_source, drop_first, originals, .. } = &config.lake;
    let kept = keep_by_source.keys().map(|source| (format!("lake.keep_by_source.{source}"), source));
    let first = drop_first.iter().enumerate().map(|(at, source)| (format!("lake.drop_first[{at}]"), source));
    let records = originals.records_by_source.keys();
    let records = records.map(|source| (format!("lake.originals.records_by_source.{source}"), source));
    for (key, source) in kept.chain(first).chain(records) {
        if sources.find(source).is_none() {
            let known: Vec<&str> = sources.defs.iter().map(|def| &*def.name).collect();
            let what = format!("there is no source `{source}`; there are: {}", known.join(", "));
            return Err(config.places.wrong(&key, what));
        }
    }
    Ok(())
}

/// The folder in which the files are; none where they are in a bucket.
pub fn folder(config: &Config) -> Result<Option<PathBuf>> {
    let location = config.lake.location(&config.data);
    match location.map_err(|what| config.places.wrong("lake.location", what))? {
        Location::Folder(folder) => Ok(Some(folder)),
        Location::Bucket { .. } => Ok(None),
    }
}

/// Where the files are. Nothing is asked yet.
pub fn place(config: &Config) -> Result<Place> {
    let lake = &config.lake;
    let wrong = |key: &str, what: String| config.places.wrong(key, what);
    match lake.location(&config.data).map_err(|what| wrong("lake.location", what))? {
        Location::Folder(folder) => Ok(Place::from(&folder)),
        Location::Bucket { bucket, prefix } => {
            let Some(s3) = &lake.s3 else { return Err(wrong("lake.location", NO_S3.to_owned())) };
            let key = |name: &str, of: &SecretFrom| {
                of.read().map_err(|what| wrong(&format!("lake.s3.{name}"), what))
            };
            let s3 = S3 {
                endpoint: s3.endpoint.clone(),
                region: s3.region.clone(),
                bucket,
                prefix,
                access_key: key("access_key", &s3.access_key)?,
                secret_key: key("secret_key", &s3.secret_key)?,
                authorities: s3.ca_file.clone(),
            };
            let bucket = Bucket::open(&s3, &config.data.join("lake-uploads"));
            Ok(Place::Bucket(Arc::new(bucket.map_err(|error| wrong("lake.s3", error.to_string()))?)))
        }
    }
}

const NO_S3: &str = "a bucket needs lake.s3 with the keys to it, such as {endpoint: https://s3.example.com, \
                     access_key: {env: LAKE_ACCESS_KEY}, secret_key: {file: /etc/vedette/lake-secret-key}}";

fn check_location(config: &Config, purpose: For) -> Result<()> {
    let wrong = |key: &str, what: String| Err(config.places.wrong(key, what));
    let location = match config.lake.location(&config.data) {
        Ok(location) => location,
        Err(what) => return wrong("lake.location", what),
    };
    let Some(s3) = &config.lake.s3 else {
        return match location {
            Location::Bucket { .. } => wrong("lake.location", NO_S3.to_owned()),
            Location::Folder(_) => Ok(()),
        };
    };
    if matches!(location, Location::Folder(_)) {
        let what =
            "has no meaning without a bucket; set lake.location to s3://bucket/prefix, or leave it out";
        return wrong("lake.s3", what.to_owned());
    }
    if let Some(endpoint) = &s3.endpoint {
        let said = |what: &str| {
            let shown = if endpoint.contains('@') { "it" } else { endpoint };
            wrong("lake.s3.endpoint", format!("`{shown}` {what}"))
        };
        let alone =
            "is no address of a server; write scheme and host alone, such as https://s3.example.com:9000";
        let Ok(uri) = endpoint.parse::<hyper::Uri>() else { return said(alone) };
        let named = uri.authority().is_some_and(|authority| !authority.as_str().contains('@'));
        if !named || !matches!(uri.scheme_str(), Some("http" | "https")) {
            return said(alone);
        }
        if uri.path_and_query().is_some_and(|path| path.as_str() != "/") {
            return said(alone);
        }
        let reach = if s3.private { Reach::Private } else { Reach::Trusted };
        if reach.allows(&uri).is_err() {
            return said("is asked without TLS; write https://, or private: true where that is meant");
        }
    }
    if let Some(file) = s3.ca_file.as_ref().filter(|file| !file.is_file()) {
        return wrong("lake.s3.ca_file", format!("there is no file `{}`", file.display()));
    }
    let fits = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
    if s3.region.is_empty() || s3.region.len() > 64 || !s3.region.bytes().all(fits) {
        let what = format!("`{}` is no region; write one such as eu-central-1", s3.region);
        return wrong("lake.s3.region", what);
    }
    for (key, secret) in [("access_key", &s3.access_key), ("secret_key", &s3.secret_key)] {
        // Who works on the folder alone need not have it.
        if let (For::Service, Err(what)) = (purpose, secret.read()) {
            return wrong(&format!("lake.s3.{key}"), what);
        }
    }
    Ok(())
}

/// Checks the values.
pub fn check(config: &Config, purpose: For) -> Result<()> {
    if config.lake.on {
        check_location(config, purpose)?;
    }
    let LakeConfig { flush, keep, keep_by_source, size, originals, .. } = &config.lake;
    let of_originals = ("lake.originals.keep", &originals.keep, KEEP_ORIGINALS);
    for (key, value, range) in [("lake.flush", flush, FLUSH), ("lake.keep", keep, KEEP), of_originals] {
        if !range.contains(value) {
            let what = format!("`{value}` must lie between {} and {}", range.start(), range.end());
            return Err(config.places.wrong(key, what));
        }
    }
    for (source, value) in keep_by_source {
        let key = format!("lake.keep_by_source.{source}");
        if !KEEP.contains(value) {
            let what = format!("`{value}` must lie between {} and {}", KEEP.start(), KEEP.end());
            return Err(config.places.wrong(&key, what));
        }
    }
    if *size < LEAST {
        return Err(config.places.wrong("lake.size", format!("`{size}` must be at least {LEAST}")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::config::read;

    const HEAD: &str = "kafka: {brokers: a:1, topics: [{name: t, source: json}]}\n";

    fn load(lake: &str, purpose: For) -> Result<Config> {
        read("v.yml", &format!("{HEAD}data: d\nlake:\n{lake}"), purpose, |_| None)
    }

    /// A file with a key in it.
    fn keys(folder: &Path) -> String {
        let file = folder.join("key");
        std::fs::write(&file, "hunter2\n").unwrap();
        format!("access_key: {{file: {0}}}, secret_key: {{file: {0}}}", file.display())
    }

    #[test]
    fn what_is_wrong_about_originals_is_said_with_its_place() {
        let kafka = "kafka: {brokers: a:1, topics: [{name: t, source: json}]}";
        for (lake, said) in [
            ("{keep: 5m}", "26: lake.originals.keep: `5m` must lie between 1h and 36500d"),
            (
                "{records: some}",
                "29: lake.originals.records: unknown variant `some`, expected one of none, altered, all",
            ),
            (
                "{records_by_source: {json: raw}}",
                "46: lake.originals.records_by_source.json: unknown variant `raw`, expected one of none, altered, all",
            ),
            ("{kept: 7d}", "20: unknown field `kept`, expected one of records, records_by_source, keep"),
        ] {
            let text = format!("{kafka}\nlake: {{originals: {lake}}}\n");
            let error = read("v.yml", &text, For::Service, |_| None).unwrap_err().to_string();
            assert!(error.starts_with(&format!("v.yml:2:{said}")), "{error}");
        }
    }

    #[test]
    fn a_location_is_a_folder_or_a_bucket() {
        let folder = tempfile::tempdir().unwrap();
        let keys = keys(folder.path());
        let place = |lake: &str| place(&load(lake, For::Service).unwrap()).unwrap().to_string();
        assert_eq!(place("  flush: 1s\n"), "d/lake");
        assert_eq!(place("  location: file:///srv/lake\n"), "/srv/lake");
        let bucket = |location: &str| place(&format!("  location: {location}\n  s3: {{{keys}}}\n"));
        assert_eq!(bucket("s3://soc-lake"), "s3://soc-lake");
        assert_eq!(bucket("s3://soc-lake/a/b.c/"), "s3://soc-lake/a/b.c");
        for (more, clear) in [
            ("https://s3.example.com", ""),
            ("http://127.0.0.1:9000", ""),
            ("http://s3.lan:9000/", ", private: true"),
        ] {
            let lake = format!("  location: s3://soc-lake\n  s3: {{endpoint: '{more}'{clear}, {keys}}}\n");
            let config = load(&lake, For::Service).unwrap();
            assert!(super::place(&config).is_ok());
            assert_eq!(config.lake.said(), format!("s3://soc-lake at {}", more.trim_end_matches('/')));
            assert!(!format!("{config:?}").contains("hunter2"));
        }
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let keys = keys(folder.path());
        let says = |lake: &str, start: &str| {
            let said = load(lake, For::Service).unwrap_err().to_string();
            assert!(said.starts_with(start) && !said.contains("hunter2"), "{said}");
        };
        for location in [
            "/srv/lake",
            "file://srv/lake",
            "file:///",
            "file:///srv/../etc",
            "gs://a-bucket",
            "s3://",
            "s3://ab",
            "s3://A-Bucket",
            "s3://soc-lake//x",
            "s3://soc-lake/../x",
            "s3://soc-lake/a b",
            "s3:///x",
        ] {
            let lake = format!("  location: '{location}'\n  s3: {{{keys}}}\n");
            says(
                &lake,
                &format!(
                    "v.yml:4:13: lake.location: `{location}` is no place for files; write s3://bucket/prefix"
                ),
            );
        }
        says(
            "  location: s3://soc-lake\n",
            "v.yml:4:13: lake.location: a bucket needs lake.s3 with the keys to it",
        );
        let without = format!("  s3: {{{keys}}}\n");
        says(&without, "v.yml:4:7: lake.s3: has no meaning without a bucket");
        let s3 = |more: &str| format!("  location: s3://soc-lake\n  s3: {{{more}, {keys}}}\n");
        for endpoint in ["s3.example.com", "ftp://a", "https://a/b", "https://", "https://a?b"] {
            let start = format!("v.yml:5:18: lake.s3.endpoint: `{endpoint}` is no address of a server");
            says(&s3(&format!("endpoint: '{endpoint}'")), &start);
        }
        says(
            &s3("endpoint: 'https://u:hunter2@a'"),
            "v.yml:5:18: lake.s3.endpoint: `it` is no address of a server",
        );
        says(
            &s3("endpoint: 'http://s3.lan'"),
            "v.yml:5:18: lake.s3.endpoint: `http://s3.lan` is asked without TLS; write https://, or private: true",
        );
        says(&s3("region: 'a b'"), "v.yml:5:16: lake.s3.region: `a b` is no region");
        says(&s3("ca_file: no.pem"), "v.yml:5:17: lake.s3.ca_file: there is no file `no.pem`");
        says(&s3("colour: red"), "v.yml:5:8: ");
        let missing =
            "  location: s3://soc-lake\n  s3: {access_key: {file: no}, secret_key: {env: VEDETTE_TEST_NO}}\n";
        says(missing, "v.yml:5:20: lake.s3.access_key: `no` cannot be read");
        // Who works on the folder alone need not have them.
        assert!(load(missing, For::Folder).is_ok());
        // Nothing is wrong with a lake that is not kept.
        assert!(load("  on: false\n  location: nowhere\n", For::Service).is_ok());
    }
}
