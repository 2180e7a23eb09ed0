//! Plans RUN (R-1…R-16).

use crate::dockerfile::RunForm;
use crate::dockerfile::{Diagnostic, Entitlement, ast};

use super::planner::StagePlanner;
use crate::plan::device::{Device, DeviceName};
use crate::plan::step::{Mount, Network, Run, RunFile, Security, StepKind};
use crate::plan::{globals, paths};

/// Where heredoc scripts with a `#!` line are mounted (P-17).
const PIPES: &str = "/dev/pipes";

/// The default host name of a command.
const HOSTNAME: &str = "buildkitsandbox";

impl StagePlanner<'_, '_> {
    pub(super) fn run(&mut self, run: &ast::Run) {
        let (argv, files) = self.command(run);
        let (mounts, inputs) = self.mounts(run);
        let devices = self.devices(run);
        let network = self.network(run);
        let security = self.security(run);
        // Every RUN step holds a copy of the whole environment.
        if let Err(problem) = self.spend(self.state.scope.size()) {
            return self.report(*problem);
        }
        let history = self.run_history(&argv);
        let scope = &self.state.scope;
        let args = scope.process_args();
        let mut env = scope.process_env();
        // Programs find the first socket, unless SSH_AUTH_SOCK is already set (M-18).
        if let Some(socket) = mounts.iter().find_map(ssh_target)
            && scope.get("SSH_AUTH_SOCK").is_none()
        {
            env.push(("SSH_AUTH_SOCK".to_owned(), socket.to_owned()));
        }
        let build_args = &self.draft.options.build_args;
        let seen = |name: &str| env.iter().chain(&args).any(|(n, _)| n == name);
        let proxy = globals::proxies(build_args).into_iter().filter(|(name, _)| !seen(name)).collect();
        let hostname = build_args.get("BUILDKIT_SANDBOX_HOSTNAME").filter(|name| !name.is_empty());
        let config = &self.state.config.config;
        let step = Run {
            argv,
            args,
            proxy,
            user: config.user.clone(),
            cwd: paths::join("/", &config.working_dir),
            mounts,
            network,
            security,
            devices,
            files,
            hostname: hostname.cloned().unwrap_or_else(|| HOSTNAME.to_owned()),
            platform: self.state.platform.clone(),
            env,
        };
        let name = self.next_name();
        let step = self.push(StepKind::Run(step), inputs, name);
        self.history(history, Some(step));
    }

    /// The argument vector, and the scripts to mount for it.
    fn command(&mut self, run: &ast::Run) -> (Vec<String>, Vec<RunFile>) {
        let mut files = Vec::new();
        let argv = match run.form() {
            RunForm::Exec(words) => words.iter().map(|w| w.text.clone()).collect(),
            RunForm::Line(line) => self.with_shell(line.text.clone()),
            RunForm::Script(heredoc) => {
                let body = heredoc.body().text.clone();
                if let Some(first) = body.trim().lines().next() {
                    let more = if body.trim().lines().count() > 1 { "..." } else { "" };
                    self.current.text += &format!(" ({first}{more})");
                }
                if body.starts_with("#!") {
                    // The delimiter may contain slashes; the file is always directly below `PIPES`.
                    let name = heredoc.name.rsplit('/').next().unwrap_or_default();
                    let path = paths::join(PIPES, name);
                    files.push(RunFile { path: path.clone(), content: body });
                    // The shell runs the file, like any shell form.
                    self.with_shell(path)
                } else {
                    self.with_shell(body)
                }
            }
            RunForm::Fed(text) => self.with_shell(text),
        };
        (argv, files)
    }

    /// History text: `RUN |2 a=1 b=2 /bin/sh -c make # buildkit` (I-14).
    fn run_history(&self, argv: &[String]) -> String {
        let args = self.state.scope.history_args();
        let mut words = vec!["RUN".to_owned()];
        if !args.is_empty() {
            words.push(format!("|{}", args.len()));
            words.extend(args);
        }
        words.extend_from_slice(argv);
        words.push("# buildkit".to_owned());
        words.join(" ")
    }

    /// Device names are not expanded, as in BuildKit. Whether the host has the devices and they are granted is checked
    /// when the plan runs.
    fn devices(&mut self, run: &ast::Run) -> Vec<Device> {
        let mut devices = Vec::new();
        for device in &run.devices {
            match DeviceName::parse(&device.name.text) {
                Ok(name) => devices.push(Device { name, required: device.required }),
                Err(why) => {
                    let problem = Diagnostic::error(device.name.span, why);
                    self.report(problem.hint("write --device=VENDOR/CLASS=NAME; variables are not expanded here"));
                }
            }
        }
        devices
    }

    /// `default` means the network of the build; the host network must be allowed (A16).
    fn network(&mut self, run: &ast::Run) -> Network {
        let options = self.draft.options;
        match run.network.map(|n| n.node) {
            None | Some(ast::Network::Default) => options.network,
            Some(ast::Network::None) => Network::None,
            Some(ast::Network::Host) => {
                if !options.allow_host_network && options.network != Network::Host {
                    let span = run.network.map_or(self.current.span, |n| n.span);
                    let problem = Diagnostic::error(span, "RUN --network=host is not allowed in this build");
                    self.report(problem.needs(Entitlement::HostNetwork));
                }
                Network::Host
            }
        }
    }

    fn security(&mut self, run: &ast::Run) -> Security {
        match run.security.map(|s| s.node) {
            None | Some(ast::Security::Sandbox) => Security::Sandbox,
            Some(ast::Security::Insecure) => {
                if !self.draft.options.allow_insecure {
                    let span = run.security.map_or(self.current.span, |s| s.span);
                    let problem = Diagnostic::error(span, "RUN --security=insecure is not allowed in this build");
                    self.report(problem.needs(Entitlement::Insecure));
                }
                Security::Insecure
            }
        }
    }
}

fn ssh_target(mount: &Mount) -> Option<&str> {
    match mount {
        Mount::Ssh { target, .. } => Some(target),
        _ => None,
    }
}
