//! A charter in plain words: what it says, and what it changes. Ministers read this page and compare its digest.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, Write},
};

use exclave_model::{
    Charter, Charters, Class, KeyId, RecipientKey, RecordHash, Revocation, Role, SiteRecord, charter::Reason,
};
use exclave_plan::quorum::Quorums;
use serde::Serialize;

use super::{
    draft::short,
    retention,
    rules::{rule_changes, rule_warnings, rules},
    watch,
};
use crate::{format, output::Report};

/// One page about one version.
#[derive(Serialize)]
pub struct Page {
    archive: String,
    version: u32,
    /// Hash of the record: what people who sign compare.
    digest: String,
    created: String,
    signatures: Signatures,
    changes: Vec<String>,
    people: Vec<String>,
    places: Vec<String>,
    promises: Vec<String>,
    rules: Vec<String>,
    warnings: Vec<String>,
}

/// Who has signed.
#[derive(Serialize)]
pub struct Signatures {
    /// Roots of the version before: how many have signed, and how many must. Version 1 has none before it.
    pub before: Option<(usize, usize)>,
    /// Its own roots.
    pub own: (usize, usize),
}

impl Signatures {
    /// True when nobody has to sign any more.
    pub fn are_enough(&self) -> bool {
        let enough = |(valid, needed): (usize, usize)| valid >= needed;
        enough(self.own) && self.before.is_none_or(enough)
    }

    fn text(&self) -> String {
        let own = format!("{} of {} of its own roots that must", self.own.0, self.own.1);
        match self.before {
            None => format!("signed by {own}"),
            Some((valid, needed)) => {
                format!("signed by {valid} of {needed} roots of the version before that must, and by {own}")
            }
        }
    }
}

impl Page {
    /// The page about a version; `before` is the history that it follows.
    pub fn of(charter: &Charter, digest: RecordHash, before: Option<&Charters>, signatures: Signatures) -> Self {
        let archive = before.map_or_else(|| digest.to_hex(), |before| before.anchor().to_hex());
        let (changes, warnings) = match before {
            None => (Vec::new(), Vec::new()),
            Some(before) => (changes(before.newest(), charter), warnings(before.newest(), charter)),
        };
        Self {
            archive,
            version: charter.version,
            digest: digest.to_hex(),
            created: format::rfc3339(charter.created),
            signatures,
            changes,
            people: people(charter),
            places: charter.sites.iter().map(place).collect(),
            promises: charter
                .classes
                .iter()
                .flat_map(|class| [promise(charter, class), retention::sentence(charter, class.id)])
                .collect(),
            rules: rules(charter),
            warnings,
        }
    }
}

impl Report for Page {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "Charter version {} of archive {}", self.version, self.archive)?;
        writeln!(out, "made {}, {}", self.created, self.signatures.text())?;
        writeln!(
            out,
            "\nDigest, to be compared by everyone who signs:\n  {}",
            grouped(&self.digest)
        )?;
        let none = vec!["Nothing.".to_owned()];
        if self.version > 1 {
            list(
                out,
                "What it changes",
                if self.changes.is_empty() { &none } else { &self.changes },
            )?;
        }
        if !self.warnings.is_empty() {
            list(out, "What that means", &self.warnings)?;
        }
        list(out, "Who may do what", &self.people)?;
        list(out, "Where data may lie", &self.places)?;
        list(out, "What is promised", &self.promises)?;
        match self.rules.is_empty() {
            true => Ok(()),
            false => list(out, "What binds writers", &self.rules),
        }
    }
}

fn list(out: &mut dyn Write, title: &str, lines: &[String]) -> io::Result<()> {
    writeln!(out, "\n{title}:")?;
    lines
        .iter()
        .try_for_each(|line| writeln!(out, "  - {}", format::plain(line)))
}

/// Hex in groups of four, as one reads it over a telephone.
fn grouped(digits: &str) -> String {
    let groups: Vec<String> = digits
        .as_bytes()
        .chunks(4)
        .map(|group| String::from_utf8_lossy(group).into_owned())
        .collect();
    groups.join(" ")
}

fn key(id: KeyId) -> String {
    short(id.as_bytes())
}

