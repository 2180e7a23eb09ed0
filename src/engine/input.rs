//! Secrets and agents that the user passes to a build.

/// A secret or an agent that a RUN mounts, by id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Input {
    /// A secret.
    Secret(String),
    /// The socket of an ssh agent.
    Agent(String),
}

impl Input {
    /// Its id.
    pub(crate) fn id(&self) -> &str {
        match self {
            Input::Secret(id) | Input::Agent(id) => id,
        }
    }
}

impl std::fmt::Display for Input {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Input::Secret(id) => write!(f, "secret {id:?}"),
            Input::Agent(id) => write!(f, "ssh agent {id:?}"),
        }
    }
}
