//! The data folder: one engine at a time, and nothing is read from what is damaged or too new. Needs no Kafka.

use std::{fs, path::Path, sync::Arc, time::Duration};

use anyhow::{Context, Result, ensure};
use sqlx::Connection;
use vedette_engine::{Compiled, Engine};
use vedette_event::{Micros, Severity, Sources, Topics};
use vedette_sigma::Lists;
use vedette_store::{
    Access,
    model::{Checkpoint, HealthEvent, Publication},
};

use super::{
    program::{Deployment, Ended},
    stored::{read, with_store},
};

/// Nobody listens there.
const NOWHERE: &str = "brokers: 127.0.0.1:9\ntopics: [{name: api, source: exchange_api}]";

/// A deployment that has run and was stopped.
fn used() -> Result<Deployment> {
    let deployment = Deployment::new(NOWHERE, "")?;
    let mut process = deployment.run()?;
    process.ready(503, "broker-unreachable")?;
    let stopped = process.stop()?;
    ensure!(stopped < Duration::from_secs(10), "stopping took {stopped:?}");
    Ok(deployment)
}

fn sql(folder: &Path, statement: &'static str) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        sqlx::any::install_default_drivers();
        let url = format!("sqlite://{}", folder.join("vedette.db").display());
        let mut connection = sqlx::AnyConnection::connect(&url).await?;
        let done = sqlx::query(statement).execute(&mut connection).await?;
        ensure!(done.rows_affected() == 1, "{statement}: {done:?}");
        Ok(connection.close().await?)
    })
}

/// It ended with status 3, saying all of this, and without a panic.
fn refused(ended: &Ended, says: &[&str]) -> Result<()> {
    ensure!(ended.code == Some(3) && !ended.log.contains("panicked"), "{ended:?}");
    let last = ended.log.lines().last().context("it said nothing")?;
    for part in says {
        ensure!(last.contains(part), "`{part}` is not in: {last}");
    }
    Ok(())
}

#[test]
fn a_second_process_on_the_same_folder_is_refused() -> Result<()> {
    let deployment = Deployment::new(NOWHERE, "")?;
    let mut first = deployment.run()?;
    first.address()?;
    let second = deployment.run_in_vain()?;
    refused(&second, &["in use by another vedette process", &deployment.data().display().to_string()])?;
    // The first goes on, and a tool may look in.
    ensure!(deployment.token()?.len() > 20);
    first.ready(503, "broker-unreachable")?;
    first.stop()?;
    // Killed, it leaves nothing that holds up the next one.
    let mut third = deployment.run()?;
    third.address()?;
    third.kill()?;
    let mut fourth = deployment.run()?;
    fourth.address()?;
    fourth.stop()?;
    Ok(())
}

#[test]
fn a_start_that_is_refused_and_a_command_leave_the_store_closed() -> Result<()> {
    let deployment = used()?;
    let is_closed = |after: &str| {
        let mark = fs::read_to_string(deployment.data().join("vedette.store"))?;
        let database = fs::metadata(deployment.data().join("vedette.db"))?;
        let changed = database.modified()?.duration_since(std::time::SystemTime::UNIX_EPOCH)?;
        let closed = format!("closed at {} bytes, {} ns", database.len(), changed.as_nanos());
        ensure!(mark.lines().nth(1) == Some(&closed), "{after}: not {closed}: {mark}");
        Ok(())
    };
    is_closed("a stop")?;
    ensure!(deployment.token()?.len() > 20);
    is_closed("token create")?;
    let runs = |args: &[&str], listen: &str| -> Result<(Option<i32>, String)> {
        let done = deployment.command(args)?.env("VEDETTE_API_LISTEN", listen).output()?;
        Ok((done.status.code(), String::from_utf8(done.stderr)?))
    };
    let taken = std::net::TcpListener::bind("127.0.0.1:0")?;
    let (code, said) = runs(&["run"], &taken.local_addr()?.to_string())?;
    ensure!(code == Some(3) && said.contains("in use"), "{code:?} {said}");
    is_closed("an address in use")?;
    for (args, status) in [
        (&["token", "revoke", "--name", "crash"][..], 0),
        (&["topic", "accept", "api"], 2),
        (&["topic", "accept", "api", "--force"], 0),
        (&["checkpoint", "reset"], 2),
    ] {
        let (code, said) = runs(args, "127.0.0.1:0")?;
        ensure!(code == Some(status), "{args:?}: {code:?} {said}");
        is_closed(&args.join(" "))?;
    }
    with_store(&deployment.data(), Access::Engine, async |store| {
        let garbage =
            Checkpoint { group: 13, bytes: b"garbage of some length, more than a checksum has".to_vec() };
        Ok(store.save_checkpoints(&[garbage]).await?)
    })?;
    refused(&deployment.run_in_vain()?, &["checkpoint", "key group 13"])?;
    is_closed("a damaged checkpoint")
}

