//! The run key: a fresh session key that lives in the agent's memory only, and everything derived from it.

use exclave_model::{Commitment, LabelTag, StripeContext};
use subtle::ConstantTimeEq;

use crate::{
    entropy::{Entropy, NoEntropy, draw},
    secret::{Secret, derive},
};

/// One run's key.
///
/// Fresh for every run and forgotten when the run ends; it leaves memory only wrapped for recipients. Two runs never
/// share one, because each is drawn anew.
pub struct RunKey(Secret<32>);

impl RunKey {
    /// Draws a fresh key.
    pub fn generate(entropy: &mut dyn Entropy) -> Result<Self, NoEntropy> {
        Ok(Self(Secret::new(draw(entropy)?)))
    }

    /// Takes a key that an envelope was opened for.
    pub(crate) fn from_secret(secret: Secret<32>) -> Self {
        Self(secret)
    }

    pub(crate) fn expose(&self) -> &[u8; 32] {
        self.0.expose()
    }

    /// What the envelope and the run table say about the key.
    pub fn commitment(&self) -> Commitment {
        Commitment::from_bytes(*derive::<32>("exclave 2026 run commitment v1", &[self.expose()]).expose())
    }

    /// True when this is the committed key; compared in constant time.
    pub fn fits(&self, commitment: &Commitment) -> bool {
        self.commitment().as_bytes().ct_eq(commitment.as_bytes()).into()
    }

    /// True when a stripe of this run was sealed under this label.
    pub fn labelled(&self, label: &str, context: &StripeContext) -> bool {
        let expected = self.label_tag(label);
        expected.as_bytes().ct_eq(context.label_tag.as_bytes()).into()
    }

    /// Binds a label to this run without showing it.
    pub fn label_tag(&self, label: &str) -> LabelTag {
        let tag = derive::<16>("exclave 2026 label tag v1", &[self.expose(), label.as_bytes()]);
        LabelTag::from_bytes(*tag.expose())
    }
}

#[cfg(test)]
mod tests {
    use exclave_model::{Anchor, Code, PayloadLength, RunId};

    use super::*;
    use crate::entropy::SeededEntropy;

    #[test]
    fn a_stripe_keeps_to_its_label() {
        let mut entropy = SeededEntropy::new(21);
        let [ours, other] = [(); 2].map(|()| RunKey::generate(&mut entropy).unwrap());
        let context = StripeContext {
            code: Code::ReedSolomonVandermonde,
            data: 1,
            payload: PayloadLength::new(64 << 10, 1).unwrap(),
            anchor: Anchor::from_bytes([1; 32]),
            run: RunId::from_bytes([2; 16]),
            ordinal: 0,
            salt: [3; 32],
            label_tag: ours.label_tag("restricted"),
        };
        assert!(ours.labelled("restricted", &context));
        assert!(!ours.labelled("public", &context) && !other.labelled("restricted", &context));
    }
}
