//! Letters, against mail servers on this machine that fail as real ones do. `tests/respond` has the real one.

use std::{path::Path, process::Command, time::Duration};

use super::*;
use crate::{
    Connectors, Courier,
    settings::{Mail, MailTls, Secret},
    tell::{mailer::Mailer, request::Answer},
};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader},
    net::TcpListener,
    sync::mpsc,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    },
};

/// What a server does when it is told something; told nothing, it greets.
enum Does {
    Says(&'static str),
    Hangs,
    Leaves,
    /// Says this in the clear, and goes on within TLS.
    Upgrades(&'static str),
}
use Does::{Hangs, Leaves, Says, Upgrades};

/// What one does that takes everything.
fn usual(command: &str) -> Does {
    Says(match command.split([' ', ':']).next().unwrap() {
        "" => "220 mail ready",
        "EHLO" => "250-mail\r\n250-STARTTLS\r\n250 AUTH PLAIN LOGIN",
        "AUTH" => "235 welcome",
        "DATA" => "354 go on",
        "QUIT" => "221 bye",
        _ => "250 fine",
    })
}

type Script = fn(usize, &str) -> Does;

/// A server that does what the script says of the nth connection; each line, or letter, that it was told.
async fn serving(script: Script, tls: Option<TlsAcceptor>) -> (u16, mpsc::UnboundedReceiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (told, heard) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        for session in 0.. {
            let Ok((stream, _)) = listener.accept().await else { return };
            let (told, tls) = (told.clone(), tls.clone());
            tokio::spawn(async move {
                let script = |command: &str| script(session, command);
                let Some(stream) = talk(stream, true, script, &told).await else { return };
                let _ = told.send("(upgraded)".to_owned());
                match tls.unwrap().accept(stream).await {
                    Ok(stream) => drop(talk(stream, false, script, &told).await),
                    Err(_) => drop(told.send("(no TLS)".to_owned())),
                }
            });
        }
    });
    (port, heard)
}

/// Talks until the end; the stream, where it is to go on within TLS.
async fn talk<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    greets: bool,
    script: impl Fn(&str) -> Does,
    told: &mpsc::UnboundedSender<String>,
) -> Option<S> {
    let mut stream = BufReader::new(stream);
    let (mut command, mut greets) = (String::new(), greets);
    loop {
        if !std::mem::take(&mut greets) {
            command.clear();
            if stream.read_line(&mut command).await.unwrap_or(0) == 0 {
                return None;
            }
            let _ = told.send(command.trim_end().to_owned());
        }
        match script(command.trim_end()) {
            Says(text) => {
                stream.write_all(format!("{text}\r\n").as_bytes()).await.ok()?;
                if text.starts_with("354") {
                    let mut letter = String::new();
                    while !letter.ends_with("\r\n.\r\n") {
                        (stream.read_line(&mut letter).await.unwrap_or(0) > 0).then_some(())?;
                    }
                    let _ = told.send(letter);
                    match script("(letter)") {
                        Says(text) => stream.write_all(format!("{text}\r\n").as_bytes()).await.ok()?,
                        Hangs => std::future::pending().await,
                        Leaves | Upgrades(_) => return None,
                    }
                }
            }
            Hangs => std::future::pending().await,
            Leaves => return None,
            Upgrades(text) => {
                stream.write_all(format!("{text}\r\n").as_bytes()).await.ok()?;
                return Some(stream.into_inner());
            }
        }
    }
}

fn mail(port: u16, tls: MailTls) -> Mail {
    Mail {
        server: "localhost".to_owned(),
        port,
        tls,
        private: true,
        authorities: None,
        from: "Vedette <vedette@example.com>".parse().unwrap(),
        to: ["ann@example.com", "bob@example.com"].map(|to| to.parse().unwrap()).into(),
        login: None,
    }
}

fn login() -> Option<(Secret, Secret)> {
    Some((Secret::new("soc"), Secret::new("hunter2hunter2")))
}

