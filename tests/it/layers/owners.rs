//! Test owners and attributes that files on disk cannot have: layers keep them. Attributes that layers drop are not
//! visible to any step.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::sandbox::put_probe;
use crate::support::TestEnv;
use crate::support::dir::remove;
use crate::support::env::{binary, each_user, fixture};

/// Owners of which one or both ids are outside a range of 65,536 subordinate ids, and one outside a single id.
const OWNERS: [(u64, u64); 4] = [(445_605, 89_939), (0, 70_001), (70_002, 5), (1000, 1001)];

/// Kinds of files, with the mode of each.
const KINDS: [(&str, u32); 10] = [
    ("file", 0o640),
    ("setuid", 0o4755),
    ("linked", 0o644),
    ("dir", 0o750),
    ("setgid", 0o2775),
    ("closed", 0o555),
    ("symlink", 0o777),
    ("pipe", 0o600),
    ("char", 0o620),
    ("block", 0o660),
];

/// Shell operations on a file `$f`, and the kinds to which each applies.
const OPERATIONS: [(&str, &str); 11] = [
    ("chmod 711 $f", "file setuid linked dir setgid closed pipe char block"),
    ("touch -h $f", "file setuid linked dir setgid closed symlink pipe char block"),
    ("mv $f $f.moved", "file setuid linked symlink pipe char block"),
    ("ln $f $f.too", "file setuid linked symlink pipe char block"),
    // In a user namespace the kernel clears the setuid bit of a file that is written to.
    ("echo more >> $f", "file linked"),
    ("touch $f/new; mkdir $f/sub; ln -s x $f/link", "dir setgid closed"),
    ("rm -r $f; echo new > $f", "file setuid linked dir setgid closed symlink pipe char block"),
    // Only where owners can be changed, or copies can be told from new files.
    ("cp -a $f $f.copy", "file setuid linked dir setgid closed symlink pipe"),
    ("chown -h 9 $f", "file setuid linked dir setgid closed symlink pipe char block"),
    ("chgrp -h 9 $f", "file setuid linked dir setgid closed symlink pipe char block"),
    ("chown -h 0:0 $f", "file setuid linked dir setgid closed symlink pipe char block"),
];

/// Gives every new or changed file a fixed time, each another one.
const TIMES: &str = "n=5000; for f in $(find /zoo* -newer /stamp | sort); do touch -h -d @$n $f; n=$((n + 1)); done\n";

/// Writes an archive with one file for each kind, owner and operation, and a script that performs the operations.
fn zoo(context: &Path, operations: &[(&str, &str)]) {
    let mut tar = tar::Builder::new(fs::File::create(context.join("zoo.tar")).expect("create"));
    let mut script = "set -e\n".to_owned();
    let mut add = |name: &str, kind: tar::EntryType, link: &str, mode: u32, (uid, gid): (u64, u64), mtime: u64| {
        let content: &[u8] = if kind == tar::EntryType::Regular { b"content" } else { b"" };
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(uid);
        header.set_gid(gid);
        header.set_mtime(mtime);
        header.set_size(content.len() as u64);
        header.set_device_major(1).and_then(|()| header.set_device_minor(3)).expect("a ustar header");
        match link {
            "" => tar.append_data(&mut header, name, content).expect("append"),
            _ => tar.append_link(&mut header, name, link).expect("append"),
        }
    };
    use tar::EntryType as Type;
    add("stamp", Type::Regular, "", 0o644, (0, 0), 1_000_000_000);
    let mut mtime = 1000;
    for (number, (operation, kinds)) in operations.iter().enumerate() {
        for (owner, ids) in OWNERS.iter().enumerate() {
            for (kind, mode) in KINDS.iter().filter(|(kind, _)| kinds.split(' ').any(|k| k == *kind)) {
                let name = format!("zoo/{kind}-{number}-{owner}");
                mtime += 1;
                let target = format!("to-{number}-{owner}");
                let (entry, link) = match *kind {
                    "dir" | "setgid" | "closed" => (Type::Directory, ""),
                    "symlink" => (Type::Symlink, &*target),
                    "pipe" => (Type::Fifo, ""),
                    "char" => (Type::Char, ""),
                    "block" => (Type::Block, ""),
                    _ => (Type::Regular, ""),
                };
                add(&name, entry, link, *mode, *ids, mtime);
                if *kind == "linked" {
                    add(&format!("{name}.second"), Type::Link, &name, *mode, *ids, mtime);
                }
                script.push_str(&format!("f=/{name}; {operation}\n"));
            }
        }
    }
    tar.finish().expect("archive");
    script.push_str(TIMES);
    let path = context.join("script");
    fs::write(&path, script).expect("write");
    let file = fs::File::options().write(true).open(path).expect("open");
    file.set_modified(std::time::UNIX_EPOCH).expect("set the time");
}

