//! A filter: whether a key can be in a set, at one false yes in a hundred.
//!
//! In: keys. Out: cells of 256 bits in pages, each with its hash. Invariants: a key that was put in is found; a page that is not what was
//! written is noticed. It is the split-block Bloom filter of Parquet, in pages of its own so that one key needs one page.

use std::ops::Range;

/// Bytes of a cell.
const CELL: usize = 32;
/// Cells of a page at most: with its hash it has 1,024 bytes.
const CELLS: u32 = 31;
/// Bytes of a hash.
pub(super) const HASH: usize = 32;
/// Bits for each key. Ten give 1.1 % false positives, measured below.
const BITS_A_KEY: usize = 10;
/// Those of Parquet's.
const SALT: [u32; 8] =
    [0x47b6_137b, 0x4497_4d91, 0x8824_ad5b, 0xa2b7_289d, 0x7054_95c7, 0x2df1_424b, 0x9efc_4947, 0x5c6b_fb31];

/// Where the cells of a filter are, in which pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shape {
    cells: u32,
    /// Of each page; the last may have fewer.
    a_page: u32,
}

impl Shape {
    /// Of this many keys.
    pub(super) fn of_keys(keys: usize) -> Self {
        let cells = (keys * BITS_A_KEY).div_ceil(8 * CELL);
        Self::of_cells(u32::try_from(cells).unwrap_or(u32::MAX - 1))
    }

    /// Of this many cells.
    pub(super) fn of_cells(cells: u32) -> Self {
        let pages = cells.div_ceil(CELLS).max(1);
        Self { cells, a_page: cells.div_ceil(pages).max(1) }
    }

    pub(super) const fn cells(self) -> u32 {
        self.cells
    }

    const fn pages(self) -> u32 {
        self.cells.div_ceil(self.a_page)
    }

    /// Bytes of all pages with their hashes.
    pub(super) const fn bytes(self) -> u64 {
        self.cells as u64 * CELL as u64 + self.pages() as u64 * HASH as u64
    }

    /// Bytes of a page with its hash, from the filter's beginning on.
    pub(super) fn page(self, page: u32) -> Range<u64> {
        let each = u64::from(self.a_page) * CELL as u64 + HASH as u64;
        let begin = u64::from(page) * each;
        begin..(begin + each).min(self.bytes())
    }

    /// The cell of a key; none in a filter of nothing.
    const fn cell(self, key: u64) -> Option<u32> {
        if self.cells == 0 { None } else { Some((((key >> 32) * self.cells as u64) >> 32) as u32) }
    }

    /// The page of a key; none in a filter of nothing.
    pub(super) fn page_of(self, key: u64) -> Option<u32> {
        self.cell(key).map(|cell| cell / self.a_page)
    }

    /// Whether a key can be in the filter, by the cells of its page.
    pub(super) fn may_hold(self, key: u64, page: &[u8]) -> bool {
        let Some(cell) = self.cell(key) else { return false };
        let at = (cell % self.a_page) as usize * CELL;
        // A page that is too short is nobody's, and says nothing.
        let Some(cell) = page.get(at..at + CELL) else { return true };
        bits(key).zip(cell.chunks_exact(4)).all(|(bit, word)| {
            let word = u32::from_le_bytes([word[0], word[1], word[2], word[3]]);
            word & bit != 0
        })
    }
}

/// The bit of each of a cell's eight words.
fn bits(key: u64) -> impl Iterator<Item = u32> {
    SALT.iter().map(move |salt| 1 << ((key as u32).wrapping_mul(*salt) >> 27))
}

/// The cells of a filter of these keys, eight words each.
pub(super) fn cells(shape: Shape, keys: impl Iterator<Item = u64>) -> Vec<u32> {
    let mut words = vec![0; shape.cells as usize * 8];
    for key in keys {
        if let Some(cell) = shape.cell(key) {
            let words = &mut words[cell as usize * 8..][..8];
            words.iter_mut().zip(bits(key)).for_each(|(word, bit)| *word |= bit);
        }
    }
    words
}

/// Writes cells in pages; `hash` gives that of a page by its number.
pub(super) fn write(
    shape: Shape,
    cells: &[u32],
    out: &mut Vec<u8>,
    hash: impl Fn(u32, &[u8]) -> blake3::Hash,
) {
    for (number, page) in cells.chunks(shape.a_page as usize * 8).enumerate() {
        let begin = out.len();
        page.iter().for_each(|word| out.extend(word.to_le_bytes()));
        let hash = hash(number as u32, &out[begin..]);
        out.extend(hash.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(_: u32, page: &[u8]) -> blake3::Hash {
        blake3::hash(page)
    }

    fn key(number: u64) -> u64 {
        twox_hash::XxHash64::oneshot(7, &number.to_le_bytes())
    }

    fn asked(shape: Shape, written: &[u8], key: u64) -> bool {
        shape.page_of(key).is_some_and(|page| {
            let bytes = shape.page(page);
            let page = &written[bytes.start as usize..bytes.end as usize];
            let (cells, hash) = page.split_at(page.len() - HASH);
            assert_eq!(blake3::hash(cells).as_bytes()[..], *hash);
            shape.may_hold(key, cells)
        })
    }

    #[test]
    fn what_is_in_is_found_and_of_what_is_not_one_in_a_hundred() {
        for keys in [0, 1, 2, 25, 26, 700, 800, 5_000, 100_000] {
            let shape = Shape::of_keys(keys);
            let mut written = Vec::new();
            write(shape, &cells(shape, (0..keys as u64).map(key)), &mut written, hash);
            assert_eq!(written.len() as u64, shape.bytes());
            assert_eq!(Shape::of_cells(shape.cells()), shape);
            assert!((0..keys as u64).all(|number| asked(shape, &written, key(number))));
            let others = 1_000_000_u64..1_100_000;
            let wrong = others.filter(|number| asked(shape, &written, key(*number))).count();
            assert!(wrong <= 1_300, "{wrong} of 100,000 with {keys} keys");
            assert!(written.len() <= keys * 14 / 10 + 64, "{} bytes for {keys} keys", written.len());
        }
    }

    #[test]
    fn pages_are_small_and_follow_each_other() {
        for cells in 0..200 {
            let shape = Shape::of_cells(cells);
            let mut end = 0;
            for page in 0..shape.pages() {
                let bytes = shape.page(page);
                assert_eq!(bytes.start, end);
                assert!(bytes.end - bytes.start <= 1_024 && bytes.end - bytes.start >= 64);
                end = bytes.end;
            }
            assert_eq!(end, shape.bytes());
        }
    }
}
