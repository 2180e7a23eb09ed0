//! Prints a plan as text, for `--print-plan` and the golden tests. The format may change between versions.

use std::fmt::{self, Display, Write};

use super::step::{Base, ContextName, Copy, CopyFrom, CopySource, ImageRequest, Mount, Network, Run, Security, Step};
use super::step::{Sharing, StepKind, Workdir};
use super::{Plan, PlannedStage};

impl Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "target {}", title(self.target_stage()))?;
        writeln!(f, "created {}{}", self.created, if self.clamp.is_some() { ", files clamped to it" } else { "" })?;
        for step in &self.steps {
            writeln!(f)?;
            write_step(f, step)?;
        }
        writeln!(f)?;
        write_stage(f, &self.image)
    }
}

fn title(stage: &PlannedStage) -> String {
    match &stage.name {
        Some(name) => format!("{} {name}", stage.index),
        None => stage.index.to_string(),
    }
}

fn write_step(f: &mut impl Write, step: &Step) -> fmt::Result {
    let inputs: Vec<String> = step.inputs.iter().map(ToString::to_string).collect();
    writeln!(f, "{} {}", step.id, step.meta.name)?;
    if !inputs.is_empty() {
        writeln!(f, "  inputs {}", inputs.join(" "))?;
    }
    if step.meta.no_cache {
        writeln!(f, "  no-cache")?;
    }
    if let Some(age) = step.meta.max_age {
        writeln!(f, "  max-age {}s", age.as_secs())?;
    }
    if let Some(origin) = &step.meta.origin {
        writeln!(f, "  origin {origin}")?;
    }
    match &step.kind {
        StepKind::Base(base) => write_base(f, base),
        StepKind::Run(run) => write_run(f, run),
        StepKind::Copy(copy) => write_copy(f, copy),
        StepKind::Workdir(Workdir { path, user }) => {
            writeln!(f, "  workdir {path:?}{}", if user.is_empty() { String::new() } else { format!(" for {user:?}") })
        }
    }
}

fn write_base(f: &mut impl Write, base: &Base) -> fmt::Result {
    match base {
        Base::Scratch => writeln!(f, "  base scratch"),
        Base::Image(image) => writeln!(f, "  base {}", request(image)),
        Base::Context(name) => writeln!(f, "  base {}", context(name)),
    }
}

fn request(image: &ImageRequest) -> String {
    format!("{} for {}", image.image, image.platform)
}

fn context(name: &ContextName) -> String {
    match name {
        ContextName::Main => "context".to_owned(),
        ContextName::Named(name) => format!("context {name:?}"),
    }
}

fn from(from: &CopyFrom) -> String {
    match from {
        CopyFrom::Context(name) => context(name),
        CopyFrom::Step(id) => id.to_string(),
    }
}

fn write_run(f: &mut impl Write, run: &Run) -> fmt::Result {
    writeln!(f, "  run {:?}", run.argv)?;
    for (kind, pairs) in [("env", &run.env), ("arg", &run.args), ("proxy", &run.proxy)] {
        for (name, value) in pairs {
            writeln!(f, "  {kind} {name}={value:?}")?;
        }
    }
    if !run.user.is_empty() {
        writeln!(f, "  user {:?}", run.user)?;
    }
    writeln!(f, "  in {:?} on {} as {}", run.cwd, run.platform, run.hostname)?;
    match run.network {
        Network::Default => {}
        Network::None => writeln!(f, "  network none")?,
        Network::Host => writeln!(f, "  network host")?,
    }
    if run.security == Security::Insecure {
        writeln!(f, "  security insecure")?;
    }
    for device in &run.devices {
        writeln!(f, "  device {}{}", device.name, if device.required { " required" } else { "" })?;
    }
    for file in &run.files {
        writeln!(f, "  file {:?} {:?}", file.path, file.content)?;
    }
    for mount in &run.mounts {
        writeln!(f, "  mount {}", describe(mount))?;
    }
    Ok(())
}

