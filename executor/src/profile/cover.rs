//! The complement of a set of 32-bit values, as blocks that one masked comparison matches each.
//!
//! seccomp compares 64 bits of an argument of which the kernel uses 32, so "not equal" can be
//! fooled with the high half. A masked comparison looks at the low half only.

/// A block of values: those that agree with `value` in the bits of `mask`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Block {
    pub(crate) mask: u32,
    pub(crate) value: u32,
}

/// Disjoint blocks that together hold every 32-bit value except `excluded`.
pub(crate) fn everything_but(excluded: &[u32]) -> Vec<Block> {
    let mut blocks = Vec::new();
    split(Block { mask: 0, value: 0 }, excluded, &mut blocks);
    blocks
}

/// Halves a block until a half holds nothing excluded: a walk down the binary trie.
fn split(block: Block, excluded: &[u32], blocks: &mut Vec<Block>) {
    if !excluded.iter().any(|value| value & block.mask == block.value) {
        blocks.push(block);
    } else if block.mask != u32::MAX {
        let bit = 1 << (31 - block.mask.count_ones());
        let mask = block.mask | bit;
        split(Block { mask, value: block.value }, excluded, blocks);
        split(Block { mask, value: block.value | bit }, excluded, blocks);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(blocks: &[Block], value: u32) -> usize {
        blocks.iter().filter(|block| value & block.mask == block.value).count()
    }

    /// Numbers without a pattern, the same in every run (Knuth's multiplicative step).
    fn scattered(count: u32) -> impl Iterator<Item = u32> {
        (1..=count).map(|n| n.wrapping_mul(2_654_435_761).rotate_left(n % 32))
    }

    #[test]
    fn excluded_values_match_nothing_and_all_others_exactly_one_block() {
        for size in [0, 1, 2, 3, 17] {
            let excluded: Vec<u32> = scattered(size).chain([0x5412, 0, u32::MAX]).collect();
            let blocks = everything_but(&excluded);
            for value in &excluded {
                assert_eq!(matches(&blocks, *value), 0, "{value:#x}");
                for bit in 0..32 {
                    let neighbour = value ^ (1 << bit);
                    let expected = usize::from(!excluded.contains(&neighbour));
                    assert_eq!(matches(&blocks, neighbour), expected, "{neighbour:#x}");
                }
            }
            for value in scattered(20_000).filter(|value| !excluded.contains(value)) {
                assert_eq!(matches(&blocks, value), 1, "{value:#x}");
            }
            let total: u64 = blocks.iter().map(|b| 1_u64 << (32 - b.mask.count_ones())).sum();
            let distinct: std::collections::HashSet<_> = excluded.iter().collect();
            assert_eq!(total, (1 << 32) - distinct.len() as u64);
        }
    }

    #[test]
    fn nothing_excluded_is_one_block() {
        assert_eq!(everything_but(&[]), [Block { mask: 0, value: 0 }]);
    }
}
