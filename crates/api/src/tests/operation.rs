//! Rules, sources, status, dead letters, probes, metrics.

use std::{collections::BTreeMap, sync::Arc};

use axum::body::Body;

use super::{NOON, empty, redact, request, seed, seeded};
use vedette_event::Span;

use crate::{
    Metric,
    live::{Degraded, Live, Obstacle, Readiness, StageState},
};

#[tokio::test]
async fn shapes_hold() {
    let api = seeded().await;
    insta::assert_json_snapshot!("rule", api.get("/api/v1/rules/waf-fuzz").await.json());
    insta::assert_json_snapshot!("coverage", api.get("/api/v1/rules/waf-fuzz/coverage").await.json());
    insta::assert_json_snapshot!("sources", api.get("/api/v1/sources").await.json()["items"][2]);
    insta::assert_json_snapshot!("status", redact(api.get("/api/v1/status").await.json()));
    insta::assert_json_snapshot!(
        "dead_letters",
        redact(api.get("/api/v1/dead-letters?source=api").await.json())
    );
    let rules = api.get("/api/v1/rules").await.json();
    assert_eq!(rules["items"].as_array().unwrap().len(), 13);
    assert_eq!(rules["rejected"][0]["code"], "unknown-modifier");
    assert_eq!(api.get("/api/v1/rules/nothing").await.status, 404);
}

#[tokio::test]
async fn a_rule_that_came_into_force_lately_says_so() {
    let rules = seeded().await.get("/api/v1/rules").await.json();
    let late = rules["items"].as_array().unwrap().iter().find(|r| !r["coverage"]["warming_until"].is_null());
    let id = late.unwrap()["id"].as_str().unwrap();
    let coverage = seeded().await.get(&format!("/api/v1/rules/{id}/coverage")).await.json();
    let gap = coverage["gaps"][0].as_str().unwrap();
    assert!(gap.starts_with("It came into force at 2"), "{gap}");
    assert!(gap.contains(coverage["warming_until"].as_str().unwrap()), "{gap}");
}

#[tokio::test]
async fn a_rule_without_alerts_of_its_own_could_not_have_fired() {
    let api = seeded().await;
    let coverage = api.get("/api/v1/rules/fw-denied/coverage").await.json();
    assert_eq!(coverage["complete"], false);
    assert_eq!(coverage["gaps"][0], "It raises no alerts of its own; rules that refer to it may.");
    let page = api.get("/rules/fw-denied").await.text();
    assert!(page.contains("Could it have fired?</dt><dd>No<small>It raises no alerts of its own"), "{page}");
    let served = api.get("/rules/api-login-failed").await.text();
    assert!(served.contains("<dt>Serves</dt><dd><a href=\"/rules/api-sigfail\""), "{served}");
    assert!(api.get("/rules/bot-stuffing").await.text().contains("Could it have fired?</dt><dd>Yes<small>"));
}

#[tokio::test]
async fn dead_letters_page() {
    let api = seeded().await;
    let first = api.get("/api/v1/dead-letters?limit=2").await.json();
    let cursor = first["next_cursor"].as_str().unwrap();
    let second = api.get(&format!("/api/v1/dead-letters?limit=2&cursor={cursor}")).await.json();
    assert_eq!(second["items"].as_array().unwrap().len(), 1);
    assert!(second["next_cursor"].is_null());
}

#[tokio::test]
async fn readiness_says_what_stands_in_the_way() {
    let api = empty(|_| {}).await;
    let answer = api.get("/readyz").await;
    assert_eq!(answer.status, 503);
    assert!(answer.json()["detail"].as_str().unwrap().starts_with("starting: "));
    let page = api.get("/").await.text();
    assert!(page.contains("Not ready") && page.contains("role=\"alert\""));
    api.live.send_replace(Arc::new(seed::live(NOON)));
    assert_eq!(api.get("/readyz").await.status, 200);
    assert!(!api.get("/").await.text().contains("Not ready"));
    // Others are told the code alone.
    let beyond = empty(|app| app.loopback = false).await;
    assert_eq!(beyond.get("/readyz").await.json()["detail"], "starting");
}

