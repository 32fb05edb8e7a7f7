//! Files of every form, whole and damaged, as records.
#![allow(clippy::unwrap_used)]

use std::io::Write;

use vedette_event::TopicIx;

use super::*;

const PARTITION: Partition = Partition { topic: TopicIx(0), number: 3 };

fn write(bytes: &[u8]) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    file
}

fn open(file: &tempfile::NamedTempFile) -> FileBatches {
    FileBatches::open(Input::Path(file.path().to_owned()), SourceIx(7), PARTITION).unwrap()
}

/// All lines with their numbers, and the error that ended them.
fn read(file: &tempfile::NamedTempFile) -> (Vec<(i64, Vec<u8>)>, Option<Error>) {
    let mut lines = Vec::new();
    for batch in open(file) {
        match batch {
            Ok(batch) => {
                assert!(batch.records.len() <= MAX_ROWS);
                assert_eq!((batch.source, batch.partition), (SourceIx(7), PARTITION));
                for record in &batch.records {
                    assert_eq!((record.ts_log, record.flags), (None, Flags::NONE));
                    lines.push((record.offset, batch.payload(record).unwrap().to_vec()));
                }
            }
            Err(e) => return (lines, Some(e)),
        }
    }
    (lines, None)
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}

/// Lines of changing length, several blocks of them.
fn many() -> Vec<u8> {
    let mut text = Vec::new();
    for n in 0..30_000_usize {
        text.extend_from_slice(format!("{n} {}\n", "x".repeat(n * 7 % 250)).as_bytes());
    }
    text
}

#[test]
fn lines_are_numbered_and_blank_ones_are_not() {
    let file = write(b"\xef\xbb\xbfone\r\n\n \t\r\n two\n\xff\xfe\n\r\nlast");
    let (lines, error) = read(&file);
    let expected: [(i64, &[u8]); 4] = [(0, b"one"), (1, b" two"), (2, b"\xff\xfe"), (3, b"last")];
    assert_eq!(lines, expected.map(|(n, line)| (n, line.to_vec())));
    assert!(error.is_none());
    assert_eq!(read(&write(b"")).0, []);
    assert_eq!(read(&write(b"\n\n")).0, []);
}

#[test]
fn blocks_and_compression_change_nothing() {
    let text = many();
    let expected: Vec<_> =
        text.strip_suffix(b"\n").unwrap().split(|b| *b == b'\n').map(<[u8]>::to_vec).enumerate().collect();
    let zstd = zstd::encode_all(&text[..], 1).unwrap();
    let two_members = [gzip(&text[..1_000_000]), gzip(&text[1_000_000..])].concat();
    for packed in [text.clone(), gzip(&text), two_members, zstd] {
        let file = write(&packed);
        let (lines, error) = read(&file);
        assert!(error.is_none(), "{error:?}");
        assert!(lines.into_iter().map(|(n, line)| (n as usize, line)).eq(expected.iter().cloned()));
        let mut batches = open(&file);
        assert!(batches.by_ref().all(|b| b.is_ok()));
        assert_eq!(batches.bytes_read(), packed.len() as u64);
        assert_eq!(batches.size(), Some(packed.len() as u64));
    }
}

#[test]
fn a_line_that_is_too_long_is_cut_and_never_held() {
    for extra in [0, 1, 2, BLOCK, 5 * BLOCK + 17] {
        for end in ["\n", "\r\n"] {
            let long = vec![b'y'; MAX_RECORD_BYTES + extra];
            let mut text = b"first\n".to_vec();
            text.extend_from_slice(&long);
            text.extend_from_slice(end.as_bytes());
            text.extend_from_slice(b"after\n");
            let (lines, error) = read(&write(&text));
            assert!(error.is_none());
            assert_eq!(lines.len(), 3, "{extra} {end:?}");
            assert_eq!(lines[1].1.len(), MAX_RECORD_BYTES + extra.min(1), "{extra} {end:?}");
            assert_eq!(lines[2], (2, b"after".to_vec()));
        }
    }
    let batches = open(&write(&vec![b'z'; 8 * BLOCK])).map(Result::unwrap).collect::<Vec<_>>();
    assert_eq!(batches.len(), 1);
    assert!(batches[0].data.len() <= 2 * BLOCK + LONGEST_LINE);
}

