//! A lake of simulated events, as the service writes it.
//!
//! In: a folder, how many events. Out: [`Filled`]. Invariant: the same events on every machine; three of them hold what the queries look for.

use std::{path::Path, sync::Arc};

use anyhow::{Context as _, Result};
use vedette_decode::{Decoder, all_fields};
use vedette_event::{
    Flags, Micros, Partition, Placed, Projection, RawBatchBuilder, SourceIx, Sources, TopicIx,
};
use vedette_hunt::{
    Columns, Converter, Origin,
    lake::{Writer, lean, placed},
};
use vedette_simulate::{Feed, Record, Simulator};
use vedette_store::model::LakeFile;

/// 2026-01-01T12:00:00Z.
const START: Micros = Micros(1_767_268_800_000_000);
/// Events a second of the simulated time.
const RATE: u32 = 5_000;
/// Bytes that the service lets wait.
const WAITING: usize = 96 << 20;
const RECORDS: usize = 512;

/// An address that one event has.
pub const ADDRESS: &str = "192.0.2.77";
/// A word that one event has.
pub const WORD: &str = "zanzibar";

/// What was written.
#[derive(Default)]
pub struct Filled {
    /// The files.
    pub files: Vec<LakeFile>,
    /// Bytes of all records.
    pub raw: u64,
    /// Events.
    pub events: u64,
}

/// What becomes of one feed's records.
struct Shaper {
    source: SourceIx,
    name: Arc<str>,
    decoder: Decoder,
    converter: Converter,
    waiting: Vec<Record>,
    offset: i64,
}

impl Shaper {
    fn new(feed: Feed, sources: &Sources) -> Result<Self> {
        let source = sources.find(feed.source()).context("a source of the simulator")?;
        let def = sources.get(source);
        let fields = all_fields(def, &sources.fields);
        let projection = Projection::new(fields.iter().cloned());
        let decoder = Decoder::new(def, &sources.fields, &projection, [7; 32])?;
        let columns = Columns::of_lake(fields.iter().map(|name| &**name), &sources.fields, true);
        let (name, converter) = (def.name.clone(), columns.converter()?);
        Ok(Self { source, name, decoder, converter, waiting: Vec::new(), offset: 0 })
    }

    /// Writes what waits down.
    fn flush(&mut self, writer: &mut Writer) -> Result<u64> {
        let partition = Partition { topic: TopicIx(0), number: 0 };
        let mut raw = RawBatchBuilder::new(self.source, partition);
        for (record, offset) in self.waiting.iter().zip(self.offset..) {
            raw.push(offset, Some(record.time), Flags::NONE, Some(record.line.as_bytes()));
        }
        let raw = raw.take();
        let (mut events, mut dead) = (Vec::new(), Vec::new());
        self.decoder.decode(&raw, &mut events, &mut dead);
        let from = Origin { source: self.name.clone(), topic: self.name.clone(), partition: 0 };
        let mut rows = 0;
        for batch in &events {
            let times = batch.records.iter().filter_map(|at| self.waiting.get(*at as usize));
            let times: Vec<Micros> = times.map(|record| record.time).collect();
            let places: Vec<Placed> =
                times.iter().map(|time| Placed { time: *time, flags: Flags::NONE }).collect();
            let made = self.converter.convert(batch, &from, |_| Vec::new())?;
            let bytes = raw.data.len() * batch.rows() / self.waiting.len().max(1)
                + made.num_columns() * batch.rows() * 4;
            writer.push(&self.name, &lean(&placed(&made, &places, &times, 0)?)?, bytes)?;
            rows += batch.rows() as u64;
        }
        self.offset += self.waiting.len() as i64;
        self.waiting.clear();
        Ok(rows)
    }
}

/// Fills a folder with this many events, a few more or less.
pub fn fill(folder: &Path, rows: u64, sources: &Sources) -> Result<Filled> {
    let mut simulator = Simulator::new(1, START, RATE);
    let mut shapers = Feed::ALL.iter().map(|feed| Ok((*feed, Shaper::new(*feed, sources)?)));
    let mut shapers = shapers.by_ref().collect::<Result<Vec<_>>>()?;
    let mut writer = Writer::new(folder);
    let mut filled = Filled::default();
    let mut planted = [false; 2];
    while filled.events < rows {
        let mut record = simulator.next_record();
        if filled.events > rows * 6 / 10 {
            plant(&mut record, &mut planted);
        }
        filled.raw += record.line.len() as u64 + 1;
        let shaper = shapers.iter_mut().find(|(feed, _)| *feed == record.feed);
        let (_, shaper) = shaper.context("a feed of the simulator")?;
        shaper.waiting.push(record);
        if shaper.waiting.len() == RECORDS {
            filled.events += shaper.flush(&mut writer)?;
        }
        if writer.bytes() >= WAITING {
            filled.files.extend(writer.write(START)?);
            writer.written();
        }
    }
    for (_, shaper) in &mut shapers {
        filled.events += shaper.flush(&mut writer)?;
    }
    filled.files.extend(writer.write(START)?);
    Ok(filled)
}

/// Puts an address into one event of the firewall, and a word into one of the web.
fn plant(record: &mut Record, planted: &mut [bool; 2]) {
    match record.feed {
        Feed::Firewall if !planted[0] && record.line.contains(&record.source) => {
            record.line = record.line.replace(&record.source, ADDRESS);
            planted[0] = true;
        }
        Feed::Waf if !planted[1] && record.line.contains("\"page=") => {
            record.line = record.line.replace("\"page=", &format!("\"to={WORD}&page="));
            planted[1] = true;
        }
        _ => {}
    }
}
