//! Whether a server's host key is the one that the settings name.
//!
//! They name it by its fingerprint ([`crate::HostKey`]), or by the lines for this host in the text of a known hosts file (sshd(8),
//! SSH_KNOWN_HOSTS FILE FORMAT). Of such a file: names count as they are written, or hashed; patterns with `*`, `?` or `!`
//! match nothing, so they trust nobody. A line of another algorithm than ours, or that can't be read, is passed over. A
//! key that is `@revoked` anywhere in the file is refused at every host. `@cert-authority` lines are passed over.
//!
//! Without either, nobody is trusted: the refusal tells the fingerprint, for the operator to confirm.

use aws_lc_rs::hmac;
use russh::keys::ssh_key::known_hosts::{Entry, HostPatterns, Marker};
use russh::keys::{Algorithm, EcdsaCurve, HashAlg, PublicKey};

use crate::error::Failure;
use crate::{HostKey, Pins};

/// Whose key is believed at one host.
#[derive(Debug, Clone, Default)]
pub(super) struct Trust {
    fingerprints: Pins<HostKey>,
    known: Vec<PublicKey>,
    revoked: Vec<PublicKey>,
    has_file: bool,
}

impl Trust {
    /// Trusts keys by their fingerprints.
    pub(super) fn of_fingerprints(fingerprints: &Pins<HostKey>) -> Self {
        Self {
            fingerprints: fingerprints.clone(),
            ..Self::default()
        }
    }

    /// Trusts what a known hosts file says about a host and a port.
    pub(super) fn of_known_hosts(text: &str, host: &str, port: u16) -> Self {
        // As ssh(1) writes it.
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let written = if port == 22 {
            bare.to_owned()
        } else {
            format!("[{bare}]:{port}")
        };
        let mut trust = Self {
            has_file: true,
            ..Self::default()
        };
        for line in text.lines().map(str::trim).filter(|line| !line.starts_with('#')) {
            // Fields may be divided by more than one space, or by tabs.
            let line = line.split_ascii_whitespace().collect::<Vec<_>>().join(" ");
            let Ok(entry) = line.parse::<Entry>() else {
                continue;
            };
            match entry.marker() {
                Some(Marker::Revoked) => trust.revoked.push(entry.public_key().clone()),
                Some(Marker::CertAuthority) => {}
                None if names(entry.host_patterns(), &written) => trust.known.push(entry.public_key().clone()),
                None => {}
            }
        }
        trust
    }

    /// The host key algorithms that we ask for, the preferred first: those of the keys that are known, else the current
    /// ones. RSA isn't among them: our library's is not constant in time.
    pub(super) fn algorithms(&self) -> Vec<Algorithm> {
        let curves = [EcdsaCurve::NistP256, EcdsaCurve::NistP384, EcdsaCurve::NistP521];
        let ours = curves.into_iter().map(|curve| Algorithm::Ecdsa { curve });
        let ours: Vec<_> = std::iter::once(Algorithm::Ed25519).chain(ours).collect();
        let is_known = |algorithm: &&Algorithm| self.known.iter().any(|key| key.algorithm() == **algorithm);
        let known: Vec<Algorithm> = ours.iter().filter(is_known).cloned().collect();
        if known.is_empty() { ours } else { known }
    }

    /// Refuses a key that isn't trusted, and tells its fingerprint.
    pub(super) fn check(&self, key: &PublicKey) -> Result<(), Failure> {
        let same = |other: &PublicKey| other.key_data() == key.key_data();
        let fingerprint = key.fingerprint(HashAlg::Sha256).sha256().map(HostKey::of_sha256);
        let trusted = fingerprint.is_some_and(|shown| self.fingerprints.contains(&shown));
        let revoked = self.revoked.iter().any(same);
        if !revoked && (trusted || self.known.iter().any(same)) {
            return Ok(());
        }
        let shown = fingerprint.map(|shown| shown.to_string()).unwrap_or_default();
        let what = match () {
            () if revoked => "is revoked in the known hosts",
            () if !self.fingerprints.is_empty() => "is not the one in the settings",
            () if !self.known.is_empty() => "is not the one in the known hosts",
            () if self.has_file => "is not in the known hosts, which have none for this host",
            () => "is not in the settings, which name none",
        };
        let algorithm = key.algorithm();
        let why = format!("its host key {shown} ({algorithm}) {what}");
        Err(Failure::Untrusted { why })
    }
}

