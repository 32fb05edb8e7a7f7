//! What is left of a record once some of its members were taken.
//!
//! In: where the members lie that the scanner looked at ([`Notes`]) and which values were taken ([`Remainder::take`]). Out: an
//! object of all others, without blanks, their names and values as they were written, secrets hidden.
//! Invariants: a member that was not taken is there, in its place, also where another one has its name; an object of which
//! some members were taken has the others, and is left out if there are none; the work is linear in the record; only
//! texts in which a secret was hidden are written anew.

use memchr::memchr2;

use super::{scan::Extent, text::unescape, walk::compact};
use crate::secret::Secrets;

/// A member of an object that something was wanted of.
#[derive(Debug, Clone, Copy)]
struct Member {
    /// The opening quote of its name, and the byte after the closing one.
    name: (u32, u32),
    /// Its value, quotes included.
    value: (u32, u32),
    /// Number of the first member that is neither this one nor inside it.
    next: u32,
}

/// Where the members lie, each before those inside it.
#[derive(Debug, Default)]
pub struct Notes {
    members: Vec<Member>,
    /// The record's object; the end is 0 until it is found.
    object: (u32, u32),
    /// A blank stands between parts of the object.
    blanks: bool,
}

impl Notes {
    /// Forgets the record before.
    pub fn clear(&mut self) {
        self.members.clear();
        self.object = (0, 0);
    }

    /// The record's object begins here.
    pub fn begin_object(&mut self, at: usize) {
        self.object.0 = at as u32;
        self.blanks = false;
    }

    /// It ended before this byte.
    pub fn end_object(&mut self, at: usize) {
        self.object.1 = at as u32;
    }

    /// A blank stands between two parts.
    pub fn see_blank(&mut self) {
        self.blanks |= self.object.1 == 0;
    }

    /// A member's value begins at `value`; gives the member's number.
    #[inline]
    pub fn begin(&mut self, name: usize, name_end: usize, value: usize) -> usize {
        let number = self.members.len();
        let value = (value as u32, value as u32);
        self.members.push(Member { name: (name as u32, name_end as u32), value, next: 0 });
        number
    }

    /// The value of the member of this number ended before this byte.
    #[inline]
    pub fn end(&mut self, number: usize, at: usize) {
        let next = self.members.len() as u32;
        if let Some(member) = self.members.get_mut(number) {
            (member.value.1, member.next) = (at as u32, next);
        }
    }
}

/// Writes what is left of one record after another.
#[derive(Debug, Default)]
pub struct Remainder {
    /// First bytes of the values that were taken.
    taken: Vec<u32>,
    out: String,
    path: String,
    scratch: String,
}

impl Remainder {
    /// Forgets what was taken of the record before.
    pub fn clear(&mut self) {
        self.taken.clear();
    }

    /// The value at this place is said elsewhere.
    #[inline]
    pub fn take(&mut self, place: Extent) {
        self.taken.push(place.raw_start());
    }

    /// The object of all that was not taken of a scanned record; `None` if nothing is left.
    pub fn write<'a>(&'a mut self, record: &'a str, notes: &Notes, secrets: &Secrets) -> Option<&'a str> {
        if notes.members.is_empty() {
            return None;
        }
        if self.taken.is_empty() && !notes.blanks && secrets.is_empty() {
            return record.get(notes.object.0 as usize..notes.object.1 as usize);
        }
        self.taken.sort_unstable();
        self.out.clear();
        self.path.clear();
        let mut writer = Writer {
            record,
            members: &notes.members,
            blanks: notes.blanks,
            secrets: (!secrets.is_empty()).then_some(secrets),
            taken: &self.taken,
            run: (0, 0),
            out: &mut self.out,
            path: &mut self.path,
            scratch: &mut self.scratch,
        };
        writer.object(0, notes.members.len()).then_some(self.out.as_str())
    }
}

struct Writer<'w> {
    record: &'w str,
    members: &'w [Member],
    blanks: bool,
    secrets: Option<&'w Secrets>,
    /// Those that are still to come, in ascending order.
    taken: &'w [u32],
    /// What is to be copied next, from and to; empty if nothing.
    run: (u32, u32),
    out: &'w mut String,
    /// Of the object at hand.
    path: &'w mut String,
    scratch: &'w mut String,
}

