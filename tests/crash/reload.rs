//! Rules that change while the service runs: by SIGHUP, by the API, by files that are written, between SIGKILLs; the bodies are those
//! of the kernel, told from when on which version was in force.

use std::{fs, path::PathBuf, sync::Arc, thread, time::Duration};

use anyhow::{Context, Result, ensure};
use serde_json::json;
use vedette_engine::Version;
use vedette_event::{Micros, Span, raw::record_hash};
use vedette_sigma::RuleFile;
use vedette_simulate::Random;
use vedette_store::{Access, model::RuleVersion};

use super::{
    kernel,
    kills::{agree, finish},
    log::{self, Log, Plan},
    poison::plain,
    program::{Deployment, api, send},
    stored,
};
use crate::{binary::root, kafka::broker::Broker};

const SEED: u64 = 20_261_127;
const DISORDER: &str = "1s";
const ENGINE: &str = "engine: {skew: 1s, threads: 3}\n";
const SETTLE: Span = Span::secs(4);

const PLAN: Plan =
    Plan { prefix: "reload", partitions: 2, seeds: [4, 5, 6], rate: 60, duration: Duration::from_secs(40) };

/// The suite's rules as they are edited the nth time: some rules mean something else, one is renamed, one comes and goes.
fn edited(n: usize) -> Result<String> {
    let text = fs::read_to_string(root().join("tests/crash/rules.yml"))?;
    let span = ["2s", "3s", "4s"][n % 3];
    let text = text.replace("timespan: 2s", &format!("timespan: {span}"));
    let text = text.replace("title: Session\n", &format!("title: Session {n}\n"));
    let extra = "---\ntitle: Now and then\nid: c0000000-0000-4000-8000-0000000000ff\nlogsource: {category: api}\n\
                 detection:\n    any: {user.name|exists: true}\n    condition: any\nlevel: low\n\
                 vedette: {emit: {rearm: 2s}}\n";
    Ok(if n % 2 == 1 { text + extra } else { text })
}

fn rules_of(deployment: &Deployment) -> PathBuf {
    deployment.folder().join("rules")
}

/// Puts a file in its place as a whole.
fn write(deployment: &Deployment, text: &str) -> Result<()> {
    let folder = rules_of(deployment);
    fs::create_dir_all(&folder)?;
    fs::write(deployment.folder().join("new"), text)?;
    Ok(fs::rename(deployment.folder().join("new"), folder.join("rules.yml"))?)
}

fn deployment(kafka: &str) -> Result<Deployment> {
    let deployment = Deployment::new(kafka, ENGINE)?;
    deployment.configure_rules(kafka, &rules_of(&deployment).display().to_string(), ENGINE)?;
    write(&deployment, &edited(0)?)?;
    Ok(deployment)
}

/// The versions that a run stored, compiled again from the edits: each row tells by its hash which edit it is of.
fn versions(rows: &[RuleVersion], edits: usize, logs: &[Log], folder: &str) -> Result<Vec<Arc<Version>>> {
    let mut known: Vec<Arc<Version>> = Vec::new();
    for row in rows {
        let mut found = None;
        for n in 0..edits {
            let file = RuleFile { path: format!("{folder}/rules.yml").into(), text: edited(n)? };
            let version = kernel::version(logs, Span::secs(1), &[file])?;
            let version = match known.last() {
                Some(before) => version.following(before, row.in_force_from),
                None => version,
            };
            if hash(&version)? == row.version && found.is_none() {
                found = Some(version);
            }
        }
        known.push(Arc::new(found.with_context(|| format!("version {} is of no edit", row.number))?));
    }
    Ok(known)
}

fn hash(version: &Version) -> Result<String> {
    let hexadecimal = |bytes: &[u8]| -> String { bytes.iter().map(|b| format!("{b:02x}")).collect() };
    let mut entries: Vec<(String, String)> = Vec::new();
    for (rule, since) in version.rules.rules.iter().zip(version.since.iter()) {
        let (id, meaning, since) = (json!(*rule.id), json!(hexadecimal(&rule.meaning)), since.0);
        let text = format!("{{\"id\":{id},\"meaning\":{meaning},\"since_us\":{since}}}");
        entries.push((rule.id.to_string(), text));
    }
    entries.sort();
    let texts: Vec<String> = entries.into_iter().map(|(_, text)| text).collect();
    Ok(hexadecimal(&record_hash(Some(format!("[{}]", texts.join(",")).as_bytes()))))
}

