//! Property tests: random archives against `oracle`. `fuzz/` does the same with a coverage-guided fuzzer.

use proptest::prelude::*;

use super::{member, oracle};

/// Names from a small set, so that members collide: through links, by replacement and by deletion.
fn name() -> impl Strategy<Value = String> {
    let part =
        prop::sample::select(vec!["a", "b", "c", "a", "b", "c", "a", "b", ".wh.a", ".wh.b", "..", ".wh..wh..opq"]);
    (any::<bool>(), prop::collection::vec(part, 1..5))
        .prop_map(|(absolute, parts)| format!("{}{}", if absolute { "/" } else { "" }, parts.join("/")))
}

fn members() -> impl Strategy<Value = Vec<u8>> {
    let kind = prop::sample::select(b"000555512266".to_vec());
    let owner = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let one = (kind, name(), name(), prop::collection::vec(any::<u8>(), 0..40));
    let one = one.prop_map(move |(kind, name, link, content)| {
        let content = if kind == b'0' { &content[..] } else { &[] };
        member(owner, kind, &name, &link, content)
    });
    prop::collection::vec(one, 1..9).prop_map(|all| all.concat())
}

/// A well-formed archive with a few bytes changed.
fn damaged() -> impl Strategy<Value = Vec<u8>> {
    (members(), prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6), any::<bool>()).prop_map(
        |(mut tar, changes, fix)| {
            for (at, byte) in changes {
                let at = at.index(tar.len());
                tar[at] = byte;
            }
            // Otherwise the header checksums reject nearly all changes.
            if fix {
                for block in tar.chunks_exact_mut(512).filter(|b| b[257..262] == *b"ustar") {
                    block[148..156].fill(b' ');
                    let sum: u32 = block.iter().map(|&b| u32::from(b)).sum();
                    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
                }
            }
            tar
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_archives_unpack_as_tree_says(mut tar in members()) {
        tar.resize(tar.len() + 1024, 0);
        oracle::unpacks_as_the_tree_says(&tar);
    }

    #[test]
    fn damaged_archives_fail_or_unpack_consistently(tar in damaged()) {
        oracle::unpacks_as_the_tree_says(&tar);
        oracle::passes_through(&tar);
    }

    #[test]
    fn random_bytes_are_refused(noise in prop::collection::vec(any::<u8>(), 0..3000)) {
        oracle::unpacks_as_the_tree_says(&noise);
        oracle::passes_through(&noise);
    }
}
