//! Certificates for single hosts: authorities to trust besides those of the system, and kiln's own to show.

use std::sync::Arc;

use ureq::tls::{Certificate, ClientCert, PemItem, PrivateKey, RootCerts, parse_pem};

/// The certificates for one host.
#[derive(Clone, Debug, Default)]
pub(crate) struct Certificates {
    authorities: Vec<Certificate<'static>>,
    client: Option<ClientCert>,
}

impl Certificates {
    /// Adds the authorities of a PEM file. Err: there is none, or one cannot be read.
    pub(crate) fn add_authorities(&mut self, pem: &[u8]) -> Result<(), String> {
        self.authorities.extend(certificates(pem)?);
        Ok(())
    }

    /// Sets the certificate, with its chain, and the key that identify kiln to the host, from two PEM files.
    pub(crate) fn set_client(&mut self, certificate: &[u8], key: &[u8]) -> Result<(), String> {
        let key = PrivateKey::from_pem(key).map_err(|e| format!("no private key: {e}"))?;
        self.client = Some(ClientCert::new_with_certs(&certificates(certificate)?, key));
        Ok(())
    }

    /// Those of the system, and these.
    pub(super) fn roots(&self) -> RootCerts {
        if self.authorities.is_empty() {
            return RootCerts::PlatformVerifier;
        }
        // What cannot be loaded is not trusted.
        let system = rustls_native_certs::load_native_certs().certs;
        let system = system.iter().map(|certificate| Certificate::from_der(certificate).to_owned());
        RootCerts::Specific(Arc::new(self.authorities.iter().cloned().chain(system).collect()))
    }

    pub(super) fn client(&self) -> Option<ClientCert> {
        self.client.clone()
    }
}

fn certificates(pem: &[u8]) -> Result<Vec<Certificate<'static>>, String> {
    let mut found = Vec::new();
    for item in parse_pem(pem) {
        if let PemItem::Certificate(certificate) = item.map_err(|e| e.to_string())? {
            found.push(certificate);
        }
    }
    if found.is_empty() { Err("there is no certificate in it".to_owned()) } else { Ok(found) }
}