/// Sends one letter; what came of it, who was left out, what the server was told.
async fn sent(script: Script, set: impl FnOnce(&mut Mail)) -> (Answer, Option<String>, Vec<String>) {
    sent_within(script, None, set).await
}

async fn sent_within(
    script: Script,
    tls: Option<TlsAcceptor>,
    set: impl FnOnce(&mut Mail),
) -> (Answer, Option<String>, Vec<String>) {
    let (port, mut heard) = serving(script, tls).await;
    let mut mail = mail(port, MailTls::None);
    set(&mut mail);
    let mailer = Mailer::new(&mail, Duration::from_secs(2)).unwrap();
    let posted = mailer.send(b"Subject: x\r\n\r\n.hidden\r\n").await;
    // What it was told it has written down before it answered, but for what it was told last.
    tokio::time::sleep(Duration::from_millis(50)).await;
    let heard = std::iter::from_fn(|| heard.try_recv().ok()).collect();
    (posted.answer, posted.left_out, heard)
}

#[tokio::test]
async fn a_letter_goes_to_all_and_a_farewell_that_hangs_does_not_have_it_sent_again() {
    let script: Script = |_, command| if command == "QUIT" { Hangs } else { usual(command) };
    let (answer, left_out, heard) = sent(script, |mail| mail.login = None).await;
    assert_eq!((answer, left_out), (Answer::Taken, None));
    let letter = "Subject: x\r\n\r\n..hidden\r\n\r\n.\r\n";
    let expected = [
        "EHLO example.com",
        "MAIL FROM:<vedette@example.com>",
        "RCPT TO:<ann@example.com>",
        "RCPT TO:<bob@example.com>",
        "DATA",
        letter,
        "QUIT",
    ];
    assert_eq!(heard, expected);
}

#[tokio::test]
async fn what_is_for_good_is_refused_and_what_may_pass_is_tried_again() {
    let refused = |answer: &Answer| matches!(answer, Answer::Refused(_));
    let scripts: [(Script, bool, &str); 7] = [
        (
            |_, c| if c.is_empty() { Says("554 no service") } else { usual(c) },
            true,
            "it answered 554: no service",
        ),
        (|_, c| if c.is_empty() { Says("421 busy") } else { usual(c) }, false, "it answered 421: busy"),
        (
            |_, c| if c.starts_with("MAIL") { Says("550-no\r\n550 \x1bnot you") } else { usual(c) },
            true,
            "it answered 550: no",
        ),
        (
            |_, c| if c == "(letter)" { Says("552 too large") } else { usual(c) },
            true,
            "it answered 552: too large",
        ),
        (
            |_, c| if c == "(letter)" { Says("451 disk full") } else { usual(c) },
            false,
            "it answered 451: disk full",
        ),
        (|_, c| if c == "(letter)" { Leaves } else { usual(c) }, false, ""),
        (|_, c| if c == "DATA" { Hangs } else { usual(c) }, false, "no answer within 2 seconds"),
    ];
    for (script, lasting, why) in scripts {
        let (answer, _, _) = sent(script, |_| ()).await;
        let (Answer::Refused(text) | Answer::Again(text, None)) = &answer else {
            panic!("{why}: {answer:?}")
        };
        assert_eq!(refused(&answer), lasting, "{answer:?}");
        assert!(text.starts_with(why) && !text.contains(['\n', '\x1b']), "{why}: {text}");
    }
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let answer =
        Mailer::new(&mail(nobody, MailTls::None), Duration::from_secs(2)).unwrap().send(b"").await.answer;
    assert_eq!(
        answer,
        Answer::Again(
            format!("no connection to localhost:{nobody}: Connection refused (os error 111)"),
            None
        )
    );
}

