//! Test [`oracle`] on mutated cases, with bytes of one inserted into another.

use super::{cases, oracle};

/// A small generator with a fixed seed, so that failures are reproducible.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        // splitmix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % limit.max(1) as u64).expect("below the limit")
    }

    /// A part of `text`.
    fn part<'t>(&mut self, text: &'t [u8], most: usize) -> &'t [u8] {
        let start = self.below(text.len());
        let length = self.below(most.min(text.len() - start) + 1);
        &text[start..start + length]
    }
}

fn mutate(random: &mut Random, texts: &[Vec<u8>]) -> Vec<u8> {
    const SPICE: &[&[u8]] = &[
        b"\\\n", b"<<E\n", b"\nE\n", b"\"", b"'", b"${", b"}", b"[\"", b"--", b"=", b"#", b"\r\n", b"\t", b"\xff", b"`",
    ];
    let mut text = texts[random.below(texts.len())].clone();
    for _ in 0..=random.below(6) {
        let at = random.below(text.len() + 1);
        let end = at + random.below(12.min(text.len() - at) + 1);
        let other = &texts[random.below(texts.len())];
        let new = match random.below(4) {
            0 => Vec::new(),
            1 => random.part(other, 40).to_vec(),
            2 => vec![u8::try_from(random.below(256)).expect("a byte")],
            _ => SPICE[random.below(SPICE.len())].to_vec(),
        };
        text.splice(at..end, new);
    }
    text
}

#[test]
fn mutated_cases_satisfy_oracle() {
    let texts: Vec<Vec<u8>> =
        cases("dockerfile").into_iter().chain(cases("dockerfile-bad")).map(|case| case.bytes()).collect();
    let texts: Vec<Vec<u8>> = texts.into_iter().filter(|text| !text.is_empty() && text.len() < 4096).collect();
    let rounds = std::env::var("KILN_MUTATIONS").ok().and_then(|n| n.parse().ok()).unwrap_or(4_000);
    let mut random = Random(1);
    for _ in 0..rounds {
        let text = mutate(&mut random, &texts);
        let shown = String::from_utf8_lossy(&text).into_owned();
        let broken = std::panic::catch_unwind(|| {
            oracle::parse(&text);
            oracle::expand(&text);
        });
        assert!(broken.is_ok(), "{shown:?}");
    }
}
