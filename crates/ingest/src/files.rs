//! Plain, gzip and zstd files and standard input, as raw batches.
//!
//! In: a file (its form is told from its first bytes) and the partition number it stands for. Out: [`RawBatch`]es of
//! its lines, without `\n` or `\r\n`, numbered from 0; blank lines have no number; `ts_log` is `None`.
//!
//! Invariants: bytes are passed through as they are, UTF-8 or not; a batch's payloads are views into the block that
//! was read, so no line is copied but the one that a block's end cuts; at most a block and one line are held, however
//! long a line is, and all files that are read at once share the bytes of their blocks; what lies before a damaged place is delivered before the error is.

use std::{
    fs::File,
    io::{self, BufReader, Chain, Cursor, Read},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use arrow_buffer::Buffer;
use vedette_event::{Flags, MAX_ROWS, Partition, RawBatch, RawRecord, SourceIx, raw::MAX_RECORD_BYTES};

use crate::Error;

/// How much is read at a time.
const BLOCK: usize = 1 << 20;
/// Blocks of all files that are read at once, since each file has one, or one of it: 32 MiB.
const BLOCKS: usize = 32;
/// How much is read at a time at least: more, smaller reads cost more than a thousand files hold.
const LEAST_BLOCK: usize = 1 << 14;
/// How much is asked for first where it is not known how much there is: what a pipe holds.
const FIRST_BLOCK: usize = 1 << 16;
/// How much of a compressed file is read at a time.
const COMPRESSED_BLOCK: usize = 1 << 16;
/// The longest record and a `\r`.
const LONGEST_LINE: usize = MAX_RECORD_BYTES + 1;
/// A byte-order mark, which some programs write before UTF-8.
const BOM: &[u8] = b"\xef\xbb\xbf";

/// Where lines come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// Standard input.
    Stdin,
    /// A file.
    Path(PathBuf),
}

impl Input {
    /// The name to show: the path, or `-`.
    #[must_use]
    pub fn name(&self) -> &Path {
        match self {
            Self::Stdin => Path::new("-"),
            Self::Path(path) => path,
        }
    }
}

/// The raw batches of one file, in order. Ends after the first error.
pub struct FileBatches {
    input: Input,
    source: SourceIx,
    partition: Partition,
    decoder: Unpacker,
    /// Bytes read from the file itself.
    read: Arc<AtomicU64>,
    size: Option<u64>,
    lines: Lines,
    /// How much is read at a time at most.
    block: usize,
    /// How much is asked for next: twice what came while that fills blocks.
    ahead: usize,
    /// Found while a block was filled; given out once the lines before it have been.
    failed: Option<Error>,
    ended: bool,
}

impl FileBatches {
    /// Opens a file and looks at its first bytes.
    ///
    /// # Errors
    /// [`Error::Open`] if it cannot be opened or is a folder; [`Error::Read`] if its first bytes cannot be read.
    pub fn open(input: Input, source: SourceIx, partition: Partition) -> Result<Self, Error> {
        let failed = |source| Error::Open { file: input.name().to_owned(), source };
        let (raw, size): (Box<dyn Read + Send>, _) = match &input {
            Input::Stdin => (Box::new(io::stdin()), None),
            Input::Path(path) => {
                let file = File::open(path).map_err(failed)?;
                let about = file.metadata().map_err(failed)?;
                if about.is_dir() {
                    return Err(failed(io::ErrorKind::IsADirectory.into()));
                }
                (Box::new(file), about.is_file().then_some(about.len()))
            }
        };
        let read = Arc::new(AtomicU64::new(0));
        let decoder = Unpacker::new(Counted { raw, read: read.clone() }).map_err(|source| Error::Read {
            file: input.name().to_owned(),
            at: 0,
            source,
        })?;
        Ok(Self {
            input,
            source,
            partition,
            decoder,
            read,
            size,
            lines: Lines::default(),
            block: BLOCK,
            ahead: if size.is_some() { BLOCK } else { FIRST_BLOCK },
            failed: None,
            ended: false,
        })
    }