fn layers(env: &TestEnv, context: &Path, args: &[&str]) -> Vec<String> {
    let args = [&["-t", "zoo"], args].concat();
    env.build(&args, context).ok();
    env.image("zoo").diff_ids().into_iter().map(str::to_owned).collect()
}

/// Removes the unpacked layers, whoever owns them.
fn forget_unpacked(env: &TestEnv) {
    let layers = env.store().join("layers");
    remove(&layers);
    assert!(!layers.exists());
}

#[test]
fn unmapped_owners_survive_file_operations() {
    requires!(userns, overlay);
    let mut first: Option<Vec<String>> = None;
    for env in each_user() {
        let context = env.context(&format!(
            "-- Dockerfile --\nFROM busybox\nADD zoo.tar /\nCOPY script /\nRUN sh /script\nARG AGAIN\n\
             RUN mkdir /zoo2 && cd /zoo && for f in *; do mv $f ../zoo2/$f; done && : $AGAIN && {TIMES}"
        ));
        zoo(&context, &OPERATIONS);
        let kept = layers(&env, &context, &["--snapshotter", "overlay"]);
        let tree = env.image("zoo").tree();
        // A touched file keeps both ids; a file with a new owner has the new id.
        let (touched, given) = (&tree["zoo2/file-1-0"], &tree["zoo2/file-8-0"]);
        assert_eq!((touched.uid, touched.gid), (445_605, 89_939));
        assert_eq!((given.uid, given.gid, tree["zoo2/setuid-10-0"].uid), (9, 89_939, 0));
        assert_eq!((tree["zoo2/char-0-0"].kind, tree["zoo2/char-0-0"].mode), ("char", 0o711));
        forget_unpacked(&env);
        let unpacked_again = layers(&env, &context, &["--snapshotter", "overlay", "--build-arg", "AGAIN=1"]);
        assert_eq!(unpacked_again, kept, "after layers/ was removed");
        let copied = layers(&env, &context, &["--snapshotter", "copy", "--no-cache"]);
        assert_eq!(copied, kept, "as copies");
        let root = first.get_or_insert_with(|| kept.clone());
        assert_eq!(&kept, root, "as another user");
        env.assert_swept();
    }
}

#[test]
fn single_id_build_gives_owners_of_full_id_range() {
    requires!(userns, overlay);
    let env = TestEnv::with_busybox();
    let context = env.context(
        "-- Dockerfile --\nFROM busybox\nADD zoo.tar /\nCOPY script /\nRUN sh /script\n\
         RUN cd /zoo && chmod 700 file* setuid* linked* closed* && touch -d @9000 /zoo\n",
    );
    zoo(&context, &OPERATIONS[..7]);
    let many = layers(&env, &context, &[]);
    let one = env.dir().join("one");
    fs::create_dir(&one).expect("create");
    let tar = fixture("busybox").join("rootfs.tar");
    for how in ["overlay", "copy"] {
        let script = "export KILN_ROOT=$1/store && { test -d $KILN_ROOT || $2 import $3 busybox; } && \
                      $2 build --no-cache --snapshotter $5 -t zoo $4";
        let out = Command::new("unshare")
            .args(["--user", "--map-root-user", "sh", "-c", script, "sh"])
            .args([one.as_os_str(), binary().as_os_str(), tar.as_os_str(), context.as_os_str(), how.as_ref()])
            .env("HOME", &one)
            .output()
            .expect("run unshare");
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        let image = crate::support::image::Image::open(&one.join("store"), "zoo");
        for at in 1..image.layers.len() {
            image.layer_tree(at).assert_same(&env.image("zoo").layer_tree(at));
        }
        assert_eq!(image.diff_ids(), many, "{how}");
    }
}

