//! Test archives that would exhaust memory, time or disk (S-39): kiln refuses them promptly, within a memory limit, and
//! leaves nothing behind.

use std::fs;
use std::io::Write;
use std::time::Duration;

use crate::support::TestEnv;

/// The memory limit of a process, including thread stacks and static data.
const MIB: u64 = 320;
/// Long enough for a busy machine.
const SOON: Duration = Duration::from_secs(120);

fn header(kind: u8, name: &str, link: &str, size: u64) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    let block = header.as_mut_bytes();
    block[..name.len()].copy_from_slice(name.as_bytes());
    block[157..157 + link.len()].copy_from_slice(link.as_bytes());
    block[156] = kind;
    header.set_mode(0o755);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(7);
    header.set_size(size);
    header.set_cksum();
    header.as_bytes().to_vec()
}

/// A file in the old GNU sparse format that consists of one hole.
fn hole(size: u64) -> Vec<u8> {
    let mut block = header(b'S', "f", "", 0);
    // In base 256: the size does not fit into octal digits.
    block[483] = 0x80;
    block[487..495].copy_from_slice(&size.to_be_bytes());
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

fn member(kind: u8, name: &str, link: &str, content: &[u8]) -> Vec<u8> {
    let mut out = header(kind, name, link, content.len() as u64);
    out.extend_from_slice(content);
    out.resize(out.len().next_multiple_of(512), 0);
    out
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    out.write_all(bytes).expect("memory");
    out.finish().expect("memory")
}

/// A zstd frame of `first` and then `blocks` times 128 KiB of zeroes, four bytes each.
fn zstd_bomb(first: &[u8], blocks: u32) -> Vec<u8> {
    // A window of 128 KiB, no length, no checksum.
    let mut out = vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, 7 << 3];
    out.extend_from_slice(&((first.len() as u32) << 3).to_le_bytes()[..3]);
    out.extend_from_slice(first);
    for block in 0..blocks {
        let last = u32::from(block + 1 == blocks);
        out.extend_from_slice(&((128 << 10 << 3) | 0b10 | last).to_le_bytes()[..3]);
        out.push(0);
    }
    out
}

/// `first` and then `blocks` times 32 MiB of zeros, each in a separate stream.
fn concatenated(first: &[u8], blocks: usize, pack: fn(&[u8]) -> Vec<u8>) -> Vec<u8> {
    [pack(first), pack(&vec![0; 32 << 20]).repeat(blocks)].concat()
}

fn bzip2(bytes: &[u8]) -> Vec<u8> {
    let mut out = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::best());
    out.write_all(bytes).expect("memory");
    out.finish().expect("memory")
}

fn xz(bytes: &[u8]) -> Vec<u8> {
    let mut out = liblzma::write::XzEncoder::new(Vec::new(), 1);
    out.write_all(bytes).expect("memory");
    out.finish().expect("memory")
}

/// The beginning of an xz stream that requires a dictionary of nearly 4 GiB.
fn xz_window() -> Vec<u8> {
    let summed = |bytes: &[u8]| {
        let mut crc = flate2::Crc::new();
        crc.update(bytes);
        [bytes, &crc.sum().to_le_bytes()].concat()
    };
    let flags = summed(&[0, 0]);
    // Header length in words, no sizes, LZMA2 with one property: 40 means the largest dictionary.
    let block = summed(&[2, 0, 0x21, 1, 40, 0, 0, 0]);
    [&b"\xfd7zXZ\0"[..], &flags, &block, &[0]].concat()
}

