//! Requests to the byte, and answers as they are documented: `fixtures/` has one of each shape, written after the interface's guide.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use super::{
    answer::{self, Answer, Registered, Role, Tag, Unreadable},
    request::{Entry, MAX_POST, STATE, Timeout, command, messages, page, request},
};
use crate::settings::{Firewall, Secret};
use vedette_event::Micros;

fn entry(ip: &str, timeout: Option<i64>) -> Entry {
    let timeout = timeout.map(|seconds| Timeout::between(Micros(0), Micros(seconds * 1_000_000)).unwrap());
    Entry { ip: ip.to_owned(), tag: "vedette-block".into(), timeout }
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap()
}

#[test]
fn requests_are_written_as_documented() {
    let decoded = |body: Vec<u8>| {
        let pairs: Vec<_> = form_urlencoded::parse(&body).into_owned().collect();
        let [(name, value)] = pairs.as_slice() else { panic!("{pairs:?}") };
        assert_eq!(name, "cmd");
        value.clone()
    };
    let registered =
        messages("register", &[entry("203.0.113.7", Some(3_600)), entry("2001:db8::7", Some(1))]);
    let gone = messages("unregister", &[entry("203.0.113.0/25", None), entry("a\"<&b", None)]);
    insta::assert_snapshot!(text(registered[0].clone()), @"cmd=%3Cuid-message%3E%3Cversion%3E1.0%3C%2Fversion%3E%3Ctype%3Eupdate%3C%2Ftype%3E%3Cpayload%3E%3Cregister%3E%3Centry+ip%3D%22203.0.113.7%22+persistent%3D%220%22%3E%3Ctag%3E%3Cmember+timeout%3D%223600%22%3Evedette-block%3C%2Fmember%3E%3C%2Ftag%3E%3C%2Fentry%3E%3Centry+ip%3D%222001%3Adb8%3A%3A7%22+persistent%3D%220%22%3E%3Ctag%3E%3Cmember+timeout%3D%221%22%3Evedette-block%3C%2Fmember%3E%3C%2Ftag%3E%3C%2Fentry%3E%3C%2Fregister%3E%3C%2Fpayload%3E%3C%2Fuid-message%3E");
    insta::assert_snapshot!(decoded(registered[0].clone()), @r#"<uid-message><version>1.0</version><type>update</type><payload><register><entry ip="203.0.113.7" persistent="0"><tag><member timeout="3600">vedette-block</member></tag></entry><entry ip="2001:db8::7" persistent="0"><tag><member timeout="1">vedette-block</member></tag></entry></register></payload></uid-message>"#);
    insta::assert_snapshot!(decoded(gone[0].clone()), @r#"<uid-message><version>1.0</version><type>update</type><payload><unregister><entry ip="203.0.113.0/25"><tag><member>vedette-block</member></tag></entry><entry ip="a&quot;&lt;&amp;b"><tag><member>vedette-block</member></tag></entry></unregister></payload></uid-message>"#);
    insta::assert_snapshot!(decoded(command(&page(500, 501))), @"<show><object><registered-ip><limit>500</limit><start-point>501</start-point></registered-ip></object></show>");
    insta::assert_snapshot!(decoded(command(STATE)), @"<show><high-availability><state></state></high-availability></show>");
}

#[test]
fn the_key_is_in_a_header_that_no_log_shows() {
    let firewall = Firewall {
        hosts: vec!["https://fw.example.com/".into()],
        key: Secret::new("s3cret"),
        tag: "vedette".into(),
        vsys: Some("vsys1".into()),
        target: Some(Arc::from("0123")),
        capacity: 1,
    };
    let made = request(&firewall, "https://fw.example.com/", ("user-id", false), b"cmd=x".to_vec()).unwrap();
    insta::assert_snapshot!(format!("{} {}", made.method(), made.uri()), @"POST https://fw.example.com/api/?type=user-id&vsys=vsys1&target=0123");
    assert_eq!(made.headers()["x-pan-key"], "s3cret");
    assert!(!format!("{made:?} {firewall:?}").contains("s3cret"));
    let state = request(&firewall, "https://fw.example.com", ("op", true), Vec::new()).unwrap();
    insta::assert_snapshot!(state.uri(), @"https://fw.example.com/api/?type=op");
}

#[test]
fn messages_are_as_few_as_fit_and_nothing_is_lost_between_them() {
    let all: Vec<Entry> =
        (0..70_000).map(|n| entry(&format!("198.18.{}.{}", n / 256, n % 256), Some(2_592_000))).collect();
    let messages = messages("register", &all);
    assert!(messages.iter().all(|body| body.len() <= MAX_POST));
    assert!(
        messages.iter().rev().skip(1).all(|body| body.len() > MAX_POST - 200),
        "each but the last is full"
    );
    let entries = messages.iter().map(|body| {
        let pairs: Vec<_> = form_urlencoded::parse(body).collect();
        pairs[0].1.matches("<entry ").count()
    });
    assert_eq!(entries.sum::<usize>(), all.len());
}

#[test]
fn no_tag_is_for_ever() {
    let of = |micros: i64| Timeout::between(Micros(5), Micros(5 + micros)).map(Timeout::seconds);
    assert_eq!(of(999_999), None);
    assert_eq!(of(0), None);
    assert_eq!(of(-1), None);
    assert_eq!(of(i64::MIN), None);
    assert_eq!(of(1_999_999), Some(1), "no longer than wanted");
    assert_eq!(of(2_592_000_000_000), Some(2_592_000));
    assert_eq!(of(2_592_001_000_000), None);
    assert_eq!(Timeout::between(Micros::MIN, Micros::MAX), None);
}

fn read(name: &str) -> Answer {
    let path = format!("{}/src/dag/fixtures/{name}.xml", env!("CARGO_MANIFEST_DIR"));
    answer::read(&std::fs::read(path).unwrap()).unwrap()
}

#[test]
fn lists_are_read() {
    let tag = |name: &str, timeout| Tag { name: name.to_owned(), timeout };
    let row = |ip: &str, tags| Registered { ip: ip.to_owned(), tags };
    assert_eq!(
        read("registered").page().unwrap(),
        [
            row("203.0.113.7", vec![tag("vedette-block", Some(3_542)), tag("web & mail", Some(0))]),
            row("2001:db8::7", vec![tag("vedette-tag", Some(60))]),
            row("10.1.1.10-10.1.1.19", vec![tag("vm.state.poweredOn", None)]),
            row("10.1.1.0/24", vec![]),
        ]
    );
    assert_eq!(read("registered_none").page().unwrap(), []);
}

#[test]
fn what_is_no_list_is_never_an_empty_one() {
    assert_eq!(read("registered_file").page(), Err(Unreadable::File));
    for name in [
        "registered_elsewhere",
        "registered_counted_only",
        "error_malformed",
        "error_invalid_credential",
        "taken_there_already",
    ] {
        assert_eq!(read(name).page(), Err(Unreadable::NoList), "{name}");
    }
    for text in ["<response status='success'/>", "<response><result/></response>"] {
        assert_eq!(answer::read(text.as_bytes()).unwrap().page(), Err(Unreadable::NoList), "{text}");
    }
    let nameless = b"<response status='success'><result><entry/></result></response>";
    assert_eq!(answer::read(nameless), Err(Unreadable::NoList));
}

#[test]
fn what_is_there_already_and_what_is_gone_already_are_taken() {
    assert!(read("taken").is_taken() && read("taken").said.is_empty());
    let there = read("taken_there_already");
    assert!(there.is_taken() && there.said.iter().all(answer::Said::is_fine));
    let part = read("taken_in_part");
    assert!(part.is_taken());
    let bad: Vec<_> = part.said.iter().filter(|said| !said.is_fine()).collect();
    assert_eq!(
        (bad.len(), bad[0].ip.as_str(), bad[0].message.as_str()),
        (1, "203.0.113.8", "failed to unregister")
    );
    assert!(read("taken_as_a_line").is_taken());
    for name in ["error_malformed", "error_unauthorized", "error_invalid_credential"] {
        assert!(!read(name).is_taken(), "{name}");
    }
}

#[test]
fn errors_say_what_they_are() {
    let of = |name| (read(name).code, read(name).is_refusal(), read(name).message);
    assert_eq!(of("error_invalid_credential"), (Some(403), true, "Invalid Credential".to_owned()));
    assert_eq!(of("error_unauthorized"), (Some(16), true, "Unauthorized request".to_owned()));
    let unexpected = "show -> object -> registered-ip is unexpected".to_owned();
    assert_eq!(of("error_malformed"), (Some(17), false, unexpected));
}

#[test]
fn the_part_in_a_pair_is_told() {
    for name in ["state_alone", "state_active", "state_both_active", "state_panorama"] {
        assert_eq!(read(name).role(), Ok(Role::Active), "{name}");
    }
    assert_eq!(read("state_passive").role(), Ok(Role::Standby("passive".into())));
    for name in ["registered", "registered_none", "error_malformed"] {
        assert_eq!(read(name).role(), Err(Unreadable::NoState), "{name}");
    }
}

#[test]
fn hostile_answers_are_none() {
    let deep = format!("{}{}", "<response>".to_owned() + &"<a>".repeat(40), "</a>".repeat(40));
    let bomb = "<!DOCTYPE r [<!ENTITY a 'aaaaaaaa'><!ENTITY b '&a;&a;&a;'>]><response status='success'>&b;</response>";
    for (text, why) in [
        ("", Unreadable::NoXml),
        ("<response", Unreadable::NoXml),
        ("<response status='success'><result>", Unreadable::NoXml),
        ("<response></result>", Unreadable::NoXml),
        ("<html><body/></html>", Unreadable::NoResponse),
        ("<response/><response/>", Unreadable::NoResponse),
        (bomb, Unreadable::Entity),
        ("<response>&b;</response>", Unreadable::Entity),
        ("<response status='&b;'/>", Unreadable::Entity),
        ("<response>&#xD800;</response>", Unreadable::Entity),
        (&deep, Unreadable::TooDeep),
    ] {
        assert_eq!(answer::read(text.as_bytes()), Err(why), "{text}");
    }
    assert_eq!(answer::read(b"<response>\xff</response>"), Err(Unreadable::NoXml));
    // Texts are cut, and steer no terminal.
    let long = format!(
        "<response status='error'><msg><line>\u{1b}[31m{}</line></msg></response>",
        "é".repeat(5_000)
    );
    let message = answer::read(long.as_bytes()).unwrap().message;
    assert!(message.starts_with(" [31mé") && message.chars().count() <= 200, "{message}");
    let many = format!("<response status='error'>{}</response>", "<line>a</line>".repeat(50_000));
    assert!(answer::read(many.as_bytes()).unwrap().message.len() < 200);
}
