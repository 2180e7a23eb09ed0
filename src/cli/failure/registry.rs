//! Errors of registries as failures.

use crate::oci::image::ImageError;
use crate::registry::{Missing, Refusal, RegistryError};
use crate::transport::{HttpError, TlsFault, Unreachable};

use super::fetch::unreachable_hint;
use super::message::{Failure, Kind};

/// The kind of an error.
pub(super) fn kind(error: &RegistryError) -> Kind {
    match error {
        RegistryError::Http(
            HttpError::Network { .. }
            | HttpError::Unreachable { .. }
            | HttpError::Tls { .. }
            | HttpError::Status { status: 429 | 500.., .. },
        ) => Kind::Host,
        RegistryError::Http(HttpError::Cancelled) => Kind::Interrupted,
        RegistryError::Credentials { .. } => Kind::Usage,
        _ => Kind::Build,
    }
}

/// The hint for an error, if there is one.
pub(super) fn hint(error: &RegistryError) -> Option<String> {
    Some(match error {
        RegistryError::Denied { refusal, registry, .. } => denied(*refusal, registry),
        RegistryError::NotFound { missing: Missing::Repository(_), host, .. } => {
            format!("check the name, and create the repository on {host} if that is necessary there")
        }
        RegistryError::NotFound { missing: Missing::Image, host, .. } => {
            format!("check name and tag, and log in with kiln login {host} if the repository is private")
        }
        RegistryError::WrongContent { host, .. } => {
            format!("pull again; if that fails too, look for a proxy or cache that alters what {host} sends")
        }
        RegistryError::Image { source: ImageError::NoPlatform { .. }, .. } => {
            "choose one of these with --platform".to_owned()
        }
        RegistryError::Http(HttpError::Status { status: 429, .. }) => {
            "wait, log in for a higher limit, or use --registry-mirror: the registry limits requests".into()
        }
        RegistryError::Http(HttpError::Status { status: 500.., .. }) => "try again later: the server failed".into(),
        RegistryError::Http(HttpError::Tls { host, fault }) => return Some(tls_hint(host, fault)),
        // The name need not have had a host.
        RegistryError::Http(HttpError::Unreachable { why: Unreachable::NoHost(host), .. })
            if host.ends_with("docker.io") =>
        {
            "check the network: names without a registry are looked up on Docker Hub".into()
        }
        RegistryError::Http(HttpError::Unreachable { why, .. }) => unreachable_hint(why).into(),
        RegistryError::ShortName { choices, .. } => format!("write the whole name: {}", choices.join(" or ")),
        RegistryError::Credentials { .. } => {
            "log in again with the tool that wrote the file, or remove the entry".into()
        }
        _ => return None,
    })
}

/// What to do about a refusal.
fn denied(refusal: Refusal, registry: &str) -> String {
    match refusal {
        Refusal::Anonymous => format!("log in with kiln login {registry}, if the name is right"),
        Refusal::Credentials => {
            format!("log in again with kiln login {registry}: the credentials are wrong or have expired")
        }
        Refusal::Access => {
            format!("ask for access, or log in to {registry} as another user: this one may not do that")
        }
        Refusal::Elsewhere => format!("try again, or tell the administrator of {registry} where it redirects"),
    }
}

/// What to do if TLS with a registry fails.
fn tls_hint(host: &str, fault: &TlsFault) -> String {
    match fault {
        TlsFault::UnknownAuthority => {
            format!("if {host} has a certificate of a private CA, name the CA's with --registry-ca FILE")
        }
        TlsFault::NoAuthorities => "install the package ca-certificates, or name a CA with --ca-cert FILE".into(),
        TlsFault::Expired(_) | TlsFault::NotYetValid(_) => {
            format!("renew the certificate of {host}, or set the clock of this machine")
        }
        TlsFault::OtherName(_) => "use a name that the certificate is for".into(),
        TlsFault::NotTls | TlsFault::Closed => {
            format!("if {host} speaks plain HTTP, use --insecure-registry {host}")
        }
        TlsFault::NotPlain => format!("use https:// for {host}"),
        TlsFault::WantsCertificate => "pass a certificate and its key in a directory, with --cert-dir DIR".into(),
        TlsFault::RefusesCertificate | TlsFault::OwnCertificate(_) => {
            format!("check the files in --cert-dir, or in certs.d/{host}")
        }
        TlsFault::Other(_) => format!("if {host} needs no verification, use --insecure-registry {host}"),
    }
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
            let (url, reason) = ("https://r/v2/".into(), String::new());
            HttpError::Status { url, status, reason, attempts: 5, retry_after: None }.into()
        };
        let denied = |refusal| RegistryError::Denied {
            what: "r/a".into(),
            registry: "r:5000".into(),
            host: "tokens".into(),
            refusal,
            reason: "401".into(),
        };
        let missing = |missing| RegistryError::NotFound { what: "r/a:1".into(), host: "r".into(), missing };
        let tls = |fault| -> RegistryError { HttpError::Tls { host: "r:5000".into(), fault }.into() };
        for (error, code, message, hint) in [
            (status(429), 3, "https://r/v2/: 429 (tried 5 times)", "limits requests"),
            (status(503), 3, "https://r/v2/: 503 (tried 5 times)", "try again later"),
            (
                denied(Refusal::Anonymous),
                1,
                "r/a: tokens denied access (no credentials for it): 401",
                "log in with kiln login r:5000, if the name is right",
            ),
            (
                denied(Refusal::Credentials),
                1,
                "r/a: tokens denied access: 401",
                "log in again with kiln login r:5000: the credentials are wrong or have expired",
            ),
            (
                denied(Refusal::Access),
                1,
                "r/a: tokens denied access: 401",
                "ask for access, or log in to r:5000 as another user",
            ),
            (denied(Refusal::Elsewhere), 1, "r/a: tokens denied access: 401", "the administrator of r:5000"),
            (
                missing(Missing::Image),
                1,
                "r/a:1: not found on r",
                "check name and tag, and log in with kiln login r if",
            ),
            (
                missing(Missing::Repository("no such name".to_owned())),
                1,
                "r/a:1: not found on r: no such name",
                "create the repository on r",
            ),
            (tls(TlsFault::UnknownAuthority), 3, "r:5000: TLS: the certificate is signed", "--registry-ca FILE"),
            (tls(TlsFault::NotTls), 3, "r:5000: TLS: the server does not speak", "--insecure-registry r:5000"),
            (tls(TlsFault::WantsCertificate), 3, "r:5000: TLS: the server requires", "--cert-dir DIR"),
            (tls(TlsFault::Expired(None)), 3, "r:5000: TLS: the certificate has expired", "renew"),
        ] {
            let failure = Failure::from(error);
            assert_eq!(failure.kind.code(), code, "{failure:?}");
            assert!(failure.message.starts_with(message) && failure.hints[0].contains(hint), "{failure:?}");
        }
    }
}
