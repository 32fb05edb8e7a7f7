//! A query that a running service answers over its API, so that it sees what is in no file yet.
//!
//! In: a query, the configuration that names the service, a token. Out: the rows, and what they rest on. Invariants: nothing is asked of another
//! machine or in another way than the configuration says; a service that does not answer, or lets nobody in, is no failure: the
//! lake is asked as it stands.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context as _, Result, anyhow};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    client::conn::http1,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST},
};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::{net::TcpStream, time::timeout};
use vedette_hunt::{Received, Rows};

use crate::{Failure, World as _, config::Config, table};

/// For a connection, and for the beginning of an answer that is no rows.
const PATIENCE: Duration = Duration::from_secs(2);
/// What names the token.
const TOKEN: &str = "VEDETTE_TOKEN";
/// Bytes of an answer that is no rows.
const MAX_BODY: usize = 1 << 20;
/// Rows of one answer, as the API has them.
const MAX_ROWS: usize = 1_000_000;

/// What is asked.
pub struct Asked<'a> {
    pub sql: &'a str,
    pub source: Option<&'a str>,
    pub rows: Option<usize>,
}

/// A service that answers.
pub struct Service {
    address: SocketAddr,
    token: Option<String>,
}

impl Service {
    /// The one that this configuration is of, as far as it can be asked.
    pub fn of(config: &Config) -> Option<Self> {
        // With TLS the name that its certificate is for is not known here.
        if config.api.tls.is_some() || config.api.listen.port() == 0 {
            return None;
        }
        let mut address = config.api.listen;
        if address.ip().is_unspecified() {
            address.set_ip(if address.is_ipv4() {
                [127, 0, 0, 1].into()
            } else {
                [0, 0, 0, 0, 0, 0, 0, 1].into()
            });
        }
        let token = std::env::var(TOKEN).ok().filter(|token| !token.is_empty());
        Some(Self { address, token })
    }

    /// Asks it, and gives each of its rows to `rows`, the names of the columns in front; what the answer rests on. None if it does not answer.
    pub fn ask(
        &self,
        asked: &Asked<'_>,
        rows: impl FnMut(&[String], Option<&Rows>) -> std::io::Result<()>,
    ) -> Result<Option<Value>, Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().world()?;
        runtime.block_on(self.answer(asked, rows))
    }

    async fn answer(
        &self,
        asked: &Asked<'_>,
        mut rows: impl FnMut(&[String], Option<&Rows>) -> std::io::Result<()>,
    ) -> Result<Option<Value>, Failure> {
        let limit = asked.rows.unwrap_or(MAX_ROWS).min(MAX_ROWS);
        let body = json!({"sql": asked.sql, "source": asked.source, "limit": limit});
        let Ok(response) = self.send(Method::POST, "/api/v1/hunts", body.to_string()).await else {
            return Ok(None);
        };
        let status = response.status();
        if status != StatusCode::OK {
            return self.refused(status, response).await;
        }
        let hunt = response.headers().get("vedette-hunt").and_then(|id| id.to_str().ok()).map(str::to_owned);
        let (mut received, mut body) = (Received::default(), response.into_body());
        let mut begun = false;
        while let Some(frame) = body.frame().await {
            let frame = frame.context("the service's answer broke off").map_err(Failure::World)?;
            let Ok(bytes) = frame.into_data() else { continue };
            for some in received.push(&bytes).world()? {
                rows(received.columns(), Some(&some)).world()?;
                begun = true;
            }
        }
        if !begun {
            rows(received.columns(), None).world()?;
        }
        let path = format!("/api/v1/hunts/{}", hunt.unwrap_or_default());
        let told = self.send(Method::GET, &path, String::new()).await.map_err(Failure::World)?;
        whole(told).await.map(Some).map_err(Failure::World)
    }

    /// Why it gives no rows; none if the lake is to be asked instead.
    async fn refused(
        &self,
        status: StatusCode,
        response: Response<Incoming>,
    ) -> Result<Option<Value>, Failure> {
        if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::NOT_FOUND) {
            say!(
                "the running service answers hunts with a token of role analyst ({TOKEN}); without it, what is in no file yet is not seen"
            );
            return Ok(None);
        }
        let problem = whole(response).await.map_err(Failure::World)?;
        let told = |name: &str| problem[name].as_str().map(table::plain);
        let detail = told("detail").unwrap_or_else(|| format!("the service answers {status}"));
        let pointed = problem["pointed"].as_str().map(|pointed| format!("\n{pointed}")).unwrap_or_default();
        let said = anyhow!("{detail}{pointed}");
        Err(if status == StatusCode::BAD_REQUEST { Failure::Usage(said) } else { Failure::World(said) })
    }

    async fn send(&self, method: Method, path: &str, body: String) -> Result<Response<Incoming>> {
        let stream = timeout(PATIENCE, TcpStream::connect(self.address)).await??;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(async move {
            // What goes wrong, the answer tells.
            let _ = connection.await;
        });
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, self.address.to_string())
            .header(CONTENT_TYPE, "application/json")
            .header(ACCEPT, "application/vnd.apache.arrow.stream, application/json");
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        Ok(sender.send_request(request.body(Full::<Bytes>::from(body))?).await?)
    }
}

/// A whole answer of JSON.
async fn whole(response: Response<Incoming>) -> Result<Value> {
    let body = Limited::new(response.into_body(), MAX_BODY).collect();
    let body = timeout(PATIENCE, body).await?.map_err(|error| anyhow!("{error}"))?;
    Ok(serde_json::from_slice(&body.to_bytes())?)
}

/// Says what an answer rests on.
pub fn say(told: &Value) {
    let n = |name: &str| told[name].as_u64().unwrap_or_default();
    let more = if told["more"] == true { " (there are more: --limit)" } else { "" };
    say!(
        "{} rows{more}; {} read in {} of {} files, {:.2} s, by the running service",
        n("rows"),
        indicatif::HumanBytes(n("bytes_read")),
        n("files_read"),
        n("files"),
        told["seconds"].as_f64().unwrap_or_default()
    );
    match told["complete_through"].as_str() {
        Some(through) => say!("complete through {}", table::plain(through)),
        None => say!("nothing is kept yet"),
    }
    for line in told["missing"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        say!("missing: {}", table::plain(line));
    }
}
