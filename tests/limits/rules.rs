//! Rule files made to be dear: what it takes to load and compile one goes by its length.

use std::fmt::Write as _;

use super::{batch, compile, load, measured};

/// A rule file of about so many bytes.
type Hostile = (&'static str, fn(usize) -> String);

const HEAD: &str = "title: t\nid: t\nlogsource: {category: x}\ndetection:\n";

fn list(n: usize, element: impl Fn(usize) -> String) -> String {
    (0..n).map(element).collect::<Vec<_>>().join(", ")
}

/// Correlations, each over all eight of the level below, on so many levels.
fn levels(levels: usize, generate: bool) -> String {
    let mut text = format!("{HEAD}  s: {{f: 1}}\n  condition: s\n");
    let mut below = vec!["t".to_owned()];
    for level in 0..levels {
        let here: Vec<String> = (0..8).map(|n| format!("l{level}w{n}")).collect();
        for name in &here {
            let rules = below.join(", ");
            writeln!(
                text,
                "---\ntitle: {name}\nid: {name}\ncorrelation: {{type: event_count, rules: [{rules}], \
                 group-by: [user], timespan: 5m, generate: {generate}, condition: {{gte: 2}}}}"
            )
            .expect("memory");
        }
        below = here;
    }
    text
}

fn correlations(n: usize, rules: &str) -> String {
    let of = |n: usize| {
        format!(
            "title: c{n}\nid: c{n}\ncorrelation: {{type: event_count, rules: [{rules}], timespan: 5m, \
             condition: {{gte: 2}}}}\n---\n"
        )
    };
    (0..n).map(of).collect()
}

const HOSTILE: [Hostile; 14] = [
    ("a long list", |n| {
        format!("{HEAD}  s: {{f: [{}]}}\n  condition: s\n", list(n / 8, |k| format!("v{k}")))
    }),
    ("short texts", |n| {
        let short = |k: usize| format!("{}{}", char::from(b'a' + (k % 26) as u8), k / 26 % 100);
        format!("{HEAD}  s: {{f|contains: [{}]}}\n  condition: s\n", list(n / 5, short))
    }),
    ("networks", |n| {
        let network = |k: usize| format!("10.{}.{}.0/24", k / 256 % 256, k % 256);
        format!("{HEAD}  s: {{f|cidr: [{}]}}\n  condition: s\n", list(n / 16, network))
    }),
    ("keywords", |n| format!("{HEAD}  s: [{}]\n  condition: s\n", list(n / 8, |k| format!("w{k}")))),
    ("a condition that repeats", |n| {
        let (values, names) = (list(n / 16, |k| format!("v{k}")), ["s"; 3].join(" or "));
        format!("{HEAD}  s: {{f: [{values}]}}\n  condition: {names}\n")
    }),
    ("quantifiers", |n| {
        let searches: String = (0..n / 32).map(|k| format!("  s{k}: {{f: v{k}}}\n")).collect();
        format!("{HEAD}{searches}  condition: 1 of s* and not all of s*\n")
    }),
    ("parentheses", |n| {
        let of = |k: usize| format!("  s{k}: {{f: {k}}}\n");
        let rule = |k: usize| {
            let deep = format!("{}s0{}", "not (".repeat(20), ")".repeat(20));
            format!(
                "title: t\nid: t{k}\nlogsource: {{category: x}}\ndetection:\n{}  condition: {deep}\n---\n",
                of(0)
            )
        };
        (0..n / 230).map(rule).collect()
    }),
    ("expressions", |n| {
        format!(
            "{HEAD}  s: {{f|re: [{}]}}\n  condition: s\n",
            list(n / 24, |k| format!("'{k}x[a-z]{{1,9}}'"))
        )
    }),
    ("dashes", |n| {
        format!("{HEAD}  s: {{f|windash: [{}]}}\n  condition: s\n", list(n / 24, |k| format!("'-a{k} -b'")))
    }),
    ("anchors", |n| format!("a: &a [{}]\nb: *a\n", list(n / 4, |_| "x".to_owned()))),
    ("one name", |n| {
        format!("{}{}", "name: x\n---\n".repeat(n / 24), correlations(n / 900, &vec!["x"; 200].join(", ")))
    }),
    ("unknown names", |n| correlations(n / 2_000, &list(150, |k| format!("unknown{k}")))),
    ("unknown keys", |n| {
        format!(
            "{HEAD}  s: {{f: 1}}\n  condition: s\n{}",
            (0..n / 24).map(|k| format!("{k}{}: 1\n", "z".repeat(14))).collect::<String>()
        )
    }),
    ("nothing but documents", |n| "---\nx: 1\n".repeat(n / 9)),
];

#[test]
fn what_a_rule_file_costs_goes_by_its_length() {
    const SIZE: usize = 24 << 10;
    let costs = |text: &str| {
        let (set, info) = measured(|| compile(load(text)));
        drop(set);
        (info.count_total, info.bytes_max)
    };
    for (name, hostile) in HOSTILE {
        let (text, twice) = (hostile(SIZE), hostile(2 * SIZE));
        let ((count, bytes), (double, double_bytes)) = (costs(&text), costs(&twice));
        let told = format!("{name}: {count} allocations and {bytes} bytes for {} bytes", text.len());
        assert!(double <= count * 23 / 10 + 1_000, "{told}, {double} for one twice as long");
        assert!(double_bytes <= bytes * 23 / 10 + (1 << 20), "{told}, {double_bytes} for one twice as long");
        assert!(count < 80 * text.len() as u64, "{told}");
    }
}

#[test]
fn paths_through_correlations_cost_nothing() {
    let costs = |text: &str| {
        let (compiled, info) = measured(|| compile(load(text)));
        assert_eq!(compiled.rules.rejected, []);
        // What is asked of every rule once a second.
        let (sources, asked) =
            measured(|| compiled.rules.iter().map(|(ix, _)| compiled.sources_of(ix).len()).sum::<usize>());
        assert_eq!(sources, compiled.rules.rules.len());
        (info.count_total + asked.count_total) as usize
    };
    for generate in [false, true] {
        // Each level has eight correlations with eight references each; there are 8^14 paths.
        let counts = [4, 8, 14].map(|n| costs(&levels(n, generate)));
        // A tree for each rule that raises alerts: of all it refers to, so twice as deep is four times as much.
        let most = if generate { 14 * 14 / 16 + 2 } else { 14 / 4 + 2 };
        assert!(counts[2] < counts[0] * most, "{counts:?}");
    }
}

#[test]
fn an_event_is_tried_once_at_each_rule_of_a_tree() {
    let compiled = compile(load(&levels(14, false)));
    let mut detector = compiled.detector().expect("the source is sound");
    let mut engine =
        vedette_engine::Engine::new(compiled.clone(), vedette_engine::EngineSettings::new([7; 32]));
    engine.assign(super::PARTITION, super::SOURCE, 0);
    let mut out = vedette_engine::Output::default();
    let mut costs = Vec::new();
    for n in 0..4 {
        let records: Vec<String> =
            (0..50).map(|_| r#"{"category":"x","f":1,"user":"u"}"#.to_owned()).collect();
        let detected = detector.detect(&batch(n * 50, &records));
        costs.push(measured(|| engine.absorb(detected, &mut out)).1.count_total);
    }
    assert!(costs.iter().all(|count| *count < 200_000), "{costs:?}");
}
