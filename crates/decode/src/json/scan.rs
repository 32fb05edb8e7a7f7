//! One pass over a JSON record: validates all of it and notes where the wanted members lie.
//!
//! In: a record as text and a [`Selection`]. Out: [`Captures`], one place per target, and where somebody asks for it
//! ([`scan_noting`]) the places of all members of the objects that something is wanted of ([`Notes`]).
//! Invariants: accepts exactly the JSON objects of RFC 8259 whose numbers are finite as f64, whose escapes are whole
//! characters and which nest at most [`MAX_DEPTH`] levels; allocates nothing per record once warm. Of duplicate
//! keys the last scalar wins; duplicate objects count as one that has the members of both.
//!
//! Libraries were tried first. A tape of the whole record (simd-json) takes twice as long as walking to the wanted members, and refuses
//! integers beyond 64 bits; sonic-rs aborts the process on a deeply nested record.

use vedette_event::Kind;

use super::{
    key_order::KeyOrder,
    rest::Notes,
    select::{Selection, Take, Wanted},
    text,
};

/// Objects and lists nest at most this deep.
pub const MAX_DEPTH: u32 = 127;

/// Why a record is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// No JSON object: where, and what was wrong.
    Malformed(usize, &'static str),
    /// Nested deeper than [`MAX_DEPTH`].
    TooDeep,
    /// A number whose nearest f64 is infinite, and where it starts.
    NumberRange(usize),
}

/// A member's value: where it lies in the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// What it is. Numbers are [`Kind::Int`] if they are plain canonical integers, else [`Kind::Float`], to be looked at again.
    pub kind: Kind,
    /// Whether a text holds a backslash.
    pub escaped: bool,
    /// First byte; of a text the one after the quote.
    pub start: u32,
    /// The byte after the last; of a text its closing quote.
    pub end: u32,
}

impl Extent {
    const NOWHERE: Self = Self { kind: Kind::Missing, escaped: false, start: 0, end: 0 };

    /// The raw text at this place of the record it was found in.
    #[must_use]
    pub fn of<'r>(&self, record: &'r str) -> &'r str {
        record.get(self.start as usize..self.end as usize).unwrap_or_default()
    }

    /// Where the raw value begins, an opening quote included.
    #[must_use]
    pub fn raw_start(&self) -> u32 {
        self.start.saturating_sub(u32::from(self.kind == Kind::Text))
    }

    /// The raw value, quotes included.
    #[must_use]
    pub fn raw<'r>(&self, record: &'r str) -> &'r str {
        let quote = usize::from(self.kind == Kind::Text);
        record.get(self.raw_start() as usize..self.end as usize + quote).unwrap_or_default()
    }
}

/// What one scan found, by target.
#[derive(Debug)]
pub struct Captures {
    order: KeyOrder,
    places: Vec<(Extent, u32)>,
    touched: Vec<u32>,
    notes: Notes,
}

impl Captures {
    /// For the targets of a selection; `seed` keys the hashes of the records' keys.
    #[must_use]
    pub fn new(selection: &Selection, seed: u64) -> Self {
        Self {
            order: KeyOrder::new(selection, seed),
            places: vec![(Extent::NOWHERE, u32::MAX); selection.targets()],
            touched: Vec::with_capacity(selection.targets()),
            notes: Notes::default(),
        }
    }

    /// Where the members lie, of a record that was scanned by [`scan_noting`].
    #[must_use]
    pub fn notes(&self) -> &Notes {
        &self.notes
    }

    /// The place of a target, if the record has it.
    #[must_use]
    pub fn get(&self, target: usize) -> Option<Extent> {
        self.places.get(target).map(|(place, _)| *place).filter(|place| place.kind != Kind::Missing)
    }

    /// The targets that the record has, each once, in no particular order.
    #[must_use]
    pub fn touched(&self) -> &[u32] {
        &self.touched
    }

    fn clear(&mut self) {
        for target in self.touched.drain(..) {
            if let Some(slot) = self.places.get_mut(target as usize) {
                *slot = (Extent::NOWHERE, u32::MAX);
            }
        }
    }

    #[inline]
    fn take(&mut self, take: Take, place: Extent) {
        if let Some(slot) = self.places.get_mut(take.target as usize) {
            if slot.0.kind == Kind::Missing {
                self.touched.push(take.target);
            }
            if take.rank <= slot.1 {
                *slot = (place, take.rank);
            }
        }
    }
}

