//! Certificates besides those of the system: authorities to trust, and kiln's own to show.

use std::sync::OnceLock;

use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// Certificates for one host, or for all hosts of a client.
#[derive(Debug, Default)]
pub(crate) struct Certificates {
    pub(super) authorities: Vec<CertificateDer<'static>>,
    pub(super) client: Option<Identity>,
}

/// A certificate with its chain, and its key.
#[derive(Debug)]
pub(super) struct Identity {
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) key: PrivateKeyDer<'static>,
}

impl Clone for Certificates {
    fn clone(&self) -> Self {
        Self { authorities: self.authorities.clone(), client: self.client.clone() }
    }
}

impl Clone for Identity {
    fn clone(&self) -> Self {
        Self { chain: self.chain.clone(), key: self.key.clone_key() }
    }
}

impl Certificates {
    /// Adds the authorities of a PEM file. Err: there is none, or one cannot be read.
    pub(crate) fn add_authorities(&mut self, pem: &[u8]) -> Result<(), String> {
        self.authorities.extend(certificates(pem)?);
        Ok(())
    }

    /// Sets the certificate, with its chain, and the key that identify kiln to the host, from two PEM files.
    pub(crate) fn set_client(&mut self, certificate: &[u8], key: &[u8]) -> Result<(), String> {
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|e| match e {
            pem::Error::NoItemsFound => "there is no private key without a passphrase beside it".to_owned(),
            other => format!("its private key cannot be read: {other}"),
        })?;
        self.client = Some(Identity { chain: certificates(certificate)?, key });
        Ok(())
    }

    /// Adds authorities that were read before.
    pub(crate) fn add(&mut self, authorities: &Authorities) {
        self.authorities.extend(authorities.certificates.iter().cloned());
    }

    /// These, and where they lack something, those of `other`.
    pub(super) fn with(mut self, other: &Self) -> Self {
        self.authorities.extend(other.authorities.iter().cloned());
        self.client = self.client.or_else(|| other.client.clone());
        self
    }
}

/// A file of authorities that kiln and the commands that it runs trust.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Authorities {
    certificates: Vec<CertificateDer<'static>>,
    /// With those of the system, once that is needed.
    bundle: OnceLock<Vec<u8>>,
}

impl Authorities {
    /// Ok: the PEM file has certificates, and all can be read.
    pub(crate) fn read(pem: &[u8]) -> Result<Self, String> {
        Ok(Self { certificates: certificates(pem)?, bundle: OnceLock::new() })
    }

    /// Only these, in PEM.
    pub(crate) fn pem(&self) -> Vec<u8> {
        self.certificates.iter().map(|certificate| pem_of(certificate)).collect::<String>().into_bytes()
    }

    /// The certificates as a client trusts them.
    pub(crate) fn certificates(&self) -> Certificates {
        Certificates { authorities: self.certificates.clone(), client: None }
    }

    /// The system's authorities and these as one PEM file, for programs that are given one file.
    pub(crate) fn bundle(&self) -> &[u8] {
        self.bundle.get_or_init(|| {
            let all = of_system().into_iter().chain(self.certificates.iter().cloned());
            all.map(|certificate| pem_of(&certificate)).collect::<String>().into_bytes()
        })
    }
}

/// The certificates of a PEM file. Err: there is none, or one cannot be read.
fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match found {
        Ok(found) if found.is_empty() => Err("there is no certificate in it".to_owned()),
        Ok(found) => match found.iter().find_map(|der| webpki::anchor_from_trusted_cert(der).err()) {
            Some(why) => Err(format!("a certificate in it cannot be read ({why})")),
            None => Ok(found),
        },
        Err(why) => Err(format!("it cannot be read ({why})")),
    }
}

/// The certificates that the system trusts. What cannot be loaded is not trusted.
pub(super) fn of_system() -> Vec<CertificateDer<'static>> {
    rustls_native_certs::load_native_certs().certs
}

/// A certificate in PEM.
fn pem_of(der: &[u8]) -> String {
    use base64::Engine as _;
    let mut text = "-----BEGIN CERTIFICATE-----\n".to_owned();
    let encoded = base64::engine::general_purpose::STANDARD.encode(der);
    let mut rest = encoded.as_str();
    while !rest.is_empty() {
        let (line, more) = rest.split_at(rest.len().min(64));
        text.push_str(line);
        text.push('\n');
        rest = more;
    }
    text.push_str("-----END CERTIFICATE-----\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificate_files_without_certificates_are_refused() {
        for (pem, want) in [
            ("", "there is no certificate in it"),
            ("-----BEGIN CERTIFICATE-----\nMIIB", "it cannot be read ("),
            (
                "-----BEGIN CERTIFICATE-----\nTUlJQg==\n-----END CERTIFICATE-----\n",
                "a certificate in it cannot be read (",
            ),
        ] {
            let why = Certificates::default().add_authorities(pem.as_bytes()).expect_err(pem);
            assert!(why.starts_with(want), "{pem}: {why}");
        }
        let why = Certificates::default().set_client(b"", b"").expect_err("no key");
        assert_eq!(why, "there is no private key without a passphrase beside it");
    }

    #[test]
    fn pem_lines_have_at_most_64_characters() {
        let text = pem_of(&[7; 100]);
        assert_eq!(text.lines().map(str::len).max(), Some(64));
        assert_eq!(CertificateDer::from_pem_slice(text.as_bytes()).expect("PEM").as_ref(), [7; 100]);
    }
}
