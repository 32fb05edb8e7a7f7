//! Writes a simulated stretch of the exchange's day to files, one a source, in the sources' wire formats.
//!
//! In: a folder, seconds of the day, a seed, a rate. Out: `firewall.log`, `waf.ndjson`, `api.ndjson`.
//! `cargo run -p vedette-simulate --example day -- target/day 600`

use std::{env, fs, io::Write as _, path::Path};

use vedette_event::{Micros, Span};
use vedette_simulate::{Feed, Simulator};

/// 2026-01-01T12:00:00Z.
const START: Micros = Micros(1_767_268_800_000_000);

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = env::args().skip(1).collect();
    let Some(folder) = args.first().map(Path::new) else {
        return Err("give a folder and, if you like, seconds (600), a seed (1) and a rate (200)".into());
    };
    let number = |at: usize, default: u64| args.get(at).map_or(Ok(default), |text| text.parse());
    let (seconds, seed, rate) = (number(1, 600)?, number(2, 1)?, number(3, 200)?);
    let end = START.plus(Span::secs(i64::try_from(seconds)?));
    fs::create_dir_all(folder)?;
    let mut files = Vec::new();
    for feed in Feed::ALL {
        let extension = if feed == Feed::Firewall { "log" } else { "ndjson" };
        let path = folder.join(format!("{}.{extension}", feed.topic()));
        files.push((feed, std::io::BufWriter::new(fs::File::create(path)?)));
    }
    let mut simulator = Simulator::new(seed, START, u32::try_from(rate)?);
    loop {
        let record = simulator.next_record();
        if record.time >= end {
            break;
        }
        if let Some((_, file)) = files.iter_mut().find(|(feed, _)| *feed == record.feed) {
            writeln!(file, "{}", record.line)?;
        }
    }
    for (_, mut file) in files {
        file.flush()?;
    }
    Ok(())
}