#[test]
fn damage_is_told_with_file_and_byte_after_what_came_before() {
    let text = many();
    let packed = gzip(&text);
    let file = write(&packed[..packed.len() / 2]);
    let (lines, error) = read(&file);
    assert!(lines.len() > 10_000);
    assert!(lines.iter().all(|(n, line)| line.starts_with(format!("{n} ").as_bytes())));
    let message = error.unwrap().to_string();
    let expected = format!("{} is damaged at byte {} (gzip)", file.path().display(), packed.len() / 2);
    assert!(message.starts_with(&expected), "{message}");

    let mut flipped = zstd::encode_all(&text[..], 1).unwrap();
    let middle = flipped.len() / 2;
    flipped[middle..middle + 64].fill(0xff);
    let (_, error) = read(&write(&flipped));
    assert!(matches!(error, Some(Error::Damaged { form: "zstd", at, .. }) if at > 0), "{error:?}");
}

#[test]
fn what_cannot_be_opened_says_so() {
    let missing = Input::Path("/nonexistent/file.log".into());
    let error = FileBatches::open(missing, SourceIx(0), PARTITION).err().unwrap();
    assert!(error.to_string().contains("/nonexistent/file.log"));
    let folder = Input::Path(std::env::temp_dir());
    assert!(matches!(FileBatches::open(folder, SourceIx(0), PARTITION), Err(Error::Open { .. })));
}

#[test]
fn one_of_many_files_is_read_in_small_blocks_and_long_lines_stay_whole() {
    let mut text = many();
    for n in 1..5 {
        text.extend_from_slice(&b"y".repeat(n * 200_000));
        text.push(b'\n');
    }
    text.extend_from_slice(&b"z".repeat(3 << 20));
    text.extend_from_slice(b"\nlast");
    let file = write(&text);
    let (whole, _) = read(&file);
    for files in [1, 32, 500, 1_000_000] {
        let (mut lines, mut longest) = (Vec::new(), 0);
        for batch in open(&file).one_of(files) {
            let batch = batch.unwrap();
            longest = longest.max(batch.data.len());
            let of = |record: &RawRecord| (record.offset, batch.payload(record).unwrap().to_vec());
            lines.extend(batch.records.iter().map(of));
        }
        assert!(lines == whole, "{files} files");
        // A block, or a line that is not whole yet and as much again.
        assert!(longest <= 2 * (MAX_RECORD_BYTES + (1 << 20)), "{longest}");
    }
    let first = open(&file).one_of(500).next().unwrap().unwrap();
    assert!(first.data.len() <= (32 << 20) / 500, "{}", first.data.len());
}

#[test]
fn a_pipe_is_read_in_blocks_as_large_as_what_it_gives() {
    // What a pipe holds, and now and then a little more than nothing.
    let text = many();
    let pieces: Vec<Vec<u8>> = text.chunks(40_000).map(<[u8]>::to_vec).collect();
    struct Pipe(std::vec::IntoIter<Vec<u8>>);
    impl Read for Pipe {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            let piece = self.0.next().unwrap_or_default();
            buf[..piece.len()].copy_from_slice(&piece);
            Ok(piece.len())
        }
    }
    let mut batches = open(&write(b""));
    let raw = Counted { raw: Box::new(Pipe(pieces.into_iter())), read: Arc::default() };
    (batches.size, batches.ahead) = (None, FIRST_BLOCK);
    batches.decoder = Unpacker::Plain(Cursor::new(Vec::new()).chain(raw));
    let mut lines = 0;
    for batch in batches {
        let batch = batch.unwrap();
        lines += batch.records.len();
        assert!(batch.data.capacity() <= 2 * FIRST_BLOCK, "{} bytes", batch.data.capacity());
    }
    assert_eq!(lines, 30_000);
}
