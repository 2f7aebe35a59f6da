//! Kits that are put at sites which lose, tear and invent.

use std::sync::Arc;

use exclave_model::{Anchor, FileKind, KitSite, Login, Record as _, Version1};
use exclave_seal::SigningKey;
use exclave_site::{SimulatedSite, Site};

use super::*;
use crate::{
    archive::history_objects,
    charter::{Publishing, publish_charter},
    testing::{ROOT, WRITER, World, signing_key},
};

/// Two files, one of which has two pieces.
fn contents() -> BTreeMap<&'static str, Vec<u8>> {
    let long = (0..KIT_PIECE_BYTES as u32 + 9)
        .map(|number| (number % 251) as u8)
        .collect();
    [("exclave", long), ("format.md", b"the format".to_vec())].into()
}

fn signed(world: &mut World, version: u32, key: &SigningKey) -> SignedObject {
    let file = |(name, bytes): (&&str, &Vec<u8>)| KitFile {
        name: (*name).to_owned(),
        kind: FileKind::Plain,
        length: bytes.len() as u64,
        hash: FileHash::of(bytes),
        pieces: bytes.chunks(KIT_PIECE_BYTES).map(FileHash::of).collect(),
    };
    let kit = Kit {
        format: Version1,
        anchor: world.archive.anchor,
        version,
        charter_version: world.archive.charter().version,
        charter: world.archive.charters.newest_hash(),
        created: 5,
        program: "exclave".to_owned(),
        sites: vec![KitSite {
            name: "a".to_owned(),
            login: Login::Open,
        }],
        files: contents().iter().map(file).collect(),
    };
    key.sign(&kit, &mut world.entropy).unwrap()
}

fn read(file: &KitFile, piece: usize) -> Result<Bytes, String> {
    let bytes = contents().remove(file.name.as_str()).ok_or("no such file")?;
    let piece = bytes.chunks(KIT_PIECE_BYTES).nth(piece).ok_or("no such piece")?;
    Ok(Bytes::copy_from_slice(piece))
}

fn published(world: &World, object: &SignedObject) -> Result<PublishedKit, PublishKitError> {
    publish_kit(&world.archive, object, &read, &world.surroundings)
}

fn found(world: &World) -> Kits {
    world.surroundings.runtime.block_on(find(&world.archive))
}

fn sent(published: &PublishedKit) -> Vec<u64> {
    published.holders.iter().map(|(_, sent)| *sent).collect()
}

#[test]
fn a_kit_goes_to_every_site_and_only_what_is_missing_is_sent_again() {
    let mut world = World::new(2, 1, 1);
    let object = signed(&mut world, 1, &signing_key(ROOT));
    assert!(found(&world).choose(None).unwrap().is_none());
    let first = published(&world, &object).unwrap();
    assert!(first.holders.len() == 3 && sent(&first).iter().all(|sent| *sent > KIT_PIECE_BYTES as u64));
    assert_eq!(sent(&published(&world, &object).unwrap()), [0, 0, 0]);

    let kits = found(&world);
    let kit = kits.choose(None).unwrap().unwrap().kit.clone();
    assert_eq!(kits.found[0].sites, [0, 1, 2].into());
    assert!((0..3).all(|site| kits.is_listed_whole(&world.archive, site, &kit)));
    // One site loses a piece, another has other bytes of the same length in one, the third the manifest.
    let lost = piece_name(&world.archive, &kit, &kit.files[0], 1).unwrap();
    let altered = piece_name(&world.archive, &kit, &kit.files[1], 0).unwrap();
    let manifest = world.archive.names.kit_manifest(1, Tag::of(&object.to_bytes()));
    world.sites[0].disk().remove(&lost).unwrap();
    world.sites[1].disk().plant(&altered, "THE FORMAT".into());
    world.sites[2].disk().remove(&manifest).unwrap();
    let kits = found(&world);
    assert_eq!(kits.found[0].sites, [0, 1].into());
    let listed = (0..3).map(|site| kits.is_listed_whole(&world.archive, site, &kit));
    assert_eq!(listed.collect::<Vec<_>>(), [false, true, true]);
    // Whoever fetches gets the right bytes all the same.
    for (file, piece) in [(0, 0), (0, 1), (1, 0)] {
        let fetching = fetch_piece(&world.archive, &kit, &kit.files[file], piece);
        let bytes = world.surroundings.runtime.block_on(fetching).unwrap();
        assert_eq!(bytes, read(&kit.files[file], piece).unwrap());
    }
    let mended = sent(&published(&world, &object).unwrap());
    assert_eq!(mended, [9, 10, object.to_bytes().len() as u64]);
    for site in &world.sites {
        site.disk().remove(&lost).unwrap();
    }
    let fetching = fetch_piece(&world.archive, &kit, &kit.files[0], 1);
    let missing = world.surroundings.runtime.block_on(fetching).unwrap_err();
    assert_eq!((missing.piece, missing.troubles.len()), (1, 3));
}

