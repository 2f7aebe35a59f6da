//! A site that misbehaves on command: what real servers won't do when a test needs it.
//!
//! Which operation meets which [`Fault`] is programmed by [`Rule`]s: by kind of operation, by name, by count, or by a
//! seeded chance. The same seed and the same operations in the same order give the same faults. Every operation is one
//! step, counted by [`Steps`], which several sites may share: a crash of *our* process at step i fails that operation and
//! all later ones at all of them, until [`Steps::restart`]. Together with a store that is shared, "crash at every step,
//! start again, look" is a loop over i.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use exclave_model::{ObjectName, Prefix};

use crate::contract::{Children, Destroy, Listing, PutMode, Site, Stored};
use crate::error::{Failure, Operation};
use crate::layer::script::{Crash, Fault, Record, Rule, SplitMix64, Steps, When};
use crate::versions::{self, Locked, NameVersions, VersionId, VersionListing, Versions};
use crate::{Body, SiteAddress, SiteError};

/// Newest puts that stale answers may forget; older ones are always seen.
const RECENT_PUTS_MAX: usize = 4096;

/// A site with faults around another site. Clones share everything.
#[derive(Debug, Clone)]
pub struct Faulty<S> {
    inner: S,
    steps: Steps,
    script: Arc<Mutex<Script>>,
}

#[derive(Debug)]
struct Script {
    rules: Vec<Rule>,
    chance: SplitMix64,
    recent: VecDeque<ObjectName>,
    log: Vec<Record>,
}

/// What one operation has to suffer, decided before it starts.
struct Fate {
    step: u64,
    crash: Option<Crash>,
    faults: Vec<Fault>,
    stale: Vec<ObjectName>,
}

impl<S: Site> Faulty<S> {
    /// A calm site around `inner`; `seed` decides what happens by chance.
    pub fn new(inner: S, seed: u64, steps: &Steps) -> Self {
        let script = Script {
            rules: Vec::new(),
            chance: SplitMix64(seed),
            recent: VecDeque::new(),
            log: Vec::new(),
        };
        Self {
            inner,
            steps: steps.clone(),
            script: Arc::new(Mutex::new(script)),
        }
    }

    /// Adds a rule; all rules that strike take effect, in this order.
    pub fn inflict(&self, when: When, fault: Fault) {
        self.script().rules.push(Rule::new(when, fault));
    }

    /// Removes all rules.
    pub fn calm(&self) {
        self.script().rules.clear();
    }

    /// What was done here so far.
    pub fn log(&self) -> Vec<Record> {
        self.script().log.clone()
    }

    /// How many operations of this kind the log holds.
    pub fn count(&self, operation: Operation) -> usize {
        self.script()
            .log
            .iter()
            .filter(|record| record.operation == operation)
            .count()
    }

    /// The counter of steps.
    pub fn steps(&self) -> &Steps {
        &self.steps
    }

    /// What it is around.
    pub fn inner(&self) -> &S {
        &self.inner
    }

    fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fate(&self, operation: Operation, object: &str) -> Fate {
        let (step, crash) = self.steps.take();
        let mut script = self.script();
        let Script {
            rules,
            chance,
            recent,
            log,
        } = &mut *script;
        let struck = rules.iter_mut().filter_map(|rule| {
            let strikes = crash.is_none() && rule.strikes(operation, object, chance);
            strikes.then(|| rule.fault.clone())
        });
        let faults: Vec<Fault> = struck.collect();
        let forgotten = faults
            .iter()
            .map(|fault| if let Fault::Stale { puts } = fault { *puts } else { 0 })
            .max();
        let stale = recent.iter().rev().take(forgotten.unwrap_or(0)).cloned().collect();
        log.push(Record {
            step,
            operation,
            object: object.to_owned(),
            faults: faults.clone(),
            failure: None,
        });
        Fate {
            step,
            crash,
            faults,
            stale,
        }
    }

    /// Runs one operation under its fate. `act` is the deed itself; `tear` what is left of it when it is torn.
    async fn suffer<T>(
        &self,
        operation: Operation,
        fate: Fate,
        act: impl Future<Output = Result<T, SiteError>>,
        tear: impl AsyncFnOnce(u64) -> Result<(), SiteError>,
    ) -> Result<T, SiteError> {
        let outcome = self.outcome(operation, &fate, act, tear).await;
        if let Err(error) = &outcome {
            let mut script = self.script();
            if let Some(record) = script.log.iter_mut().rfind(|record| record.step == fate.step) {
                record.failure = Some(error.class());
            }
        }
        outcome
    }

