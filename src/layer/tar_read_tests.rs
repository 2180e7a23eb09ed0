//! What the reader makes of archives, good and hostile (S-37, S-39…S-43).

use std::io::{Read, Write};
use std::process::{Command, Stdio};

use super::entry::{Entry, EntryKind};
use super::tar_write::padding;
use super::*;

/// A header with every field as given; the sum is right.
#[derive(Clone)]
struct Raw {
    block: [u8; 512],
    body: Vec<u8>,
}

fn raw(kind: u8, name: &[u8]) -> Raw {
    let mut block = [0; 512];
    block[..name.len()].copy_from_slice(name);
    block[100..108].copy_from_slice(b"0000644\0");
    block[156] = kind;
    block[257..265].copy_from_slice(b"ustar\x0000");
    let made = Raw { block, body: Vec::new() };
    made.number(108, 8, 0).number(116, 8, 0).number(124, 12, 0).number(136, 12, 5)
}

impl Raw {
    fn number(self, at: usize, width: usize, value: u64) -> Self {
        let text = format!("{value:0digits$o}\0", digits = width - 1);
        self.bytes(at, text.as_bytes())
    }

    fn bytes(mut self, at: usize, bytes: &[u8]) -> Self {
        self.block[at..at + bytes.len()].copy_from_slice(bytes);
        self
    }

    /// Content, with the size that goes with it.
    fn with(mut self, body: &[u8]) -> Self {
        self.body = body.to_vec();
        self.number(124, 12, body.len() as u64)
    }

    /// The header states another size than the content has.
    fn claiming(self, size: u64) -> Self {
        self.number(124, 12, size)
    }

    fn to_bytes(&self) -> Vec<u8> {
        let mut block = self.block;
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|&b| u32::from(b)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        let mut out = block.to_vec();
        out.extend_from_slice(&self.body);
        out.resize(out.len() + padding(self.body.len() as u64), 0);
        out
    }
}

fn pax(kind: u8, records: &[(&str, &[u8])]) -> Raw {
    let mut body = Vec::new();
    for (key, value) in records {
        let rest = key.len() + value.len() + 3;
        let mut len = rest + rest.to_string().len();
        while len != rest + len.to_string().len() {
            len = rest + len.to_string().len();
        }
        body.extend_from_slice(format!("{len} {key}=").as_bytes());
        body.extend_from_slice(value);
        body.push(b'\n');
    }
    raw(kind, b"pax").with(&body)
}

fn tar(parts: &[Raw]) -> Vec<u8> {
    let mut out: Vec<u8> = parts.iter().flat_map(Raw::to_bytes).collect();
    out.resize(out.len() + 1024, 0);
    out
}

fn read(tar: &[u8], limits: &Limits) -> Result<Vec<(Entry, Vec<u8>)>, Error> {
    let mut reader = TarReader::new(tar, Dialect::Layer, limits.clone());
    let mut all = Vec::new();
    while let Some(entry) = reader.next_entry()? {
        let mut content = Vec::new();
        reader.read_to_end(&mut content).map_err(Error::Stream)?;
        all.push((entry, content));
    }
    Ok(all)
}

fn one(parts: &[Raw]) -> (Entry, Vec<u8>) {
    read(&tar(parts), &Limits::default()).unwrap().remove(0)
}

#[test]
fn reader_accepts_every_tar_dialect() {
    // S-41, S-42, S-43
    let prefixed = raw(b'0', b"name").bytes(345, b"some/dir");
    assert_eq!(one(&[prefixed]).0.path.to_string(), "/some/dir/name");
    let v7 = raw(0, b"dir/").bytes(257, &[0; 8]);
    assert_eq!(one(&[v7]).0.kind, EntryKind::Dir);
    let big = raw(b'0', b"f").bytes(108, &[0x80, 0, 0, 0, 0xff, 0xff, 0xff, 0xfe]).bytes(136, &[0xff; 12]);
    let big = one(&[big]).0.meta;
    assert_eq!((big.uid, big.mtime.secs), (u32::MAX - 1, -1));
    let long = [raw(b'L', b"././@LongLink").with(&[&[b'x'; 300][..], b"\0"].concat()), raw(b'0', b"short")];
    assert_eq!(one(&long).0.path.as_bytes(), [b'x'; 300]);
    let link = [raw(b'K', b"././@LongLink").with(&[b't'; 200]), raw(b'2', b"l").bytes(157, b"short")];
    assert_eq!(one(&link).0.kind, EntryKind::Symlink { target: vec![b't'; 200] });
    let local = [
        pax(b'g', &[("uid", b"5"), ("comment", b"hi")]),
        pax(
            b'x',
            &[
                ("path", b"p\xff/q"),
                ("gid", b"4294967295"),
                ("mtime", b"-1.5"),
                ("SCHILY.xattr.user.a", b"1\n2"),
                ("SCHILY.xattr.user.overlay.opaque", b"y"),
                ("SCHILY.xattr.trusted.overlay.opaque", b"y"),
                ("SCHILY.xattr.security.selinux", b"y"),
            ],
        ),
        raw(b'0', b"n"),
        raw(b'0', b"next"),
    ];
    let all = read(&tar(&local), &Limits::default()).unwrap();
    let (first, next) = (&all[0].0, &all[1].0);
    assert_eq!(first.path.as_bytes(), b"p\xff/q");
    assert_eq!((first.meta.uid, first.meta.gid), (5, u32::MAX));
    assert_eq!((first.meta.mtime.secs, first.meta.mtime.nanos), (-2, 500_000_000));
    // S-37: nothing that steers overlayfs or belongs to another host.
    assert_eq!(first.meta.xattrs.keys().collect::<Vec<_>>(), [b"user.a"]);
    assert_eq!((next.path.to_string(), next.meta.uid, next.meta.gid), ("/next".to_owned(), 5, 0));
}

