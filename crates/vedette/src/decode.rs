//! `vedette decode`: what becomes of each record.
//!
//! In: logs of one source. Out: one flat JSON object of canonical fields a line; dead letters to a file or standard error.

use std::{
    fs::File,
    io::{self, BufWriter, Write},
    path::PathBuf,
};

use vedette_decode::Inspector;

use crate::{Failure, World as _, content, inputs, scan::FILE_SECRET};

/// What `decode` is asked for.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  vedette decode --source paloalto --dead-letters dead.ndjson firewall.log | head")]
pub struct Args {
    /// A source of schemas/sources, `json`, or `auto`.
    #[arg(long, value_name = "NAME")]
    source: String,
    /// Where to write the records that cannot be read, with the reason; by default they are counted by reason.
    #[arg(long, value_name = "FILE")]
    dead_letters: Option<PathBuf>,
    /// Logs, plain, gzip or zstd; `-` is standard input.
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
}

/// Runs the command.
pub fn run(args: &Args) -> Result<u8, Failure> {
    let all = content::sources(None).world()?;
    let (sources, inputs) = inputs::open(&args.files, &args.source, &all)?;
    let mut out = BufWriter::new(io::stdout().lock());
    let mut dead_file = match &args.dead_letters {
        None => None,
        Some(path) => Some(BufWriter::new(File::create(path).world()?)),
    };
    let mut counts = std::collections::BTreeMap::<&str, u64>::new();
    for mut input in inputs {
        let def = sources.get(input.source());
        let mut inspector =
            Inspector::new(def, &sources.fields, FILE_SECRET).map_err(|e| Failure::World(e.into()))?;
        while let Some(raw) = input.next() {
            let raw = raw.map_err(|e| Failure::World(e.into()))?;
            for record in &raw.records {
                match inspector.inspect(record.offset, raw.payload(record)) {
                    Ok(events) => {
                        for event in events {
                            serde_json::to_writer(&mut out, &event).map_err(io::Error::from).world()?;
                            out.write_all(b"\n").world()?;
                        }
                    }
                    Err(refused) => {
                        *counts.entry(refused.reason.name()).or_default() += 1;
                        if let Some(out) = &mut dead_file {
                            let payload = String::from_utf8_lossy(raw.payload(record).unwrap_or_default());
                            let line = serde_json::json!({
                                "file": input.name(),
                                "record": record.offset,
                                "reason": refused.reason.name(),
                                "detail": &*refused.detail,
                                "payload": payload,
                            });
                            writeln!(out, "{line}").world()?;
                        }
                    }
                }
            }
        }
    }
    out.flush().world()?;
    if let Some(mut file) = dead_file {
        file.flush().world()?;
    }
    for (reason, n) in counts {
        eprintln!("{n} dead letters: {reason}");
    }
    Ok(0)
}
