//! A mailer: letters over SMTP, a connection each.
//!
//! In: a letter. Out: what came of it. Invariants: where it goes is decided as for all requests (`http`): public addresses only unless somebody
//! allowed more, and the address that was looked at is the one that is connected to; neither user nor letter goes over a connection whose
//! certificate was not checked, unless somebody said so; no byte that came in the clear is taken for one that came after `STARTTLS`; time
//! and size have bounds; what the server says to a user's password is not repeated, since it may repeat that.
//!
//! A recipient that is refused keeps the letter from no other; it is told in the log and with the connector. Only where none is left is the
//! letter refused, or tried again where one may be taken later.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use lettre::transport::smtp::{
    Error,
    authentication::{Credentials, Mechanism},
    client::{AsyncSmtpConnection, AsyncTokioStream, Certificate, CertificateStore, TlsParameters},
    commands::{Data, Mail as From, Rcpt},
    extension::ClientId,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::timeout,
};

use super::{
    message::plain,
    request::{Answer, meaning},
};
use crate::{
    http::{Client, Reach},
    settings::{Mail, MailTls},
};

/// For one letter: some servers let a stranger wait before they answer.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);
/// For the farewell, after the letter was taken.
const FAREWELL: Duration = Duration::from_secs(1);
/// Bytes that a server may say in all.
const MAX_SAID: usize = 256 * 1024;
/// Characters of what it says that people see.
const MAX_SHOWN: usize = 200;

/// What came of a letter.
pub(crate) struct Posted {
    pub answer: Answer,
    /// Recipients that the server refused though it took the letter, and why.
    pub left_out: Option<String>,
}

/// Sends letters by one server.
pub(crate) struct Mailer {
    mail: Mail,
    client: Client,
    upgrade: TlsParameters,
    patience: Duration,
}

impl Mailer {
    /// One that has not connected yet, and gives a letter so long.
    ///
    /// # Errors
    /// What is wrong with the file of authorities.
    pub fn new(mail: &Mail, patience: Duration) -> Result<Self, String> {
        let client = Client::new(mail.authorities.as_deref(), Reach::of(mail.private), patience)?;
        let mut upgrade = TlsParameters::builder(mail.server.clone());
        if let Some(path) = &mail.authorities {
            let unread = |e: &dyn std::fmt::Display| format!("`{}` cannot be read: {e}", path.display());
            let pem = std::fs::read(path).map_err(|e| unread(&e))?;
            upgrade = upgrade.certificate_store(CertificateStore::None);
            upgrade = upgrade.add_root_certificate(Certificate::from_pem(&pem).map_err(|e| unread(&e))?);
        }
        let upgrade = upgrade.build().map_err(|e| e.to_string())?;
        Ok(Self { mail: mail.clone(), client, upgrade, patience })
    }

    /// The settings.
    pub fn mail(&self) -> &Mail {
        &self.mail
    }

    /// Sends a letter.
    pub async fn send(&self, letter: &[u8]) -> Posted {
        let sent = timeout(self.patience, self.exchange(letter)).await;
        let slow = || Answer::Again(format!("no answer within {} seconds", self.patience.as_secs()), None);
        let (mut smtp, left_out) = match sent {
            Ok(Ok(sent)) => sent,
            Ok(Err(answer)) => return Posted { answer, left_out: None },
            Err(_) => return Posted { answer: slow(), left_out: None },
        };
        // It is taken, whatever else is said.
        let _ = timeout(FAREWELL, smtp.quit()).await;
        Posted { answer: Answer::Taken, left_out }
    }