#[test]
fn a_damaged_checkpoint_is_refused_by_name() -> Result<()> {
    let deployment = used()?;
    ensure!(read(&deployment.data())?.bodies.is_empty());
    sql(&deployment.data(), "update checkpoints set state = x'00112233' where key_group = 9")?;
    refused(
        &deployment.run_in_vain()?,
        &["checkpoint", "key group 9", "damaged; `vedette checkpoint reset`"],
    )?;

    // Stored soundly, and not what the engine wrote.
    let deployment = used()?;
    with_store(&deployment.data(), Access::Engine, async |store| {
        let garbage =
            Checkpoint { group: 13, bytes: b"garbage of some length, more than a checksum has".to_vec() };
        Ok(store.save_checkpoints(&[garbage]).await?)
    })?;
    refused(&deployment.run_in_vain()?, &["checkpoint", "key group 13", "; `vedette checkpoint reset`"])
}

/// What an engine stores with its alerts, of no partition at all.
fn positions() -> Result<Checkpoint> {
    let sources = Arc::new(Sources::default());
    let rules = Arc::new(vedette_sigma::load(&[], &Lists::new(), &sources));
    let compiled = Compiled::new(rules, sources, Arc::new(Topics::new(["api"])), [0; 32]);
    let positions = Engine::new(compiled, vedette_engine::EngineSettings::new([0; 32])).positions()?;
    Ok(Checkpoint { group: positions.group, bytes: positions.bytes })
}

#[test]
fn a_damaged_checkpoint_can_be_dropped_and_nothing_else_is() -> Result<()> {
    let deployment = used()?;
    deployment.token()?;
    let reset = || -> Result<(Option<i32>, String)> {
        let done = deployment.command(&["checkpoint", "reset"])?.output()?;
        Ok((done.status.code(), String::from_utf8(done.stderr)?))
    };
    let damage = || sql(&deployment.data(), "update checkpoints set state = x'00' where key_group = 9");
    damage()?;
    let (code, said) = reset()?;
    ensure!(code == Some(2) && said.contains("no alert was ever stored"), "{code:?} {said}");
    let save = async |store: &vedette_store::Store| Ok(store.save_checkpoints(&[positions()?]).await?);
    with_store(&deployment.data(), Access::Engine, save)?;
    let (code, said) = reset()?;
    ensure!(code == Some(0) && said.contains("64 checkpoints are dropped"), "{code:?} {said}");
    let mut process = deployment.run()?;
    process.ready(503, "broker-unreachable")?;
    let (code, said) = reset()?;
    ensure!(code == Some(3) && said.contains("in use by another vedette process"), "{code:?} {said}");
    process.stop()?;
    let listed = deployment.command(&["token", "list"])?.output()?;
    ensure!(String::from_utf8(listed.stdout)?.contains("crash"), "the token is gone");

    damage()?;
    sql(&deployment.data(), "update checkpoints set state = x'00' where key_group = 64")?;
    let (code, said) = reset()?;
    ensure!(code == Some(3) && said.contains("restore the data folder from a backup"), "{code:?} {said}");
    Ok(())
}