    /// The same as one of so many files that are read at once, which share a bounded number of bytes.
    #[must_use]
    pub fn one_of(self, files: usize) -> Self {
        Self { block: (BLOCKS * BLOCK / files.max(1)).clamp(LEAST_BLOCK, BLOCK), ..self }
    }

    /// How many bytes of the file (as it lies on the disk) have been read so far.
    #[must_use]
    pub fn bytes_read(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }

    /// How long the file is, where that is known.
    #[must_use]
    pub fn size(&self) -> Option<u64> {
        self.size
    }

    /// Reads the next block: from a file a full one, from a pipe what is there.
    fn fill(&mut self) {
        let mut block = self.lines.carry(self.ahead.min(self.block));
        let start = block.len();
        block.resize(block.capacity(), 0);
        let mut end = start;
        while end < block.len() {
            match self.decoder.read(&mut block[end..]) {
                Ok(0) => {
                    self.ended = true;
                    break;
                }
                Ok(n) => end += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => {
                    self.failed = Some(self.failure(e));
                    break;
                }
            }
            if self.size.is_none() && memchr::memchr(b'\n', &block[start..end]).is_some() {
                break;
            }
        }
        // A pipe gives 64 KiB at a time. In blocks of a mebibyte, each cleared and held until its few lines are through, 300,000 lines took 90 MiB.
        let filled = end == block.len();
        self.ahead = if filled { self.block.min(2 * self.ahead) } else { (end - start).max(FIRST_BLOCK) };
        block.truncate(end);
        if self.ended {
            // The last block stays as long as the file is open, and files of one line can be thousands.
            block.shrink_to_fit();
        }
        self.lines.load(block, self.ended);
    }

    fn failure(&self, source: io::Error) -> Error {
        let file = self.input.name().to_owned();
        let at = self.bytes_read() - self.decoder.unused();
        match self.decoder.form() {
            None => Error::Read { file, at, source },
            Some(form) => Error::Damaged { file, form, at, source },
        }
    }
}

impl Iterator for FileBatches {
    type Item = Result<RawBatch, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let records = self.lines.batch();
            if !records.is_empty() {
                let data = self.lines.block.clone();
                return Some(Ok(RawBatch { source: self.source, partition: self.partition, data, records }));
            }
            if let Some(e) = self.failed.take() {
                self.ended = true;
                return Some(Err(e));
            }
            if self.ended {
                return None;
            }
            self.fill();
        }
    }
}

/// Cuts blocks into lines.
#[derive(Default)]
struct Lines {
    /// The block at hand; batches share it.
    block: Buffer,
    /// Where in it the next line begins.
    at: usize,
    /// Where its last whole line ends.
    whole: usize,
    /// The number of the next line that is not blank.
    number: i64,
    /// True while the rest of a line that is too long is skipped.
    skipping: bool,
    /// True once the first block has been seen.
    begun: bool,
}

impl Lines {
    /// What the block at hand holds of a line that goes on in the next one, at most [`LONGEST_LINE`] bytes, with room for more: for as
    /// much again, so that a long line in small blocks is copied a few times only.
    fn carry(&mut self, more: usize) -> Vec<u8> {
        let rest = self.block.as_slice().get(self.whole..).unwrap_or_default();
        let mut block = Vec::with_capacity(rest.len() + more.max(rest.len()));
        block.extend_from_slice(rest);
        block
    }

