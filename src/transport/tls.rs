//! TLS connections: which certificates a server may show, and which one kiln shows.
//!
//! **Holds.** A server's certificate leads to a trusted one, or is one (self-signed certificates of registries often
//! claim to be authorities, which the library refuses in servers). Name and dates are checked either way.

use std::io::{self, Read, Write};
use std::sync::{Arc, OnceLock};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_name;
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    StreamOwned,
};
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, Either, LazyBuffers, NextTimeout, Transport, TransportAdapter,
};

use super::certificates::{Certificates, of_system};
use super::fault::TlsFault;

/// The first byte of an alert, with which TLS servers answer to what is not TLS (RFC 8446 §5.1).
const TLS_ALERT: u8 = 0x15;

/// Makes TLS connections; what it needs is loaded for the first one.
#[derive(Debug)]
pub(super) struct TlsConnector {
    certificates: Certificates,
    verify: bool,
    config: OnceLock<Result<Arc<ClientConfig>, TlsFault>>,
}

impl TlsConnector {
    /// Trusts the system's authorities and those of `certificates`, or everybody.
    pub(super) fn new(certificates: Certificates, verify: bool) -> Self {
        Self { certificates, verify, config: OnceLock::new() }
    }

    fn config(&self) -> Result<Arc<ClientConfig>, TlsFault> {
        self.config.get_or_init(|| config(&self.certificates, self.verify).map(Arc::new)).clone()
    }
}

fn config(certificates: &Certificates, verify: bool) -> Result<ClientConfig, TlsFault> {
    let provider = Arc::new(ring::default_provider());
    let trust = verify.then(|| Trust::new(&certificates.authorities, Arc::clone(&provider))).transpose()?;
    let verifier = Arc::new(Verifier { provider: Arc::clone(&provider), trust });
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|e| TlsFault::from(&e))?.dangerous().with_custom_certificate_verifier(verifier);
    match &certificates.client {
        Some(identity) => builder
            .with_client_auth_cert(identity.chain.clone(), identity.key.clone_key())
            .map_err(|e| TlsFault::OwnCertificate(e.to_string())),
        None => Ok(builder.with_no_client_auth()),
    }
}

impl<In: Transport> Connector<In> for TlsConnector {
    type Out = Either<PlainTransport<In>, TlsTransport>;

    fn connect(&self, details: &ConnectionDetails<'_>, chained: Option<In>) -> Result<Option<Self::Out>, ureq::Error> {
        let Some(transport) = chained else { return Ok(None) };
        if !details.needs_tls() || transport.is_tls() {
            return Ok(Some(Either::A(PlainTransport { inner: transport, answered: false })));
        }
        let host = details.uri.host().unwrap_or_default();
        let host = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
        let name = ServerName::try_from(host.to_owned()).map_err(|_| ureq::Error::BadUri(host.to_owned()))?;
        let mut connection =
            ClientConnection::new(self.config().map_err(fault)?, name).map_err(|e| fault(TlsFault::from(&e)))?;
        let transport: Box<dyn Transport> = Box::new(transport);
        let mut socket = TransportAdapter::new(transport, Arc::clone(&details.current_time));
        socket.set_timeout(details.timeout);
        connection.complete_io(&mut socket).map_err(|e| match e.kind() {
            io::ErrorKind::UnexpectedEof => fault(TlsFault::Closed),
            _ => e.into(),
        })?;
        let buffers = LazyBuffers::new(details.config.input_buffer_size(), details.config.output_buffer_size());
        Ok(Some(Either::B(TlsTransport { stream: StreamOwned::new(connection, socket), buffers })))
    }
}

fn fault(fault: TlsFault) -> ureq::Error {
    ureq::Error::Other(Box::new(fault))
}

/// A connection without TLS, to a server that may expect TLS.
#[derive(Debug)]
pub(super) struct PlainTransport<In> {
    inner: In,
    answered: bool,
}

impl<In: Transport> Transport for PlainTransport<In> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.inner.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), ureq::Error> {
        self.inner.transmit_output(amount, timeout)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
        let arrived = self.inner.await_input(timeout)?;
        if !std::mem::replace(&mut self.answered, true) && self.inner.buffers().input().first() == Some(&TLS_ALERT) {
            return Err(fault(TlsFault::NotPlain));
        }
        Ok(arrived)
    }

    fn is_open(&mut self) -> bool {
        self.inner.is_open()
    }

    fn is_tls(&self) -> bool {
        self.inner.is_tls()
    }
}

/// An established TLS connection.
pub(super) struct TlsTransport {
    stream: StreamOwned<ClientConnection, TransportAdapter>,
    buffers: LazyBuffers,
}

impl std::fmt::Debug for TlsTransport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TlsTransport").field("over", &self.stream.sock.inner()).finish_non_exhaustive()
    }
}

impl Transport for TlsTransport {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), ureq::Error> {
        self.stream.sock.set_timeout(timeout);
        self.stream.write_all(&self.buffers.output()[..amount])?;
        Ok(())
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
        self.stream.sock.set_timeout(timeout);
        let read = self.stream.read(self.buffers.input_append_buf())?;
        self.buffers.input_appended(read);
        Ok(read > 0)
    }

    fn is_open(&mut self) -> bool {
        self.stream.sock.get_mut().is_open()
    }

    fn is_tls(&self) -> bool {
        true
    }
}

/// The certificates that are trusted.
#[derive(Debug)]
struct Trust {
    chains: Arc<WebPkiServerVerifier>,
    trusted: Vec<CertificateDer<'static>>,
}

impl Trust {
    /// The system's authorities and `more`.
    fn new(more: &[CertificateDer<'static>], provider: Arc<CryptoProvider>) -> Result<Self, TlsFault> {
        let trusted: Vec<_> = of_system().into_iter().chain(more.iter().cloned()).collect();
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(trusted.iter().cloned());
        if roots.is_empty() {
            return Err(TlsFault::NoAuthorities);
        }
        let chains = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build();
        Ok(Self { chains: chains.map_err(|e| TlsFault::Other(e.to_string()))?, trusted })
    }
}

/// Accepts what leads to a trusted certificate, or is one, of servers that have its key.
#[derive(Debug)]
struct Verifier {
    provider: Arc<CryptoProvider>,
    /// `None`: every certificate is accepted.
    trust: Option<Trust>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(Trust { chains, trusted }) = &self.trust else { return Ok(ServerCertVerified::assertion()) };
        match chains.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            // The library has checked the dates before it finds these.
            Err(Error::InvalidCertificate(why)) if is_about_issuer(&why) && trusted.contains(end_entity) => {
                verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
                Ok(ServerCertVerified::assertion())
            }
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// The certificate has no trusted issuer, or is an authority's.
fn is_about_issuer(why: &CertificateError) -> bool {
    match why {
        CertificateError::UnknownIssuer => true,
        CertificateError::Other(other) => {
            matches!(other.0.downcast_ref(), Some(webpki::Error::CaUsedAsEndEntity))
        }
        _ => false,
    }
}
