//! The log files of a hunt: found, told apart, and read one after the other.
//!
//! In: paths of files and folders, the name of a source. Out: [`Files`], and their records in the order of the names given.
//! Invariants: a folder's files come sorted by path; of what can be read once only nothing is lost by having been looked at; one
//! file at a time is open, and those that can be read once only.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use anyhow::{Context as _, Result, anyhow, bail};
use vedette_decode::field_names;
use vedette_event::{Partition, RawBatch, SourceDef, SourceIx, Sources, TopicIx};
use vedette_ingest::{FileBatches, Input};

use crate::{Failure, World as _, content, inputs, table};

/// Files of which the first records are looked at, to see which fields there are.
const LOOKED_AT: usize = 16;
/// Folders nested deeper than this are not looked into.
const MAX_DEPTH: usize = 16;

/// Files of one source.
pub struct Files {
    /// The source alone.
    pub sources: Arc<Sources>,
    all: Vec<LogFile>,
    /// The fields that their events can have.
    fields: BTreeSet<Arc<str>>,
    /// Bytes of all of them, where that is known.
    size: Option<u64>,
}

/// One file.
struct LogFile {
    name: Arc<str>,
    input: Input,
    /// What was read of one that can be read once only.
    begun: Once,
}

enum Once {
    /// It can be read again.
    Again,
    /// It was opened to be looked at.
    Begun(Box<Mutex<Option<Begun>>>),
}

struct Begun {
    head: Option<RawBatch>,
    batches: FileBatches,
}

impl Files {
    /// Finds the files, and looks at the first records of some; `wanted` is the source's name, or `auto`.
    pub fn find(paths: &[PathBuf], wanted: &str, all: &Sources) -> Result<Self, Failure> {
        let paths = expand(paths)?;
        let mut told = (wanted != "auto").then(|| wanted.to_owned());
        let mut files = Vec::new();
        let mut heads = Vec::new();
        let mut size = Some(0);
        for path in paths {
            let input = if path.as_os_str() == "-" { Input::Stdin } else { Input::Path(path.clone()) };
            let name: Arc<str> = path.display().to_string().into();
            let regular = path.is_file();
            let mut begun = Once::Again;
            if regular {
                size = size.and_then(|size| Some(size + fs::metadata(&path).ok()?.len()));
            } else {
                size = None;
            }
            if !regular || heads.len() < LOOKED_AT {
                let mut batches = open(&input)?;
                let head = batches.next().transpose().world()?;
                if told.is_none() && head.is_some() {
                    let source = inputs::tell(head.as_ref(), all);
                    say!("{}: read as source `{source}`, as all other files", table::plain(&name));
                    told = Some(source);
                }
                heads.extend(head.clone());
                if !regular {
                    begun = Once::Begun(Box::new(Mutex::new(Some(Begun { head, batches }))));
                }
            }
            files.push(LogFile { name, input, begun });
        }
        let told = told.unwrap_or_else(|| "json".to_owned());
        let sources = content::only(all, &[&told]).context("--source").map_err(Failure::Usage)?;
        let records =
            heads.iter().flat_map(|raw| raw.records.iter().filter_map(|record| raw.payload(record)));
        let fields = field_names(sources.get(SourceIx(0)), &sources.fields, records);
        Ok(Self { sources: Arc::new(sources), all: files, fields, size })
    }

    /// The source's definition.
    pub fn def(&self) -> &SourceDef {
        self.sources.get(SourceIx(0))
    }

    /// The fields that their events can have.
    pub fn fields(&self) -> &BTreeSet<Arc<str>> {
        &self.fields
    }

    /// Bytes of all of them, where that is known.
    pub fn size(&self) -> Option<u64> {
        self.size
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// What a file is called.
    pub fn name(&self, number: i32) -> Arc<str> {
        let file = usize::try_from(number).ok().and_then(|at| self.all.get(at));
        file.map(|file| file.name.clone()).unwrap_or_default()
    }

    /// Gives the records of all files, batch by batch, with the bytes read so far, until `take` wants no more.
    pub fn read(&self, take: &mut dyn FnMut(RawBatch, u64) -> bool) -> Result<()> {
        let mut before = 0;
        for (number, file) in self.all.iter().enumerate() {
            let Begun { mut head, mut batches } = file.begin()?;
            while let Some(raw) = head.take().map(Ok).or_else(|| batches.next()) {
                let partition = Partition { topic: TopicIx(0), number: number as i32 };
                let raw = RawBatch { source: SourceIx(0), partition, ..raw? };
                if !take(raw, before + batches.bytes_read()) {
                    return Ok(());
                }
            }
            before += batches.bytes_read();
        }
        Ok(())
    }
}

impl LogFile {
    fn begin(&self) -> Result<Begun> {
        match &self.begun {
            Once::Again => {
                let nowhere = Partition { topic: TopicIx(0), number: 0 };
                let batches = FileBatches::open(self.input.clone(), SourceIx(0), nowhere)?;
                Ok(Begun { head: None, batches })
            }
            Once::Begun(begun) => {
                let begun =
                    begun.lock().map_err(|_| anyhow!("{} cannot be read any more", self.name))?.take();
                begun.with_context(|| {
                    format!(
                        "{} can be read once only, and the query reads `events` more than once; write it to a file first",
                        self.name
                    )
                })
            }
        }
    }
}

fn open(input: &Input) -> Result<FileBatches, Failure> {
    let nowhere = Partition { topic: TopicIx(0), number: 0 };
    FileBatches::open(input.clone(), SourceIx(0), nowhere).world()
}

/// The files, those of folders in place of these; standard input if none is named.
fn expand(paths: &[PathBuf]) -> Result<Vec<PathBuf>, Failure> {
    if paths.is_empty() {
        return Ok(vec![PathBuf::from("-")]);
    }
    if paths.iter().filter(|path| path.as_os_str() == "-").count() > 1 {
        return Err(Failure::Usage(anyhow!("`-` is there twice; standard input can be read once only")));
    }
    let mut all = Vec::new();
    for path in paths {
        if path.is_dir() {
            let before = all.len();
            walk(path, 0, &mut all).world()?;
            if all.len() == before {
                return Err(Failure::Usage(anyhow!("there is no file in the folder `{}`", path.display())));
            }
        } else {
            all.push(path.clone());
        }
    }
    Ok(all)
}

/// The files of a folder and of those in it, by name; what is hidden is left out.
fn walk(folder: &Path, depth: usize, all: &mut Vec<PathBuf>) -> Result<()> {
    if depth > MAX_DEPTH {
        bail!("folders are nested deeper than {MAX_DEPTH}, or in a circle: `{}`", folder.display());
    }
    let cannot = || format!("cannot read the folder `{}`", folder.display());
    let mut entries = Vec::new();
    for entry in fs::read_dir(folder).with_context(cannot)? {
        entries.push(entry.with_context(cannot)?.path());
    }
    entries.sort_unstable();
    for path in entries {
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if hidden {
            continue;
        }
        if path.is_dir() {
            walk(&path, depth + 1, all)?;
        } else if path.is_file() {
            all.push(path);
        }
    }
    Ok(())
}
