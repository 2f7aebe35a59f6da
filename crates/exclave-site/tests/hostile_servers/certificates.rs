//! Certificates for servers on loopback (RFC 5280), with Ed25519 keys (RFC 8410): just enough DER for what the tests vary.

use std::sync::Arc;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use exclave_site::Pin;
use rustls::crypto::aws_lc_rs::{default_provider, sign::any_supported_type};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ServerConfig, SupportedProtocolVersion};
use tokio_rustls::TlsAcceptor;

/// DER tags.
const BIT_STRING: u8 = 0x03;
const INTEGER: u8 = 0x02;
const OCTET_STRING: u8 = 0x04;
const OBJECT_ID: u8 = 0x06;
const UTF8_STRING: u8 = 0x0c;
const UTC_TIME: u8 = 0x17;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;

const ED25519: &[u8] = &[0x2b, 0x65, 0x70];
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 0x11];
/// GeneralName's choice for an IP address.
const IP_ADDRESS: u8 = 0x87;

pub const VALID: (&str, &str) = ("200101000000Z", "491231235959Z");
pub const EXPIRED: (&str, &str) = ("010101000000Z", "020101000000Z");
pub const LOOPBACK: [u8; 4] = [127, 0, 0, 1];

/// A key with a name, which signs certificates or proves to be a server.
pub struct Party {
    name: &'static str,
    key: Ed25519KeyPair,
    pkcs8: Vec<u8>,
}

impl Party {
    pub fn new(name: &'static str) -> Self {
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&aws_lc_rs::rand::SystemRandom::new()).unwrap();
        let pkcs8 = pkcs8.as_ref().to_vec();
        let key = Ed25519KeyPair::from_pkcs8(&pkcs8).unwrap();
        Self { name, key, pkcs8 }
    }

    pub fn pin(&self) -> Pin {
        Pin::of_public_key(&self.public_key())
    }

    /// A certificate for `subject` at `address`.
    pub fn certify(&self, subject: &Self, address: [u8; 4], validity: (&str, &str)) -> CertificateDer<'static> {
        let algorithm = der(SEQUENCE, &[&der(OBJECT_ID, &[ED25519])]);
        let (from, to) = validity;
        let dates = [from, to].map(|date| der(UTC_TIME, &[date.as_bytes()]));
        let names = der(SEQUENCE, &[&der(IP_ADDRESS, &[&address])]);
        let extension = der(
            SEQUENCE,
            &[&der(OBJECT_ID, &[SUBJECT_ALT_NAME]), &der(OCTET_STRING, &[&names])],
        );
        let contents = der(
            SEQUENCE,
            &[
                &der(0xa0, &[&der(INTEGER, &[&[2]])]),
                &der(INTEGER, &[&[1]]),
                &algorithm,
                &self.distinguished_name(),
                &der(SEQUENCE, &[&dates[0], &dates[1]]),
                &subject.distinguished_name(),
                &subject.public_key(),
                &der(0xa3, &[&der(SEQUENCE, &[&extension])]),
            ],
        );
        let signature = self.key.sign(&contents);
        der(SEQUENCE, &[&contents, &algorithm, &bits(signature.as_ref())]).into()
    }

    /// A TLS server that shows these certificates and signs with this party's key, whether they belong together or not.
    pub fn serve(&self, chain: &[&CertificateDer<'static>], version: &'static SupportedProtocolVersion) -> TlsAcceptor {
        let key = any_supported_type(&PrivateKeyDer::from(PrivatePkcs8KeyDer::from(self.pkcs8.clone()))).unwrap();
        let chain = chain.iter().map(|certificate| (*certificate).clone()).collect();
        let shown = SingleCertAndKey::from(CertifiedKey::new(chain, key));
        let builder = ServerConfig::builder_with_provider(Arc::new(default_provider()));
        let builder = builder.with_protocol_versions(&[version]).unwrap();
        Arc::new(builder.with_no_client_auth().with_cert_resolver(Arc::new(shown))).into()
    }

    /// SubjectPublicKeyInfo.
    fn public_key(&self) -> Vec<u8> {
        let algorithm = der(SEQUENCE, &[&der(OBJECT_ID, &[ED25519])]);
        der(SEQUENCE, &[&algorithm, &bits(self.key.public_key().as_ref())])
    }

    fn distinguished_name(&self) -> Vec<u8> {
        let name = der(
            SEQUENCE,
            &[
                &der(OBJECT_ID, &[COMMON_NAME]),
                &der(UTF8_STRING, &[self.name.as_bytes()]),
            ],
        );
        der(SEQUENCE, &[&der(SET, &[&name])])
    }
}

pub fn pem(certificate: &CertificateDer<'_>) -> String {
    let text = STANDARD.encode(certificate);
    format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n")
}

fn bits(bytes: &[u8]) -> Vec<u8> {
    der(BIT_STRING, &[&[0], bytes])
}

/// One value: its tag, its length, its parts.
fn der(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let contents = parts.concat();
    let length = u16::try_from(contents.len()).unwrap().to_be_bytes();
    let head = match contents.len() {
        0..=127 => vec![tag, length[1]],
        128..=255 => vec![tag, 0x81, length[1]],
        _ => vec![tag, 0x82, length[0], length[1]],
    };
    [head, contents].concat()
}
