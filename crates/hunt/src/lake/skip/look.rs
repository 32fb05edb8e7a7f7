//! What of each file must be read, by its index.
//!
//! In: files of the catalog, what a query demands. Out: [`Looked`]. Invariants: whatever is wrong with an index means that its file is read;
//! of an index its head is read, and of each filter the pages of the demanded keys.

use std::{collections::BTreeSet, ops::Range};

use datafusion::object_store::{Error, ObjectStore, path::Path};
use futures::{StreamExt as _, stream};
use vedette_store::model::LakeFile;

use super::{
    demand::{Demand, Key},
    filter::HASH,
    head::{Head, page_hash},
    name,
};

/// Files whose indexes are read at once.
const AT_ONCE: usize = 16;
/// What is read first of an index: its head in most cases, all of a small one.
const FIRST: u64 = 4_096;

/// What of a file must be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// All of it: there is no index, or it says so.
    All,
    /// Nothing.
    Nothing,
    /// Those blocks of which it is true.
    Blocks(Vec<bool>),
}

/// What came of looking.
#[derive(Debug, Default)]
pub(crate) struct Looked {
    /// Of each file, in their order.
    pub(crate) verdicts: Vec<Verdict>,
    /// Bytes that were read of indexes.
    pub(crate) bytes: u64,
    /// Indexes that were to be there and were not, or not as they were written.
    pub(crate) damaged: u64,
}

/// Looks into the indexes of these files.
pub(crate) async fn look(store: &dyn ObjectStore, files: &[&LakeFile], demand: &Demand) -> Looked {
    if *demand == Demand::Nothing {
        return Looked { verdicts: vec![Verdict::All; files.len()], ..Looked::default() };
    }
    let looks: Vec<_> = files.iter().map(|file| asked(store, file, demand)).collect();
    let looks = stream::iter(looks).buffered(AT_ONCE);
    let mut looked = Looked::default();
    let mut looks = std::pin::pin!(looks);
    while let Some((verdict, bytes, damaged)) = looks.next().await {
        looked.verdicts.push(verdict);
        looked.bytes += bytes;
        looked.damaged += u64::from(damaged);
    }
    looked
}

/// What must be read of a file, how many bytes of its index were read to know, and whether the index was not as it was written.
async fn asked(store: &dyn ObjectStore, file: &LakeFile, demand: &Demand) -> (Verdict, u64, bool) {
    if file.index_bytes == 0 {
        return (Verdict::All, 0, false);
    }
    let mut index = Index { store, file, path: Path::from(name(&file.path)), read: 0 };
    match index.asked(demand).await {
        Some(verdict) => (verdict, index.read, false),
        None => (Verdict::All, index.read, true),
    }
}

/// An index that is looked into.
struct Index<'a> {
    store: &'a dyn ObjectStore,
    file: &'a LakeFile,
    path: Path,
    read: u64,
}