    async fn outcome<T>(
        &self,
        operation: Operation,
        fate: &Fate,
        act: impl Future<Output = Result<T, SiteError>>,
        tear: impl AsyncFnOnce(u64) -> Result<(), SiteError>,
    ) -> Result<T, SiteError> {
        let fail = |failure| SiteError::new(self.address(), operation, failure);
        let crashed = || fail(Failure::Crashed { step: fate.step });
        match fate.crash {
            Some(Crash::Before) => return Err(crashed()),
            Some(Crash::After) => {
                act.await?;
                return Err(crashed());
            }
            Some(Crash::Torn { bytes }) => {
                tear(bytes).await?;
                return Err(crashed());
            }
            None => {}
        }
        let mut reply_lost = false;
        for fault in &fate.faults {
            match fault {
                Fault::LostBefore => return Err(fail(Failure::Unreachable)),
                Fault::Torn { bytes } => {
                    tear(*bytes).await?;
                    return Err(fail(Failure::Unreachable));
                }
                Fault::Slow { wait } => tokio::time::sleep(*wait).await,
                Fault::Hang => std::future::pending::<()>().await,
                Fault::Deny => return Err(fail(Failure::Denied)),
                Fault::Fill => return Err(fail(Failure::Full)),
                Fault::Throttle => return Err(fail(Failure::Throttled)),
                Fault::Fail => return Err(fail(Failure::Internal { status: Some(500) })),
                Fault::ReplyLost => reply_lost = true,
                // The deeds themselves look after these.
                Fault::Vanish
                | Fault::Spoil
                | Fault::Overwrite
                | Fault::SayExists
                | Fault::WrongBytes
                | Fault::Stale { .. }
                | Fault::Omit { .. } => {}
            }
        }
        let done = act.await?;
        if reply_lost {
            Err(fail(Failure::Slow { waited: Duration::ZERO }))
        } else {
            Ok(done)
        }
    }

    async fn store(&self, name: &ObjectName, body: Body, mode: PutMode, faults: &[Fault]) -> Result<Stored, SiteError> {
        let (mut body, mut mode) = (body, mode);
        for fault in faults {
            match fault {
                Fault::Vanish => return Ok(Stored::Created),
                Fault::SayExists => return Ok(Stored::AlreadyExists),
                Fault::Overwrite => mode = PutMode::Plain,
                Fault::Spoil => body = self.spoil(&body.to_bytes()).into(),
                // These struck before, or strike answers.
                Fault::LostBefore
                | Fault::ReplyLost
                | Fault::Torn { .. }
                | Fault::WrongBytes
                | Fault::Stale { .. }
                | Fault::Omit { .. }
                | Fault::Slow { .. }
                | Fault::Hang
                | Fault::Deny
                | Fault::Fill
                | Fault::Throttle
                | Fault::Fail => {}
            }
        }
        let stored = self.inner.put(name, body, mode).await?;
        self.remember(name);
        Ok(stored)
    }

    fn remember(&self, name: &ObjectName) {
        let mut script = self.script();
        script.recent.push_back(name.clone());
        if script.recent.len() > RECENT_PUTS_MAX {
            script.recent.pop_front();
        }
    }

    /// The same bytes but for one bit; nothing can be spoilt about no bytes.
    fn spoil(&self, bytes: &Bytes) -> Bytes {
        let mut spoilt = bytes.to_vec();
        let chance = self.script().chance.next();
        let at = chance.checked_rem(spoilt.len() as u64).unwrap_or(0);
        if let Some(byte) = usize::try_from(at).ok().and_then(|at| spoilt.get_mut(at)) {
            *byte ^= 1 << (chance >> 61);
        }
        spoilt.into()
    }

    fn read(&self, fate: &[Fault], bytes: Bytes) -> Bytes {
        if fate.contains(&Fault::WrongBytes) {
            self.spoil(&bytes)
        } else {
            bytes
        }
    }

