//! Test random image layers (N-1, N-4) with repeats, whiteouts, opaque directories and implicit directories: overlay,
//! copy, archive and umoci show the same tree.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kiln::base::digest::{DiffId, Sha256};
use kiln::layer::{Form, MergedTree, copy_tree, prepare_upper, unpack};
use kiln::snapshot::Stack;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_string, fsmount, fsopen};

use crate::support::env::each_user;
use crate::support::random::{Random, seeds};
use crate::support::{TestEnv, Tree, layout};

/// Directories, and names of files in them.
const DIRS: [&str; 5] = ["p", "p/q", "p/q/r", "s", "s/p"];
const LEAVES: [&str; 2] = ["x", "y"];

/// A random layer as a tar. With `strange`, it has cases on which readers disagree: files and links in place of
/// directories of other layers, whiteouts of entries of the same layer, whiteouts in an implicit directory (containerd
/// creates it, umoci does not), and implicit directories in a setgid one (kiln gives them to root, umoci to its group).
fn layer(random: &mut Random, strange: bool) -> Vec<u8> {
    let setgid = if strange { 0o2750 } else { 0o750 };
    let mut markers = BTreeSet::new();
    let mut entries: BTreeMap<String, (u8, String, u32, u32)> = BTreeMap::new();
    for _ in 0..1 + random.below(7) {
        let dir = *random.of(&DIRS);
        let leaf = format!("{dir}/{}", random.of(&LEAVES));
        let (mode, owner) = (*random.of(&[0o700, 0o755, 0o1777, setgid]), *random.of(&[0, 3, 42, 1000]));
        let nondir = |name: &str, random: &mut Random| match random.below(3) {
            0 => (b'2', "nowhere".to_owned(), 0o777, owner),
            1 => (b'6', String::new(), mode, owner),
            _ => (b'0', name.to_owned(), mode, owner),
        };
        match random.below(if strange { 9 } else { 7 }) {
            0 | 1 => drop(entries.insert(dir.to_owned(), (b'5', String::new(), mode, owner))),
            2 | 3 => drop(entries.insert(leaf.clone(), nondir(&leaf, random))),
            4 => drop(markers.insert((leaf, false))),
            5 => drop(markers.insert((dir.to_owned(), false))),
            6 => drop(markers.insert((dir.to_owned(), true))),
            7 => drop(entries.insert(dir.to_owned(), nondir(dir, random))),
            _ => drop(entries.insert(leaf, (b'5', String::new(), mode, owner))),
        }
    }
    let above = |name: &str| name.match_indices('/').map(|(at, _)| name[..at].to_owned()).collect::<Vec<_>>();
    for (name, opaque) in markers.iter().filter(|_| !strange) {
        for dir in above(name).into_iter().chain(opaque.then(|| name.clone())) {
            entries.entry(dir).or_insert((b'5', String::new(), 0o755, 0));
        }
    }
    // Only directories have entries below them, and without `strange` a name is either deleted or created.
    let is_file = |name: &str| entries.get(name).is_some_and(|(kind, ..)| *kind != b'5');
    let gone = |name: &str| !strange && markers.contains(&(name.to_owned(), false));
    let fits = |name: &str| !gone(name) && above(name).iter().all(|dir| !is_file(dir) && !gone(dir));
    let mut tar = Vec::new();
    for (name, opaque) in markers.iter().filter(|(name, opaque)| {
        above(name).iter().all(|dir| !is_file(dir) && !gone(dir)) && !(*opaque && (is_file(name) || gone(name)))
    }) {
        let (dir, last) = name.rsplit_once('/').map_or(("", name.as_str()), |(dir, last)| (dir, last));
        let slash = if dir.is_empty() { "" } else { "/" };
        let name = if *opaque { format!("{name}/.wh..wh..opq") } else { format!("{dir}{slash}.wh.{last}") };
        tar.extend(super::member((0, 0), b'0', &name, "", b""));
    }
    for (name, (kind, content, mode, owner)) in entries.iter().filter(|(name, _)| fits(name)) {
        let (link, content) = if *kind == b'2' { (content.as_str(), &b""[..]) } else { ("", content.as_bytes()) };
        let member = super::member((*owner, *owner), *kind, name, link, content);
        tar.extend(super::with_mode(format!("{mode:07o}\0").as_bytes().try_into().expect("eight"), member));
    }
    tar.extend(layout::EMPTY);
    tar
}

/// A random list of layers with repeats.
fn chain(random: &mut Random, strange: bool) -> Vec<Vec<u8>> {
    let mut chain: Vec<Vec<u8>> = Vec::new();
    for _ in 0..3 + random.below(6) {
        let next = match random.below(4) {
            0 if !chain.is_empty() => random.of(&chain).clone(),
            1 => layout::EMPTY.to_vec(),
            _ => layer(random, strange),
        };
        chain.push(next);
    }
    chain
}

/// A detached read-only overlay mount.
fn overlay(lowers: &[PathBuf]) -> OwnedFd {
    let fs = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).expect("fsopen");
    for lower in lowers {
        fsconfig_set_string(&fs, "lowerdir+", lower).expect("a lower directory");
    }
    fsconfig_create(&fs).expect("an overlay");
    fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty()).expect("a mount")
}

/// Without the root directory, whose owner is its creator.
fn without_root(mut tree: Tree) -> Tree {
    tree.0.remove(".");
    tree
}

