//! `site check`: what a site can do, what our credentials may do there, and how fast it is.
//!
//! The probe uses a handful of objects of its own below `probe/<nonce>/`. What it finds decides how the site is used: create-only
//! puts only where they are honoured; a warning where an agent's credentials could overwrite or delete. Whether the bucket
//! keeps versions and locks objects is the bucket's own word: it isn't tried. How long it says that what was just put is locked is
//! held against what it says of itself.

use std::time::Duration;

use bytes::Bytes;
use exclave_model::{ObjectName, Prefix, hex};
use serde::{Deserialize, Serialize};

use crate::contract::{Destroy, PutMode, Site, Stored};
use crate::layer::script::SplitMix64;
use crate::{Body, Class, Locked, ObjectLock, Retention, SiteError, Versioning};

/// Bytes of the object whose transfer is timed: one shard's usual payload.
pub const TIMED_BYTES: usize = exclave_model::limit::PAYLOAD_BYTES_DEFAULT;

/// Requests whose median is the round trip.
const ROUND_TRIPS: usize = 5;

/// Bytes of the small objects.
const SMALL_BYTES: usize = 1000;

/// What a probe learned about one thing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "status", content = "value")]
pub enum Finding<T> {
    /// It is so.
    Known(T),
    /// The attempt failed.
    Failed {
        /// The class of the failure.
        class: Class,
        /// The failure in words.
        error: String,
    },
    /// There is no way to tell, or it wasn't asked for.
    Unknown,
}

/// What becomes of a create-only put on a name that is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CreateOnly {
    /// It is refused and the first object stays. Says nothing about a race.
    Honoured,
    /// It overwrites and says that all is well.
    SilentlyOverwrites,
    /// The site says that it can't.
    Unsupported,
    /// Something else.
    Broken,
}

/// What our credentials may do to an object that exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Power {
    /// They can. On a versioned bucket the old version may still be there underneath.
    Can,
    /// The site refuses.
    Cannot,
    /// The site says that it did and the object is as before.
    SaidSoOnly,
}

/// Whether something that can be answered right or wrong was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kept {
    /// As it should be.
    Right,
    /// Not as it should be.
    Wrong,
}

/// What a probe learned about a site.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ProbeReport {
    /// The site's address.
    pub site: String,
    /// Where the probe's objects lie, for whoever wants to delete them.
    pub objects: String,
    /// Whether what is put comes back.
    pub put_and_get: Finding<Kept>,
    /// Create-only puts.
    pub create_only: Finding<CreateOnly>,
    /// Whether a plain put replaces an object.
    pub overwrite: Finding<Power>,
    /// Ranged reads.
    pub ranges: Finding<Kept>,
    /// Whether a listing shows what was just put.
    pub listing: Finding<Kept>,
    /// Whether our credentials can delete; unknown unless asked.
    pub delete: Finding<Power>,
    /// Whether old versions are kept; unknown unless asked.
    pub versioning: Finding<Versioning>,
    /// Whether objects are locked; unknown unless asked.
    pub object_lock: Finding<ObjectLock>,
    /// How long what was just put is locked; unknown where that can't be asked.
    pub put_is_locked: Finding<Option<Locked>>,
    /// Median time of a small request, in microseconds.
    pub round_trip_us: Finding<u64>,
    /// Bytes per second of one put of 8 MiB.
    pub upload_bytes_per_second: Finding<u64>,
    /// Bytes per second of one get of 8 MiB.
    pub download_bytes_per_second: Finding<u64>,
    /// The site's clock, seconds since 1970.
    pub date: Option<i64>,
}

/// What a probe must be given.
pub struct ProbeInputs<'a> {
    /// Fresh random bytes: they name the probe's objects and fill them.
    pub nonce: [u8; 16],
    /// A clock that only goes forward, from any start.
    pub elapsed: &'a (dyn Fn() -> Duration + Sync),
    /// The power to delete with the credentials under test; without it deletion isn't tried.
    pub destroy: Option<&'a dyn Destroy>,
    /// The power to ask what the bucket keeps; without it that isn't asked.
    pub retention: Option<&'a dyn Retention>,
}