#[test]
fn a_store_of_a_newer_version_is_refused_and_left_alone() -> Result<()> {
    let deployment = used()?;
    let newer = "insert into _sqlx_migrations (version, description, success, checksum, execution_time) \
                 values (99, 'later', 1, x'00', 0)";
    sql(&deployment.data(), newer)?;
    for _ in 0..2 {
        refused(
            &deployment.run_in_vain()?,
            &["format 99", "newer version", &deployment.data().display().to_string()],
        )?;
    }
    Ok(())
}

#[test]
fn a_topic_is_accepted_once_for_each_time_it_was_recreated() -> Result<()> {
    let deployment = used()?;
    let accept = |flags: &[&str]| -> Result<(Option<i32>, String)> {
        let done = deployment.command(&[&["topic", "accept", "api"], flags].concat())?.output()?;
        Ok((done.status.code(), String::from_utf8(done.stderr)?))
    };
    let refused = || -> Result<()> {
        let (code, said) = accept(&[])?;
        ensure!(code == Some(2) && said.contains("every alert come again under a new id"), "{code:?} {said}");
        Ok(())
    };
    refused()?;
    let health = HealthEvent {
        key: "recreated/api/0".into(),
        at: Micros(1),
        kind: "ingest".into(),
        severity: Severity::Critical,
        message: "api was recreated".into(),
    };
    let publish = async |store: &vedette_store::Store| {
        store.publish(&Publication { health: vec![health], ..Publication::default() }).await?;
        Ok(())
    };
    with_store(&deployment.data(), Access::Engine, publish)?;
    let (code, said) = accept(&[])?;
    ensure!(code == Some(0) && said.contains("accepted as incarnation 1"), "{code:?} {said}");
    refused()?;
    let (code, said) = accept(&["--force"])?;
    ensure!(code == Some(0) && said.contains("accepted as incarnation 2"), "{code:?} {said}");
    Ok(())
}

#[test]
fn a_store_that_is_lost_under_the_process_stops_it_and_is_not_begun_anew() -> Result<()> {
    let other = used()?;
    for (deed, says) in [("delete", "is gone"), ("replace", "was replaced"), ("overwrite", "")] {
        let deployment = used()?;
        let mut process = deployment.run()?;
        process.address()?;
        let file = deployment.data().join("vedette.db");
        match deed {
            "delete" => fs::remove_file(&file)?,
            "replace" => {
                fs::copy(other.data().join("vedette.db"), deployment.data().join("copy"))?;
                fs::rename(deployment.data().join("copy"), &file)?;
            }
            _ => fs::write(&file, vec![0; 1 << 20])?,
        }
        // It looks every two seconds; the rest is for a busy machine. Who meets garbage first says what it found.
        let code = process.ended(Duration::from_secs(30))?;
        refused(&Ended { code, log: process.log().join("\n") }, &[says, "restore it from a backup"])?;
        if deed == "delete" {
            for _ in 0..2 {
                refused(&deployment.run_in_vain()?, &["is gone; restore it from a backup", "vedette.store"])?;
            }
            let token = deployment.command(&["token", "list"])?.output()?;
            ensure!(token.status.code() == Some(3), "{token:?}");
            fs::remove_file(deployment.data().join("vedette.store"))?;
            let mut anew = deployment.run()?;
            anew.address()?;
            anew.stop()?;
        }
    }
    Ok(())
}

#[test]
fn only_a_store_that_was_not_closed_in_order_is_checked_and_the_start_does_not_wait_for_it() -> Result<()> {
    let deployment = used()?;
    let mut process = deployment.run()?;
    process.address()?;
    process.kill()?;
    ensure!(!process.log().iter().any(|line| line.contains("was checked")), "{:?}", process.log());
    let mut process = deployment.run()?;
    process.address()?;
    process.says("the store was checked and is whole")?;
    process.stop()?;
    let found =
        with_store(&deployment.data(), Access::Tool, async |store| Ok(store.health_events(10).await?))?;
    ensure!(found.iter().any(|event| event.kind == "store_checked"), "{found:?}");
    Ok(())
}