#[test]
fn reader_accepts_all_formats_of_gnu_tar() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let long = "n".repeat(90) + "/" + &"m".repeat(90);
    std::fs::create_dir(at(&long[..90])).unwrap();
    let mut sparse = std::fs::File::create(at("sparse")).unwrap();
    sparse.write_all(b"start").unwrap();
    sparse.set_len(3 << 20).unwrap();
    for i in 0..40u64 {
        use std::os::unix::fs::FileExt;
        sparse.write_all_at(b"island", (2 << 16) * i + 70_000).unwrap();
    }
    std::fs::File::create(at(&long)).and_then(|mut f| f.write_all(b"long")).unwrap();
    std::os::unix::fs::symlink("t".repeat(150), at("link")).unwrap();
    std::fs::hard_link(at("sparse"), at("sparse2")).unwrap();
    let want = std::fs::File::open(at("sparse")).map(|mut f| {
        let mut all = Vec::new();
        f.read_to_end(&mut all).map(|_| all)
    });
    let want = want.unwrap().unwrap();
    for format in [
        &["--format=gnu"][..],
        &["--format=gnu", "-S"],
        &["--format=oldgnu", "-S"],
        &["--format=posix"],
        &["--format=posix", "-S", "--sparse-version=0.0"],
        &["--format=posix", "-S", "--sparse-version=0.1"],
        &["--format=posix", "-S", "--sparse-version=1.0"],
        &["--format=ustar", "--exclude=link"],
    ] {
        let output = Command::new("tar")
            .args(format)
            .args(["--sort=name", "-cC"])
            .arg(dir.path())
            .arg(".")
            .stderr(Stdio::inherit())
            .output()
            .unwrap();
        assert!(output.status.success());
        let all = read(&output.stdout, &Limits::default()).unwrap_or_else(|e| panic!("{format:?}: {e}"));
        let find = |name: &str| all.iter().find(|(e, _)| e.path.as_bytes() == name.as_bytes()).unwrap();
        assert!(find("sparse").1 == want, "{format:?}");
        assert_eq!(find(&long).1, b"long", "{format:?}");
        assert!(matches!(find("sparse2").0.kind, EntryKind::Hardlink { .. }), "{format:?}");
        if format.len() == 1 {
            assert_eq!(find("link").0.kind, EntryKind::Symlink { target: vec![b't'; 150] }, "{format:?}");
        }
    }
}

/// Reads every archive and expects an error that contains the given text.
fn assert_refused(cases: Vec<(&str, Vec<u8>, &str)>) {
    for (what, bytes, want) in cases {
        let got = read(&bytes, &Limits::default());
        let error = got.err().unwrap_or_else(|| panic!("{what}: no error"));
        let text = format!("{error}").replace("failed to fill whole buffer", "unexpected end of file");
        assert!(text.contains(want), "{what}: {text}");
    }
}

#[test]
fn damaged_archives_are_refused() {
    let with_sum = |mut bytes: Vec<u8>| {
        bytes[0] ^= 1;
        bytes
    };
    let file = raw(b'0', b"f").with(&[b'x'; 700]);
    let alone = [file.clone()];
    assert_refused(vec![
        ("S-40 not a tar", b"PK\x03\x04".repeat(300), "not a tar archive"),
        ("S-40 checksum", with_sum(tar(&alone)), "not a tar archive"),
        ("text", b"hello".to_vec(), "not a tar archive"),
        ("long text", b"hello ".repeat(200), "not a tar archive"),
        ("S-40 later checksum", [file.to_bytes(), with_sum(tar(&alone))].concat(), "checksum is wrong"),
        ("S-40 cut in content", tar(&alone)[..900].to_vec(), "end of file"),
        ("S-40 cut in padding", file.to_bytes()[..512 + 701].to_vec(), "end of file"),
        ("S-40 cut in the first header", tar(&alone)[..100].to_vec(), "not a tar archive"),
        ("S-40 cut in header", [file.to_bytes(), tar(&alone)[..100].to_vec()].concat(), "end of file"),
        ("S-40 extended header only", tar(&[pax(b'x', &[("path", b"a")])]), "ends after an extended header"),
    ]);
}

