//! Run keys: envelopes found, verified and opened, each once.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use exclave_model::{
    Commitment, DatasetId, Envelope, Incarnation, KeyId, ObjectName, RunId, SignedObject, StripeContext,
    limit::ENVELOPE_BYTES_MAX,
};
use exclave_seal::{EnvelopeError, RecoveryIdentity, RunKey, envelope::is_for, sealed_box::open_label, verify_one};

use crate::{
    archive::Archive,
    fetch::{
        Problem, SiteBook,
        book::{lock, told},
        race::first_good,
    },
};

/// Objects of one run that are listed: its ledger parts, each of thousands of stripes, and a few more.
const RUN_OBJECTS_MAX: usize = 100_000;

/// Envelopes of one run that are looked at per site; a run has one, and perhaps a few re-wraps.
const ENVELOPES_MAX: usize = 32;

/// Why a run's key can't be had.
#[derive(Debug, Clone, thiserror::Error)]
pub enum KeyError {
    /// No site has an envelope of the run that can be believed and opened.
    #[error("no envelope of run {run} opens{}", told(answers))]
    NoEnvelope {
        /// The run.
        run: RunId,
        /// What each site's were like.
        answers: Vec<(String, EnvelopeProblem)>,
    },
    /// The run table commits to another key than the envelope.
    #[error("the envelope of run {run} holds another key than the run table commits to")]
    Commitment {
        /// The run.
        run: RunId,
    },
    /// The run is another dataset's, whose chunks must not be mixed with ours.
    #[error("run {run} belongs to dataset {found}, not {expected}")]
    Dataset {
        /// The run.
        run: RunId,
        /// The dataset in its envelope.
        found: DatasetId,
        /// The snapshot's dataset.
        expected: DatasetId,
    },
}

/// Why a site's envelopes of a run are of no use.
#[derive(Debug, Clone, thiserror::Error)]
pub enum EnvelopeProblem {
    /// The site gave none.
    #[error("{0}")]
    Site(Problem),
    /// No writer of the charter signed it, or it does not parse.
    #[error("not signed by a writer of the charter")]
    Signature,
    /// It obeys a charter that no site shows.
    #[error("it obeys charter version {0}, which no site shows")]
    Charter(u32),
    /// It is about another archive, run, charter or epoch.
    #[error("it is about something else")]
    Foreign,
    /// Its recipients are not those of the charter.
    #[error("its recipients are not those of the charter")]
    Recipients,
    /// It does not open.
    #[error(transparent)]
    Unwrap(Arc<EnvelopeError>),
}

/// A run whose key is known.
pub(crate) struct OpenedRun {
    pub(crate) key: RunKey,
    pub(crate) class: u32,
    /// Who signed the envelope.
    pub(crate) writer: KeyId,
    pub(crate) incarnation: Incarnation,
    pub(crate) crypto_epoch: u32,
    /// The label, in its box.
    pub(crate) label: Vec<u8>,
    dataset: DatasetId,
}

type Known = Result<Arc<OpenedRun>, Arc<KeyError>>;

/// The keys that an identity opens. Bounded by the runs that heads refer to, some hundred bytes each.
pub(crate) struct Keyring<'a> {
    archive: Archive,
    book: Arc<SiteBook>,
    identity: &'a RecoveryIdentity,
    runs: Mutex<HashMap<RunId, Known>>,
}

impl OpenedRun {
    /// True when the stripe was sealed under the run's label: a swapped label breaks decryption.
    pub(crate) fn labelled(&self, context: &StripeContext) -> bool {
        open_label(&self.key, &self.label).is_ok_and(|label| self.key.labelled(&label, context))
    }

    /// True when this is the run's label.
    pub(crate) fn label_is(&self, label: &str) -> bool {
        open_label(&self.key, &self.label).is_ok_and(|own| own == label)
    }
}

impl<'a> Keyring<'a> {
    pub(super) fn new(archive: &Archive, book: Arc<SiteBook>, identity: &'a RecoveryIdentity) -> Self {
        Self {
            archive: archive.clone(),
            book,
            identity,
            runs: Mutex::default(),
        }
    }