#[test]
fn only_roots_vouch_for_a_kit_and_junk_hides_none() {
    let mut world = World::new(2, 1, 1);
    for key in [signing_key(WRITER), signing_key(99)] {
        let object = signed(&mut world, 1, &key);
        assert!(matches!(published(&world, &object), Err(PublishKitError::Kit(_))));
    }
    let object = signed(&mut world, 2, &signing_key(ROOT));
    published(&world, &object).unwrap();
    // A thief of the agent's host puts what he can sign, under a greater number; someone else puts what isn't even CBOR.
    let thiefs = signed(&mut world, 9, &signing_key(WRITER)).to_bytes();
    let names = world.archive.names;
    world.sites[0]
        .disk()
        .plant(&names.kit_manifest(9, Tag::of(&thiefs)), thiefs.into());
    world.sites[0]
        .disk()
        .plant(&names.kit_manifest(10, Tag::of(b"junk")), "junk".into());
    // The right bytes under another kit's name are none either.
    let misplaced = names.kit_manifest(11, Tag::of(&object.to_bytes()));
    world.sites[0].disk().plant(&misplaced, object.to_bytes().into());
    let kits = found(&world);
    assert_eq!((kits.found.len(), kits.refused.len()), (1, 3));
    assert_eq!(kits.choose(None).unwrap().unwrap().digest, object.record_hash());
    // A second kit of one version is refused; when it lies there all the same, no side is taken.
    let mut other = Kit::from_bytes(object.record_bytes()).unwrap();
    other.created = 6;
    let other = signing_key(ROOT).sign(&other, &mut world.entropy).unwrap();
    assert!(matches!(
        published(&world, &other),
        Err(PublishKitError::Taken { version: 2, .. })
    ));
    let bytes = other.to_bytes();
    world.sites[1]
        .disk()
        .plant(&names.kit_manifest(2, Tag::of(&bytes)), bytes.into());
    assert_eq!(found(&world).choose(None).unwrap_err().version, 2);
}

#[test]
fn too_few_sites_and_altered_files_are_told() {
    let mut world = World::new(2, 1, 1);
    let object = signed(&mut world, 1, &signing_key(ROOT));
    let altered = |file: &KitFile, piece: usize| read(file, piece).map(|bytes| bytes.slice(1..));
    let refused = publish_kit(&world.archive, &object, &altered, &world.surroundings);
    assert!(matches!(refused, Err(PublishKitError::File { file, .. }) if file == "exclave"));
    world.archive.sites.truncate(1);
    let refused = published(&world, &object);
    assert!(matches!(
        refused,
        Err(PublishKitError::Sites { found: 1, sites: 3, .. })
    ));
}

#[test]
fn charters_that_a_kit_brings_count_as_if_one_more_site_showed_them() {
    let mut world = World::new(2, 1, 1);
    let proposal = world.propose(&[&signing_key(ROOT)], |next| next.nonce = [1; 16]);
    let for_real = Publishing {
        dry_run: false,
        accept_loss: false,
    };
    publish_charter(&world.archive, &proposal, for_real, &world.surroundings).unwrap();
    world.reopen();
    let brought = world.surroundings.runtime.block_on(history_objects(&world.archive));
    let name = world.archive.names.charter(2, Tag::of(&proposal.object.to_bytes()));
    for site in &world.sites {
        site.disk().remove(&name).unwrap();
    }
    world.reopen();
    assert_eq!(world.archive.charter().version, 1);
    let stores = || {
        let site = |site: &SimulatedSite| -> (String, Arc<dyn Site>) { (String::new(), Arc::new(site.clone())) };
        world.sites.iter().map(site).collect()
    };
    let open = |anchor, brought| {
        let opening = Archive::open_bringing(anchor, stores(), None, brought);
        world.surroundings.runtime.block_on(opening)
    };
    let (archive, _) = open(world.archive.anchor, brought.clone().unwrap()).unwrap();
    assert_eq!((archive.charter().version, archive.fork), (2, None));
    // They are held to the anchor like all others.
    assert!(open(Anchor::from_bytes([9; 32]), brought.unwrap()).is_err());
}
