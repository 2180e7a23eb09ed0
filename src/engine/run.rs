//! Executes RUN: prepares a root, turns the plan into a sandbox spec, and runs the command.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use crate::base::fs;
use crate::plan::{Network, Run, Security, StepId};
use crate::sandbox::{self, Feature, Launcher, Rootfs, Spec};
use crate::snapshot::Prepared;

use super::copied_root::{Copied, Original};
use super::diagnosis;
use super::error::{Error, StepError};
use super::event::Event;
use super::message::Reporter;
use super::mounts::{self, MountGuard};
use super::root::{prepare, rootfs};
use super::settings::Settings;
use super::shared::Shared;
use super::task::Task;

/// How much of a failed command's output its error keeps, in bytes.
const TAIL: usize = 8 << 10;

/// A command that succeeded.
pub(super) struct Ran {
    /// The root with its changes.
    pub(super) prepared: Prepared,
    /// The root before the command, if it is a copy.
    pub(super) original: Option<Original>,
}

/// A command that failed, with everything needed to run another one in its place.
struct Failed {
    step: StepId,
    spec: Spec,
    _mounts: MountGuard,
}

/// Runs the commands of a build.
pub(super) struct Commands {
    launcher: Launcher,
    /// The first command that failed, kept for [`super::Builder::on_failure`].
    failed: Mutex<Option<Failed>>,
}

impl Commands {
    /// No command has run yet.
    pub(super) fn new() -> Self {
        Self { launcher: Launcher::new(), failed: Mutex::default() }
    }

    /// Runs a command. Ok: it exited with 0, every process it started is dead, and its root holds its changes.
    pub(super) fn run(
        &self,
        shared: &Shared<'_>,
        run: &Run,
        task: Task<'_>,
        reporter: &Reporter,
    ) -> Result<Ran, StepError> {
        let step = task.step;
        self.launcher.prepare();
        let (prepared, original) = prepare(task.parent(), shared.snapshots()?, &shared.scratch_dir(step, "root")?)?;
        let mut spec = spec(shared.builder.settings, run, rootfs(&prepared, &shared.usual_targets()?));
        let mounts = mounts::mount(shared, run, task, &mut spec, reporter)?;
        for (what, why) in shared.builder.devices.add(&run.devices, &mut spec) {
            reporter.fallback(what, why);
        }
        if spec.network == sandbox::Network::Host && run.network == Network::Default {
            reporter.event(Event::HostNetwork);
        }
        let mut tail = Tail::default();
        let mut output = |bytes: &[u8]| {
            tail.push(bytes);
            reporter.event(Event::Output { step: step.id, bytes: bytes.to_vec() });
        };
        let copied = Copied::new(&prepared, original.as_ref())?;
        let watch = copied.as_ref().map(|copied| copied as &dyn sandbox::Watch);
        let options = sandbox::RunOptions { watch, ..Default::default() };
        let outcome = self.launcher.run_with(&spec, options, sandbox::Io::Captured(&mut output), shared.stop);
        for fallback in outcome.iter().flat_map(|outcome| outcome.fallbacks.clone()) {
            match fallback.feature {
                Feature::Keystore(path) => reporter.event(Event::Keystore(path)),
                feature => reporter.fallback(format!("without {feature}"), fallback.cause),
            }
        }
        drop(copied);
        let (exit, noticed) = outcome.map_or_else(|e| (Err(e), None), |outcome| (Ok(outcome.exit), outcome.noticed));
        if !matches!(exit, Ok(exit) if exit.success()) && shared.builder.on_failure.is_some() {
            self.keep(shared, Failed { step: step.id, spec, _mounts: mounts });
        }
        match exit? {
            exit if exit.success() => Ok(Ran { prepared, original }),
            exit => {
                let tail = tail.into_bytes();
                let clues = Box::new(diagnosis::clues(shared, run, task.parent(), &prepared, exit, &tail));
                Err(StepError::Exit { exit, tail, noticed, clues })
            }
        }
    }

    /// Keeps the first command that failed; later failures are consequences of it.
    fn keep(&self, shared: &Shared<'_>, failed: Failed) {
        let mut kept = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.is_none() && !shared.stop.is_cancelled() {
            *kept = Some(failed);
        }
    }

    /// Calls [`super::Builder::on_failure`] with the command that failed first, if there is one.
    pub(super) fn show_failed(&self, shared: &Shared<'_>) -> Result<(), Error> {
        let failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner).take();
        let (Some(show), Some(mut failed)) = (shared.builder.on_failure, failed) else { return Ok(()) };
        if let Rootfs::Overlay { work, stub, .. } = &mut failed.spec.rootfs {
            // Overlayfs mounts neither a second time.
            for dir in [&mut *work, stub] {
                dir.set_file_name(format!("{}-again", dir.file_name().unwrap_or_default().display()));
            }
            fs::create_dir(work, 0o755)?;
        }
        show(failed.step, &failed.spec);
        Ok(())
    }
}

fn spec(settings: &Settings, run: &Run, rootfs: Rootfs) -> Spec {
    let mut spec = Spec::new(rootfs, run.argv.iter().map(OsString::from).collect());
    spec.env = run.environment().map(|(name, value)| (name.into(), value.into())).collect();
    spec.cwd = PathBuf::from(&run.cwd);
    spec.user = run.user.clone();
    spec.hostname = run.hostname.clone();
    spec.resolv_conf = Some(settings.resolv_conf.clone());
    spec.hosts = Some(hosts(&run.hostname, &settings.hosts));
    spec.authorities = settings
        .authorities
        .as_ref()
        .map(|authorities| sandbox::Authorities { given: authorities.pem(), otherwise: authorities.bundle().to_vec() });
    spec.network = match run.network {
        Network::Default => settings.network,
        Network::None => sandbox::Network::None,
        Network::Host => sandbox::Network::Host,
    };
    spec.security = match run.security {
        Security::Sandbox => sandbox::Security::Sandbox,
        Security::Insecure => sandbox::Security::Insecure,
    };
    spec.rlimits = settings.rlimits.clone();
    spec.resources = settings.resources.clone();
    spec.shm_size = settings.shm_size;
    spec
}

/// `/etc/hosts` of a command on the host `hostname`.
pub(crate) fn hosts(hostname: &str, others: &[(String, String)]) -> Vec<u8> {
    let mut text = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n".to_owned();
    for (name, address) in others.iter().map(|(n, a)| (n.as_str(), a.as_str())).chain([(hostname, "127.0.0.1")]) {
        text.push_str(&format!("{address}\t{name}\n"));
    }
    text.into_bytes()
}

/// The last bytes of a stream.
#[derive(Default)]
struct Tail(VecDeque<u8>);

impl Tail {
    fn push(&mut self, bytes: &[u8]) {
        let bytes = &bytes[bytes.len().saturating_sub(TAIL)..];
        let excess = (self.0.len() + bytes.len()).saturating_sub(TAIL);
        self.0.drain(..excess);
        self.0.extend(bytes);
    }

    fn into_bytes(self) -> Vec<u8> {
        self.0.into()
    }
}
