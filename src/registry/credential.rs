//! One credential.

use serde::{Deserialize, Serialize};

/// The user of identity tokens, for credential helpers.
const TOKEN_USER: &str = "<token>";

/// A way to authenticate.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Credential {
    /// User name and password, or an access token in place of the password.
    Password {
        /// User name.
        user: String,
        /// Password.
        password: String,
    },
    /// A refresh token, exchanged for access tokens by POST.
    Identity(String),
    /// A token that is sent to the registry as it is.
    Bearer(String),
}

impl Credential {
    /// From user name and password. For the user `<token>`, the password is an identity token.
    pub(super) fn from_pair(user: &str, password: &str) -> Self {
        match user {
            TOKEN_USER => Self::Identity(password.to_owned()),
            _ => Self::Password { user: user.to_owned(), password: password.to_owned() },
        }
    }

    /// What helpers keep for `user`: the opposite of [`from_pair`](Self::from_pair).
    pub(super) fn pair<'a>(&'a self, user: &'a str) -> (&'a str, &'a str) {
        match self {
            Self::Password { password, .. } => (user, password),
            Self::Identity(token) | Self::Bearer(token) => (TOKEN_USER, token),
        }
    }
}

impl std::fmt::Debug for Credential {
    /// Without secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Password { user, .. } => write!(f, "Password({user:?})"),
            Self::Identity(_) => f.write_str("Identity"),
            Self::Bearer(_) => f.write_str("Bearer"),
        }
    }
}
