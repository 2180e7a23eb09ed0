//! Test ADD of unusual archives (S-36…S-44): their content is kept, or an error names the problem and its place.

use std::fs;
use std::path::Path;

use super::attacks::{Member, file, member, tar};
use crate::support::TestEnv;
use crate::support::image::decompress;

/// A PAX header for the member after it.
fn pax(kind: u8, records: &[(&str, &[u8])]) -> Member {
    let mut body = Vec::new();
    for (key, value) in records {
        let rest = key.len() + value.len() + 3;
        let mut len = rest + 1;
        while len != rest + len.to_string().len() {
            len = rest + len.to_string().len();
        }
        body.extend_from_slice(format!("{len} {key}=").as_bytes());
        body.extend_from_slice(value);
        body.push(b'\n');
    }
    let mut member = member("pax", kind, "");
    member.set_body(body);
    member
}

/// A number in the base-256 encoding of GNU tar, for values that do not fit into octal digits.
fn base256(value: i64, width: usize) -> Vec<u8> {
    let mut bytes = vec![if value < 0 { 0xff } else { 0 }; width];
    bytes[width - 8..].copy_from_slice(&value.to_be_bytes());
    bytes[0] |= 0x80;
    bytes
}

const UID: usize = 108;
const GID: usize = 116;
const MTIME: usize = 136;
const MODE: usize = 100;

struct Row {
    ids: &'static str,
    bytes: Vec<u8>,
    want: Result<Vec<&'static str>, &'static str>,
}

fn ok(ids: &'static str, members: &[Member], want: &[&'static str]) -> Row {
    Row { ids, bytes: tar(members), want: Ok(want.to_vec()) }
}

fn bad(ids: &'static str, members: &[Member], says: &'static str) -> Row {
    Row { ids, bytes: tar(members), want: Err(says) }
}

