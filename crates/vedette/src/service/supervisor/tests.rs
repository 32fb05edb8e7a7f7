//! Stages that hang, fail, panic, end early and wait for others; a process that is asked to stop meanwhile.

use std::{
    io::Read as _,
    process::{Command, Stdio},
    sync::mpsc,
    thread,
};

use super::*;

const SOON: Duration = Duration::from_secs(20);

/// The helper process runs its body only if this is set.
const HELPER: &str = "VEDETTE_TEST_OF_THE_SUPERVISOR";

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

fn heartbeat(has_work: bool, waits_for: Option<&'static str>) -> StageHeartbeat {
    StageHeartbeat { has_work, waits_for, ..StageHeartbeat::default() }
}

/// A stage that works on one thing for ever, until the sender is dropped.
fn hang(supervisor: &Supervisor, name: Name) -> mpsc::Sender<()> {
    let (release, held) = mpsc::channel();
    let (began, begun) = mpsc::channel();
    let run = move |stage: &Stage| {
        stage.works();
        began.send(())?;
        let _ = held.recv();
        Ok(())
    };
    supervisor.spawn(name, run).unwrap();
    begun.recv().unwrap();
    release
}

/// A stage that has nothing to do, until it is to stop or its sender is dropped.
fn rest(supervisor: &Supervisor, name: Name) -> mpsc::Sender<()> {
    let (release, held) = mpsc::channel::<()>();
    let run = move |stage: &Stage| {
        while !stage.stopping() {
            stage.rests();
            if held.recv_timeout(Duration::from_millis(5)) == Err(mpsc::RecvTimeoutError::Disconnected) {
                break;
            }
        }
        Ok(())
    };
    supervisor.spawn(name, run).unwrap();
    release
}

#[test]
fn a_stage_stands_still_only_if_it_has_work_and_hangs_only_without_a_sign_of_life() {
    let secs = Duration::from_secs;
    let of = |beat: &StageHeartbeat, still, silent| state(beat, secs(still), secs(silent));
    assert_eq!(of(&heartbeat(false, None), 3_600, 3_600), StageState::Idle);
    assert_eq!(of(&heartbeat(true, None), 4, 4), StageState::Working);
    assert_eq!(of(&heartbeat(true, None), 5, 5), StageState::Stalled);
    assert_eq!(of(&heartbeat(true, None), 30, 30), StageState::Hung);
    assert_eq!(of(&heartbeat(true, Some("store")), 4, 0), StageState::Waiting);
    // One that tries again and again does not move, but a restart would not help it.
    assert_eq!(of(&heartbeat(true, Some("store")), 3_600, 1), StageState::Stalled);
    assert_eq!(of(&heartbeat(true, Some("store")), 3_600, 30), StageState::Hung);
    let ended = StageHeartbeat { end: Some(End::Done), ..heartbeat(true, None) };
    assert_eq!(of(&ended, 3_600, 3_600), StageState::Ended);
}

#[test]
fn looking_tells_moving_from_waiting_and_from_neither() {
    let supervisor = Supervisor::new();
    let stage = supervisor.stage(Name::Publisher);
    let look = || supervisor.look().swap_remove(0);
    stage.works();
    let first = look();
    thread::sleep(Duration::from_millis(2));
    let second = look();
    assert_eq!((first.moved, first.alive), (second.moved, second.alive));
    stage.waits_for("store");
    let third = look();
    assert_eq!((third.moved, third.waits_for, third.has_work), (first.moved, Some("store"), true));
    assert!(third.alive > first.alive);
    stage.works();
    let fourth = look();
    assert!(fourth.moved > third.moved && fourth.waits_for.is_none());
    stage.rests();
    assert!(!look().has_work);
}

#[test]
fn an_answer_that_takes_long_is_waited_for_alive_and_without_moving() {
    let supervisor = Supervisor::new();
    let stage = supervisor.stage(Name::Publisher);
    let slow = async {
        tokio::time::sleep(ALIVE * 3).await;
        7
    };
    let before = stage.beat.read();
    assert_eq!(runtime().block_on(stage.awaits("store", slow)), 7);
    let after = stage.beat.read();
    assert_eq!(after.moves, before.moves);
    assert!(after.tries >= before.tries + 3 && after.waits_for == Some("store"));
}

#[test]
fn a_panic_an_error_and_an_early_end_are_failures_with_the_stages_name() {
    type Run = fn(&Stage) -> Result<()>;
    let panics: Run = |_| panic!("on purpose");
    let fails: Run = |_| Err(anyhow!("no room").context("publishing"));
    let ends: Run = |_| Ok(());
    let cases = [
        (panics, "kernel: panicked; the message is above"),
        (fails, "kernel: publishing: no room"),
        (ends, "kernel: ended without being asked to"),
    ];
    for (run, said) in cases {
        let supervisor = Supervisor::new();
        supervisor.spawn(Name::Kernel, run).unwrap();
        runtime().block_on(async { tokio::time::timeout(SOON, supervisor.failed()).await }).unwrap();
        assert_eq!(crate::chain(&supervisor.failure().unwrap()), said);
        assert!(supervisor.failure().is_none(), "told once");
    }
}

