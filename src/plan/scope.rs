//! The variables of a stage: ENV and ARG share one scope, and the last writer wins (V-14).

use std::collections::BTreeMap;

/// An ARG may set these, but they are never exported to a RUN.
pub(super) const NEVER_EXPORTED: [&str; 2] = ["BUILDKIT_SBOM_SCAN_CONTEXT", "BUILDKIT_SBOM_SCAN_STAGE"];

/// The variables of one stage so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Scope {
    /// The image's environment, in order of first definition.
    env: Vec<(String, String)>,
    /// Declared arguments, in order of first declaration, with their value if they have one.
    args: Vec<(String, Option<String>)>,
    /// By name, the last writer and its position in `env` or `args`.
    seen: BTreeMap<String, Writer>,
    /// By name, the position in `env`, whoever wrote last.
    env_at: BTreeMap<String, usize>,
    /// By name, the position in `args`, whoever wrote last.
    arg_at: BTreeMap<String, usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Writer {
    Env(usize),
    Arg(usize),
}

impl Scope {
    /// The value of `$name`.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        match *self.seen.get(name)? {
            Writer::Env(at) => Some(&self.env[at].1),
            Writer::Arg(at) => self.args[at].1.as_deref(),
        }
    }

    /// The names that have a value.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.seen.keys().map(String::as_str)
    }

    /// Whether an ARG declares `name`, with or without a value.
    pub(super) fn is_declared(&self, name: &str) -> bool {
        self.arg_at.contains_key(name)
    }

    /// Sets a variable by ENV or from the base image's config.
    pub(super) fn set_env(&mut self, name: &str, value: &str) {
        let at = match self.env_at.get(name) {
            Some(&at) => {
                value.clone_into(&mut self.env[at].1);
                at
            }
            None => {
                self.env.push((name.to_owned(), value.to_owned()));
                self.env_at.insert(name.to_owned(), self.env.len() - 1);
                self.env.len() - 1
            }
        };
        self.seen.insert(name.to_owned(), Writer::Env(at));
    }

    /// Sets an argument by ARG. Without a value, the name is only declared.
    pub(super) fn set_arg(&mut self, name: &str, value: Option<&str>) {
        let at = match self.arg_at.get(name) {
            Some(&at) => at,
            None => {
                self.args.push((name.to_owned(), None));
                self.arg_at.insert(name.to_owned(), self.args.len() - 1);
                self.args.len() - 1
            }
        };
        if let Some(value) = value {
            self.args[at].1 = Some(value.to_owned());
            if !NEVER_EXPORTED.contains(&name) {
                self.seen.insert(name.to_owned(), Writer::Arg(at));
            }
        }
    }

    /// The scope of a stage that starts from this one: the same, but ENV wins over ARG again.
    pub(super) fn inherited(&self) -> Self {
        let mut scope = self.clone();
        for (at, (name, _)) in self.env.iter().enumerate() {
            scope.seen.insert(name.clone(), Writer::Env(at));
        }
        scope
    }

    /// The environment for the image config.
    pub(super) fn config_env(&self) -> Vec<String> {
        self.env.iter().map(|(name, value)| format!("{name}={value}")).collect()
    }

    /// The environment for a process: without the names that an ARG hides.
    pub(super) fn process_env(&self) -> Vec<(String, String)> {
        let visible = |(at, (name, _)): &(usize, &(String, String))| self.seen.get(name) == Some(&Writer::Env(*at));
        self.env.iter().enumerate().filter(visible).map(|(_, pair)| pair.clone()).collect()
    }

    /// The arguments visible to a process, in order of declaration.
    pub(super) fn process_args(&self) -> Vec<(String, String)> {
        let mut out = Vec::new();
        for (at, (name, value)) in self.args.iter().enumerate() {
            if let (Some(value), Some(Writer::Arg(seen))) = (value, self.seen.get(name))
                && *seen == at
            {
                out.push((name.clone(), value.clone()));
            }
        }
        out
    }

    /// Every declared argument with the current value of its name: the `|N k=v` in the history of a RUN (I-14).
    pub(super) fn history_args(&self) -> Vec<String> {
        self.args
            .iter()
            .map(|(name, value)| format!("{name}={}", self.get(name).or(value.as_deref()).unwrap_or_default()))
            .collect()
    }

    /// The size of all names and values in bytes.
    pub(super) fn size(&self) -> usize {
        let args = self.args.iter().map(|(name, value)| name.len() + value.as_ref().map_or(0, String::len));
        self.env.iter().map(|(name, value)| name.len() + value.len()).chain(args).sum()
    }

    /// The value that ENV gives to a name, even if an ARG hides it.
    pub(super) fn env(&self, name: &str) -> Option<&str> {
        self.env_at.get(name).map(|at| self.env[*at].1.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
        list.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
    }

    #[test]
    fn last_writer_of_a_variable_wins() {
        // V-14
        let mut scope = Scope::default();
        scope.set_env("A", "env");
        scope.set_arg("A", Some("arg"));
        assert_eq!(scope.get("A"), Some("arg"));
        assert_eq!(scope.process_env(), []);
        assert_eq!(scope.process_args(), pairs(&[("A", "arg")]));
        assert_eq!(scope.config_env(), ["A=env"]);
        assert_eq!(scope.env("A"), Some("env"));
        scope.set_env("A", "again");
        assert_eq!(scope.get("A"), Some("again"));
        assert_eq!(scope.process_env(), pairs(&[("A", "again")]));
        assert_eq!(scope.process_args(), []);
        assert_eq!(scope.history_args(), ["A=again"]);
    }

    #[test]
    fn argument_without_value_hides_nothing() {
        //
        let mut scope = Scope::default();
        scope.set_env("A", "env");
        scope.set_arg("A", None);
        scope.set_arg("B", None);
        assert_eq!(scope.get("A"), Some("env"));
        assert!(scope.is_declared("B") && scope.get("B").is_none());
        assert_eq!(scope.history_args(), ["A=env", "B="]);
        assert_eq!(scope.process_args(), []);
    }

    #[test]
    fn child_stage_sees_env_before_inherited_arguments() {
        // F-3
        let mut scope = Scope::default();
        scope.set_env("A", "env");
        scope.set_arg("A", Some("arg"));
        scope.set_arg("B", Some("b"));
        let child = scope.inherited();
        assert_eq!(child.get("A"), Some("env"));
        assert_eq!(child.get("B"), Some("b"));
    }

    #[test]
    fn scan_arguments_are_never_exported() {
        //
        let mut scope = Scope::default();
        scope.set_arg("BUILDKIT_SBOM_SCAN_STAGE", Some("true"));
        assert_eq!(scope.process_args(), []);
        assert_eq!(scope.get("BUILDKIT_SBOM_SCAN_STAGE"), None);
    }
}
