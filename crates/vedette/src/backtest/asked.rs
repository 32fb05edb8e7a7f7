//! Backtests that are asked for over the API, while the service runs.
//!
//! In: texts of rules, the service's configuration and store. Out: reports. Invariants: each runs on one thread of its own, of lower priority than
//! detection's, and only reads; it stops soon after it is told to; which rules were refused and why is in its answer.

use std::sync::{Arc, atomic::Ordering};

use anyhow::anyhow;
use tokio::sync::oneshot;
use vedette_api::backtests::{Backtests, Progress, Question, Refusal, Report};
use vedette_event::Micros;
use vedette_sigma::{Lists, RuleFile};
use vedette_store::Store;

use super::{
    past::{self, Past},
    tried::{self, Tried},
};
use crate::{Failure, config::Config, content::RuleText, table};

/// Detection goes first.
const NICE: i32 = 10;
/// Refused documents that are told.
const TOLD: usize = 10;

/// Runs those that the API is asked for; `lists` gives the placeholder lists that a reload would read.
pub fn over_the_api(
    config: &Config,
    store: &Store,
    lists: Arc<dyn Fn() -> Result<Lists, String> + Send + Sync>,
) -> Backtests {
    let (config, store, lists) = (Arc::new(config.clone()), store.clone(), lists);
    Backtests::new(move |question, progress| {
        let (config, store, lists) = (config.clone(), store.clone(), lists.clone());
        async move {
            let stretch = stretch(&question);
            let past = past::read(&store, &config, question.source.as_deref(), stretch).await;
            let past = past.map_err(refusal)?;
            let (told, ended) = oneshot::channel();
            let work = move || {
                // Where the system does not allow it, it runs as everybody.
                let _ = rustix::process::nice(NICE);
                let lists = lists().map_err(|why| Refusal { message: why });
                // Who asked may have gone.
                let _ = told.send(lists.and_then(|lists| run(&config, past, &question, lists, &progress)));
            };
            let spawned = std::thread::Builder::new().name("backtest".to_owned()).spawn(work);
            spawned.map_err(|error| refusal(Failure::World(error.into())))?;
            let panicked = |_| Err(refusal(Failure::World(anyhow!("it panicked; the message is above"))));
            ended.await.unwrap_or_else(panicked)
        }
    })
}

fn stretch(question: &Question) -> (Micros, Micros) {
    (question.from.unwrap_or(Micros::MIN), question.to.unwrap_or(Micros::MAX))
}

fn run(
    config: &Config,
    past: Past,
    question: &Question,
    lists: Lists,
    progress: &Progress,
) -> Result<Report, Refusal> {
    let sources = past::sources(config, question.source.as_deref()).map_err(refusal)?;
    let file = RuleFile { path: "text".into(), text: question.rules.clone() };
    let able = tried::able(RuleText::of(vec![file], lists), 1, &sources).map_err(refusal)?;
    if able.rules.rules.is_empty() {
        let refused =
            able.rules.rejected.iter().take(TOLD).map(|of| format!("line {}: {}", of.line, of.message));
        let why: Vec<String> = able.not_tried.iter().cloned().chain(refused).collect();
        return Err(Refusal { message: format!("There is no rule that could be tried: {}", why.join("; ")) });
    }
    let tried = Tried::new(able, sources, &past, stretch(question), 1).map_err(refusal)?;
    let from = tried.read_from();
    let events = past.files.iter().filter(|file| file.latest >= from).map(|file| file.events).sum();
    progress.events.store(events, Ordering::Relaxed);
    let mut on = |read| {
        progress.read.store(read, Ordering::Relaxed);
        !progress.stop.load(Ordering::Relaxed)
    };
    let ended = tried.run(config, past, None::<&mut Vec<u8>>, &mut on);
    if progress.stop.load(Ordering::Relaxed) {
        return Err(Refusal { message: "It was stopped.".to_owned() });
    }
    ended.map_err(refusal)
}

/// What is told of a failure. What the world did is in the log, and not for who asked.
fn refusal(failure: Failure) -> Refusal {
    let message = match failure {
        Failure::Usage(error) => table::plain(&format!("{error:#}")),
        Failure::World(error) => {
            tracing::error!("a backtest could not be run: {error:#}");
            "The backtest could not be run; the log says why.".to_owned()
        }
        Failure::BrokenPipe => "It was stopped.".to_owned(),
    };
    Refusal { message }
}
