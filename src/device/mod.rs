//! Devices of the host for `RUN --device`, as Container Device Interface files describe them (R-10, O-22).
//!
//! **Holds.** [`Devices`]: for every name a plan asks for, the devices that are meant and what they change about a
//! command. `spec` reads one file; this module reads the directories, chooses and permits.
//! **Order.** Files are read only if the plan asks for a device, once, before any step is looked up. Of two devices of
//! one name that of the later directory counts; two in one directory are nobody's.
//! **Not here.** The device nodes themselves: the sandbox opens them when the command starts.
//!
//! A step's key holds the names of the devices it gets, as BuildKit's does, not what their files say: the same driver
//! lies elsewhere on every host. An optional device that is missing is not in the key, so a command that ran without it
//! runs again once it is there.

mod spec;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::base::fs;
use crate::plan::device::Pick;
use crate::plan::{Device, DeviceName, Plan, StepId, StepKind};
use crate::sandbox::Spec;

use spec::{Edits, SpecError};

/// Where files are looked for, the last counting most.
pub const SPEC_DIRS: [&str; 2] = ["/etc/cdi", "/var/run/cdi"];

/// What the class of a device is called in its annotations.
const CLASS: &str = "org.mobyproject.buildkit.device.class";
/// Annotated so, a device needs no permission.
const AUTO_ALLOW: &str = "org.mobyproject.buildkit.device.autoallow";

/// What commands may have: `--allow device`, `--allow device=NAME`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grants {
    /// Every device.
    pub all: bool,
    /// These.
    pub names: Vec<DeviceName>,
}

/// Why a command cannot have a device.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// It is required, and no file describes it.
    #[error("this host has no device {device}: no file in {dirs} describes it")]
    Missing {
        /// As asked for.
        device: String,
        /// Where files were looked for.
        dirs: String,
        /// Files that could not be read; one of them may describe it.
        unread: Vec<String>,
    },
    /// Nobody allowed it.
    #[error("RUN --device={asked} is not allowed in this build")]
    Forbidden {
        /// As asked for.
        asked: String,
        /// What it stands for.
        device: String,
    },
    /// Two files of one directory describe it.
    #[error("device {device} is described twice: by {} and {}", files.0.display(), files.1.display())]
    Ambiguous {
        /// Which.
        device: String,
        /// The files.
        files: (PathBuf, PathBuf),
    },
    /// It asks for something that kiln does not do.
    #[error("device {device}, described by {}: {why}", file.display())]
    Unusable {
        /// Which.
        device: String,
        /// The file.
        file: PathBuf,
        /// What it asks for.
        why: String,
    },
}

/// A refusal, and whom it concerns.
#[derive(Debug)]
pub struct Refused {
    /// The RUN.
    pub step: StepId,
    /// The device, as the Dockerfile names it.
    pub device: DeviceName,
    /// Why.
    pub why: Refusal,
}

/// The devices that a plan's commands get.
#[derive(Debug, Default)]
pub struct Devices {
    found: BTreeMap<DeviceName, Vec<Arc<Found>>>,
    /// Why nothing was found, for those who can do without.
    without: String,
}

/// One device of the host.
#[derive(Debug)]
struct Found {
    /// `vendor.com/class=name`.
    name: String,
    kind: String,
    annotations: BTreeMap<String, String>,
    file: PathBuf,
    /// What its file says of all its devices, then of this one. Err: what cannot be done.
    edits: Result<[Arc<Edits>; 2], String>,
    /// The other file of the same directory that describes it.
    also: Option<PathBuf>,
}

impl Devices {
    /// Looks for the devices that `plan` asks for in the files of `dirs`. Ok: every command can have those it asks for,
    /// and may; one that is missing is not required. Err: all that are not so.
    pub fn find(plan: &Plan, dirs: &[PathBuf], grants: &Grants) -> Result<Self, Vec<Refused>> {
        let asked: Vec<(StepId, &Device)> = plan
            .steps
            .iter()
            .filter_map(|step| match &step.kind {
                StepKind::Run(run) => Some((step.id, run)),
                _ => None,
            })
            .flat_map(|(step, run)| run.devices.iter().map(move |device| (step, device)))
            .collect();
        if asked.is_empty() {
            return Ok(Self::default());
        }
        let host = Host::read(dirs);
        let granted: BTreeSet<&str> =
            grants.names.iter().flat_map(|name| host.find(name)).map(|d| d.name.as_str()).collect();
        let mut refused = Vec::new();
        let mut found = BTreeMap::new();
        for (step, Device { name, required }) in asked {
            let devices = host.find(name);
            if let Err(why) = host.judge(name, &devices, *required, |device| grants.all || granted.contains(device)) {
                refused.push(Refused { step, device: name.clone(), why });
            }
            found.insert(name.clone(), devices.into_iter().cloned().collect());
        }
        match refused.is_empty() {
            true => Ok(Self { found, without: host.nothing() }),
            false => Err(refused),
        }
    }

    /// Looks for the devices `names`, asked for by whoever may have them. Ok: all are there.
    pub fn named(names: &[DeviceName], dirs: &[PathBuf]) -> Result<Self, Refusal> {
        if names.is_empty() {
            return Ok(Self::default());
        }
        let host = Host::read(dirs);
        let mut found = BTreeMap::new();
        for name in names {
            let devices = host.find(name);
            host.judge(name, &devices, true, |_| true)?;
            found.insert(name.clone(), devices.into_iter().cloned().collect());
        }
        Ok(Self { found, without: host.nothing() })
    }

