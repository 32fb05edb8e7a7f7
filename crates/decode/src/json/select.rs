//! Which members of a record are wanted: paths compiled into a tree of keys.
//!
//! In: for each target its paths in order of preference, written with dots. Out: [`Selection`].
//! A path `a.b` is the member named `a.b`, else `b` inside object `a`: at every level the longest name is
//! preferred. The preference is kept as a rank, so that one pass over the record decides.

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use smallvec::SmallVec;

/// A path with more dots than this is looked for only in one piece or cut at every dot.
const MAX_FREE_DOTS: usize = 6;

/// A target wants the member, unless a member of lower rank is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Take {
    /// Which target.
    pub target: u32,
    /// Its preference; the lowest wins, and the last of equal ones.
    pub rank: u32,
}

/// What to do with one member of an object.
#[derive(Debug, Default)]
pub struct Wanted {
    /// Who wants its value.
    pub takes: SmallVec<[Take; 1]>,
    /// The node of the object it holds, if something inside is wanted.
    pub child: Option<u32>,
}

/// A tree of wanted keys.
#[derive(Debug)]
pub struct Selection {
    nodes: Vec<HashMap<Box<str>, u32, FixedState>>,
    entries: Vec<Wanted>,
    targets: usize,
}

impl Selection {
    /// The root object.
    pub const ROOT: u32 = 0;

    /// Compiles targets; each is a list of paths in order of preference.
    #[must_use]
    pub fn new<'a, P: IntoIterator<Item = &'a str>>(targets: impl IntoIterator<Item = P>) -> Self {
        let mut this = Self { nodes: vec![HashMap::default()], entries: Vec::new(), targets: 0 };
        for paths in targets {
            let target = this.targets as u32;
            this.targets += 1;
            let ways = paths.into_iter().flat_map(segmentations);
            for (rank, segments) in ways.enumerate() {
                this.add(&segments, Take { target, rank: rank as u32 });
            }
        }
        this
    }

    /// How many targets there are.
    #[must_use]
    pub fn targets(&self) -> usize {
        self.targets
    }

    /// How many objects something is wanted of.
    #[must_use]
    pub fn nodes(&self) -> usize {
        self.nodes.len()
    }

    /// Where it is written what to do with the member `key` of the object at `node`.
    #[must_use]
    #[inline]
    pub fn entry(&self, node: u32, key: &str) -> Option<u32> {
        self.nodes.get(node as usize)?.get(key).copied()
    }

    /// What is written there.
    #[must_use]
    #[inline]
    pub fn at(&self, entry: u32) -> Option<&Wanted> {
        self.entries.get(entry as usize)
    }

    fn add(&mut self, segments: &[&str], take: Take) {
        let Some((last, inner)) = segments.split_last() else { return };
        let mut node = Self::ROOT as usize;
        for segment in inner {
            let fresh = self.nodes.len() as u32;
            let child = *self.entry_mut(node, segment).child.get_or_insert(fresh);
            if child == fresh {
                self.nodes.push(HashMap::default());
            }
            node = child as usize;
        }
        let takes = &mut self.entry_mut(node, last).takes;
        if !takes.iter().any(|t| t.target == take.target) {
            takes.push(take);
        }
    }

    fn entry_mut(&mut self, node: usize, key: &str) -> &mut Wanted {
        let fresh = self.entries.len();
        let at = *self.nodes[node].entry(key.into()).or_insert(fresh as u32) as usize;
        if at == fresh {
            self.entries.push(Wanted::default());
        }
        &mut self.entries[at]
    }
}

/// All ways to cut a path at its dots, the longest first name first.
fn segmentations(path: &str) -> Vec<Vec<&str>> {
    let dots: Vec<usize> = path.match_indices('.').map(|(at, _)| at).collect();
    if dots.len() > MAX_FREE_DOTS {
        return vec![vec![path], path.split('.').collect()];
    }
    let mut ways = vec![vec![path]];
    for &at in dots.iter().rev() {
        for rest in segmentations(&path[at + 1..]) {
            let mut way = vec![&path[..at]];
            way.extend(rest);
            ways.push(way);
        }
    }
    ways
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_longest_name_is_preferred_at_every_level() {
        let ways: Vec<String> = segmentations("a.b.c").iter().map(|way| way.join(" > ")).collect();
        assert_eq!(ways, ["a.b.c", "a.b > c", "a > b.c", "a > b > c"]);
    }

    #[test]
    fn a_path_of_many_dots_does_not_explode() {
        let path = "a.".repeat(200) + "z";
        assert_eq!(segmentations(&path).len(), 2);
    }
}
