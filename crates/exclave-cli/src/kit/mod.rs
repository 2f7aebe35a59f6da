//! A kit in a folder: as it was made or fetched, or as it lies at a site, copied by hand.
//!
//! Nothing of it is believed on its own word. Its charters lead from the anchor, which the reader knows from a card, a share
//! or an identity, to the roots who signed the manifest; the manifest names every file by its hash.

mod files;
mod sites;

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use aws_lc_rs::digest::{Context as Hash, SHA256};
use exclave_engine::charter::read_history;
use exclave_model::{
    Anchor, CharterFile, Charters, KeyId, Kit, KitFile, Record as _, RecordHash, SealedLogins, SignedObject,
    charter::CHARTER_FILE_BYTES_MAX,
    hex,
    kit::{CHARTERS_FILE, KIT_BYTES_MAX, LOGINS_BYTES_MAX, LOGINS_FILE, MANIFEST, SITES_FILE},
};
use exclave_seal::{RecoveryIdentity, kit_signers};

pub use self::{
    files::{Altered, piece},
    sites::{KitSites, logins_text, sites_text},
};
use crate::{
    error::{Context as _, Trouble},
    exit::Exit,
};

/// The manifest of a kit that nobody has signed yet: the record alone.
pub const DRAFT: &str = "manifest.draft";

/// Files that a restore can't do without.
const NEEDED: [&str; 3] = [CHARTERS_FILE, LOGINS_FILE, SITES_FILE];

/// Longest `sites.toml`: 256 sites with certificates and known hosts.
const SITES_BYTES_MAX: usize = 4 << 20;

/// A kit whose files are those that its manifest names.
pub struct KitFolder {
    /// Where it lies.
    pub folder: PathBuf,
    /// What it holds.
    pub kit: Kit,
    /// The hash of its manifest's record.
    pub digest: RecordHash,
    /// Its manifest with signatures; `None` while nobody has signed it.
    pub object: Option<SignedObject>,
    /// Whose signatures count.
    pub signers: BTreeSet<KeyId>,
    /// The charters that it brings, up to the one that it was made under or later.
    pub charters: Charters,
    /// The same, signed.
    pub history: Vec<SignedObject>,
    /// Files that aren't there, and that a restore doesn't need.
    pub missing: Vec<String>,
    /// Where the sites are.
    pub sites: KitSites,
    logins: SealedLogins,
}

impl KitFolder {
    /// Reads a kit, signed or not, and checks every file of it. `anchor` is what is known of the archive from elsewhere.
    pub fn read(folder: &Path, anchor: Option<Anchor>) -> Result<Self, Trouble> {
        let refuse = |what: String| Trouble::new(Exit::Refused, format!("the kit in {}: {what}", folder.display()));
        let (record, objects) = manifest(folder)?;
        let kit = Kit::from_bytes(&record).because(|| refuse("its manifest is none".to_owned()))?;
        if let Some(known) = anchor.filter(|known| *known != kit.anchor) {
            return Err(refuse(format!(
                "it is of archive {}, not of {}",
                kit.anchor.to_hex(),
                known.to_hex()
            ))
            .hint("compare the anchor with the custodians' cards, digit by digit"));
        }
        let altered = |altered: Altered| refuse(altered.to_string()).hint("fetch the kit again, from another site");
        // What leads to the roots comes first.
        let whole = |name: &str, bytes_max: usize| -> Result<Vec<u8>, Trouble> {
            let file = kit.file(name).ok_or_else(|| refuse(format!("it has no {name}")))?;
            if file.length > bytes_max as u64 {
                return Err(refuse(format!("its {name} is longer than it may be")));
            }
            files::whole(folder, file).map_err(altered)
        };
        let file = CharterFile::from_bytes(&whole(CHARTERS_FILE, CHARTER_FILE_BYTES_MAX)?);
        let file = file.because(|| refuse(format!("its {CHARTERS_FILE} hold no charters")))?;
        let charters =
            read_history(&file.charters).because(|| refuse("its charters are not to be believed".to_owned()))?;
        let charters = charters.ok_or_else(|| refuse("its charters are missing".to_owned()))?;
        if charters.anchor() != kit.anchor {
            return Err(refuse("its charters are another archive's".to_owned()));
        }
        let (object, signers) =
            signed(objects, &charters).because(|| refuse("its manifest is not to be believed".to_owned()))?;
        let missing = files::check_all(folder, &kit).map_err(altered)?;
        if let Some(name) = missing.iter().find(|name| NEEDED.contains(&name.as_str())) {
            return Err(refuse(format!("{name} is missing")));
        }
        let made_under = charters.obeyed(kit.charter_version);
        let made_under =
            made_under.because(|| refuse("it was made under a charter that it does not bring".to_owned()))?;
        if charters.hash(kit.charter_version) != Some(kit.charter) {
            return Err(refuse("it was made under another charter than it brings".to_owned()));
        }
        let logins = SealedLogins::from_bytes(&whole(LOGINS_FILE, LOGINS_BYTES_MAX)?);
        let logins = logins.because(|| refuse(format!("{LOGINS_FILE} holds no credentials")))?;
        let fits = logins.check_place(kit.anchor, kit.version, made_under);
        fits.because(|| refuse(format!("{LOGINS_FILE} is not this kit's")))?;
        let sites = KitSites::parse(&whole(SITES_FILE, SITES_BYTES_MAX)?)
            .because(|| refuse(format!("{SITES_FILE} can't be used")))?;
        Ok(Self {
            folder: folder.to_owned(),
            digest: RecordHash::of(&record),
            kit,
            object,
            signers,
            charters,
            history: file.charters,
            missing,
            sites,
            logins,
        })
    }

