//! The handle on the threads that read Kafka.
//!
//! In: [`IngestSettings`], where a former run got to, commands. Out: the channel of [`Ingested`] and lag reports.
//! Invariants: when the handle has been stopped or dropped, both threads have ended; none ends without a word in its
//! [`Heartbeat`].

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    thread::{self, JoinHandle},
};

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use vedette_event::{Partition, TopicIx};

use crate::{
    Error, Ingested, LagReport,
    client::Connection,
    heartbeat::{Beat, Ended, Heartbeat},
    prober::Prober,
    reader::{Command, Reader, Wires},
    settings::{IngestSettings, Recovery},
    shared::Shared,
};

/// Answers that may wait for the reader.
const ANSWERS: usize = 16;

/// Reads the topics of one cluster until it is stopped or dropped.
pub struct Ingest {
    shared: Arc<Shared>,
    commands: Sender<Command>,
    threads: Vec<JoinHandle<()>>,
}

impl Ingest {
    /// Starts to read; everything comes over the channel. Brokers need not be there yet.
    ///
    /// The channel ends after [`Ingested::Failed`] or [`Ingest::stop`].
    ///
    /// # Errors
    /// [`Error::Setting`] or [`Error::Client`] if librdkafka refuses a setting; [`Error::Thread`].
    pub fn start(settings: IngestSettings, recovery: Recovery) -> Result<(Self, Receiver<Ingested>), Error> {
        let settings = Arc::new(settings);
        let shared = Arc::new(Shared::new(&settings.topics));
        let connection = Arc::new(Connection::new(&settings.brokers, &settings.security));
        let (out, ingested) = bounded(settings.queue.max(1));
        let (answered, answers) = bounded(ANSWERS);
        // Commands and questions are small, few and heard within milliseconds.
        let (commands, commanded) = unbounded();
        let (asks, asked) = unbounded();
        let prober =
            Prober::new(settings.clone(), &recovery, connection.clone(), shared.clone(), answered, asked)?;
        let wires = Wires { out, commands: commanded, answers, asks };
        let reader = Reader::new(settings, recovery.placements, connection, shared.clone(), wires)?;
        let mut ingest = Self { shared, commands, threads: Vec::new() };
        ingest.spawn("prober", |shared| &shared.prober, move || prober.run())?;
        ingest.spawn("reader", |shared| &shared.reader, move || reader.run())?;
        Ok((ingest, ingested))
    }

    fn spawn(
        &mut self,
        name: &'static str,
        beat: impl Fn(&Shared) -> &Beat + Send + 'static,
        run: impl FnOnce() + Send + 'static,
    ) -> Result<(), Error> {
        let shared = self.shared.clone();
        let spawned = thread::Builder::new().name(name.to_owned()).spawn(move || {
            // All that a thread has is gone with it, so nothing can be seen half done.
            let ran = catch_unwind(AssertUnwindSafe(run));
            beat(&shared).end(if ran.is_ok() { Ended::Done } else { Ended::Panicked });
        });
        self.threads.push(spawned.map_err(|source| Error::Thread { name, source })?);
        Ok(())
    }

    /// Reads no more of a partition until it is resumed. What is on the channel already stays there.
    pub fn pause(&self, partition: Partition) {
        self.command(Command::Pause(partition));
    }

    /// Reads a paused partition on, exactly where it was left.
    pub fn resume(&self, partition: Partition) {
        self.command(Command::Resume(partition));
    }

    /// Accepts a topic, stopped or not, as a new incarnation: it is read from its log start, as if it had never been read.
    /// [`Ingested::Accepted`] says from where on.
    pub fn accept(&self, topic: TopicIx) {
        self.command(Command::Accept(topic));
    }

    fn command(&self, command: Command) {
        if self.commands.send(command).is_err() {
            tracing::debug!("ingest has ended");
        }
    }

    /// How far each partition has been read.
    #[must_use]
    pub fn lag(&self) -> LagReport {
        self.shared.lag()
    }

    /// A handle on the lag report alone, for who only looks.
    #[must_use]
    pub fn lag_view(&self) -> LagView {
        LagView(self.shared.clone())
    }

    /// Asks both threads to end, and waits for neither.
    pub fn ask_to_stop(&self) {
        self.shared.stop();
    }

    /// Stops reading and waits for both threads, up to a few seconds if brokers do not answer. What was not taken from
    /// the channel will be read again.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.shared.stop();
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread of ingest panicked");
            }
        }
    }
}

impl Drop for Ingest {
    fn drop(&mut self) {
        self.end();
    }
}

/// Looks at how far each partition has been read, and at who reads.
#[derive(Clone)]
pub struct LagView(Arc<Shared>);

impl LagView {
    /// The report of this moment.
    #[must_use]
    pub fn report(&self) -> LagReport {
        self.0.lag()
    }

    /// How the two threads are doing, the reader first.
    #[must_use]
    pub fn heartbeats(&self) -> [Heartbeat; 2] {
        [self.0.reader.read("reader"), self.0.prober.read("prober")]
    }
}
