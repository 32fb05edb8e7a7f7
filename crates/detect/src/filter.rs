//! One filter per (class, field): which predicates may hold of a text that has not been seen before.
//!
//! In: atoms with their [`Probe`]s. Out: for a folded text, every atom whose probe is satisfied, with whether that is
//! proof. Invariant: an atom that holds of the text is always reported; one that does not may be, without proof.
//!
//! Literals at the ends of a text are looked up by up to eight of their bytes. Literals anywhere are looked up by
//! grams of three or four bytes: of a literal with `stride + gram - 1` bytes or more, each of `stride` neighbouring grams
//! is known, so that the text is probed at every `stride`th byte only. A bitmap of about 64 bits a gram turns most probes
//! into one load. Networks are looked up by the address's bits. An automaton over all literals was tried in a prototype: as a DFA it
//! was 8 to 15 % slower and took 122 MB, as an NFA it was slower still.

use std::collections::BTreeMap;

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use memchr::memmem::Finder;

use crate::{
    literal::{Probe, Site},
    networks::Networks,
};

/// Up to so many shorter literals are searched for one by one.
const MAX_SEARCHES: usize = 4;

/// Grams of a literal that are weighed against one another, at most.
const MAX_POSITIONS: usize = 24;

/// An atom waiting for a literal.
#[derive(Debug, Clone, Copy)]
struct Target {
    atom: u32,
    proof: bool,
}

/// A filter over the folded texts of one field.
#[derive(Debug, Default)]
pub(crate) struct Filter {
    /// Atoms about which nothing is known.
    always: Vec<u32>,
    /// Atoms whose literals say nothing about texts that are not ASCII.
    ascii_only: Vec<u32>,
    /// ASCII literals.
    narrow: Index,
    /// Other literals: ASCII texts hold none of them.
    wide: Option<Box<Index>>,
    /// If any.
    networks: Option<Box<Networks>>,
}

impl Filter {
    /// Builds the filter for these atoms.
    pub(crate) fn new<'p>(atoms: impl IntoIterator<Item = (u32, &'p Probe)>) -> Self {
        let mut filter = Self::default();
        let (mut narrow, mut wide, mut networks) = (Vec::new(), Vec::new(), Vec::new());
        for (atom, probe) in atoms {
            match probe {
                Probe::Literals { site, any_of, proof, ascii_only }
                    if *site == Site::Whole || any_of.iter().all(|literal| !literal.is_empty()) =>
                {
                    if *ascii_only {
                        filter.ascii_only.push(atom);
                    }
                    for literal in any_of {
                        let side = if literal.is_ascii() { &mut narrow } else { &mut wide };
                        side.push((site, literal.as_str(), Target { atom, proof: *proof }));
                    }
                }
                Probe::Network(network) => networks.push((*network, atom)),
                _ => filter.always.push(atom),
            }
        }
        filter.narrow = Index::new(narrow);
        filter.networks = (!networks.is_empty()).then(|| Box::new(Networks::new(networks)));
        filter.wide = (!wide.is_empty()).then(|| Box::new(Index::new(wide)));
        filter
    }

    /// Whether a lookup costs about as much as remembering its result would.
    pub(crate) fn is_cheap(&self) -> bool {
        self.always.is_empty()
            && self.narrow.grams_empty()
            && self.ascii_only.is_empty()
            && self.networks.is_none()
    }

    /// Reports the atoms that may hold of a text.
    #[inline]
    pub(crate) fn scan(&self, folded: &str, ascii: bool, report: &mut impl FnMut(u32, bool)) {
        let bytes = folded.as_bytes();
        self.narrow.scan(bytes, report);
        if !ascii {
            if let Some(wide) = &self.wide {
                wide.scan(bytes, report);
            }
            self.ascii_only.iter().for_each(|atom| report(*atom, false));
        } else if let Some(networks) = &self.networks {
            // An address is ASCII, and means the same in lower case.
            networks.scan(folded, report);
        }
        self.always.iter().for_each(|atom| report(*atom, false));
    }
}

