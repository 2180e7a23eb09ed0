//! Test random sequences of COPY and RUN: what a step sees, what its layer holds and what the next build finds are the
//! same for every cache state, user and snapshotter (N-1 to N-5).

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use crate::support::dir::Dir;
use crate::support::env::each_user;
use crate::support::random::{Random, seeds};
use crate::support::{Image, TestEnv};

/// Shell functions for the operations of a history.
const OPERATIONS: &str = include_str!("history.sh");

/// Compiles the program that lists directories inside and outside of a container.
fn tool() -> Dir {
    let dir = Dir::new();
    let (source, program) = (dir.path().join("history.c"), dir.path().join("history"));
    std::fs::write(&source, include_str!("history.c")).expect("write");
    let cc = Command::new("cc").args(["-static", "-O1", "-Wall", "-o"]).arg(&program).arg(&source).status();
    assert!(cc.expect("run cc").success(), "cc history.c");
    dir
}

/// `security.capability` of `cap_net_raw+ep`, and `system.posix_acl_access` with an entry for group 4.
const CAPABILITY: &str = "0100000200200000000000000000000000000000";
const ACL: &str = "0200000001000600ffffffff04000400ffffffff080007000400000010000700ffffffff20000400ffffffff";

/// One random operation.
fn operation(random: &mut Random) -> String {
    let paths = ["a", "b", "d", "d/a", "d/b", "d/e", "d/e/a", "c0", "c0/f", "c1/f", "c1"];
    // The targets of COPY must stay directories, and the copied files must stay files.
    let free = *random.of(&paths[..7]);
    let path = *random.of(&paths);
    let file = *random.of(&["a", "b", "d/a", "d/b", "d/e/a", "c0/f", "c1/f"]);
    let other = *random.of(&["a", "b", "d/a", "d/b", "d/e/a"]);
    let text = random.below(3);
    let mode = *random.of(&["644", "600", "4755", "2770", "1777"]);
    let id = *random.of(&[0, 1, 33, 1000, 65534]);
    match random.below(19) {
        0 | 1 => format!("write {file} text{text}"),
        2 => format!("append {file} more{text}"),
        3 => format!("open_only {file}"),
        4 | 5 => format!("remove {path}"),
        6 => format!("make {free} {mode}"),
        7 | 8 => format!("remake {} {mode}", random.of(&["d", "d/e", "c0", "c1"])),
        9 => format!("replace {file} text{text}"),
        10 => format!("mode {path} {mode}"),
        11 => format!("owner {path} {id}:{id}"),
        12 => format!("link {file} {other}"),
        13 => format!("symlink d/a {other}"),
        14 => format!("rename {file} {other}"),
        15 => format!("fifo {other} {mode}"),
        16 => format!("hole {file} {}", 100_000 + 70_000 * text),
        17 => match random.below(3) {
            0 => format!("attribute {file} security.capability {CAPABILITY}"),
            1 => format!("attribute {path} user.note 0{text}"),
            _ => format!("no_attribute {path} user.note"),
        },
        _ => format!("attribute {file} system.posix_acl_access {ACL}"),
    }
}

/// The instructions of one history.
fn history(random: &mut Random) -> String {
    let run = |number: usize, operations: &str| {
        format!("RUN <<EOF\nexec 2> /dev/null\ntime={number}\n. /history.sh\n{operations}true\nEOF\n")
    };
    let mut steps = run(0, "make d 755\nmake d/e 700\nwrite d/a first\nwrite b second\n");
    let mut made: Vec<String> = Vec::new();
    for number in 1..4 + random.below(7) {
        if !made.is_empty() && random.below(4) == 0 {
            // Repeat an earlier step, which often gives the same layer.
            steps.push_str(&random.of(&made).clone());
            continue;
        }
        let step = if random.below(4) == 0 {
            let owner = *random.of(&["0:0", "33:33", "1000:65534", "445605:89939"]);
            let mode = *random.of(&["", " --chmod=600", " --chmod=4755"]);
            let link = *random.of(&["", "", " --link"]);
            format!("COPY{link} --chown={owner}{mode} {} /h/c{}/f\n", random.of(&["f", "g"]), random.below(2))
        } else {
            let operations: Vec<String> = (0..random.below(4)).map(|_| operation(random) + "\n").collect();
            run(number, &operations.concat())
        };
        made.push(step.clone());
        steps.push_str(&step);
    }
    steps
}

/// The result of a history.
#[derive(Debug, PartialEq)]
struct Outcome {
    /// The layers of the history.
    diff_ids: Vec<String>,
    /// What the command after the history saw.
    seen: BTreeSet<String>,
}

