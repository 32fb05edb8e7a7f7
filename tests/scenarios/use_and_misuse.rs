//! How each command ends, what it says when it is used wrongly, and that machines can read what is for them.

use serde_json::Value;

use super::program::Folder;
use crate::binary::root;

const RULE: &str = "title: A login\nid: 1c1c5dd4-7b3c-4d3f-9a53-0f3e8d7c1a55\nlogsource: {category: api}\n\
                    detection:\n  selection:\n    event.action: login\n  condition: selection\n";

#[test]
fn every_misuse_has_its_status_and_names_what_is_wrong() {
    let folder = Folder::new();
    folder.write("rules/good.yml", RULE);
    folder.write("refused/bad.yml", &RULE.replace("action:", "action|contians:"));
    folder.write("empty/readme.txt", "no rules");
    folder.write("emptied/bad.yml", "# nothing\n");
    folder.write("log", "{\"event\": \"x\"}\n");
    folder.write("damaged.gz", "\u{1f}\u{0}");
    folder.write("wrong.yml", "kafka: {brokers: a:1, topics: [{name: t, source: json}], brokerz: b}\n");
    folder.write("lost.yml", "kafka: {brokers: a:1, topics: [{name: t, source: lost}]}\nrules: [rules]\n");
    folder.write("fine.yml", "kafka: {brokers: a:1, topics: [{name: t, source: json}]}\nrules: [rules]\n");
    let fine = "kafka: {brokers: a:1, topics: [{name: t, source: json}]}\n";
    folder.write("endless.yml", &fine.replace("]}", "],\n dead_letter_topic: t}"));
    folder.write("nowhere.yml", &format!("{fine}rules: [nowhere]\n"));
    folder.write("schemas.yml", &format!("{fine}schemas: nowhere\nrules: [rules]\n"));
    folder.write("tls.yml", &format!("{fine}rules: [rules]\napi: {{tls: {{certificate: log, key: log}}}}\n"));
    folder.write("open.yml", &format!("{fine}api: {{listen: '0.0.0.0:0'}}\nrules: [rules]\n"));
    let cases: &[(&str, i32, &str)] = &[
        ("", 2, "Usage: vedette"),
        ("scam", 2, "a similar subcommand exists: 'scan'"),
        ("scan --rules rules log", 0, "1 records, 1 events: 0 alerts"),
        ("scan --rules rules --rules refused log", 1, "did you mean `contains`?"),
        ("scan --rules rules --source nope log", 2, "there is no source `nope`; there are: "),
        ("scan --rules nowhere log", 2, "there is no rule file or folder `nowhere`"),
        ("scan --rules empty log", 2, "no rule file (*.yml) in empty"),
        ("scan log", 2, "there is no rule file or folder `detections/`"),
        ("scan --rules rules --threads 0 log", 2, "0 is not in 1..=256"),
        ("scan --rules rules nothing", 3, "cannot open nothing: No such file or directory (os error 2)\n"),
        ("scan --rules rules rules", 3, "cannot open rules: is a directory\n"),
        ("decode log", 0, "1 records: 1 events, 0 dead letters"),
        ("decode --dead-letters no/such/dir log", 3, "cannot write `no/such/dir`"),
        ("decode --dead-letters - log", 2, "name a file; standard output has the events"),
        ("decode --dead-letters ./log rules/good.yml log", 2, "`./log` is a file that is read"),
        ("decode log", 0, "1 records: 1 events, 0 dead letters"),
        ("decode - -", 2, "`-` is there twice"),
        ("check rules", 0, ""),
        ("check refused", 1, ""),
        ("check rules emptied", 1, ""),
        ("scan --rules rules --rules emptied log", 1, "delete the file: that removes the rules it held"),
        ("check empty", 2, "no rule file (*.yml) in empty"),
        ("check --format yaml rules", 2, "[possible values: text, json, sarif, junit]"),
        ("run", 2, "start from vedette.example.yml"),
        ("run -c wrong.yml", 2, "wrong.yml:1:58: unknown field `brokerz`, expected one of brokers"),
        ("run -c endless.yml", 2, "endless.yml:2:21: kafka.dead_letter_topic: `t` is an input topic too"),
        ("run -c nowhere.yml", 2, "nowhere.yml:2:8: rules: there is no rule file or folder `nowhere`"),
        ("run -c schemas.yml", 2, "schemas.yml:2:10: schemas: nowhere/fields.yml: cannot be read"),
        ("run -c tls.yml", 2, "tls.yml:3:12: api.tls: cannot use the TLS certificate and key: "),
        ("run -c open.yml", 2, "open.yml:2:15: api.listen: refusing to listen on 0.0.0.0:0"),
        ("run -c /dev/zero", 2, "configuration /dev/zero: is longer than 1048576 bytes"),
        ("check /dev/zero", 1, ""),
        (
            "run -c lost.yml",
            2,
            "lost.yml:1:50: kafka.topics[0].source: there is no source `lost`; there are: ",
        ),
        (
            "demo --no-browser --port 0 --rules nowhere",
            2,
            "--rules: there is no rule file or folder `nowhere`",
        ),
        ("token revoke --name nobody -c fine.yml", 2, "there is no token `nobody`"),
        ("token create --role admin --name -c fine.yml", 2, "--name"),
        ("token create --name a/b --role admin -c fine.yml", 2, "letters, digits"),
        (
            "demo --no-browser --port 0 --rules refused",
            2,
            "no rule could be loaded from refused; `vedette check refused` says why",
        ),
    ];
    for (line, code, says) in cases {
        let args: Vec<&str> = line.split_whitespace().collect();
        let done = folder.run(&args);
        assert_eq!(done.code, *code, "{line}: {}", done.err);
        assert!(done.err.contains(says), "{line}: {}", done.err);
        assert!(!done.err.contains("panicked"), "{line}: {}", done.err);
    }
}

