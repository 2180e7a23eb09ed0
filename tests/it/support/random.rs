//! Random inputs from seeds: a fixed set in the suite, more with `scripts/soak`.

use std::ops::Range;

/// The seeds that a generating test tries: the first `fixed` ones in the suite, else those of `KILN_SOAK=FIRST-COUNT`.
pub fn seeds(fixed: u64) -> Range<u64> {
    let Ok(asked) = std::env::var("KILN_SOAK") else { return 0..fixed };
    let (first, count) = asked.split_once('-').expect("KILN_SOAK=FIRST-COUNT");
    let first: u64 = first.parse().expect("a number");
    first..first + count.parse::<u64>().expect("a number")
}

/// Whether `scripts/soak` runs the test, which may take its time.
pub fn soaking() -> bool {
    std::env::var_os("KILN_SOAK").is_some()
}

/// A pseudo-random number generator (SplitMix64).
pub struct Random(u64);

impl Random {
    /// A generator that starts from `seed`.
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % end as u64) as usize
    }

    /// One of `all`.
    pub fn of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }
}
