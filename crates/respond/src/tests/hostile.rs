//! Playbooks of any quality: whatever stands in a file, it is read or refused with its place, and costs no more than it may.

use std::fmt::Write as _;

use proptest::prelude::*;

use super::*;
use crate::cacao;

/// Pieces that lead deeper than letters do.
const PIECES: [&str; 18] = [
    "for: 0",
    "for: {first: 1h, growth: 4, ceiling: 1d}",
    "when: {count: 0}",
    "last: true",
    "target: *x",
    "&x",
    "[]",
    "{}",
    "null",
    "\n",
    "prefix: {ipv4: 0}",
    "guards: {share: 0.00001%}",
    "severity: {lte: low}",
    "name: é",
    "'",
    ": ",
    "- ",
    "99999999999999999999",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]
    #[test]
    fn any_text_is_read_or_refused_with_its_place(
        file in 0..11_usize,
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0..40_usize, prop::sample::select(&PIECES[..])), 0..6),
    ) {
        let mut text = files("detections/playbooks")[file].text.clone();
        for (at, cut, piece) in edits {
            let starts: Vec<usize> = text.char_indices().map(|(at, _)| at).collect();
            let Some(from) = (!starts.is_empty()).then(|| at.index(starts.len())) else { break };
            let to = (from + cut).min(starts.len() - 1);
            text.replace_range(starts[from]..starts[to], piece);
        }
        let set = read(&[&text]);
        let lines = text.lines().count();
        for rejection in set.rejected.iter().chain(&set.warnings) {
            prop_assert!((1..=lines + 1).contains(&rejection.line), "{}", rejection);
            prop_assert!(!vedette_sigma::render(rejection, &text, vedette_sigma::Style::default()).is_empty());
        }
        for playbook in &set.playbooks {
            for step in &playbook.body.steps {
                if let crate::Deed::Impose(_, limit) = step.deed {
                    prop_assert!(limit.first.0 > 0 && limit.first <= limit.ceiling && limit.ceiling <= Policy::default().ceiling);
                }
            }
            prop_assert!(cacao(playbook)["workflow"].is_object());
        }
    }
}

#[test]
fn what_there_is_too_much_of_is_refused() {
    let block = "do: block_address, target: client.ip, connectors: [crowdsec], for: 1h";
    let good = text("{on: alert, rules: [waf-class-burst]}", &format!("- {{{block}}}\n"));
    let steps: String = (0..33).map(|_| format!("- {{{block}}}\n")).collect();
    let tests = |n: usize| {
        let one = "- {name: x, alert: {rule: waf-class-burst}, expect: []}\n";
        format!("{good}tests:\n{}", one.repeat(n))
    };
    let many_rules: Vec<String> = (0..257).map(|n| format!("r{n}")).collect();
    for text in [
        text("{on: alert, rules: [waf-class-burst]}", &steps),
        tests(201),
        text(&format!("{{on: alert, rules: [{}]}}", many_rules.join(", ")), &format!("- {{{block}}}\n")),
    ] {
        let set = read(&[&text]);
        assert_eq!(set.rejected.len(), 1);
        assert_eq!(set.rejected[0].code, "too-many");
    }
    let mut all = String::new();
    for n in 0..513 {
        let one = good.replace("name: t", &format!("name: t{n}")).replace("7f1f0f7e", &format!("{n:08x}"));
        writeln!(all, "{one}---").unwrap();
    }
    let set = read(&[&all]);
    assert_eq!((set.playbooks.len(), set.rejected.len()), (512, 1));
    assert_eq!(set.rejected[0].code, "too-many");
}
