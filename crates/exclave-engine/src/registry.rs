//! Records of datasets at the sites: which datasets are in a class by an administrator's word, and what is demanded for
//! each alone (FORMAT.md section 25).
//!
//! Demands of all records that count hold together, each at its strictest. So neither order nor forks decide what a writer
//! has to do, and a store that hides a record can loosen nothing that another store shows. Forks and gaps are told all the
//! same: honest administrators make none.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use exclave_model::{
    Charter, Charters, ClassPolicy, DatasetId, KeyId, MemberRole, ObjectName, Prefix, Record as _, RecordHash,
    Registration, Rule, RunId, SignedObject, Tag, Terms, limit::ENVELOPE_BYTES_MAX,
    registration::REGISTRATION_OBJECT_BYTES_MAX,
};
use exclave_plan::Quorums;
use exclave_seal::verify_one;
use futures::stream::{self, StreamExt as _};

use crate::{
    archive::{Archive, SiteTrouble},
    charter::{PublishError, holders_needed},
    publish::publish,
    snapshot::keys::verify_envelope,
    state::SeenRecord,
    surroundings::Surroundings,
};

/// Records of datasets that one site may list: a thousand datasets, each tightened a hundred times.
const LISTED_MAX: usize = 100_000;

/// Objects of a run that are listed to find its envelope.
const RUN_OBJECTS_MAX: usize = 100_000;

/// Records that are read at the same time.
const AT_ONCE: usize = 16;

/// A record that someone signed who could.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registered {
    /// The record.
    pub record: Registration,
    /// Its hash.
    pub hash: RecordHash,
    /// Who signed it.
    pub signer: KeyId,
    /// True when the newest charter revokes the signer: it says nothing any more.
    pub void: bool,
}

/// Something about records of datasets that honest administrators don't do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RegistryFinding {
    /// Two records in one place. The demands of both hold.
    #[error("dataset {dataset} has two records of number {version}: {first} and {second}; what both demand holds")]
    Fork {
        /// The dataset.
        dataset: DatasetId,
        /// The place.
        version: u32,
        /// One.
        first: RecordHash,
        /// The other.
        second: RecordHash,
    },
    /// A record before one that is shown is shown by no site.
    #[error("record {version} of dataset {dataset} follows one that no site shows")]
    Gap {
        /// The dataset.
        dataset: DatasetId,
        /// The place of the one that is shown.
        version: u32,
    },
    /// A record that may not follow the one before it. It says nothing.
    #[error("record {version} of dataset {dataset} counts for nothing: {rule}")]
    Unlawful {
        /// The dataset.
        dataset: DatasetId,
        /// Its place.
        version: u32,
        /// What it breaks.
        rule: Rule,
    },
    /// A name under which no site gives a record that someone signed who could.
    #[error("{name} is no record of a dataset: {why}")]
    Refused {
        /// The name.
        name: ObjectName,
        /// Why.
        why: String,
    },
}

impl RegistryFinding {
    /// Whether it is about this dataset.
    pub fn is_about(&self, wanted: DatasetId) -> bool {
        match self {
            Self::Fork { dataset, .. } | Self::Gap { dataset, .. } | Self::Unlawful { dataset, .. } => {
                *dataset == wanted
            }
            Self::Refused { name, .. } => name.as_str().contains(&wanted.to_hex()),
        }
    }
}

/// What the sites show of datasets.
#[derive(Debug, Default)]
pub struct Registry {
    /// By dataset, ascending places; those that are void too.
    records: BTreeMap<DatasetId, Vec<Registered>>,
    /// What is odd about them.
    pub findings: Vec<RegistryFinding>,
    /// What sites said.
    pub troubles: Vec<SiteTrouble>,
}

impl Registry {
    /// Everything that the sites show.
    pub async fn find(archive: &Archive) -> Self {
        Self::below(archive, &archive.names.registrations_prefix()).await
    }

    /// What they show of one dataset.
    pub async fn of(archive: &Archive, dataset: DatasetId) -> Self {
        let all = archive.names.registrations_prefix();
        // A hex id is a lawful component: the whole prefix would only cost more.
        let one = Prefix::parse(&format!("{}{}/", all.as_str(), dataset.to_hex())).unwrap_or(all);
        Self::below(archive, &one).await
    }

