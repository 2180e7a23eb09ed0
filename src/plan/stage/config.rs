//! Instructions that change only the image config (I-1…I-14), and WORKDIR.

use crate::dockerfile::ast::{Arg, Command, HealthTest, Healthcheck, Pairs, Volume};
use crate::dockerfile::expand::expand_words;
use crate::dockerfile::{Diagnostic, Instruction, Spanned, Word, lint};
use crate::oci::config::{self, Empty};

use super::planner::StagePlanner;
use crate::plan::outline::ParameterKind;
use crate::plan::step::{StepKind, Workdir};
use crate::plan::{gotext, lints, paths, ports, signal};

/// Runs the shell form if neither the base image nor SHELL sets a shell.
const DEFAULT_SHELL: [&str; 2] = ["/bin/sh", "-c"];

impl StagePlanner<'_, '_> {
    /// Applies an instruction to the config; WORKDIR also adds a step.
    pub(super) fn configure(&mut self, instruction: &Instruction) {
        match instruction {
            Instruction::Arg(arg) => self.arg(arg),
            Instruction::Env(pairs) => self.env(pairs),
            Instruction::Label(pairs) => self.label(pairs),
            Instruction::Cmd(command) => self.cmd(command),
            Instruction::Entrypoint(command) => self.entrypoint(command),
            Instruction::Expose(words) => self.expose(words),
            Instruction::Healthcheck(check) => self.healthcheck(check),
            Instruction::Maintainer(who) => {
                self.state.config.author = Some(who.text.clone());
                self.history(format!("MAINTAINER {}", who.text), None);
            }
            // No history entry: BuildKit writes none.
            Instruction::Onbuild(onbuild) => {
                self.state.config.config.on_build.get_or_insert_default().push(onbuild.trigger.text.clone());
            }
            Instruction::Shell(words) => {
                let shell: Vec<String> = words.iter().map(|w| w.text.clone()).collect();
                self.history(format!("SHELL {}", gotext::list(&shell)), None);
                self.state.config.config.shell = Some(shell);
            }
            Instruction::StopSignal(word) => self.stop_signal(word),
            Instruction::User(word) => self.user(word),
            Instruction::Volume(volume) => self.volume(volume),
            Instruction::Workdir(word) => self.workdir(word),
            Instruction::Run(_) | Instruction::Copy(_) | Instruction::Add(_) => {}
        }
    }

    /// Sets the arguments one by one: each default sees those before it (V-12).
    fn arg(&mut self, arg: &Arg) {
        let mut texts = Vec::new();
        for item in &arg.items {
            let name = item.name.as_str();
            let given = self.draft.globals.given(name, self.draft.options);
            let value = match (given, &item.default) {
                (Some(given), _) => Some(given),
                (None, Some(default)) => match self.try_expand(default) {
                    Ok(value) => Some(value),
                    Err(problem) => {
                        self.report(problem.note(format!("in the default of ARG `{name}`")));
                        None
                    }
                },
                (None, None) => self.draft.globals.get(name).map(str::to_owned),
            };
            // Without a default it refers to the global ARG, whose comment describes it.
            if item.default.is_none() && self.draft.globals.is_declared(name) {
                self.draft.inherited.insert(name.to_owned());
            } else {
                let description = item.description.clone();
                self.add_parameter(name, ParameterKind::Arg { value: value.clone(), description });
            }
            let hides = |value: &String| self.state.scope.env(name).is_some_and(|env| env != value);
            if value.as_ref().is_some_and(hides) {
                self.report(lints::hidden_env(&item.name));
            }
            if self.current.trigger.is_some() {
                self.draft.triggered.insert(name.to_owned());
            }
            self.state.scope.set_arg(name, value.as_deref());
            texts.push(match value {
                Some(value) => format!("{name}={value}"),
                None => name.to_owned(),
            });
        }
        self.history(format!("ARG {}", texts.join(" ")), None);
    }

