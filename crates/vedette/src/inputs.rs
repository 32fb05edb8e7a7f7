//! The files and pipes that `scan` and `decode` read, and which of them is read next.
//!
//! In: paths and the name of a source. Out: opened inputs, each a partition of its source, numbered in the order given.
//! Invariant: which input comes next depends on times only to save memory; it never changes a result.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};

use anyhow::{Context as _, Result};
use vedette_event::{Micros, Partition, RawBatch, SourceIx, Sources, TopicIx};
use vedette_ingest::{FileBatches, Input};

use crate::{Failure, World as _, content, table};

/// Records looked at to tell a file's source.
const TOLD_FROM: usize = 16;

/// One input, opened and told apart.
pub struct Opened {
    label: Label,
    head: Option<RawBatch>,
    batches: FileBatches,
}

/// What an input is called, and what it is read as.
#[derive(Debug, Clone)]
pub struct Label {
    /// The path, or `-`.
    pub name: String,
    /// Its source.
    pub source: SourceIx,
    /// Its partition.
    pub partition: Partition,
}

impl Opened {
    /// Its name and what it is read as.
    pub const fn label(&self) -> &Label {
        &self.label
    }

    /// Bytes of it read so far.
    pub fn bytes_read(&self) -> u64 {
        self.batches.bytes_read()
    }

    /// How long it is, where that is known.
    pub fn size(&self) -> Option<u64> {
        self.batches.size()
    }

    /// The next batch, in the input's own source and partition.
    pub fn next(&mut self) -> Option<Result<RawBatch, vedette_ingest::Error>> {
        let next = self.head.take().map(Ok).or_else(|| self.batches.next())?;
        let Label { source, partition, .. } = self.label;
        Some(next.map(|raw| RawBatch { source, partition, ..raw }))
    }
}

/// Opens all inputs (standard input if there are none) and tells each one's source.
pub fn open(files: &[PathBuf], wanted: &str, all: &Sources) -> Result<(Sources, Vec<Opened>), Failure> {
    let stdin = [PathBuf::from("-")];
    let files = if files.is_empty() { &stdin[..] } else { files };
    if files.iter().filter(|path| path.as_os_str() == "-").count() > 1 {
        let twice = anyhow::anyhow!("`-` is there twice; standard input can be read once only");
        return Err(Failure::Usage(twice));
    }
    if wanted != "auto" {
        content::only(all, &[wanted]).context("--source").map_err(Failure::Usage)?;
    }
    let mut found = Vec::new();
    for path in files {
        let input = if path.as_os_str() == "-" { Input::Stdin } else { Input::Path(path.clone()) };
        let name = input.name().display().to_string();
        let nowhere = Partition { topic: TopicIx(0), number: 0 };
        let batches = FileBatches::open(input, SourceIx(0), nowhere).world()?;
        let mut batches = batches.one_of(files.len());
        let head = batches.next().transpose().world()?;
        let source = if wanted == "auto" {
            let told = tell(head.as_ref(), all);
            say!("{}: read as source `{told}`", table::plain(&name));
            told
        } else {
            wanted.to_owned()
        };
        found.push((name, source, head, batches));
    }
    let names: Vec<&str> = found.iter().map(|(_, source, ..)| source.as_str()).collect();
    let sources = content::only(all, &names).map_err(Failure::Usage)?;
    let opened = found
        .into_iter()
        .enumerate()
        .map(|(number, (name, source, head, batches))| {
            let source = sources.find(&source).context("a source that was just kept")?;
            // Topics are named after sources and sorted like them.
            let partition = Partition { topic: TopicIx(source.0), number: number as i32 };
            Ok(Opened { label: Label { name, source, partition }, head, batches })
        })
        .collect::<Result<_>>()
        .world()?;
    Ok((sources, opened))
}

/// The source of the first record that has a form of its own; `json` if none has: any object could be that.
pub fn tell(head: Option<&RawBatch>, all: &Sources) -> String {
    let records = head.map_or(&[][..], |raw| &raw.records[..]);
    let payloads = records.iter().take(TOLD_FROM).filter_map(|r| head.and_then(|raw| raw.payload(r)));
    let mut forms = payloads.filter_map(|bytes| vedette_decode::detect(bytes, all));
    let told = forms.find(|source| !all.get(*source).own_logsource());
    told.map_or_else(|| "json".to_owned(), |source| all.get(source).name.to_string())
}

/// Which of the open inputs is read next.
///
/// In order, they are read one after the other. Otherwise the one whose time is furthest behind comes next, so that few
/// findings wait for a slower file: a day's hourly files are then read one after the other, whatever order they are in.
pub struct Turns {
    in_order: bool,
    open: Vec<usize>,
}

/// How far the time of each input has come, told by who places its events.
pub struct Reached(Vec<AtomicI64>);

impl Reached {
    /// Nothing of `inputs` inputs has been read yet.
    pub fn new(inputs: usize) -> Self {
        Self((0..inputs).map(|_| AtomicI64::new(i64::MIN)).collect())
    }

    /// Takes note of an input's watermark.
    pub fn note(&self, input: usize, watermark: Micros) {
        self.0[input].store(watermark.0, Ordering::Relaxed);
    }
}

impl Turns {
    /// All inputs are open.
    pub fn new(inputs: usize, in_order: bool) -> Self {
        Self { in_order, open: (0..inputs).collect() }
    }

    /// The input to read from.
    pub fn next(&self, reached: &Reached) -> Option<usize> {
        if self.in_order {
            return self.open.first().copied();
        }
        self.open.iter().copied().min_by_key(|&input| reached.0[input].load(Ordering::Relaxed))
    }

    /// Says that an input has no more records.
    pub fn close(&mut self, input: usize) {
        self.open.retain(|&other| other != input);
    }
}

/// All inputs, read by turns.
pub struct Reading {
    inputs: Vec<Opened>,
    turns: Turns,
    reached: Arc<Reached>,
}

impl Reading {
    /// Nothing has been read yet.
    pub fn new(inputs: Vec<Opened>, turns: Turns, reached: Arc<Reached>) -> Self {
        Self { inputs, turns, reached }
    }

    /// A batch of the input whose turn it is, or its number if it has no more. Nothing when all have ended.
    pub fn next(&mut self) -> Result<Option<Result<RawBatch, usize>>, Failure> {
        let Some(input) = self.turns.next(&self.reached) else { return Ok(None) };
        let batch = self.inputs[input].next().transpose().world()?;
        if batch.is_none() {
            self.turns.close(input);
        }
        Ok(Some(batch.ok_or(input)))
    }

    /// Bytes read so far.
    pub fn bytes_read(&self) -> u64 {
        self.inputs.iter().map(Opened::bytes_read).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_input_furthest_behind_comes_next() {
        let reached = Reached::new(3);
        let mut turns = Turns::new(3, false);
        assert_eq!(turns.next(&reached), Some(0));
        reached.note(0, Micros(50));
        reached.note(1, Micros(20));
        reached.note(2, Micros(30));
        assert_eq!(turns.next(&reached), Some(1));
        assert_eq!(Turns::new(3, true).next(&reached), Some(0));
        turns.close(1);
        assert_eq!(turns.next(&reached), Some(2));
        (0..3).for_each(|input| turns.close(input));
        assert_eq!(turns.next(&reached), None);
    }
}