/// Literals by where they must stand.
#[derive(Debug, Default)]
struct Index {
    affixes: Affixes,
    /// At most one of the three is in use: the one for the shortest literal takes all of them, so that a text is passed once.
    /// If all have seven bytes or more.
    long: Grams<4, 4>,
    /// If all have six or more.
    medium: Grams<4, 3>,
    /// If some have four or five.
    four: Grams<2, 3>,
    /// Less, or so few that a search for each is cheaper.
    short: Vec<(Finder<'static>, Vec<Target>)>,
}

impl Index {
    fn new(literals: Vec<(&Site, &str, Target)>) -> Self {
        let (mut affixes, mut long, mut medium, mut four) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let mut short = Vec::new();
        for (site, literal, target) in literals {
            match (site, literal.len()) {
                (Site::Anywhere, 7..) => long.push((literal, target)),
                (Site::Anywhere, 6) => medium.push((literal, target)),
                (Site::Anywhere, 4..=5) => four.push((literal, target)),
                (Site::Anywhere, _) => short.push((literal, target)),
                (site, _) => affixes.push((site, literal, target)),
            }
        }
        for few in [&mut medium, &mut four] {
            if few.len() <= MAX_SEARCHES {
                short.append(few);
            }
        }
        if !four.is_empty() {
            four.append(&mut medium);
        }
        for shorter in [&mut four, &mut medium] {
            if !shorter.is_empty() {
                shorter.append(&mut long);
            }
        }
        let mut searches: BTreeMap<&str, Vec<Target>> = BTreeMap::new();
        for (literal, target) in short {
            searches.entry(literal).or_default().push(target);
        }
        let finder = |(literal, targets): (&str, _)| (Finder::new(literal.as_bytes()).into_owned(), targets);
        Self {
            affixes: Affixes::new(affixes),
            long: Grams::new(long),
            medium: Grams::new(medium),
            four: Grams::new(four),
            short: searches.into_iter().map(finder).collect(),
        }
    }

    fn grams_empty(&self) -> bool {
        let grams = [&self.long.bitmap, &self.medium.bitmap, &self.four.bitmap];
        grams.iter().all(|bitmap| bitmap.is_empty()) && self.short.is_empty()
    }

    #[inline]
    fn scan(&self, text: &[u8], report: &mut impl FnMut(u32, bool)) {
        self.affixes.scan(text, report);
        self.long.scan(text, report);
        self.medium.scan(text, report);
        self.four.scan(text, report);
        for (finder, targets) in &self.short {
            if finder.find(text).is_some() {
                targets.iter().for_each(|target| report(target.atom, target.proof));
            }
        }
    }
}

/// A set of hashes that answers "certainly not" with one load.
#[derive(Debug, Default)]
struct Bitmap {
    words: Vec<u64>,
    shift: u32,
}

/// Two odd numbers with their bits well spread, one for each bit of the bitmap: a gram passes by chance only where both hit.
const MIX: u64 = 0x9E37_79B9_7F4A_7C15;
const REMIX: u64 = 0xC2B2_AE3D_27D4_EB4F;

impl Bitmap {
    /// Room for about 64 bits an entry.
    fn with_entries(entries: usize) -> Self {
        if entries == 0 {
            return Self::default();
        }
        let bits = (entries * 64).next_power_of_two().clamp(64, 1 << 22);
        Self { words: vec![0; bits / 64], shift: 64 - bits.trailing_zeros() }
    }

    fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    #[inline]
    fn place(&self, key: u64, mix: u64) -> (usize, u64) {
        let bit = key.wrapping_mul(mix) >> self.shift;
        ((bit >> 6) as usize, 1 << (bit & 63))
    }

    fn insert(&mut self, key: u64) {
        for mix in [MIX, REMIX] {
            let (word, mask) = self.place(key, mix);
            self.words[word] |= mask;
        }
    }