#[tokio::test]
async fn a_recipient_that_is_refused_keeps_the_letter_from_no_other() {
    let (answer, left_out, heard) =
        sent(|_, c| if c.contains("<ann@") { Says("550 unknown") } else { usual(c) }, |_| ()).await;
    assert_eq!(answer, Answer::Taken);
    assert_eq!(left_out.unwrap(), "not for ann@example.com: 550: unknown");
    assert!(heard.contains(&"DATA".to_owned()));
    let (answer, _, heard) =
        sent(|_, c| if c.starts_with("RCPT") { Says("550 unknown") } else { usual(c) }, |_| ()).await;
    assert!(matches!(answer, Answer::Refused(_)), "{answer:?}");
    assert!(!heard.contains(&"DATA".to_owned()));
    let script: Script = |_, c| match c {
        "RCPT TO:<ann@example.com>" => Says("550 unknown"),
        "RCPT TO:<bob@example.com>" => Says("450 later"),
        _ => usual(c),
    };
    assert!(matches!(sent(script, |_| ()).await.0, Answer::Again(..)));
}

#[tokio::test]
async fn nothing_is_said_inside_the_network_or_in_the_clear_unless_somebody_says_so() {
    let (answer, _, heard) = sent(|_, c| usual(c), |mail| mail.private = false).await;
    assert_eq!(
        answer,
        Answer::Refused("`localhost` is a private address; say `private: true` where that is meant".into())
    );
    assert!(heard.is_empty(), "{heard:?}");
    // Somebody on the way takes the word away.
    let script: Script = |_, c| if c.starts_with("EHLO") { Says("250 mail") } else { usual(c) };
    let (answer, _, heard) = sent(script, |mail| (mail.tls, mail.login) = (MailTls::Starttls, login())).await;
    assert!(matches!(&answer, Answer::Again(why, None) if why.contains("STARTTLS")), "{answer:?}");
    assert_eq!(heard, ["EHLO example.com"]);
    let (answer, _, heard) = sent(|_, c| usual(c), |mail| mail.tls = MailTls::Implicit).await;
    assert!(
        matches!(&answer, Answer::Again(why, None) if why.starts_with("no TLS with localhost")),
        "{answer:?}"
    );
    assert!(heard.iter().all(|line| !line.contains("EHLO")), "{heard:?}");
}

#[tokio::test]
async fn what_is_said_of_a_password_is_not_repeated() {
    // Of `\0soc\0hunter2hunter2`.
    const SAID: &str = "AHNvYwBodW50ZXIyaHVudGVyMg==";
    for (script, lasting) in [
        (
            (|_, c: &str| {
                if c.starts_with("AUTH") { Says("535 no: AHNvYwBodW50ZXIyaHVudGVyMg==") } else { usual(c) }
            }) as Script,
            true,
        ),
        (
            |_, c| if c.starts_with("AUTH") { Says("454 AHNvYwBodW50ZXIyaHVudGVyMg==") } else { usual(c) },
            false,
        ),
        (|_, c| if c.starts_with("AUTH") { Says("AHNvYwBodW50ZXIyaHVudGVyMg==") } else { usual(c) }, false),
    ] {
        let (answer, _, heard) = sent(script, |mail| mail.login = login()).await;
        assert!(heard.contains(&format!("AUTH PLAIN {SAID}")), "{heard:?}");
        assert_eq!(matches!(answer, Answer::Refused(_)), lasting, "{answer:?}");
        assert!(!format!("{answer:?}").contains("AHNv"), "{answer:?}");
    }
    assert!(!format!("{:?}", Mail { login: login(), ..mail(1, MailTls::None) }).contains("hunter2"));
}

/// A certificate of its own for `localhost`, with who shows it.
fn certificate(folder: &Path) -> TlsAcceptor {
    let (certificate, key) = (folder.join("certificate.pem"), folder.join("key.pem"));
    let made = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-days",
            "2",
        ])
        .args(["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE", "-keyout"])
        .arg(&key)
        .arg("-out")
        .arg(&certificate)
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    let chain = vec![CertificateDer::from_pem_file(&certificate).unwrap()];
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, PrivateKeyDer::from_pem_file(&key).unwrap())
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

