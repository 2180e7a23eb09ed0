//! Why no connection could be used, by what a user can do about it.

use std::fmt;
use std::io;

use rustls::{AlertDescription, CertificateError, Error, InvalidMessage};

use crate::base::time::Timestamp;

/// Why a server was not reached.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unreachable {
    /// The name has no address.
    #[error("there is no host {0}")]
    NoHost(String),
    /// The lookup may succeed later: name servers do not answer in time, or report a failure of their own.
    #[error("cannot look up {0}: name servers do not answer or report a failure")]
    NoNameServer(String),
    /// Nothing listens there.
    #[error("connection refused")]
    Refused,
}

impl Unreachable {
    /// What a failed lookup or connection means; `None`: something else.
    pub(super) fn of(error: &io::Error, host: &str) -> Option<Self> {
        if error.kind() == io::ErrorKind::ConnectionRefused {
            return Some(Self::Refused);
        }
        // The standard library has no error kinds for failed lookups: these are the words of glibc and musl.
        let text = error.to_string();
        let says = |words: &[&str]| words.iter().any(|words| text.contains(words));
        if says(&["Name or service not known", "No address associated", "Name does not resolve", "Name has no usable"])
        {
            return Some(Self::NoHost(host.to_owned()));
        }
        says(&["Temporary failure in name resolution", "Try again"]).then(|| Self::NoNameServer(host.to_owned()))
    }
}

/// Why a TLS connection cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum TlsFault {
    /// The server's certificate leads to no trusted authority.
    UnknownAuthority,
    /// Nothing is trusted.
    NoAuthorities,
    /// The server's certificate was valid until then.
    Expired(Option<Timestamp>),
    /// The server's certificate is valid from then on.
    NotYetValid(Option<Timestamp>),
    /// The server's certificate is for these names.
    OtherName(Vec<String>),
    /// The server answered something else than TLS.
    NotTls,
    /// The server answered plain HTTP with TLS.
    NotPlain,
    /// The server closed the connection before TLS was established.
    Closed,
    /// The server wants a certificate of kiln's.
    WantsCertificate,
    /// The server refuses kiln's certificate.
    RefusesCertificate,
    /// kiln's certificate or the files configured for the host cannot be used.
    OwnCertificate(String),
    /// What the library reports.
    Other(String),
}

impl fmt::Display for TlsFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = |time: &Option<Timestamp>, word: &str| match time {
            Some(time) => format!(" {word} {time}"),
            None => String::new(),
        };
        match self {
            Self::UnknownAuthority => f.write_str("the certificate is signed by an unknown authority"),
            Self::NoAuthorities => f.write_str("this host trusts no certificate authority"),
            Self::Expired(time) => write!(f, "the certificate has expired{}", at(time, "at")),
            Self::NotYetValid(time) => write!(f, "the certificate is not valid yet{}", at(time, "until")),
            Self::OtherName(names) if names.is_empty() => f.write_str("the certificate is for no name"),
            Self::OtherName(names) => write!(f, "the certificate is for other names: {}", names.join(", ")),
            Self::NotTls => f.write_str("the server does not speak TLS"),
            Self::NotPlain => f.write_str("the server expects TLS, not plain HTTP"),
            Self::Closed => f.write_str("the server closed the connection during the handshake"),
            Self::WantsCertificate => f.write_str("the server requires a client certificate"),
            Self::RefusesCertificate => f.write_str("the server refuses the client certificate"),
            Self::OwnCertificate(why) | Self::Other(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for TlsFault {}

impl TlsFault {
    /// The fault of the TLS library that an I/O error carries, if there is one.
    pub(super) fn of(error: &io::Error) -> Option<Self> {
        error.get_ref()?.downcast_ref::<Error>().map(Self::from)
    }
}

impl From<&Error> for TlsFault {
    fn from(error: &Error) -> Self {
        let time = |time: &rustls::pki_types::UnixTime| i64::try_from(time.as_secs()).ok().map(Timestamp::from_secs);
        match error {
            Error::InvalidCertificate(why) => match why {
                CertificateError::UnknownIssuer => Self::UnknownAuthority,
                CertificateError::Expired => Self::Expired(None),
                CertificateError::ExpiredContext { not_after, .. } => Self::Expired(time(not_after)),
                CertificateError::NotValidYet => Self::NotYetValid(None),
                CertificateError::NotValidYetContext { not_before, .. } => Self::NotYetValid(time(not_before)),
                CertificateError::NotValidForName => Self::OtherName(Vec::new()),
                CertificateError::NotValidForNameContext { presented, .. } => {
                    Self::OtherName(presented.iter().map(|name| plain_name(name)).collect())
                }
                // A self-signed certificate that is not trusted.
                CertificateError::Other(other)
                    if matches!(other.0.downcast_ref(), Some(webpki::Error::CaUsedAsEndEntity)) =>
                {
                    Self::UnknownAuthority
                }
                other => Self::Other(format!("the certificate cannot be used ({other})")),
            },
            Error::InvalidMessage(InvalidMessage::InvalidContentType | InvalidMessage::UnknownProtocolVersion) => {
                Self::NotTls
            }
            Error::AlertReceived(AlertDescription::CertificateRequired) => Self::WantsCertificate,
            Error::AlertReceived(
                AlertDescription::BadCertificate
                | AlertDescription::UnknownCA
                | AlertDescription::CertificateExpired
                | AlertDescription::CertificateRevoked
                | AlertDescription::CertificateUnknown
                | AlertDescription::UnsupportedCertificate
                | AlertDescription::AccessDenied,
            ) => Self::RefusesCertificate,
            other => Self::Other(other.to_string()),
        }
    }
}

/// `DnsName("a")` and `IpAddress(1.2.3.4)` as users write them.
fn plain_name(presented: &str) -> String {
    let inner = presented.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')')).unwrap_or(presented);
    inner.trim_matches('"').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lookups_and_refusals_are_told_apart() {
        let host = "r.example";
        for (text, want) in [
            ("failed to lookup address information: Name or service not known", Some("there is no host r.example")),
            ("failed to lookup address information: Name does not resolve", Some("there is no host r.example")),
            (
                "failed to lookup address information: Temporary failure in name resolution",
                Some("cannot look up r.example: name servers do not answer or report a failure"),
            ),
            ("something else", None),
        ] {
            let found = Unreachable::of(&io::Error::other(text), host).map(|why| why.to_string());
            assert_eq!(found.as_deref(), want, "{text}");
        }
        let refused = Unreachable::of(&io::ErrorKind::ConnectionRefused.into(), host);
        assert_eq!(refused, Some(Unreachable::Refused));
    }

    #[test]
    fn names_of_a_certificate_are_plain() {
        for (text, want) in [
            ("DnsName(\"r.example\")", "r.example"),
            ("DnsName(*.r.example)", "*.r.example"),
            ("IpAddress(127.0.0.1)", "127.0.0.1"),
            ("x", "x"),
        ] {
            assert_eq!(plain_name(text), want);
        }
    }
}