fn keys(ids: impl Iterator<Item = KeyId>) -> String {
    ids.map(key).collect::<Vec<_>>().join(", ")
}

fn numbers(classes: &[u32]) -> String {
    let word = if classes.len() == 1 { "class" } else { "classes" };
    let classes: Vec<String> = classes.iter().map(u32::to_string).collect();
    format!("{word} {}", classes.join(", "))
}

fn scope(classes: &[u32]) -> String {
    match classes {
        [] => "all classes".to_owned(),
        some => numbers(some),
    }
}

fn people(charter: &Charter) -> Vec<String> {
    let roots = &charter.roots;
    let mut lines = vec![format!(
        "{} of {} roots decide together about the next charter: {}",
        roots.threshold,
        roots.keys.len(),
        keys(roots.keys.iter().map(exclave_model::PublicKey::id))
    )];
    for writer in &charter.writers {
        lines.push(format!(
            "writer {} commits snapshots of {}",
            key(writer.key.id()),
            numbers(&writer.classes)
        ));
    }
    for set in &charter.recipient_sets {
        let ids: Vec<String> = set.keys.iter().map(|key| short(key.id().as_bytes())).collect();
        lines.push(format!(
            "recipient set {} (crypto epoch {}): {} can open: {}",
            set.id,
            set.crypto_epoch,
            match set.keys.len() {
                1 => "one identity".to_owned(),
                several => format!("each of {several} identities"),
            },
            ids.join(", ")
        ));
    }
    for member in charter.members() {
        let scope = if member.classes.is_empty() {
            String::new()
        } else {
            format!(" of {}", numbers(&member.classes))
        };
        lines.push(format!("{} {}{scope}", member.role, key(member.key.id())));
    }
    for authority in charter.authorities() {
        lines.push(format!(
            "{} of {} decide together about {}: {}",
            authority.threshold,
            authority.keys.len(),
            authority.purpose,
            keys(authority.keys.iter().map(exclave_model::PublicKey::id))
        ));
    }
    for set in charter.share_sets() {
        let groups = set.groups.iter().map(|group| {
            let names: Vec<&str> = group
                .custodians
                .iter()
                .map(|custodian| custodian.name.as_str())
                .collect();
            format!("{}: {}", group.name, names.join(", "))
        });
        lines.push(format!(
            "identity {} is put together by {} ({})",
            short(set.recipient.as_bytes()),
            set.in_words(),
            groups.collect::<Vec<_>>().join("; ")
        ));
    }
    lines.extend(watch::sentences(charter));
    lines.extend(charter.revocations().iter().map(revoked));
    lines
}

fn revoked(revocation: &Revocation) -> String {
    let counts = match revocation.pins.as_slice() {
        [] => "no head that it signed counts".to_owned(),
        pins => {
            let heads: Vec<String> = pins
                .iter()
                .map(|pin| format!("{} in place {}", short(pin.head.as_bytes()), pin.seq))
                .collect();
            format!("its heads count up to {}", heads.join(", "))
        }
    };
    format!(
        "key {} is revoked as {}: {counts}",
        key(revocation.key),
        revocation.reason
    )
}

fn place(site: &SiteRecord) -> String {
    let mut facts = vec![site.hosting.to_string(), site.pace.to_string()];
    facts.extend(site.country.iter().map(|country| format!("in {country}")));
    facts.extend(site.region.iter().map(|region| format!("region {region}")));
    facts.extend(site.operator.iter().map(|operator| format!("run by {operator}")));
    facts.extend(
        site.legal_reach
            .iter()
            .map(|reach| format!("within reach of {}", reach.join(", "))),
    );
    facts.extend(site.iam_realm.iter().map(|realm| format!("guarded by {realm}")));
    format!("{}: {}", site.name, facts.join(", "))
}

fn promise(charter: &Charter, class: &Class) -> String {
    let promised = class.policy().ok().and_then(|policy| {
        let quorums = Quorums::new(policy.geometry, Some(policy.losses), policy.liars).ok()?;
        let spare = charter.sites.len().checked_sub(usize::from(quorums.sites()));
        let sites = match spare {
            Some(0) => String::new(),
            Some(spare) => format!(" {} in reserve.", format::count(spare as u64, "site")),
            None => format!(
                " There are only {} sites: nothing can be committed.",
                charter.sites.len()
            ),
        };
        Some(format!("{}{sites}", quorums.describe()))
    });
    let promised = promised.unwrap_or_else(|| "its numbers contradict each other".to_owned());
    format!(
        "class {}: {promised} Opened by recipient set {}.",
        class.id, class.recipient_set
    )
}

