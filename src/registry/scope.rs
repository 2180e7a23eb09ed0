//! What a token gives access to, as token servers spell it.

/// What a token gives access to.
#[derive(Clone, Debug)]
pub(super) struct Scope {
    /// The registry, as references name it.
    pub(super) registry: String,
    /// The repository; empty for a login.
    pub(super) repository: String,
    /// `pull` or `pull,push`.
    pub(super) actions: &'static str,
    /// Another repository to pull from: the source of a mount.
    pub(super) also: Option<String>,
}

impl Scope {
    /// A login, which gives access to nothing.
    pub(super) fn of_login(registry: &str) -> Self {
        Self { registry: registry.to_owned(), repository: String::new(), actions: "", also: None }
    }

    /// As token servers spell it: one or two words.
    pub(super) fn text(&self) -> String {
        self.own().join(" ")
    }

    /// Whether it is for pushing.
    pub(super) fn writes(&self) -> bool {
        self.actions.contains("push")
    }

    fn own(&self) -> Vec<String> {
        let own = format!("repository:{}:{}", self.repository, self.actions);
        let other = self.also.as_ref().map(|other| format!("repository:{other}:pull"));
        [own].into_iter().chain(other).collect()
    }

    /// The scopes to ask for, given those that a challenge names; none for a login. A registry may call the repository
    /// otherwise than kiln does, and may name fewer actions than will be needed.
    pub(super) fn wanted(&self, challenged: Option<&str>) -> Vec<String> {
        if self.repository.is_empty() {
            return Vec::new();
        }
        let mut wanted: Vec<String> =
            challenged.unwrap_or_default().split_ascii_whitespace().map(str::to_owned).collect();
        if wanted.is_empty() {
            return self.own();
        }
        for (i, own) in self.own().into_iter().enumerate() {
            let (resource, actions) = own.rsplit_once(':').unwrap_or((&own, ""));
            let same = |scope: &&mut String| scope.rsplit_once(':').is_some_and(|(other, _)| other == resource);
            match wanted.iter_mut().find(same) {
                Some(scope) => add_actions(scope, actions),
                None if i > 0 => wanted.push(own),
                None => {}
            }
        }
        wanted
    }
}

/// Adds the actions that a scope lacks.
fn add_actions(scope: &mut String, actions: &str) {
    for action in actions.split(',') {
        let listed = scope.rsplit_once(':').is_some_and(|(_, listed)| listed.split(',').any(|one| one == action));
        if !listed {
            scope.push(',');
            scope.push_str(action);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wanted_scopes_are_those_of_both_sides() {
        let scope = |actions, also: Option<&str>| Scope {
            registry: "r".to_owned(),
            repository: "a/b".to_owned(),
            actions,
            also: also.map(str::to_owned),
        };
        for (own, challenged, want) in [
            (scope("pull", None), None, "repository:a/b:pull"),
            (scope("pull", None), Some(" "), "repository:a/b:pull"),
            (scope("pull,push", None), Some("repository:a/b:pull"), "repository:a/b:pull,push"),
            (scope("pull", None), Some("repository:a/b:pull,push,delete"), "repository:a/b:pull,push,delete"),
            (
                scope("pull", None),
                Some("repository:x/a/b:pull registry:catalog:*"),
                "repository:x/a/b:pull registry:catalog:*",
            ),
            (scope("pull,push", Some("c")), None, "repository:a/b:pull,push repository:c:pull"),
            (scope("pull,push", Some("c")), Some("repository:a/b:push"), "repository:a/b:push,pull repository:c:pull"),
            (scope("pull,push", Some("c")), Some("repository:c:pull"), "repository:c:pull"),
        ] {
            assert_eq!(own.wanted(challenged).join(" "), want, "{challenged:?}");
        }
        assert!(Scope::of_login("r").wanted(Some("repository:a/b:pull")).is_empty());
    }
}