#[test]
fn rules_change_between_kills() -> Result<()> {
    let Some(broker) = Broker::shared("crash::reload")? else { return Ok(()) };
    PLAN.create_topics(&broker)?;
    let changed = deployment(&PLAN.kafka(&broker, DISORDER))?;
    // Built before records come.
    crate::binary::binary()?;
    let (edits, written) = thread::scope(|scope| -> Result<_> {
        let writer = scope.spawn(|| PLAN.write(&broker));
        let edits = edit_while(&changed, || !writer.is_finished())?;
        let written = writer.join().map_err(|_| anyhow::anyhow!("the writer panicked"))??;
        Ok((edits, written))
    })?;
    finish(&changed, log::now().plus(SETTLE))?;
    let logs = PLAN.read(&broker)?;
    let rows =
        stored::with_store(&changed.data(), Access::Tool, async |store| Ok(store.rule_versions().await?))?;
    let kept = rows.iter().filter(|row| !row.texts.is_empty()).count();
    println!("seed {SEED}: {written} records, {edits} edits, {} versions, texts of {kept}", rows.len());
    // Titles alone make no other hash: those edits of one meaning look alike, and the newest is as good as any but for its title.
    let folder = rules_of(&changed).display().to_string();
    let versions = versions(&rows, edits, &logs, &folder)?;
    let stored = stored::read(&changed.data())?;
    let said = kernel::run_versions(&logs, versions, (Span::secs(1), Span::secs(1)), &stored.watermarks)?;
    println!("{} alerts, {} revisions, of {:?}", said.bodies.len(), said.revisions.len(), said.rules);
    agree("changed", &stored, &said)?;
    ensure!(
        rows.len() >= 6 && said.bodies.len() > 200,
        "{} versions, {} alerts",
        rows.len(),
        said.bodies.len()
    );
    Ok(())
}

/// Starts the binary, edits, reloads and kills it, again and again; how many edits there were, the first text included.
fn edit_while(deployment: &Deployment, going: impl Fn() -> bool) -> Result<usize> {
    let mut random = Random::new(SEED);
    let mut edits = 1;
    while going() {
        let mut process = deployment.run()?;
        process.says("reading")?;
        for _ in 0..1 + random.below(2) {
            thread::sleep(Duration::from_millis(random.below(1_500)));
            write(deployment, &edited(edits)?)?;
            edits += 1;
            // Some are found by a look at the files, some only by the next start.
            if random.chance(70) {
                process.signal("HUP")?;
            }
        }
        thread::sleep(Duration::from_millis(random.below(3_500)));
        println!("killed after {:?}, {edits} edits", process.age());
        process.kill()?;
    }
    Ok(edits)
}

/// What an operator sees: a reload by the API and by files, a refused file that keeps what was good, and its mending.
#[test]
fn a_reload_says_what_came_of_it() -> Result<()> {
    let Some(broker) = Broker::shared("crash::reload")? else { return Ok(()) };
    broker.create_topic("reloaded", 1, &[])?;
    let deployment = deployment(&plain(&broker, "reloaded"))?;
    let token = deployment.token()?;
    let mut process = deployment.run()?;
    let address = process.address()?;
    process.says("reading")?;
    let reload = || -> Result<serde_json::Value> {
        let (status, body) = send("POST", &address, "/api/v1/reload", &token)?;
        ensure!(status == 200, "{status} {body}");
        Ok(serde_json::from_str(&body)?)
    };
    let same = reload()?;
    ensure!(same["version"] == 1 && same["in_force_from"].is_null() && same["new"] == json!([]), "{same}");
    write(&deployment, &edited(1)?)?;
    let second = reload()?;
    ensure!(
        second["version"] == 2 && second["new"] == json!(["c0000000-0000-4000-8000-0000000000ff"]),
        "{second}"
    );
    ensure!(second["changed"].as_array().is_some_and(|all| all.len() >= 3), "{second}");
    let from = second["in_force_from"].as_str().and_then(Micros::parse_rfc3339).context("no time")?;
    ensure!(from > log::now().minus(Span::secs(60)), "{second}");

    write(&deployment, &edited(1)?.replace("condition: any\n", "condition: nothing\n"))?;
    let refused = reload()?;
    let first = &refused["refused"][0];
    ensure!(
        refused["version"] == 2 && first["kept"] == true && first["line"].as_u64() > Some(1),
        "{refused}"
    );
    let status = api(&address, "/api/v1/status", &token)?;
    ensure!(
        status["rule_set"]["number"] == 2 && status["rule_set"]["rejected"].as_u64() > Some(0),
        "{status}"
    );
    process.until("the refusal among the health events", |_| {
        let status = api(&address, "/api/v1/status", &token).ok()?;
        let events = status["health"].as_array().cloned().unwrap_or_default();
        let told = |event: &serde_json::Value| {
            let message = event["message"].as_str().unwrap_or_default();
            event["kind"] == "rules_refused"
                && message.contains("rules.yml:")
                && message.contains("stays in force")
        };
        events.iter().any(told).then_some(())
    })?;
    // As an editor leaves it before it writes.
    write(&deployment, "")?;
    let emptied = reload()?;
    ensure!(
        emptied["version"] == 2 && emptied["removed"] == json!([]) && emptied["refused"][0]["kept"] == true,
        "{emptied}"
    );
    // A start keeps it, too.
    process.kill()?;
    let mut process = deployment.run()?;
    let address = process.address()?;
    process.says("said before stays in force")?;
    process.says("reading")?;
    let rules = api(&address, "/api/v1/rules/c0000000-0000-4000-8000-0000000000ff", &token)?;
    ensure!(rules["title"] == "Now and then", "{rules}");
    // Mended, and found by a look at the files.
    write(&deployment, &edited(2)?)?;
    process.until("version 3", |_| {
        let status = api(&address, "/api/v1/status", &token).ok()?;
        (status["rule_set"]["number"] == 3 && status["rule_set"]["rejected"] == 0).then_some(())
    })?;
    process.stop()?;
    // Written otherwise, it is no version for a start.
    write(&deployment, &format!("# why\n{}", edited(2)?))?;
    let mut process = deployment.run()?;
    process.says("reading")?;
    let status = api(&process.address()?, "/api/v1/status", &token)?;
    ensure!(status["rule_set"]["number"] == 3 && status["rule_set"]["rejected"] == 0, "{status}");
    process.stop()?;
    Ok(())
}