fn try_all(rows: Vec<Row>) {
    let env = TestEnv::new();
    let context = env.context("-- x --\n");
    let mut wrong = String::new();
    for (number, Row { ids, bytes, want }) in rows.into_iter().enumerate() {
        fs::write(context.join("a.tar"), bytes).expect("write");
        let (done, name) = super::build(&env, &context, "ADD a.tar /", &[]);
        match (&want, done.code) {
            (Ok(want), 0) => {
                let image = env.image(&name);
                let got = super::list(&image);
                if got != *want {
                    wrong += &format!("{ids} #{number}: want {want:#?}\n  got {got:#?}\n");
                } else {
                    super::umoci_agrees(&image, ids);
                }
            }
            (Err(says), 1) if done.stderr.contains(says) && done.stderr.contains("Dockerfile:2:1") => {}
            (want, _) => wrong += &format!("{ids} #{number}: want {want:?}\n{done}\n"),
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    env.assert_swept();
}

#[test]
fn special_entries_are_kept_and_overlay_xattrs_dropped() {
    // S-36, S-37
    let overlay: &[(&str, &[u8])] = &[
        ("SCHILY.xattr.user.overlay.opaque", b"y"),
        ("SCHILY.xattr.trusted.overlay.redirect", b"/etc"),
        ("SCHILY.xattr.security.selinux", b"label"),
        ("SCHILY.xattr.user.kept", b"1"),
    ];
    let env = TestEnv::new();
    let context = env.context("-- x --\n");
    let members = [
        member("null", b'3', "").with(329, "0000001\0").with(337, "0000003\0"),
        member("disk", b'4', "").with(329, "0000010\0").with(337, "0000001\0"),
        // Overlayfs would treat 0:0 as a whiteout; in an archive it is a device.
        member("nil", b'3', "").with(329, "0000000\0").with(337, "0000000\0"),
        member("pipe", b'6', ""),
        pax(b'x', overlay),
        member("d", b'5', "").with(MODE, "0003777\0"),
        file("su", "s").with(MODE, "0006755\0"),
    ];
    fs::write(context.join("a.tar"), tar(&members)).expect("write");
    let (done, name) = super::build(&env, &context, "ADD a.tar /", &[]);
    assert_eq!(done.code, 0, "{done}");
    let tree = env.image(&name).tree();
    let kinds: Vec<_> = tree.0.iter().map(|(path, n)| (path.as_str(), n.kind, n.link.as_str(), n.mode)).collect();
    assert_eq!(
        kinds,
        [
            ("d", "dir", "", 0o3777),
            ("disk", "block", "8:1", 0o644),
            ("nil", "char", "0:0", 0o644),
            ("null", "char", "1:3", 0o644),
            ("pipe", "fifo", "", 0o644),
            ("su", "file", "", 0o6755)
        ]
    );
    assert_eq!(tree["d"].xattrs.keys().collect::<Vec<_>>(), ["user.kept"]);
}

#[test]
fn archive_trailing_data_is_accepted_and_truncation_fails() {
    // S-40
    requires!(gzip, zstd);
    let whole = tar(&[file("a", "1"), file("b", "2")]);
    let both = ["a 0644 \"1\"", "b 0644 \"2\""];
    let env = TestEnv::new();
    let pipe = |program: &str, bytes: &[u8]| {
        let path = env.dir().join("in");
        fs::write(&path, bytes).expect("write");
        super::add::sh(env.dir(), &format!("{program} -c in >out"));
        fs::read(env.dir().join("out")).expect("read")
    };
    let concatenated = [pipe("gzip", &whole[..1024]), pipe("gzip", &whole[1024..])].concat();
    let zip = pipe("gzip", &whole);
    let zst = pipe("zstd", &whole);
    let row = |bytes: &[u8], want: Result<&[&'static str], &'static str>| Row {
        ids: "S-40",
        bytes: bytes.to_vec(),
        want: want.map(<[_]>::to_vec),
    };
    try_all(vec![
        row(&whole[..2048], Ok(&both)),
        row(&[&whole[..], b"and some garbage"].concat(), Ok(&both)),
        row(&[&zip[..], b"and some garbage"].concat(), Ok(&both)),
        row(&concatenated, Ok(&both)),
        row(&zst, Ok(&both)),
        row(&whole[..1500], Err("unpack a.tar")),
        row(&whole[..1100], Err("unpack a.tar")),
        row(&zip[..zip.len() - 9], Err("unpack a.tar")),
        row(&zst[..zst.len() - 9], Err("unpack a.tar")),
    ]);
}

#[test]
fn all_tar_formats_are_read() {
    // S-41
    let sparse = [("GNU.sparse.major", &b"1"[..]), ("GNU.sparse.minor", b"0"), ("GNU.sparse.realsize", b"9")];
    let mut long = member("././@LongLink", b'L', "");
    let name = "n".repeat(150);
    long.set_body([name.as_bytes(), b"\0"].concat());
    let shown: &'static str = Box::leak(format!("{name} 0644 \"x\"").into_boxed_str());
    try_all(vec![
        ok("S-41: v7", &[file("a", "x").with(156, [0])], &["a 0644 \"x\""]),
        ok("S-41: v7 directories", &[file("d/", "").with(156, [0])], &["d/ 0644"]),
        ok(
            "S-41: prefix",
            &[file("b", "x").with(257, *b"ustar\x0000").with(345, *b"a/p")],
            &["a/ 0755", "a/p/ 0755", "a/p/b 0644 \"x\""],
        ),
        ok("S-41: base 256", &[file("a", "x").with(124, base256(1, 12))], &["a 0644 \"x\""]),
        ok("S-41: long names", &[long, file("short", "x")], &[shown]),
        ok("S-41: global headers", &[pax(b'g', &[("comment", b"x")]), file("a", "x")], &["a 0644 \"x\""]),
        ok("S-41: a PAX name", &[pax(b'x', &[("path", b"p/q")]), file("a", "x")], &["p/ 0755", "p/q 0644 \"x\""]),
        ok(
            "S-41: a global header is for all that follow",
            &[pax(b'g', &[("uid", b"7")]), file("a", "x"), file("b", "x")],
            &["a 0644 7:0 \"x\"", "b 0644 7:0 \"x\""],
        ),
        ok(
            "S-41: an empty one takes it back",
            &[pax(b'g', &[("uid", b"7")]), pax(b'g', &[("uid", b"")]), file("a", "x")],
            &["a 0644 \"x\""],
        ),
        ok(
            "S-41: sparse 0.1",
            &[pax(b'x', &[("GNU.sparse.map", b"1,1,3,1"), ("GNU.sparse.size", b"5")]), file("a", "xy")],
            &["a 0644 \"\\0x\\0y\\0\""],
        ),
        bad(
            "S-41: sparse parts out of order",
            &[pax(b'x', &[("GNU.sparse.map", b"3,1,1,1"), ("GNU.sparse.size", b"5")]), file("a", "xy")],
            "sparse map out of order",
        ),
        bad(
            "S-41: sparse parts that are not there",
            &[pax(b'x', &[("GNU.sparse.map", b"1,1,3,9"), ("GNU.sparse.size", b"50")]), file("a", "xy")],
            "sparse map does not match the stored size",
        ),
        bad(
            "S-41: sparse parts beyond the end",
            &[pax(b'x', &[("GNU.sparse.map", b"1,1,3,1"), ("GNU.sparse.size", b"3")]), file("a", "xy")],
            "sparse map reaches beyond the file",
        ),
        bad("S-30: a NUL", &[pax(b'x', &[("path", b"a\0b")]), file("a", "x")], "holds a NUL byte"),
        bad("S-41: PAX that lies", &[pax(b'x', &[("size", b"-1")]), file("a", "x")], "unpack a.tar"),
        bad("S-41: sparse", &[pax(b'x', &sparse), file("a", "x")], "sparse"),
        ok("S-41: old sparse", &[member("a", b'S', "")], &["a 0644 \"\""]),
        bad("S-41: volumes", &[member("a", b'M', "")], "multi-volume"),
    ]);
}

#[test]
fn archive_owners_and_times_keep_full_range() {
    // S-42, S-43
    let big = |uid: i64| file("a", "x").with(UID, base256(uid, 8)).with(GID, base256(2_147_483_649, 8));
    let members = [file("a", "x"), pax(b'x', &[("uid", b"4294967294"), ("gid", b"3000000000")])];
    try_all(vec![
        ok("S-42", &[big(4_000_000_000)], &["a 0644 4000000000:2147483649 \"x\""]),
        ok("S-42", &[members[1].clone(), members[0].clone()], &["a 0644 4294967294:3000000000 \"x\""]),
        bad("S-42", &[big(1 << 40)], "unpack a.tar"),
        bad("S-42", &[pax(b'x', &[("uid", b"99999999999")]), file("a", "x")], "unpack a.tar"),
    ]);
    let env = TestEnv::new();
    let context = env.context("-- x --\n");
    let times: Vec<(Member, Option<&[u8]>, i64)> = vec![
        (file("t0", "").with(MTIME, *b"00000000000\0"), None, 0),
        (file("t1", "").with(MTIME, *b"77777777777\0"), None, 8_589_934_591),
        (file("t2", "").with(MTIME, base256(-86_400, 12)), None, -86_400),
        (file("t3", ""), Some(b"253402300800.5"), 253_402_300_800),
        (file("t4", ""), Some(b"-1.5"), -2),
        (file("t5", ""), Some(b"1234.999999999"), 1234),
    ];
    let members = times
        .iter()
        .flat_map(|(file, time, _)| time.map(|time| pax(b'x', &[("mtime", time)])).into_iter().chain([file.clone()]));
    fs::write(context.join("a.tar"), tar(&members.collect::<Vec<_>>())).expect("write");
    let (done, name) = super::build(&env, &context, "ADD a.tar /", &[]);
    assert_eq!(done.code, 0, "{done}");
    let tree = env.image(&name).tree();
    let got: Vec<_> = tree.0.values().map(|node| node.mtime.expect("a time")).collect();
    assert_eq!(got, times.iter().map(|(_, _, want)| *want).collect::<Vec<_>>());
    for (number, time) in [&b"99999999999999999999"[..], b"nan", b"1e9", b""].into_iter().enumerate() {
        fs::write(context.join("a.tar"), tar(&[pax(b'x', &[("mtime", time)]), file("a", "x")])).expect("write");
        let (done, _) = super::build(&env, &context, "ADD a.tar /", &[]);
        assert!(matches!(done.code, 0 | 1), "{number}\n{done}");
    }
    assert!(Path::new(&context).exists());
}

#[test]
fn archive_names_are_kept_as_bytes() {
    // S-44, S-41
    let mut odd = file("x", "odd");
    odd = odd.with(0, *b"\xff\xfe\0");
    try_all(vec![
        ok("S-44", &[file("A", "1"), file("a", "2")], &["A 0644 \"1\"", "a 0644 \"2\""]),
        ok("S-44", &[file("e\u{301}", "1"), file("é", "2")], &["e\u{301} 0644 \"1\"", "é 0644 \"2\""]),
    ]);
    let env = TestEnv::new();
    let context = env.context("-- x --\n");
    let archive = tar(&[odd]);
    fs::write(context.join("a.tar"), &archive).expect("write");
    let (done, name) = super::build(&env, &context, "ADD a.tar /", &[]);
    assert_eq!(done.code, 0, "{done}");
    let digest = env.image(&name).manifest["layers"][0]["digest"].as_str().expect("a digest").replace(':', "/");
    let layer = decompress(&fs::read(env.store().join("blobs").join(digest)).expect("read")).expect("a layer");
    assert_eq!(layer[..100], archive[..100]);
    // A file whose first header has a wrong checksum is no archive; a wrong checksum later means a damaged archive.
    let mut two = tar(&[file("a", "1"), file("b", "2")]);
    two[1024] ^= 1;
    fs::write(context.join("a.tar"), &two).expect("write");
    let (done, _) = super::build(&env, &context, "ADD a.tar /", &[]);
    assert_eq!(done.code, 1, "{done}");
    done.says("header checksum is wrong");
}