    async fn below(archive: &Archive, prefix: &Prefix) -> Self {
        let mut registry = Self::default();
        // Nobody could have signed one: an archive without administrators pays nothing.
        if !archive.charters.iter().any(has_administrators) {
            return registry;
        }
        let (listings, troubles) = archive.list_everywhere(prefix, LISTED_MAX).await;
        registry.troubles = troubles;
        let names: BTreeSet<ObjectName> = listings
            .into_values()
            .flat_map(|listing| listing.entries)
            .map(|entry| entry.name)
            .collect();
        let read = stream::iter(names).map(|name| async move {
            let mut why = "no site gives it".to_owned();
            let accept = |bytes: &Bytes| {
                verify_named(archive, &name, bytes)
                    .map_err(|refusal| why = refusal)
                    .ok()
            };
            let (found, troubles) = archive.fetch(&name, REGISTRATION_OBJECT_BYTES_MAX, accept).await;
            (name, found, why, troubles)
        });
        let read: Vec<_> = read.buffered(AT_ONCE).collect().await;
        for (name, found, why, troubles) in read {
            registry.troubles.extend(troubles);
            match found {
                Some(found) => registry.records.entry(found.record.dataset).or_default().push(found),
                None => registry.findings.push(RegistryFinding::Refused { name, why }),
            }
        }
        registry.settle(&archive.charters);
        registry
    }

    /// Takes records that were verified, and looks how they follow each other.
    pub fn of_records(records: impl IntoIterator<Item = Registered>, charters: &Charters) -> Self {
        let mut registry = Self::default();
        for found in records {
            registry.records.entry(found.record.dataset).or_default().push(found);
        }
        registry.settle(charters);
        registry
    }

    fn settle(&mut self, charters: &Charters) {
        for (dataset, records) in &mut self.records {
            records.sort_by_key(|found| (found.record.version, found.hash));
            let all = records.clone();
            records.retain(|found| {
                let (version, previous) = (found.record.version, found.record.previous);
                let before = previous.map(|hash| all.iter().find(|other| other.hash == hash));
                let lawful = match before {
                    Some(Some(before)) if !before.void => found.record.check_after(&before.record, charters),
                    Some(None) if !found.void => {
                        self.findings.push(RegistryFinding::Gap {
                            dataset: *dataset,
                            version,
                        });
                        Ok(())
                    }
                    Some(_) | None => Ok(()),
                };
                lawful
                    .map_err(|rule| {
                        self.findings.push(RegistryFinding::Unlawful {
                            dataset: *dataset,
                            version,
                            rule,
                        });
                    })
                    .is_ok()
            });
            let counting: Vec<&Registered> = records.iter().filter(|found| !found.void).collect();
            for pair in counting.windows(2) {
                if pair[0].record.version == pair[1].record.version {
                    self.findings.push(RegistryFinding::Fork {
                        dataset: *dataset,
                        version: pair[0].record.version,
                        first: pair[0].hash,
                        second: pair[1].hash,
                    });
                }
            }
        }
        self.records.retain(|_, records| !records.is_empty());
    }

    /// Takes in a dataset's records that were verified when they were seen, and that the sites hide now; returns those.
    pub fn recall(&mut self, dataset: DatasetId, seen: Vec<SeenRecord>, charter: &Charter) -> Vec<SeenRecord> {
        let records = self.records.entry(dataset).or_default();
        let hidden = seen.into_iter().filter(|seen| {
            let is_shown = records.iter().any(|found| found.hash == seen.hash);
            !is_shown && charter.revocation(seen.signer).is_none()
        });
        let hidden: Vec<SeenRecord> = hidden.collect();
        records.extend(hidden.iter().map(|seen| Registered {
            record: seen.record.clone(),
            hash: seen.hash,
            signer: seen.signer,
            void: false,
        }));
        records.sort_by_key(|found| (found.record.version, found.hash));
        hidden
    }

    /// What is to be remembered of a dataset.
    pub fn to_remember(&self, dataset: DatasetId) -> Vec<SeenRecord> {
        let counting = self.counting(dataset).map(|found| SeenRecord {
            hash: found.hash,
            signer: found.signer,
            record: found.record.clone(),
        });
        counting.collect()
    }

