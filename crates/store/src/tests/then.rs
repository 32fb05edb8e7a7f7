//! What is listed, counted and known of the past is what was listed, counted and known then, whatever happened since.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use vedette_event::Span;

use super::*;

/// SplitMix64: the same run for the same seed.
struct Chance(u64);

impl Chance {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % n as u64) as usize
    }
}

const RULES: [&str; 2] = ["rule-1", "rule-2"];
const ENTITIES: [&str; 3] = ["ada", "ben", "cy"];

fn entity(n: usize) -> EntityRef {
    EntityRef { kind: "user.name".to_owned(), value: ENTITIES[n].to_owned() }
}

/// An episode of a rule and an entity, as far as it has been told.
#[derive(Clone)]
struct Episode {
    alert: AlertRevision,
    notice: bool,
}

struct World {
    chance: Chance,
    second: i64,
    /// The running episode of each rule and entity.
    episodes: BTreeMap<(usize, usize), Episode>,
    ids: Vec<String>,
    made: usize,
}

impl World {
    fn new(seed: u64) -> Self {
        Self { chance: Chance(seed), second: 1_000, episodes: BTreeMap::new(), ids: Vec::new(), made: 0 }
    }

    /// The next revision of an episode, or the first of a new one.
    fn next(&mut self, rule: usize, of: usize) -> AlertRevision {
        self.second += 1;
        let running = self.episodes.get(&(rule, of)).filter(|episode| episode.alert.state == State::Active);
        let mut next = match running {
            Some(Episode { alert, notice: false }) => {
                let mut next = alert.clone();
                next.revision += 1;
                next.count += 1 + self.chance.below(3) as u64 * 40;
                next.last_seen = Micros(self.second * 1_000_000);
                next
            }
            Some(Episode { alert, notice: true }) => alert.clone(),
            None => {
                self.made += 1;
                let mut next = alert(&format!("a{}", self.made), 1, self.second, 5);
                next.rule_id = RULES[rule].to_owned();
                next.entity = Some(entity(of));
                next.key = json!({"user": ENTITIES[of]}).to_string();
                next.sources = vec![["api", "waf"][rule].to_owned()];
                next.concerns = vec![
                    Concern { entity: entity(of), role: ConcernRole::Entity },
                    Concern { entity: entity((of + 1) % 3), role: ConcernRole::Key },
                ];
                next
            }
        };
        next.covers_until = Micros(next.last_seen.0 + 60_000_000);
        let levels = [Severity::Low, Severity::Medium, Severity::High];
        if self.chance.below(3) == 0 {
            next.severity = levels[self.chance.below(3)];
        }
        if self.chance.below(4) == 0 {
            let words = ["Many Logins", "Too Many Logins"];
            next.rule_title = words[self.chance.below(2)].to_owned();
            next.tags = vec![["attack.t1110.001", "attack.t1046"][self.chance.below(2)].to_owned()];
        }
        if self.chance.below(6) == 0 && next.revision > 1 {
            next.state = State::Ended;
        }
        next.summary = format!("{} logins of {}", next.count, ENTITIES[of]);
        next.body = body(&next);
        next
    }