#[test]
fn sizes_beyond_the_limits_are_refused() {
    let file = raw(b'0', b"f").with(&[b'x'; 700]);
    assert_refused(vec![
        ("S-39 size larger than the rest", tar(&[raw(b'0', b"f").claiming(1 << 30)]), "end of file"),
        (
            "S-39 size of 8 EiB",
            tar(&[raw(b'0', b"f").bytes(124, &[0x80, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff])]),
            "limit of",
        ),
        ("S-39 negative size", tar(&[raw(b'0', b"f").bytes(124, &[0xff; 12])]), "negative size"),
        ("S-39 size beyond 64 bits", tar(&[raw(b'0', b"f").bytes(124, &[0xbf; 12])]), "not a number"),
        ("S-39 size that is no number", tar(&[raw(b'0', b"f").bytes(124, b"12z")]), "size is not a number"),
        (
            "S-39 pax size",
            tar(&[pax(b'x', &[("size", b"99999999999999999999")]), file.clone()]),
            "size in an extended header",
        ),
        ("S-39 pax size too large", tar(&[pax(b'x', &[("size", b"9999999999")]), file.clone()]), "end of file"),
        ("S-39 header of 1 GiB", tar(&[raw(b'x', b"p").claiming(1 << 30)]), "bytes of extended headers"),
        ("S-39 long name of 1 GiB", tar(&[raw(b'L', b"p").claiming(1 << 30)]), "bytes of extended headers"),
        ("S-39 64 KiB name", tar(&[pax(b'x', &[("path", &[b'x'; 65536])]), file.clone()]), "bytes in a path"),
        ("S-39 64 KiB target", tar(&[pax(b'x', &[("linkpath", &[b'x'; 65536])]), raw(b'2', b"l")]), "bytes in a path"),
        ("S-39 depth", tar(&[pax(b'x', &[("path", &b"d/".repeat(2000))]), file.clone()]), "directories in a path"),
        (
            "S-39 headers without end",
            tar(&vec![pax(b'x', &[("comment", &[b'x'; 60_000])]); 20]),
            "bytes of extended headers",
        ),
        (
            "S-39 globals without end",
            {
                let globals: Vec<Raw> = (0..2000u32).map(|i| pax(b'g', &[(&format!("k{i}"), &[b'x'; 600])])).collect();
                tar(&globals)
            },
            "bytes of global headers",
        ),
    ]);
}

#[test]
fn invalid_fields_are_refused() {
    let file = raw(b'0', b"f").with(&[b'x'; 700]);
    assert_refused(vec![
        ("S-42 uid", tar(&[raw(b'0', b"f").bytes(108, &[0x80, 0, 0, 1, 0, 0, 0, 0])]), "uid 4294967296 is too large"),
        ("S-42 pax uid", tar(&[pax(b'x', &[("uid", b"-1")]), file.clone()]), "uid in an extended header"),
        ("S-43 mtime", tar(&[pax(b'x', &[("mtime", b"soon")]), file.clone()]), "mtime in an extended header"),
        ("symlink to nothing", tar(&[raw(b'2', b"l")]), "without a target"),
        ("NUL in a path", tar(&[pax(b'x', &[("path", b"a\0b")]), file.clone()]), "NUL"),
        ("device number", tar(&[raw(b'3', b"d").bytes(329, b"7777777z")]), "device number"),
        ("entry type", tar(&[raw(b'Q', b"f")]), "entry type 'Q'"),
        ("multi volume", tar(&[raw(b'M', b"f")]), "multi-volume"),
    ]);
}