    /// Datasets of which a record counts.
    pub fn datasets(&self) -> impl Iterator<Item = DatasetId> {
        let counting = self
            .records
            .iter()
            .filter(|(_, records)| records.iter().any(|found| !found.void));
        counting.map(|(dataset, _)| *dataset)
    }

    /// All records of a dataset, those that are void too.
    pub fn records(&self, dataset: DatasetId) -> &[Registered] {
        self.records.get(&dataset).map_or(&[], Vec::as_slice)
    }

    /// Those that count.
    pub fn counting(&self, dataset: DatasetId) -> impl Iterator<Item = &Registered> {
        self.records(dataset).iter().filter(|found| !found.void)
    }

    /// The last one that counts.
    pub fn newest(&self, dataset: DatasetId) -> Option<&Registered> {
        self.counting(dataset).last()
    }

    /// The class that a dataset was added to; the rule when its records contradict each other.
    pub fn class(&self, dataset: DatasetId) -> Result<Option<u32>, Rule> {
        let classes: BTreeSet<u32> = self.counting(dataset).map(|found| found.record.class).collect();
        match classes.len() {
            0 | 1 => Ok(classes.into_iter().next()),
            _ => Err(Rule::new(
                "fork",
                format!("its records put it into {} classes at once", classes.len()),
            )),
        }
    }

    /// A class's policy as it holds for a dataset.
    pub fn policy(&self, dataset: DatasetId, class: &ClassPolicy) -> Result<ClassPolicy, Rule> {
        Registration::policy_under(class, self.counting(dataset).map(|found| &found.record))
    }
}

fn has_administrators(charter: &Charter) -> bool {
    charter
        .members()
        .iter()
        .any(|member| member.role == MemberRole::Administrator)
}

/// The class of a run, as an envelope says that a site shows.
pub async fn class_of_run(archive: &Archive, run: RunId) -> Option<u32> {
    let prefix = archive.names.run_prefix(run);
    let (listings, _) = archive.list_everywhere(&prefix, RUN_OBJECTS_MAX).await;
    let names: BTreeSet<ObjectName> = listings
        .into_values()
        .flat_map(|listing| listing.entries)
        .map(|entry| entry.name)
        .filter(|name| name.file_name().starts_with("envelope."))
        .collect();
    for name in names {
        let accept = |bytes: &Bytes| {
            verify_envelope(archive, run, bytes)
                .ok()
                .map(|(_, envelope)| envelope.class)
        };
        let (class, _) = archive.fetch(&name, ENVELOPE_BYTES_MAX, accept).await;
        if class.is_some() {
            return class;
        }
    }
    None
}

/// A record of a dataset that someone signed who could, or why it is none.
pub fn verify(charters: &Charters, bytes: &[u8]) -> Result<Registered, String> {
    let object = SignedObject::from_bytes(bytes, REGISTRATION_OBJECT_BYTES_MAX).map_err(|error| error.to_string())?;
    // Which version it obeys is read before the signature is checked, and used for nothing but finding the key.
    let claimed = Registration::from_bytes(object.record_bytes()).map_err(|error| error.to_string())?;
    let signer = object.signatures().first().map(|signature| signature.key);
    let known = signer.and_then(|signer| Some((signer, charters.key(signer, claimed.charter_version)?)));
    let (signer, key) = known.ok_or_else(|| {
        let version = claimed.charter_version;
        format!("nobody whom charter version {version} names has signed it")
    })?;
    let record = verify_one::<Registration>(&object, key).map_err(|error| error.to_string())?;
    if record.anchor != charters.anchor() {
        return Err("it is another archive's".to_owned());
    }
    record
        .check_charter(charters, signer)
        .map_err(|rule| rule.to_string())?;
    Ok(Registered {
        void: charters.newest().revocation(signer).is_some(),
        hash: object.record_hash(),
        record,
        signer,
    })
}