impl<'w> Writer<'w> {
    /// Writes what is left of the object that has these members, and nothing, which it tells, if that is nothing.
    fn object(&mut self, from: usize, to: usize) -> bool {
        let begin = self.out.len();
        self.out.push('{');
        let mut at = from;
        while let Some(member) = self.members.get(at).filter(|_| at < to).copied() {
            let inside = at + 1;
            at = member.next as usize;
            match self.taken.first().filter(|taken| **taken < member.value.1) {
                None => self.whole(member),
                Some(taken) if *taken == member.value.0 => self.pass(member.value.1),
                Some(_) => self.part(member, inside, at),
            }
        }
        self.flush();
        let any = self.out.len() > begin + 1;
        if any {
            self.out.push('}');
        } else {
            self.out.truncate(begin);
        }
        any
    }

    /// Writes what is left of a member, of whose members (from and to) some were taken.
    fn part(&mut self, member: Member, from: usize, to: usize) {
        self.flush();
        let (before, length) = (self.out.len(), self.path.len());
        self.name(member);
        if self.secrets.is_some() {
            self.enter(member);
        }
        if !self.object(from, to) {
            self.out.truncate(before);
        }
        self.path.truncate(length);
        self.pass(member.value.1);
    }

    /// What was taken before this byte is behind us.
    fn pass(&mut self, end: u32) {
        let passed = self.taken.iter().take_while(|taken| **taken < end).count();
        self.taken = self.taken.get(passed..).unwrap_or_default();
    }

    /// Writes a member of which nothing was taken.
    fn whole(&mut self, member: Member) {
        let length = self.path.len();
        let clean = match self.secrets {
            None => true,
            Some(secrets) => {
                self.enter(member);
                is_clean(secrets, self.path, self.text(member.value))
            }
        };
        if clean && !self.blanks {
            self.copy(member.name.0, member.value.1);
        } else {
            self.flush();
            self.name(member);
            self.value(member, clean);
        }
        self.path.truncate(length);
    }

    fn value(&mut self, member: Member, clean: bool) {
        let value = self.text(member.value);
        match self.secrets {
            Some(secrets) if !clean && self.blanks => {
                // Hidden first: the hash of a secret list is that of its text as it was written, here as elsewhere.
                self.scratch.clear();
                secrets.mask_value(self.path, value, self.scratch);
                compact(self.scratch, self.out);
            }
            Some(secrets) if !clean => secrets.mask_value(self.path, value, self.out),
            _ => compact(value, self.out),
        }
    }

    fn name(&mut self, member: Member) {
        self.comma();
        let name = self.text(member.name);
        self.out.push_str(name);
        self.out.push(':');
    }

    /// The path of a member.
    fn enter(&mut self, member: Member) {
        if !self.path.is_empty() {
            self.path.push('.');
        }
        let quoted = self.text(member.name);
        let name = quoted.get(1..quoted.len().saturating_sub(1)).unwrap_or_default();
        unescape(name, self.path);
    }

    /// Has this part of the record written, with the part before it if a comma alone stands between them.
    fn copy(&mut self, from: u32, to: u32) {
        if self.run.1 > 0 && self.run.1 + 1 == from {
            self.run.1 = to;
        } else {
            self.flush();
            self.run = (from, to);
        }
    }

    fn flush(&mut self) {
        if self.run.1 > 0 {
            self.comma();
            let run = std::mem::take(&mut self.run);
            let run = self.text(run);
            self.out.push_str(run);
        }
    }

    /// A comma, unless an object was just begun. No member ends with its bracket.
    fn comma(&mut self) {
        if !self.out.ends_with('{') {
            self.out.push(',');
        }
    }

    fn text(&self, (from, to): (u32, u32)) -> &'w str {
        self.record.get(from as usize..to as usize).unwrap_or_default()
    }
}

/// True if a value surely holds no secret: a scalar or a container at a path that none lies at or below, without any sign
/// that begins a parameter's value, or could be written as an escape that does.
fn is_clean(secrets: &Secrets, path: &str, value: &str) -> bool {
    let container = value.starts_with(['{', '[']);
    let path_is_clean = !(secrets.lies_at(path) || container && secrets.lies_below(path));
    path_is_clean && memchr2(b'=', b'\\', value.as_bytes()).is_none()
}
