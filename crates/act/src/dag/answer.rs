//! What a firewall answers, read from its XML.
//!
//! In: bytes from whoever answers at the firewall's address. Out: [`Answer`], or the word that it is none. Invariants: depth and texts are
//! bounded, and counts by the length of the bytes; a document type is refused and no entity is known but those of XML itself, so that
//! nothing expands; a list that is not where it is documented to be is no list: it must never be taken for an empty one.

use quick_xml::{
    Reader, XmlVersion,
    escape::resolve_xml_entity,
    events::{BytesStart, Event},
};

/// Elements within one another: the documented answers have eight.
const MAX_DEPTH: usize = 16;
/// Bytes of one text that are kept; a tag has 127 characters at most.
const MAX_TEXT: usize = 1_024;
/// Characters of a message for people.
const MAX_MESSAGE: usize = 200;

/// Why something is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// It is not well-formed, or not UTF-8.
    #[error("it answered something that is no XML")]
    NoXml,
    /// It declares a document type or uses an entity, which the interface never does.
    #[error("it answered XML with a document type or an unknown entity")]
    Entity,
    /// Its elements are too deep.
    #[error("it answered XML with more than {MAX_DEPTH} elements within one another")]
    TooDeep,
    /// Its root is another.
    #[error("it answered XML that is no `response`")]
    NoResponse,
    /// The list is not where it is documented to be.
    #[error("it answered something that is no list of registered addresses")]
    NoList,
    /// It has written the list into a file.
    #[error("it names a file in place of the registered addresses, as PAN-OS before 8.0 does; 9.0 is needed")]
    File,
    /// It does not say what part it has in its pair.
    #[error("it answered something that is no state of high availability")]
    NoState,
}

/// An address as the firewall lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registered {
    /// As written there.
    pub ip: String,
    /// Its tags.
    pub tags: Vec<Tag>,
}

/// A tag on an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tag {
    /// Its name.
    pub name: String,
    /// For how many seconds, as far as the firewall says: 0 for ever.
    pub timeout: Option<u32>,
}

/// What the firewall says of one entry of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// The address, as we wrote it.
    pub ip: String,
    /// What it says.
    pub message: String,
}

impl Said {
    /// Whether all is as it should be: what is to be there is there already, or what is to be gone is.
    #[must_use]
    pub fn is_fine(&self) -> bool {
        is_fine(&self.message)
    }
}

/// Which part a firewall has in a pair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// It has none, or is the one that passes traffic.
    Active,
    /// What it says that it is: `passive`, `suspended`, …
    Standby(String),
}

/// An answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answer {
    /// It says `success`.
    pub success: bool,
    /// The code, where there is one.
    pub code: Option<u16>,
    /// What it says to people, cut.
    pub message: String,
    /// What it says of entries.
    pub said: Vec<Said>,
    result: bool,
    entries: Vec<Registered>,
    count: Option<u64>,
    /// Entries of a list elsewhere than in the result.
    astray: bool,
    file: bool,
    enabled: Option<bool>,
    state: Option<String>,
}

impl Answer {
    /// Whether it is about the key: wrong, expired, or of somebody who may not do this.
    #[must_use]
    pub const fn is_refusal(&self) -> bool {
        !self.success && matches!(self.code, Some(16 | 22 | 401 | 403))
    }

    /// Whether a message was taken as a whole: entries of which it says something are in [`Answer::said`].
    #[must_use]
    pub fn is_taken(&self) -> bool {
        self.success || !self.said.is_empty() || is_fine(&self.message)
    }

    /// A page of registered addresses.
    ///
    /// # Errors
    /// If it is no such page.
    pub fn page(self) -> Result<Vec<Registered>, Unreadable> {
        if self.file {
            return Err(Unreadable::File);
        }
        let hidden = self.count.is_some_and(|count| count > 0) && self.entries.is_empty();
        if !self.success || !self.result || self.astray || hidden {
            return Err(Unreadable::NoList);
        }
        Ok(self.entries)
    }

    /// Its part in a pair.
    ///
    /// # Errors
    /// If it says none.
    pub fn role(self) -> Result<Role, Unreadable> {
        match (self.success, self.enabled, self.state) {
            (true, Some(false), _) => Ok(Role::Active),
            // `active-primary` of two firewalls that both are, `primary-active` of two Panoramas.
            (true, _, Some(state))
                if state == "active" || state.starts_with("active-") || state.ends_with("-active") =>
            {
                Ok(Role::Active)
            }
            (true, _, Some(state)) => Ok(Role::Standby(shown(&state))),
            _ => Err(Unreadable::NoState),
        }
    }
}

fn is_fine(message: &str) -> bool {
    message.ends_with("already exists, ignore") || message.ends_with("does not exist, ignore unreg")
}

/// As people may read it.
fn shown(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_MESSAGE).collect()
}

