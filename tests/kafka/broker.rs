//! A real Apache Kafka for tests: one JVM (KRaft, broker and controller), loopback only, on free ports.
//!
//! In: the jars that `.ci/kafka/fetch` puts into the folder `VEDETTE_KAFKA_LIB`. Out: a [`Broker`] that can be stopped,
//! killed and started again on the same data, and what a test does to topics.
//!
//! Invariants: nothing outlives the test's process (the JVM hangs on a pipe from it); a test without jars says that it
//! is skipped and why, past the capture of the test runner.

use std::{
    fs,
    future::Future,
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::{Arc, Mutex, PoisonError, Weak},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use rdkafka::{
    ClientConfig, Offset, TopicPartitionList,
    admin::{
        AdminClient, AdminOptions, AlterConfig, NewPartitions, NewTopic, ResourceSpecifier, TopicReplication,
    },
    client::DefaultClientContext,
    consumer::{BaseConsumer, Consumer},
    producer::{BaseProducer, BaseRecord, Producer},
    topic_partition_list::TopicPartitionListElem,
};

/// The user of the SASL_SSL listener.
pub const USER: &str = "vedette";
/// Its password.
pub const PASSWORD: &str = "correct-horse-battery";

const PATIENCE: Duration = Duration::from_secs(60);
/// Any 16 bytes in URL-safe base64.
const CLUSTER: &str = "dmVkZXR0ZS10ZXN0cy0wMQ";
/// Runs Java so that it dies with the test's process: that closes the pipe, `cat` ends, and Java is killed.
const KEEPER: &str = r#"
exec 3<&0
java -Xms256m -Xmx512m -cp "$1/*" -Dlog4j2.configurationFile="$2/log4j2.properties" kafka.Kafka "$2/server.properties" \
    </dev/null >>"$2/kafka.log" 2>&1 3<&- &
java=$!
echo $java >"$2/pid"
(cat <&3 >/dev/null; kill -9 $java 2>/dev/null) &
wait $java
"#;

static SHARED: Mutex<Weak<Broker>> = Mutex::new(Weak::new());

/// A broker; stopped when dropped.
pub struct Broker {
    dir: tempfile::TempDir,
    lib: PathBuf,
    plain: u16,
    secure: u16,
    process: Option<(Child, ChildStdin)>,
}

impl Broker {
    /// A broker of the test's own, which it may stop and kill; `None` if there are no jars.
    pub fn start(test: &str) -> Result<Option<Self>> {
        let Some(lib) = jars(test) else { return Ok(None) };
        let dir = tempfile::Builder::new().prefix("vedette-kafka-").tempdir()?;
        let [plain, secure, controller] = free_ports()?;
        let mut broker = Self { dir, lib, plain, secure, process: None };
        broker.prepare(controller)?;
        broker.restart()?;
        Ok(Some(broker))
    }

    /// A broker that tests running at the same time share; only topics of the test's own may be touched.
    pub fn shared(test: &str) -> Result<Option<Arc<Self>>> {
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(broker) = shared.upgrade() {
            return Ok(Some(broker));
        }
        let broker = Self::start(test)?.map(Arc::new);
        *shared = broker.as_ref().map_or_else(Weak::new, Arc::downgrade);
        Ok(broker)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes the configuration and a certificate, and formats the storage.
    fn prepare(&self, controller: u16) -> Result<()> {
        let (key, certificate) = (self.path("key.pem"), self.ca_file());
        let openssl = Command::new("openssl")
            .args([
                "req",
                "-x509",
                "-newkey",
                "rsa:2048",
                "-nodes",
                "-days",
                "3650",
                "-subj",
                "/CN=127.0.0.1",
            ])
            .args(["-addext", "subjectAltName=IP:127.0.0.1", "-keyout"])
            .arg(&key)
            .arg("-out")
            .arg(&certificate)
            .output()
            .context("openssl")?;
        ensure!(openssl.status.success(), "openssl: {}", String::from_utf8_lossy(&openssl.stderr));
        fs::write(self.path("keystore.pem"), fs::read_to_string(key)? + &fs::read_to_string(certificate)?)?;
        fs::write(self.path("server.properties"), self.properties(controller))?;
        let log4j = "appender.out.type=Console\nappender.out.name=out\nappender.out.layout.type=PatternLayout\n\
                     appender.out.layout.pattern=%d %p %c %m%n\nrootLogger.level=warn\nrootLogger.appenderRef.out.ref=out\n";
        fs::write(self.path("log4j2.properties"), log4j)?;
        let format = Command::new("java")
            .arg("-cp")
            .arg(format!("{}/*", self.lib.display()))
            .args(["kafka.tools.StorageTool", "format", "--standalone", "-t", CLUSTER, "-c"])
            .arg(self.path("server.properties"))
            .output()
            .context("java")?;
        ensure!(format.status.success(), "format: {}", String::from_utf8_lossy(&format.stderr));
        Ok(())
    }

    fn properties(&self, controller: u16) -> String {
        let Self { plain, secure, .. } = self;
        let dir = self.dir.path().display();
        format!(
            "process.roles=broker,controller
node.id=1
log.dirs={dir}/data
controller.quorum.bootstrap.servers=127.0.0.1:{controller}
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://127.0.0.1:{plain},SECURE://127.0.0.1:{secure},CONTROLLER://127.0.0.1:{controller}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SECURE:SASL_SSL
inter.broker.listener.name=PLAINTEXT
auto.create.topics.enable=false
log.message.timestamp.type=LogAppendTime
broker.session.timeout.ms=2000
broker.heartbeat.interval.ms=500
file.delete.delay.ms=500
offsets.topic.num.partitions=1
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.num.partitions=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
sasl.enabled.mechanisms=PLAIN
listener.name.secure.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required \
             user_{USER}=\"{PASSWORD}\";
listener.name.secure.ssl.keystore.type=PEM
listener.name.secure.ssl.keystore.location={dir}/keystore.pem
"
        )
    }

    /// Starts it (again) on the same data and ports, and waits until it answers.
    pub fn restart(&mut self) -> Result<()> {
        self.kill()?;
        let mut keeper = Command::new("sh")
            .args(["-c", KEEPER, "keeper"])
            .args([&self.lib, self.dir.path()])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let pipe = keeper.stdin.take().context("pipe")?;
        self.process = Some((keeper, pipe));
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(("127.0.0.1", self.plain)).is_err() {
            let ended =
                self.process.as_mut().is_none_or(|(keeper, _)| !matches!(keeper.try_wait(), Ok(None)));
            if ended || Instant::now() > deadline {
                bail!("Kafka does not start:\n{}", fs::read_to_string(self.path("kafka.log"))?);
            }
            thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    }

    /// Stops it in good order.
    pub fn stop(&mut self) -> Result<()> {
        self.signal("-TERM")
    }

    /// Kills it.
    pub fn kill(&mut self) -> Result<()> {
        self.signal("-KILL")
    }

    fn signal(&mut self, signal: &str) -> Result<()> {
        let Some((mut keeper, pipe)) = self.process.take() else { return Ok(()) };
        let pid = fs::read_to_string(self.path("pid"))?;
        Command::new("kill").args([signal, pid.trim()]).stderr(Stdio::null()).status()?;
        let deadline = Instant::now() + PATIENCE;
        while keeper.try_wait()?.is_none() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(20));
        }
        drop(pipe);
        keeper.wait()?;
        Ok(())
    }

    /// The plaintext listener: `host:port`.
    pub fn bootstrap(&self) -> String {
        format!("127.0.0.1:{}", self.plain)
    }

    /// The SASL_SSL listener (PLAIN, [`USER`], [`PASSWORD`]): `host:port`.
    pub fn secure(&self) -> String {
        format!("127.0.0.1:{}", self.secure)
    }

    /// The certificate of the SASL_SSL listener.
    pub fn ca_file(&self) -> PathBuf {
        self.path("cert.pem")
    }

    fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.bootstrap());
        config
    }

    fn admin(&self) -> Result<AdminClient<DefaultClientContext>> {
        Ok(self.config().create()?)
    }

    /// Makes a topic with LogAppendTime, unless the settings say otherwise, and waits until it has leaders.
    pub fn create_topic(&self, name: &str, partitions: i32, settings: &[(&str, &str)]) -> Result<()> {
        let admin = self.admin()?;
        let topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1))
            .set("message.timestamp.type", "LogAppendTime");
        let topic = settings.iter().fold(topic, |topic, (key, value)| topic.set(key, value));
        let made = wait(admin.create_topics([&topic], &options()))??;
        ensure!(made.iter().all(Result::is_ok), "{made:?}");
        let deadline = Instant::now() + PATIENCE;
        loop {
            let metadata = admin.inner().fetch_metadata(Some(name), PATIENCE)?;
            let led = |t: &rdkafka::metadata::MetadataTopic| {
                t.partitions().len() == partitions as usize && t.partitions().iter().all(|p| p.leader() >= 0)
            };
            if metadata.topics().iter().any(led) {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "topic {name} gets no leaders");
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Gives a topic other settings, all others than these being the defaults then.
    pub fn configure_topic(&self, name: &str, settings: &[(&str, &str)]) -> Result<()> {
        let new = AlterConfig::new(ResourceSpecifier::Topic(name));
        let new = settings.iter().fold(new, |new, (key, value)| new.set(key, value));
        let altered = wait(self.admin()?.alter_configs([&new], &options()))??;
        ensure!(altered.iter().all(Result::is_ok), "{altered:?}");
        Ok(())
    }

    /// Deletes a topic.
    pub fn delete_topic(&self, name: &str) -> Result<()> {
        let gone = wait(self.admin()?.delete_topics(&[name], &options()))??;
        ensure!(gone.iter().all(Result::is_ok), "{gone:?}");
        Ok(())
    }

    /// Gives a topic more partitions.
    pub fn grow_topic(&self, name: &str, partitions: usize) -> Result<()> {
        let more = NewPartitions::new(name, partitions);
        let grown = wait(self.admin()?.create_partitions([&more], &options()))??;
        ensure!(grown.iter().all(Result::is_ok), "{grown:?}");
        Ok(())
    }

    /// Deletes the records of a partition below an offset.
    pub fn delete_records(&self, topic: &str, partition: i32, before: i64) -> Result<()> {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, partition, Offset::Offset(before))?;
        let deleted = wait(self.admin()?.delete_records(&list, &options()))??;
        deleted.elements().iter().try_for_each(|elem| Ok(elem.error()?))
    }

    /// What a group has committed for each partition of a topic; -1 for nothing.
    pub fn committed(&self, group: &str, topic: &str, partitions: i32) -> Result<Vec<i64>> {
        let consumer: BaseConsumer = self.config().set("group.id", group).create()?;
        let mut list = TopicPartitionList::new();
        list.add_partition_range(topic, 0, partitions - 1);
        let committed = consumer.committed_offsets(list, PATIENCE)?;
        let offset = |elem: &TopicPartitionListElem<'_>| match elem.offset() {
            Offset::Offset(offset) => offset,
            _ => -1,
        };
        Ok(committed.elements().iter().map(offset).collect())
    }

    /// An idempotent producer.
    pub fn producer(&self) -> Result<BaseProducer> {
        Ok(self.config().set("enable.idempotence", "true").set("linger.ms", "1").create()?)
    }

    /// A producer of large compressed batches, as shippers are: one fetch brings many times its size.
    pub fn compressing_producer(&self) -> Result<BaseProducer> {
        // Without idempotence a request that is sent again comes behind others: on a busy machine record 1 was not the second.
        let mut config = self.config();
        config.set("enable.idempotence", "true").set("compression.type", "lz4").set("linger.ms", "50");
        Ok(config.create()?)
    }

    /// Appends records and waits until they are there.
    pub fn produce<P: AsRef<[u8]>>(&self, topic: &str, partition: i32, payloads: &[P]) -> Result<()> {
        send(&self.producer()?, topic, partition, payloads)
    }

    /// Appends one record with a null payload.
    pub fn produce_null(&self, topic: &str, partition: i32) -> Result<()> {
        let producer = self.producer()?;
        let record = BaseRecord::<str, [u8]>::to(topic).partition(partition).key("gone");
        producer.send(record).map_err(|(e, _)| e)?;
        Ok(producer.flush(PATIENCE)?)
    }

    /// Appends records in a transaction that stays open; the producer ends it.
    pub fn transaction<P: AsRef<[u8]>>(
        &self,
        id: &str,
        topic: &str,
        partition: i32,
        payloads: &[P],
    ) -> Result<BaseProducer> {
        let producer: BaseProducer =
            self.config().set("transactional.id", id).set("linger.ms", "1").create()?;
        producer.init_transactions(PATIENCE)?;
        producer.begin_transaction()?;
        send(&producer, topic, partition, payloads)?;
        Ok(producer)
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // Its data go too, so nothing needs to end in good order.
        if let Err(error) = self.kill() {
            eprintln!("cannot end Kafka: {error:#}");
        }
    }
}

