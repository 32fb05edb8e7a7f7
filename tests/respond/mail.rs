//! Letters by a real mail server: what is told arrives once for each recipient, in its thread, whatever way it goes.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context as _, Result, ensure};
use tokio::time::sleep;
use vedette_act::settings::{Mail, MailTls, Means, Secret};
use vedette_store::model::ActionState;

use super::{
    exim::{Exim, PASSWORD},
    scene::{Scene, alert, connector, notify},
};

async fn mailing(mail: Mail, steps: &[&str]) -> Result<Scene> {
    let steps = steps.iter().map(|name| notify(name, &["email/soc"])).collect();
    Scene::new(vec![connector("email/soc", Means::Email(mail))], steps).await
}

fn mail(exim: &Exim, tls: MailTls) -> Result<Mail> {
    let address = |text: &str| text.parse().with_context(|| text.to_owned());
    Ok(Mail {
        server: "localhost".to_owned(),
        port: if tls == MailTls::Implicit { exim.tls_port } else { exim.port },
        tls,
        private: true,
        authorities: Some(exim.ca_file()),
        from: address("Vedette <vedette@example.com>")?,
        to: vec![address("ann@example.com")?, address("\"Bj\u{f6}rn B\" <bob@example.com>")?],
        login: Some((Secret::new("soc"), Secret::new(PASSWORD))),
    })
}

/// The value of a header that fills one line.
fn header<'a>(letter: &'a str, name: &str) -> Option<&'a str> {
    let (head, _) = letter.split_once("\n\n")?;
    head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_mail_server_takes_letters_both_ways_and_keeps_their_thread() -> Result<()> {
    let Some(exim) = Exim::start()? else { return Ok(()) };
    for (n, tls) in [(1, MailTls::Starttls), (2, MailTls::Implicit)] {
        let mut scene = mailing(mail(&exim, tls)?, &["first", "second"]).await?;
        let rows = scene.tell(&alert(&format!("alert-{n}"))).await.with_context(|| exim.log())?;
        ensure!(rows.len() == 2 && rows.iter().all(|row| row.state == ActionState::Done), "{rows:?}");
    }
    // Two letters each way, to two recipients each.
    let letters = exim.letters(8)?;
    ensure!(letters.len() == 8, "{}", letters.join("\n=====\n"));
    for n in [1, 2] {
        let of: Vec<&String> =
            letters.iter().filter(|letter| letter.contains(&format!("alert-{n}"))).collect();
        let first: Vec<_> = of.iter().filter(|letter| header(letter, "References").is_none()).collect();
        ensure!((of.len(), first.len()) == (4, 2), "{letters:#?}");
        let root = header(first[0], "Message-ID").context("Message-ID")?;
        for letter in &of {
            let (references, to) = (header(letter, "References"), header(letter, "In-Reply-To"));
            ensure!(references == to && references.is_none_or(|of| of == root), "{letter}");
            let recipient = header(letter, "Envelope-to").context("Envelope-to")?;
            ensure!(["ann@example.com", "bob@example.com"].contains(&recipient), "{letter}");
            ensure!(letter.contains("[HIGH] Angriffe =?utf-8?"), "{letter}");
            ensure!(letter.lines().all(|line| line.len() <= 100), "{letter}");
        }
    }
    ensure!(exim.log().matches("A=plain:soc").count() == 4, "{}", exim.log());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_real_mail_server_refuses_is_told_as_it_is() -> Result<()> {
    let Some(exim) = Exim::start()? else { return Ok(()) };
    let of = || mail(&exim, MailTls::Starttls);
    // One recipient is gone, the other gets it.
    let to = vec!["gone@example.com".parse()?, "ann@example.com".parse()?];
    let mut scene = mailing(Mail { to, ..of()? }, &["tell"]).await?;
    let row = scene.tell(&alert("some")).await?.remove(0);
    ensure!(row.state == ActionState::Done, "{row:?}");
    ensure!(exim.letters(1)?.len() == 1);
    let health = scene.response.connectors().read();
    let failure = health.get("email/soc").and_then(|health| health.failure.clone());
    ensure!(failure.as_deref() == Some("not for gone@example.com: 550: no such user"), "{failure:?}");
    for (change, state, why) in [
        (
            Mail { login: Some((Secret::new("soc"), Secret::new("wrong"))), ..of()? },
            ActionState::Failed,
            "it refused the user: 535",
        ),
        (
            Mail { to: vec!["ann@example.org".parse()?], ..of()? },
            ActionState::Failed,
            "not for ann@example.org: 550: not relayed",
        ),
        (Mail { login: None, ..of()? }, ActionState::Failed, "550: who are you"),
    ] {
        let mut scene = mailing(change, &["tell"]).await?;
        let row = scene.tell(&alert("all")).await?.remove(0);
        let delivery = scene.store.deliveries(row.id).await?.remove(0);
        ensure!(row.state == state, "{row:?} {delivery:?}");
        ensure!(delivery.detail.as_deref().is_some_and(|detail| detail.contains(why)), "{why}: {delivery:?}");
    }
    // What may pass waits: one who is to come back later, a certificate of another host, an authority that is not known.
    for (change, why) in [
        (
            Mail { to: vec!["later@example.com".parse()?], ..of()? },
            "not for later@example.com: 451: come back later",
        ),
        (Mail { server: "127.0.0.1".to_owned(), ..of()? }, "certificate"),
        (Mail { server: "127.0.0.1".to_owned(), ..mail(&exim, MailTls::Implicit)? }, "no TLS with 127.0.0.1"),
        (Mail { authorities: None::<PathBuf>, ..of()? }, "certificate"),
    ] {
        let mut scene = mailing(change, &["tell"]).await?;
        let id = scene.publish(&alert("all")).await?.remove(0).id;
        let mut detail = None;
        for _ in 0..2_000 {
            detail = scene.store.deliveries(id).await?.remove(0).detail;
            if detail.is_some() {
                break;
            }
            sleep(Duration::from_millis(20)).await;
        }
        ensure!(detail.as_deref().is_some_and(|detail| detail.contains(why)), "{why}: {detail:?}");
    }
    ensure!(exim.letters(1)?.len() == 1, "{}", exim.log());
    Ok(())
}