#[tokio::test]
async fn the_certificate_must_be_the_servers_and_nothing_from_before_tls_counts_within() {
    let folder = tempfile::tempdir().unwrap();
    let tls = certificate(folder.path());
    let upgrades: Script = |_, c| if c == "STARTTLS" { Upgrades("220 go") } else { usual(c) };
    let known = |mail: &mut Mail| {
        mail.tls = MailTls::Starttls;
        mail.login = login();
        mail.authorities = Some(folder.path().join("certificate.pem"));
    };
    let (answer, _, heard) = sent_within(upgrades, Some(tls.clone()), known).await;
    assert_eq!(answer, Answer::Taken);
    let place = |what: &str| heard.iter().position(|line| line.starts_with(what)).unwrap();
    assert!(place("(upgraded)") < place("AUTH") && place("AUTH") < place("MAIL"), "{heard:?}");
    for (what, other) in [("an unknown authority", None), ("another host", Some("127.0.0.1"))] {
        let (answer, _, heard) = sent_within(upgrades, Some(tls.clone()), |mail| {
            known(mail);
            match other {
                Some(host) => mail.server = host.to_owned(),
                None => mail.authorities = None,
            }
        })
        .await;
        assert!(
            matches!(&answer, Answer::Again(why, None) if why.contains("certificate")),
            "{what}: {answer:?}"
        );
        assert!(!heard.iter().any(|line| line.starts_with("AUTH") || line.starts_with("MAIL")), "{heard:?}");
    }
    // Behind the answer stands another, which is in the clear and not the server's.
    let injects: Script =
        |_, c| if c == "STARTTLS" { Upgrades("220 go\r\n250-mail\r\n250 AUTH LOGIN") } else { usual(c) };
    let (answer, _, heard) = sent_within(injects, Some(tls), known).await;
    assert!(matches!(answer, Answer::Again(..)), "{answer:?}");
    assert_eq!(heard.last().unwrap(), "(no TLS)");
}

#[tokio::test]
async fn a_server_that_never_stops_talking_is_left() {
    // More than it may say, without an end of line.
    let script: Script =
        |_, c| if c.is_empty() { Says(Box::leak("2".repeat(300_000).into())) } else { usual(c) };
    let (answer, _, _) = sent(script, |_| ()).await;
    assert!(matches!(&answer, Answer::Again(why, None) if why.contains("says too much")), "{answer:?}");
}

async fn telling(script: Script, steps: usize) -> (World, Connectors, mpsc::UnboundedReceiver<String>) {
    let (port, heard) = serving(script, None).await;
    let settings = ConnectorSettings {
        connector: connector("email/soc"),
        means: Means::Email(mail(port, MailTls::None)),
    };
    let steps = (0..steps).map(|n| step(&format!("tell-{n}"), Deed::Notify, None, &["email/soc"])).collect();
    let world = World::new(vec![playbook("tell", Mode::Automatic, steps)], vec![settings.clone()]).await;
    let health = world.response.connectors().clone();
    let courier = Courier::new(world.response.clone(), settings, world.responder.wanted(), now);
    tokio::spawn(courier.unwrap().unwrap().run(std::future::pending()));
    (world, health, heard)
}

/// The next letter that the server is told: its headers, each of one line, and its text.
async fn letter(heard: &mut mpsc::UnboundedReceiver<String>) -> (BTreeMap<String, String>, String) {
    loop {
        let told = tokio::time::timeout(Duration::from_secs(10), heard.recv()).await.unwrap().unwrap();
        let Some((head, text)) = told.split_once("\r\n\r\n") else { continue };
        let head = head.replace("\r\n ", " ");
        let headers = head.split("\r\n").map(|line| line.split_once(": ").unwrap());
        return (headers.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(), text.to_owned());
    }
}

