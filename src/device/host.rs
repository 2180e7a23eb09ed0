//! The devices of this host: all that the files in some directories describe.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::base::fs;
use crate::plan::DeviceName;
use crate::plan::device::Pick;

use super::refusal::Refusal;
use super::spec::{self, HostDevice, SpecError};

/// The directories of CDI files; later ones override earlier ones.
pub(crate) const SPEC_DIRS: [&str; 2] = ["/etc/cdi", "/var/run/cdi"];

/// The annotation with the class of a device.
const CLASS: &str = "org.mobyproject.buildkit.device.class";
/// A device with this annotation needs no permission.
const AUTO_ALLOW: &str = "org.mobyproject.buildkit.device.autoallow";

/// The devices that the files of `dirs` describe, each by its name or with the reason why it cannot be used; and the files
/// that cannot be read.
pub(crate) fn described(dirs: &[PathBuf]) -> (Vec<Result<String, String>>, Vec<String>) {
    let host = Host::read(dirs);
    let of = |device: &Arc<HostDevice>| {
        let name = DeviceName::parse(&device.name)?;
        host.check(&name, &[device], true, |_| true).map(|()| device.name.clone()).map_err(|why| why.to_string())
    };
    (host.devices.values().map(of).collect(), host.unread.iter().map(ToString::to_string).collect())
}

/// The devices of all files.
pub(super) struct Host {
    pub(super) devices: BTreeMap<String, Arc<HostDevice>>,
    pub(super) unread: Vec<SpecError>,
    dirs: String,
}

impl Host {
    pub(super) fn read(dirs: &[PathBuf]) -> Self {
        let mut devices: BTreeMap<String, Arc<HostDevice>> = BTreeMap::new();
        let mut unread = Vec::new();
        for dir in dirs {
            let mut here: BTreeMap<String, HostDevice> = BTreeMap::new();
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

    /// The devices that `name` selects, sorted.
    pub(super) fn find(&self, name: &DeviceName) -> Vec<&Arc<HostDevice>> {
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

    /// Checks that a command can have `devices`, which `name` selected, and may.
    pub(super) fn check(
        &self,
        name: &DeviceName,
        devices: &[&Arc<HostDevice>],
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

    /// Why a device is missing.
    pub(super) fn reason_missing(&self) -> String {
        let unread: String = self.unread.iter().map(|error| format!("; {error}")).collect();
        format!("no file in {} describes it{unread}", self.dirs)
    }
}

fn add(here: &mut BTreeMap<String, HostDevice>, device: HostDevice) {
    match here.get_mut(&device.name) {
        Some(before) => before.also = Some(device.file),
        None => drop(here.insert(device.name.clone(), device)),
    }
}

/// The CDI files of `dir`.
pub(super) fn files(dir: &Path, unread: &mut Vec<SpecError>) -> Vec<PathBuf> {
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

/// Whether Go's `ParseBool` reads `text` as true.
fn is_true(text: &str) -> bool {
    ["1", "t", "T", "true", "TRUE", "True"].contains(&text)
}