    /// Reads a kit that as many roots signed as its charter asks for.
    pub fn open(folder: &Path, anchor: Option<Anchor>) -> Result<Self, Trouble> {
        let kit = Self::read(folder, anchor)?;
        match kit.signers.len() < kit.needed() {
            false => Ok(kit),
            true => Err(Trouble::new(
                Exit::Refused,
                format!(
                    "the kit in {}: {} of {} roots signed it",
                    folder.display(),
                    kit.signers.len(),
                    kit.needed()
                ),
            )
            .hint("roots sign with `exclave kit sign`; whoever fetched it so got less than was published")),
        }
    }

    /// How many roots must sign.
    pub fn needed(&self) -> usize {
        let charter = self.charters.version(self.kit.charter_version);
        charter.map_or(usize::MAX, |charter| charter.roots.threshold as usize)
    }

    /// The credentials, opened in memory, and put to the sites that they are for.
    pub fn open_logins(&mut self, identity: &RecoveryIdentity) -> Result<(), Trouble> {
        let text = identity.open_logins(&self.logins).because(|| {
            Trouble::new(Exit::Refused, "the kit's credentials don't open")
                .hint("are these the shares, or is it the identity, of a recovery key that the kit's charter names?")
        })?;
        self.sites.log_in(&text)
    }

    /// A file's SHA-256, which any machine can compute.
    pub fn sha256(&self, file: &KitFile) -> Result<String, Trouble> {
        let mut hash = Hash::new(&SHA256);
        for at in 0..file.pieces.len() {
            let bytes = self.piece(file, at);
            let bytes = bytes.map_err(|why| Trouble::new(Exit::Refused, format!("{} is {why}", file.name)))?;
            hash.update(&bytes);
        }
        Ok(hex(hash.finish().as_ref()))
    }

    /// A piece of one of its files, not checked.
    pub fn piece(&self, file: &KitFile, at: usize) -> Result<Vec<u8>, String> {
        piece(&self.folder, file, at).map_err(|altered| altered.why)
    }
}

/// The manifest's record, and the signed objects that carry it, one of which counts.
fn manifest(folder: &Path) -> Result<(Vec<u8>, Vec<SignedObject>), Trouble> {
    let cannot = || Trouble::usage(format!("the kit {} can't be read", folder.display()));
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).because(cannot)? {
        let name = entry.because(cannot)?.file_name().to_string_lossy().into_owned();
        // As at a site, its name ends in a tag.
        if name == MANIFEST || name.strip_prefix("manifest.").is_some_and(|end| end != "draft") {
            names.push(name);
        }
    }
    names.sort();
    let mut objects = Vec::new();
    for name in &names {
        let bytes = crate::private_file::read_public(&folder.join(name), KIT_BYTES_MAX, "kit's manifest")?;
        let object = SignedObject::from_bytes(&bytes, KIT_BYTES_MAX).because(|| {
            Trouble::new(
                Exit::Refused,
                format!("the kit in {}: {name} is no manifest", folder.display()),
            )
        })?;
        objects.push(object);
    }
    let records: BTreeSet<&[u8]> = objects.iter().map(SignedObject::record_bytes).collect();
    match (records.first(), records.len()) {
        (Some(record), 1) => Ok((record.to_vec(), objects)),
        (Some(_), _) => Err(Trouble::new(
            Exit::Refused,
            format!("the kit in {} has several manifests", folder.display()),
        )
        .hint("each kit has a folder of its own")),
        (None, _) => {
            let draft = crate::private_file::read_public(&folder.join(DRAFT), KIT_BYTES_MAX, "kit's manifest");
            Ok((
                draft.map_err(|trouble| trouble.hint("is this the folder of a kit?"))?,
                Vec::new(),
            ))
        }
    }
}

/// Of objects with one record, the one that most signatures count of.
fn signed(
    objects: Vec<SignedObject>,
    charters: &Charters,
) -> Result<(Option<SignedObject>, BTreeSet<KeyId>), exclave_seal::KitError> {
    let (mut best, mut refusal) = ((None, BTreeSet::new()), None);
    for object in objects {
        match kit_signers(&object, charters) {
            Ok((_, signers)) if best.0.is_none() || signers.len() > best.1.len() => best = (Some(object), signers),
            Ok(_) => {}
            Err(error) => refusal = Some(error),
        }
    }
    match (&best.0, refusal) {
        (None, Some(refusal)) => Err(refusal),
        _ => Ok(best),
    }
}