    async fn step(&mut self, store: &Store) {
        let (rule, of) = (self.chance.below(2), self.chance.below(3));
        let some = (!self.ids.is_empty()).then(|| self.chance.below(self.ids.len()));
        let id = some.map(|at| self.ids[at].clone()).unwrap_or_default();
        match self.chance.below(20) {
            0..=2 => self.announce(store, rule, of).await,
            3..=7 => self.revise(store, rule, of).await,
            8..=10 => self.triage(store, &id).await,
            11 => drop(store.comment(&id, "looked at", "bob", None).await),
            12 => {
                let case = NewCase { title: "x".to_owned(), alerts: vec![id], ..NewCase::default() };
                drop(store.create_case(&case, "ann", None).await);
            }
            13 => {
                let case = 1 + self.chance.below(2) as i64;
                if self.chance.below(2) == 0 {
                    drop(store.remove_from_case(case, &[id], "ann").await);
                } else {
                    drop(store.add_to_case(case, &[id], "ann").await);
                }
            }
            14..=15 => self.snooze(store, rule, of).await,
            16 => {
                let below = Micros((self.second - 2) * 1_000_000);
                let (rule_id, reason) = (RULES[rule].to_owned(), Withdrawal::Uncovered);
                let passed = Passed { rule_id, below, settled: below, reason };
                store.publish(&Publication { passed: vec![passed], ..Default::default() }).await.unwrap();
            }
            17 => {
                if let Some(change) = store.own_last_change(&id, "ann").await.unwrap() {
                    drop(store.undo_triage(change, "ann", None).await);
                }
            }
            _ => {
                let content = Content::Present(json!({"user.name": ENTITIES[of]}).to_string());
                let (topic, offset) = ("api".to_owned(), self.chance.below(2) as i64);
                let of = EvidenceContent { topic, incarnation: 0, partition: 0, offset, index: 0, content };
                store.store_evidence(&[EvidenceOf { id, contents: vec![of] }]).await.unwrap();
            }
        }
    }

    async fn announce(&mut self, store: &Store, rule: usize, of: usize) {
        if self.episodes.get(&(rule, of)).is_some_and(|episode| episode.alert.state == State::Active) {
            return;
        }
        let alert = self.next(rule, of);
        let mut notice = notice(&format!("n{}", self.made), &alert);
        notice.concerns = alert.concerns.clone();
        notice.body = body(&alert);
        self.ids.push(notice.notice_id.clone());
        publish_notices(store, vec![notice]).await;
        self.episodes.insert((rule, of), Episode { alert, notice: true });
    }

    async fn revise(&mut self, store: &Store, rule: usize, of: usize) {
        let mut revisions = vec![self.next(rule, of)];
        self.ids.push(revisions[0].alert_id.clone());
        for _ in 0..self.chance.below(2) {
            self.episodes
                .insert((rule, of), Episode { alert: revisions[revisions.len() - 1].clone(), notice: false });
            if revisions[revisions.len() - 1].state == State::Active {
                revisions.push(self.next(rule, of));
            }
        }
        let alert = revisions[revisions.len() - 1].clone();
        self.episodes.insert((rule, of), Episode { alert, notice: false });
        publish_alerts(store, revisions).await;
    }

    async fn triage(&mut self, store: &Store, id: &str) {
        let Some(row) = store.alert(id).await.unwrap() else { return };
        let status = Status::ALL[self.chance.below(Status::ALL.len())];
        let closed = status == Status::Closed || self.chance.below(2) == 0;
        let verdicts = [Some(Disposition::Benign), Some(Disposition::FalsePositive), None];
        let patch = TriagePatch {
            status: Some(if closed { Status::Closed } else { status }),
            assignee: Some(["", "eve", "bob"][self.chance.below(3)].to_owned()),
            disposition: if closed { verdicts[self.chance.below(3)] } else { None },
            seen_revision: (row.revision > 1 && self.chance.below(3) == 0).then(|| row.revision - 1),
        };
        drop(store.patch_triage(id, row.triage.version, &patch, "ann").await);
    }

    async fn snooze(&mut self, store: &Store, rule: usize, of: usize) {
        let in_force = store.snoozes(false).await.unwrap();
        if let Some(snooze) = in_force.get(self.chance.below(3)) {
            store.lift_snooze(snooze.id, "ann").await.unwrap();
            return;
        }
        let until = crate::store::now().plus(Span::secs(3_600));
        let (rule_id, reason) = (RULES[rule].to_owned(), "known".to_owned());
        drop(store.snooze(&NewSnooze { rule_id, entity: entity(of), until, reason }, "ann", None).await);
    }
}

fn evidence(offset: i64) -> Value {
    let time = Micros(1_000_000_000).to_string();
    json!({"topic": "api", "partition": 0, "offset": offset, "index": 0, "time": time, "flags": []})
}

