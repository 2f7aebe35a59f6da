//! A charter as people write it: a TOML file of the whole next version.
//!
//! Keys are written as the first digits of their ids when an earlier version has them, else as the path of a key file
//! (its public half suffices) beside the draft. A draft is compiled into a record; what people sign is the record, and
//! the digest that they compare is its hash. The same draft always gives the same record.

use std::{collections::BTreeSet, path::Path};

use exclave_model::{
    Anchor, Authority, Charter, Charters, Class, ClassPolicy, Geometry, Hosting, Incarnation, KeyId, Member,
    MemberRole, Pace, PayloadLength, Pin, PublicKey, Purpose, ReadBack, RecipientKey, RecipientSet, RecordHash,
    Revocation, Roots, ShareSet, SiteId, SiteRecord, Version1, Writer, charter::Reason, hex, unhex,
};
use serde::{Deserialize, Serialize};

use super::retention::DraftRetention;
use super::watch::DraftWitnesses;
use crate::{
    error::{Context as _, Trouble},
    format, keys, shares,
};

/// First line of every draft.
const FORMAT: &str = "exclave charter draft v1";

/// Digits of an id that a draft shows; as many at least must be given.
const ID_DIGITS: usize = 16;

/// Stands above every new draft.
const HEADER: &str = "\
# The next version of this archive's charter, whole. Change what is to change, then:
#   exclave charter explain THIS-FILE            shows on one page what it says and what it changes
#   exclave charter sign THIS-FILE --root KEY    signs it; every root signs the file that the one before wrote
#   exclave charter publish SIGNED-FILE          puts it at the sites, once enough roots signed
#
# A key is the beginning of its id, when an earlier version has it, else the path of a key file beside this one:
#   keys = [\"3f2a91c07d5e8b14\", \"minister-2.pub\"]
# A writer or root that goes is named under [[revoked]]:
#   [[revoked]]
#   key = \"3f2a91c07d5e8b14\"
#   reason = \"compromised\"          # or \"retired\"
#   [[revoked.accepted]]              # the last head of each of its lives that counts; none: all of them are void
#   incarnation = \"...\"
#   seq = 41
#   head = \"...\"
# A recovery key that was split (`exclave key split`) has its public share set here, so that a ceremony needs shares alone:
#   [[shares]]
#   set = \"shares.set\"
# Without rules a class keeps every snapshot for ever. With them, what no rule keeps may be collected:
#   [[retention]]
#   class = 0
#   last = 3                          # of each chain, at least 3
#   verified = 3                      # last ones that an audit found whole, at least 1
#   age_days_min = 90                 # nothing younger goes, at least 7
#   daily = 14                        # first and last of so many days; also within_days, hourly, weekly, monthly, yearly
# Writers who may refer to each other's runs, and to nobody else's (without groups: all to all):
#   [[trust_group]]
#   writers = [\"3f2a91c07d5e8b14\", \"writer-2.pub\"]
# What binds every writer:
#   [rules]
#   registered_classes = [1]          # take only datasets that an administrator of the class added
#   format_versions = [1]             # write only these versions of the format
# Witnesses cosign checkpoints of the logs. A witness is its name, when the version before has it, else the path of its key file
# (its public half suffices), or the Ed25519 verifier key of one that has no other. Those of the owner's nation fill no quorum:
#   [witnesses]
#   quorum = 2
#   nations = 2
#   home = \"EE\"
#   age_max_hours = 72
#   [[witnesses.witness]]
#   key = \"witness-lu.pub\"
#   nation = \"LU\"
# When a recipient goes, or a writer's key was stolen, crypto_epoch of its set rises by one.
";

/// The draft of one version.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Draft {
    format: String,
    archive: String,
    version: u32,
    previous: Option<String>,
    created: String,
    nonce: String,
    roots: DraftRoots,
    writer: Vec<DraftWriter>,
    recipients: Vec<DraftRecipients>,
    class: Vec<DraftClass>,
    site: Vec<DraftSite>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    member: Vec<DraftMember>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    authority: Vec<DraftAuthority>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    revoked: Vec<DraftRevocation>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    shares: Vec<DraftShares>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    retention: Vec<DraftRetention>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    trust_group: Vec<DraftTrustGroup>,
    #[serde(default, skip_serializing_if = "DraftRules::is_empty")]
    rules: DraftRules,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    witnesses: Option<DraftWitnesses>,
}