#[test]
fn names_that_are_not_to_be_had_are_refused_before_a_password_is_asked_for() {
    let folder = Folder::new();
    folder.write("fine.yml", "kafka: {brokers: a:1, topics: [{name: t, source: json}]}\nrules: [rules]\n");
    folder.write("rules/good.yml", RULE);
    for (line, code, says) in [
        ("token create --name Vedette --role admin", 2, "`Vedette` is what the audit log calls"),
        ("user add --name vedette --role admin", 2, "`vedette` is what the audit log calls"),
        ("token create --name siem --role reader", 0, ""),
        // Its password, which is empty, would be refused, too.
        ("user add --name siem --role admin", 2, "a token named `siem` exists already"),
        ("user add --name ann --role admin", 2, "characters"),
    ] {
        let args: Vec<&str> = line.split_whitespace().chain(["-c", "fine.yml"]).collect();
        let done = folder.run(&args);
        assert_eq!(done.code, code, "{line}: {}", done.err);
        assert!(done.err.contains(says), "{line}: {}", done.err);
    }
}

#[test]
fn help_has_an_example_of_every_command() {
    let folder = Folder::new();
    for command in [
        "run",
        "demo",
        "scan",
        "decode",
        "check",
        "playbook",
        "playbook list",
        "playbook test",
        "playbook export",
        "token",
        "token create",
        "token list",
        "token revoke",
        "topic",
        "topic accept",
        "checkpoint",
        "checkpoint reset",
    ] {
        let args: Vec<&str> = command.split(' ').chain(["--help"]).collect();
        let done = folder.run(&args);
        assert_eq!(done.code, 0, "{}", done.err);
        assert!(
            done.out.contains(&format!("\n  vedette {command}")) || done.out.contains("$(vedette token"),
            "{}",
            done.out
        );
    }
}

#[test]
fn every_record_becomes_events_or_a_dead_letter_with_its_reason() {
    let folder = Folder::new();
    folder.write("log", "{\"action\": \"login\"}\n\nno json\n{\"action\": \"logout\"}\n{\"n\": 1e999}\n");
    let done = folder.run(&["decode", "--source", "json", "--dead-letters", "dead", "log"]);
    assert_eq!(done.code, 0, "{}", done.err);
    assert_eq!(done.err, "4 records: 2 events, 2 dead letters\n  1 malformed\n  1 number_range\n");
    let offsets: Vec<Value> = done
        .out
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["vedette.offset"].clone())
        .collect();
    // A blank line has no number.
    assert_eq!(offsets, [0, 2]);
    let dead = std::fs::read_to_string(folder.path("dead")).unwrap();
    let dead: Vec<Value> = dead.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&dead[0]["record"], &dead[0]["reason"]), (&1.into(), &"malformed".into()));
    assert_eq!((&dead[0]["file"], &dead[0]["payload"]), (&"log".into(), &"no json".into()));
    assert_eq!((&dead[1]["record"], &dead[1]["reason"]), (&3.into(), &"number_range".into()));
}

