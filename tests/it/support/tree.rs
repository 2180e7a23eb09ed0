//! A file tree as a comparable value.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io::Read;
use std::ops::Index;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use sha2::{Digest, Sha256};

/// One name in a tree.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Node {
    /// `file`, `dir`, `link`, `hard`, `char`, `block`, `fifo`, `whiteout`, `opaque`.
    pub kind: &'static str,
    /// Permission bits, setuid, setgid and sticky included.
    pub mode: u32,
    pub uid: u64,
    pub gid: u64,
    pub size: u64,
    /// Seconds; `None` after [`Tree::without_times`].
    pub mtime: Option<i64>,
    /// Target of a symbolic or hard link, or `major:minor`.
    pub link: String,
    /// Hex of the values.
    pub xattrs: BTreeMap<String, String>,
    /// Hex SHA-256 of a file's content.
    pub content: String,
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:04o} {}:{} {}", self.kind, self.mode, self.uid, self.gid, self.size)?;
        if let Some(mtime) = self.mtime {
            write!(f, " @{mtime}")?;
        }
        if !self.link.is_empty() {
            write!(f, " -> {}", self.link)?;
        }
        for (name, value) in &self.xattrs {
            write!(f, " {name}={value}")?;
        }
        if !self.content.is_empty() {
            write!(f, " {}", &self.content[..12])?;
        }
        Ok(())
    }
}

/// Paths without a leading slash, the root as `.`.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Tree(pub BTreeMap<String, Node>);

impl Index<&str> for Tree {
    type Output = Node;

    fn index(&self, path: &str) -> &Node {
        self.0.get(path).unwrap_or_else(|| panic!("no {path:?} in\n{self}"))
    }
}

impl fmt::Display for Tree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|(path, node)| writeln!(f, "{path}  {node}"))
    }
}

impl fmt::Debug for Tree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\n{self}")
    }
}

