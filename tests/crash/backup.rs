//! A copy that was made while the service was busy is a data folder like any other.

use std::{fs, thread, time::Duration};

use anyhow::{Context as _, Result, ensure};
use vedette_event::Span;

use super::{
    kills::{finish, same},
    lake::{held, held_in_the_end, originals, said},
    log::{self, Plan},
    program::Deployment,
    stored,
};
use crate::{binary::binary, kafka::broker::Broker};

const PLAN: Plan =
    Plan { prefix: "backup", partitions: 2, seeds: [7, 8, 9], rate: 100, duration: Duration::from_secs(14) };

#[test]
fn what_goes_on_from_a_copy_ends_where_the_original_does() -> Result<()> {
    let Some(broker) = Broker::shared("crash::backup")? else { return Ok(()) };
    PLAN.create_topics(&broker)?;
    let more = "engine: {skew: 1s}\nlake: {flush: 1s, originals: {records: all}}\n";
    let deployment = Deployment::new(&PLAN.kafka(&broker, "1s"), more)?;
    let copy = deployment.folder().join("copy");
    let to = copy.to_str().context("a path")?;
    // Where it is to be built first, that takes longer than all records.
    binary()?;
    thread::scope(|scope| -> Result<()> {
        let writer = scope.spawn(|| PLAN.write(&broker));
        let mut process = deployment.run()?;
        thread::sleep(Duration::from_secs(5));
        // As if an earlier one had been interrupted.
        fs::create_dir_all(deployment.folder().join("copy.incomplete/lake"))?;
        fs::write(deployment.folder().join("copy.incomplete/vedette.db"), "half of it")?;
        said(&deployment, &["backup", to])?;
        let again = deployment.command(&["backup", to])?.output()?;
        ensure!(again.status.code() == Some(2), "{again:?}");
        writer.join().map_err(|_| anyhow::anyhow!("the writer panicked"))??;
        process.stop().map(drop)
    })?;
    let end = log::now().plus(Span::secs(4));
    finish(&deployment, end)?;
    let (original, events) = (stored::read(&deployment.data())?, held(&deployment)?);

    fs::rename(deployment.data(), deployment.folder().join("before"))?;
    fs::rename(&copy, deployment.data())?;
    said(&deployment, &["lake", "verify"])?;
    let taken = held(&deployment)?;
    let logs = PLAN.read(&broker)?;
    ensure!(originals(&deployment, &logs)? == taken.len(), "not all originals are in the copy");
    ensure!(!taken.is_empty() && taken.len() < events.len(), "{} of {} events", taken.len(), events.len());
    finish(&deployment, end)?;
    same(&stored::read(&deployment.data())?, &original)?;
    let kept = held_in_the_end(&deployment, events.len())?;
    ensure!(kept == events && events.values().all(|n| *n == 1), "the lake differs");
    ensure!(!original.bodies.is_empty() && events.len() > 2_000, "{} events", events.len());
    Ok(())
}