/// Probes a site. Failures are findings; the probe itself always ends.
pub async fn probe(site: &dyn Site, inputs: &ProbeInputs<'_>) -> ProbeReport {
    let probe = Probe::new(site, inputs);
    let put_and_get = probe.put_and_get().await.into();
    let create_only = probe.create_only().await.into();
    let overwrite = probe.overwrite().await.into();
    let ranges = probe.ranges().await.into();
    let listing = probe.listing().await.into();
    let round_trip_us = probe.round_trip_us().await.into();
    let (upload, download) = probe.throughput().await;
    let (versioning, object_lock) = match inputs.retention {
        Some(retention) => (
            retention.versioning(&probe.small).await.into(),
            retention.object_lock().await.into(),
        ),
        None => (Finding::Unknown, Finding::Unknown),
    };
    let put_is_locked = match site.versions() {
        Some(versions) => versions.lock_of(&probe.small, None).await.into(),
        None => Finding::Unknown,
    };
    // Last, because it takes away what the others look at.
    let delete = match inputs.destroy {
        Some(destroy) => probe.delete(destroy).await.into(),
        None => Finding::Unknown,
    };
    ProbeReport {
        site: site.address().to_string(),
        objects: probe.below.to_string(),
        put_and_get,
        create_only,
        overwrite,
        ranges,
        listing,
        delete,
        versioning,
        object_lock,
        put_is_locked,
        round_trip_us,
        upload_bytes_per_second: upload,
        download_bytes_per_second: download,
        date: site.date().await,
    }
}

struct Probe<'a> {
    site: &'a dyn Site,
    elapsed: &'a (dyn Fn() -> Duration + Sync),
    below: Prefix,
    small: ObjectName,
    created: ObjectName,
    large: ObjectName,
    seed: u64,
}