impl Tree {
    /// The tree below a directory, hard links resolved to their content. Only root sees all owners and contents.
    pub fn of_dir(dir: &Path) -> Tree {
        let mut tree = Tree::default();
        let mut todo = vec![dir.to_owned()];
        while let Some(path) = todo.pop() {
            let name = match path.strip_prefix(dir).expect("below the root").as_os_str().as_bytes() {
                b"" => ".".to_owned(),
                name => String::from_utf8_lossy(name).into_owned(),
            };
            let meta = fs::symlink_metadata(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            let kind = meta.file_type();
            let mut node = Node {
                mode: meta.mode() & 0o7777,
                uid: meta.uid().into(),
                gid: meta.gid().into(),
                mtime: Some(meta.mtime()),
                xattrs: xattrs(&path),
                ..Node::default()
            };
            if kind.is_dir() {
                node.kind = "dir";
                todo.extend(fs::read_dir(&path).expect("list").map(|e| e.expect("entry").path()));
            } else if kind.is_symlink() {
                node.kind = "link";
                node.mode = 0o777;
                node.link = fs::read_link(&path).expect("readlink").to_string_lossy().into_owned();
            } else if kind.is_file() {
                node.kind = "file";
                node.size = meta.len();
                node.content = digest(fs::File::open(&path).expect("open"));
            } else if kind.is_char_device() || kind.is_block_device() {
                node.kind = if kind.is_char_device() { "char" } else { "block" };
                node.link = format!("{}:{}", nix::sys::stat::major(meta.rdev()), nix::sys::stat::minor(meta.rdev()));
            } else {
                node.kind = if kind.is_fifo() { "fifo" } else { "socket" };
            }
            tree.0.insert(name, node);
        }
        tree
    }

    /// The members of a tar: hard links as `hard`, whiteouts as `whiteout` under the name that they hide.
    pub fn of_tar(tar: impl Read) -> Tree {
        let mut tree = Tree::default();
        let mut archive = tar::Archive::new(tar);
        for entry in archive.entries().expect("a tar") {
            let mut entry = entry.expect("a tar member");
            let mut node = Node::default();
            let mut long: Option<(Option<u64>, Option<u64>)> = None;
            let mut sparse_mtime = None;
            if let Some(records) = entry.pax_extensions().expect("pax records") {
                let mut ids = (None, None);
                for record in records {
                    let record = record.expect("a pax record");
                    let (key, value) = (record.key().unwrap_or(""), record.value_bytes());
                    let text = String::from_utf8_lossy(value);
                    match key.strip_prefix("SCHILY.xattr.") {
                        Some(name) => drop(node.xattrs.insert(name.to_owned(), hex(value))),
                        None if key == "uid" => ids.0 = text.parse().ok(),
                        None if key == "gid" => ids.1 = text.parse().ok(),
                        None if key == "mtime" => sparse_mtime = text.split('.').next().and_then(|t| t.parse().ok()),
                        None => {}
                    }
                }
                long = Some(ids);
            }
            let header = entry.header();
            node.mode = header.mode().expect("mode") & 0o7777;
            node.uid = long.and_then(|l| l.0).unwrap_or_else(|| header.uid().expect("uid"));
            node.gid = long.and_then(|l| l.1).unwrap_or_else(|| header.gid().expect("gid"));
            node.mtime = sparse_mtime.or_else(|| i64::try_from(header.mtime().expect("mtime")).ok());
            node.link = entry.link_name_bytes().map(|l| String::from_utf8_lossy(&l).into_owned()).unwrap_or_default();
            let kind = header.entry_type();
            let device = || format!("{}:{}", dev(header.device_major()), dev(header.device_minor()));
            if kind.is_dir() {
                node.kind = "dir";
            } else if kind.is_symlink() {
                (node.kind, node.mode) = ("link", 0o777);
            } else if kind.is_hard_link() {
                node.kind = "hard";
                node.link = clean(&node.link);
            } else if kind.is_character_special() {
                (node.kind, node.link) = ("char", device());
            } else if kind.is_block_special() {
                (node.kind, node.link) = ("block", device());
            } else if kind.is_fifo() {
                node.kind = "fifo";
            } else {
                node.kind = "file";
                node.size = entry.size();
            }
            let path = clean(&String::from_utf8_lossy(&entry.path_bytes()));
            if node.kind == "file" {
                node.content = digest(&mut entry);
            }
            tree.insert_member(path, node);
        }
        tree
    }

    fn insert_member(&mut self, path: String, node: Node) {
        let (dir, name) = path.rsplit_once('/').unwrap_or((".", &path));
        match name.strip_prefix(".wh.") {
            // An opaque marker and its directory are separate members: keep both.
            Some(".wh..opq") => {
                let key = format!("{dir}/.wh..wh..opq");
                self.0.insert(key, Node { kind: "opaque", ..Node::default() });
            }
            Some(hidden) => {
                let hidden = if dir == "." { hidden.to_owned() } else { format!("{dir}/{hidden}") };
                self.0.insert(hidden, Node { kind: "whiteout", ..Node::default() });
            }
            None => drop(self.0.insert(path, node)),
        }
    }

    /// Applies a layer to this tree, as image-spec says: opaque markers and whiteouts first, then the members.
    pub fn lay(&mut self, layer: &Tree) {
        for (path, node) in &layer.0 {
            let (gone, whole) = match node.kind {
                "whiteout" => (path.as_str(), true),
                "opaque" => (path.strip_suffix("/.wh..wh..opq").expect("marker"), false),
                _ => continue,
            };
            self.remove(gone, whole);
        }
        let members = || layer.0.iter().filter(|(_, n)| !matches!(n.kind, "whiteout" | "opaque"));
        for (path, node) in members() {
            if node.kind != "dir" || self.0.get(path).is_some_and(|n| n.kind != "dir") {
                self.remove(path, true);
            }
            self.0.insert(path.clone(), node.clone());
        }
        for (path, node) in members().filter(|(_, n)| n.kind == "hard") {
            let target = self.0.get(&node.link).unwrap_or_else(|| panic!("{path}: {} is not there", node.link)).clone();
            self.0.insert(path.clone(), target);
        }
    }

    fn remove(&mut self, path: &str, whole: bool) {
        if whole {
            self.0.remove(path);
        }
        let below = if path == "." { String::new() } else { format!("{path}/") };
        let gone = self.0.range(below.clone()..).map(|(p, _)| p).take_while(|p| p.starts_with(&below));
        for path in gone.filter(|p| *p != ".").cloned().collect::<Vec<_>>() {
            self.0.remove(&path);
        }
    }

    /// Without times, for comparisons across builds: files that a RUN writes have the current time.
    pub fn without_times(mut self) -> Tree {
        self.0.values_mut().for_each(|node| node.mtime = None);
        self
    }

    /// The entries below `path`, named relative to it.
    pub fn below(&self, path: &str) -> Tree {
        let prefix = format!("{path}/");
        Tree(self.0.iter().filter_map(|(p, n)| Some((p.strip_prefix(&prefix)?.to_owned(), n.clone()))).collect())
    }

    /// The paths.
    pub fn names(&self) -> Vec<&str> {
        self.0.keys().map(String::as_str).collect()
    }

    /// Whether the tree has the path.
    pub fn has(&self, path: &str) -> bool {
        self.0.contains_key(path)
    }

    /// Panics with the differing lines only, because whole trees do not fit on a screen.
    #[track_caller]
    pub fn assert_same(&self, other: &Tree) {
        let mut lines = Vec::new();
        for path in self.0.keys().chain(other.0.keys().filter(|p| !self.0.contains_key(*p))) {
            let show = |t: &Tree| t.0.get(path).map_or("absent".to_owned(), Node::to_string);
            if self.0.get(path) != other.0.get(path) {
                lines.push(format!("{path}\n    left:  {}\n    right: {}", show(self), show(other)));
            }
        }
        let (shown, n) = (lines.iter().take(40).cloned().collect::<Vec<_>>().join("\n"), lines.len());
        assert!(lines.is_empty(), "{n} paths differ:\n{shown}");
    }
}

fn dev(part: std::io::Result<Option<u32>>) -> u32 {
    part.ok().flatten().unwrap_or(0)
}

/// `./a/b/` → `a/b`.
fn clean(path: &str) -> String {
    let parts: Vec<&str> = path.split('/').filter(|p| !p.is_empty() && *p != ".").collect();
    if parts.is_empty() { ".".to_owned() } else { parts.join("/") }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn digest(mut reader: impl Read) -> String {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match reader.read(&mut buffer).expect("read content") {
            0 => return hex(&hash.finalize()),
            n => hash.update(&buffer[..n]),
        }
    }
}

/// The extended attributes that belong in an image, without those of SELinux and overlayfs.
fn xattrs(path: &Path) -> BTreeMap<String, String> {
    let mut names = vec![0_u8; 64 << 10];
    let Ok(len) = rustix::fs::llistxattr(path, &mut names[..]) else { return BTreeMap::new() };
    let mut found = BTreeMap::new();
    for name in names[..len].split(|&b| b == 0).filter(|n| !n.is_empty()) {
        let text = String::from_utf8_lossy(name).into_owned();
        if text == "security.selinux" || text.contains("overlay.") {
            continue;
        }
        let mut value = vec![0_u8; 64 << 10];
        let Ok(len) = rustix::fs::lgetxattr(path, text.as_str(), &mut value[..]) else { continue };
        found.insert(text, hex(&value[..len]));
    }
    found
}