    /// The names of the devices that `asked` stands for, in order, each once.
    pub(super) fn names<'d>(&'d self, asked: &[Device]) -> Vec<&'d str> {
        self.of(asked).map(|device| device.name.as_str()).collect()
    }

    /// Gives `spec` the devices `asked`. The result is what it does not get as asked for: what, and why.
    pub fn add(&self, asked: &[Device], spec: &mut Spec) -> Vec<(String, String)> {
        let mut notes = Vec::new();
        for device in asked {
            if self.found.get(&device.name).is_none_or(Vec::is_empty) {
                notes.push((format!("without device {}", device.name), self.without.clone()));
            }
        }
        // What a file says of all its devices holds once, however many of them a command gets.
        let mut applied: Vec<&Arc<Edits>> = Vec::new();
        for device in self.of(asked) {
            for edits in device.edits.iter().flatten() {
                if !applied.iter().any(|before| Arc::ptr_eq(before, edits)) {
                    applied.push(edits);
                    edits.apply(spec);
                    notes.extend(edits.notes.iter().map(|note| (format!("device {}", device.name), note.clone())));
                }
            }
        }
        notes
    }

    fn of(&self, asked: &[Device]) -> impl Iterator<Item = &Arc<Found>> {
        let mut seen = BTreeSet::new();
        let all = asked.iter().filter_map(|device| self.found.get(&device.name)).flatten();
        all.filter(move |device| seen.insert(device.name.as_str()))
    }
}

/// What the files of `dirs` describe: the name of each device, or why it cannot be had; and files that cannot be read.
pub fn described(dirs: &[PathBuf]) -> (Vec<Result<String, String>>, Vec<String>) {
    let host = Host::read(dirs);
    let of = |device: &Arc<Found>| {
        let name = DeviceName::parse(&device.name)?;
        host.judge(&name, &[device], true, |_| true).map(|()| device.name.clone()).map_err(|why| why.to_string())
    };
    (host.devices.values().map(of).collect(), host.unread.iter().map(ToString::to_string).collect())
}

/// What all files say.
struct Host {
    devices: BTreeMap<String, Arc<Found>>,
    unread: Vec<SpecError>,
    dirs: String,
}

impl Host {
    fn read(dirs: &[PathBuf]) -> Self {
        let mut devices: BTreeMap<String, Arc<Found>> = BTreeMap::new();
        let mut unread = Vec::new();
        for dir in dirs {
            let mut here: BTreeMap<String, Found> = BTreeMap::new();
            for file in files(dir, &mut unread) {
                match spec::read(&file) {
                    Ok(described) => described.into_iter().for_each(|device| add(&mut here, device)),
                    Err(error) => unread.push(error),
                }
            }
            devices.extend(here.into_iter().map(|(name, device)| (name, Arc::new(device))));
        }
        let dirs: Vec<String> = dirs.iter().map(|dir| dir.display().to_string()).collect();
        Self { devices, unread, dirs: dirs.join(" or ") }
    }

    /// What `name` stands for, sorted; nothing if there is none.
    fn find(&self, name: &DeviceName) -> Vec<&Arc<Found>> {
        let mut of_kind = self.devices.values().filter(|device| device.kind == name.kind);
        match &name.pick {
            Pick::First => of_kind.next().into_iter().collect(),
            Pick::All => of_kind.collect(),
            Pick::Named(short) => match self.devices.get(&name.to_string()) {
                Some(device) => vec![device],
                None => of_kind.filter(|device| device.annotations.get(CLASS) == Some(short)).collect(),
            },
        }
    }

    fn judge(
        &self,
        name: &DeviceName,
        devices: &[&Arc<Found>],
        required: bool,
        granted: impl Fn(&str) -> bool,
    ) -> Result<(), Refusal> {
        if devices.is_empty() && required {
            let unread = self.unread.iter().map(ToString::to_string).collect();
            return Err(Refusal::Missing { device: name.to_string(), dirs: self.dirs.clone(), unread });
        }
        for device in devices {
            let auto = device.annotations.get(AUTO_ALLOW).is_some_and(|value| is_true(value));
            if !auto && !granted(&device.name) {
                return Err(Refusal::Forbidden { asked: name.to_string(), device: device.name.clone() });
            }
            if let Some(also) = &device.also {
                let files = (device.file.clone(), also.clone());
                return Err(Refusal::Ambiguous { device: device.name.clone(), files });
            }
            if let Err(why) = &device.edits {
                let (device, file) = (device.name.clone(), device.file.clone());
                return Err(Refusal::Unusable { device, file, why: why.clone() });
            }
        }
        Ok(())
    }

    /// Why a device is not there.
    fn nothing(&self) -> String {
        let unread: String = self.unread.iter().map(|error| format!("; {error}")).collect();
        format!("no file in {} describes it{unread}", self.dirs)
    }
}

fn add(here: &mut BTreeMap<String, Found>, device: Found) {
    match here.get_mut(&device.name) {
        Some(before) => before.also = Some(device.file),
        None => drop(here.insert(device.name.clone(), device)),
    }
}

/// The files of `dir` that may describe devices.
fn files(dir: &Path, unread: &mut Vec<SpecError>) -> Vec<PathBuf> {
    let is_spec = |path: &PathBuf| {
        path.extension().is_some_and(|extension| ["json", "yaml", "yml"].iter().any(|known| extension == *known))
    };
    match fs::list(dir) {
        Ok(names) => names.into_iter().map(|name| dir.join(name)).filter(is_spec).collect(),
        Err(error) => {
            unread.push(SpecError::Read(error));
            Vec::new()
        }
    }
}

/// What Go's `ParseBool` takes for true.
fn is_true(text: &str) -> bool {
    ["1", "t", "T", "true", "TRUE", "True"].contains(&text)
}