fn body(alert: &AlertRevision) -> String {
    let state = if alert.state == State::Active { "active" } else { "ended" };
    json!({
        "alert_id": alert.alert_id, "revision": alert.revision, "state": state, "count": alert.count,
        "rule": {"id": alert.rule_id, "title": alert.rule_title, "tags": alert.tags},
        "severity": alert.severity.name(), "last_seen": alert.last_seen.to_string(), "summary": alert.summary,
        "evidence": [evidence(0), evidence(1)],
        "key": serde_json::from_str::<Value>(&alert.key).unwrap(),
    })
    .to_string()
}

fn filters() -> Vec<Filter> {
    let open = || BTreeSet::from([Status::New, Status::Acknowledged, Status::InProgress]);
    let all = Filter::default;
    vec![
        all(),
        Filter { status: open(), snoozed: Some(false), ..all() },
        Filter { status: open(), snoozed: Some(true), ..all() },
        Filter { snoozed: Some(true), ..all() },
        Filter { status: [Status::Closed].into(), rule: [RULES[0].to_owned()].into(), ..all() },
        Filter { severity: [Severity::High, Severity::Low].into(), ..all() },
        Filter { state: [RowState::Ended].into(), ..all() },
        Filter { state: [RowState::Notice].into(), status: open(), ..all() },
        Filter { case: Some(1), ..all() },
        Filter { assignee: Some(String::new()), entity: Some(ENTITIES[0].to_owned()), ..all() },
        Filter { assignee: Some("eve".to_owned()), entity_type: Some("user.name".to_owned()), ..all() },
        Filter { technique: ["T1110".to_owned()].into(), ..all() },
        Filter { source: Some("waf".to_owned()), since: Some(Micros(1_010_000_000)), ..all() },
        Filter { q: Some("too logins".to_owned()), ..all() },
        Filter {
            q: Some("t1046 ada".to_owned()),
            status: open(),
            until: Some(Micros(1_030_000_000)),
            ..all()
        },
    ]
}

fn seen(row: &AlertRow) -> Value {
    let body: Value = serde_json::from_str(&row.body).unwrap();
    let of_then = json!([row.id, row.state, row.revision, row.count, row.severity, row.summary, body]);
    let handled = json!([row.triage, row.recurred, row.since_closed, row.withdrawn, row.case, row.snooze]);
    json!([of_then, handled, row.rule_title, row.techniques, row.covers])
}

/// A list from its first page to its last.
macro_rules! walked {
    ($query:expr, $list:expr) => {{
        let (mut query, mut rows) = ($query.clone(), Vec::new());
        loop {
            let page: Page<AlertRow> = $list(&query).await.unwrap();
            assert!(page.next_cursor.is_none() || page.items.len() == query.limit as usize);
            rows.extend(page.items);
            query.cursor = page.next_cursor;
            if query.cursor.is_none() {
                break rows;
            }
        }
    }};
}

fn told(summary: &Summary) -> Value {
    let groups = summary
        .groups
        .iter()
        .map(|group| json!([group.name, group.entity_type, group.count, group.severity]));
    json!([groups.collect::<Vec<_>>(), summary.more, summary.capped])
}

/// All that is asked at a place in commit order, by name.
type Answers = Vec<(String, Value)>;

/// The queries of a place: every third filter and the orders in turn.
fn queries(turn: usize) -> Vec<ListQuery> {
    let orders = ["-crossed_at", "last_seen", "-severity", "count", "-created", "crossed_at", "-last_seen"];
    let query = |(n, filter)| {
        let sort = Sort::parse(orders[(n + turn) % orders.len()]).unwrap();
        ListQuery { filter, sort, limit: 4, cursor: None }
    };
    filters().into_iter().enumerate().filter(|(n, _)| n % 3 == turn % 3).map(query).collect()
}

fn pairs() -> Vec<(&'static str, EntityRef)> {
    RULES.iter().flat_map(|rule| (0..ENTITIES.len()).map(|n| (*rule, entity(n)))).collect()
}