    /// One load says "certainly not" of most keys, a second one of most others.
    #[inline]
    fn may_hold(&self, key: u64) -> bool {
        let holds = |mix| {
            let (word, mask) = self.place(key, mix);
            self.words.get(word).is_some_and(|bits| bits & mask != 0)
        };
        holds(MIX) && holds(REMIX)
    }
}

/// Entries by key, in one vector.
#[derive(Debug)]
pub(crate) struct Buckets<T> {
    ranges: HashMap<u64, (u32, u32), FixedState>,
    entries: Vec<T>,
}

impl<T> Default for Buckets<T> {
    fn default() -> Self {
        Self { ranges: HashMap::with_hasher(FixedState::default()), entries: Vec::new() }
    }
}

impl<T> Buckets<T> {
    pub(crate) fn new(mut keyed: Vec<(u64, T)>) -> Self {
        keyed.sort_by_key(|(key, _)| *key);
        let keys = keyed.chunk_by(|(a, _), (b, _)| a == b);
        let mut ranges = HashMap::with_capacity_and_hasher(keys.clone().count(), FixedState::default());
        let mut from = 0;
        for same in keys {
            let to = from + same.len() as u32;
            ranges.insert(same[0].0, (from, to));
            from = to;
        }
        Self { ranges, entries: keyed.into_iter().map(|(_, entry)| entry).collect() }
    }

    #[inline]
    pub(crate) fn get(&self, key: u64) -> &[T] {
        match self.ranges.get(&key) {
            Some((from, to)) => &self.entries[*from as usize..*to as usize],
            None => &[],
        }
    }
}

/// Literals that must be the whole of a text, its start or its end.
#[derive(Debug, Default)]
struct Affixes {
    bitmap: Bitmap,
    buckets: Buckets<(Site, Box<[u8]>, Target)>,
    whole: bool,
    /// Bit n: there are literals of this site keyed by 2^n bytes.
    starts: u8,
    ends: u8,
}

/// Keep apart, in one table, what is looked up whole, at the start and at the end.
const WHOLE: u64 = 0x51_7C_C1_B7_27_22_0A_95;
const START: u64 = 0x2545_F491_4F6C_DD1D;
const END: u64 = 0xD6E8_FEB8_6659_FD93;

/// The first eight bytes, and the last eight in the upper bytes; zeros where the text is shorter.
#[inline]
fn edges(text: &[u8]) -> (u64, u64) {
    if let (Some(first), Some(last)) = (text.first_chunk(), text.last_chunk()) {
        return (u64::from_le_bytes(*first), u64::from_le_bytes(*last));
    }
    let mut bytes = [0; 8];
    bytes[..text.len()].copy_from_slice(text);
    let first = u64::from_le_bytes(bytes);
    (first, if text.is_empty() { 0 } else { first << (8 * (8 - text.len())) })
}

#[inline]
fn whole_key(first: u64, last: u64, len: usize) -> u64 {
    (first ^ last.rotate_left(29)).wrapping_mul(MIX) ^ WHOLE.wrapping_mul(len as u64 + 1)
}

/// The key of `2^power` bytes at the start.
#[inline]
fn start_key(first: u64, power: u32) -> u64 {
    (first << (64 - (8 << power))).wrapping_mul(MIX) ^ START.rotate_left(power)
}

/// The key of `2^power` bytes at the end.
#[inline]
fn end_key(last: u64, power: u32) -> u64 {
    (last >> (64 - (8 << power))).wrapping_mul(MIX) ^ END.rotate_left(power)
}

impl Affixes {
    fn new(literals: Vec<(&Site, &str, Target)>) -> Self {
        let mut affixes = Self { bitmap: Bitmap::with_entries(literals.len()), ..Self::default() };
        let mut keyed = Vec::with_capacity(literals.len());
        for (site, literal, target) in literals {
            let (first, last) = edges(literal.as_bytes());
            let power = literal.len().clamp(1, 8).ilog2();
            let key = match site {
                Site::Start => {
                    affixes.starts |= 1 << power;
                    start_key(first, power)
                }
                Site::End => {
                    affixes.ends |= 1 << power;
                    end_key(last, power)
                }
                Site::Whole | Site::Anywhere => {
                    affixes.whole = true;
                    whole_key(first, last, literal.len())
                }
            };
            affixes.bitmap.insert(key);
            keyed.push((key, (site.clone(), literal.as_bytes().into(), target)));
        }
        affixes.buckets = Buckets::new(keyed);
        affixes
    }