fn describe(mount: &Mount) -> String {
    match mount {
        Mount::Bind { target, from: whose, source, writable } => {
            let rw = if *writable { " rw" } else { "" };
            format!("bind {target:?} from {} {source:?}{rw}", from(whose))
        }
        Mount::Cache { target, id, sharing, from: seed, source, mode, uid, gid, read_only } => {
            let sharing = match sharing {
                Sharing::Shared => "shared",
                Sharing::Private => "private",
                Sharing::Locked => "locked",
            };
            let seed = seed.as_ref().map(|seed| format!(" from {} {source:?}", from(seed))).unwrap_or_default();
            let ro = if *read_only { " ro" } else { "" };
            format!("cache {target:?} id {id:?} {sharing}{seed} {mode:04o} {uid}:{gid}{ro}")
        }
        Mount::Tmpfs { target, size, read_only } => {
            let size = size.map(|size| format!(" {size} bytes")).unwrap_or_default();
            let ro = if *read_only { " ro" } else { "" };
            format!("tmpfs {target:?}{size}{ro}")
        }
        Mount::Secret { id, target, env, required, mode, uid, gid } => {
            let mut out = format!("secret {id:?}");
            if let Some(target) = target {
                out += &format!(" at {target:?} {mode:04o} {uid}:{gid}");
            }
            if let Some(env) = env {
                out += &format!(" in ${env}");
            }
            out + if *required { " required" } else { "" }
        }
        Mount::Ssh { id, target, required, mode, uid, gid } => {
            let required = if *required { " required" } else { "" };
            format!("ssh {id:?} at {target:?} {mode:04o} {uid}:{gid}{required}")
        }
    }
}

fn write_copy(f: &mut impl Write, copy: &Copy) -> fmt::Result {
    let dir = if copy.dest_is_dir { " (directory)" } else { "" };
    writeln!(f, "  {} from {} to {:?}{dir}", if copy.add { "add" } else { "copy" }, from(&copy.from), copy.dest)?;
    for source in &copy.sources {
        match source {
            CopySource::Path(path) => writeln!(f, "  path {path:?}")?,
            CopySource::Heredoc { name, content } => writeln!(f, "  heredoc {name:?} {content:?}")?,
            CopySource::Http(url) => writeln!(f, "  http {url:?}")?,
            CopySource::Git(url) => writeln!(f, "  git {url:?}")?,
        }
    }
    for (name, value) in [("chown", &copy.chown), ("chmod", &copy.chmod), ("checksum", &copy.checksum)] {
        if let Some(value) = value {
            writeln!(f, "  {name} {value:?}")?;
        }
    }
    for pattern in &copy.exclude {
        writeln!(f, "  exclude {pattern:?}")?;
    }
    for (name, on) in [("link", copy.link), ("parents", copy.parents), ("keep-git-dir", copy.keep_git_dir)] {
        if on {
            writeln!(f, "  {name}")?;
        }
    }
    match copy.unpack {
        Some(unpack) => writeln!(f, "  unpack {unpack}"),
        None => Ok(()),
    }
}

fn write_stage(f: &mut impl Write, stage: &PlannedStage) -> fmt::Result {
    writeln!(f, "stage {} for {}, ends with {}", title(stage), stage.platform, stage.last)?;
    if let Some(base) = &stage.base {
        writeln!(f, "  base {}", request(base))?;
    }
    if stage.config.platform != stage.platform {
        writeln!(f, "  config for {}", stage.config.platform)?;
    }
    if let Some(author) = &stage.config.author {
        writeln!(f, "  author {author:?}")?;
    }
    let config = serde_json::to_string_pretty(&stage.config.config).map_err(|_| fmt::Error)?;
    for line in format!("config {config}").lines() {
        writeln!(f, "  {line}")?;
    }
    for entry in &stage.history {
        let layer = entry.layer.map_or_else(|| "-".to_owned(), |id| id.to_string());
        let author = entry.author.as_ref().map(|a| format!(" by {a:?}")).unwrap_or_default();
        writeln!(f, "  history {layer} {:?}{author}", entry.created_by)?;
    }
    Ok(())
}