    /// The key of a run that a run table names with this commitment.
    pub(crate) async fn open(&self, run: RunId, expected: Commitment, dataset: DatasetId) -> Known {
        let known = lock(&self.runs).get(&run).cloned();
        let opened = match known {
            Some(known) => known?,
            None => {
                let found = self.find(run).await.map(Arc::new).map_err(Arc::new);
                lock(&self.runs).insert(run, found.clone());
                found?
            }
        };
        // The envelope was compared with its own commitment when it was opened; the run table may still name another.
        if !opened.key.fits(&expected) {
            return Err(Arc::new(KeyError::Commitment { run }));
        }
        if opened.dataset != dataset {
            return Err(Arc::new(KeyError::Dataset {
                run,
                found: opened.dataset,
                expected: dataset,
            }));
        }
        Ok(opened)
    }

    async fn find(&self, run: RunId) -> Result<OpenedRun, KeyError> {
        let asked = first_good(self.book.order(), self.book.hedge(), |site| self.ask(site, run));
        match asked.await {
            (Some((_, opened)), _) => Ok(opened),
            (None, answers) => Err(KeyError::NoEnvelope {
                run,
                answers: self.book.answers(answers),
            }),
        }
    }

    /// The first of a site's envelopes that opens.
    async fn ask(&self, site: usize, run: RunId) -> Result<OpenedRun, EnvelopeProblem> {
        let missing = EnvelopeProblem::Site(Problem::Missing);
        let handle = self.book.handle(site).ok_or(missing)?;
        let prefix = self.archive.names.run_prefix(run);
        let listing = handle.site.list(&prefix, RUN_OBJECTS_MAX).await.map_err(|error| {
            let problem = Problem::of(&error);
            self.book.note(site, problem);
            EnvelopeProblem::Site(problem)
        })?;
        let is_envelope = |name: &&ObjectName| name.file_name().starts_with("envelope.");
        let names = listing.entries.iter().map(|entry| &entry.name).filter(is_envelope);
        let mut last = None;
        for name in names.take(ENVELOPES_MAX) {
            let opened = match self.book.get(site, name, ENVELOPE_BYTES_MAX as u64).await {
                Ok(bytes) => self.unwrap(run, &bytes),
                Err(problem) => Err(EnvelopeProblem::Site(problem)),
            };
            match opened {
                Ok(opened) => return Ok(opened),
                Err(problem) => last = Some(problem),
            }
        }
        Err(last.unwrap_or_else(|| {
            self.book.note(site, Problem::Missing);
            EnvelopeProblem::Site(Problem::Missing)
        }))
    }

    fn unwrap(&self, run: RunId, bytes: &Bytes) -> Result<OpenedRun, EnvelopeProblem> {
        let (writer, envelope) = self.verify(bytes)?;
        let charter = self.archive.charters.version(envelope.charter_version);
        let class = charter.and_then(|charter| charter.class(envelope.class));
        let set = charter
            .zip(class)
            .and_then(|(charter, class)| charter.recipients_of(class));
        let set = set.filter(|set| {
            envelope.anchor == self.archive.anchor
                && envelope.run == run
                && (envelope.recipient_set, envelope.crypto_epoch) == (set.id, set.crypto_epoch)
        });
        let set = set.ok_or(EnvelopeProblem::Foreign)?;
        if !is_for(&envelope, &set.keys) {
            return Err(EnvelopeProblem::Recipients);
        }
        let unwrapped = self.identity.unwrap(&envelope);
        Ok(OpenedRun {
            key: unwrapped.map_err(|error| EnvelopeProblem::Unwrap(Arc::new(error)))?,
            class: envelope.class,
            writer,
            incarnation: envelope.incarnation,
            crypto_epoch: envelope.crypto_epoch,
            label: envelope.label,
            dataset: envelope.dataset,
        })
    }

    /// The envelope, when someone signed it who was a writer of its class under the charter that it obeys.
    fn verify(&self, bytes: &Bytes) -> Result<(KeyId, Envelope), EnvelopeProblem> {
        let unsigned = EnvelopeProblem::Signature;
        let object = SignedObject::from_bytes(bytes, ENVELOPE_BYTES_MAX).map_err(|_| unsigned.clone())?;
        let signer = object.signatures().first().ok_or(unsigned.clone())?.key;
        let key = self.archive.charters.writer_key(signer).ok_or(unsigned.clone())?;
        let envelope = verify_one::<Envelope>(&object, key).map_err(|_| unsigned.clone())?;
        let obeyed = self.archive.charters.version(envelope.charter_version);
        let obeyed = obeyed.ok_or(EnvelopeProblem::Charter(envelope.charter_version))?;
        let writer = obeyed.writer(signer).ok_or(unsigned.clone())?;
        match writer.classes.contains(&envelope.class) {
            true => Ok((signer, envelope)),
            false => Err(unsigned),
        }
    }
}