#[test]
fn deduplicated_stack_shows_same_tree_as_full_chain() {
    requires!(root, overlay);
    for seed in seeds(150) {
        let random = &mut Random::new(seed);
        let strange = random.below(2) == 0;
        let chain = chain(random, strange);
        let dir = crate::support::dir::Dir::new();
        let at = |name: String| dir.path().join(name);
        let mut known: BTreeMap<DiffId, (PathBuf, PathBuf, Arc<kiln::layer::Tree>)> = BTreeMap::new();
        let mut layers = Vec::new();
        for tar in &chain {
            let diff_id = DiffId(Sha256::of(tar));
            let number = known.len();
            let made = known.entry(diff_id).or_insert_with(|| {
                let (stacked, plain) = (at(format!("s{number}")), at(format!("p{number}")));
                for dir in [&stacked, &plain] {
                    fs::create_dir(dir).expect("create");
                }
                let form = Form::Overlay { userxattr: false };
                let tree = unpack(&tar[..], &stacked, diff_id, form).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
                unpack(&tar[..], &plain, diff_id, Form::Plain).expect("unpacks the same");
                (stacked, plain, Arc::new(tree))
            });
            layers.push(made.clone());
        }
        let merged = MergedTree::over(layers.iter().map(|(.., tree)| Arc::clone(tree)));
        let (floor, copy) = (at("floor".to_owned()), at("copy".to_owned()));
        for dir in [&floor, &copy] {
            fs::create_dir(dir).expect("create");
        }
        prepare_upper(&merged, &floor).expect("a floor");
        let plain: Vec<PathBuf> = layers.iter().map(|(_, plain, _)| plain.clone()).collect();
        copy_tree(&merged, &plain, &copy).expect("a copy");
        let stacked: Vec<PathBuf> = layers.iter().map(|(stacked, ..)| stacked.clone()).chain([floor]).collect();
        let mounted = overlay(&Stack::new(&stacked[merged.bottom()..]).expect("a stack").into_lowers());
        let shown = Tree::of_dir(Path::new(&format!("/proc/self/fd/{}/.", mounted.as_raw_fd())));
        let (shown, copied) = (without_root(shown), without_root(Tree::of_dir(&copy)));
        assert!(shown == copied, "seed {seed}: {} layers\nstacked: {shown}\ncopied: {copied}", chain.len());
    }
}

/// Lists the files of the random layers inside a container.
const LIST: &str = "find p s -exec stat -c '%n %f %u:%g' {} + 2> /dev/null | sort";

/// Lists the same files of a tree, in the same format.
fn listed(tree: &Tree) -> String {
    let ours = |name: &str| ["p", "s"].contains(&name.split('/').next().unwrap_or_default());
    let mut lines = Vec::new();
    for (name, node) in tree.0.iter().filter(|(name, _)| ours(name)) {
        let kind = match node.kind {
            "dir" => 0o040000,
            "link" => 0o120000,
            "fifo" => 0o010000,
            _ => 0o100000,
        };
        lines.push(format!("{name} {:x} {}:{}\n", kind | node.mode, node.uid, node.gid));
    }
    lines.sort();
    lines.concat()
}

/// Builds on the image `x:1`, with a new file in every directory. Returns what a command saw and the diff-ids; writes
/// the file system to `out`.
fn built(env: &TestEnv, seed: u64, how: &str, out: &Path) -> (String, Vec<String>) {
    let context = env.context(&format!(
        "-- Dockerfile --\nFROM x:1\nWORKDIR /\nRUN {LIST} > /seen\nRUN find p s -type d > /dirs; while read d; do touch $d/new; done < /dirs\n\
         # {seed}\n"
    ));
    let tar = format!("type=tar,dest={}", out.display());
    let args = ["-t", "app", "--no-cache", "--build-arg", "SOURCE_DATE_EPOCH=1000", "--snapshotter", how];
    env.build(&args, &context).ok();
    env.build(&["--build-arg", "SOURCE_DATE_EPOCH=1000", "-o", &tar], &context).ok();
    let image = env.image("app");
    let seen = String::from_utf8(image.content("seen")).expect("UTF-8");
    (seen, image.diff_ids().iter().map(|id| (*id).to_owned()).collect())
}

#[test]
fn random_layers_read_the_same_in_every_way() {
    requires!(userns, overlay);
    let all = each_user();
    for seed in seeds(3) {
        let random = &mut Random::new(seed);
        let strange = random.below(4) == 0;
        let chain = chain(random, strange);
        let mut ways = Vec::new();
        for env in &all {
            let at = env.dir().join(format!("layout-{seed}"));
            layout::write(&at, &chain.iter().map(Vec::as_slice).collect::<Vec<_>>());
            env.kiln(&["load", "-i", at.to_str().expect("UTF-8")]).ok();
            for how in ["overlay", "copy"] {
                let out = env.dir().join("out.tar");
                let way = built(env, seed, how, &out);
                let written = Tree::of_tar(fs::File::open(&out).expect("an archive"));
                let (grown, mut before) = (listed(&written), written.clone());
                before.0.retain(|name, _| !name.ends_with("/new"));
                assert_eq!(listed(&before), way.0, "seed {seed}: {how}, as an archive");
                if !strange && crate::support::requires::is_root() && crate::support::requires::have("umoci") {
                    let told = [env.image("x:1"), env.image("app")].map(|image| listed(&image.umoci_tree()));
                    assert_eq!(told, [way.0.clone(), grown], "seed {seed}: {how}, as umoci reads it");
                }
                ways.push(way);
            }
        }
        assert!(ways.windows(2).all(|pair| pair[0] == pair[1]), "seed {seed}: {ways:#?}");
    }
    all.iter().for_each(TestEnv::assert_swept);
}
