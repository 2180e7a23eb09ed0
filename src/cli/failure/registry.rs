//! Errors of registries as failures.

use crate::registry::RegistryError;
use crate::transport::HttpError;

use super::message::{Failure, Kind};

/// The kind of an error.
pub(super) fn kind(error: &RegistryError) -> Kind {
    match error {
        RegistryError::Http(
            HttpError::Network { .. } | HttpError::Tls { .. } | HttpError::Status { status: 429 | 500.., .. },
        ) => Kind::Host,
        RegistryError::Http(HttpError::Cancelled) => Kind::Interrupted,
        RegistryError::Credentials { .. } => Kind::Usage,
        _ => Kind::Build,
    }
}

/// The hint for an error, if there is one.
pub(super) fn hint(error: &RegistryError) -> Option<String> {
    Some(match error {
        RegistryError::Denied { anonymous: true, host, .. } => {
            format!("log in with kiln login {host}, if the name is right")
        }
        RegistryError::Denied { host, .. } => {
            format!("log in to {host} again: the credentials may be wrong, expired or insufficient")
        }
        RegistryError::Http(HttpError::Status { status: 429, .. }) => {
            "wait, log in for a higher limit, or use --registry-mirror: the registry limits requests".into()
        }
        RegistryError::Http(HttpError::Status { status: 500.., .. }) => "try again later: the server failed".into(),
        RegistryError::Http(HttpError::Tls { host, reason }) if reason.contains("UnknownIssuer") => {
            format!("if {host} uses a private CA, set SSL_CERT_FILE to a PEM file with its certificate")
        }
        RegistryError::Http(HttpError::Tls { host, .. }) => {
            format!("if {host} needs no verification, use --insecure-registry {host}")
        }
        RegistryError::Credentials { .. } => {
            "log in again with the tool that wrote the file, or remove the entry".into()
        }
        _ => return None,
    })
}

impl From<RegistryError> for Failure {
    fn from(error: RegistryError) -> Self {
        let failure = Self::from_error(kind(&error), &error);
        hint(&error).into_iter().fold(failure, Self::hint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registry_errors_map_to_code_and_hint() {
        let status = |status| -> RegistryError {
            HttpError::Status { url: "https://r/v2/".into(), status, reason: String::new(), attempts: 5 }.into()
        };
        let denied = |anonymous| RegistryError::Denied {
            what: "r/a".into(),
            host: "r:5000".into(),
            anonymous,
            reason: "401".into(),
        };
        let tls =
            |reason: &str| -> RegistryError { HttpError::Tls { host: "r:5000".into(), reason: reason.into() }.into() };
        for (error, code, message, hint) in [
            (status(429), 3, "https://r/v2/: 429 (tried 5 times)", "limits requests"),
            (status(503), 3, "https://r/v2/: 503 (tried 5 times)", "try again later"),
            (denied(true), 1, "r/a: r:5000 denied access (no credentials for it): 401", "kiln login r:5000"),
            (denied(false), 1, "r/a: r:5000 denied access: 401", "again: the credentials"),
            (tls("invalid peer certificate: UnknownIssuer"), 3, "r:5000: TLS: ", "SSL_CERT_FILE"),
            (tls("certificate expired"), 3, "r:5000: TLS: ", "--insecure-registry r:5000"),
        ] {
            let failure = Failure::from(error);
            assert_eq!(failure.kind.code(), code, "{failure:?}");
            assert!(failure.message.starts_with(message) && failure.hints[0].contains(hint), "{failure:?}");
        }
    }
}
