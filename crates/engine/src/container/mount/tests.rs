//! Forms of `-v` and `--mount`, and what wins at one destination.
#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};

use super::*;
use crate::ErrorKind;

fn nobody(name: &str) -> Result<Donated, Error> {
    Err(Error::no_container(name))
}

/// A plan whose volumes are made.
fn resolve(
    root: &Path,
    id: &str,
    config: &Config,
    host: &HostConfig,
    donors: &dyn Fn(&str) -> Result<Donated, Error>,
) -> Result<Resolved, Error> {
    let volumes = Volumes::of(root);
    let planned = plan(&volumes, config, host, donors)?;
    acquire_volumes(&volumes, id, &planned.mounts, &planned.new_volumes)?;
    Ok(planned)
}

fn resolve_in(root: &Path, config: Value, host: Value) -> Result<Resolved, Error> {
    let config: Config = serde_json::from_value(config).unwrap();
    let host: HostConfig = serde_json::from_value(host).unwrap();
    resolve(root, "c1", &config, &host, &nobody)
}

fn refusal(host: Value) -> String {
    let root = tempfile::tempdir().unwrap();
    let error = resolve_in(root.path(), json!({}), host).unwrap_err();
    assert_eq!(
        std::fs::read_dir(root.path()).unwrap().count(),
        0,
        "something was made"
    );
    error.to_string()
}

#[test]
fn a_bind_reads_as_in_dockers_inspect() {
    let root = tempfile::tempdir().unwrap();
    for (text, source, mode, rw, propagation) in [
        ("/src:/data", "/src", "", true, "rprivate"),
        ("/src:/data:ro", "/src", "ro", false, "rprivate"),
        (
            "/a/../src/:/data/:rw,Z,rslave",
            "/src",
            "rw,Z,rslave",
            true,
            "rslave",
        ),
        (
            "/src:/x/../data:cached,shared",
            "/src",
            "cached,shared",
            true,
            "shared",
        ),
    ] {
        let mounts = resolve_in(root.path(), json!({}), json!({"Binds": [text]}))
            .unwrap()
            .mounts;
        assert_eq!(
            mounts,
            [MountPoint {
                kind: "bind".into(),
                source: source.into(),
                destination: "/data".into(),
                mode: mode.into(),
                rw,
                propagation: propagation.into(),
                ..MountPoint::default()
            }],
            "{text}"
        );
    }
}

#[test]
fn a_named_volume_is_made_and_shown_as_docker_shows_it() {
    let temp = tempfile::tempdir().unwrap();
    let root = temp.path();
    let asked = json!({"Binds": ["namedvol:/vol", "other:/o:ro,nocopy"]});
    let resolved = resolve_in(root, json!({}), asked).unwrap();
    let data = root.join("namedvol/_data");
    assert!(data.is_dir() && root.join("other/_data").is_dir());
    assert!(resolved.anonymous_volumes.is_empty());
    assert_eq!(
        serde_json::to_value(&resolved.mounts[1]).unwrap(),
        json!({"Destination": "/vol", "Driver": "local", "Mode": "z", "Name": "namedvol",
               "Propagation": "", "RW": true, "Source": data, "Type": "volume"})
    );
    assert_eq!(
        (resolved.mounts[0].mode.as_str(), resolved.mounts[0].rw),
        ("ro,nocopy", false)
    );
}

#[test]
fn refusals_of_binds_speak_dockers_words() {
    let spec = |text: &str| format!("invalid volume specification: '{text}'");
    let root = "invalid specification: destination can't be '/'";
    for (text, problem) in [
        ("", spec("")),
        (":/x", spec(":/x")),
        ("/x:ro", spec("/x:ro")),
        ("/a:/b:ro:z", spec("/a:/b:ro:z")),
        ("/a:/b:zz", "invalid mode: zz".into()),
        ("/a:/b:ro,rw", "invalid mode: ro,rw".into()),
        ("/a:/b:z,Z", "invalid mode: z,Z".into()),
        (
            "/a:/",
            format!(
                "{}: invalid mount config for type \"bind\": {root}",
                spec("/a:/")
            ),
        ),
        (
            "/a:b",
            format!(
                "{}: invalid mount config for type \"bind\": invalid mount path: 'b' mount path \
                 must be absolute",
                spec("/a:b")
            ),
        ),
        (
            "vol:/x:shared",
            format!(
                "{}: invalid mount config for type \"volume\": field BindOptions must not be \
                 specified",
                spec("vol:/x:shared")
            ),
        ),
        (
            "/a:/x:nocopy",
            format!(
                "{}: invalid mount config for type \"bind\": field VolumeOptions must not be \
                 specified",
                spec("/a:/x:nocopy")
            ),
        ),
    ] {
        assert_eq!(refusal(json!({"Binds": [text]})), problem, "{text}");
    }
    assert!(refusal(json!({"Binds": ["./rel:/x"]})).contains("create ./rel: \"./rel\" includes"));
}