/// Scans one record.
///
/// # Errors
/// If the record is no JSON object, nests too deep or holds a number without a finite f64.
pub fn scan(
    record: &str,
    selection: &Selection,
    captures: &mut Captures,
    scratch: &mut String,
) -> Result<(), Refusal> {
    Scanner::<false>::new(record, selection, captures, scratch).record()
}

/// Scans one record and notes where the members lie.
///
/// # Errors
/// As [`scan`].
pub fn scan_noting(
    record: &str,
    selection: &Selection,
    captures: &mut Captures,
    scratch: &mut String,
) -> Result<(), Refusal> {
    captures.notes.clear();
    Scanner::<true>::new(record, selection, captures, scratch).record()
}

/// `NOTING` says whether members are noted: compiled twice, so that it costs nothing where they are not.
struct Scanner<'a, const NOTING: bool> {
    record: &'a str,
    bytes: &'a [u8],
    at: usize,
    /// After the closing quote of the last wanted object's key.
    name_end: usize,
    selection: &'a Selection,
    captures: &'a mut Captures,
    scratch: &'a mut String,
}

impl<'a, const NOTING: bool> Scanner<'a, NOTING> {
    fn new(
        record: &'a str,
        selection: &'a Selection,
        captures: &'a mut Captures,
        scratch: &'a mut String,
    ) -> Self {
        captures.clear();
        Self { record, bytes: record.as_bytes(), at: 0, name_end: 0, selection, captures, scratch }
    }

    fn record(mut self) -> Result<(), Refusal> {
        self.blank();
        let start = self.at;
        if !self.eat(b'{') {
            return Err(self.wrong("a record is a JSON object"));
        }
        if NOTING {
            self.captures.notes.begin_object(start);
        }
        self.object(Some(Selection::ROOT), 1)?;
        if NOTING {
            self.captures.notes.end_object(self.at);
        }
        self.blank();
        if self.at < self.record.len() {
            return Err(self.wrong("nothing may follow the object"));
        }
        Ok(())
    }

    #[inline]
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    #[inline]
    fn eat(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    #[inline]
    fn blank(&mut self) {
        if self.peek().is_some_and(|byte| byte <= b' ') {
            self.skip_blank();
        }
    }

    #[inline(never)]
    fn skip_blank(&mut self) {
        if NOTING {
            self.captures.notes.see_blank();
        }
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    #[cold]
    fn wrong(&self, what: &'static str) -> Refusal {
        Refusal::Malformed(self.at, what)
    }

    /// The members of an object whose `{` has been eaten.
    fn object(&mut self, node: Option<u32>, depth: u32) -> Result<(), Refusal> {
        if depth > MAX_DEPTH {
            return Err(Refusal::TooDeep);
        }
        self.blank();
        if self.eat(b'}') {
            return Ok(());
        }
        let mut last = node.unwrap_or_default();
        loop {
            let name = self.at;
            if !self.eat(b'"') {
                return Err(self.wrong("a member's name stands in quotes"));
            }
            let entry = match node {
                Some(node) => self.key(node, &mut last)?,
                None => {
                    self.string()?;
                    self.colon()?;
                    None
                }
            };
            self.blank();
            let noted = if NOTING && node.is_some() {
                Some(self.captures.notes.begin(name, self.name_end, self.at))
            } else {
                None
            };
            let place = self.value(entry.and_then(|entry| entry.child), depth)?;
            if let Some(noted) = noted {
                self.captures.notes.end(noted, self.at);
            }
            if let Some(entry) = entry {
                for &take in &entry.takes {
                    self.captures.take(take, place);
                }
            }
            self.blank();
            if self.eat(b'}') {
                return Ok(());
            }
            if !self.eat(b',') {
                return Err(self.wrong("a comma or } follows a member"));
            }
            self.blank();
        }
    }

    /// A key whose opening quote has been eaten, and its colon: what is wanted of it. `last` is the key before.
    #[inline]
    fn key(&mut self, node: u32, last: &mut u32) -> Result<Option<&'a Wanted>, Refusal> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let entry = match self.captures.order.guess(last, rest) {
            Some((length, entry)) => {
                self.at += length;
                if NOTING {
                    self.name_end = self.at - 1;
                }
                entry
            }
            None => self.other_key(node, last)?,
        };
        Ok(entry.and_then(|entry| self.selection.at(entry)))
    }

