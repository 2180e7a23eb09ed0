//! Hints for files and repositories that cannot be fetched.

use crate::fetch::{FetchError, GitFailure};
use crate::transport::{HttpError, TlsFault, Unreachable};

/// The hint, if there is one.
pub(in crate::cli) fn fetch_hint(error: &FetchError) -> Option<String> {
    let hint = match error {
        FetchError::Http(HttpError::Status { status: 401 | 403, .. }) => {
            "if authentication is required, pass --secret id=HTTP_AUTH_TOKEN_<host>,env=<variable>"
        }
        FetchError::Http(HttpError::Status { status: 404 | 410, .. }) => "check the URL: the server has no such file",
        FetchError::Http(HttpError::Status { status: 500.., .. }) => "try again later: the server failed",
        FetchError::Http(HttpError::Redirect { .. }) => "use the URL of the file itself",
        FetchError::Http(HttpError::Network { .. }) => "check the URL and the network, or try again",
        FetchError::Http(HttpError::Unreachable { why, .. }) => unreachable_hint(why),
        FetchError::Http(HttpError::Tls { fault: TlsFault::UnknownAuthority, .. }) => {
            "if the certificate is of a private CA, name the CA's with --ca-cert FILE"
        }
        FetchError::Http(HttpError::Tls { fault: TlsFault::NotPlain, .. }) => "write https:// in the URL",
        FetchError::Http(HttpError::Tls { fault: TlsFault::NotTls | TlsFault::Closed, .. }) => {
            "if the server speaks plain HTTP, write http:// in the URL"
        }
        // Several servers say so to plain HTTP where they expect TLS.
        FetchError::Http(HttpError::Status { status: 400, url, .. }) if url.starts_with("http://") => {
            "if the server expects TLS, write https:// in the URL"
        }
        FetchError::TooLarge { .. } => "set another limit with KILN_MAX_DOWNLOAD=<size>",
        FetchError::Checksum { .. } => "if the change is intended, update the checksum",
        FetchError::Git { failure, .. } => match failure {
            GitFailure::AuthenticationRequired => {
                "if authentication is required, pass --secret id=GIT_AUTH_TOKEN,env=<variable>"
            }
            GitFailure::KeyRejected => {
                "pass a key that the server accepts: --ssh default for your agent, or --ssh default=<key>"
            }
            GitFailure::UnknownHostKey => {
                "add the host to ~/.ssh/known_hosts: ssh-keyscan <host> prints its keys for you to check"
            }
            GitFailure::UnknownAuthority => "if the certificate is of a private CA, name the CA's with --ca-cert FILE",
            GitFailure::NotInstalled => "install git, or ADD an archive of the repository instead",
            GitFailure::Redirected => "use the URL that the server redirects to",
            GitFailure::NoShallowClone | GitFailure::Other => return None,
        },
        _ => return None,
    };
    Some(hint.to_owned())
}

/// What to do if there is no connection.
pub(super) fn unreachable_hint(why: &Unreachable) -> &'static str {
    match why {
        Unreachable::NoHost(_) => "check the name: the host is its first part",
        Unreachable::NoNameServer(_) => "check the network and /etc/resolv.conf, or try again",
        Unreachable::Refused => "check the port, and whether the server runs",
    }
}
