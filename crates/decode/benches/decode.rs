//! Time to decode a batch: JSON with few and with many wanted fields, and PAN-OS lines.
#![allow(missing_docs, clippy::unwrap_used)]

use std::{hint::black_box, sync::Arc};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use vedette_decode::Decoder;
use vedette_event::{
    Fields, Flags, MAX_ROWS, Partition, Projection, RawBatch, RawBatchBuilder, SourceDef, SourceIx, TopicIx,
};

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

fn benchmarks(c: &mut Criterion) {
    let fields: Fields = serde_saphyr::from_str(include_str!("../../../schemas/fields.yml")).unwrap();
    let json: SourceDef = serde_saphyr::from_str(include_str!("../../../schemas/sources/json.yml")).unwrap();
    let paloalto: SourceDef =
        serde_saphyr::from_str(include_str!("../../../schemas/sources/paloalto.yml")).unwrap();
    let some = ["c-ip", "cs-method", "cs-uri-stem", "cs-uri-query", "sc-status", "cs-user-agent", "category"];
    let panos = ["source.ip", "destination.ip", "destination.port", "event.action", "panw.repeat_count"];
    let cases = [
        ("json, 7 fields wanted", &json, projection(&some, 0), batch(web)),
        ("json, 7 of 366 fields", &json, projection(&some, 359), batch(web)),
        ("json, validation alone", &json, projection(&[], 0), batch(web)),
        ("panos, 5 fields", &paloalto, projection(&panos, 0), batch(firewall)),
    ];
    let mut group = c.benchmark_group("decode");
    group.throughput(Throughput::Elements(MAX_ROWS as u64));
    for (name, def, projection, raw) in cases {
        let mut decoder = Decoder::new(def, &fields, &projection, [0; 32]).unwrap();
        let (mut out, mut dead) = (Vec::new(), Vec::new());
        group.bench_function(name, |b| {
            b.iter(|| {
                out.clear();
                decoder.decode(black_box(&raw), &mut out, &mut dead);
            });
        });
        assert!(dead.is_empty());
    }
}

criterion_group!(benches, benchmarks);
criterion_main!(benches);
