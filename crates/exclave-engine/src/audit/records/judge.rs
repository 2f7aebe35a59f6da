//! What an object is: a valid record of this archive that belongs where it lies, or none.

use bytes::Bytes;
use exclave_model::{
    Close, LedgerPart, ObjectName, Record as _, RecordHash, ReuseClaim, RunId, RunPage, SignedObject, SignedRecord,
    SitePlate, Tag, limit::RECORD_BYTES_MAX,
};
use exclave_seal::{verify_charter, verify_next_charter, verify_one, verify_one_of};

use super::{Auditor, EnvelopeFacts, Judged, Key, RecordKind, Scope};
use crate::{archive::Archive, companion, registry, snapshot::keys::verify_envelope, survey::is_head};

/// What an intact object is, when it is a valid record of this archive that belongs where it lies.
pub(super) fn judge(auditor: &Auditor<'_>, scope: &Scope, name: &ObjectName, bytes: &Bytes) -> Option<Judged> {
    let archive = &auditor.desk.archive;
    let mut parts = name.as_str().split('/').skip(1);
    let (place, below) = (parts.next()?, parts.next()?);
    let judged = |key, kind, run| {
        Some(Judged {
            key,
            kind,
            run,
            envelope: None,
        })
    };
    match place {
        "charter" => judged(
            Key::Charter(charter_version(archive, name, bytes)?),
            RecordKind::Charter,
            None,
        ),
        "sites" => {
            let object = SignedObject::from_bytes(bytes, RECORD_BYTES_MAX).ok()?;
            let (plate, _) = verify_one_of::<SitePlate>(&object, archive.charters.plate_keys()).ok()?;
            let fits = plate.anchor == archive.anchor && archive.names.plate(plate.site, Tag::of(bytes)) == *name;
            fits.then_some(())?;
            judged(Key::Plate(plate.site), RecordKind::Plate, None)
        }
        "heads" => {
            let hash = is_head(archive, name, bytes)?;
            let found = auditor.survey.found.get(&hash)?;
            judged(Key::Head(hash), RecordKind::Head, Some(found.head.run))
        }
        "grants" => {
            crate::grant::verify(archive, bytes)?;
            judged(Key::Named(name.clone()), RecordKind::Grant, None)
        }
        "datasets" => {
            registry::verify_named(archive, name, bytes).ok()?;
            judged(Key::Named(name.clone()), RecordKind::Dataset, None)
        }
        "names" => {
            companion::verify_named(archive, name, bytes).ok()?;
            judged(Key::Named(name.clone()), RecordKind::Names, None)
        }
        "runs" => judge_run_object(archive, scope, below.parse().ok()?, name, bytes),
        _ => None,
    }
}

fn judge_run_object(archive: &Archive, scope: &Scope, run: RunId, name: &ObjectName, bytes: &Bytes) -> Option<Judged> {
    let hash = RecordHash::of(bytes);
    let mut judged = Judged {
        key: Key::Named(name.clone()),
        kind: RecordKind::Claim,
        run: Some(run),
        envelope: None,
    };
    match name.file_name().split('.').next()? {
        "envelope" => {
            let (_, envelope) = verify_envelope(archive, run, bytes).ok()?;
            // What a head says of the run decides: an envelope of another key is none of it.
            let known = scope.runs.get(&run).map(|known| known.entry.commitment);
            known
                .is_none_or(|commitment| commitment == envelope.commitment)
                .then_some(())?;
            (judged.key, judged.kind) = (Key::Envelope(run), RecordKind::Envelope);
            judged.envelope = Some(EnvelopeFacts {
                class: envelope.class,
                dataset: envelope.dataset,
            });
        }
        "live" => {
            let page = RunPage::from_bytes(bytes).ok()?;
            (page.anchor == archive.anchor && scope.pages.contains(&hash)).then_some(())?;
            (judged.key, judged.kind) = (Key::Page(hash), RecordKind::RunPage);
        }
        "ledger" => {
            let part = LedgerPart::from_bytes(bytes).ok()?;
            (part.anchor == archive.anchor && scope.needs_part(hash)).then_some(())?;
            (judged.key, judged.kind) = (Key::Ledger(hash), RecordKind::Ledger);
        }
        "reuse" => {
            let claim = signed::<ReuseClaim>(archive, bytes)?;
            (claim.anchor == archive.anchor && claim.run == run).then_some(())?;
        }
        "close" => {
            let close = signed::<Close>(archive, bytes)?;
            (close.anchor == archive.anchor && close.run == run).then_some(())?;
            judged.kind = RecordKind::Close;
        }
        _ => return None,
    }
    Some(judged)
}

/// A record that someone signed who ever was a writer.
fn signed<R: SignedRecord>(archive: &Archive, bytes: &Bytes) -> Option<R> {
    let object = SignedObject::from_bytes(bytes, RECORD_BYTES_MAX).ok()?;
    let signer = object.signatures().first()?.key;
    verify_one::<R>(&object, archive.charters.writer_key(signer)?).ok()
}

/// Which version of the charter an object is, when enough roots signed it.
fn charter_version(archive: &Archive, name: &ObjectName, bytes: &Bytes) -> Option<u32> {
    let object = crate::archive::charter_object(&archive.names, name, bytes)?;
    let version = archive
        .charters
        .iter()
        .map(|charter| charter.version)
        .find(|version| archive.charters.hash(*version) == Some(object.record_hash()))?;
    if version == 1 {
        verify_charter(&object, archive.anchor).ok()?;
        return Some(1);
    }
    let before = archive.charters.until(version.checked_sub(1)?)?;
    verify_next_charter(&object, &before).ok()?;
    Some(version)
}
