//! Time to decode a batch: JSON with few and with many wanted fields, PAN-OS lines, and of each of the simulator's sources what
//! rules need, all fields, and `event.unmapped` beside each of them.
#![allow(missing_docs, clippy::unwrap_used)]

use std::{hint::black_box, sync::Arc};

use criterion::{
    BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main, measurement::WallTime,
};
use vedette_decode::{Decoder, all_fields};
use vedette_event::{
    Fields, Flags, MAX_ROWS, Micros, Partition, Projection, RawBatch, RawBatchBuilder, SourceDef, SourceIx,
    TopicIx,
};
use vedette_simulate::{Feed, Simulator};

/// Fields of SigmaHQ's size: those of the records among many that they lack.
fn projection(names: &[&str], others: usize) -> Arc<Projection> {
    let others = (0..others).map(|n| format!("Winlog.Field{n}"));
    Projection::new(names.iter().map(|&name| name.to_owned()).chain(others).map(Arc::from))
}

fn batch(record: impl Fn(usize) -> String) -> RawBatch {
    let mut builder = RawBatchBuilder::new(SourceIx(0), Partition { topic: TopicIx(0), number: 0 });
    for n in 0..MAX_ROWS {
        builder.push(n as i64, None, Flags::NONE, Some(record(n).as_bytes()));
    }
    builder.take()
}

fn web(n: usize) -> String {
    format!(
        r#"{{"@timestamp":"2026-01-01T00:00:{:02}.000Z","category":"webserver","host":"www{}.exchange.example","c-ip":"203.0.113.{}","cs-method":"GET","cs-uri-stem":"/api/v1/orders/{n}","cs-uri-query":"market=BTC-EUR&depth={n}","sc-status":200,"sc-bytes":{},"cs-user-agent":"Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0","cs-referer":"https://www.exchange.example/trade/BTC-EUR","time-taken":0.0{n}}}"#,
        n % 60,
        n % 9,
        n % 250,
        n * 37
    )
}

fn firewall(n: usize) -> String {
    format!(
        "<14>Jan  2 03:04:05 fw-1 1,2026/01/02 03:04:05,0071,TRAFFIC,end,2561,2026/01/02 03:04:04,192.0.2.{},198.51.100.9,0.0.0.0,0.0.0.0,allow-web,corp\\ann,,ssl,vsys1,trust,untrust,ethernet1/2,ethernet1/1,fwd,2026/01/02 03:04:04,77,1,{},443,0,0,0x1c,tcp,allow,900,600,300,12,2026/01/02 03:03:34,30,any,,123,0x0,DE,US,,7,5,tcp-fin,0,0,0,0,,PA-1,from-policy",
        n % 250,
        1024 + n
    )
}

const API: [&str; 8] = [
    "event.action",
    "event.outcome",
    "user.id",
    "client.ip",
    "api_key.id",
    "http.response.status_code",
    "exchange.withdrawal.address",
    "session.id",
];
const WAF: [&str; 8] = [
    "client.ip",
    "http.request.method",
    "url.path",
    "url.query",
    "url.query_decoded",
    "user_agent.original",
    "waf.action",
    "waf.rule.ids",
];

fn source(yaml: &str) -> SourceDef {
    serde_saphyr::from_str(yaml).unwrap()
}

/// Records of one of the simulator's feeds.
fn simulated(feed: Feed) -> RawBatch {
    let mut simulator = Simulator::new(1, Micros(1_767_268_800_000_000), 500);
    let mut lines = Vec::with_capacity(MAX_ROWS);
    while lines.len() < MAX_ROWS {
        let record = simulator.next_record();
        if record.feed == feed {
            lines.push(record.line);
        }
    }
    batch(|n| lines[n].clone())
}

fn benchmarks(c: &mut Criterion) {
    let fields: Fields = serde_saphyr::from_str(include_str!("../../../schemas/fields.yml")).unwrap();
    let json = source(include_str!("../../../schemas/sources/json.yml"));
    let paloalto = source(include_str!("../../../schemas/sources/paloalto.yml"));
    let some = ["c-ip", "cs-method", "cs-uri-stem", "cs-uri-query", "sc-status", "cs-user-agent", "category"];
    let panos = ["source.ip", "destination.ip", "destination.port", "event.action", "panw.repeat_count"];
    let cases = [
        ("json, 7 fields wanted", &json, projection(&some, 0), batch(web)),
        ("json, 7 of 366 fields", &json, projection(&some, 359), batch(web)),
        ("json, validation alone", &json, projection(&[], 0), batch(web)),
        ("panos, 5 fields", &paloalto, projection(&panos, 0), batch(firewall)),
    ];
    let cases = cases.map(|(name, def, projection, raw)| (name.to_owned(), def, projection, raw));
    let api = source(include_str!("../../../schemas/sources/exchange_api.yml"));
    let waf = source(include_str!("../../../schemas/sources/aws_waf.yml"));
    let needed: [(_, &[&str], _); 4] = [
        (&json, &some, batch(web)),
        (&api, &API, simulated(Feed::Api)),
        (&waf, &WAF, simulated(Feed::Waf)),
        (&paloalto, &panos, simulated(Feed::Firewall)),
    ];
    let mut group = c.benchmark_group("decode");
    group.throughput(Throughput::Elements(MAX_ROWS as u64));
    for (name, def, projection, raw) in cases {
        bench(&mut group, &name, Decoder::new(def, &fields, &projection, [0; 32]).unwrap(), &raw);
    }
    for (def, needed, raw) in needed {
        let all = all_fields(def, &fields);
        let all: Vec<&str> = all.iter().map(|name| &**name).collect();
        let (unmapped, others) = all.split_last().unwrap();
        let with = |names: &[&str]| projection(&[names, &[*unmapped]].concat(), 0);
        let cases = [
            ("what rules need", projection(needed, 0)),
            ("what rules need, unmapped", with(needed)),
            ("all fields", projection(others, 0)),
            ("all fields, unmapped", with(others)),
        ];
        for (what, projection) in cases {
            let decoder = Decoder::new(def, &fields, &projection, [0; 32]).unwrap();
            bench(&mut group, &format!("{}, {what}", def.name), decoder, &raw);
        }
    }
}

fn bench(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, mut decoder: Decoder, raw: &RawBatch) {
    let (mut out, mut dead) = (Vec::new(), Vec::new());
    group.bench_function(name, |b| {
        b.iter(|| {
            out.clear();
            decoder.decode(black_box(raw), &mut out, &mut dead);
        });
    });
    assert!(dead.is_empty());
}

criterion_group!(benches, benchmarks);
criterion_main!(benches);