    /// Takes the next block, which begins with what [`Lines::carry`] gave; `last` if none follows.
    fn load(&mut self, block: Vec<u8>, last: bool) {
        self.at = 0;
        if !std::mem::replace(&mut self.begun, true) && block.starts_with(BOM) {
            self.at = BOM.len();
        }
        if self.skipping {
            match memchr::memchr(b'\n', &block) {
                Some(end) => {
                    self.skipping = false;
                    self.at = end + 1;
                }
                None => self.at = block.len(),
            }
        }
        self.whole = match memchr::memrchr(b'\n', &block[self.at..]) {
            _ if last || self.skipping => block.len(),
            Some(end) => self.at + end + 1,
            None => self.at,
        };
        if block.len() - self.whole > LONGEST_LINE {
            // Its end is nowhere near: give out its beginning, which is enough to refuse it, and skip the rest.
            self.whole = block.len();
            self.skipping = true;
        }
        self.block = Buffer::from_vec(block);
    }

    /// The next lines of the block, at most [`MAX_ROWS`].
    fn batch(&mut self) -> Vec<RawRecord> {
        let mut records = Vec::new();
        let block = self.block.as_slice();
        while self.at < self.whole && records.len() < MAX_ROWS {
            let start = self.at;
            let end = memchr::memchr(b'\n', &block[start..self.whole]).map_or(self.whole, |n| start + n);
            self.at = end + 1;
            let line = &block[start..end];
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if line.first().is_none_or(u8::is_ascii_whitespace) && is_blank(line) {
                continue;
            }
            if records.is_empty() {
                records.reserve(MAX_ROWS);
            }
            records.push(RawRecord {
                offset: self.number,
                ts_log: None,
                flags: Flags::NONE,
                start: start as u32,
                len: Some(line.len().min(MAX_RECORD_BYTES + 1) as u32),
            });
            self.number += 1;
        }
        records
    }
}

/// True if there is nothing on the line. Of a line that is too long only the beginning is known, so that is never blank.
fn is_blank(line: &[u8]) -> bool {
    line.len() <= MAX_RECORD_BYTES && line.trim_ascii_start().is_empty()
}

/// Counts what is read from the file itself.
struct Counted {
    raw: Box<dyn Read + Send>,
    read: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.raw.read(buf)?;
        self.read.fetch_add(n as u64, Ordering::Relaxed);
        Ok(n)
    }
}

type Start = Chain<Cursor<Vec<u8>>, Counted>;

/// The bytes of a file, unpacked.
enum Unpacker {
    Plain(Start),
    Gzip(Box<flate2::bufread::MultiGzDecoder<BufReader<Start>>>),
    Zstd(Box<zstd::stream::read::Decoder<'static, BufReader<Start>>>),
}

impl Unpacker {
    fn new(mut file: Counted) -> io::Result<Self> {
        let mut magic = Vec::new();
        file.by_ref().take(4).read_to_end(&mut magic)?;
        let gzip = magic.starts_with(&[0x1f, 0x8b]);
        let zstd = magic.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]);
        let start = Cursor::new(magic).chain(file);
        let buffered = |start| BufReader::with_capacity(COMPRESSED_BLOCK, start);
        Ok(if gzip {
            Self::Gzip(Box::new(flate2::bufread::MultiGzDecoder::new(buffered(start))))
        } else if zstd {
            Self::Zstd(Box::new(zstd::stream::read::Decoder::with_buffer(buffered(start))?))
        } else {
            Self::Plain(start)
        })
    }

    /// The name of the compression, if there is one.
    fn form(&self) -> Option<&'static str> {
        match self {
            Self::Plain(_) => None,
            Self::Gzip(_) => Some("gzip"),
            Self::Zstd(_) => Some("zstd"),
        }
    }

    /// How many bytes have been read from the file but not unpacked.
    fn unused(&self) -> u64 {
        let unused = |r: &BufReader<Start>| r.buffer().len() as u64;
        match self {
            Self::Plain(_) => 0,
            Self::Gzip(d) => unused(d.get_ref()),
            Self::Zstd(d) => unused(d.get_ref()),
        }
    }
}

impl Read for Unpacker {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(r) => r.read(buf),
            Self::Gzip(r) => r.read(buf),
            Self::Zstd(r) => r.read(buf),
        }
    }
}

#[cfg(test)]
#[path = "files_tests.rs"]
mod tests;
