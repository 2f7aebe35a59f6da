//! Run keys: envelopes found, verified and opened, each once.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use exclave_model::{
    Commitment, DatasetId, Envelope, Grant, Incarnation, KeyId, ObjectName, RecipientId, Record as _, RunId,
    SignedObject, SiteId, StripeContext, limit::ENVELOPE_BYTES_MAX,
};
use exclave_seal::{EnvelopeError, RecoveryIdentity, RunKey, sealed_box::open_label, verify_one};
use futures::future::join_all;

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
    /// Nobody signed it who may under the charter that it obeys, or it does not parse.
    #[error("not signed by a writer or restorer of the charter")]
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
    pub(crate) dataset: DatasetId,
}

type Known = Result<Arc<OpenedRun>, Arc<KeyError>>;

/// The keys that an identity opens. Bounded by the runs that heads refer to, some hundred bytes each.
pub(crate) struct Keyring<'a> {
    archive: Archive,
    book: Arc<SiteBook>,
    identity: &'a RecoveryIdentity,
    /// What was given to the identity.
    grants: Vec<Grant>,
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
    pub(super) fn new(
        archive: &Archive,
        book: Arc<SiteBook>,
        identity: &'a RecoveryIdentity,
        grants: Vec<Grant>,
    ) -> Self {
        Self {
            archive: archive.clone(),
            book,
            identity,
            grants,
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
        let names = listing
            .entries
            .iter()
            .map(|entry| &entry.name)
            .filter(|name| is_envelope(name));
        let mut last = None;
        // All that are listed, whatever their number: who may put could bury the good one under others.
        for name in names {
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
        let (writer, envelope) = verify_envelope(&self.archive, run, bytes)?;
        let key = match self.identity.unwrap(&envelope) {
            Err(EnvelopeError::NotForUs(us)) => self.granted(&envelope).unwrap_or(Err(EnvelopeError::NotForUs(us))),
            unwrapped => unwrapped,
        };
        Ok(OpenedRun {
            key: key.map_err(|error| EnvelopeProblem::Unwrap(Arc::new(error)))?,
            class: envelope.class,
            writer,
            incarnation: envelope.incarnation,
            crypto_epoch: envelope.crypto_epoch,
            label: envelope.label,
            dataset: envelope.dataset,
        })
    }

    /// The run's key out of a grant, when one gives it to us.
    fn granted(&self, envelope: &Envelope) -> Option<Result<RunKey, EnvelopeError>> {
        let granted = self.grants.iter().filter_map(|grant| grant.run(envelope.run));
        let mut fitting = granted.filter(|granted| granted.commitment == envelope.commitment);
        fitting
            .next()
            .map(|granted| self.identity.unwrap_granted(&envelope.anchor, granted))
    }

    /// The valid envelopes of a run, and which sites give them.
    pub(crate) async fn envelopes(&self, run: RunId) -> Vec<Lying> {
        let prefix = self.archive.names.run_prefix(run);
        let (listings, _) = self.archive.list_everywhere(&prefix, RUN_OBJECTS_MAX).await;
        let given = listings.iter().map(|(site, listing)| async move {
            let mut given = Vec::new();
            for entry in listing.entries.iter().filter(|entry| is_envelope(&entry.name)) {
                let got = self.book.get(*site, &entry.name, ENVELOPE_BYTES_MAX as u64).await;
                let Ok(bytes) = got else { continue };
                if let Ok((_, envelope)) = verify_envelope(&self.archive, run, &bytes) {
                    given.push((entry.name.clone(), bytes, envelope));
                }
            }
            (*site, given)
        });
        let mut found: BTreeMap<ObjectName, Lying> = BTreeMap::new();
        for (site, given) in join_all(given).await {
            let id = self.archive.sites.get(site).and_then(|handle| handle.id);
            for (name, bytes, envelope) in given {
                let lying = found.entry(name.clone()).or_insert_with(|| Lying {
                    recipients: envelope.stanzas.iter().map(|stanza| stanza.recipient).collect(),
                    name,
                    bytes,
                    sites: BTreeSet::new(),
                });
                lying.sites.extend(id);
            }
        }
        found.into_values().collect()
    }
}

/// A valid envelope, as the sites give it.
pub(crate) struct Lying {
    /// For whom it is wrapped.
    pub(crate) recipients: BTreeSet<RecipientId>,
    pub(crate) name: ObjectName,
    pub(crate) bytes: Bytes,
    /// Sites that gave it.
    pub(crate) sites: BTreeSet<SiteId>,
}

fn is_envelope(name: &ObjectName) -> bool {
    name.file_name().starts_with("envelope.")
}

/// The envelope, when the charter version that it obeys allows it, and who signed it.
pub(crate) fn verify_envelope(
    archive: &Archive,
    run: RunId,
    bytes: &Bytes,
) -> Result<(KeyId, Envelope), EnvelopeProblem> {
    let unsigned = |_| EnvelopeProblem::Signature;
    let object = SignedObject::from_bytes(bytes, ENVELOPE_BYTES_MAX).map_err(unsigned)?;
    // Which version it obeys is read before the signature is checked, and used for nothing but finding the key.
    let claimed = Envelope::from_bytes(object.record_bytes())
        .map_err(unsigned)?
        .charter_version;
    let charters = &archive.charters;
    let charter = charters.version(claimed).ok_or(EnvelopeProblem::Charter(claimed))?;
    let signer = object.signatures().first().ok_or(EnvelopeProblem::Signature)?.key;
    let key = charters.key(signer, claimed).ok_or(EnvelopeProblem::Signature)?;
    let envelope = verify_one::<Envelope>(&object, key).map_err(|_| EnvelopeProblem::Signature)?;
    let place = envelope.check_place(archive.anchor, run);
    let allowed = place.and_then(|()| envelope.check_charter(charter, signer));
    allowed.map_err(|rule| match rule.kind {
        "bad-stanzas" => EnvelopeProblem::Recipients,
        "unknown-signer" => EnvelopeProblem::Signature,
        _ => EnvelopeProblem::Foreign,
    })?;
    Ok((signer, envelope))
}