/// The metrics that a line of PromQL names, each with the labels that it selects by.
fn named(expr: &str) -> Vec<(&str, Vec<&str>)> {
    let part_of_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut found = Vec::new();
    let mut rest = expr;
    while let Some(start) = rest.find(part_of_name) {
        let end = rest[start..].find(|c| !part_of_name(c)).map_or(rest.len(), |len| start + len);
        let (name, behind) = (&rest[start..end], &rest[end..]);
        rest = behind;
        if name.starts_with("vedette_") || name.starts_with("process_") {
            let selector = behind.strip_prefix('{').and_then(|text| text.split_once('}'));
            let pairs = selector.map(|(pairs, _)| pairs.split(',')).into_iter().flatten();
            found.push((name, pairs.filter_map(|pair| pair.split(['=', '!']).next()).collect()));
            rest = selector.map_or(behind, |(_, rest)| rest);
        }
    }
    found
}

#[tokio::test]
async fn dashboards_and_alarms_name_metrics_that_there_are() {
    let api = seeded().await;
    api.get("/api/v1/alerts").await;
    let scrape = api.get("/metrics").await.text();
    let samples = |metric: Metric| {
        let (name, labels, _) = metric.parts();
        let kind = scrape.lines().find_map(|line| line.strip_prefix(&format!("# TYPE {name} ")));
        let suffixes: &[&str] = match kind.unwrap() {
            "counter" => &["_total"],
            "histogram" => &["_bucket", "_sum", "_count"],
            _ => &[""],
        };
        suffixes.iter().map(move |suffix| (format!("{name}{suffix}"), labels))
    };
    let known: BTreeMap<_, _> = Metric::all().flat_map(samples).collect();
    let dashboard = include_str!("../../../../dashboards/grafana/vedette.json");
    let dashboard: serde_json::Value = serde_json::from_str(dashboard).unwrap();
    let panels = dashboard["panels"].as_array().unwrap().iter();
    let targets = panels.flat_map(|panel| panel["targets"].as_array().into_iter().flatten());
    let mut exprs: Vec<&str> = targets.map(|target| target["expr"].as_str().unwrap()).collect();
    let variables = dashboard["templating"]["list"].as_array().unwrap();
    exprs.extend(variables.iter().filter_map(|variable| variable["query"].as_str()));
    assert!(exprs.len() > 20);
    let alarms = include_str!("../../../../dashboards/grafana/alerts.yml");
    let before = exprs.len();
    exprs.extend(alarms.lines().filter_map(|line| line.trim().strip_prefix("expr: ")));
    assert_eq!(exprs.len() - before, alarms.matches("- alert: ").count());
    for expr in exprs {
        let names = named(expr);
        assert!(!names.is_empty() || expr.starts_with("up{") || expr == "prometheus", "{expr}");
        for (name, selected) in names {
            let labels = known.get(name).unwrap_or_else(|| panic!("there is no {name}: {expr}"));
            for label in selected {
                let there = labels.split(',').chain(["job", "instance"]).any(|own| own == label);
                assert!(there, "{name} has no label {label}: {expr}");
            }
        }
    }
    // What it would find.
    assert_eq!(named("rate(vedette_x_total{a=\"1\",b!=\"2\"}[5m])"), [("vedette_x_total", vec!["a", "b"])]);
}