    /// Expands all names and values before any of them is set (V-12).
    fn pairs(&mut self, pairs: &Pairs) -> Vec<(String, String)> {
        let mut out = Vec::new();
        for (key, value) in &pairs.pairs {
            let (Some(name), Some(value)) = (self.expand(key), self.expand(value)) else { continue };
            if name.is_empty() {
                self.error(key.span, format!("the name is blank: `{key}` has no value"));
            }
            out.push((name, value));
        }
        out
    }

    fn env(&mut self, pairs: &Pairs) {
        self.current.sets = pairs.pairs.iter().map(|(name, _)| name.text.clone()).collect();
        let pairs = self.pairs(pairs);
        let text: String = pairs.iter().map(|(name, value)| format!(" {name}={value}")).collect();
        for (name, value) in &pairs {
            self.state.scope.set_env(name, value);
        }
        self.history(format!("ENV{text}"), None);
    }

    fn label(&mut self, pairs: &Pairs) {
        let pairs = self.pairs(pairs);
        let text: String = pairs.iter().map(|(name, value)| format!(" {name}={value}")).collect();
        self.state.config.config.labels.extend(pairs);
        self.history(format!("LABEL{text}"), None);
    }

    /// The argument vector of a command: the exec form as written, the shell form as a script for the shell.
    pub(super) fn argv(&self, command: &Command) -> Vec<String> {
        match command {
            Command::Exec(words) => words.iter().map(|w| w.text.clone()).collect(),
            Command::Shell(line) => self.with_shell(line.text.clone()),
        }
    }

    /// The argument vector that runs `script` in the stage's shell.
    pub(super) fn with_shell(&self, script: String) -> Vec<String> {
        let mut argv = match &self.state.config.config.shell {
            Some(shell) if !shell.is_empty() => shell.clone(),
            _ => DEFAULT_SHELL.map(str::to_owned).to_vec(),
        };
        argv.push(script);
        argv
    }

    /// Warns about a shell form, unless the file or the base image sets SHELL.
    fn check_shell_form(&mut self, keyword: &str, command: &Command) {
        if let Command::Shell(line) = command
            && self.state.config.config.shell.as_ref().is_none_or(Vec::is_empty)
        {
            let span = if line.text.is_empty() { self.current.span } else { line.span };
            self.report(lints::shell_form(keyword, span, &line.text));
        }
    }

    fn cmd(&mut self, command: &Command) {
        self.check_shell_form("CMD", command);
        let argv = self.argv(command);
        self.cmd_seen = true;
        self.history(format!("CMD {}", gotext::quoted_list(&argv)), None);
        self.state.config.config.args_escaped = true;
        self.state.config.config.cmd = Some(argv).filter(|argv| !argv.is_empty());
    }

    fn entrypoint(&mut self, command: &Command) {
        self.check_shell_form("ENTRYPOINT", command);
        let argv = self.argv(command);
        self.history(format!("ENTRYPOINT {}", gotext::quoted_list(&argv)), None);
        self.state.config.config.entrypoint = Some(argv).filter(|argv| !argv.is_empty());
        if !self.cmd_seen {
            self.state.config.config.cmd = None;
        }
    }

    /// Expansion may split a word into several ports (V-13).
    fn expose(&mut self, words: &[Word]) {
        let mut all = Vec::new();
        for word in words {
            let known = |name: &str| self.state.scope.get(name).map(str::to_owned);
            let expanded = match expand_words(word, self.current.escape, &known) {
                Ok(expanded) => expanded,
                Err(problem) => {
                    self.report(*problem);
                    continue;
                }
            };
            // No UndefinedVar here: BuildKit does not check ports.
            self.note_unset(&expanded.unset);
            if let Err(problem) = self.spend(expanded.text.len()) {
                return self.report(*problem);
            }
            if !word.is_plain() {
                let lints = expanded.words.iter().flat_map(|port| lint::expose(port, word.span));
                lints.collect::<Vec<_>>().into_iter().for_each(|lint| self.report(lint));
            }
            for port in &expanded.words {
                match ports::parse(port) {
                    Ok(ports) => all.extend(ports),
                    Err(why) => self.error(word.span, why),
                }
            }
        }
        all.sort();
        self.history(format!("EXPOSE {}", gotext::list(&all)), None);
        self.state.config.config.exposed_ports.extend(all.into_iter().map(|port| (port, Empty {})));
    }

