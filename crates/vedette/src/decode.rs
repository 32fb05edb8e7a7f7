//! `vedette decode`: what becomes of each record.
//!
//! In: logs of one source. Out: one flat JSON object of canonical fields a line; dead letters to a file or standard error.

use std::{
    fs::File,
    io::{self, BufWriter, IsTerminal as _, Write},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use vedette_decode::Inspector;

use crate::{Failure, World as _, content, inputs, scan::FILE_SECRET, table};

/// What `decode` is asked for.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  vedette decode --source paloalto firewall.log | head -3
  vedette decode --source my_source --unmapped sample.log | jq -c '.\"event.unmapped\"'
  vedette decode --source paloalto --dead-letters dead.ndjson firewall.log > events.ndjson
  kcat -C -t api -e | vedette decode --source exchange_api -

Each line has the record's number in vedette.offset. Fields are those of schemas/fields.yml; secrets are masked.
Sources are the files of schemas/sources in the working folder, else those that came with the program.
Exit status: 0 done (dead letters are no failure), 2 wrong use, 3 a file cannot be read or written.")]
pub struct Args {
    /// A source of schemas/sources (`paloalto`, `json`, …), or `auto` to tell each file's from its form.
    #[arg(long, value_name = "NAME", default_value = "auto")]
    source: String,
    /// Show all that no field took in `event.unmapped`, under the record's own names: what a mapping leaves out.
    #[arg(long)]
    unmapped: bool,
    /// Where to write the records that cannot be read, each with the reason; they are counted by reason in any case.
    #[arg(long, value_name = "FILE")]
    dead_letters: Option<PathBuf>,
    /// Logs, plain, gzip or zstd; `-`, or none, is standard input.
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
}

/// Writing dead letters must not overwrite what is read.
fn check_apart(dead_letters: &Path, files: &[PathBuf]) -> anyhow::Result<()> {
    if dead_letters.as_os_str() == "-" {
        bail!("--dead-letters: name a file; standard output has the events");
    }
    let which = |path: &Path| {
        let about = path.metadata().ok().filter(std::fs::Metadata::is_file)?;
        Some((about.dev(), about.ino()))
    };
    let written = which(dead_letters);
    if written.is_some() && files.iter().any(|path| which(path) == written) {
        bail!("--dead-letters: `{}` is a file that is read; name another", dead_letters.display());
    }
    Ok(())
}

/// Runs the command.
pub fn run(args: &Args) -> Result<u8, Failure> {
    let all = content::sources_here().map_err(Failure::Usage)?;
    let (sources, inputs) = inputs::open(&args.files, &args.source, &all)?;
    let terminal = io::stdout().is_terminal();
    let mut out = BufWriter::new(io::stdout().lock());
    let mut dead_file = match &args.dead_letters {
        None => None,
        Some(path) => {
            check_apart(path, &args.files).map_err(Failure::Usage)?;
            let file = File::create(path).with_context(|| format!("cannot write `{}`", path.display()));
            Some(BufWriter::new(file.world()?))
        }
    };
    let (mut records, mut decoded) = (0_u64, 0_u64);
    let mut counts = std::collections::BTreeMap::<&str, u64>::new();
    for mut input in inputs {
        let def = sources.get(input.label().source);
        let mut inspector =
            Inspector::new(def, &sources.fields, FILE_SECRET).map_err(|e| Failure::Usage(e.into()))?;
        if args.unmapped {
            inspector = inspector.unmapped();
        }
        while let Some(raw) = input.next() {
            let raw = raw.world()?;
            records += raw.records.len() as u64;
            for record in &raw.records {
                match inspector.inspect(record.offset, raw.payload(record)) {
                    Ok(events) => {
                        decoded += events.len() as u64;
                        for event in events {
                            table::write_json(&mut out, &event, terminal).world()?;
                            out.write_all(b"\n").world()?;
                        }
                    }
                    Err(refused) => {
                        *counts.entry(refused.reason.name()).or_default() += 1;
                        if let Some(out) = &mut dead_file {
                            let payload = String::from_utf8_lossy(raw.payload(record).unwrap_or_default());
                            let line = serde_json::json!({
                                "file": input.label().name,
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
    say!("{records} records: {decoded} events, {} dead letters", counts.values().sum::<u64>());
    for (reason, n) in &counts {
        say!("  {n} {reason}");
    }
    Ok(0)
}
