//! One file of the Container Device Interface: JSON, version 0.x or 1.x.
//!
//! A file that breaks the rules of the format describes nothing. One that asks for something that kiln does not support still
//! describes its devices, so that the error can say what is missing. An unknown field breaks the rules, because ignoring it
//! may be wrong.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::base::fs::{self, FsError};
use crate::plan::device::{check_kind, check_name};
use crate::sandbox::{Device, Mount, Source, Spec};

/// The largest file that is read, in bytes.
const LONGEST: u64 = 8 << 20;

/// Why a file describes nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum SpecError {
    /// It could not be read.
    #[error(transparent)]
    Read(#[from] FsError),
    /// It is not a valid CDI file.
    #[error("{}: {why}", path.display())]
    Wrong {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RawFile {
    cdi_version: String,
    kind: String,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
    #[serde(default)]
    devices: Vec<RawDevice>,
    #[serde(default)]
    container_edits: RawEdits,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RawDevice {
    name: String,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
    container_edits: RawEdits,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct RawEdits {
    env: Vec<String>,
    device_nodes: Vec<RawNode>,
    net_devices: Vec<IgnoredAny>,
    mounts: Vec<RawMount>,
    hooks: Vec<RawHook>,
    intel_rdt: Option<IgnoredAny>,
    #[serde(rename = "additionalGids")]
    additional_gids: Vec<u32>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RawNode {
    path: String,
    host_path: Option<String>,
    #[serde(default, rename = "type")]
    kind: String,
    major: Option<u32>,
    minor: Option<u32>,
    file_mode: Option<u32>,
    #[serde(default)]
    permissions: String,
    uid: Option<u32>,
    gid: Option<u32>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RawMount {
    host_path: String,
    container_path: String,
    #[serde(default)]
    options: Vec<String>,
    #[serde(default, rename = "type")]
    kind: String,
}

/// Only its name matters: hooks are not run.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawHook {
    hook_name: String,
}

/// One device of the host.
#[derive(Debug)]
pub(super) struct HostDevice {
    /// `vendor.com/class=name`.
    pub(super) name: String,
    pub(super) kind: String,
    pub(super) annotations: BTreeMap<String, String>,
    pub(super) file: PathBuf,
    /// The edits for all devices of the file, then those for this one. Err: what is not supported.
    pub(super) edits: Result<[Arc<Edits>; 2], String>,
    /// Another file of the same directory that describes it.
    pub(super) also: Option<PathBuf>,
}

/// What a device changes about a command.
#[derive(Debug, Default)]
pub(super) struct Edits {
    env: Vec<(String, String)>,
    nodes: Vec<Device>,
    mounts: Vec<Mount>,
    groups: Vec<u32>,
    /// What differs from the file.
    pub(super) notes: Vec<String>,
}

/// The devices that the file at `path` describes.
pub(super) fn read(path: &Path) -> Result<Vec<HostDevice>, SpecError> {
    let wrong = |why: String| SpecError::Wrong { path: path.to_owned(), why };
    if path.extension().is_none_or(|extension| extension != "json") {
        return Err(wrong("not a JSON file (kiln does not read CDI files in YAML)".to_owned()));
    }
    let bytes = contents(path)?;
    let file: RawFile = serde_json::from_slice(&bytes).map_err(|e| wrong(e.to_string()))?;
    let known = |version: &str| {
        let mut numbers = version.strip_prefix('v').unwrap_or(version).split('.').map(str::parse::<u32>);
        matches!(
            (numbers.next(), numbers.next(), numbers.next(), numbers.next()),
            (Some(Ok(0 | 1)), Some(Ok(_)), Some(Ok(_)), None)
        )
    };
    if !known(&file.cdi_version) {
        return Err(wrong(format!("cdiVersion {:?} is not known: want 0.x.y or 1.x.y", file.cdi_version)));
    }
    check_kind(&file.kind).map_err(|why| wrong(format!("kind: {why}")))?;
    if file.devices.is_empty() {
        return Err(wrong("it describes no device".to_owned()));
    }
    let common = edits(&file.container_edits).map(Arc::new);
    let mut found: Vec<HostDevice> = Vec::new();
    for device in &file.devices {
        check_name(&device.name).map_err(&wrong)?;
        let name = format!("{}={}", file.kind, device.name);
        if found.iter().any(|before| before.name == name) {
            return Err(wrong(format!("it describes device {:?} twice", device.name)));
        }
        let mut annotations = file.annotations.clone();
        annotations.extend(device.annotations.clone());
        let edits = match (&common, edits(&device.container_edits)) {
            (Ok(common), Ok(own)) => Ok([Arc::clone(common), Arc::new(own)]),
            (Err(why), _) => Err(why.clone()),
            (_, Err(why)) => Err(why),
        };
        let (kind, file) = (file.kind.clone(), path.to_owned());
        found.push(HostDevice { name, kind, annotations, file, edits, also: None });
    }
    Ok(found)
}

fn contents(path: &Path) -> Result<Vec<u8>, SpecError> {
    let wrong = |why: &str| SpecError::Wrong { path: path.to_owned(), why: why.to_owned() };
    // Checked before it is opened: opening a fifo would block.
    let found = std::fs::metadata(path).map_err(|e| FsError::new("open", path, e))?;
    if !found.is_file() {
        return Err(wrong("it is not a regular file"));
    }
    let mut bytes = Vec::new();
    fs::open(path)?.take(LONGEST + 1).read_to_end(&mut bytes).map_err(|e| FsError::new("read", path, e))?;
    match bytes.len() as u64 > LONGEST {
        true => Err(wrong("it is larger than 8 MiB")),
        false => Ok(bytes),
    }
}

/// The edits that `raw` asks for. Err: what is not supported.
fn edits(raw: &RawEdits) -> Result<Edits, String> {
    if let Some(hook) = raw.hooks.first() {
        return Err(format!("it needs a {} hook; kiln does not run hooks", hook.hook_name));
    }
    if raw.intel_rdt.is_some() {
        return Err("it needs an Intel RDT class (intelRdt), which kiln does not support".to_owned());
    }
    if !raw.net_devices.is_empty() {
        return Err("it needs network devices (netDevices), which kiln does not support".to_owned());
    }
    let mut edits = Edits::default();
    for variable in &raw.env {
        match variable.split_once('=') {
            Some((name, value)) if !name.is_empty() => edits.env.push((name.to_owned(), value.to_owned())),
            _ => return Err(format!("env {variable:?} is not NAME=VALUE")),
        }
    }
    for raw in &raw.device_nodes {
        edits.nodes.push(node(raw, &mut edits.notes)?);
    }
    for raw in &raw.mounts {
        edits.mounts.push(mount(raw)?);
    }
    // Parents before what is in them.
    edits.mounts.sort_by_key(|mount| mount.target.components().count());
    // Group 0 adds nothing, and other tools read it as "none".
    edits.groups = raw.additional_gids.iter().copied().filter(|gid| *gid != 0).collect();
    Ok(edits)
}

/// The command gets the host's own node: it must be the device that the file describes; other differences are noted.
fn node(raw: &RawNode, notes: &mut Vec<String>) -> Result<Device, String> {
    let RawNode { path, host_path, kind, major, minor, file_mode, permissions, uid, gid } = raw;
    let below = path.strip_prefix("/dev/").filter(|name| is_clean(name));
    let Some(name) = below else { return Err(format!("device node {path:?} is not a path below /dev")) };
    let host = host_path.as_deref().unwrap_or(path);
    if !host.starts_with('/') {
        return Err(format!("device node {path}: hostPath {host:?} is not absolute"));
    }
    if !["", "b", "c", "u"].contains(&kind.as_str()) {
        return Err(format!("device node {path}: unsupported type {kind:?}: want b, c or u"));
    }
    match permissions.as_str() {
        "" => {}
        rights if rights.chars().any(|right| !"rwm".contains(right)) => {
            return Err(format!("device node {path}: permissions {rights:?}: want letters of rwm"));
        }
        rights if rights.contains('r') && rights.contains('w') => {}
        rights => {
            return Err(format!(
                "device node {path}: permissions {rights:?}: kiln gives devices read and write permission only"
            ));
        }
    }
    // A missing node is an error when the command starts.
    if let Ok(found) = std::fs::metadata(host) {
        let block = found.file_type().is_block_device();
        let (has_major, has_minor) = (rustix::fs::major(found.rdev()), rustix::fs::minor(found.rdev()));
        let differs = !kind.is_empty() && block != (kind == "b")
            || major.is_some_and(|major| major != 0 && (major, minor.unwrap_or(0)) != (has_major, has_minor));
        if differs {
            let kind = if block { "b" } else { "c" };
            return Err(format!(
                "device node {path}: {host} of this host is {kind} {has_major}:{has_minor}, not the device described"
            ));
        }
        let (mode, of) = (found.mode() & 0o7777, (found.uid(), found.gid()));
        if file_mode.is_some_and(|wanted| wanted & 0o7777 != mode) || (uid.unwrap_or(of.0), gid.unwrap_or(of.1)) != of {
            notes.push(format!("{path} keeps mode {mode:04o} and owner {}:{} of the host", of.0, of.1));
        }
    }
    Ok(Device { host: host.into(), name: name.into(), required: true })
}

fn mount(raw: &RawMount) -> Result<Mount, String> {
    let RawMount { host_path, container_path: target, options, kind } = raw;
    if !["", "none", "bind"].contains(&kind.as_str()) {
        return Err(format!("mount {target}: unsupported type {kind:?}: want bind"));
    }
    if !target.strip_prefix('/').is_some_and(is_clean) {
        return Err(format!("mount {target:?}: containerPath is not an absolute path without `..`"));
    }
    if !host_path.starts_with('/') {
        return Err(format!("mount {target}: hostPath {host_path:?} is not absolute"));
    }
    let (mut readonly, mut nosuid, mut noexec) = (false, false, false);
    for option in options {
        match option.as_str() {
            "ro" => readonly = true,
            "rw" => readonly = false,
            "nosuid" => nosuid = true,
            "noexec" => noexec = true,
            // These hold for every mount, or have no effect in a mount namespace of its own.
            "bind" | "rbind" | "nodev" | "private" | "rprivate" | "slave" | "rslave" | "suid" | "exec" => {}
            other => return Err(format!("mount {target}: unsupported option {other:?}")),
        }
    }
    let source = Source::Driver { path: host_path.into(), nosuid, noexec };
    Ok(Mount { source, target: target.into(), readonly })
}

/// Whether a relative path has no empty, `.` or `..` components.
fn is_clean(path: &str) -> bool {
    !path.trim_end_matches('/').split('/').any(|part| matches!(part, "" | "." | ".."))
}

impl Edits {
    /// Applies the edits to `spec`; values of the same name, path or target are replaced.
    pub(super) fn apply(&self, spec: &mut Spec) {
        for (name, value) in &self.env {
            match spec.env.iter_mut().find(|(known, _)| known == name.as_str()) {
                Some((_, old)) => *old = value.into(),
                None => spec.env.push((name.into(), value.into())),
            }
        }
        for node in &self.nodes {
            spec.devices.retain(|known| known.name != node.name);
            spec.devices.push(node.clone());
        }
        for mount in &self.mounts {
            spec.mounts.retain(|known| known.target != mount.target);
            // Before mounts that it would cover.
            let inside = |known: &Mount| known.target.starts_with(&mount.target);
            let at = spec.mounts.iter().position(inside).unwrap_or(spec.mounts.len());
            spec.mounts.insert(at, mount.clone());
        }
        for gid in &self.groups {
            if !spec.extra_groups.contains(gid) {
                spec.extra_groups.push(*gid);
            }
        }
    }
}
