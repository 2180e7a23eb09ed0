//! Test builds after edits of their context: they make the image that an empty store would make, from files that are there.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use crate::support::TestEnv;
use crate::support::env::each_user;
use crate::support::random::{Random, seeds};

/// Edits of each context.
const EDITS: usize = 6;

/// Directories of the context. `vendor` is copied by itself, first; `ignored` is ignored.
const DIRS: [&str; 4] = ["vendor", "src", "src/deep", "ignored"];

const NOTATION: &str = "-- Dockerfile --
FROM busybox AS vendor
COPY vendor /vendor
RUN find /vendor -type f -print0 | sort -z | xargs -0 cat > /sum
FROM busybox
RUN mkdir -p /all/src/deep /all/vendor && echo below > /all/src/one && echo below > /all/vendor/two && ln -s one /all/src/z
COPY --from=vendor /sum /
COPY --exclude=src/deep src /src
COPY . /all
RUN --mount=type=bind,target=/context find /context/src -exec stat -c '%n %a' {} + | sort > /seen
RUN find /all -exec stat -c '%n %F %a %u:%g %h %N' {} + | sort > /listed && find /all -type f -exec cat {} + | sort > /read
RUN find /src -exec stat -c '%n %F %a %u:%g %h %N %Y' {} + | sort > /times
-- .dockerignore --
ignored
Dockerfile
-- vendor/one --
1
-- src/one --
1
-- src/deep/one --
1
-- ignored/one --
1
";

/// The names below a directory of the context that are there.
fn present(dir: &Path) -> Vec<PathBuf> {
    let mut found: Vec<_> = fs::read_dir(dir).expect("list").map(|entry| entry.expect("an entry").path()).collect();
    found.retain(|path| !path.is_dir() || path.is_symlink());
    found.sort();
    found
}

/// Changes one thing in the context. Ok: what was done.
fn edit(context: &Path, random: &mut Random) -> String {
    let dir = context.join(random.of(&DIRS));
    let new = dir.join(random.of(&["one", "two", "three", "a b", "z"]));
    let there = present(&dir);
    let old = match there.is_empty() {
        true => return write(&new, b"again\n"),
        false => random.of(&there).clone(),
    };
    let done = match random.below(8) {
        0 => return write(&new, format!("{}\n", random.below(1000)).as_bytes()),
        // The same length and the same time: only the inode's change time tells.
        1 if !old.is_symlink() => {
            let before = fs::metadata(&old).expect("stat");
            let turned: Vec<u8> = fs::read(&old).expect("read").iter().map(|b| b ^ 1).collect();
            fs::write(&old, turned).expect("write");
            let file = fs::File::options().append(true).open(&old).expect("open");
            file.set_modified(before.modified().expect("a time")).expect("touch");
            "rewrite, keeping length and time, of"
        }
        2 if !old.is_symlink() => {
            let mode = [0o644, 0o600, 0o755][random.below(3)];
            fs::set_permissions(&old, fs::Permissions::from_mode(mode)).expect("chmod");
            "chmod of"
        }
        3 => {
            fs::remove_file(&old).expect("remove");
            "removal of"
        }
        4 => {
            fs::rename(&old, &new).expect("rename");
            return format!("rename of {} to {}", old.display(), new.display());
        }
        5 => {
            fs::remove_file(&old).expect("remove");
            symlink(random.of(&["one", "two", "../one", "/sum"]), &old).expect("link");
            "a symlink at"
        }
        6 => {
            let (from, to) = (context.join("src/deep"), context.join(format!("src/moved-{}", random.below(3))));
            if fs::rename(&from, &to).is_err() {
                return format!("nothing at {}", to.display());
            }
            fs::create_dir(&from).expect("mkdir");
            return format!("move of src/deep to {}", to.display());
        }
        // Only its times change.
        _ => {
            let bytes = old.is_symlink().then(Vec::new).unwrap_or_else(|| fs::read(&old).expect("read"));
            fs::remove_file(&old).expect("remove");
            return write(&old, &bytes);
        }
    };
    format!("{done} {}", old.display())
}

fn write(path: &Path, bytes: &[u8]) -> String {
    if path.is_symlink() {
        fs::remove_file(path).expect("remove");
    }
    fs::write(path, bytes).expect("write");
    format!("write of {}", path.display())
}

/// The digest of the image.
fn build(env: &TestEnv, context: &Path) -> String {
    env.build(&["-q"], context).env("SOURCE_DATE_EPOCH", "1000000000").ok().stdout
}

#[test]
fn build_after_edits_equals_build_with_empty_store() {
    requires!(userns, overlay);
    let env = TestEnv::with_busybox();
    for seed in seeds(3) {
        let mut random = Random::new(seed);
        let context = env.context(NOTATION);
        let mut done = Vec::new();
        build(&env, &context);
        for _ in 0..EDITS {
            let edits = 1 + random.below(3);
            done.extend((0..edits).map(|_| edit(&context, &mut random)));
            let got = build(&env, &context);
            let want = build(&TestEnv::with_busybox(), &context);
            assert_eq!(got, want, "seed {seed}: after\n{}", done.join("\n"));
        }
    }
    env.assert_swept();
}

/// The inodes of the unpacked files called `name`.
fn unpacked(env: &TestEnv, name: &str) -> BTreeSet<u64> {
    let files = walkdir::WalkDir::new(env.store().join("layers")).into_iter().flatten();
    files.filter(|file| file.file_name() == name).map(|file| file.metadata().expect("stat").ino()).collect()
}

#[test]
fn edit_reuses_unpacked_files_unless_somebody_uses_them() {
    requires!(userns, overlay);
    for env in each_user() {
        let dockerfile = "-- Dockerfile --\nFROM busybox\nARG N\nCOPY . /src\nRUN cat /src/edited; echo $N\n";
        let context = env.context(&format!("{dockerfile}-- edited --\n1\n-- kept --\nkept\n"));
        let build = |text: &str, n: &str| {
            env.add(&context, &format!("-- edited --\n{text}\n"));
            env.build(&["-t", "app", "--build-arg", &format!("N={n}")], &context).ok().says(text);
        };
        build("first", "1");
        let first = unpacked(&env, "kept");
        assert_eq!(first.len(), 1);
        build("second", "1");
        assert_eq!(unpacked(&env, "kept"), first, "the files of the first layer became those of the second");
        // And back: the COPY is cached, and the RUN is another.
        build("first", "2");
        assert_eq!(unpacked(&env, "kept"), first);

        let mut run = env.kiln(&["run", "app", "sh", "-c", "echo running; sleep 60"]).spawn();
        let mut said = BufReader::new(run.stdout.take().expect("a pipe")).lines().map_while(Result::ok);
        assert_eq!(said.next().as_deref(), Some("running"));
        build("third", "1");
        let both = unpacked(&env, "kept");
        assert!(both.len() == 2 && both.is_superset(&first), "a container uses the files of the first layer");
        run.kill().expect("kill");
        run.wait().expect("wait");
        env.kiln(&["fsck"]).ok();
        env.assert_swept();
    }
}
