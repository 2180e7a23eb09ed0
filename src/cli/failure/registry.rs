//! A registry's errors in words: whose fault it is, and what would help.

use crate::registry::Error;

use super::message::{Failure, Kind};

/// Which exit code an error of a registry has.
pub(super) fn kind(error: &Error) -> Kind {
    match error {
        Error::Network { .. } | Error::Tls { .. } | Error::Status { status: 429 | 500.., .. } => Kind::Host,
        Error::Cancelled => Kind::Interrupted,
        Error::Credentials { .. } => Kind::Usage,
        _ => Kind::Build,
    }
}

/// What would help, if it is known.
pub(super) fn hint(error: &Error) -> Option<String> {
    Some(match error {
        Error::Denied { anonymous: true, host, .. } => format!(
            "if the image exists, log in with docker login {host} or podman login {host}: kiln reads their credentials"
        ),
        Error::Denied { host, .. } => {
            format!("the credentials for {host} may be wrong, expired or too weak: log in to it again")
        }
        Error::Status { status: 429, .. } => {
            "the registry limits how often it is asked: wait, log in for a higher limit, or use --registry-mirror"
                .into()
        }
        Error::Status { status: 500.., .. } => "the server is at fault: try again later".into(),
        Error::Tls { host, reason } if reason.contains("UnknownIssuer") => format!(
            "if {host} has a certificate of a private CA, set SSL_CERT_FILE to a PEM file that holds the CA's certificate"
        ),
        Error::Tls { host, .. } => {
            format!("if {host} need not prove who it is, name it with --insecure-registry {host}")
        }
        Error::Credentials { .. } => "log in again with the tool that wrote the file, or remove the entry".into(),
        _ => return None,
    })
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let failure = Self::from_error(kind(&error), &error);
        hint(&error).into_iter().fold(failure, Self::hint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registry_errors_have_a_code_and_a_hint() {
        let status = |status| Error::Status { url: "https://r/v2/".into(), status, reason: String::new(), attempts: 5 };
        let denied =
            |anonymous| Error::Denied { what: "r/a".into(), host: "r:5000".into(), anonymous, reason: "401".into() };
        let tls = |reason: &str| Error::Tls { host: "r:5000".into(), reason: reason.into() };
        for (error, code, message, hint) in [
            (status(429), 3, "https://r/v2/: 429 (tried 5 times)", "limits how often"),
            (status(503), 3, "https://r/v2/: 503 (tried 5 times)", "try again later"),
            (denied(true), 1, "r/a: r:5000 denied access (no credentials for it): 401", "docker login r:5000"),
            (denied(false), 1, "r/a: r:5000 denied access: 401", "log in to it again"),
            (tls("invalid peer certificate: UnknownIssuer"), 3, "r:5000: TLS: ", "SSL_CERT_FILE"),
            (tls("certificate expired"), 3, "r:5000: TLS: ", "--insecure-registry r:5000"),
        ] {
            let failure = Failure::from(error);
            assert_eq!(failure.kind.code(), code, "{failure:?}");
            assert!(failure.message.starts_with(message) && failure.hints[0].contains(hint), "{failure:?}");
        }
    }
}