    fn healthcheck(&mut self, check: &Healthcheck) {
        let check = match check {
            Healthcheck::None => config::Healthcheck { test: vec!["NONE".to_owned()], ..Default::default() },
            Healthcheck::Test(test) => health_test(test),
        };
        self.history(format!("HEALTHCHECK {}", gotext::healthcheck(&check)), None);
        self.state.config.config.healthcheck = Some(check);
    }

    fn stop_signal(&mut self, word: &Word) {
        let Some(text) = self.expand(word) else { return };
        if !signal::is_valid(&text) {
            let upper = text.to_ascii_uppercase();
            let problem = Diagnostic::error(word.span, format!("unknown signal `{text}`"));
            let full: Vec<String> = signal::names().map(|name| format!("SIG{name}")).collect();
            self.report(match upper.starts_with("SIG") {
                true => problem.suggest(&upper, full.iter().map(String::as_str)),
                false => problem.suggest(&upper, signal::names()),
            });
        }
        self.history(format!("STOPSIGNAL {text}"), None);
        self.state.config.config.stop_signal = text;
    }

    fn user(&mut self, word: &Word) {
        // An empty value means root (N-22).
        let Some(user) = self.expand(word) else { return };
        self.history(format!("USER {user}"), None);
        self.state.config.config.user = user;
    }

    fn volume(&mut self, volume: &Volume) {
        let mut paths = Vec::new();
        for word in &volume.paths {
            match self.expand(word) {
                Some(path) if path.is_empty() => self.error(word.span, "a volume's path is empty"),
                Some(path) => paths.push(path),
                None => {}
            }
        }
        self.history(format!("VOLUME {}", gotext::list(&paths)), None);
        self.state.config.config.volumes.extend(paths.into_iter().map(|path| (path, Empty {})));
    }

    /// Always makes a layer, except for `/`, which always exists (I-7).
    fn workdir(&mut self, word: &Word) {
        let Some(text) = self.expand(word) else { return };
        if !self.state.workdir_seen && !text.starts_with('/') {
            self.report(lints::relative_workdir(&text, word.span));
        }
        self.state.workdir_seen = true;
        let dir = paths::workdir(&self.state.config.config.working_dir, &text);
        self.state.config.config.working_dir.clone_from(&dir);
        let name = self.next_name();
        let layer = (dir != "/").then(|| {
            let (path, user) = (paths::join("/", &dir), self.state.config.config.user.clone());
            self.push(StepKind::Workdir(Workdir { path, user }), [], name)
        });
        self.history(format!("WORKDIR {dir}"), layer);
    }

    /// The expanded value of a flag; `None` if it is absent or empty.
    pub(super) fn flag(&mut self, word: Option<&Word>) -> Option<String> {
        self.expand(word?).filter(|text| !text.is_empty())
    }
}

fn health_test(test: &HealthTest) -> config::Healthcheck {
    let nanos = |duration: &Option<Spanned<std::time::Duration>>| {
        duration.map_or(0, |d| i64::try_from(d.node.as_nanos()).unwrap_or(i64::MAX))
    };
    let words = match &test.command {
        Command::Shell(line) => vec!["CMD-SHELL".to_owned(), line.text.clone()],
        Command::Exec(words) => std::iter::once("CMD".to_owned()).chain(words.iter().map(|w| w.text.clone())).collect(),
    };
    config::Healthcheck {
        test: words,
        interval: nanos(&test.interval),
        timeout: nanos(&test.timeout),
        start_period: nanos(&test.start_period),
        start_interval: nanos(&test.start_interval),
        retries: test.retries.map_or(0, |r| i64::from(r.node)),
    }
}
