//! What a person sees: snapshots of rule sets and of messages with their place.

use super::*;

#[test]
fn a_rule_set_as_a_whole() {
    let text = "title: Failed login\nname: failed\nstatus: test\nlogsource: {product: exchange, category: api}\ndetection:\n  \
                selection:\n    event.action: login\n    event.outcome|cased: failure\n    client.ip|cidr:\n      - 10.0.0.0/8\n      - 2001:db8::/32\n  \
                filter_monitor:\n    user.name|expand: '%admins%'\n  condition: selection and not 1 of filter_*\nlevel: low\n---\ntitle: Many failed logins\nid: many\n\
                correlation:\n  type: event_count\n  rules: failed\n  group-by: [client.ip]\n  timespan: 5m\n  condition: {gte: 50}\nlevel: high\n\
                vedette:\n  entity: client.ip\n  risk: {score: 50}\n";
    let set = load_texts(&[text]);
    assert!(set.rejected.is_empty() && set.warnings.is_empty());
    insta::assert_debug_snapshot!(
        set.rules.iter().map(|r| (&r.id, r.emits, &r.extras, &r.kind)).collect::<Vec<_>>()
    );
}

#[test]
fn messages_show_the_place() {
    let texts = [
        "title: t\nlogsource: {category: firewall}\ndetection:\n  selection:\n    field|contain: 'a b'\n  condition: selection\n".to_owned(),
        rule_with("  selection: {f: 1}\n  condition: selection and (filter or not selektion)\n"),
        rule_with("  selection:\n    f|re: '(?<=a)b'\n  condition: selection\n"),
        rule_with("  selection:\n    f|cidr: [10.0.0.0/8, 10.2.3.4/8]\n  condition: selection\n"),
        rule_with("  a: {f: 1}\n  condition: a |  count() by x > 5\n"),
        rule_with("  \"é\": {f: 1}\n  condition: 'é and (é or'\n"),
        "title: t\ntitle: u\n".to_owned(),
        "a: [b\nc: d\n".to_owned(),
        "title: t\ncorrelation:\n  type: event_counts\n  rules: [x]\n".to_owned(),
        "title: t\ncorrelation: {type: temporal, rules: [nobody], timespan: 5m}\n".to_owned(),
        "title: t\ncorrelation:\n  type: temporal\n  rules: [nobody]\n  timespan: 5 minutes\n".to_owned(),
        format!("{}vedette:\n  entitty: x\n", rule_with("  s: {f: 1}\n  condition: s\n")),
        format!("{}vedette:\n  respond: block\n", rule_with("  s: {f: 1}\n  condition: s\n")),
        format!("{}level: hihg\n", rule_with("  s: {f: 1}\n  condition: s\n")),
        "title: t\nfilter: {}\n".to_owned(),
        "# title: t\n".to_owned(),
    ];
    let mut shown = String::new();
    for text in &texts {
        let set = load_texts(&[text]);
        assert_eq!((set.rules.len(), set.rejected.len()), (0, 1), "{text}");
        shown.push_str(&render(&set.rejected[0], text, Style::default()));
        shown.push_str("\n\n");
    }
    insta::assert_snapshot!(shown);
}

#[test]
fn warnings_and_colours() {
    let text = rule_with("  s: {f: 1}\n  t: {f: 2}\n  condition: not s\n");
    let set = load_texts(&[&text]);
    let plain: Vec<String> =
        set.warnings.iter().map(|w| render(w, &text, Style { warning: true, color: false })).collect();
    insta::assert_snapshot!(plain.join("\n\n"));
    let coloured = render(&set.warnings[0], &text, Style { warning: true, color: true });
    assert!(coloured.contains("\u{1b}["));
}