    fn known(&self, operation: Operation, name: &ObjectName, stale: &[ObjectName]) -> Result<(), SiteError> {
        if stale.contains(name) {
            return Err(SiteError::new(self.address(), operation, Failure::Missing).object(name));
        }
        Ok(())
    }
}

fn hides(faults: &[Fault], stale: &[ObjectName], name: &ObjectName) -> bool {
    let omits = |fault: &Fault| matches!(fault, Fault::Omit { containing } if name.as_str().contains(containing));
    stale.contains(name) || faults.iter().any(omits)
}

async fn nothing(_bytes: u64) -> Result<(), SiteError> {
    Ok(())
}

#[async_trait]
impl<S: Site> Site for Faulty<S> {
    async fn put(&self, name: &ObjectName, body: Body, mode: PutMode) -> Result<Stored, SiteError> {
        let fate = self.fate(Operation::Put, name.as_str());
        let faults = fate.faults.clone();
        let whole = body.clone();
        let act = self.store(name, whole, mode, &faults);
        let tear = async |bytes| {
            self.inner
                .put(name, body.first(bytes), mode)
                .await
                .map(|_| self.remember(name))
        };
        self.suffer(Operation::Put, fate, act, tear)
            .await
            .map_err(|error| error.object(name))
    }

    async fn get(&self, name: &ObjectName, bytes_max: u64) -> Result<Bytes, SiteError> {
        let fate = self.fate(Operation::Get, name.as_str());
        let (faults, stale) = (fate.faults.clone(), fate.stale.clone());
        let act = async {
            self.known(Operation::Get, name, &stale)?;
            Ok(self.read(&faults, self.inner.get(name, bytes_max).await?))
        };
        self.suffer(Operation::Get, fate, act, nothing)
            .await
            .map_err(|error| error.object(name))
    }

    async fn get_range(&self, name: &ObjectName, range: Range<u64>) -> Result<Bytes, SiteError> {
        let fate = self.fate(Operation::GetRange, name.as_str());
        let (faults, stale) = (fate.faults.clone(), fate.stale.clone());
        let act = async {
            self.known(Operation::GetRange, name, &stale)?;
            Ok(self.read(&faults, self.inner.get_range(name, range).await?))
        };
        self.suffer(Operation::GetRange, fate, act, nothing)
            .await
            .map_err(|error| error.object(name))
    }

    async fn length(&self, name: &ObjectName) -> Result<u64, SiteError> {
        let fate = self.fate(Operation::Length, name.as_str());
        let stale = fate.stale.clone();
        let act = async {
            self.known(Operation::Length, name, &stale)?;
            self.inner.length(name).await
        };
        self.suffer(Operation::Length, fate, act, nothing)
            .await
            .map_err(|error| error.object(name))
    }

    async fn list(&self, prefix: &Prefix, entries_max: usize) -> Result<Listing, SiteError> {
        let fate = self.fate(Operation::List, prefix.as_str());
        let (faults, stale) = (fate.faults.clone(), fate.stale.clone());
        let act = async {
            let mut listing = self.inner.list(prefix, entries_max).await?;
            listing.entries.retain(|entry| !hides(&faults, &stale, &entry.name));
            Ok(listing)
        };
        self.suffer(Operation::List, fate, act, nothing)
            .await
            .map_err(|error| error.prefix(prefix))
    }

    async fn list_children(&self, prefix: &Prefix, entries_max: usize) -> Result<Children, SiteError> {
        let fate = self.fate(Operation::ListChildren, prefix.as_str());
        let (faults, stale) = (fate.faults.clone(), fate.stale.clone());
        let act = async {
            let mut children = self.inner.list_children(prefix, entries_max).await?;
            children.entries.retain(|entry| !hides(&faults, &stale, &entry.name));
            let omits =
                |fault: &Fault, text: &str| matches!(fault, Fault::Omit { containing } if text.contains(containing));
            children
                .prefixes
                .retain(|child| !faults.iter().any(|fault| omits(fault, child.as_str())));
            Ok(children)
        };
        self.suffer(Operation::ListChildren, fate, act, nothing)
            .await
            .map_err(|error| error.prefix(prefix))
    }

    async fn flush(&self) -> Result<(), SiteError> {
        let fate = self.fate(Operation::Flush, "");
        self.suffer(Operation::Flush, fate, self.inner.flush(), nothing).await
    }

