//! Writes the first inputs of every fuzz target, from the simulator and the project's own rules.
//!
//! In: a folder. Out: `<folder>/<target>/<name>`, the same on every machine.

use std::{fs, io, path::Path};

use vedette_fuzz::{CORRELATIONS, RULES, answers, hunting, playbooks, restoring};
use vedette_simulate::{Feed, Simulator};

/// Records of the simulator's day that are looked through.
const RECORDS: usize = 3_000;
/// Of each feed, every so many-th becomes a seed.
const STEP: usize = 40;

fn main() -> io::Result<()> {
    let folder = std::env::args().nth(1).ok_or_else(|| io::Error::other("usage: seeds FOLDER"))?;
    let folder = Path::new(&folder);
    let write = |target: &str, name: &str, parts: &[&[u8]]| {
        let folder = folder.join(target);
        fs::create_dir_all(&folder)?;
        fs::write(folder.join(name), parts.concat())
    };

    let mut simulator = Simulator::new(3, restoring::START, 50);
    let records: Vec<_> = (0..RECORDS).map(|_| simulator.next_record()).collect();
    // The number of each feed's source in `decode_json`, and in `evaluate`.
    for (feed, form, source) in [(Feed::Firewall, 0, 0), (Feed::Waf, 2, 1), (Feed::Api, 1, 2)] {
        let lines: Vec<_> = records.iter().filter(|r| r.feed == feed).map(|r| r.line.as_bytes()).collect();
        for (at, line) in lines.iter().step_by(STEP).enumerate() {
            let name = format!("{}-{at}", feed.topic());
            write("evaluate", &name, &[&[source], line])?;
            if feed == Feed::Firewall {
                write("decode_panos", &name, &[line])?;
                write("views", &name, &[&[64], line])?;
            } else {
                write("decode_json", &name, &[&[form], line])?;
            }
        }
    }
    let events = include_str!("../rules/json.json");
    for (at, line) in events.lines().enumerate() {
        write("evaluate", &format!("json-{at}"), &[&[3], line.as_bytes()])?;
        write("decode_json", &format!("json-{at}"), &[&[0], line.as_bytes()])?;
    }
    write("evaluate", "json-all", &[&[3], events.as_bytes()])?;

    for (at, document) in RULES.split("---\n").enumerate() {
        write("rules", &format!("rule-{at}"), &[document.as_bytes()])?;
    }
    for (name, text) in playbooks::SHIPPED {
        write("playbooks", name, &[text.as_bytes()])?;
    }
    for (at, text) in hunting::QUERIES.iter().enumerate() {
        write("hunts", &format!("query-{at}"), &[text.as_bytes()])?;
    }
    for (how, bytes) in [(0, &b"vdskip\0\x01"[..]), (1, &[40, 0, 1]), (2, &[200, 0]), (3, &[0, 1, 0, 2])] {
        write("skip_indexes", &format!("how-{how}"), &[&[how], bytes])?;
    }
    for (name, text) in answers::DOCUMENTED {
        write("firewall_answers", name, &[text.as_bytes()])?;
    }
    let (rules, correlations) = CORRELATIONS.split_at(CORRELATIONS.find("title: Count\n").unwrap_or(0));
    for (at, document) in correlations.split("---\n").enumerate() {
        write("rules", &format!("correlation-{at}"), &[rules.as_bytes(), document.as_bytes()])?;
    }

    let mut checkpoints = restoring::checkpoints();
    checkpoints.sort_by_key(|checkpoint| std::cmp::Reverse(checkpoint.bytes.len()));
    for checkpoint in checkpoints.iter().step_by(6) {
        let (header, state) = restoring::unsealed(checkpoint);
        let group = checkpoint.group;
        write("restore", &format!("state-{group}"), &[&[1, group], state])?;
        write("restore", &format!("partitions-{group}"), &[&[2, group], header])?;
        write("restore", &format!("whole-{group}"), &[&[0, group], &checkpoint.bytes])?;
    }
    Ok(())
}
