//! The devices that commands get.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use crate::plan::{Device, DeviceName, Plan, StepId, StepKind};
use crate::sandbox::Spec;

use super::host::Host;
use super::refusal::{Refusal, Refused};
use super::spec::{Edits, HostDevice};

/// The devices that commands may have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Grants {
    /// Every device.
    pub all: bool,
    /// Devices with these names.
    pub names: Vec<DeviceName>,
}

/// The devices that the commands of a plan get.
#[derive(Debug, Default)]
pub(crate) struct Devices {
    found: BTreeMap<DeviceName, Vec<Arc<HostDevice>>>,
    /// Why an optional device is missing.
    missing: String,
}

impl Devices {
    /// Looks up the devices of `plan` in the files of `dirs`. Ok: every command can have the devices that it asks for, and
    /// may; missing ones are optional. Err: all devices for which that is not so.
    pub(crate) fn find(plan: &Plan, dirs: &[PathBuf], grants: &Grants) -> Result<Self, Vec<Refused>> {
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
            if let Err(why) = host.check(name, &devices, *required, |device| grants.all || granted.contains(device)) {
                refused.push(Refused { step, device: name.clone(), why });
            }
            found.insert(name.clone(), devices.into_iter().cloned().collect());
        }
        match refused.is_empty() {
            true => Ok(Self { found, missing: host.reason_missing() }),
            false => Err(refused),
        }
    }

    /// Looks up the devices `names`, which are permitted. Ok: all of them exist.
    pub(crate) fn named(names: &[DeviceName], dirs: &[PathBuf]) -> Result<Self, Refusal> {
        if names.is_empty() {
            return Ok(Self::default());
        }
        let host = Host::read(dirs);
        let mut found = BTreeMap::new();
        for name in names {
            let devices = host.find(name);
            host.check(name, &devices, true, |_| true)?;
            found.insert(name.clone(), devices.into_iter().cloned().collect());
        }
        Ok(Self { found, missing: host.reason_missing() })
    }

    /// The names of the devices that `asked` selects, in order, each once.
    pub(crate) fn names<'d>(&'d self, asked: &[Device]) -> Vec<&'d str> {
        self.of(asked).map(|device| device.name.as_str()).collect()
    }

    /// Adds the devices `asked` to `spec`. Returns what differs from what was asked for, and why.
    pub(crate) fn add(&self, asked: &[Device], spec: &mut Spec) -> Vec<(String, String)> {
        let mut notes = Vec::new();
        for device in asked {
            if self.found.get(&device.name).is_none_or(Vec::is_empty) {
                notes.push((format!("without device {}", device.name), self.missing.clone()));
            }
        }
        // The edits that a file has for all its devices apply once, however many of them a command gets.
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

    fn of(&self, asked: &[Device]) -> impl Iterator<Item = &Arc<HostDevice>> {
        let mut seen = BTreeSet::new();
        let all = asked.iter().filter_map(|device| self.found.get(&device.name)).flatten();
        all.filter(move |device| seen.insert(device.name.as_str()))
    }
}