impl Index<'_> {
    /// What must be read; none if the index does not say.
    async fn asked(&mut self, demand: &Demand) -> Option<Verdict> {
        let first = 0..FIRST.min(self.file.index_bytes);
        let mut begin = self.bytes(&[first]).await.ok()?.pop()?;
        let length = Head::length_of(&begin)? as u64;
        if length > self.file.index_bytes {
            return None;
        }
        if length > begin.len() as u64 {
            let rest = begin.len() as u64..length;
            begin.extend(self.bytes(&[rest]).await.ok()?.pop()?);
        }
        let (head, hash) = Head::read(begin.get(..length as usize)?)?;
        let opened = Opened::new(head, hash, begin, self.file)?;
        let whole = self.filters(&opened, &[0], demand).await?;
        if whole == [false] {
            return Some(Verdict::Nothing);
        }
        let blocks: Vec<usize> = (1..opened.head.filters.len()).collect();
        let blocks = self.filters(&opened, &blocks, demand).await?;
        Some(if blocks.contains(&true) {
            if blocks.contains(&false) { Verdict::Blocks(blocks) } else { Verdict::All }
        } else {
            Verdict::Nothing
        })
    }

    /// Whether the demand can be met, by each of these filters; none if they cannot be read.
    async fn filters(&mut self, opened: &Opened, filters: &[usize], demand: &Demand) -> Option<Vec<bool>> {
        let mut wanted: BTreeSet<(usize, u32)> = BTreeSet::new();
        for filter in filters {
            demand.each(&mut |key| wanted.extend(opened.page(*filter, key).map(|page| (*filter, page))));
        }
        let missing: Vec<Range<u64>> = wanted
            .iter()
            .filter_map(|of| opened.place(*of))
            .filter(|place| opened.begin.get(to_range(place)).is_none())
            .collect();
        let mut read = if missing.is_empty() { Vec::new() } else { self.bytes(&missing).await.ok()? };
        read.reverse();
        let mut pages = Vec::with_capacity(wanted.len());
        for of in &wanted {
            let place = opened.place(*of)?;
            let page = match opened.begin.get(to_range(&place)) {
                Some(page) => page.to_vec(),
                None => read.pop()?,
            };
            pages.push(opened.whole(*of, page)?);
        }
        let wanted: Vec<(usize, u32)> = wanted.into_iter().collect();
        let may_be = |filter: usize, key: Key| {
            opened.may_be(filter, key, |page| {
                let at = wanted.binary_search(&(filter, page)).ok()?;
                pages.get(at).map(Vec::as_slice)
            })
        };
        Some(filters.iter().map(|filter| demand.can_be_met(&|key| may_be(*filter, key))).collect())
    }

    async fn bytes(&mut self, places: &[Range<u64>]) -> Result<Vec<Vec<u8>>, Error> {
        let read = self.store.get_ranges(&self.path, places).await?;
        self.read += read.iter().map(|bytes| bytes.len() as u64).sum::<u64>();
        Ok(read.iter().map(|bytes| bytes.to_vec()).collect())
    }
}

fn to_range(place: &Range<u64>) -> Range<usize> {
    place.start as usize..place.end as usize
}

/// An index whose head is read, and is of the file.
struct Opened {
    head: Head,
    hash: blake3::Hash,
    places: Vec<u64>,
    /// What was read with it.
    begin: Vec<u8>,
}

impl Opened {
    fn new(head: Head, hash: blake3::Hash, begin: Vec<u8>, file: &LakeFile) -> Option<Self> {
        let places = head.places();
        let is_of = head.bytes == file.bytes && head.events == file.events && head.filters.len() > 1;
        let ends = places.last() == Some(&file.index_bytes);
        (is_of && ends).then_some(Self { head, hash, places, begin })
    }

    /// The page that says whether a key may be there; none where that is known without one.
    fn page(&self, filter: usize, key: Key) -> Option<u32> {
        let held = self.head.held(key.column)?;
        let shape = (*self.head.filters.get(filter)?)?;
        if held == key.held { shape.page_of(key.key) } else { None }
    }

    /// Where a page is, with its hash.
    fn place(&self, (filter, page): (usize, u32)) -> Option<Range<u64>> {
        let shape = (*self.head.filters.get(filter)?)?;
        let begin = self.places.get(filter)?;
        let page = shape.page(page);
        Some(begin + page.start..begin + page.end)
    }

    /// The cells of a page, if it is as it was written.
    fn whole(&self, (filter, page): (usize, u32), mut bytes: Vec<u8>) -> Option<Vec<u8>> {
        let hash = bytes.split_off(bytes.len().checked_sub(HASH)?);
        (page_hash(&self.hash, filter, page, &bytes).as_bytes()[..] == hash[..]).then_some(bytes)
    }

    /// Whether a key may be in what a filter is of.
    fn may_be<'p>(&self, filter: usize, key: Key, page: impl Fn(u32) -> Option<&'p [u8]>) -> bool {
        // A column that the file does not have is null in it, and nothing that is demanded is true of null.
        let Some(held) = self.head.held(key.column) else { return false };
        let Some(shape) = self.head.filters.get(filter).copied().flatten() else { return true };
        if held != key.held {
            return true;
        }
        match shape.page_of(key.key) {
            // A filter of nothing.
            None => false,
            Some(number) => page(number).is_none_or(|cells| shape.may_hold(key.key, cells)),
        }
    }
}