impl<'a> Probe<'a> {
    #[expect(
        clippy::expect_used,
        reason = "hex digits and this file's own texts are object names"
    )]
    fn new(site: &'a dyn Site, inputs: &ProbeInputs<'a>) -> Self {
        let within = ObjectName::parse(&format!("probe/{}", hex(&inputs.nonce))).expect("hex is an object name");
        let below = Prefix::below(&within);
        let name = |text| below.join(text).expect("an object name");
        let (small, created, large) = (name("small"), name("created"), name("large"));
        let [a, b, c, d, e, f, g, h, ..] = inputs.nonce;
        let seed = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
        Self {
            site,
            elapsed: inputs.elapsed,
            below,
            small,
            created,
            large,
            seed,
        }
    }

    async fn put_and_get(&self) -> Result<Kept, SiteError> {
        let bytes = self.noise(0, SMALL_BYTES);
        self.site.put(&self.small, bytes.clone().into(), PutMode::Plain).await?;
        self.site.flush().await?;
        Ok(kept(self.site.get(&self.small, SMALL_BYTES as u64).await? == bytes))
    }

    async fn create_only(&self) -> Result<CreateOnly, SiteError> {
        let first = self.noise(1, SMALL_BYTES);
        let second = self.noise(2, SMALL_BYTES);
        match self
            .site
            .put(&self.created, first.clone().into(), PutMode::Create)
            .await
        {
            Err(error) if error.class() == Class::Unsupported => return Ok(CreateOnly::Unsupported),
            other => other?,
        };
        let said = self
            .site
            .put(&self.created, second.clone().into(), PutMode::Create)
            .await?;
        let there = self.site.get(&self.created, SMALL_BYTES as u64).await?;
        Ok(match (said, there == first, there == second) {
            (Stored::AlreadyExists, true, _) => CreateOnly::Honoured,
            (Stored::Created, _, true) => CreateOnly::SilentlyOverwrites,
            _ => CreateOnly::Broken,
        })
    }

    async fn overwrite(&self) -> Result<Power, SiteError> {
        let other = self.noise(3, SMALL_BYTES);
        match self.site.put(&self.small, other.clone().into(), PutMode::Plain).await {
            Err(error) if error.class() == Class::Denied => return Ok(Power::Cannot),
            said => said?,
        };
        let there = self.site.get(&self.small, SMALL_BYTES as u64).await?;
        Ok(if there == other { Power::Can } else { Power::SaidSoOnly })
    }

    async fn ranges(&self) -> Result<Kept, SiteError> {
        let whole = self.site.get(&self.small, SMALL_BYTES as u64).await?;
        let part = self.site.get_range(&self.small, 100..300).await?;
        Ok(kept(whole.get(100..300).is_some_and(|wanted| part == wanted)))
    }

    async fn listing(&self) -> Result<Kept, SiteError> {
        let listing = self.site.list(&self.below, 10).await?;
        Ok(kept(listing.entries.iter().any(|entry| entry.name == self.small)))
    }

    async fn delete(&self, destroy: &dyn Destroy) -> Result<Power, SiteError> {
        for name in [&self.created, &self.large] {
            // Tidying up; what counts is the small one.
            let _ = destroy.delete(name).await;
        }
        match destroy.delete(&self.small).await {
            Err(error) if error.class() == Class::Denied => return Ok(Power::Cannot),
            said => said?,
        }
        match self.site.length(&self.small).await {
            Err(error) if error.class() == Class::Missing => Ok(Power::Can),
            Err(error) => Err(error),
            Ok(_) => Ok(Power::SaidSoOnly),
        }
    }

    async fn round_trip_us(&self) -> Result<u64, SiteError> {
        let mut times = Vec::with_capacity(ROUND_TRIPS);
        for _ in 0..ROUND_TRIPS {
            let start = (self.elapsed)();
            self.site.length(&self.small).await?;
            times.push(self.since(start));
        }
        times.sort();
        let median = times.get(ROUND_TRIPS / 2).copied().unwrap_or_default();
        Ok(u64::try_from(median.as_micros()).unwrap_or(u64::MAX))
    }

    async fn throughput(&self) -> (Finding<u64>, Finding<u64>) {
        let bytes = self.noise(4, TIMED_BYTES);
        let start = (self.elapsed)();
        let put = self.site.put(&self.large, Body::from(bytes), PutMode::Plain).await;
        // A directory's put only reaches memory; what counts is the disk.
        let put = match put {
            Ok(_) => self.site.flush().await,
            Err(error) => Err(error),
        };
        let upload = put.map(|()| per_second(self.since(start)));
        if upload.is_err() {
            return (upload.into(), Finding::Unknown);
        }
        let start = (self.elapsed)();
        let get = self.site.get(&self.large, TIMED_BYTES as u64).await;
        (upload.into(), get.map(|_| per_second(self.since(start))).into())
    }

    fn since(&self, start: Duration) -> Duration {
        (self.elapsed)().saturating_sub(start)
    }

    /// Bytes that don't compress, other ones for every `stream`.
    fn noise(&self, stream: u64, length: usize) -> Bytes {
        let mut source = SplitMix64(self.seed ^ stream.rotate_right(8));
        let words = std::iter::repeat_with(|| source.next().to_le_bytes());
        words.flatten().take(length).collect::<Vec<u8>>().into()
    }
}

impl<T> From<Result<T, SiteError>> for Finding<T> {
    fn from(found: Result<T, SiteError>) -> Self {
        match found {
            Ok(known) => Self::Known(known),
            Err(error) => {
                let cause = std::error::Error::source(&error)
                    .map(|cause| format!(": {cause}"))
                    .unwrap_or_default();
                Self::Failed {
                    class: error.class(),
                    error: format!("{error}{cause}"),
                }
            }
        }
    }
}