/// Writers who may reuse each other's runs, and nobody else's.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct DraftTrustGroup {
    writers: Vec<String>,
}

/// What binds every writer.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct DraftRules {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    registered_classes: Vec<u32>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    format_versions: Vec<u32>,
}

impl DraftRules {
    fn is_empty(&self) -> bool {
        self.registered_classes.is_empty() && self.format_versions.is_empty()
    }
}

/// A share set: the beginning of its id when the version before has it, else the path of the file that `key split` wrote.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct DraftShares {
    set: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct DraftRoots {
    threshold: u32,
    keys: Vec<String>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct DraftWriter {
    key: String,
    classes: Vec<u32>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct DraftRecipients {
    set: u32,
    crypto_epoch: u32,
    keys: Vec<String>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct DraftClass {
    id: u32,
    data: u8,
    parity: u8,
    losses: u8,
    liars: u8,
    payload_bytes: u64,
    read_back: String,
    recipients: u32,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct DraftSite {
    name: String,
    id: String,
    hosting: String,
    pace: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    country: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    region: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    operator: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    legal_reach: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    iam_realm: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct DraftMember {
    role: String,
    key: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    classes: Vec<u32>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct DraftAuthority {
    purpose: String,
    threshold: u32,
    keys: Vec<String>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct DraftRevocation {
    key: String,
    reason: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    accepted: Vec<DraftPin>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct DraftPin {
    incarnation: String,
    seq: u64,
    head: String,
}

/// What a new draft begins with, beside the newest version.
pub struct Beginning {
    /// When: Unix seconds.
    pub created: i64,
    /// Makes the record differ from every other.
    pub nonce: [u8; 16],
    /// Sites of the configuration that no version has.
    pub sites: Vec<SiteRecord>,
}

impl Draft {
    /// The draft of the version after the newest: the same again, and what the configuration adds.
    pub fn after(charters: &Charters, beginning: Beginning) -> Self {
        let charter = charters.newest();
        let id = |key: &PublicKey| short(key.id().as_bytes());
        Self {
            format: FORMAT.to_owned(),
            archive: charters.anchor().to_hex(),
            version: charter.version.saturating_add(1),
            previous: Some(charters.newest_hash().to_hex()),
            created: format::rfc3339(beginning.created),
            nonce: hex(&beginning.nonce),
            roots: DraftRoots {
                threshold: charter.roots.threshold,
                keys: charter.roots.keys.iter().map(id).collect(),
            },
            writer: charter
                .writers
                .iter()
                .map(|writer| DraftWriter {
                    key: id(&writer.key),
                    classes: writer.classes.clone(),
                })
                .collect(),
            recipients: charter.recipient_sets.iter().map(recipients_of).collect(),
            class: charter.classes.iter().filter_map(class_of).collect(),
            site: charter.sites.iter().chain(&beginning.sites).map(site_of).collect(),
            member: charter
                .members()
                .iter()
                .map(|member| DraftMember {
                    role: member.role.to_string(),
                    key: id(&member.key),
                    classes: member.classes.clone(),
                })
                .collect(),
            authority: charter
                .authorities()
                .iter()
                .map(|authority| DraftAuthority {
                    purpose: authority.purpose.to_string(),
                    threshold: authority.threshold,
                    keys: authority.keys.iter().map(id).collect(),
                })
                .collect(),
            revoked: charter.revocations().iter().map(revocation_of).collect(),
            shares: charter
                .share_sets()
                .iter()
                .map(|set| DraftShares {
                    set: short(set.id.as_bytes()),
                })
                .collect(),
            retention: charter.retention.iter().flatten().map(DraftRetention::of).collect(),
            trust_group: charter
                .trust_groups
                .iter()
                .flatten()
                .map(|group| DraftTrustGroup {
                    // Whole: of a key that writes no more, no version need hold anything but its id.
                    writers: group.iter().map(|key| key.to_hex()).collect(),
                })
                .collect(),
            rules: DraftRules {
                registered_classes: charter.registered_classes.clone().unwrap_or_default(),
                format_versions: charter.format_versions.clone().unwrap_or_default(),
            },
            witnesses: charter.witnesses.as_ref().map(DraftWitnesses::of),
        }
    }

    /// Takes a writer's role away, in favour of the heads that `pins` hold. A stolen key ends the epoch of every set that
    /// its classes use.
    pub fn revoke(&mut self, charter: &Charter, writer: &Writer, reason: Reason, pins: Vec<Pin>) {
        let id = short(writer.key.id().as_bytes());
        self.writer.retain(|kept| kept.key != id);
        self.revoked.push(revocation_of(&Revocation {
            key: writer.key.id(),
            reason,
            pins,
        }));
        if reason == Reason::Compromised {
            let classes = writer.classes.iter().filter_map(|id| charter.class(*id));
            let sets: BTreeSet<u32> = classes.map(|class| class.recipient_set).collect();
            for set in self.recipients.iter_mut().filter(|set| sets.contains(&set.set)) {
                set.crypto_epoch = set.crypto_epoch.saturating_add(1);
            }
        }
    }

    /// Adds a writer, whose key file lies at `path`.
    pub fn add_writer(&mut self, path: &str, classes: &[u32]) {
        self.writer.push(DraftWriter {
            key: path.to_owned(),
            classes: classes.to_vec(),
        });
    }

    /// Reads a draft.
    pub fn parse(text: &str, shown: &str) -> Result<Self, Trouble> {
        let draft: Self = toml::from_str(text)
            .map_err(|error| Trouble::usage(format!("{shown} is no draft of a charter")).source(error))?;
        match draft.format == FORMAT {
            true => Ok(draft),
            false => Err(Trouble::usage(format!(
                "{shown} is no draft of a charter: its format line is unknown"
            ))),
        }
    }

    /// The draft's text, with what to do with it.
    pub fn to_text(&self) -> Result<String, Trouble> {
        let body = toml::to_string(self).because(|| Trouble::failed("the draft can't be written down"))?;
        Ok(format!("{HEADER}\n{body}"))
    }

    /// The record that the draft means. Whether it may follow is another question.
    pub fn compile(&self, charters: &Charters, folder: &Path) -> Result<Charter, Trouble> {
        let names = Names { charters, folder };
        let anchor: Anchor = self.archive.parse().map_err(|_| unreadable("archive", &self.archive))?;
        if anchor != charters.anchor() {
            return Err(Trouble::usage(format!(
                "the draft is for archive {anchor}, and the history beside it is that of {}",
                charters.anchor()
            )));
        }
        let created: jiff::Timestamp = self.created.parse().map_err(|_| unreadable("created", &self.created))?;
        let previous = self
            .previous
            .as_ref()
            .map(|text| parsed::<RecordHash>("previous", text))
            .transpose()?;
        Ok(Charter {
            format: Version1,
            version: self.version,
            previous,
            created: created.as_second(),
            roots: Roots {
                threshold: self.roots.threshold,
                keys: names.keys(&self.roots.keys)?,
            },
            writers: self
                .writer
                .iter()
                .map(|writer| {
                    Ok(Writer {
                        key: names.key(&writer.key)?,
                        classes: writer.classes.clone(),
                    })
                })
                .collect::<Result<_, Trouble>>()?,
            recipient_sets: self
                .recipients
                .iter()
                .map(|set| {
                    Ok(RecipientSet {
                        id: set.set,
                        crypto_epoch: set.crypto_epoch,
                        keys: set
                            .keys
                            .iter()
                            .map(|text| names.recipient(text))
                            .collect::<Result<_, Trouble>>()?,
                    })
                })
                .collect::<Result<_, Trouble>>()?,
            sites: self.site.iter().map(site).collect::<Result<_, Trouble>>()?,
            classes: self.class.iter().map(class).collect::<Result<_, Trouble>>()?,
            nonce: unhex(&self.nonce).ok_or_else(|| unreadable("nonce", &self.nonce))?,
            members: present(
                self.member
                    .iter()
                    .map(|member| {
                        Ok(Member {
                            role: member_role(&member.role)?,
                            key: names.key(&member.key)?,
                            classes: member.classes.clone(),
                        })
                    })
                    .collect::<Result<_, Trouble>>()?,
            ),
            authorities: present(
                self.authority
                    .iter()
                    .map(|authority| {
                        Ok(Authority {
                            purpose: word::<Purpose>("purpose", &authority.purpose)?,
                            threshold: authority.threshold,
                            keys: names.keys(&authority.keys)?,
                        })
                    })
                    .collect::<Result<_, Trouble>>()?,
            ),
            revocations: present(self.revocations(&names)?),
            share_sets: present(
                self.shares
                    .iter()
                    .map(|shares| names.share_set(&shares.set))
                    .collect::<Result<_, Trouble>>()?,
            ),
            retention: present(self.retention.iter().map(DraftRetention::rules).collect()),
            registered_classes: present(sorted(&self.rules.registered_classes)),
            trust_groups: present(
                self.trust_group
                    .iter()
                    .map(|group| group.writers.iter().map(|text| names.key_id(text)).collect())
                    .collect::<Result<_, Trouble>>()?,
            ),
            format_versions: present(sorted(&self.rules.format_versions)),
            witnesses: self
                .witnesses
                .as_ref()
                .map(|some| some.compile(charters, folder))
                .transpose()?,
        })
    }

    fn revocations(&self, names: &Names<'_>) -> Result<Vec<Revocation>, Trouble> {
        let mut revocations = Vec::new();
        for revoked in &self.revoked {
            let mut pins = Vec::new();
            for pin in &revoked.accepted {
                pins.push(Pin {
                    incarnation: parsed::<Incarnation>("incarnation", &pin.incarnation)?,
                    seq: pin.seq,
                    head: parsed::<RecordHash>("head", &pin.head)?,
                });
            }
            pins.sort_unstable();
            revocations.push(Revocation {
                key: names.key_id(&revoked.key)?,
                reason: word::<Reason>("reason", &revoked.reason)?,
                pins,
            });
        }
        revocations.sort_by_key(|revocation| revocation.key);
        Ok(revocations)
    }
}

fn sorted(numbers: &[u32]) -> Vec<u32> {
    let mut numbers = numbers.to_vec();
    numbers.sort_unstable();
    numbers
}

/// Absent rather than empty: the format has no empty lists.
fn present<T>(list: Vec<T>) -> Option<Vec<T>> {
    (!list.is_empty()).then_some(list)
}

/// Who is meant by a word in a draft.
struct Names<'a> {
    charters: &'a Charters,
    folder: &'a Path,
}

impl Names<'_> {
    fn keys(&self, texts: &[String]) -> Result<Vec<PublicKey>, Trouble> {
        texts.iter().map(|text| self.key(text)).collect()
    }

    fn key(&self, text: &str) -> Result<PublicKey, Trouble> {
        if is_digits(text) {
            let all = self.charters.iter().flat_map(Charter::keys).map(|(_, key)| key);
            return one(text, all.map(|key| (key.id().to_hex(), key))).cloned();
        }
        let path = self.folder.join(text);
        let file = keys::read(&path)?;
        file.public_key()
            .because(|| Trouble::usage(format!("{} is no signing key", path.display())))
    }

    /// The id of a key; of a revoked one no version may hold more than that.
    fn key_id(&self, text: &str) -> Result<KeyId, Trouble> {
        if !is_digits(text) {
            return self.key(text).map(|key| key.id());
        }
        if let Ok(id) = text.parse() {
            return Ok(id);
        }
        let held = self.charters.iter().flat_map(Charter::keys).map(|(_, key)| key.id());
        let revoked = self
            .charters
            .iter()
            .flat_map(Charter::revocations)
            .map(|revocation| revocation.key);
        one(text, held.chain(revoked).map(|id| (id.to_hex(), id)))
    }

    fn share_set(&self, text: &str) -> Result<ShareSet, Trouble> {
        if is_digits(text) {
            let all = self.charters.newest().share_sets().iter();
            return one(text, all.map(|set| (set.id.to_hex(), set))).cloned();
        }
        shares::read_set(&self.folder.join(text))
    }

    fn recipient(&self, text: &str) -> Result<RecipientKey, Trouble> {
        if is_digits(text) {
            let sets = self.charters.iter().flat_map(|charter| &charter.recipient_sets);
            let all = sets.flat_map(|set| &set.keys);
            return one(text, all.map(|key| (key.id().to_hex(), key))).cloned();
        }
        let path = self.folder.join(text);
        let file = keys::read(&path)?;
        file.recipient()
            .because(|| Trouble::usage(format!("{} is no recovery identity", path.display())))
    }
}

fn is_digits(text: &str) -> bool {
    text.len() >= ID_DIGITS
        && text
            .bytes()
            .all(|byte| byte.is_ascii_hexdigit() && !byte.is_ascii_uppercase())
}

/// The one thing whose id begins so.
fn one<T>(digits: &str, all: impl Iterator<Item = (String, T)>) -> Result<T, Trouble> {
    let mut found: Vec<(String, T)> = all.filter(|(id, _)| id.starts_with(digits)).collect();
    found.sort_by(|left, right| left.0.cmp(&right.0));
    found.dedup_by(|left, right| left.0 == right.0);
    match (found.pop(), found.is_empty()) {
        (Some((_, thing)), true) => Ok(thing),
        (Some(_), false) => Err(Trouble::usage(format!("several ids begin with {digits}")).hint("give more digits")),
        (None, _) => Err(
            Trouble::usage(format!("no earlier version of the charter has a key {digits}"))
                .hint("name the key's file instead; its public half suffices"),
        ),
    }
}

fn unreadable(what: &str, text: &str) -> Trouble {
    Trouble::usage(format!("{what} can't be read: {text:?}"))
}

fn parsed<T: std::str::FromStr>(what: &str, text: &str) -> Result<T, Trouble> {
    text.parse().map_err(|_| unreadable(what, text))
}

/// A word of an enumeration, with the words that there are when it isn't one.
fn word<T: std::str::FromStr<Err = String>>(what: &str, text: &str) -> Result<T, Trouble> {
    text.parse().map_err(|why| Trouble::usage(format!("{what}: {why}")))
}

/// Witnesses have a list of their own; the old role would let its key do nothing.
fn member_role(text: &str) -> Result<MemberRole, Trouble> {
    match word::<MemberRole>("role", text)? {
        MemberRole::Witness => Err(Trouble::usage("a witness is no member")
            .hint("name it under [[witnesses.witness]], and drop it from the members")),
        role => Ok(role),
    }
}

/// The first digits of an id.
pub fn short(id: &[u8]) -> String {
    let mut digits = hex(id);
    digits.truncate(ID_DIGITS);
    digits
}

fn recipients_of(set: &RecipientSet) -> DraftRecipients {
    DraftRecipients {
        set: set.id,
        crypto_epoch: set.crypto_epoch,
        keys: set.keys.iter().map(|key| short(key.id().as_bytes())).collect(),
    }
}

/// A verified charter's classes all have policies.
fn class_of(class: &Class) -> Option<DraftClass> {
    let policy = class.policy().ok()?;
    Some(DraftClass {
        id: class.id,
        data: policy.geometry.data(),
        parity: policy.geometry.parity(),
        losses: policy.losses,
        liars: policy.liars,
        payload_bytes: policy.payload.bytes() as u64,
        read_back: policy.read_back.to_string(),
        recipients: class.recipient_set,
    })
}

fn class(class: &DraftClass) -> Result<Class, Trouble> {
    let impossible = || Trouble::usage(format!("class {} is impossible", class.id));
    let payload = usize::try_from(class.payload_bytes).because(impossible)?;
    let policy = ClassPolicy {
        geometry: Geometry::new(class.data, class.parity).because(impossible)?,
        losses: class.losses,
        liars: class.liars,
        payload: PayloadLength::new(payload, class.data).because(impossible)?,
        read_back: word::<ReadBack>("read_back", &class.read_back)?,
    };
    Ok(Class::new(class.id, class.recipients, policy))
}

fn site_of(site: &SiteRecord) -> DraftSite {
    DraftSite {
        name: site.name.clone(),
        id: site.id.to_hex(),
        hosting: site.hosting.to_string(),
        pace: site.pace.to_string(),
        country: site.country.clone(),
        region: site.region.clone(),
        operator: site.operator.clone(),
        legal_reach: site.legal_reach.clone(),
        iam_realm: site.iam_realm.clone(),
    }
}

fn site(site: &DraftSite) -> Result<SiteRecord, Trouble> {
    Ok(SiteRecord {
        id: parsed::<SiteId>("the site's id", &site.id)?,
        name: site.name.clone(),
        hosting: word::<Hosting>("hosting", &site.hosting)?,
        pace: word::<Pace>("pace", &site.pace)?,
        country: site.country.clone(),
        region: site.region.clone(),
        operator: site.operator.clone(),
        legal_reach: site.legal_reach.clone(),
        iam_realm: site.iam_realm.clone(),
    })
}

fn revocation_of(revocation: &Revocation) -> DraftRevocation {
    DraftRevocation {
        key: revocation.key.to_hex(),
        reason: revocation.reason.to_string(),
        accepted: revocation
            .pins
            .iter()
            .map(|pin| DraftPin {
                incarnation: pin.incarnation.to_hex(),
                seq: pin.seq,
                head: pin.head.to_hex(),
            })
            .collect(),
    }
}