#[test]
fn a_check_can_be_read_by_machines() {
    let folder = Folder::new();
    let test = "vedette:\n  tests:\n    - name: a < b\n      events: {template: {event.action: login}, count: 2}\n      \
                expect: {alerts: 7}\n";
    folder.write("my rules/failing.yml", &format!("{RULE}{test}"));
    folder.write("my rules/refused.yml", &RULE.replace("a55", "a56").replace("condition: s", "condition: z"));
    let run = |format| {
        let done = folder.run(&["check", "--format", format, "my rules"]);
        assert_eq!((done.code, done.err.as_str()), (1, ""), "{format}");
        done.out
    };
    let json: Value = serde_json::from_str(&run("json")).unwrap();
    assert_eq!((&json["accepted"], &json["rejected"][0]["line"]), (&1.into(), &7.into()));
    assert_eq!(json["tests"][0]["passed"], false);
    let sarif: Value = serde_json::from_str(&run("sarif")).unwrap();
    let results = sarif["runs"][0]["results"].as_array().unwrap();
    let ids: Vec<&str> = results.iter().map(|r| r["ruleId"].as_str().unwrap()).collect();
    assert_eq!(ids, ["unknown-identifier", "test-failed"]);
    let uri = &results[0]["locations"][0]["physicalLocation"]["artifactLocation"]["uri"];
    assert_eq!(uri, "my%20rules/refused.yml");
    let junit = run("junit");
    assert!(junit.contains(r#"<testsuite name="vedette check" tests="2" failures="2">"#), "{junit}");
    assert!(junit.contains(r#"name="a &lt; b""#), "{junit}");
    let text = run("text");
    assert!(
        text.contains("no search identifier is called `zelection`")
            && text.ends_with("0 tests passed, 1 failed\n"),
        "{text}"
    );
    assert!(!text.contains('\u{1b}'), "colours belong on terminals only");
}

#[test]
fn playbooks_are_checked_with_the_rules_beside_them_listed_and_exported() {
    let folder = Folder::new();
    let detections = root().join("detections");
    folder.write("mine/rules/rule.yml", RULE);
    let playbook = "title: t\nid: 7f1f0f7e-8a44-4a3e-9c51-0d7bb2d2a001\nname: NAME\ndate: 2026-11-28\n\
        trigger: {on: both}\nsteps:\n- {do: notify, connectors: [KIND]}\n\
        tests:\n- {name: a < b, alert: {rule: a55}, expect: []}\n";
    let id = RULE.lines().find_map(|line| line.strip_prefix("id: ")).expect("the rule has an id");
    let playbook = playbook.replace("a55", id);
    folder.write("mine/playbooks/failing.yml", &playbook.replace("NAME", "failing").replace("KIND", "slack"));
    let refused =
        playbook.replace("NAME", "refused").replace("KIND", "slakc").replace("7f1f0f7e", "8f1f0f7e");
    folder.write("mine/playbooks/refused.yml", &refused);
    for path in ["mine", "mine/playbooks", "mine/playbooks/failing.yml"] {
        let json = folder.run(&["check", "--format", "json", path]);
        assert_eq!((json.code, json.err.as_str()), (1, ""), "{path}");
        let json: Value = serde_json::from_str(&json.out).unwrap();
        let found = &json["playbooks"];
        assert_eq!((&json["accepted"], &found["accepted"]), (&1.into(), &1.into()), "{path}");
        assert_eq!(found["rejected"][0]["code"], "unknown-connector");
        assert_eq!(
            (&found["tests"][0]["playbook"], &found["tests"][0]["passed"]),
            (&"failing".into(), &false.into())
        );
    }
    let sarif: Value =
        serde_json::from_str(&folder.run(&["check", "--format", "sarif", "mine"]).out).unwrap();
    let ids = sarif["runs"][0]["results"].as_array().unwrap().iter().map(|r| r["ruleId"].as_str().unwrap());
    assert_eq!(ids.collect::<Vec<_>>(), ["unknown-connector", "test-failed"]);
    let junit = folder.run(&["check", "--format", "junit", "mine"]).out;
    assert!(
        junit.contains(r#"tests="2" failures="2">"#)
            && junit.contains(r#"classname="failing" name="a &lt; b">"#),
        "{junit}"
    );
    let text = folder.run(&["check", "mine"]).out;
    assert!(text.contains("did you mean `slack`?"), "{text}");
    assert!(
        text.ends_with("1 playbooks accepted, 1 refused, 0 warnings; 0 tests passed, 1 failed\n"),
        "{text}"
    );

    let rules = detections.display().to_string();
    let list = folder.run(&["playbook", "list", "--rules", &rules]);
    assert_eq!((list.code, list.err.as_str()), (0, ""));
    assert_eq!(list.out.lines().count(), 2 + 11, "{}", list.out);
    assert!(list.out.contains("notice or alert: wd-whitelist-24h"), "{}", list.out);
    let test = folder.run(&["playbook", "test", "--rules", &rules, "triage"]);
    assert_eq!((test.code, test.out.as_str()), (0, "3 tests passed, 0 failed\n"));
    let test = folder.run(&["playbook", "test", "--rules", "mine"]);
    assert!(
        test.code == 1 && test.out.contains("failed: expected 0 proposals, came 1: notify"),
        "{}",
        test.out
    );
    let export = folder.run(&["playbook", "export", "--rules", &rules, "ddos"]);
    let cacao: Value = serde_json::from_str(&export.out).unwrap();
    assert_eq!((&cacao["type"], &cacao["spec_version"]), (&"playbook".into(), &"cacao-2.0".into()));
    let nobody = folder.run(&["playbook", "export", "--rules", &rules, "nobody"]);
    assert!(
        nobody.code == 2 && nobody.err.contains("there is no playbook `nobody`; there are: "),
        "{}",
        nobody.err
    );
}

#[test]
fn our_own_detections_pass_their_tests() {
    let folder = Folder::new();
    let done = folder.run(&["check", &root().join("detections").display().to_string()]);
    assert_eq!(done.code, 0, "{}", done.out);
    assert!(
        done.out.contains(" 0 refused, 0 warnings; ") && done.out.ends_with(" 0 failed\n"),
        "{}",
        done.out
    );
}

#[test]
fn schemas_of_the_working_folder_come_before_the_built_in_ones() {
    let folder = Folder::new();
    folder.write("schemas/fields.yml", &std::fs::read_to_string(root().join("schemas/fields.yml")).unwrap());
    let source = "name: till\ndescription: Tills.\nform: api_json\nlogsource: {category: api}\ndisorder: 10s\n\
                  future: 10s\nentity: []\nfields: {user.name: cashier}\n";
    folder.write("schemas/sources/till.yml", source);
    folder.write("log", "{\"cashier\": \"bob\"}\n");
    let done = folder.run(&["decode", "--source", "till", "log"]);
    assert_eq!(done.code, 0, "{}", done.err);
    assert!(done.out.contains("\"user.name\":\"bob\""), "{}", done.out);
    folder.write("log", "{\"cashier\": \"bob\", \"drawer\": {\"open\": [1, 2]}}\n");
    let done = folder.run(&["decode", "--source", "till", "--unmapped", "log"]);
    assert!(done.out.contains("\"event.unmapped\":{\"drawer\":{\"open\":[1,2]}}"), "{}", done.out);
    folder.write("schemas/sources/till.yml", "name: till\nfrom: api_json\n");
    let done = folder.run(&["decode", "--source", "till", "log"]);
    assert_eq!(done.code, 2, "{}", done.err);
    assert!(done.err.contains("till.yml:2:1: unknown field `from`"), "{}", done.err);
}

#[test]
fn tokens_are_made_listed_and_revoked() {
    let folder = Folder::new();
    folder.write("vedette.yml", "kafka: {brokers: a:1, topics: [{name: t, source: json}]}\n");
    let create = ["token", "create", "--name", "siem-bridge", "--role", "analyst"];
    let made = folder.run(&create);
    assert_eq!(made.code, 0, "{}", made.err);
    assert!(made.out.starts_with("vdt_") && made.out.lines().count() == 1, "{}", made.out);
    let again = folder.run(&create);
    assert_eq!(again.code, 2, "{}", again.err);
    let list = folder.run(&["token", "list"]).out;
    assert!(list.contains("siem-bridge") && list.contains("analyst"), "{list}");
    assert!(!list.contains(made.out.trim()), "a token is shown once");
    assert_eq!(folder.run(&["token", "revoke", "--name", "siem-bridge"]).code, 0);
    assert_eq!(folder.run(&["token", "revoke", "--name", "siem-bridge"]).code, 2);
    assert_eq!(folder.run(&create).code, 0, "a revoked name is free again");
}

#[test]
fn one_odd_record_does_not_decide_what_a_file_is() {
    let folder = Folder::new();
    folder.write_day(5);
    let api = std::fs::read_to_string(folder.path("api")).unwrap();
    folder.write("odd", &format!("{{\"version\": 1}}\n{api}"));
    assert!(folder.run(&["decode", "odd"]).err.starts_with("odd: read as source `exchange_api`\n"));
    folder.write("any", "{\"version\": 1}\n[]\n");
    assert!(folder.run(&["decode", "any"]).err.starts_with("any: read as source `json`\n"));
}
