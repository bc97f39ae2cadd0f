//! The Merkle tree of RFC 6962 over the records' hashes, kept as its right edge only.
//!
//! A leaf is the SHA-256 of a zero byte and a record's hash; a node that of a one byte and its two children. The *compact range*
//! of a log of so many records is the list of the roots of its perfect subtrees, largest first: one per bit that is set in
//! the size. It is all that is needed to go on, and to say the root. A range may also begin behind some records: its roots are then what
//! stands for the records that it covers where they are not shown.

use sha2::{Digest, Sha256};

use super::Hash;

/// More levels than a log of `u64` records can have.
const LEVELS: usize = 64;
const HASH_BYTES: usize = 32;

/// The right edge of the tree over the first records of a log, or what is in the tree of records behind some others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompactRange {
    /// How many records stand before those that it covers.
    begin: u64,
    size: u64,
    /// Roots of perfect subtrees, in the order of their records; from the first record on, that is largest first.
    roots: Vec<Hash>,
}

impl Default for CompactRange {
    fn default() -> Self {
        Self {
            begin: 0,
            size: 0,
            roots: Vec::with_capacity(LEVELS),
        }
    }
}

impl CompactRange {
    /// A range that begins behind the first `begin` records, and covers none yet.
    pub fn behind(begin: u64) -> Self {
        Self {
            begin,
            size: begin,
            ..Self::default()
        }
    }

    /// How many records stand before those that it covers.
    pub fn begin(&self) -> u64 {
        self.begin
    }

    /// The number of the last record that it covers: how many these are, where it begins with the first.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The roots of the perfect subtrees over the records that it covers, in their order.
    pub fn roots(&self) -> &[Hash] {
        &self.roots
    }

    /// Takes the hash of the next record in.
    pub fn append(&mut self, record: &Hash) {
        self.push(leaf(record), 0);
    }

    /// Takes in what stands for the next records, up to number `through`: the roots of their perfect subtrees, as a range
    /// that begins here has them. `None` where there are more or fewer.
    pub fn extend(mut self, through: u64, roots: &[Hash]) -> Option<Self> {
        let mut roots = roots.iter();
        while self.size < through {
            let level = (through - self.size).ilog2();
            self.push(*roots.next()?, level.min(self.size.trailing_zeros()));
        }
        roots.next().is_none().then_some(self)
    }

    /// Takes the root of a perfect subtree over the next `1 << level` records in.
    fn push(&mut self, mut root: Hash, mut level: u32) {
        let size = self.size + (1 << level);
        // Each bit that is set at the low end is a subtree as large as what has come together so far.
        let mut place = self.size >> level;
        while place & 1 == 1 && (place - 1) << level >= self.begin {
            let Some(left) = self.roots.pop() else { break };
            root = node(&left, &root);
            place >>= 1;
            level += 1;
        }
        self.roots.push(root);
        self.size = size;
    }

    /// The root of the tree over all records from the first on; of none, the SHA-256 of nothing.
    pub fn root(&self) -> Hash {
        let mut from_right = self.roots.iter().rev();
        let Some(last) = from_right.next() else {
            return Sha256::digest([]).into();
        };
        from_right.fold(*last, |right, left| node(left, &right))
    }

    /// The subtree roots one after another, as they are stored.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.roots.concat()
    }

    /// Reads what [`CompactRange::to_bytes`] gave for a log of `size` records; `None` where it cannot be that.
    pub fn from_bytes(size: u64, bytes: &[u8]) -> Option<Self> {
        let (roots, rest) = bytes.as_chunks::<HASH_BYTES>();
        let wanted = usize::try_from(size.count_ones()).ok()?;
        (rest.is_empty() && roots.len() == wanted).then(|| {
            let mut range = Self {
                size,
                ..Self::default()
            };
            range.roots.extend_from_slice(roots);
            range
        })
    }
}

fn leaf(record: &[u8]) -> Hash {
    let mut hasher = Sha256::new();
    hasher.update([0]);
    hasher.update(record);
    hasher.finalize().into()
}