    #[inline(never)]
    fn other_key(&mut self, node: u32, last: &mut u32) -> Result<Option<u32>, Refusal> {
        let key = self.string()?;
        if NOTING {
            self.name_end = self.at;
        }
        let mut name = key.of(self.record);
        if key.escaped {
            self.scratch.clear();
            text::unescape(name, self.scratch);
            name = self.scratch;
        }
        let entry = self.captures.order.look_up(self.selection, node, name, !key.escaped, last);
        self.colon()?;
        Ok(entry)
    }

    fn colon(&mut self) -> Result<(), Refusal> {
        self.blank();
        if self.eat(b':') { Ok(()) } else { Err(self.wrong("a colon follows a member's name")) }
    }

    /// The elements of a list whose `[` has been eaten.
    fn list(&mut self, depth: u32) -> Result<(), Refusal> {
        if depth > MAX_DEPTH {
            return Err(Refusal::TooDeep);
        }
        self.blank();
        if self.eat(b']') {
            return Ok(());
        }
        loop {
            self.value(None, depth)?;
            self.blank();
            if self.eat(b']') {
                return Ok(());
            }
            if !self.eat(b',') {
                return Err(self.wrong("a comma or ] follows an element"));
            }
            self.blank();
        }
    }

    /// Any value; `node` is that of an object here, `depth` that of what it stands in.
    #[inline]
    fn value(&mut self, node: Option<u32>, depth: u32) -> Result<Extent, Refusal> {
        let start = self.at;
        let kind = match self.peek() {
            Some(b'"') => {
                self.at += 1;
                return self.string();
            }
            Some(b'{') => {
                self.at += 1;
                self.object(node, depth + 1)?;
                Kind::Object
            }
            Some(b'[') => {
                self.at += 1;
                self.list(depth + 1)?;
                Kind::List
            }
            Some(b'-' | b'0'..=b'9') => self.number()?,
            Some(b't') => self.word("true", Kind::Bool)?,
            Some(b'f') => self.word("false", Kind::Bool)?,
            Some(b'n') => self.word("null", Kind::Null)?,
            _ => return Err(self.wrong("a value is expected")),
        };
        Ok(Extent { kind, escaped: false, start: start as u32, end: self.at as u32 })
    }

    fn word(&mut self, word: &str, kind: Kind) -> Result<Kind, Refusal> {
        if !self.bytes[self.at..].starts_with(word.as_bytes()) {
            return Err(self.wrong("a value is expected"));
        }
        self.at += word.len();
        Ok(kind)
    }

    /// A string whose opening quote has been eaten.
    #[inline]
    fn string(&mut self) -> Result<Extent, Refusal> {
        let start = self.at;
        let mut escaped = false;
        loop {
            let special = |byte: u8| (byte == b'"') | (byte == b'\\') | (byte < 0x20);
            self.at = text::first(self.bytes, self.at, special);
            match self.peek() {
                Some(b'"') => break,
                Some(b'\\') => {
                    escaped = true;
                    match text::escape(&self.bytes[self.at..]) {
                        Some((_, used)) => self.at += used,
                        None => return Err(self.wrong("no such escape")),
                    }
                }
                Some(_) => return Err(self.wrong("a control character stands in a string")),
                None => return Err(self.wrong("a string does not end")),
            }
        }
        let end = self.at;
        self.at += 1;
        Ok(Extent { kind: Kind::Text, escaped, start: start as u32, end: end as u32 })
    }

    fn digits(&mut self) -> Result<usize, Refusal> {
        let from = self.at;
        while let Some(b'0'..=b'9') = self.peek() {
            self.at += 1;
        }
        if self.at == from { Err(self.wrong("a digit is expected")) } else { Ok(self.at - from) }
    }

    fn number(&mut self) -> Result<Kind, Refusal> {
        let start = self.at;
        let negative = self.eat(b'-');
        let zero = self.eat(b'0');
        let whole = if zero { 1 } else { self.digits()? };
        let mut plain = true;
        let mut doubtful = whole > 300;
        if self.eat(b'.') {
            plain = false;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            plain = false;
            doubtful = true;
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.digits()?;
        }
        if doubtful && self.record[start..self.at].parse::<f64>().is_ok_and(f64::is_infinite) {
            return Err(Refusal::NumberRange(start));
        }
        let canonical = plain && whole <= 18 && !(negative && zero);
        Ok(if canonical { Kind::Int } else { Kind::Float })
    }
}