/// What one version changes, a sentence each.
pub fn changes(before: &Charter, next: &Charter) -> Vec<String> {
    let mut lines = Vec::new();
    if before.roots.threshold != next.roots.threshold {
        lines.push(format!(
            "{} roots must sign, and not {}",
            next.roots.threshold, before.roots.threshold
        ));
    }
    key_changes(before, next, &mut lines);
    recipient_changes(before, next, &mut lines);
    site_changes(before, next, &mut lines);
    class_changes(before, next, &mut lines);
    for authority in next.authorities() {
        let earlier = before
            .authorities()
            .iter()
            .find(|earlier| earlier.purpose == authority.purpose);
        if let Some(earlier) = earlier.filter(|earlier| earlier.threshold != authority.threshold) {
            lines.push(format!(
                "{} of the {} authorities must agree, and not {}",
                authority.threshold, authority.purpose, earlier.threshold
            ));
        }
    }
    for set in next.share_sets() {
        let earlier = before.share_sets().iter().find(|earlier| earlier.id == set.id);
        if earlier != Some(set) {
            let key = short(set.recipient.as_bytes());
            let deed = if earlier.is_some() { "is split anew" } else { "is split" };
            lines.push(format!("identity {key} {deed}: {}", set.in_words()));
        }
    }
    for set in before.share_sets() {
        if !next.share_sets().iter().any(|later| later.id == set.id) {
            lines.push(format!(
                "the shares of identity {} are not named any more",
                short(set.recipient.as_bytes())
            ));
        }
    }
    retention::changes(before, next, &mut lines);
    rule_changes(before, next, &mut lines);
    watch::changes(before, next, &mut lines);
    for revocation in next.revocations() {
        if before.revocation(revocation.key) != Some(revocation) {
            lines.push(revoked(revocation));
        }
    }
    // Nobody may sign on the word of a page that is silent about something.
    let changed = Charter {
        version: before.version,
        previous: before.previous,
        created: before.created,
        nonce: before.nonce,
        ..next.clone()
    };
    if lines.is_empty() && changed != *before {
        lines.push("something that this page has no words for: compare the drafts of both versions".to_owned());
    }
    lines
}

fn key_changes(before: &Charter, next: &Charter, lines: &mut Vec<String>) {
    let roles =
        |charter: &Charter| -> BTreeMap<KeyId, Role> { charter.keys().map(|(role, key)| (key.id(), role)).collect() };
    let (then, now) = (roles(before), roles(next));
    for (id, role) in &now {
        match then.get(id) {
            None => lines.push(format!("key {} gets the role {role}", key(*id))),
            Some(was) if was != role => {
                lines.push(format!("key {} had the role {was} and gets the role {role}", key(*id)))
            }
            Some(_) => {}
        }
    }
    let gone = then.iter().filter(|(id, _)| !now.contains_key(*id));
    lines.extend(gone.map(|(id, role)| format!("key {} loses the role {role}", key(*id))));
    for member in next.members() {
        let id = member.key.id();
        let was = before.members().iter().find(|was| was.key.id() == id);
        if let Some(was) = was.filter(|was| was.classes != member.classes) {
            lines.push(format!(
                "{} {} acts for {}, and not {}",
                member.role,
                key(id),
                scope(&member.classes),
                scope(&was.classes)
            ));
        }
    }
    for writer in &next.writers {
        let was = before.writer(writer.key.id());
        if let Some(was) = was.filter(|was| was.classes != writer.classes) {
            lines.push(format!(
                "writer {} writes {}, and not {}",
                key(writer.key.id()),
                numbers(&writer.classes),
                numbers(&was.classes)
            ));
        }
    }
}