#[tokio::test]
async fn letters_of_an_alert_are_one_thread_and_one_that_comes_again_is_the_same() {
    // The first letter is taken, and the connection is gone before that is said.
    let script: Script = |session, c| if session == 0 && c == "(letter)" { Leaves } else { usual(c) };
    let (mut world, health, mut heard) = telling(script, 2).await;
    world.publish(Publication { notices: vec![notice("n", "203.0.113.9")], ..Publication::default() }).await;
    world.turns().await;
    let mut letters = Vec::new();
    for _ in 0..3 {
        letters.push(letter(&mut heard).await.0);
    }
    let id = |n: usize| letters[n]["Message-ID"].clone();
    let unique: std::collections::BTreeSet<String> = (0..3).map(id).collect();
    assert_eq!(unique.len(), 2, "one of the two came twice: {letters:?}");
    let first = letters.iter().find(|letter| !letter.contains_key("References")).unwrap();
    let root = first["Message-ID"].clone();
    assert!(root.starts_with("<vedette-") && root.ends_with("@example.com>"), "{root}");
    for later in letters.iter().filter(|letter| letter["Message-ID"] != root) {
        assert_eq!((&later["In-Reply-To"], &later["References"]), (&root, &root));
    }
    assert_eq!(first["To"], "ann@example.com, bob@example.com");
    assert_eq!(first["From"], "Vedette <vedette@example.com>");
    assert_eq!(first["Auto-Submitted"], "auto-generated");
    // The alert that covers the notice is of the same thread, whoever asks for it.
    world.alert("a", 1, "203.0.113.9").await;
    world.turns().await;
    world.response.run_by_hand("a", "tell", false, ("ann", now())).await.unwrap();
    world.turns().await;
    let (alert, _) = letter(&mut heard).await;
    assert_eq!(alert["References"], root);
    assert!(health.read()["email/soc"].failed >= 1);
}

#[tokio::test]
async fn whatever_the_log_says_the_headers_are_those_that_there_are() {
    let (mut world, _, mut heard) = telling(|_, c| usual(c), 1).await;
    let mut body = alert_body("a", 1, "203.0.113.9");
    let rule = Arc::make_mut(&mut body.rule);
    rule.title = format!("Attacks\r\nBcc: eve@example.org\r\n\r\nAll is well {}", "x".repeat(500)).into();
    body.summary = format!("h\u{f6}rt\r\n.\r\nMAIL FROM:<eve@example.org>\r\n{}", "y".repeat(5_000));
    body.entity = Some(Entity {
        kind: "user.name".into(),
        value: Value::Text("e\u{202e}ve\r\nCc: x@y =?utf-8?b?DQo=?=".into()),
    });
    let revision = AlertRevision::of(&body, vec!["waf".to_owned()], Micros(HOUR)).unwrap();
    world.publish(Publication { alerts: vec![revision], ..Publication::default() }).await;
    world.turns().await;
    let (head, text) = letter(&mut heard).await;
    let names: Vec<&str> = head.keys().map(String::as_str).collect();
    let expected = [
        "Auto-Submitted",
        "Content-Transfer-Encoding",
        "Content-Type",
        "Date",
        "From",
        "MIME-Version",
        "Message-ID",
        "Subject",
        "To",
    ];
    assert_eq!(names, expected);
    assert_eq!(head["Content-Type"], "text/plain; charset=utf-8");
    let subject = &head["Subject"];
    let (begins, ends) = (
        "[HIGH] Attacks  Bcc: eve@example.org    All is well xxx",
        "x: user.name e ve  Cc: x@y = ?utf-8?b?DQo= ?=",
    );
    assert!(subject.starts_with(begins) && subject.ends_with(ends) && subject.len() <= 210, "{subject}");
    assert!(text.len() < 8_000 && !text.contains("\r\nMAIL"), "{text}");
}

#[tokio::test]
async fn a_letter_says_what_is_known() {
    let (mut world, _, mut heard) = telling(|_, c| usual(c), 1).await;
    world.alert("a", 1, "203.0.113.9").await;
    world.turns().await;
    let (_, text) = letter(&mut heard).await;
    let text = text.replace("=\r\n", "").replace("\r\n", "\n");
    for line in [
        "attacks from 203.0.113.9",
        "Severity    high",
        "Rule        Attacks on the gateway",
        "client.ip   203.0.113.9",
        "Events      1",
        "Playbook    tell, tell-0 (notify)",
        "Alert       a",
    ] {
        assert!(text.lines().any(|of| of.trim() == line), "{line}: {text}");
    }
    telling::comes_to(&mut world, ActionState::Done).await;
}
