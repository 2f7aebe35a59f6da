//! TLS that believes a key instead of an authority.
//!
//! With pins alone, the key settles who the server is: no authority, name or date of its certificate is looked at, so
//! that neither a dead authority nor a wrong clock nor a moved address can stop a restore. With an authority of the
//! site's own beside them, both must hold. Either way the handshake's signature is verified: it shows that the server
//! holds the key, and not just its certificate.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, OtherError, RootCertStore, SignatureScheme};

use super::BadTransport;
use crate::{Pin, Pins};

/// The server's key is none of the pinned ones.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("its key is {seen}, pinned is {}", .pinned)]
pub(crate) struct NotPinned {
    seen: Pin,
    pinned: Pins,
}

/// TLS that takes only servers with a pinned key and, when authorities are given (PEM), a chain that ends in one of them.
pub(super) fn config(pins: &Pins, ca_pem: Option<&str>) -> Result<ClientConfig, BadTransport> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = PinVerifier {
        pins: pins.clone(),
        chain: ca_pem.map(|pem| chain_verifier(pem, &provider)).transpose()?,
        algorithms: provider.signature_verification_algorithms,
    };
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let mut config = builder
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    // As the client does by itself when it speaks HTTP/1 only.
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

fn chain_verifier(pem: &str, provider: &Arc<CryptoProvider>) -> Result<Arc<WebPkiServerVerifier>, BadTransport> {
    let bad = |why: String| BadTransport::Authorities(why);
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        let certificate = certificate.map_err(|error| bad(error.to_string()))?;
        roots.add(certificate).map_err(|error| bad(error.to_string()))?;
    }
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
        .build()
        .map_err(|error| bad(error.to_string()))
}

#[derive(Debug)]
struct PinVerifier {
    pins: Pins,
    chain: Option<Arc<WebPkiServerVerifier>>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for PinVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let key = ParsedCertificate::try_from(end_entity)?.subject_public_key_info();
        let seen = Pin::of_public_key(&key);
        if !self.pins.contains(&seen) {
            let pinned = self.pins.clone();
            return Err(CertificateError::Other(OtherError(Arc::new(NotPinned { seen, pinned }))).into());
        }
        match &self.chain {
            Some(chain) => chain.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now),
            None => Ok(ServerCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Why a server wasn't trusted, when that is what a TLS error says.
pub(crate) fn why_untrusted(error: &rustls::Error) -> Option<String> {
    let rustls::Error::InvalidCertificate(error) = error else {
        return None;
    };
    let CertificateError::Other(OtherError(other)) = error else {
        return Some(error.to_string());
    };
    Some(other.to_string())
}