fn earlier(mut of: Vec<EarlierVerdict>) -> Value {
    of.sort_by(|one, other| (other.closed_at, &one.id).cmp(&(one.closed_at, &other.id)));
    let one = |of: EarlierVerdict| json!([of.id, of.count, of.disposition, of.by, of.reason, of.closed_at]);
    of.into_iter().map(one).collect()
}

/// What the present says: the reference.
async fn now(store: &Store, turn: usize) -> Answers {
    let mut answers = Vec::new();
    for query in queries(turn) {
        let rows = walked!(query, async |query| store.list(query).await);
        let courses: Vec<(&str, u32)> = rows.iter().map(|row| (row.id.as_str(), row.revision)).collect();
        answers.push((format!("courses {query:?}"), json!(store.courses(&courses).await.unwrap())));
        answers.push((format!("list {query:?}"), rows.iter().map(seen).collect()));
        for by in SummaryBy::ALL {
            let summary = store.summary(*by, &query.filter).await.unwrap();
            answers.push((format!("by {by:?} {:?}", query.filter), told(&summary)));
        }
    }
    let of = pairs();
    let asked: Vec<(&str, &EntityRef)> = of.iter().map(|(rule, entity)| (*rule, entity)).collect();
    let verdicts = format!("{:?}", store.verdicts(&asked, None).await.unwrap());
    answers.push(("verdicts".to_owned(), json!(verdicts)));
    for (rule, entity) in &of {
        let said = store.earlier_verdicts((rule, entity), "a1", Micros::MAX).await.unwrap();
        answers.push((format!("earlier {rule} {entity:?}"), earlier(said)));
    }
    for n in 0..ENTITIES.len() {
        let entity = entity(n);
        let counts = store.entity_verdicts(&entity, (Micros::MIN, Micros::MAX)).await.unwrap();
        answers.push((format!("of {entity:?}"), json!(counts)));
        let open = store.entity_open(&entity, 5).await.unwrap();
        answers.push((format!("open {entity:?}"), open.iter().map(seen).collect()));
        let others = store.neighbours(&entity, i64::MAX).await.unwrap();
        answers.push((format!("beside {entity:?}"), json!(format!("{others:?}"))));
        let all = store.entity_rows(&entity, (None, 50)).await.unwrap();
        answers.push((format!("all {entity:?}"), all.rows.iter().map(|(row, _)| seen(row)).collect()));
    }
    answers
}

/// What is said of the past.
async fn then(store: &Store, seq: i64, turn: usize) -> Answers {
    let mut then = store.then(seq).await.unwrap();
    let mut answers = Vec::new();
    for query in queries(turn) {
        let rows = walked!(query, async |query| then.list(query).await);
        let courses: Vec<(&str, u32)> = rows.iter().map(|row| (row.id.as_str(), row.revision)).collect();
        answers.push((format!("courses {query:?}"), json!(store.courses(&courses).await.unwrap())));
        answers.push((format!("list {query:?}"), rows.iter().map(seen).collect()));
        for by in SummaryBy::ALL {
            let summary = then.summary(*by, &query.filter).await.unwrap();
            answers.push((format!("by {by:?} {:?}", query.filter), told(&summary)));
        }
    }
    let of = pairs();
    let asked: Vec<(&str, &EntityRef)> = of.iter().map(|(rule, entity)| (*rule, entity)).collect();
    answers.push(("verdicts".to_owned(), json!(format!("{:?}", then.verdicts(&asked).await.unwrap()))));
    for (rule, entity) in &of {
        // What is about one entity alone says the same.
        let mut alone = store.then_of(seq, entity).await.unwrap();
        let said = alone.earlier_verdicts((rule, entity), "a1").await.unwrap();
        answers.push((format!("earlier {rule} {entity:?}"), earlier(said)));
        let asked = alone.verdicts(&[(*rule, entity)]).await.unwrap();
        assert_eq!(asked, then.verdicts(&[(*rule, entity)]).await.unwrap());
    }
    for n in 0..ENTITIES.len() {
        let entity = entity(n);
        let counts = then.entity_verdicts(&entity, Micros::MIN).await.unwrap();
        answers.push((format!("of {entity:?}"), json!(counts)));
        let numbers = store.concerning(&entity, seq).await.unwrap();
        let open = then.open_among(&numbers, 5).await.unwrap();
        answers.push((format!("open {entity:?}"), open.iter().map(seen).collect()));
        let others = store.neighbours(&entity, seq).await.unwrap();
        answers.push((format!("beside {entity:?}"), json!(format!("{others:?}"))));
        let all = store.entity_rows_at(&entity, (None, 50), seq).await.unwrap();
        answers.push((format!("all {entity:?}"), all.rows.iter().map(|(row, _)| seen(row)).collect()));
    }
    answers
}

