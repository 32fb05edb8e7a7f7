//! Detectors on several threads, simulated: who begins what when, and who is done first, follows from a seed. So does in which order they
//! let key groups through.
//!
//! In: what is read, in order. Out: what the kernel takes, through the engine's own [`InOrder`]. Invariant: the kernel takes
//! as late as it is allowed to, or as early; what is dropped is what a killed process had read and not taken.

#![allow(clippy::unwrap_used)]

use std::{collections::VecDeque, sync::Arc};

use proptest::{prelude::*, sample};
use vedette_engine::{
    Compiled, Detected, Detector, Engine, Hands, InFlight, InForce, InOrder, Task, Version,
};
use vedette_event::{Micros, Partition, RawBatch};
use vedette_simulate::Random;

use super::{
    generate::{self, Shape, World},
    kernel::{Drive, Fault, Step, steps},
    property::{config, difference, is_found_by, oracle},
};

/// What is read.
pub enum Read {
    Records(RawBatch),
    Idle(Partition, i64),
    End(Partition),
    /// A new version of the rules, in force from this log time on at least.
    Version(Box<Version>, i64),
    /// So many of the oldest versions are needed no more.
    Outgrown(usize),
}

/// What the kernel takes.
pub enum Taken {
    Records(Detected),
    Idle(Partition, i64),
    End(Partition),
    Versions(Arc<Compiled>),
}

/// Its place, how to evaluate it, and what it is.
type Work = (u64, Task, RawBatch);

/// All detectors and what is with them.
pub struct Detectors {
    all: Vec<Detector>,
    /// The batch that each is at.
    at: Vec<Option<Work>>,
    unbegun: VecDeque<Work>,
    pub in_force: InForce,
    order: InOrder<Taken>,
    limit: InFlight,
    /// Takes things as they come, which must be noticed.
    overtaken: bool,
    /// With one thread there is nothing to be chosen.
    random: Option<Random>,
}

impl Detectors {
    /// One thread, which takes each item when it is read.
    pub fn alone(compiled: &Arc<Compiled>) -> Self {
        Self { random: None, ..Self::new(compiled, (1, 0), false) }
    }

    /// So many threads, of which any may be as slow as it likes.
    pub fn new(compiled: &Arc<Compiled>, (threads, seed): (usize, u64), overtaken: bool) -> Self {
        let limit = InFlight { items: 4 * threads, batches: 2 * threads, bytes: 1 << 20 };
        Self {
            all: (0..threads).map(|_| compiled.detector().expect("the sources can be decoded")).collect(),
            at: vec![None; threads],
            unbegun: VecDeque::new(),
            in_force: InForce::new(compiled.clone()),
            order: InOrder::new(limit),
            limit,
            overtaken,
            random: Some(Random::new(seed)),
        }
    }

    /// Something is read, and some time passes.
    pub fn feed(&mut self, read: Read) -> Vec<Taken> {
        let mut taken = Vec::new();
        while !self.order.has_room() {
            self.pass_time(&mut taken);
            taken.extend(self.order.pop());
        }
        match read {
            Read::Records(raw) => {
                let place = if self.overtaken { 0 } else { self.order.keep(raw.data.len()) };
                let task = self.in_force.task(&raw);
                self.unbegun.push_back((place, task, raw));
            }
            Read::Idle(partition, time) => self.word(Taken::Idle(partition, time), &mut taken),
            Read::End(partition) => self.word(Taken::End(partition), &mut taken),
            Read::Version(version, least) => {
                let compiled = self.in_force.add(*version, Micros(least)).clone();
                self.word(Taken::Versions(compiled), &mut taken);
            }
            Read::Outgrown(versions) => {
                let compiled = self.in_force.drop_oldest(versions).clone();
                self.word(Taken::Versions(compiled), &mut taken);
            }
        }
        let Some(random) = &mut self.random else {
            taken.extend(self.settle());
            return taken;
        };
        for _ in 0..random.below(4) {
            self.pass_time(&mut taken);
        }
        if self.random.as_mut().is_some_and(|random| random.chance(50)) {
            taken.extend(std::iter::from_fn(|| self.order.pop()));
        }
        taken
    }

    fn word(&mut self, word: Taken, taken: &mut Vec<Taken>) {
        if self.overtaken { taken.push(word) } else { self.order.push(word) }
    }

