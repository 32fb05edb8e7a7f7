//! Evidence: fetched in a storm, and told apart where there is none.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use vedette_event::{Micros, Severity, State};
use vedette_store::{
    Access,
    model::{AlertRevision, Content, Publication},
};

use super::{
    poison::refusal,
    program::{Deployment, PATIENCE, Process},
    stored::with_store,
};
use crate::kafka::broker::Broker;

const PARTITIONS: i32 = 3;
/// Fewer than the alerts of one rule in an hour that become one.
const STORM: usize = 900;

/// An alert of an earlier run that refers to these partitions, offsets and indexes of a topic.
fn alert(id: &str, topic: &str, of: &[(i32, i64, u32)]) -> AlertRevision {
    let reference = |(partition, offset, index): &(i32, i64, u32)| {
        serde_json::json!({
            "topic": topic, "partition": partition, "offset": offset, "index": index,
            "time": "2026-01-01T00:00:00Z", "flags": [],
        })
    };
    let evidence: Vec<_> = of.iter().map(reference).collect();
    AlertRevision {
        alert_id: id.to_owned(),
        revision: 1,
        state: State::Ended,
        continuation: false,
        rule_id: "earlier".to_owned(),
        rule_title: "Earlier".to_owned(),
        tags: Vec::new(),
        severity: Severity::Low,
        key: "{}".to_owned(),
        entity: None,
        sources: vec!["json".to_owned()],
        first_seen: Micros(1),
        crossed_at: Micros(1),
        last_seen: Micros(1),
        covers_until: Micros(1),
        count: of.len() as u64,
        measured: None,
        summary: "an earlier alert".to_owned(),
        concerns: Vec::new(),
        body: serde_json::json!({ "evidence": evidence }).to_string(),
    }
}

/// Ids of the rows that await evidence.
fn awaiting(folder: &Path) -> Result<Vec<String>> {
    with_store(folder, Access::Tool, async |store| {
        let rows = store.awaiting_evidence(0, 10 * STORM as u32).await?;
        Ok(rows.into_iter().map(|row| row.id).collect())
    })
}

/// Waits until only these rows await evidence.
fn only(process: &mut Process, folder: &Path, left: &[&str]) -> Result<()> {
    process.until("the evidence", |_| awaiting(folder).is_ok_and(|ids| ids == left).then_some(()))
}

#[test]
fn a_storm_s_evidence_is_fetched_and_what_cannot_be_had_holds_nothing_up() -> Result<()> {
    let Some(broker) = Broker::shared("crash::evidence")? else { return Ok(()) };
    broker.create_topic("storm", PARTITIONS, &[])?;
    broker.produce("storm", 0, &[&b"deleted"[..], b"not JSON", &refusal("first")])?;
    broker.delete_records("storm", 0, 1)?;
    let kafka =
        format!("brokers: {}\ntopics: [{{name: storm, source: json, disorder: 1s}}]", broker.bootstrap());
    let deployment = Deployment::new(&kafka, "engine: {skew: 1s}\n")?;
    let folder = deployment.data();
    let earlier = [
        alert("never", "storm", &[(99, 0, 0), (0, 2, 0)]),
        alert("elsewhere", "no-longer-configured", &[(0, 0, 0)]),
        alert("mixed", "storm", &[(0, 0, 0), (0, 1, 0), (0, 2, 0), (0, 2, 5)]),
    ];
    with_store(&folder, Access::Engine, async |store| {
        Ok(store.publish(&Publication { alerts: earlier.to_vec(), ..Publication::default() }).await?)
    })?;
    let mut process = deployment.run()?;
    // Its second record is there, which makes it the row that changed last.
    only(&mut process, &folder, &["elsewhere", "never"])?;

    let began = Instant::now();
    for partition in 0..PARTITIONS {
        let hosts = (0..STORM).filter(|n| n % 3 == partition as usize);
        let records: Vec<_> = hosts.map(|n| refusal(&format!("storm-{n}"))).collect();
        broker.produce("storm", partition, &records)?;
    }
    process.until("the storm's alerts", |_| {
        let ids = with_store(&folder, Access::Tool, async |store| {
            Ok(store.summary(vedette_store::model::SummaryBy::State, &Default::default()).await?)
        });
        // Ended or active, and the earlier three and the first.
        let groups = ids.ok()?.groups;
        let alerts: u64 = groups.iter().filter(|group| group.name != "notice").map(|group| group.count).sum();
        (alerts >= STORM as u64 + 4).then_some(())
    })?;
    let alerted = began.elapsed();
    only(&mut process, &folder, &["elsewhere", "never"])?;
    println!("{STORM} alerts after {alerted:?}, all evidence after {:?}", began.elapsed());
    ensure!(began.elapsed() < PATIENCE + Duration::from_secs(30));
    process.stop()?;

    with_store(&folder, Access::Tool, async |store| {
        let of = async |id: &str| -> Result<Vec<Content>> {
            Ok(store.evidence(id).await?.into_iter().map(|c| c.content).collect())
        };
        let mixed = of("mixed").await?;
        ensure!(
            matches!(
                &mixed[..],
                [Content::Gone, Content::Undecodable(_), Content::Present(first), Content::Undecodable(missing)]
                    if first.contains("\"host.name\":\"first\"") && missing.contains("no event 5")
            ),
            "{mixed:?}"
        );
        ensure!(
            matches!(&of("never").await?[..], [Content::Present(_)]) && of("elsewhere").await?.is_empty()
        );
        Ok(())
    })?;
    let stored = super::stored::read(&folder)?;
    with_store(&folder, Access::Tool, async |store| {
        for (id, (_, body)) in stored.bodies.iter().filter(|(_, (_, body))| body.contains("storm-")) {
            let body: serde_json::Value = serde_json::from_str(body)?;
            let host = body["key"]["host.name"].to_string();
            let contents = store.evidence(id).await?;
            let shown = |c: &Content| matches!(c, Content::Present(text) if text.contains(&host));
            ensure!(contents.len() == 1 && shown(&contents[0].content), "{host}: {contents:?}");
        }
        Ok(())
    })
}
