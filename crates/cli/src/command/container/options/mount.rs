//! `--mount`: a mount in its `key=value` form.

use std::path::Path;

use conex_api::container::{
    BindOptions, DriverConfig, ImageOptions, Mount, TmpfsOptions, VolumeOptions,
};

use super::key_value::cut;
use super::volume::clean;
use crate::flag::{parse_bool, split_csv};
use crate::units::ram_in_bytes;

/// Refuses what is no mount.
pub(super) fn check(spec: &str) -> Result<(), String> {
    parse(spec, Path::new("/")).map(drop)
}

/// Reads one `--mount`; a source of `.` or `./…` is taken from `current_dir`.
pub(super) fn parse(spec: &str, current_dir: &Path) -> Result<Mount, String> {
    let mut mount = Mount {
        kind: "volume".to_owned(),
        ..Mount::default()
    };
    for field in &split_csv(spec)? {
        let (key, value) = cut(field);
        let key = key.to_lowercase();
        match value {
            None => alone(&mut mount, &key)
                .ok_or_else(|| format!("invalid field '{field}' must be a key=value pair"))?,
            Some(value) => set(&mut mount, &key, value, field, current_dir)?,
        }
    }
    judge(&mount)?;
    Ok(mount)
}

/// A field without a value.
fn alone(mount: &mut Mount, key: &str) -> Option<()> {
    match key {
        "readonly" | "ro" => mount.read_only = true,
        "volume-nocopy" => volume(mount).no_copy = true,
        "bind-nonrecursive" => bind(mount).non_recursive = true,
        _ => return None,
    }
    Some(())
}

fn set(
    mount: &mut Mount,
    key: &str,
    value: &str,
    field: &str,
    current_dir: &Path,
) -> Result<(), String> {
    let invalid = || format!("invalid value for {key}: {value}");
    let boolean = || parse_bool(value).map_err(|_| invalid());
    match key {
        "type" => mount.kind = value.to_lowercase(),
        "source" | "src" if value == "." || value.starts_with("./") => {
            mount.source = clean(&current_dir.join(value)).display().to_string();
        }
        "source" | "src" => mount.source = value.to_owned(),
        "target" | "dst" | "destination" => mount.target = value.to_owned(),
        "readonly" | "ro" => mount.read_only = boolean()?,
        "consistency" => mount.consistency = value.to_lowercase(),
        "bind-propagation" => bind(mount).propagation = value.to_lowercase(),
        "bind-nonrecursive" => bind(mount).non_recursive = boolean()?,
        "bind-recursive" => match value {
            "enabled" => {}
            "disabled" => bind(mount).non_recursive = true,
            "writable" => bind(mount).read_only_non_recursive = true,
            "readonly" => bind(mount).read_only_force_recursive = true,
            _ => {
                return Err(format!(
                    "invalid value for {key}: {value} (must be \"enabled\", \"disabled\", \"writable\", or \"readonly\")"
                ));
            }
        },
        "bind-create-src" => bind(mount).create_mountpoint = boolean()?,
        "volume-subpath" => volume(mount).subpath = value.to_owned(),
        "volume-nocopy" => volume(mount).no_copy = boolean()?,
        "volume-label" => {
            let (name, value) = cut(value);
            if !name.is_empty() {
                volume(mount)
                    .labels
                    .insert(name.to_owned(), value.unwrap_or_default().to_owned());
            }
        }
        "volume-driver" => driver(mount).name = value.to_owned(),
        "volume-opt" => {
            let (name, value) = cut(value);
            let driver = driver(mount);
            if !name.is_empty() {
                driver
                    .options
                    .insert(name.to_owned(), value.unwrap_or_default().to_owned());
            }
        }
        "image-subpath" => {
            mount
                .image_options
                .get_or_insert_with(ImageOptions::default)
                .subpath = value.to_owned()
        }
        "tmpfs-size" => tmpfs(mount).size_bytes = ram_in_bytes(value).map_err(|_| invalid())?,
        "tmpfs-mode" => tmpfs(mount).mode = u32::from_str_radix(value, 8).map_err(|_| invalid())?,
        _ => return Err(format!("unexpected key '{key}' in '{field}'")),
    }
    Ok(())
}