/// Reads an answer.
///
/// # Errors
/// If it is none.
pub fn read(bytes: &[u8]) -> Result<Answer, Unreadable> {
    let text = std::str::from_utf8(bytes).map_err(|_| Unreadable::NoXml)?;
    let mut reader = Reader::from_str(text);
    reader.config_mut().expand_empty_elements = true;
    let mut reading = Reading::default();
    loop {
        match reader.read_event().map_err(|_| Unreadable::NoXml)? {
            Event::Start(tag) | Event::Empty(tag) => reading.open(&tag)?,
            Event::End(_) => reading.close(),
            Event::Text(text) => reading.text(&text.xml10_content()),
            Event::CData(text) => reading.text(&text.xml10_content()),
            Event::GeneralRef(name) => match name.resolve_char_ref().map_err(|_| Unreadable::Entity)? {
                Some(c) => reading.text(c.encode_utf8(&mut [0; 4])),
                None => reading.text(resolve_xml_entity(&name.into_inner()).ok_or(Unreadable::Entity)?),
            },
            Event::DocType(_) => return Err(Unreadable::Entity),
            Event::Decl(_) | Event::PI(_) | Event::Comment(_) => {}
            Event::Eof => break,
        }
    }
    if !reading.path.is_empty() || !reading.begun {
        return Err(Unreadable::NoXml);
    }
    let mut answer = reading.answer;
    answer.message = shown(&reading.messages.join(" "));
    Ok(answer)
}

/// An answer as far as it was read.
#[derive(Default)]
struct Reading {
    answer: Answer,
    /// The elements that are open.
    path: Vec<String>,
    /// What stands in the innermost one.
    text: String,
    timeout: Option<u32>,
    messages: Vec<String>,
    begun: bool,
}

impl Reading {
    fn open(&mut self, tag: &BytesStart<'_>) -> Result<(), Unreadable> {
        let name = tag.name().into_inner();
        if self.path.is_empty() && (name != "response" || std::mem::replace(&mut self.begun, true)) {
            return Err(Unreadable::NoResponse);
        }
        if self.path.len() == MAX_DEPTH {
            return Err(Unreadable::TooDeep);
        }
        self.path.push(name.to_owned());
        self.text.clear();
        let path: Vec<&str> = self.path.iter().map(String::as_str).collect();
        match path.as_slice() {
            ["response"] => {
                self.answer.success = attribute(tag, "status")?.is_some_and(|status| status == "success");
                self.answer.code = attribute(tag, "code")?.and_then(|code| code.trim().parse().ok());
            }
            ["response", "result"] => self.answer.result = true,
            ["response", "result", "entry", "tag", "member"] => {
                self.timeout = attribute(tag, "timeout")?.and_then(|timeout| timeout.trim().parse().ok());
            }
            ["response", .., "entry"] if path.contains(&"uid-response") => {
                let ip = attribute(tag, "ip")?.unwrap_or_default();
                let message = attribute(tag, "message")?.unwrap_or_default();
                self.answer.said.push(Said { ip, message: shown(message.trim()) });
            }
            ["response", "result", "entry"] => {
                let ip = attribute(tag, "ip")?.ok_or(Unreadable::NoList)?;
                self.answer.entries.push(Registered { ip, tags: Vec::new() });
            }
            ["response", "result", .., "entry"] => self.answer.astray |= attribute(tag, "ip")?.is_some(),
            _ => {}
        }
        Ok(())
    }

    fn close(&mut self) {
        let text = std::mem::take(&mut self.text);
        let text = text.trim();
        let path: Vec<&str> = self.path.iter().map(String::as_str).collect();
        let answer = &mut self.answer;
        match path.as_slice() {
            ["response", "result", "entry", "tag", "member"] => {
                if let Some(entry) = answer.entries.last_mut() {
                    entry.tags.push(Tag { name: text.to_owned(), timeout: self.timeout.take() });
                }
            }
            ["response", "result", "count"] => answer.count = text.parse().ok(),
            ["response", "result", "enabled"] => answer.enabled = Some(text == "yes"),
            ["response", "result", "local-info", "state"]
            | ["response", "result", "group", "local-info", "state"] => answer.state = Some(text.to_owned()),
            [.., "outfile"] => answer.file = true,
            [.., "msg" | "line"] if !text.is_empty() && self.messages.len() < MAX_DEPTH => {
                self.messages.push(text.to_owned());
            }
            _ => {}
        }
        self.path.pop();
    }

    fn text(&mut self, more: &str) {
        if self.text.len() + more.len() <= MAX_TEXT {
            self.text.push_str(more);
        } else {
            let room = MAX_TEXT.saturating_sub(self.text.len());
            self.text.extend(more.chars().take(room / 4));
        }
    }
}

/// An attribute's value, cut.
fn attribute(tag: &BytesStart<'_>, name: &str) -> Result<Option<String>, Unreadable> {
    let found = tag.try_get_attribute(name).map_err(|_| Unreadable::NoXml)?;
    let Some(found) = found else { return Ok(None) };
    let value = found.normalized_value(XmlVersion::Implicit1_0).map_err(|_| Unreadable::Entity)?;
    Ok(Some(value.chars().take(MAX_TEXT).collect()))
}