/// So many correlations of a timespan, each with a budget of its own.
fn many(n: usize, span: &str) -> Result<String> {
    let mut text = edited(0)?;
    for n in 0..n {
        text += &format!(
            "---\ntitle: Many {n}\nid: many-{n}\ncorrelation: {{type: event_count, rules: \
             [c0000000-0000-4000-8000-000000000001], group-by: [user.name], timespan: {span}, condition: {{gte: 5}}}}\n"
        );
    }
    Ok(text)
}

/// What a reload takes, the next start takes: rules that there is no memory for are refused at once, rules that run out do not
/// count, and a source that was added stands under the versions before, too.
#[test]
fn the_next_start_takes_what_a_reload_took() -> Result<()> {
    let Some(broker) = Broker::shared("crash::reload")? else { return Ok(()) };
    broker.create_topic("next-start", 1, &[])?;
    broker.create_topic("next-till", 1, &[])?;
    let (kafka, rules) = (plain(&broker, "next-start"), "rules");
    let tight = "engine: {skew: 1s, memory: 268435456}\n";
    let deployment = Deployment::new(&kafka, tight)?;
    deployment.configure_rules(&kafka, rules, tight)?;
    write(&deployment, &many(6, "1m")?)?;
    let token = deployment.token()?;
    let mut process = deployment.run()?;
    let address = process.address()?;
    process.says("reading")?;
    let reload = |address: &str| send("POST", address, "/api/v1/reload", &token);
    write(&deployment, &many(2_000, "1m")?)?;
    let (status, body) = reload(&address)?;
    ensure!(status == 409 && body.contains("engine.memory: 256MiB are too few"), "{status} {body}");
    ensure!(body.contains("write at least") && body.contains("start again, or load fewer rules"), "{body}");
    let entries = |address: &str| -> Result<Vec<String>> {
        let status = api(address, "/api/v1/status", &token)?;
        ensure!(status["rule_set"]["number"].as_u64().is_some(), "{status}");
        let entries = status["memory"]["entries"].as_array().context("no entries")?;
        Ok(entries.iter().map(|entry| entry["rule_id"].as_str().unwrap_or_default().to_owned()).collect())
    };
    ensure!(!entries(&address)?.contains(&"many-6".to_owned()), "nothing changed");
    write(&deployment, &many(7, "2m")?)?;
    let (status, body) = reload(&address)?;
    ensure!(status == 200 && body.contains("\"version\":2"), "{status} {body}");
    let now = entries(&address)?;
    ensure!(now.iter().filter(|id| **id == "many-6").count() == 1, "{now:?}");
    ensure!(now.iter().filter(|id| **id == "many-1").count() == 1, "{now:?}");
    process.kill()?;
    let mut process = deployment.run()?;
    process.says("reading")?;
    process.kill()?;

    let schemas = deployment.folder().join("schemas");
    fs::create_dir_all(schemas.join("sources"))?;
    fs::copy(root().join("schemas/fields.yml"), schemas.join("fields.yml"))?;
    for file in fs::read_dir(root().join("schemas/sources"))? {
        let file = file?;
        fs::copy(file.path(), schemas.join("sources").join(file.file_name()))?;
    }
    let till = "name: till\ndescription: d\nform: api_json\nlogsource: {category: pos}\nentity: [user.name]\n\
                disorder: 10s\nfuture: 10s\nfields: {user.name: who}\n";
    fs::write(schemas.join("sources/till.yml"), till)?;
    let more = format!("{tight}schemas: {}\n", schemas.display());
    deployment.configure_rules(&kafka.replace("}]", "}, {name: next-till, source: till}]"), rules, &more)?;
    let mut process = deployment.run()?;
    process.says("reading")?;
    let address = process.address()?;
    process.until("the till's source", |_| {
        let status = api(&address, "/api/v1/status", &token).ok()?;
        (status["rule_set"]["number"] == 3).then_some(())
    })?;
    process.stop()?;
    Ok(())
}