#[test]
fn invalid_sparse_maps_are_refused() {
    let file = raw(b'0', b"f").with(&[b'x'; 700]);
    let sparse = |map: &[u8], size: &[u8]| {
        tar(&[pax(b'x', &[("GNU.sparse.map", map), ("GNU.sparse.size", size)]), raw(b'0', b"f").with(b"12345678")])
    };
    let sparse_1 = |size: &[u8], body: &[u8]| {
        let records: &[(&str, &[u8])] =
            &[("GNU.sparse.major", b"1"), ("GNU.sparse.minor", b"0"), ("GNU.sparse.realsize", size)];
        tar(&[pax(b'x', records), raw(b'0', b"f").with(body)])
    };
    assert_refused(vec![
        ("S-41 sparse without size", tar(&[pax(b'x', &[("GNU.sparse.map", b"0,8")]), file.clone()]), "without a size"),
        ("S-41 sparse odd map", sparse(b"0,8,9", b"100"), "sparse map"),
        ("S-41 sparse backwards", sparse(b"8,4,0,4", b"100"), "out of order"),
        ("S-41 sparse overlapping", sparse(b"0,4,2,4", b"100"), "out of order"),
        ("S-41 sparse outside", sparse(b"98,8", b"100"), "beyond the file"),
        ("S-41 sparse overflow", sparse(b"18446744073709551615,8", b"100"), "beyond the file"),
        ("S-41 sparse sum", sparse(b"0,4", b"100"), "does not match"),
        ("S-41 sparse huge", sparse(b"0,8", b"9000000000000000000"), "limit of"),
        ("S-41 sparse 1.0 map cut", sparse_1(b"100", &[b'1'; 512]), "sparse map"),
        ("S-41 sparse 1.0 no map", sparse_1(b"100", b""), "longer than the entry"),
        (
            "S-41 sparse 1.0 count",
            sparse_1(b"100", &[&b"99999999999\n"[..], &b"1\n".repeat(250)].concat()),
            "longer than the entry",
        ),
        (
            "S-41 sparse 9.9",
            tar(&[pax(b'x', &[("GNU.sparse.major", b"9"), ("GNU.sparse.minor", b"9")]), file.clone()]),
            "unknown version",
        ),
    ]);
}

#[test]
fn limits_hold_for_any_archive() {
    // S-39
    let file = raw(b'0', b"f").with(b"x");
    let few = Limits { entries: 3, ..Limits::default() };
    assert!(read(&tar(&vec![file.clone(); 3]), &few).is_ok());
    assert!(read(&tar(&vec![file.clone(); 4]), &few).unwrap_err().is_limit());
    let small = Limits { total_bytes: 1000, ..Limits::default() };
    assert!(read(&tar(&[file.clone().with(&[1; 600]), file.clone().with(&[1; 600])]), &small).unwrap_err().is_limit());
    // The map of an old sparse file goes on for as long as it says.
    let block = [&b"00000000001\0".repeat(42)[..], &[1; 8]].concat();
    let map = raw(b'S', b"f").bytes(482, &[1]).number(483, 12, 8).with(&block.repeat(100)).claiming(0);
    let short = Limits { header_bytes: 4096, ..Limits::default() };
    assert!(read(&tar(&[map]), &short).unwrap_err().is_limit());
    // A few bytes of archive imply a thousand directories each.
    let light = Limits { tree_bytes: 1 << 20, ..Limits::default() };
    let deep: Vec<Raw> = (0..50)
        .flat_map(|i| [pax(b'x', &[("path", format!("{i}/{}", "d/".repeat(1000)).as_bytes())]), file.clone()])
        .collect();
    let bytes = tar(&deep);
    let diff_id = crate::base::digest::DiffId(crate::base::digest::Sha256::of(&bytes));
    let error = read_tree_within(&bytes[..], diff_id, &light).unwrap_err();
    assert!(error.is_limit(), "{error}");
}

#[test]
fn empty_disk_image_takes_no_space() {
    use std::os::unix::fs::MetadataExt;
    let parts = [
        pax(b'x', &[("GNU.sparse.map", b"0,1,67108863,1"), ("GNU.sparse.size", b"67108864")]),
        raw(b'0', b"disk.img").with(b"ab"),
    ];
    let bytes = tar(&parts);
    let diff_id = crate::base::digest::DiffId(crate::base::digest::Sha256::of(&bytes));
    let dir = tempfile::tempdir().unwrap();
    unpack(&bytes[..], dir.path(), diff_id, Form::Plain).unwrap();
    let meta = dir.path().join("disk.img").metadata().unwrap();
    assert_eq!(meta.size(), 64 << 20);
    assert!(meta.blocks() < 2048, "{} blocks", meta.blocks());
}

#[test]
fn plain_dialect_accepts_whiteout_names() {
    let bytes = tar(&[raw(b'0', b"a/.wh.b"), raw(b'0', b".wh..wh..opq")]);
    let mut reader = TarReader::new(&bytes[..], Dialect::Plain, Limits::default());
    assert_eq!(reader.next_entry().unwrap().unwrap().path.to_string(), "/a/.wh.b");
    assert_eq!(reader.next_entry().unwrap().unwrap().path.to_string(), "/.wh..wh..opq");
    let kinds: Vec<EntryKind> = read(&bytes, &Limits::default()).unwrap().into_iter().map(|(e, _)| e.kind).collect();
    assert_eq!(kinds, [EntryKind::Whiteout, EntryKind::Opaque]);
}