/// The folder of the jars, or a word that the test is skipped.
fn jars(test: &str) -> Option<PathBuf> {
    let skip = |why: &str| {
        let remedy = "run `export VEDETTE_KAFKA_LIB=\"$(.ci/kafka/fetch)\"` first";
        crate::skipped::say(&format!("kafka {test}"), &format!("{why}; {remedy}"));
        None
    };
    let Some(lib) = std::env::var_os("VEDETTE_KAFKA_LIB") else {
        return skip("VEDETTE_KAFKA_LIB names no folder with Kafka's jars");
    };
    let lib = PathBuf::from(lib);
    let jar = |entry: fs::DirEntry| entry.file_name().to_string_lossy().starts_with("kafka_2.13-");
    if !fs::read_dir(&lib).is_ok_and(|dir| dir.flatten().any(jar)) {
        return skip(&format!("no Kafka in {}", lib.display()));
    }
    if !runs("java") {
        return skip("no java");
    }
    Some(lib)
}

fn runs(program: &str) -> bool {
    let arg = Path::new("-version");
    Command::new(program)
        .arg(arg)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|s| s.success())
}

fn free_ports<const N: usize>() -> Result<[u16; N]> {
    let mut held = Vec::new();
    let mut ports = [0; N];
    for port in &mut ports {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        *port = listener.local_addr()?.port();
        held.push(listener);
    }
    Ok(ports)
}

fn options() -> AdminOptions {
    AdminOptions::new().operation_timeout(Some(PATIENCE)).request_timeout(Some(PATIENCE))
}

fn wait<T>(future: impl Future<Output = T>) -> Result<T> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(future))
}

/// Appends records and waits until they are there.
pub fn send<P: AsRef<[u8]>>(
    producer: &BaseProducer,
    topic: &str,
    partition: i32,
    payloads: &[P],
) -> Result<()> {
    for payload in payloads {
        let record = BaseRecord::<str, [u8]>::to(topic).partition(partition).payload(payload.as_ref());
        producer.send(record).map_err(|(e, _)| e)?;
    }
    Ok(producer.flush(PATIENCE)?)
}