/// Builds the history in `context` and one more command, with the argument `probe`, that lists what it sees.
fn outcome(env: &TestEnv, context: &Path, args: &[&str], probe: &str) -> Outcome {
    let probe = format!("probe={probe}");
    let fixed = ["-t", "app", "--build-arg", "SOURCE_DATE_EPOCH=5000", "--build-arg", &probe];
    env.build(&[&fixed, args].concat(), context).ok().never_says("being asked");
    let image = env.image("app");
    let mut diff_ids: Vec<String> = image.diff_ids().iter().map(|id| (*id).to_owned()).collect();
    diff_ids.pop();
    let seen = String::from_utf8(image.content("seen")).expect("UTF-8");
    Outcome { diff_ids, seen: seen.lines().map(str::to_owned).collect() }
}

/// The tree of the image as umoci unpacks it, listed by the same program.
fn unpacked(image: &Image, tool: &Dir) -> BTreeSet<String> {
    let dir = image.umoci_dir();
    let at = dir.path().join("tree/h");
    let listed = Command::new(tool.path().join("history")).arg("list").arg(at).output().expect("list a directory");
    assert!(listed.status.success(), "{listed:?}");
    String::from_utf8(listed.stdout).expect("UTF-8").lines().map(str::to_owned).collect()
}

/// Without link counts: overlayfs also counts names that upper layers hide.
fn without_counts(seen: &BTreeSet<String>) -> BTreeSet<String> {
    let kept = |line: &String| line.split(' ').filter(|word| !word.starts_with("links=")).collect::<Vec<_>>().join(" ");
    seen.iter().map(kept).collect()
}

/// The lines that differ.
fn difference(left: &BTreeSet<String>, right: &BTreeSet<String>) -> String {
    let mut text = String::new();
    left.difference(right).for_each(|line| writeln!(text, "- {line}").expect("a line"));
    right.difference(left).for_each(|line| writeln!(text, "+ {line}").expect("a line"));
    text
}

/// Without files whose owners a user namespace does not map: they cannot be seen from inside.
fn known(seen: &BTreeSet<String>, beyond: &BTreeSet<String>) -> BTreeSet<String> {
    let name = |line: &str| line.split(' ').next().unwrap_or_default().to_owned();
    seen.iter().filter(|line| !beyond.contains(&name(line))).cloned().collect()
}

#[test]
fn random_builds_agree_across_caches_users_and_snapshotters() {
    requires!(userns, overlay, cc);
    let (all, tool) = (each_user(), tool());
    for seed in seeds(3) {
        let steps = history(&mut Random::new(seed));
        let notation = format!(
            "-- Dockerfile --\nFROM busybox\nCOPY history history.sh /\nRUN mkdir /h && touch -d @1000 /h\n{steps}ARG probe\n\
             RUN : $probe; /history list /h > /seen\n-- history.sh --\n{OPERATIONS}-- f --\nf\n-- g --\ng\n"
        );
        let mut first: Option<(Outcome, BTreeSet<String>)> = None;
        for env in &all {
            let context = env.context(&notation);
            std::fs::copy(tool.path().join("history"), context.join("history")).expect("copy");
            let check = |how: &str, got: &Outcome, want: &Outcome, beyond: &BTreeSet<String>| {
                let differ = difference(&known(&want.seen, beyond), &known(&got.seen, beyond));
                assert!(differ.is_empty(), "seed {seed}: {how} sees\n{differ}after\n{steps}");
                assert_eq!(got.diff_ids, want.diff_ids, "seed {seed}: layers, {how}, after\n{steps}");
            };
            let nothing = BTreeSet::new();
            let fresh = outcome(env, &context, &["--snapshotter", "overlay"], "fresh");
            check("what was kept", &outcome(env, &context, &[], "kept"), &fresh, &nothing);
            let away = env.dir().join(format!("layers-{seed}"));
            std::fs::rename(env.store().join("layers"), away).expect("take layers/ away");
            check("what was unpacked", &outcome(env, &context, &[], "unpacked"), &fresh, &nothing);
            let copied = outcome(env, &context, &["--snapshotter", "copy", "--no-cache"], "copied");
            check("a copy", &copied, &fresh, &nothing);
            match &first {
                Some((first, beyond)) => check("another user", &fresh, first, beyond),
                None => {
                    if crate::support::requires::is_root() && crate::support::requires::have("umoci") {
                        let told = without_counts(&unpacked(&env.image("app"), &tool));
                        let differ = difference(&told, &without_counts(&fresh.seen));
                        assert!(
                            differ.is_empty(),
                            "seed {seed}: a command sees other than umoci\n{differ}after\n{steps}"
                        );
                    }
                    let far = fresh.seen.iter().filter(|line| line.contains(" 445605:"));
                    let beyond = far.filter_map(|line| Some(line.split(' ').next()?.to_owned())).collect();
                    first = Some((fresh, beyond));
                }
            }
        }
    }
    all.iter().for_each(TestEnv::assert_swept);
}