    /// One detector begins something or is done with it.
    fn pass_time(&mut self, taken: &mut Vec<Taken>) {
        let number = self.random.as_mut().map_or(0, |random| random.below(self.all.len() as u64) as usize);
        let Some((place, task, raw)) = self.at[number].take() else {
            self.at[number] = self.unbegun.pop_front();
            return;
        };
        let detector = &mut self.all[number];
        detector.adopt(&task.compiled).expect("the sources can be decoded");
        let detected = Taken::Records(detector.detect_after(&raw, task.before, &mut || ()));
        if self.overtaken { taken.push(detected) } else { self.order.fill(place, detected) }
    }

    fn is_empty(&self) -> bool {
        self.order.is_empty() && self.unbegun.is_empty() && self.at.iter().all(Option::is_none)
    }

    /// Everything else, in the order in which it was read.
    pub fn settle(&mut self) -> Vec<Taken> {
        let mut taken = Vec::new();
        while !self.is_empty() {
            taken.extend(self.order.pop());
            self.pass_time(&mut taken);
        }
        taken
    }

    /// The process dies, and another begins.
    pub fn forget(&mut self, next: &Engine) {
        self.in_force = InForce::of(next);
        self.at.fill(None);
        self.unbegun.clear();
        self.order = InOrder::new(self.limit);
    }
}

/// Threads that let key groups through, of which any may be first.
pub fn hands(threads: usize, mut random: Random) -> Hands {
    Hands::new(threads, 0, move |mut waiting| {
        let mut done = Vec::new();
        while !waiting.is_empty() {
            let mut task = waiting.swap_remove(random.below(waiting.len() as u64) as usize);
            task.run();
            done.push(task);
        }
        done
    })
}

fn threads() -> impl Strategy<Value = usize> {
    sample::select(vec![1, 2, 3, 8])
}

fn agrees(
    world: &World,
    steps: &[Step],
    threads: usize,
    seed: u64,
    fault: Option<Fault>,
) -> Result<(), TestCaseError> {
    let drive = Drive::new(world, fault, steps.len().is_multiple_of(2));
    let mut drive = drive.releasing(seed).on_threads(threads, seed);
    drive.run(steps);
    let stored = [world.replaced(), drive.placements.clone()].concat();
    match difference(world, &drive, &oracle(world, &stored)) {
        Some(difference) => Err(TestCaseError::fail(difference)),
        None if drive.placements.is_empty() => Ok(()),
        None => Err(TestCaseError::fail(format!("overtaken: {:?}", drive.placements))),
    }
}

proptest! {
    #![proptest_config(config(96))]

    #[test]
    fn any_number_of_threads_gives_the_oracles_bodies(
        world in generate::world(Shape::Topics), steps in steps(), threads in threads(), seed: u64,
    ) {
        agrees(&world, &steps, threads, seed, None)?;
    }

    #[test]
    fn files_on_any_number_of_threads_give_the_oracles_bodies(
        world in generate::world(Shape::Files), steps in steps(), threads in threads(), seed: u64,
    ) {
        let mut drive = Drive::new(&world, None, false).releasing(seed).on_threads(threads, seed);
        drive.scan(&steps);
        let difference = difference(&world, &drive, &oracle(&world, &[]));
        prop_assert!(difference.is_none(), "{}", difference.unwrap_or_default());
    }

    /// Not bodies alone: notices, placements and dead letters, in the same order, as long as nothing is killed.
    #[test]
    fn the_kernel_says_what_it_says_with_one_thread(
        world in prop_oneof![generate::world(Shape::SteppedBack), generate::world(Shape::Topics)],
        steps in steps(), threads in threads(), seed: u64,
    ) {
        let lives = |step: &Step| !matches!(step, Step::Kill | Step::Reset | Step::Checkpoint(..));
        let steps: Vec<Step> = steps.into_iter().filter(lives).collect();
        let mut one = Drive::new(&world, None, true).releasing(seed);
        let mut many = Drive::new(&world, None, true).releasing(seed).on_threads(threads, seed);
        one.run(&steps);
        many.run(&steps);
        prop_assert_eq!(&many.bodies, &one.bodies);
        prop_assert_eq!(&many.placements, &one.placements);
        prop_assert_eq!(&many.dead, &one.dead);
        let rounds = |drive: &Drive<'_>| format!("{:?}", drive.rounds);
        prop_assert_eq!(rounds(&many), rounds(&one));
    }
}

#[test]
fn random_worlds_find_what_overtakes() {
    let found = |threads| {
        is_found_by(|world, steps| agrees(world, steps, threads, steps.len() as u64, Some(Fault::Overtaken)))
    };
    assert!(found(2) && found(8));
}