    #[inline]
    fn scan(&self, text: &[u8], report: &mut impl FnMut(u32, bool)) {
        if self.bitmap.is_empty() {
            return;
        }
        let (first, last) = edges(text);
        if self.whole {
            self.probe(whole_key(first, last, text.len()), text, report);
        }
        for power in 0..4 {
            if text.len() >= 1 << power {
                if self.starts & (1 << power) != 0 {
                    self.probe(start_key(first, power), text, report);
                }
                if self.ends & (1 << power) != 0 {
                    self.probe(end_key(last, power), text, report);
                }
            }
        }
    }

    #[inline]
    fn probe(&self, key: u64, text: &[u8], report: &mut impl FnMut(u32, bool)) {
        if self.bitmap.may_hold(key) {
            for (site, literal, target) in self.buckets.get(key) {
                let there = match site {
                    Site::Start => text.starts_with(literal),
                    Site::End => text.ends_with(literal),
                    Site::Whole | Site::Anywhere => *text == **literal,
                };
                if there {
                    report(target.atom, target.proof);
                }
            }
        }
    }
}

/// Literals anywhere, by `STRIDE` neighbouring grams of `GRAM` bytes each; texts are probed at every `STRIDE`th byte.
#[derive(Debug, Default)]
struct Grams<const STRIDE: usize, const GRAM: usize> {
    bitmap: Bitmap,
    /// By gram: the literal, and where in it the gram stands.
    buckets: Buckets<(u32, u32)>,
    literals: Vec<(Box<[u8]>, Vec<Target>)>,
}

impl<const STRIDE: usize, const GRAM: usize> Grams<STRIDE, GRAM> {
    fn new(literals: Vec<(&str, Target)>) -> Self {
        let mut by_text: HashMap<&str, Vec<Target>, FixedState> =
            HashMap::with_capacity_and_hasher(literals.len(), FixedState::default());
        for (literal, target) in literals {
            by_text.entry(literal).or_default().push(target);
        }
        let mut literals: Vec<(Box<[u8]>, _)> =
            by_text.into_iter().map(|(text, targets)| (text.as_bytes().into(), targets)).collect();
        literals.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        let grams = literals.len() * STRIDE;
        let mut used: HashMap<u64, u32, FixedState> =
            HashMap::with_capacity_and_hasher(grams, FixedState::default());
        let (mut keyed, mut costs) = (Vec::with_capacity(grams), Vec::new());
        for (at, (literal, _)) in literals.iter().enumerate() {
            costs.clear();
            costs.extend(
                literal
                    .array_windows::<GRAM>()
                    .take(MAX_POSITIONS)
                    .map(|bytes| commonness(bytes) + used.get(&gram(bytes)).copied().unwrap_or(0)),
            );
            let sums = costs.windows(STRIDE).map(|costs| costs.iter().sum::<u32>());
            let Some((from, _)) = sums.enumerate().min_by_key(|(_, cost)| *cost) else { continue };
            for offset in from..from + STRIDE {
                let key = gram(&literal[offset..offset + GRAM]);
                *used.entry(key).or_default() += 2;
                keyed.push((key, (at as u32, offset as u32)));
            }
        }
        let mut bitmap = Bitmap::with_entries(keyed.len());
        keyed.iter().for_each(|(key, _)| bitmap.insert(*key));
        Self { bitmap, buckets: Buckets::new(keyed), literals }
    }

    #[inline]
    fn scan(&self, text: &[u8], report: &mut impl FnMut(u32, bool)) {
        if self.bitmap.is_empty() {
            return;
        }
        // As many probes as eight bytes have room for, then what is left at the end.
        let probes = (8 - GRAM) / STRIDE + 1;
        let mut at = 0;
        while let Some(chunk) = text.get(at..).and_then(<[u8]>::first_chunk) {
            let word = u64::from_le_bytes(*chunk);
            for probe in 0..probes {
                let key = word >> (8 * STRIDE * probe) & (u64::MAX >> (64 - 8 * GRAM));
                if self.bitmap.may_hold(key) {
                    self.verify(key, text, at + STRIDE * probe, report);
                }
            }
            at += STRIDE * probes;
        }
        while let Some(bytes) = text.get(at..at + GRAM) {
            let key = gram(bytes);
            if self.bitmap.may_hold(key) {
                self.verify(key, text, at, report);
            }
            at += STRIDE;
        }
    }

