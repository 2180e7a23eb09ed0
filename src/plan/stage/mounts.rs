//! `RUN --mount` with its defaults filled in (M-1…M-21).

use crate::dockerfile::mount::{self, MountKind, MountSpec};
use crate::dockerfile::{Diagnostic, Span, ast};

use super::planner::StagePlanner;
use crate::plan::graph::mount_from;
use crate::plan::outline::ParameterKind;
use crate::plan::paths;
use crate::plan::step::{ContextName, CopyFrom, Mount, Sharing, StepId};

impl StagePlanner<'_, '_> {
    /// The mounts of a RUN, and the steps whose files they mount.
    pub(super) fn mounts(&mut self, run: &ast::Run) -> (Vec<Mount>, Vec<StepId>) {
        let mut mounts = Vec::new();
        let mut inputs = Vec::new();
        let mut sockets = 0;
        for mount in &run.mounts {
            let spec = match mount.resolve(&mut |word| self.try_expand(word)) {
                Ok(spec) => spec,
                Err(problems) => {
                    problems.into_iter().for_each(|problem| self.report(problem));
                    continue;
                }
            };
            let from = match spec.kind {
                MountKind::Bind | MountKind::Cache => self.mount_source(mount),
                MountKind::Tmpfs | MountKind::Secret | MountKind::Ssh => Ok(None),
            };
            let Ok(from) = from else { continue };
            if let Some((_, Some(step))) = &from {
                inputs.push(*step);
            }
            let from = from.map(|(from, _)| from);
            mounts.extend(self.mount(spec, from, &mut sockets, mount.span));
        }
        (mounts, inputs)
    }

    /// Where the files of a mount come from, and the step to wait for. Err: it was reported.
    fn mount_source(&mut self, mount: &mount::Mount) -> Result<Option<(CopyFrom, Option<StepId>)>, ()> {
        let Some(word) = mount_from(mount) else { return Ok(None) };
        let root = match self.draft.graph.from(word, self.index, false) {
            Ok(root) => root,
            Err(problem) => {
                self.report(*problem);
                return Err(());
            }
        };
        let mut meta = self.meta(format!("FROM {word}"));
        meta.span = word.span;
        self.draft.copy_from(&root, self.last, meta).map(Some).ok_or(())
    }

    fn mount(&mut self, spec: MountSpec, from: Option<CopyFrom>, sockets: &mut usize, span: Span) -> Option<Mount> {
        let source = paths::join("/", spec.source.as_deref().unwrap_or_default());
        let (uid, gid) = (spec.uid.unwrap_or(0), spec.gid.unwrap_or(0));
        let written = spec.target.clone();
        let required = spec.required;
        Some(match spec.kind {
            MountKind::Bind => Mount::Bind {
                target: self.mount_target(written.as_deref(), span)?,
                from: from.unwrap_or(CopyFrom::Context(ContextName::Main)),
                source,
                writable: !spec.read_only,
            },
            MountKind::Cache => {
                let target = self.mount_target(written.as_deref(), span)?;
                let id = spec.id.unwrap_or_else(|| target.clone());
                let namespace = self.draft.options.build_args.get("BUILDKIT_CACHE_MOUNT_NS");
                let id = match namespace.filter(|n| !n.is_empty()) {
                    Some(namespace) => format!("{namespace}/{id}"),
                    None => id,
                };
                let sharing = match spec.sharing {
                    None | Some(mount::Sharing::Shared) => Sharing::Shared,
                    Some(mount::Sharing::Private) => Sharing::Private,
                    Some(mount::Sharing::Locked) => Sharing::Locked,
                };
                let mode = spec.mode.unwrap_or(0o755);
                self.add_parameter(&id, ParameterKind::Cache);
                Mount::Cache { target, id, sharing, from, source, mode, uid, gid, read_only: spec.read_only }
            }
            MountKind::Tmpfs => {
                let target = self.mount_target(written.as_deref(), span)?;
                Mount::Tmpfs { target, size: spec.size, read_only: spec.read_only }
            }
            MountKind::Secret => {
                let base = |path: &str| path.rsplit('/').find(|p| !p.is_empty()).unwrap_or(path).to_owned();
                let id = spec.source.or(spec.id).or_else(|| written.as_deref().map(base)).unwrap_or_default();
                let target = match (&written, &spec.env) {
                    (Some(target), _) => Some(self.mount_target(Some(target), span)?),
                    (None, Some(_)) => None,
                    (None, None) => Some(format!("/run/secrets/{}", base(&id))),
                };
                self.add_parameter(&id, ParameterKind::Secret { required });
                Mount::Secret { id, target, env: spec.env, required, mode: spec.mode.unwrap_or(0o400), uid, gid }
            }
            MountKind::Ssh => {
                let target = match written {
                    Some(target) => self.mount_target(Some(&target), span)?,
                    None => format!("/run/buildkit/ssh_agent.{sockets}"),
                };
                *sockets += 1;
                let id = spec.id.unwrap_or_else(|| "default".to_owned());
                self.add_parameter(&id, ParameterKind::Ssh { required });
                Mount::Ssh { id, target, required, mode: spec.mode.unwrap_or(0o600), uid, gid }
            }
        })
    }

    /// Relative targets are below the working directory; no mount can cover `/` (M-2).
    fn mount_target(&mut self, target: Option<&str>, span: Span) -> Option<String> {
        let path = paths::join(&self.state.config.config.working_dir, target.unwrap_or_default());
        if path != "/" {
            return Some(path);
        }
        let message = match target {
            Some(target) => format!("a mount cannot cover `/` (target `{target}`)"),
            None => "a mount needs a target here: the working directory is `/`".to_owned(),
        };
        self.report(Diagnostic::error(span, message).hint("give target=/some/directory"));
        None
    }
}