/// True when a line is about a host, as `written` in such files.
fn names(patterns: &HostPatterns, written: &str) -> bool {
    match patterns {
        HostPatterns::Patterns(patterns) => {
            let is_negated = patterns.iter().any(|pattern| pattern.starts_with('!'));
            !is_negated && patterns.iter().any(|pattern| pattern.eq_ignore_ascii_case(written))
        }
        HostPatterns::HashedName { salt, hash } => {
            let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, salt);
            hmac::verify(&key, written.as_bytes(), hash).is_ok()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Made for these tests with ssh-keygen.
    const ONE: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFld2P8w3BuJ6QMfD4HI8g/orT8CUyYxH4GB8bzHdoiq";
    const TWO: &str = "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBLmFL97jDIOsuj6zGeepshCVcI4eYdIzEYRiryrhW23lLE36WdLgzA+21zubD8KX0L1iKuyZbqT4K1D3jyBp52k=";

    fn key(text: &str) -> PublicKey {
        text.parse().unwrap()
    }

    fn refusal(trust: &Trust, text: &str) -> String {
        match trust.check(&key(text)) {
            Err(Failure::Untrusted { why }) => why,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_fingerprint_is_what_ssh_keygen_prints() {
        let trusted: HostKey = "SHA256:nuVPYbTftDz/gCFheJpVIRjhdQCd2fjmGosxQ0U9cYU".parse().unwrap();
        let trust = Trust::of_fingerprints(&[trusted].into_iter().collect());
        assert!(trust.check(&key(ONE)).is_ok());
        assert_eq!(
            refusal(&trust, TWO),
            "its host key SHA256:aKcySZQZ0jIv95uya3EezIoHHk7TQ6HdnZfBSccpuow (ecdsa-sha2-nistp256) is not the one in the settings"
        );
        assert!(refusal(&Trust::default(), ONE).ends_with("is not in the settings, which name none"));
        assert_eq!(trust.algorithms().first(), Some(&Algorithm::Ed25519));
    }

    #[test]
    fn known_hosts_are_read_as_ssh_reads_them() {
        let text = format!(
            "# a comment\n\nnot a line\nother,host.example,10.0.0.1 {ONE} me@home\n[host.example]:2222\t{TWO}\n\
             *.lu {ONE}\n!no.example,no.example {ONE}\n@cert-authority ca.example {ONE}\n|1|kYS1ojvL44AwnKdkTG+UyKMJ5S0=|gplgkIRtzWxBCrYUYC59106ZPyM= ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFld2P8w3BuJ6QMfD4HI8g/orT8CUyYxH4GB8bzHdoiq\n"
        );
        let at = |host: &str, port| Trust::of_known_hosts(&text, host, port);
        for (host, port, known) in [
            ("host.example", 22, ONE),
            ("HOST.example", 22, ONE),
            ("10.0.0.1", 22, ONE),
            ("host.example", 2222, TWO),
            ("hashed.example", 22, ONE),
        ] {
            let trust = at(host, port);
            assert!(trust.check(&key(known)).is_ok(), "{host}:{port}");
            assert_eq!(trust.algorithms(), [key(known).algorithm()]);
            let other = if known == ONE { TWO } else { ONE };
            assert!(refusal(&trust, other).ends_with("is not the one in the known hosts"));
        }
        for (host, port) in [
            ("host.example", 23),
            ("a.lu", 22),
            ("no.example", 22),
            ("ca.example", 22),
            ("hashed", 22),
        ] {
            assert!(
                refusal(&at(host, port), ONE).ends_with("which have none for this host"),
                "{host}:{port}"
            );
        }
    }

    #[test]
    fn a_revoked_key_is_refused_wherever_it_stands() {
        let text = format!("host {ONE}\n@revoked * {ONE}\n");
        let trust = Trust::of_known_hosts(&text, "host", 22);
        assert!(refusal(&trust, ONE).ends_with("is revoked in the known hosts"));
    }
}