#[tokio::test]
async fn metric_names_hold() {
    let api = seeded().await;
    api.get("/api/v1/alerts").await;
    api.get("/api/v1/nothing/at/all").await;
    for n in 0..3 {
        api.send(request(&format!("ODD{n}"), "/api/v1/alerts").body(Body::empty()).unwrap()).await;
    }
    let text = api.get("/metrics").await.text();
    let names: Vec<String> = Metric::all()
        .enumerate()
        .map(|(place, metric)| {
            assert_eq!(metric as usize, place, "the catalogue stands in the order of the declaration");
            let (name, labels, _) = metric.parts();
            assert!(text.contains(&format!("# HELP {name} ")), "{name} is not written");
            format!("{name}{{{labels}}}")
        })
        .collect();
    insta::assert_snapshot!("metric_names", names.join("\n"));
    assert_eq!(text.matches("# TYPE ").count(), Metric::all().count());
    for line in [
        "vedette_events_total{source=\"api\"} 812440",
        "vedette_dead_letters_total{source=\"api\",reason=\"malformed\"} 2",
        "vedette_flagged_events_total{source=\"api\",flag=\"clock=late\"} 12",
        "vedette_lag_records{source=\"waf\",partition=\"0\"} 1737",
        "vedette_rule_matches_total{rule=\"bot-stuffing\"} 1284",
        "vedette_alerts_total{severity=\"high\"} 3",
        "vedette_http_requests_total{method=\"GET\",route=\"/api/v1/alerts\",status=\"200\"} 1",
        "vedette_http_requests_total{method=\"GET\",route=\"unmatched\",status=\"404\"} 1",
        "vedette_http_requests_total{method=\"other\",route=\"/api/v1/alerts\",status=\"405\"} 3",
        "vedette_ready 1",
        "vedette_topic_state{topic=\"waf\",state=\"read\"} 1.0",
        "vedette_topic_partitions{topic=\"waf\",state=\"read\"} 2.0",
        "vedette_topic_partitions{topic=\"waf\",state=\"paused\"} 1.0",
        "vedette_pending_findings{waits_for=\"watermark\"} 812.0",
        "vedette_pending_findings_limit{waits_for=\"standing-source\"} 4000000.0",
        "vedette_fullest_state_keys{rule=\"api-login-failed\"} 288.0",
        "vedette_stage_state{stage=\"kernel\",state=\"working\"} 1",
        "vedette_stage_still_seconds{stage=\"evidence\"} 0.0",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
    assert!(text.ends_with("# EOF\n"));
    // The seed's kernel has work in hand and moved last at noon of a day long past.
    for name in [
        "vedette_stage_still_seconds{stage=\"kernel\"} ",
        "vedette_view_age_seconds ",
        "vedette_store_bytes{file=\"database\"} ",
    ] {
        let value = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        assert!(value.parse::<f64>().unwrap() > 3_600.0, "{name}{value}");
    }
}

#[tokio::test]
async fn an_empty_snapshot_is_served() {
    let api = empty(|_| {}).await;
    let live = Live::starting(crate::live::Mode::Run, "0.1.0", NOON);
    api.live.send_replace(Arc::new(live));
    for path in ["/api/v1/rules", "/api/v1/sources", "/api/v1/status", "/api/v1/alerts", "/metrics"] {
        assert_eq!(api.get(path).await.status, 200, "{path}");
    }
    for page in ["/", "/rules", "/sources", "/dead-letters"] {
        assert_eq!(api.get(page).await.status, 200, "{page}");
    }
}

fn kernel_of(live: &mut Live, state: StageState) {
    for kernel in live.stages.iter_mut().filter(|stage| stage.name == "kernel") {
        kernel.state = state;
        kernel.has_work = true;
        kernel.moved_at = NOON.minus(Span::secs(40));
        kernel.alive_at = kernel.moved_at;
    }
}

#[tokio::test]
async fn a_stalled_kernel_is_told_on_every_page_and_a_hung_one_fails_the_process() {
    let api = seeded().await;
    let pages = ["/", "/rules", "/rules/waf-fuzz", "/sources", "/dead-letters"];
    for page in pages {
        assert!(!api.get(page).await.text().contains("Stalled since"), "{page}");
    }
    for (state, healthz) in [(StageState::Stalled, 200), (StageState::Hung, 503)] {
        let mut live = seed::live(NOON);
        kernel_of(&mut live, state);
        api.live.send_replace(Arc::new(live));
        for page in pages {
            let page = api.get(page).await.text();
            assert!(
                page.contains("Stalled since") && page.contains("datetime=\"2026-01-31T11:59:20"),
                "{page}"
            );
        }
        let coverage = api.get("/api/v1/rules/bot-stuffing/coverage").await.json();
        assert_eq!(coverage["complete"], false);
        assert!(coverage["gaps"][0].as_str().unwrap().starts_with("Stalled since 2026-01-31T11:59:20"));
        for path in ["/api/v1/sources", "/api/v1/status", "/api/v1/rules", "/api/v1/rules/waf-fuzz/coverage"]
        {
            assert_eq!(api.get(path).await.json()["as_of"], "2026-01-31T11:59:59.000000Z", "{path}");
        }
        let status = api.get("/api/v1/status").await.json();
        let stages = status["stages"].as_array().unwrap();
        let kernel = stages.iter().find(|stage| stage["name"] == "kernel").unwrap();
        assert_eq!(kernel["state"], state.name());
        let answer = api.get("/healthz").await;
        assert_eq!(answer.status, healthz, "{}", answer.text());
        assert_eq!(answer.text().contains("kernel has work"), state == StageState::Hung);
    }
}

#[tokio::test]
async fn what_is_degraded_is_named_and_does_not_make_the_service_unready() {
    let api = seeded().await;
    let degraded = || Degraded {
        reason: "topic-missing".to_owned(),
        message: "Topic us does not exist.".to_owned(),
        since: NOON,
    };
    let mut live = seed::live(NOON);
    live.ready.degraded.push(degraded());
    api.live.send_replace(Arc::new(live));
    let answer = api.get("/readyz").await;
    assert_eq!(answer.status, 200);
    let body = answer.json();
    assert_eq!(body["ready"], true);
    assert_eq!(body["degraded"][0]["reason"], "topic-missing");
    assert!(body["degraded"][0]["message"].as_str().unwrap().contains("us"));
    assert!(api.get("/").await.text().contains("Topic us does not exist."));

    let unready = |live: &mut Live| {
        let obstacle =
            Obstacle { code: "store-unavailable".to_owned(), message: "Why".to_owned(), since: NOON };
        live.ready = Readiness { ready: false, obstacles: vec![obstacle], degraded: vec![degraded()] };
    };
    let beyond = empty(|app| app.loopback = false).await;
    for (api, message) in [(&api, "Why"), (&beyond, "")] {
        let mut live = seed::live(NOON);
        unready(&mut live);
        api.live.send_replace(Arc::new(live));
        let answer = api.get("/readyz").await;
        assert_eq!(
            (answer.status.as_u16(), answer.json()["type"].as_str()),
            (503, Some("urn:vedette:problem:not-ready"))
        );
        let body = answer.json();
        assert_eq!(body["obstacles"][0]["code"], "store-unavailable");
        assert_eq!(body["obstacles"][0]["message"], message);
        assert_eq!(body["degraded"][0]["reason"], "topic-missing");
    }
}

/// Whoever may asks, gets what came of it, and stands in the audit log; what was refused as a whole is a conflict.
#[tokio::test]
async fn rules_are_read_again_when_asked() {
    use crate::reload::{Reloaded, Reloads, Unavailable};
    let reloaded = Reloaded {
        version: 4,
        in_force_from: Some(NOON),
        new: vec!["a".to_owned()],
        changed: Vec::new(),
        removed: Vec::new(),
        lists: vec!["admins".to_owned()],
        schemas: Vec::new(),
        refused: Vec::new(),
    };
    let answers = [
        Ok(reloaded),
        Err(Unavailable::Refused("rules/a.yml:3:1: no".to_owned())),
        Err(Unavailable::Stopping),
    ];
    let post = async |api: &super::Api| {
        api.send(request("POST", "/api/v1/reload").body(Body::empty()).unwrap()).await
    };
    for answer in answers {
        let expected = answer.clone();
        let api = empty(|app| {
            app.reloads = Some(Reloads::new(move || std::future::ready(answer.clone())));
        });
        let api = api.await;
        let said = post(&api).await;
        match expected {
            Ok(reloaded) => assert_eq!(said.json(), serde_json::to_value(reloaded).unwrap()),
            Err(Unavailable::Refused(why)) => {
                assert_eq!((said.status.as_u16(), said.json()["detail"].as_str()), (409, Some(&*why)));
            }
            Err(Unavailable::Stopping) => assert_eq!(said.status, 503),
        }
        let audit = api
            .store
            .audit(&vedette_store::model::AuditQuery { limit: 1, ..Default::default() })
            .await
            .unwrap()
            .items;
        assert_eq!((audit[0].action.as_str(), audit[0].actor.as_str()), ("rules_reloaded", "local"));
    }
    assert_eq!(post(&seeded().await).await.status, 503, "built in");
}