fn kept(right: bool) -> Kept {
    if right { Kept::Right } else { Kept::Wrong }
}

fn per_second(took: Duration) -> u64 {
    let took_us = took.as_micros().max(1);
    u64::try_from(TIMED_BYTES as u128 * 1_000_000 / took_us).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;
    use crate::{Fault, MemorySite, MemoryStore, Operation, SimulatedSite, Steps, When};

    async fn probed(rules: &[(When, Fault)], may_delete: bool) -> ProbeReport {
        let site = SimulatedSite::simulated("one", 1, &Steps::new()).unwrap();
        for (when, fault) in rules {
            site.inflict(when.clone(), fault.clone());
        }
        let ticks = AtomicU64::new(0);
        let elapsed = || Duration::from_millis(ticks.fetch_add(1, Ordering::Relaxed));
        let retention = MemorySite::over(site.address().clone(), MemoryStore::default());
        let destroy: Option<&dyn Destroy> = may_delete.then_some(&site as _);
        probe(
            &site,
            &ProbeInputs {
                nonce: [7; 16],
                elapsed: &elapsed,
                destroy,
                retention: Some(&retention),
            },
        )
        .await
    }

    #[tokio::test]
    async fn a_calm_site_is_measured_and_cleaned_up() {
        let report = probed(&[], true).await;
        assert_eq!(report.put_and_get, Finding::Known(Kept::Right));
        assert_eq!(report.create_only, Finding::Known(CreateOnly::Honoured));
        assert_eq!(report.overwrite, Finding::Known(Power::Can));
        assert_eq!(
            (&report.ranges, &report.listing),
            (&Finding::Known(Kept::Right), &Finding::Known(Kept::Right))
        );
        assert_eq!(report.delete, Finding::Known(Power::Can));
        assert_eq!(report.versioning, Finding::Known(Versioning::Off));
        assert_eq!(report.object_lock, Finding::Known(ObjectLock::None));
        assert_eq!(report.put_is_locked, Finding::Unknown);
        // The clock goes 1 ms a look.
        assert_eq!(report.round_trip_us, Finding::Known(1000));
        assert_eq!(
            report.upload_bytes_per_second,
            Finding::Known(8 << 20).map_known(|b: u64| b * 1000)
        );
        assert_eq!(report.objects, format!("probe/{}/", "07".repeat(16)));
    }

    #[tokio::test]
    async fn lies_and_refusals_are_findings() {
        let report = probed(&[(When::any().writes(), Fault::Overwrite)], false).await;
        assert_eq!(report.create_only, Finding::Known(CreateOnly::SilentlyOverwrites));
        assert_eq!(report.delete, Finding::Unknown);
        let report = probed(
            &[(
                When::any().only(&[Operation::Put]).containing("small").after(1),
                Fault::Deny,
            )],
            true,
        )
        .await;
        assert_eq!(report.overwrite, Finding::Known(Power::Cannot));
        let report = probed(&[(When::any().only(&[Operation::Delete]), Fault::Deny)], true).await;
        assert_eq!(report.delete, Finding::Known(Power::Cannot));
        let report = probed(&[(When::any().only(&[Operation::Delete]), Fault::ReplyLost)], true).await;
        assert!(matches!(report.delete, Finding::Failed { class: Class::Slow, .. }));
        let report = probed(
            &[(When::any().only(&[Operation::List]), Fault::Stale { puts: 9 })],
            true,
        )
        .await;
        assert_eq!(report.listing, Finding::Known(Kept::Wrong));
        let report = probed(&[(When::any(), Fault::LostBefore)], true).await;
        assert!(matches!(
            report.put_and_get,
            Finding::Failed {
                class: Class::Unreachable,
                ..
            }
        ));
    }

    impl<T> Finding<T> {
        fn map_known(self, change: impl FnOnce(T) -> T) -> Self {
            match self {
                Self::Known(known) => Self::Known(change(known)),
                other => other,
            }
        }
    }
}