fn node(left: &Hash, right: &Hash) -> Hash {
    let mut hasher = Sha256::new();
    hasher.update([1]);
    hasher.update(left);
    hasher.update(right);
    hasher.finalize().into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The definition of RFC 6962, section 2.1, as it stands there.
    fn defined(leaves: &[Hash]) -> Hash {
        match leaves.len() {
            0 => Sha256::digest([]).into(),
            1 => leaves[0],
            n => {
                let k = n.next_power_of_two() / 2;
                node(&defined(&leaves[..k]), &defined(&leaves[k..]))
            }
        }
    }

    fn hex_hash(text: &str) -> Hash {
        hex::decode(text).unwrap().try_into().unwrap()
    }

    /// The inputs and roots that the reference implementation of Certificate Transparency publishes.
    #[test]
    fn roots_are_those_of_the_published_vectors() {
        let inputs = [
            "",
            "00",
            "10",
            "2021",
            "3031",
            "40414243",
            "5051525354555657",
            "606162636465666768696a6b6c6d6e6f",
        ];
        let roots = [
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
            "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
            "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
            "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
            "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
            "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
        ];
        let mut leaves = Vec::new();
        for (input, root) in inputs.iter().zip(roots) {
            leaves.push(leaf(&hex::decode(input).unwrap()));
            assert_eq!(defined(&leaves), hex_hash(root), "{} leaves", leaves.len());
        }
        assert_eq!(
            CompactRange::default().root(),
            hex_hash("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
        );
    }

    proptest! {
        #![proptest_config(crate::property::seeded())]

        #[test]
        fn the_range_says_the_root_of_the_definition(records in prop::collection::vec(any::<Hash>(), 0..200)) {
            let mut range = CompactRange::default();
            let mut leaves = Vec::new();
            for record in &records {
                range.append(record);
                leaves.push(leaf(record));
                prop_assert_eq!(range.root(), defined(&leaves));
            }
            let read = CompactRange::from_bytes(range.size(), &range.to_bytes());
            prop_assert_eq!(read, Some(range));
        }
    }

    fn range_over(begin: usize, records: &[Hash]) -> CompactRange {
        let mut range = CompactRange::behind(begin.try_into().unwrap());
        for record in records {
            range.append(record);
        }
        range
    }

    #[test]
    fn what_stands_for_left_out_records_gives_the_same_tree_and_nothing_else_does() {
        let records: Vec<Hash> = (0..40).map(|n| [n; 32]).collect();
        let whole = range_over(0, &records);
        for begin in 0..=records.len() {
            for end in begin..=records.len() {
                let omitted = range_over(begin, &records[begin..end]);
                let tree = range_over(0, &records[..begin]);
                let through = omitted.size();
                let tree_after = tree.clone().extend(through, omitted.roots()).unwrap();
                assert_eq!(tree_after, range_over(0, &records[..end]));
                let rest = range_over(end, &records[end..]);
                assert_eq!(
                    tree_after.extend(whole.size(), rest.roots()).unwrap(),
                    whole
                );
                let one_more = [omitted.roots(), &[[0; 32]]].concat();
                assert_eq!(tree.clone().extend(through, &one_more), None);
                if let Some((_, fewer)) = omitted.roots().split_last() {
                    assert_eq!(tree.clone().extend(through, fewer), None);
                    assert!(omitted.roots().len() <= 2 * 6);
                }
            }
        }
    }

    #[test]
    fn what_is_no_range_of_that_size_is_refused() {
        let mut range = CompactRange::default();
        for n in 0..5 {
            range.append(&[n; 32]);
        }
        let bytes = range.to_bytes();
        assert_eq!(bytes.len(), 64);
        assert_eq!(CompactRange::from_bytes(4, &bytes), None);
        assert_eq!(CompactRange::from_bytes(5, &bytes[..63]), None);
        assert_eq!(
            CompactRange::from_bytes(5, &[&bytes[..], &[7]].concat()),
            None
        );
        assert!(CompactRange::from_bytes(6, &bytes).is_some_and(|other| other != range));
    }
}