/// The same, under the name that its bytes give it.
pub(crate) fn verify_named(archive: &Archive, name: &ObjectName, bytes: &[u8]) -> Result<Registered, String> {
    let found = verify(&archive.charters, bytes)?;
    let own = archive
        .names
        .registration(found.record.dataset, found.record.version, Tag::of(bytes));
    match own == *name {
        true => Ok(found),
        false => Err("it lies under another name than its bytes give it".to_owned()),
    }
}

/// What a class of the newest charter demands of a dataset with these terms: also whether any commit could meet them.
pub fn feasible(charter: &Charter, class: u32, terms: &Terms) -> Result<ClassPolicy, Rule> {
    let found = charter.class(class);
    let found = found.ok_or_else(|| Rule::new("wrong-charter", format!("the charter has no class {class}")))?;
    let policy = found.policy()?.under(terms)?;
    Quorums::new(policy.geometry, Some(policy.losses), policy.liars)
        .map_err(|refused| Rule::new("bad-geometry", refused.to_string()))?;
    Ok(policy)
}

/// Why a record of a dataset was not published. Whatever a site took lies there, and does no harm.
#[derive(Debug, thiserror::Error)]
pub enum RegisterError {
    /// Nobody who could has signed it, or it is no record.
    #[error("the record is not to be believed: {0}")]
    Record(String),
    /// Its signer was revoked.
    #[error("key {0}, which signed it, was revoked")]
    Revoked(KeyId),
    /// It may not follow what is there.
    #[error("it may not follow what the sites show: {0}")]
    Order(Rule),
    /// The charter's numbers say nothing of how many sites must hold it.
    #[error("how many sites must hold it is not known")]
    Needed(#[source] Box<PublishError>),
    /// Too few sites took it.
    #[error("{found} of {sites} sites hold the record, {needed} are needed")]
    Sites {
        /// Sites that hold it.
        found: usize,
        /// All.
        sites: usize,
        /// Sites that must.
        needed: usize,
        /// What sites said.
        troubles: Vec<SiteTrouble>,
    },
}

/// Where a record now lies.
#[derive(Debug)]
pub struct RegisteredAt {
    /// The record.
    pub found: Registered,
    /// Sites of the charter that hold it.
    pub sites: usize,
    /// What others said.
    pub troubles: Vec<SiteTrouble>,
}

/// Whether a record may follow what there is of its dataset.
pub fn may_follow(registry: &Registry, next: &Registered, charters: &Charters) -> Result<(), Rule> {
    let newest = registry.newest(next.record.dataset);
    match newest {
        // Published before: it is put again where it is missing.
        Some(newest) if newest.hash == next.hash => Ok(()),
        Some(newest) if next.record.previous == Some(newest.hash) => next.record.check_after(&newest.record, charters),
        Some(newest) => {
            let text = format!(
                "record {} of the dataset is the newest, and this one, of number {}, does not follow it",
                newest.record.version, next.record.version
            );
            Err(Rule::new("broken-chain", text))
        }
        None => Ok(()),
    }
}

/// Puts a signed record at every site.
pub fn publish_record(
    archive: &Archive,
    bytes: &Bytes,
    surroundings: &Surroundings,
) -> Result<RegisteredAt, RegisterError> {
    let found = verify(&archive.charters, bytes).map_err(RegisterError::Record)?;
    if found.void {
        return Err(RegisterError::Revoked(found.signer));
    }
    let needed = holders_needed(archive.charter()).map_err(|error| RegisterError::Needed(Box::new(error)))?;
    surroundings.runtime.block_on(async {
        let registry = Registry::of(archive, found.record.dataset).await;
        may_follow(&registry, &found, &archive.charters).map_err(RegisterError::Order)?;
        let name = archive
            .names
            .registration(found.record.dataset, found.record.version, Tag::of(bytes));
        let published = publish(&archive.sites, &name, bytes).await;
        let all: Vec<_> = archive.charter().sites.iter().map(|site| site.id).collect();
        let sites = published.count_in(&all);
        match sites < needed {
            true => Err(RegisterError::Sites {
                found: sites,
                sites: all.len(),
                needed,
                troubles: published.troubles,
            }),
            false => Ok(RegisteredAt {
                found,
                sites,
                troubles: published.troubles,
            }),
        }
    })
}

#[cfg(test)]
mod tests;
