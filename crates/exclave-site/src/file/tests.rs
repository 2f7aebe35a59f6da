use std::os::unix::fs::symlink;

use super::*;
use crate::Class;

fn site(durability: Durability) -> (tempfile::TempDir, FileSite) {
    let folder = tempfile::tempdir().unwrap();
    let address = SiteAddress::of_directory(folder.path()).unwrap();
    (folder, FileSite::new(&address, durability).unwrap())
}

fn name(text: &str) -> ObjectName {
    ObjectName::parse(text).unwrap()
}

#[tokio::test]
async fn leftovers_of_killed_puts_are_neither_listed_nor_read() {
    let (folder, site) = site(Durability::Flush);
    site.put(&name("a/b"), Body::from(vec![7; 10]), PutMode::Create)
        .await
        .unwrap();
    std::fs::write(folder.path().join("a/~17.0"), b"half").unwrap();
    std::fs::write(folder.path().join("a/B#1"), b"foreign").unwrap();
    std::fs::create_dir(folder.path().join("lost+found")).unwrap();
    let listing = site.list(&Prefix::all(), 10).await.unwrap();
    assert_eq!((listing.entries.len(), listing.ignored, listing.complete), (1, 2, true));
    // Ours are gone after a success, a refusal and a failure alike.
    site.put(&name("a/b"), Body::from(vec![8; 10]), PutMode::Create)
        .await
        .unwrap();
    let error = site
        .put(&name("a/b/c"), Body::default(), PutMode::Plain)
        .await
        .unwrap_err();
    assert_eq!(error.class(), Class::Other, "{error}");
    let names: Vec<_> = std::fs::read_dir(folder.path().join("a"))
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    assert_eq!(names.len(), 3, "{names:?}");
}

#[tokio::test]
async fn a_sweep_takes_old_leftovers_and_nothing_else() {
    let (folder, site) = site(Durability::Flush);
    let outside = tempfile::tempdir().unwrap();
    let day = std::time::Duration::from_secs(24 * 3600);
    let make = |path: std::path::PathBuf, age: std::time::Duration| {
        let file = std::fs::File::create(&path).unwrap();
        // The age is told by the clock of the file system, which wrote this file's time.
        let now = file.metadata().unwrap().modified().unwrap();
        file.set_modified(now - age).unwrap();
        path
    };
    site.put(&name("a/b/c"), Body::from(vec![7; 10]), PutMode::Create)
        .await
        .unwrap();
    let within = |path: &str| folder.path().join(path);
    let gone = ["~17.0", "a/~17.1", "a/b/~4294967295.18446744073709551615"].map(|path| make(within(path), 2 * day));
    std::fs::create_dir(within("lost+found")).unwrap();
    std::fs::create_dir(within("a/~3.4")).unwrap();
    let mut stay: Vec<_> = [
        "a/~",
        "a/~17",
        "a/~17.",
        "a/~.1",
        "a/~17.1x",
        "a/~17.1.2",
        "a/~-1.2",
        "a/~1.-2",
        "a/17.1",
        "a/B~1.1",
        "lost+found/~17.2",
        "a/~3.4/~17.3",
    ]
    .map(|path| make(within(path), 2 * day))
    .into();
    stay.push(make(within("a/~17.5"), day / 2));
    make(outside.path().join("~17.0"), 2 * day);
    symlink(outside.path(), within("out")).unwrap();
    symlink(outside.path().join("~17.0"), within("a/~18.0")).unwrap();
    stay.extend([outside.path().join("~17.0"), within("a/~18.0"), within("a/b/c")]);
    assert_eq!(site.sweep().await.unwrap(), 3);
    assert_eq!(site.sweep().await.unwrap(), 0);
    for path in &gone {
        assert!(!path.exists(), "{}", path.display());
    }
    for path in &stay {
        assert!(path.symlink_metadata().is_ok(), "{}", path.display());
    }
    let left = std::fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(left, 3, "a, lost+found and out: the marker is gone");
}

#[tokio::test]
async fn links_and_pipes_are_no_objects() {
    let (folder, site) = site(Durability::Flush);
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("secret"), b"secret").unwrap();
    symlink(outside.path(), folder.path().join("dir")).unwrap();
    symlink(outside.path().join("secret"), folder.path().join("link")).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, folder.path().join("pipe"), Mode::RWXU).unwrap();
    for object in ["dir/secret", "link", "pipe"] {
        assert_eq!(
            site.get(&name(object), 100).await.unwrap_err().class(),
            Class::Missing,
            "{object}"
        );
    }
    let error = site
        .put(&name("dir/new"), Body::default(), PutMode::Create)
        .await
        .unwrap_err();
    assert_eq!(error.class(), Class::Other, "{error}");
    assert!(!outside.path().join("new").exists());
    let listing = site.list(&Prefix::all(), 10).await.unwrap();
    assert_eq!((listing.entries.len(), listing.ignored), (0, 3));
    // A plain put replaces the link itself.
    site.put(&name("link"), Body::from(vec![1]), PutMode::Plain)
        .await
        .unwrap();
    assert_eq!(std::fs::read(outside.path().join("secret")).unwrap(), b"secret");
}

#[tokio::test]
async fn a_root_that_is_not_mounted_is_unreachable_and_not_made() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("mount");
    let site = FileSite::new(&SiteAddress::of_directory(&root).unwrap(), Durability::Each).unwrap();
    let error = site.put(&name("a"), Body::default(), PutMode::Plain).await.unwrap_err();
    assert_eq!(error.class(), Class::Unreachable);
    assert!(!root.exists());
    // Once it is there, the same site works.
    std::fs::create_dir(&root).unwrap();
    site.put(&name("a/b/c"), Body::default(), PutMode::Create)
        .await
        .unwrap();
    site.flush().await.unwrap();
    assert_eq!(site.length(&name("a/b/c")).await.unwrap(), 0);
}

#[tokio::test]
async fn an_error_says_what_where_and_which() {
    let (folder, site) = site(Durability::Each);
    let error = site.get(&name("a/b"), 10).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("get a/b at file://{}: no such object", folder.path().display())
    );
    assert!(std::error::Error::source(&error).is_some());
}
