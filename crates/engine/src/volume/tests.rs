//! Volumes by themselves: names, who has one, filling, and what is found at a start.
#![allow(clippy::unwrap_used)]
use std::fs;
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;

use conex_store::persist;

use super::*;

fn anonymous() -> NewVolume {
    NewVolume {
        is_anonymous: true,
        ..NewVolume::default()
    }
}

/// An image with `/data/old` and `/data/tree/leaf`.
fn image() -> tempfile::TempDir {
    let image = tempfile::tempdir().unwrap();
    fs::create_dir_all(image.path().join("data/tree")).unwrap();
    fs::write(image.path().join("data/old"), "image").unwrap();
    fs::write(image.path().join("data/tree/leaf"), "image").unwrap();
    fs::set_permissions(
        image.path().join("data"),
        fs::Permissions::from_mode(0o1770),
    )
    .unwrap();
    image
}

fn fill(volumes: &Volumes, name: &str, image: &Path) -> Result<(), Error> {
    let root = File::open(image).unwrap();
    volumes.fill(name, root.as_fd(), Path::new("/data"))
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn volume_names_are_refused_in_dockers_words() {
    for good in ["ab", "A9", "a_b.c-d", &"a".repeat(64)] {
        assert!(check_name(good).is_ok(), "{good}");
    }
    assert_eq!(
        check_name("bad name!").unwrap_err().to_string(),
        "create bad name!: \"bad name!\" includes invalid characters for a local volume name, \
         only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host \
         directory, use absolute path"
    );
    assert_eq!(
        check_name("x").unwrap_err().to_string(),
        "create x: volume name is too short, names should be at least two alphanumeric \
         characters"
    );
    for bad in ["", "..", ".a", "a/b", "./a", "ä1", "a b"] {
        assert!(check_name(bad).is_err(), "{bad}");
    }
}

#[test]
fn a_volume_is_made_once_and_keeps_its_content_across_engines() {
    let temp = tempfile::tempdir().unwrap();
    let new = NewVolume {
        labels: BTreeMap::from([("a".to_owned(), "b".to_owned())]),
        ..NewVolume::default()
    };
    let volumes = Volumes::of(temp.path());
    volumes.acquire("c1", "data", &new).unwrap();
    let dir = volumes.data_dir("data");
    assert_eq!(
        fs::metadata(&dir).unwrap().permissions().mode() & 0o7777,
        0o755
    );
    fs::write(dir.join("file"), "x").unwrap();
    let volumes = Volumes::of(temp.path());
    volumes
        .acquire("c2", "data", &NewVolume::default())
        .unwrap();
    assert_eq!(fs::read_to_string(dir.join("file")).unwrap(), "x");
    let volume = volumes.get("data").unwrap();
    assert_eq!(volume.description.labels, new.labels);
    assert!(!volume.description.anonymous);
    assert_eq!(names(temp.path()), ["data"]);
}

#[test]
fn a_volume_that_a_container_has_is_not_removed() {
    let temp = tempfile::tempdir().unwrap();
    let volumes = Volumes::of(temp.path());
    volumes
        .acquire("c1", "data", &NewVolume::default())
        .unwrap();
    let volume = volumes.get("data").unwrap();
    assert_eq!(
        volumes.take_out(&volume, None).unwrap_err().to_string(),
        "remove data: volume is in use - [c1]"
    );
    volumes.release("c1", ["data"].into_iter());
    let gone = volumes.take_out(&volume, None).unwrap();
    assert_eq!(
        volumes.get("data").unwrap_err().to_string(),
        "get data: no such volume"
    );
    assert_eq!(volumes.leftovers().unwrap(), std::slice::from_ref(&gone));
    delete(&[gone]);
    assert!(names(temp.path()).is_empty());
}

#[test]
fn only_anonymous_volumes_nobody_else_has_go_with_a_container() {
    let temp = tempfile::tempdir().unwrap();
    let volumes = Volumes::of(temp.path());
    volumes
        .acquire("c1", "mine", &NewVolume::default())
        .unwrap();
    for name in ["anon1", "anon2", "shared"] {
        volumes.acquire("c1", name, &anonymous()).unwrap();
    }
    volumes
        .acquire("c2", "shared", &NewVolume::default())
        .unwrap();
    let asked = ["anon1", "mine", "gone", "shared", "anon2"].map(str::to_owned);
    delete(&volumes.take_out_anonymous("c1", &asked));
    assert_eq!(names(temp.path()), ["mine", "shared"]);
}

#[test]
fn a_directory_somebody_made_by_hand_is_a_volume_if_it_has_content() {
    let temp = tempfile::tempdir().unwrap();
    fs::create_dir_all(temp.path().join("copied/_data")).unwrap();
    fs::create_dir(temp.path().join("else")).unwrap();
    fs::write(temp.path().join("file"), "").unwrap();
    let volumes = Volumes::of(temp.path());
    assert!(volumes.find("copied").is_some());
    assert!(volumes.find("else").is_none() && volumes.find("file").is_none());
    let new = NewVolume::default();
    assert!(volumes.acquire("c1", "else", &new).is_err());
    assert_eq!(names(temp.path()), ["copied", "else", "file"]);
}

#[test]
fn an_empty_volume_is_filled_and_another_left_alone() {
    let (temp, image) = (tempfile::tempdir().unwrap(), image());
    let volumes = Volumes::of(temp.path());
    for name in ["empty", "full"] {
        volumes.acquire("c1", name, &NewVolume::default()).unwrap();
    }
    fs::write(volumes.data_dir("full").join("own"), "").unwrap();
    for name in ["empty", "full"] {
        fill(&volumes, name, image.path()).unwrap();
    }
    let data = volumes.data_dir("empty");
    assert_eq!(names(&data), ["old", "tree"]);
    assert_eq!(names(&volumes.data_dir("full")), ["own"]);
    assert_eq!(names(&temp.path().join("empty")), ["_data", "volume.json"]);
    let mode = fs::metadata(&data).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode, 0o1770);
    // 4 KiB each at the most, and not nothing.
    let bytes = volumes.get("empty").unwrap().bytes_on_disk().unwrap();
    assert!((8192..=4 * 4096 + 512).contains(&bytes), "{bytes}");
}