#[tokio::test]
async fn whatever_happens_the_past_is_what_was_said_then() {
    for seed in 0..4 {
        let (_folder, store) = store().await;
        let mut world = World::new(seed);
        let mut said = Vec::new();
        for turn in 0..40 {
            world.step(&store).await;
            let seq = store.newest_seq().await.unwrap();
            said.push((seq, turn, now(&store, turn).await));
        }
        for (seq, turn, expected) in said {
            let told = then(&store, seq, turn).await;
            assert_eq!(told.len(), expected.len());
            for ((name, told), (_, expected)) in told.into_iter().zip(expected) {
                assert_eq!(told, expected, "seed {seed}, at {seq}, turn {turn}: {name}");
            }
        }
    }
}

/// What chance seldom leads to: a closed row that a snooze passed by and a revision brought under it, and a verdict that none is.
#[tokio::test]
async fn a_row_is_hidden_by_what_it_was_when_and_what_was_withdrawn_is_no_verdict() {
    let (_folder, store) = store().await;
    let mut said = Vec::new();
    let mut note = async || {
        let seq = store.newest_seq().await.unwrap();
        for turn in 0..3 {
            said.push((seq, turn, now(&store, turn).await));
        }
    };
    let of = |id: &str, who: usize, revision: u32, count: u64| {
        let mut alert = alert(id, revision, 1_000 + i64::from(revision), count);
        (alert.entity, alert.key) = (Some(entity(who)), json!({"user": ENTITIES[who]}).to_string());
        alert.body = body(&alert);
        alert
    };
    let close = TriagePatch { disposition: Some(Disposition::Benign), ..to(Status::Closed) };
    publish_alerts(&store, vec![of("a1", 0, 1, 5)]).await;
    store.patch_triage("a1", 0, &close, "ann").await.unwrap();
    let until = crate::store::now().plus(Span::secs(3_600));
    let new = NewSnooze { rule_id: "rule-1".into(), entity: entity(0), until, reason: "known".into() };
    store.snooze(&new, "ann", None).await.unwrap();
    assert_eq!(get(&store, "a1").await.snooze, None, "it passed it by");
    note().await;
    publish_alerts(&store, vec![of("a1", 0, 2, 6)]).await;
    assert_eq!(get(&store, "a1").await.snooze, Some(1), "its revision brought it under");
    note().await;
    store.patch_triage("a1", 1, &to(Status::New), "ann").await.unwrap();
    note().await;
    store.lift_snooze(1, "ann").await.unwrap();
    store.comment("a1", "back", "ann", None).await.unwrap();
    note().await;

    let mut early = notice("n1", &of("a2", 1, 1, 5));
    early.body = body(&of("a2", 1, 1, 5));
    publish_notices(&store, vec![early]).await;
    let below = Micros(5_000_000_000);
    let passed = Passed { rule_id: "rule-1".into(), below, settled: below, reason: Withdrawal::Uncovered };
    store.publish(&Publication { passed: vec![passed], ..Default::default() }).await.unwrap();
    assert!(get(&store, "n1").await.withdrawn.is_some());
    note().await;
    store.comment("n1", "it was nothing", "ann", None).await.unwrap();
    note().await;
    for (seq, turn, expected) in said {
        for ((name, told), (_, expected)) in then(&store, seq, turn).await.into_iter().zip(expected) {
            assert_eq!(told, expected, "at {seq}: {name}");
        }
    }
}