fn recipient_changes(before: &Charter, next: &Charter, lines: &mut Vec<String>) {
    for set in &next.recipient_sets {
        let Some(was) = before.recipient_sets.iter().find(|was| was.id == set.id) else {
            lines.push(format!("recipient set {} is new", set.id));
            continue;
        };
        let ids = |keys: &[RecipientKey]| -> BTreeSet<_> { keys.iter().map(RecipientKey::id).collect() };
        let (then, now) = (ids(&was.keys), ids(&set.keys));
        for id in now.difference(&then) {
            lines.push(format!(
                "identity {} opens what set {} gets from now on",
                short(id.as_bytes()),
                set.id
            ));
        }
        for id in then.difference(&now) {
            lines.push(format!(
                "identity {} opens nothing new of set {}",
                short(id.as_bytes()),
                set.id
            ));
        }
        if was.crypto_epoch != set.crypto_epoch {
            lines.push(format!(
                "the crypto epoch of set {} rises from {} to {}",
                set.id, was.crypto_epoch, set.crypto_epoch
            ));
        }
    }
}

fn site_changes(before: &Charter, next: &Charter, lines: &mut Vec<String>) {
    for site in &next.sites {
        match before.site(site.id) {
            None => lines.push(format!("site {} is new", place(site))),
            Some(was) if was != site => lines.push(format!("site {} becomes {}", was.name, place(site))),
            Some(_) => {}
        }
    }
    let gone = before.sites.iter().filter(|site| next.site(site.id).is_none());
    lines.extend(gone.map(|site| format!("site {} is dropped", site.name)));
}

fn class_changes(before: &Charter, next: &Charter, lines: &mut Vec<String>) {
    for class in &next.classes {
        match before.class(class.id) {
            None => lines.push(format!("class {} is new", class.id)),
            Some(was) if was != class => lines.push(format!(
                "class {}: {}; before: {}",
                class.id,
                figures(class),
                figures(was)
            )),
            Some(_) => {}
        }
    }
}

/// All of a class but its number.
fn figures(class: &Class) -> String {
    let Ok(policy) = class.policy() else {
        return "numbers that contradict each other".to_owned();
    };
    format!(
        "{}+{}, {} losses, {} liars, payload {}, read-back {}, recipient set {}",
        policy.geometry.data(),
        policy.geometry.parity(),
        policy.losses,
        policy.liars,
        format::bytes(policy.payload.bytes() as u64),
        policy.read_back,
        class.recipient_set
    )
}

/// What follows from the changes that nobody should learn afterwards.
pub fn warnings(before: &Charter, next: &Charter) -> Vec<String> {
    let mut lines = Vec::new();
    for site in before.sites.iter().filter(|site| next.site(site.id).is_none()) {
        lines.push(format!(
            "to every snapshot with shards at {} it is a lost site: nothing is moved away from there",
            site.name
        ));
    }
    let left = before.recipient_sets.iter().any(|set| {
        let now = next.recipient_sets.iter().find(|now| now.id == set.id);
        set.keys
            .iter()
            .any(|key| now.is_some_and(|now| !now.keys.contains(key)))
    });
    if left {
        lines.push("an identity that goes still opens everything that was wrapped for it, for ever".to_owned());
    }
    let raised = next.recipient_sets.iter().any(|set| {
        before
            .recipient_sets
            .iter()
            .any(|was| was.id == set.id && was.crypto_epoch < set.crypto_epoch)
    });
    if raised {
        lines.push("datasets under a raised crypto epoch are sent in full once more".to_owned());
    }
    let newly = next
        .revocations()
        .iter()
        .filter(|revocation| before.revocation(revocation.key).is_none());
    for revocation in newly.filter(|revocation| revocation.pins.is_empty() && before.writer(revocation.key).is_some()) {
        lines.push(format!(
            "every snapshot that {} writer {} committed is void, since no head of it is pinned",
            match revocation.reason {
                Reason::Retired => "retired",
                Reason::Compromised => "stolen",
            },
            key(revocation.key)
        ));
    }
    rule_warnings(before, next, &mut lines);
    lines.extend(watch::warnings(before, next));
    if next.roots.threshold == 1 && next.roots.keys.len() > 1 {
        lines.push("any one root alone can sign the next charter".to_owned());
    }
    lines
}