/// `u::rw-,g::r--,g:4:rwx,m::rwx,o::r--` as the kernel stores it.
const ACL: &str = "0200000001000600ffffffff04000400ffffffff080007000400000010000700ffffffff20000400ffffffff";

#[test]
fn steps_do_not_see_xattrs_that_layers_drop() {
    // Compare only layers of commands: context files have the time at which the test wrote them.
    let runs = |ids: &[String]| ids[ids.len() - 2..].to_vec();
    // N-3: created, copied up, renamed, linked and inherited; by files, directories and pipes.
    requires!(userns, overlay, attributes, cc);
    let mut made = String::new();
    for name in ["user.kept", "user.kiln.owner", "user.overlay.opaque", "system.posix_acl_access"] {
        let value = if name.starts_with("system.") { ACL } else { "31303a3130" };
        let short = name.rsplit('.').next().unwrap_or(name);
        for at in [format!("new-{short}"), format!("/below/f-{short}"), format!("/below/d-{short}")] {
            let make = if at.starts_with('/') { String::new() } else { format!("echo x > {at}; ") };
            // Attributes that a kind of file refuses are missing for every user.
            made.push_str(&format!("{make}probe setattr {at} {name} {value}; ln {at} {at}.too; mv {at} {at}.moved; "));
        }
    }
    let below: String = ["kept", "owner", "opaque", "posix_acl_access"]
        .map(|short| format!("-- below/f-{short} --\nx\n-- below/d-{short}/ --\n"))
        .concat();
    let dockerfile = format!(
        "-- Dockerfile --\nFROM busybox\nCOPY probe /bin/probe\nCOPY below /below\nCOPY below/f-kept /below/socket\n\
         RUN mkdir /new && cd /new && {{ {made} true; }}; mkdir d; mkfifo p; probe setattr p system.posix_acl_access {ACL}; \
         probe setattr d system.posix_acl_default {ACL}; echo x > d/inherits; mkdir d/sub; echo x > d/sub/inherits; \
         probe socket s; rm /below/socket; probe socket /below/socket; find /new /below -exec touch -h -d @700 {{}} +\n\
         ARG AGAIN\n\
         RUN find /new /below | sort > /names && probe attrs $(cat /names) > /seen && \
         touch -d @800 /names /seen && : $AGAIN\n{below}"
    );
    let mut first: Option<Vec<String>> = None;
    for env in each_user() {
        let context = env.context(&dockerfile);
        put_probe(&context.join("probe"));
        let fresh = layers(&env, &context, &["--snapshotter", "overlay"]);
        let seen = String::from_utf8(env.image("zoo").content("seen")).expect("text");
        let of =
            |name: &str| seen.lines().find(|line| line.starts_with(&format!("{name} "))).expect("listed").to_owned();
        // A dropped ACL leaves the mode that it set; attributes that layers keep stay.
        assert_eq!(of("/new/new-posix_acl_access.moved"), "/new/new-posix_acl_access.moved 100674");
        assert_eq!(of("/new/new-kept.moved"), "/new/new-kept.moved 100644 user.kept=31303a3130");
        assert_eq!(of("/new/new-owner.moved"), "/new/new-owner.moved 100644");
        assert!(!seen.contains("acl_default") && !seen.contains("socket"), "{seen}");
        let mut all =
            vec![("adopted", layers(&env, &context, &["--snapshotter", "overlay", "--build-arg", "AGAIN=1"]))];
        forget_unpacked(&env);
        all.push(("unpacked again", layers(&env, &context, &["--snapshotter", "overlay", "--build-arg", "AGAIN=2"])));
        all.push(("copied", layers(&env, &context, &["--snapshotter", "copy", "--no-cache"])));
        let root = first.get_or_insert_with(|| fresh.clone()).clone();
        all.push(("as another user", root));
        for (how, ids) in all {
            assert_eq!(runs(&ids), runs(&fresh), "{how}: {seen}");
        }
    }
}