#[test]
fn refusals_of_mounts_speak_dockers_words() {
    let of =
        |kind: &str, problem: &str| format!("invalid mount config for type \"{kind}\": {problem}");
    for (mount, text) in [
        (
            json!({"Type": "bind", "Source": "/no/such/dir", "Target": "/x"}),
            of("bind", "bind source path does not exist: /no/such/dir"),
        ),
        (
            json!({"Type": "bind", "Target": "/x"}),
            of("bind", "field Source must not be empty"),
        ),
        (
            json!({"Type": "volume"}),
            of("volume", "field Target must not be empty"),
        ),
        (
            json!({"Type": "tmpfs", "Source": "x", "Target": "/x"}),
            of("tmpfs", "field Source must not be specified"),
        ),
        (
            json!({"Type": "", "Target": "/x"}),
            of("", "mount type unknown"),
        ),
        (
            json!({"Type": "volume", "Target": "/x", "ReadOnly": true}),
            of(
                "volume",
                "must not set ReadOnly mode when using anonymous volumes",
            ),
        ),
        (
            json!({"Type": "bind", "Source": "/", "Target": "/x", "BindOptions": {"Propagation": "p"}}),
            of("bind", "invalid propagation mode: p"),
        ),
        (
            json!({"Type": "tmpfs", "Target": "/x", "TmpfsOptions": {"Options": [["bogus"]]}}),
            of("tmpfs", "invalid tmpfs option \"bogus\""),
        ),
        (
            json!({"Type": "volume", "Source": "ab", "Target": "/x",
                   "VolumeOptions": {"DriverConfig": {"Name": "nfs"}}}),
            "error looking up volume plugin nfs: plugin \"nfs\" not found".to_owned(),
        ),
    ] {
        assert_eq!(refusal(json!({"Mounts": [mount]})), text);
    }
    let root = tempfile::tempdir().unwrap();
    let image = json!({"Mounts": [{"Type": "image", "Source": "busybox", "Target": "/x"}]});
    let error = resolve_in(root.path(), json!({}), image).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotImplemented);
}

#[test]
fn a_destination_is_taken_once() {
    let duplicate = "Duplicate mount point: /x";
    assert_eq!(refusal(json!({"Binds": ["/a:/x", "/b:/x/"]})), duplicate);
    assert_eq!(
        refusal(json!({"Binds": ["/a:/x"], "Tmpfs": {"/x/": ""}})),
        duplicate
    );
    let mount = json!({"Type": "tmpfs", "Target": "/x"});
    assert_eq!(
        refusal(json!({"Binds": ["/a:/x"], "Mounts": [mount]})),
        duplicate
    );
}

#[test]
fn image_volumes_are_anonymous_and_give_way() {
    let temp = tempfile::tempdir().unwrap();
    let config = json!({"Volumes": {"/v": {}, "/b/": {}, "/t": {}}});
    let asked = json!({"Binds": ["/src:/b"], "Tmpfs": {"/t": ""}});
    let resolved = resolve_in(temp.path(), config, asked).unwrap();
    let [bind, volume] = resolved.mounts.as_slice() else {
        panic!("{resolved:?}")
    };
    assert_eq!(
        (bind.kind.as_str(), volume.destination.as_str()),
        ("bind", "/v")
    );
    assert_eq!(
        resolved.anonymous_volumes,
        std::slice::from_ref(&volume.name)
    );
    assert!(volume.name.len() == 64 && Path::new(&volume.source).is_dir());
}

#[test]
fn anonymous_volumes_come_in_three_spellings() {
    let temp = tempfile::tempdir().unwrap();
    let asked = json!({"Binds": ["/one"], "Mounts": [{"Type": "volume", "Target": "/two"}]});
    let resolved = resolve_in(temp.path(), json!({"Volumes": {"/three": {}}}), asked).unwrap();
    assert_eq!(
        (resolved.mounts.len(), resolved.anonymous_volumes.len()),
        (3, 3)
    );
}