    /// The connection on which a letter was taken, and who of its recipients was not.
    async fn exchange(&self, letter: &[u8]) -> Result<(AsyncSmtpConnection, Option<String>), Answer> {
        let mut smtp = self.connect().await?;
        if let Some((user, password)) = &self.mail.login {
            let credentials = Credentials::new(user.show().to_owned(), password.show().to_owned());
            let login = smtp.auth(&[Mechanism::Plain, Mechanism::Login], &credentials).await;
            login.map_err(|error| no_login(&error))?;
        }
        smtp.command(From::new(Some(self.mail.from.email.clone()), Vec::new())).await.map_err(said)?;
        let (mut refused, mut lasting) = (Vec::new(), true);
        for to in &self.mail.to {
            match smtp.command(Rcpt::new(to.email.clone(), Vec::new())).await {
                Ok(_) => {}
                Err(error) if error.status().is_some() => {
                    lasting &= error.is_permanent();
                    refused.push(format!("{}: {}", to.email, shown(&error)));
                }
                Err(error) => return Err(said(error)),
            }
        }
        let left_out = (!refused.is_empty()).then(|| format!("not for {}", refused.join("; ")));
        match left_out {
            Some(none) if refused.len() == self.mail.to.len() => {
                Err(if lasting { Answer::Refused(none) } else { Answer::Again(none, None) })
            }
            left_out => {
                smtp.command(Data).await.map_err(said)?;
                smtp.message(letter).await.map_err(said)?;
                Ok((smtp, left_out))
            }
        }
    }

    /// A connection that is as safe as it has to be.
    async fn connect(&self) -> Result<AsyncSmtpConnection, Answer> {
        let Mail { server, port, tls, from, .. } = &self.mail;
        let hello = ClientId::Domain(from.email.domain().to_owned());
        let stream = self.client.connect(server, *port).await.map_err(|error| meaning(Err(error)))?;
        let peer = stream.peer_addr().map_err(|error| Answer::Again(error.to_string(), None))?;
        if *tls == MailTls::Implicit {
            let stream = self.client.secure(server, stream).await.map_err(|error| meaning(Err(error)))?;
            let wire = Box::new(Wire { stream, peer, most: usize::MAX, left: MAX_SAID });
            return AsyncSmtpConnection::connect_with_transport(wire, &hello).await.map_err(said);
        }
        let wire = Box::new(Wire { stream, peer, most: 1, left: MAX_SAID });
        let mut smtp = AsyncSmtpConnection::connect_with_transport(wire, &hello).await.map_err(said)?;
        if *tls == MailTls::Starttls {
            smtp.starttls(self.upgrade.clone(), &hello).await.map_err(said)?;
        }
        Ok(smtp)
    }
}

/// A connection as lettre reads it. A byte at a time while it is in the clear, because its reader would keep what somebody on the way
/// put behind the answer to `STARTTLS`, and take it for the server's word within TLS; these few thousand bytes take milliseconds.
#[derive(Debug)]
struct Wire<S> {
    stream: S,
    peer: SocketAddr,
    /// Bytes that are read at once.
    most: usize,
    /// Bytes that may still come.
    left: usize,
}

impl<S: AsyncRead + Unpin> AsyncRead for Wire<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.left == 0 {
            return Poll::Ready(Err(io::Error::other("the server says too much")));
        }
        let most = self.most.min(self.left).min(into.remaining());
        let mut part = ReadBuf::new(into.initialize_unfilled_to(most));
        let read = Pin::new(&mut self.stream).poll_read(context, &mut part);
        let came = part.filled().len();
        into.advance(came);
        self.left -= came;
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Wire<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

impl<S: AsyncRead + AsyncWrite + Send + Sync + Unpin + std::fmt::Debug> AsyncTokioStream for Wire<S> {
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.peer)
    }
}

/// What an error of a server, or of the way there, means.
fn said(error: Error) -> Answer {
    match error.is_permanent() {
        true => Answer::Refused(format!("it answered {}", shown(&error))),
        false if error.status().is_some() => Answer::Again(format!("it answered {}", shown(&error)), None),
        false => Answer::Again(shown(&error), None),
    }
}

fn shown(error: &Error) -> String {
    let text = match (error.status(), std::error::Error::source(error)) {
        (Some(code), Some(text)) => format!("{code}: {text}"),
        _ => error.to_string(),
    };
    plain(text.trim(), MAX_SHOWN)
}

fn no_login(error: &Error) -> Answer {
    match error.status() {
        Some(code) if error.is_permanent() => Answer::Refused(format!("it refused the user: {code}")),
        Some(code) => Answer::Again(format!("it did not take the user: {code}"), None),
        None if error.is_client() => Answer::Again(shown(error), None),
        None => Answer::Again("the connection broke off while the user was told".to_owned(), None),
    }
}