#[test]
fn a_fill_that_was_cut_short_leaves_an_empty_volume_or_a_full_one() {
    let (temp, image) = (tempfile::tempdir().unwrap(), image());
    let volumes = Volumes::of(temp.path());
    for name in ["copying", "moving"] {
        volumes.acquire("c1", name, &NewVolume::default()).unwrap();
    }
    drop(volumes);
    // As an engine leaves it that is killed while it copies, and while it moves.
    fs::create_dir(temp.path().join("copying/filling")).unwrap();
    fs::write(temp.path().join("copying/filling/half"), "").unwrap();
    let filled = temp.path().join("moving/filled");
    copy::into(File::open(image.path().join("data")).unwrap().into(), {
        fs::create_dir(&filled).unwrap();
        &filled
    })
    .unwrap();
    fs::rename(filled.join("old"), temp.path().join("moving/_data/old")).unwrap();
    // A container that ran on wrote something of the same name.
    fs::create_dir(temp.path().join("moving/_data/tree")).unwrap();

    let volumes = Volumes::of(temp.path());
    assert!(names(&volumes.data_dir("copying")).is_empty());
    assert_eq!(names(&volumes.data_dir("moving")), ["old", "tree"]);
    assert!(names(&volumes.data_dir("moving").join("tree")).is_empty());
    for name in ["copying", "moving"] {
        assert_eq!(names(&temp.path().join(name)), ["_data", "volume.json"]);
    }
    delete(&volumes.leftovers().unwrap());
    assert_eq!(names(temp.path()), ["copying", "moving"]);
}

#[test]
fn a_record_of_an_older_engine_is_read() {
    let temp = tempfile::tempdir().unwrap();
    fs::create_dir_all(temp.path().join("old/_data")).unwrap();
    let json = br#"{"driver":"local","created":"2026-11-22T05:52:34Z","labels":{},"anonymous":true,"container":"c1"}"#;
    persist::write_atomic(
        &temp.path().join("old/volume.json"),
        json,
        persist::Durability::Unsynced,
    )
    .unwrap();
    let volume = Volumes::of(temp.path()).get("old").unwrap();
    assert!(volume.description.anonymous);
    assert!(volume.description.options.is_empty());
}