    #[cold]
    #[inline(never)]
    fn verify(&self, key: u64, text: &[u8], at: usize, report: &mut impl FnMut(u32, bool)) {
        for (literal, offset) in self.buckets.get(key) {
            let (literal, targets) = &self.literals[*literal as usize];
            let there = at.checked_sub(*offset as usize).and_then(|start| text.get(start..));
            if there.is_some_and(|rest| rest.starts_with(literal)) {
                targets.iter().for_each(|target| report(target.atom, target.proof));
            }
        }
    }
}

/// Up to eight bytes as a number.
#[inline]
fn gram(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |key, byte| key << 8 | u64::from(*byte))
}

/// How often these bytes are likely to be met: high for letters of common words.
fn commonness(bytes: &[u8]) -> u32 {
    bytes.iter().map(|byte| u32::from(COMMONNESS[usize::from(*byte)])).sum()
}

/// By byte. A table, because a filter of a thousand literals asks a hundred thousand times.
const COMMONNESS: [u8; 256] = {
    let mut of = [1; 256];
    let mut byte = 0;
    while byte < of.len() {
        of[byte] = match byte as u8 {
            b'e' | b't' | b'a' | b'o' | b'i' | b'n' | b's' | b'r' => 6,
            b'a'..=b'z' => 4,
            b'0'..=b'9' | b' ' | b'\\' | b'/' | b'.' => 4,
            b'-' | b'_' | b'=' | b':' => 3,
            _ => 1,
        };
        byte += 1;
    }
    of
};

#[cfg(test)]
mod tests {
    use super::*;

    fn found(literals: &[(Site, &str)], text: &str) -> Vec<u32> {
        let atoms = literals.iter().enumerate().map(|(at, (site, literal))| {
            let probe = Probe::Literals {
                site: site.clone(),
                any_of: vec![(*literal).to_owned()],
                proof: true,
                ascii_only: false,
            };
            (at as u32, probe)
        });
        // So many others that grams are used for every length from four bytes.
        let absent = (0..30).map(|n| {
            let any_of = vec![format!("\u{2}{n:02}{}", &"???"[..n % 3 + 1])];
            (99, Probe::Literals { site: Site::Anywhere, any_of, proof: true, ascii_only: false })
        });
        let mut found = Vec::new();
        let atoms: Vec<(u32, Probe)> = atoms.chain(absent).collect();
        Filter::new(atoms.iter().map(|(atom, probe)| (*atom, probe))).scan(
            text,
            text.is_ascii(),
            &mut |atom, _| found.push(atom),
        );
        found.sort_unstable();
        found.dedup();
        found
    }

    #[test]
    fn literals_of_every_length_are_found_at_every_position() {
        let text = "the quick brown fox jumps over the lazy dog; é ok";
        for len in 1..12 {
            for from in 0..text.len() - len {
                let Some(literal) = text.get(from..from + len) else { continue };
                assert_eq!(found(&[(Site::Anywhere, literal)], text), [0], "{literal:?}");
                let mut absent = literal.to_owned();
                absent.pop();
                absent.push('\u{1}');
                assert!(found(&[(Site::Anywhere, &absent)], text).is_empty(), "{absent:?}");
            }
            if let (Some(start), Some(end)) = (text.get(..len), text.get(text.len() - len..)) {
                assert_eq!(found(&[(Site::Start, start), (Site::End, end)], text), [0, 1]);
                assert_eq!(found(&[(Site::Whole, start), (Site::Whole, end)], start), [0]);
            }
        }
        assert_eq!(found(&[(Site::Whole, "")], ""), [0]);
        assert!(found(&[(Site::Whole, ""), (Site::End, "a")], "b").is_empty());
    }
}
