//! RUN: from the plan's words to a sandbox, and what it wrote.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};

use crate::base::fs::{self, FsError};
use crate::base::rooted::Root;
use crate::layer::Baseline;
use crate::plan::{Network, Run, Security, Step, StepId};
use crate::sandbox::{self, Rootfs, Spec};
use crate::snapshot::{Layers, Method, Prepared};

use super::builder::Message;
use super::chain::State;
use super::copied::{Copied, Original};
use super::event::Event;
use super::mounts::Held;
use super::worker::Worker;
use super::{Error, StepError};

/// How much of a failing command's last output its error repeats, in bytes.
const TAIL: usize = 8 << 10;

/// What a command that failed left: all it needs to run something else in its place.
pub(super) struct Remains {
    step: StepId,
    spec: Spec,
    _caches: Held,
}

/// A command that succeeded.
pub(super) struct Ran {
    /// Where its changes are.
    pub(super) prepared: Prepared,
    /// The root before, if it is a copy.
    pub(super) original: Option<Original>,
}

impl Worker<'_> {
    /// Runs the command. Ok: it exited with 0, every process it started is dead, and what was prepared holds its changes.
    pub(super) fn run(
        &self,
        step: &Step,
        run: &Run,
        inputs: &[Arc<State>],
        tell: &dyn Fn(Message),
    ) -> Result<Ran, StepError> {
        let parent = &inputs[0];
        let scratch = self.scratch_dir(step, "root")?;
        let (prepared, original) = prepare(parent, &self.layers, &scratch)?;
        let mut spec = self.spec(run, rootfs(&prepared, &self.usual_targets()?));
        let caches = self.mount(step, run, inputs, &mut spec, tell)?;
        for (what, why) in self.builder.devices.add(&run.devices, &mut spec) {
            tell(Message::Event(Event::Fallback { what, why }));
        }

        let mut tail = Tail::default();
        let mut output = |bytes: &[u8]| {
            tail.push(bytes);
            tell(Message::Event(Event::Output { step: step.id, bytes: bytes.to_vec() }));
        };
        if spec.network == sandbox::Network::Host && run.network == Network::Default {
            // Said once a build (S-76).
            let (what, why) = ("commands use the host's network", "--network none or private keeps them apart");
            tell(Message::Event(Event::Fallback { what: what.to_owned(), why: why.to_owned() }));
        }
        let copied = Copied::new(&prepared, original.as_ref())?;
        let watch = copied.as_ref().map(|copied| copied as &dyn sandbox::Watch);
        let options = sandbox::RunOptions { watch, ..Default::default() };
        let outcome = self.launcher.run_with(&spec, options, sandbox::Io::Captured(&mut output), self.stop);
        for fallback in outcome.iter().flat_map(|outcome| outcome.fallbacks.clone()) {
            let what = format!("without {}", fallback.feature);
            tell(Message::Event(Event::Fallback { what, why: fallback.cause }));
        }
        drop(copied);
        let (exit, noticed) = outcome.map_or_else(|e| (Err(e), None), |outcome| (Ok(outcome.exit), outcome.noticed));
        if !matches!(exit, Ok(exit) if exit.success()) && self.builder.on_failure.is_some() {
            self.leave(Remains { step: step.id, spec, _caches: caches });
        }
        match exit? {
            exit if exit.success() => Ok(Ran { prepared, original }),
            exit => {
                let tail = tail.into_bytes();
                let clues = Box::new(self.clues(run, parent, &prepared, exit, &tail));
                Err(StepError::Exit { exit, tail, noticed, clues })
            }
        }
    }

    fn spec(&self, run: &Run, rootfs: Rootfs) -> Spec {
        let settings = self.builder.settings;
        let mut spec = Spec::new(rootfs, run.argv.iter().map(OsString::from).collect());
        spec.env = run.environment().map(|(name, value)| (name.into(), value.into())).collect();
        spec.cwd = PathBuf::from(&run.cwd);
        spec.user = run.user.clone();
        spec.hostname = run.hostname.clone();
        spec.resolv_conf = Some(settings.resolv_conf.clone());
        spec.hosts = Some(hosts(&run.hostname, &settings.hosts));
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

    /// Keeps what the first command left that failed; what others leave is the consequence of that.
    fn leave(&self, remains: Remains) {
        let mut kept = self.remains.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.is_none() && !self.stop.is_cancelled() {
            *kept = Some(remains);
        }
    }

    /// Hands what a failed command left to whoever wants to look at it.
    pub(super) fn show_remains(&self) -> Result<(), Error> {
        let remains = self.remains.lock().unwrap_or_else(PoisonError::into_inner).take();
        let (Some(look), Some(mut remains)) = (self.builder.on_failure, remains) else { return Ok(()) };
        if let Rootfs::Overlay { work, stub, .. } = &mut remains.spec.rootfs {
            // Both are good for one mount.
            for dir in [&mut *work, stub] {
                dir.set_file_name(format!("{}-again", dir.file_name().unwrap_or_default().display()));
            }
            fs::create_dir(work, 0o755)?;
        }
        look(remains.step, &remains.spec);
        Ok(())
    }

    /// An empty directory of this step in scratch.
    pub(super) fn scratch_dir(&self, step: &Step, purpose: &str) -> Result<PathBuf, StepError> {
        let path = self.scratch()?.join(format!("{}-{purpose}", step.id.0));
        fs::create_dir(&path, 0o755)?;
        Ok(path)
    }
}

/// `/etc/hosts` of a command on the host `hostname`.
pub fn hosts(hostname: &str, others: &[(String, String)]) -> Vec<u8> {
    let mut text = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n".to_owned();
    for (name, address) in others.iter().map(|(n, a)| (n.as_str(), a.as_str())).chain([(hostname, "127.0.0.1")]) {
        text.push_str(&format!("{address}\t{name}\n"));
    }
    text.into_bytes()
}

/// A writable root over what `parent` left, in the empty directory `scratch`; and how it looks, if it is a copy.
pub(super) fn prepare(
    parent: &State,
    layers: &Layers<'_>,
    scratch: &Path,
) -> Result<(Prepared, Option<Original>), StepError> {
    match layers.method() {
        Method::Overlay { userxattr } => {
            let lowers = parent.lowers(layers)?;
            Ok((Prepared::overlay(lowers, parent.root(layers)?.as_deref(), scratch, userxattr)?, None))
        }
        Method::Copy => {
            let dirs = parent.directories(layers)?;
            let merged = parent.merged(layers)?;
            let prepared = Prepared::copy(&merged, &dirs, scratch)?;
            let root = prepared.changed();
            let baseline = Baseline::take(&Root::open(root).map_err(|e| FsError::new("open", root, e))?)?;
            Ok((prepared, Some(Original { layers: merged, baseline })))
        }
    }
}

/// What the sandbox mounts as its root; the directory `usual_targets` is the lowest layer of any number of them.
pub(super) fn rootfs(prepared: &Prepared, usual_targets: &Path) -> Rootfs {
    match prepared.clone() {
        Prepared::Overlay { mut lowers, upper, work, stub, userxattr } => {
            lowers.push(usual_targets.to_owned());
            Rootfs::Overlay { lowers, upper, work, stub, userxattr, volatile: true }
        }
        Prepared::Copy { root, .. } => Rootfs::Dir(root),
    }
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