#[test]
fn a_task_that_panics_is_a_failure() {
    let supervisor = Supervisor::new();
    let runtime = runtime();
    runtime.block_on(async {
        supervisor.task(Name::Api, async { panic!("on purpose") });
        tokio::time::timeout(SOON, supervisor.failed()).await.unwrap();
    });
    assert_eq!(crate::chain(&supervisor.failure().unwrap()), "api: panicked; the message is above");
}

#[test]
fn a_thread_of_another_crate_that_ends_is_noticed_by_looking() {
    for (end, said) in [
        (|| End::Done, "reader: ended without being asked to"),
        (
            || End::Failed(anyhow!("refused").context("reading from Kafka")),
            "reader: reading from Kafka: refused",
        ),
    ] as [(fn() -> End, &str); 2]
    {
        let supervisor = Supervisor::new();
        supervisor
            .look_at(Name::Reader, move || StageHeartbeat { end: Some(end()), ..StageHeartbeat::default() });
        let runtime = runtime();
        runtime.block_on(async {
            tokio::spawn(supervisor.clone().watch_over());
            tokio::time::timeout(SOON, supervisor.failed()).await.unwrap();
        });
        supervisor.look();
        assert_eq!(crate::chain(&supervisor.failure().unwrap()), said);
        assert!(supervisor.failure().is_none(), "told once");
    }
}

#[test]
fn what_only_ended_for_another_does_not_explain_the_failure() {
    let supervisor = Supervisor::new();
    supervisor.fail(Name::Kernel, None);
    supervisor.fail(Name::Publisher, Some(anyhow!("the disk is full")));
    assert_eq!(crate::chain(&supervisor.failure().unwrap()), "publisher: the disk is full");
}

#[test]
fn an_end_that_was_asked_for_is_no_failure() {
    let supervisor = Supervisor::new();
    let _kept: Vec<_> = [Name::Kernel, Name::Publisher].map(|name| rest(&supervisor, name)).into();
    let late = runtime().block_on(async { supervisor.wind_down().await });
    assert_eq!((late, supervisor.failure().is_none()), (vec![], true));
}

#[test]
fn a_late_stage_is_named_and_those_after_it_that_have_no_work_are_not_waited_for() {
    let patience = |name| Duration::from_millis(if name == Name::Kernel { 100 } else { 3_600_000 });
    let supervisor = Supervisor::with_patience(patience);
    let _release = hang(&supervisor, Name::Kernel);
    // It would wait for the kernel for ever: it ends with its input, not with the word.
    let (_input, output) = mpsc::channel::<()>();
    supervisor
        .spawn(Name::Publisher, move |stage| {
            stage.rests();
            let _ = output.recv();
            Ok(())
        })
        .unwrap();
    let late = runtime().block_on(async { supervisor.wind_down().await });
    assert_eq!(late, [Late { name: Name::Kernel, waits_for: None }]);
}

#[test]
fn a_stage_that_still_has_work_gets_its_own_time_though_one_before_it_is_late() {
    let patience = |name| Duration::from_millis(if name == Name::Kernel { 50 } else { 400 });
    let supervisor = Supervisor::with_patience(patience);
    let _release = hang(&supervisor, Name::Kernel);
    let (_input, output) = mpsc::channel::<()>();
    supervisor
        .spawn(Name::Publisher, move |stage| {
            stage.waits_for("store");
            let _ = output.recv();
            Ok(())
        })
        .unwrap();
    let began = Instant::now();
    let late = runtime().block_on(async { supervisor.wind_down().await });
    assert!(began.elapsed() >= Duration::from_millis(400));
    let said: Vec<_> = late.iter().map(ToString::to_string).collect();
    assert_eq!(said, ["kernel", "publisher (it waits for the store)"]);
}

/// A process of which the kernel hangs and that can only be ended from outside.
#[test]
#[ignore = "a helper of the test below, in a process of its own"]
fn a_process_whose_kernel_hangs() {
    if std::env::var_os(HELPER).is_none() {
        return;
    }
    let supervisor = Supervisor::new();
    super::super::signals::listen(&supervisor, None).unwrap();
    let _release = hang(&supervisor, Name::Kernel);
    let _kept = rest(&supervisor, Name::Publisher);
    say!("it hangs");
    loop {
        thread::park();
    }
}

#[test]
fn whatever_hangs_a_signal_ends_the_process_in_time_and_a_second_one_at_once() {
    for signals in [1, 2] {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "service::supervisor::tests::a_process_whose_kernel_hangs"])
            .env(HELPER, "1")
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = child.stderr.take().unwrap();
        let mut log = Vec::new();
        while !log.ends_with(b"it hangs\n") {
            let mut byte = [0];
            said.read_exact(&mut byte).unwrap();
            log.extend(byte);
        }
        let began = Instant::now();
        for _ in 0..signals {
            Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
            // Two of the same that come at once are one.
            thread::sleep(Duration::from_millis(300));
        }
        let status = child.wait().unwrap();
        let took = began.elapsed();
        let mut log = String::new();
        said.read_to_string(&mut log).unwrap();
        assert_eq!(status.code(), Some(3), "{log}");
        assert!(log.contains("cut off: kernel"), "{log}");
        let (least, most) = if signals == 1 { (8, 10) } else { (0, 5) };
        assert!(took >= Duration::from_secs(least) && took < Duration::from_secs(most), "{took:?}");
    }
}