    async fn date(&self) -> Option<i64> {
        self.inner.date().await
    }

    fn address(&self) -> &SiteAddress {
        self.inner.address()
    }

    fn versions(&self) -> Option<&dyn Versions> {
        self.inner.versions().is_some().then_some(self)
    }
}

#[async_trait]
impl<S: Site> Versions for Faulty<S> {
    async fn are_kept(&self) -> Result<bool, SiteError> {
        let fate = self.fate(Operation::Versioning, "");
        let act = versions::of(&self.inner, Operation::Versioning)?.are_kept();
        self.suffer(Operation::Versioning, fate, act, nothing).await
    }

    async fn versions_of(&self, name: &ObjectName, kept_max: usize) -> Result<NameVersions, SiteError> {
        let fate = self.fate(Operation::ListVersions, name.as_str());
        let below = versions::of(&self.inner, Operation::ListVersions)?;
        let act = below.versions_of(name, kept_max);
        self.suffer(Operation::ListVersions, fate, act, nothing)
            .await
            .map_err(|error| error.object(name))
    }

    async fn list_versions(
        &self,
        prefix: &Prefix,
        names_max: usize,
        kept_max: usize,
    ) -> Result<VersionListing, SiteError> {
        let fate = self.fate(Operation::ListVersions, prefix.as_str());
        let below = versions::of(&self.inner, Operation::ListVersions)?;
        let (faults, stale) = (fate.faults.clone(), fate.stale.clone());
        let act = async {
            let mut listing = below.list_versions(prefix, names_max, kept_max).await?;
            listing.names.retain(|found| !hides(&faults, &stale, &found.name));
            Ok(listing)
        };
        self.suffer(Operation::ListVersions, fate, act, nothing)
            .await
            .map_err(|error| error.prefix(prefix))
    }

    async fn get_version(&self, name: &ObjectName, version: &VersionId, bytes_max: u64) -> Result<Bytes, SiteError> {
        let fate = self.fate(Operation::GetVersion, name.as_str());
        let below = versions::of(&self.inner, Operation::GetVersion)?;
        let faults = fate.faults.clone();
        let act = async { Ok(self.read(&faults, below.get_version(name, version, bytes_max).await?)) };
        self.suffer(Operation::GetVersion, fate, act, nothing)
            .await
            .map_err(|error| error.object(name))
    }

    async fn get_version_range(
        &self,
        name: &ObjectName,
        version: &VersionId,
        range: Range<u64>,
    ) -> Result<Bytes, SiteError> {
        let fate = self.fate(Operation::GetVersionRange, name.as_str());
        let below = versions::of(&self.inner, Operation::GetVersionRange)?;
        let faults = fate.faults.clone();
        let act = async { Ok(self.read(&faults, below.get_version_range(name, version, range).await?)) };
        self.suffer(Operation::GetVersionRange, fate, act, nothing)
            .await
            .map_err(|error| error.object(name))
    }

    async fn lock_of(&self, name: &ObjectName, version: Option<&VersionId>) -> Result<Option<Locked>, SiteError> {
        let fate = self.fate(Operation::LockOf, name.as_str());
        let below = versions::of(&self.inner, Operation::LockOf)?;
        let act = below.lock_of(name, version);
        self.suffer(Operation::LockOf, fate, act, nothing)
            .await
            .map_err(|error| error.object(name))
    }
}

#[async_trait]
impl<S: Site + Destroy> Destroy for Faulty<S> {
    async fn delete(&self, name: &ObjectName) -> Result<(), SiteError> {
        let fate = self.fate(Operation::Delete, name.as_str());
        let act = self.inner.delete(name);
        self.suffer(Operation::Delete, fate, act, nothing)
            .await
            .map_err(|error| error.object(name))
    }

    async fn delete_version(&self, name: &ObjectName, version: &VersionId) -> Result<(), SiteError> {
        let fate = self.fate(Operation::DeleteVersion, name.as_str());
        let act = self.inner.delete_version(name, version);
        self.suffer(Operation::DeleteVersion, fate, act, nothing)
            .await
            .map_err(|error| error.object(name))
    }

    async fn sweep(&self) -> Result<u64, SiteError> {
        self.inner.sweep().await
    }
}

#[cfg(test)]
#[path = "faulty_tests.rs"]
mod tests;