#[test]
fn what_fails_half_way_leaves_no_anonymous_volume() {
    let temp = tempfile::tempdir().unwrap();
    // A file where the volume's directory would be.
    std::fs::write(temp.path().join("taken"), "").unwrap();
    let asked = json!({"Binds": ["/a-first", "taken:/z"]});
    assert!(resolve_in(temp.path(), json!({}), asked).is_err());
    assert_eq!(std::fs::read_dir(temp.path()).unwrap().count(), 1);
}

#[test]
fn volumes_from_another_container_come_first_and_may_lose_their_write_access() {
    let temp = tempfile::tempdir().unwrap();
    let given = |destination: &str| MountPoint {
        kind: "bind".into(),
        source: "/given".into(),
        destination: destination.into(),
        mode: "z".into(),
        rw: true,
        propagation: "rprivate".into(),
        ..MountPoint::default()
    };
    let donors = |name: &str| {
        assert_eq!(name, "donor");
        let parts = ["/kept", "/covered"].map(|at| (at.to_owned(), "part".to_owned()));
        Ok((vec![given("/kept"), given("/covered")], parts.into()))
    };
    let host = |text: &str| HostConfig {
        volumes_from: Some(vec![text.to_owned()]),
        binds: Some(vec!["/own:/covered".into()]),
        ..HostConfig::default()
    };
    let config = Config::default();
    let resolved = resolve(temp.path(), "c1", &config, &host("donor:ro"), &donors).unwrap();
    let [covered, kept] = resolved.mounts.as_slice() else {
        panic!("{resolved:?}")
    };
    assert_eq!((covered.source.as_str(), covered.rw), ("/own", true));
    assert_eq!((kept.source.as_str(), kept.rw), ("/given", false));
    // A part of a volume stays a part, and does not cling to the place.
    let parts: Vec<_> = resolved.subpaths.iter().collect();
    assert_eq!(parts, [(&"/kept".to_owned(), &"part".to_owned())]);
    assert!(resolved.anonymous_volumes.is_empty());
    for text in ["donor:nocopy", "donor:rshared", "donor:what"] {
        let error = resolve(temp.path(), "c1", &config, &host(text), &donors).unwrap_err();
        assert!(error.to_string().starts_with("invalid mode: "), "{error}");
    }
    let gone = resolve(temp.path(), "c1", &config, &host("donor"), &nobody).unwrap_err();
    // Clients take "not found" for a missing image, which they would pull.
    assert_eq!(gone.kind(), ErrorKind::InvalidParameter);
}

#[test]
fn a_missing_source_is_made_at_the_start() {
    let temp = tempfile::tempdir().unwrap();
    let (new, file) = (temp.path().join("a/b"), temp.path().join("file"));
    std::fs::write(&file, "x").unwrap();
    let bind = |source: &Path| MountPoint {
        kind: "bind".into(),
        source: source.to_str().unwrap().into(),
        ..MountPoint::default()
    };
    let tmpfs = MountPoint {
        kind: "tmpfs".into(),
        ..MountPoint::default()
    };
    prepare(&[bind(&new), bind(&file), tmpfs]).unwrap();
    assert_eq!(
        std::fs::metadata(&new).unwrap().permissions().mode() & 0o7777,
        0o755
    );
    std::os::unix::fs::symlink("nowhere", temp.path().join("dangling")).unwrap();
    assert!(prepare(&[bind(&temp.path().join("dangling"))]).is_err());
}

#[test]
fn paths_are_cleaned_as_go_does() {
    for (path, clean_path) in [
        ("/", "/"),
        ("/a//b/", "/a/b"),
        ("/a/./../b", "/b"),
        ("/../..", "/"),
        ("a/b", "/a/b"),
    ] {
        assert_eq!(clean(path), clean_path);
    }
}

#[test]
fn a_part_of_a_volume_lies_within_it() {
    let volume = |source: &str, subpath: &str| {
        let options = json!({"Subpath": subpath});
        json!({"Mounts": [
            {"Type": "volume", "Source": source, "Target": "/d/", "VolumeOptions": options}
        ]})
    };
    let root = tempfile::tempdir().unwrap();
    for subpath in ["a/b", "a/../b", "./a"] {
        let resolved = resolve_in(root.path(), json!({}), volume("vol", subpath)).unwrap();
        assert_eq!(resolved.subpaths["/d"], subpath);
    }
    for subpath in ["/etc", "..", "a/../../b"] {
        assert_eq!(
            refusal(volume("vol", subpath)),
            "invalid mount config for type \"volume\": subpath must be a relative path within \
             the volume"
        );
    }
    assert_eq!(
        refusal(volume("", "a")),
        "invalid mount config for type \"volume\": must not set Subpath when using anonymous \
         volumes"
    );
}
