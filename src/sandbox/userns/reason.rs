//! Why a user namespace has a single id.

use serde::{Deserialize, Serialize};

/// Why a user namespace has a single id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum SingleIdReason {
    /// kiln was started in a user namespace with a single id.
    StartedInside,
    /// `newuidmap` or `newgidmap` is not installed.
    HelperMissing {
        /// Which one.
        name: String,
    },
    /// The user has no subordinate ids.
    NoRange {
        /// `/etc/subuid` or `/etc/subgid`.
        file: String,
        /// The user's name, or the number of one that has no name.
        user: String,
        /// `user` is a name.
        named: bool,
        /// The first of [`ENOUGH`](super::ENOUGH_IDS) ids that are free in both files.
        free: u64,
    },
    /// The helper could not be run.
    HelperFailed {
        /// Its path.
        program: String,
        /// The error of the system.
        error: String,
    },
    /// The helper refused to write the map.
    HelperRefused {
        /// Its path.
        program: String,
        /// Its output.
        output: String,
        /// Why it lacks the rights that it needs, if it does.
        powerless: Option<Powerless>,
    },
}

/// Why a helper lacks the rights that it needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Powerless {
    /// `no_new_privs` is set for this process.
    NoNewPrivileges,
    /// The program is not setuid and has no file capabilities.
    NotSetuid,
}