/// Description, bytes, and a word of the error message.
fn bombs() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let huge = 1 << 33;
    let attribute = |key: &str, len: usize| {
        let body = format!("{key}={}\n", "v".repeat(len));
        let len = (body.len()..).find(|n| *n == body.len() + 1 + n.to_string().len()).expect("a length");
        format!("{len} {body}").into_bytes()
    };
    let chain = |kind: u8, n: usize| -> Vec<u8> {
        let first = member(b'0', "l0", "", b"x");
        let links = (1..n).map(|i| header(kind, &format!("l{i}"), &format!("l{}", i - 1), 0));
        std::iter::once(first).chain(links).flatten().collect()
    };
    let through = [chain(b'2', 50_000), header(b'5', "dir", "", 0), member(b'0', "l49999/x", "", b"x")].concat();
    vec![
        ("an extended header of 8 GiB", zstd_bomb(&header(b'x', "h", "", huge), 65_536), "limit"),
        ("a long name of 8 GiB", zstd_bomb(&header(b'L', "h", "", huge), 65_536), "limit"),
        ("extended headers without end", member(b'x', "h", "", &attribute("a", 500_000)).repeat(40), "limit"),
        ("global headers without end", member(b'g', "h", "", &attribute("a", 60_000)).repeat(40), "limit"),
        ("8 GiB of zeroes in 256 KiB", zstd_bomb(&header(b'0', "f", "", huge), 65_536), "times its size"),
        ("8 GiB of zeroes by bzip2", concatenated(&header(b'0', "f", "", huge), 256, bzip2), "times its size"),
        ("8 GiB of zeroes by xz", concatenated(&header(b'0', "f", "", huge), 256, xz), "times its size"),
        ("a long name of 8 GiB by xz", concatenated(&header(b'L', "h", "", huge), 1, xz), "limit"),
        ("a dictionary of 4 GiB", xz_window(), "emory"),
        ("padding without end", zstd_bomb(&header(b'5', "d", "", 0), 65_536), "times its size"),
        ("a window of 2 GiB", [&[0x28, 0xb5, 0x2f, 0xfd, 0x00, 21 << 3][..], &[1, 0, 0]].concat(), "bomb"),
        ("a path of 10,000 directories", member(b'L', "l", "", "d/".repeat(10_000).as_bytes()), "bomb"),
        (
            "2,000 directories deep",
            [member(b'L', "l", "", "d/".repeat(2000).as_bytes()), header(b'5', "d", "", 0)].concat(),
            "limit",
        ),
        ("a hole of 64 GiB", hole(1 << 36), "limit"),
        ("a file of 8 EiB", gzip(&[header(b'0', "f", "", 0o77777777777), vec![0; 4096]].concat()), "bomb"),
        ("through 50,000 symlinks", gzip(&through), "levels"),
    ]
}

fn blobs(env: &TestEnv) -> usize {
    fs::read_dir(env.store().join("blobs/sha256")).map_or(0, Iterator::count)
}

/// Tries every bomb with import, ADD and as a context.
fn try_bombs(env: &TestEnv) {
    env.kiln(&["images"]).ok();
    let context = env.context("-- Dockerfile --\nFROM scratch\nADD bomb /x/\n");
    for (what, bytes, why) in bombs() {
        eprintln!("{what}");
        // An import does not follow symlinks; only unpacking does.
        if why != "levels" {
            let done = env.kiln_within(MIB, &["import", "-", "bomb"]).stdin(&bytes).fails(1);
            assert!(done.took < SOON, "{what}\n{done}");
            done.says(if why == "bomb" { "import" } else { why });
            assert_eq!(blobs(env), 0, "{what}");
        }
        if why == "times its size" {
            // The ratio is checked only after 1 GiB of output: one try is slow enough.
            continue;
        }
        let path = context.join("bomb");
        fs::write(&path, &bytes).expect("write");
        let built = env.kiln_within(MIB, &["build", context.to_str().expect("UTF-8")]).output();
        // ADD copies a file that is not recognised as an archive, and data after the end of an archive is not read.
        let is_file = built.code == 0 && why != "levels" || built.code == 1;
        assert!(is_file && built.took < SOON, "{what}\n{built}");
        let tar = env.kiln_within(MIB, &["build", "-"]).stdin(&bytes).fails(1);
        assert!(tar.took < SOON, "{what}\n{tar}");
        env.assert_swept();
        env.kiln(&["prune", "-a", "-f"]).output();
    }
}

#[test]
fn archive_bombs_fail_within_memory_limit() {
    // S-39
    requires!(prlimit);
    try_bombs(&TestEnv::new());
}

/// Archive entries are small but take memory: many of them must fit into the memory limit.
#[test]
fn archive_with_many_entries_takes_little_memory() {
    requires!(prlimit);
    let env = TestEnv::new();
    let dirs: Vec<u8> = (0..40_000).flat_map(|i| header(b'5', &format!("d{i}"), "", 0)).collect();
    let links: Vec<u8> = (0..40_000).flat_map(|i| header(b'1', &format!("h{i}"), "f", 0)).collect();
    let tar = [dirs, member(b'0', "f", "", b"x"), links].concat();
    env.kiln_within(MIB, &["import", "-", "many"]).stdin(&gzip(&tar)).ok();
    let context = env.context("-- Dockerfile --\nFROM many\nCOPY --from=many /f /g\n");
    let done = env.kiln_within(MIB, &["build", context.to_str().expect("UTF-8")]).ok();
    assert!(done.took < SOON, "{done}");
}