/// What no single field shows.
fn judge(mount: &Mount) -> Result<(), String> {
    let kind = mount.kind.as_str();
    if kind.is_empty() {
        return Err("type is required".to_owned());
    }
    if mount.target.is_empty() {
        return Err("target is required".to_owned());
    }
    for (given, prefix) in [
        (mount.volume_options.is_some(), "volume"),
        (mount.image_options.is_some(), "image"),
        (mount.bind_options.is_some(), "bind"),
        (mount.tmpfs_options.is_some(), "tmpfs"),
    ] {
        if given && kind != prefix {
            return Err(format!(
                "cannot mix '{prefix}-*' options with mount type '{kind}'"
            ));
        }
    }
    let Some(bind) = &mount.bind_options else {
        return Ok(());
    };
    let needs = |option: &str, other: &str| {
        Err(format!(
            "option 'bind-recursive={option}' requires '{other}' to be specified in conjunction"
        ))
    };
    if bind.read_only_non_recursive && !mount.read_only {
        return needs("writable", "readonly");
    }
    if bind.read_only_force_recursive && !mount.read_only {
        return needs("readonly", "readonly");
    }
    if bind.read_only_force_recursive && bind.propagation != "rprivate" {
        return needs("readonly", "bind-propagation=rprivate");
    }
    Ok(())
}

fn bind(mount: &mut Mount) -> &mut BindOptions {
    mount.bind_options.get_or_insert_with(BindOptions::default)
}

fn volume(mount: &mut Mount) -> &mut VolumeOptions {
    mount.volume_options.get_or_insert_with(|| VolumeOptions {
        // Docker's client always names a driver, if only the empty one.
        driver_config: Some(DriverConfig::default()),
        ..VolumeOptions::default()
    })
}

fn driver(mount: &mut Mount) -> &mut DriverConfig {
    volume(mount)
        .driver_config
        .get_or_insert_with(DriverConfig::default)
}

fn tmpfs(mount: &mut Mount) -> &mut TmpfsOptions {
    mount
        .tmpfs_options
        .get_or_insert_with(TmpfsOptions::default)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;

    #[test]
    fn every_field_lands_in_the_request() {
        for (spec, want) in [
            ("target=/d", json!({"Type": "volume", "Target": "/d"})),
            (
                "type=bind,src=./a,dst=/d,ro,bind-propagation=RSHARED,bind-create-src=1",
                json!({"Type": "bind", "Source": "/here/a", "Target": "/d", "ReadOnly": true,
                       "BindOptions": {"Propagation": "rshared", "CreateMountpoint": true}}),
            ),
            (
                "type=bind,source=/a,target=/d,readonly=false,bind-recursive=disabled",
                json!({"Type": "bind", "Source": "/a", "Target": "/d", "BindOptions": {"NonRecursive": true}}),
            ),
            (
                "source=v,destination=/d,volume-nocopy,volume-label=a=b,volume-driver=x,volume-opt=o=a,\"volume-opt=p=b,c\",volume-subpath=s",
                json!({"Type": "volume", "Source": "v", "Target": "/d", "VolumeOptions": {
                    "NoCopy": true, "Labels": {"a": "b"}, "Subpath": "s",
                    "DriverConfig": {"Name": "x", "Options": {"o": "a", "p": "b,c"}}}}),
            ),
            (
                "type=tmpfs,target=/d,tmpfs-size=1m,tmpfs-mode=1770",
                json!({"Type": "tmpfs", "Target": "/d", "TmpfsOptions": {"SizeBytes": 1_048_576, "Mode": 0o1770}}),
            ),
            (
                "type=image,src=busybox,dst=/d,image-subpath=etc",
                json!({"Type": "image", "Source": "busybox", "Target": "/d", "ImageOptions": {"Subpath": "etc"}}),
            ),
        ] {
            let mount = parse(spec, Path::new("/here")).unwrap();
            assert_eq!(serde_json::to_value(mount).unwrap(), want, "{spec}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_mount_is_said() {
        for (spec, want) in [
            ("type=bind,src=/a", "target is required"),
            ("type=,target=/a", "type is required"),
            ("/a:/b", "invalid field '/a:/b' must be a key=value pair"),
            ("foo=b,target=/a", "unexpected key 'foo' in 'foo=b'"),
            ("target=/a,ro=maybe", "invalid value for ro: maybe"),
            (
                "type=tmpfs,target=/a,tmpfs-mode=9",
                "invalid value for tmpfs-mode: 9",
            ),
            (
                "type=tmpfs,target=/a,tmpfs-size=x",
                "invalid value for tmpfs-size: x",
            ),
            (
                "type=bind,target=/a,volume-nocopy",
                "cannot mix 'volume-*' options with mount type 'bind'",
            ),
            (
                "target=/a,bind-propagation=shared",
                "cannot mix 'bind-*' options with mount type 'volume'",
            ),
            (
                "type=bind,target=/a,bind-recursive=readonly,ro",
                "option 'bind-recursive=readonly' requires 'bind-propagation=rprivate' to be specified in conjunction",
            ),
            (
                "type=bind,target=/a,bind-recursive=writable",
                "option 'bind-recursive=writable' requires 'readonly' to be specified in conjunction",
            ),
        ] {
            assert_eq!(check(spec).unwrap_err(), want, "{spec}");
        }
    }
}
