//! The container's file tree: mounts, devices, what is hidden and read-only.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use conex_spec::runtime::{Device, DeviceCgroup, DeviceKind, IdMapping, Mount};

use crate::bundle::bundle_or_skip;
use crate::bundle::{Bundle, stderr};

fn bind(source: &Path, destination: &str, options: &str) -> Mount {
    Mount {
        destination: destination.into(),
        kind: Some("bind".into()),
        source: Some(source.into()),
        options: options.split(',').map(str::to_owned).collect(),
        ..Mount::default()
    }
}

fn tmpfs(destination: &str, options: &str) -> Mount {
    Mount {
        destination: destination.into(),
        kind: Some("tmpfs".into()),
        source: Some("tmpfs".into()),
        options: options.split(',').map(str::to_owned).collect(),
        ..Mount::default()
    }
}

/// The line of /proc/self/mounts for a path.
fn line<'a>(mounts: &'a str, path: &str) -> &'a str {
    let found = mounts
        .lines()
        .rfind(|line| line.split(' ').nth(1) == Some(path));
    found.unwrap_or_else(|| panic!("{path} is not mounted in:\n{mounts}"))
}

#[test]
fn the_default_mounts_are_made_with_their_options() {
    let mut bundle = bundle_or_skip!();
    let mounts = bundle.run_script("cat /proc/self/mounts");
    assert!(line(&mounts, "/proc").starts_with("proc /proc proc rw"));
    assert!(line(&mounts, "/dev").starts_with("tmpfs /dev tmpfs rw,nosuid,size=65536k,mode=755"));
    assert!(line(&mounts, "/dev/pts").contains("gid=5,mode=620,ptmxmode=666"));
    assert!(line(&mounts, "/dev/shm").contains("rw,nosuid,nodev,noexec,relatime,size=65536k"));
    assert!(line(&mounts, "/sys").contains(" sysfs ro,nosuid,nodev,noexec"));
    assert!(!mounts.contains("oldroot") && !mounts.lines().any(|l| l.contains(" / rootfs")));
}

#[test]
fn what_is_masked_cannot_be_read_and_what_is_read_only_not_written() {
    let mut bundle = bundle_or_skip!();
    fs::create_dir_all(bundle.root().join("secret")).unwrap();
    fs::write(bundle.root().join("secret/file"), "x").unwrap();
    fs::create_dir_all(bundle.root().join("fixed/below")).unwrap();
    bundle
        .linux()
        .masked_paths
        .extend(["/secret".into(), "/no/such/path".into()]);
    bundle
        .linux()
        .readonly_paths
        .extend(["/fixed".into(), "/none".into()]);
    let text = bundle.run_script(
        "cat /proc/keys /proc/timer_list; ls -A /secret /sys/firmware /proc/acpi 2>/dev/null | grep -v :
         { echo 0 > /proc/sys/kernel/printk; } 2>&1
         touch /fixed/x /fixed/below/y 2>&1; touch /secret/z 2>&1; true",
    );
    assert_eq!(text.matches("Read-only file system").count(), 4, "{text}");
    assert!(!text.contains("file\n"), "{text}");
    assert!(!bundle.root().join("fixed/x").exists());
}

#[test]
fn the_root_is_read_only_if_asked_but_not_what_is_mounted_below() {
    let mut bundle = bundle_or_skip!();
    bundle.spec.root.as_mut().unwrap().readonly = true;
    bundle.spec.mounts.push(tmpfs("/var/own", "size=1m"));
    bundle.process().cwd = "/job/dir".into();
    let text = bundle.run_script("touch /x 2>&1; touch /var/own/y && echo written; pwd");
    assert_eq!(
        text,
        "touch: /x: Read-only file system\nwritten\n/job/dir\n"
    );
}

#[test]
fn a_tmpfs_takes_its_options_and_the_mode_of_what_it_covers() {
    let mut bundle = bundle_or_skip!();
    bundle.spec.mounts.push(tmpfs(
        "/scratch",
        "size=2m,mode=1750,uid=3,gid=4,noexec,nodev",
    ));
    bundle.spec.mounts.push(tmpfs("/tmp", "nosuid"));
    let text = bundle.run_script("stat -c %a:%u:%g /scratch /tmp; cat /proc/self/mounts");
    assert!(text.starts_with("1750:3:4\n1777:0:0\n"), "{text}");
    assert!(line(&text, "/scratch").contains("rw,nodev,noexec,relatime,size=2048k"));
}

#[test]
fn binds_make_their_targets_and_keep_their_attributes() {
    let mut bundle = bundle_or_skip!();
    let source = bundle.path().join("source");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("file"), "content\n").unwrap();
    let file = source.join("file");
    bundle
        .spec
        .mounts
        .push(bind(&source, "/new/dir", "bind,ro,nosuid"));
    bundle.spec.mounts.push(bind(&file, "/new/file", "bind"));
    bundle
        .spec
        .mounts
        .push(bind(Path::new("source"), "/relative", "rbind"));
    let text = bundle.run_script(
        "cat /new/dir/file /new/file /relative/file; touch /new/dir/x 2>&1; touch /relative/y
         cat /proc/self/mounts",
    );
    assert!(
        text.starts_with("content\ncontent\ncontent\ntouch: /new/dir/x: Read-only"),
        "{text}"
    );
    assert!(line(&text, "/new/dir").contains(" ro,nosuid,"));
    assert!(source.join("y").exists());
    bundle
        .spec
        .mounts
        .push(bind(Path::new("/no/such/source"), "/x", "bind"));
    assert!(
        bundle
            .run_fails()
            .starts_with("mount source /no/such/source: no such file")
    );
}

/// A mount of this test's own on the host, gone when dropped.
struct HostMount(std::path::PathBuf);

impl HostMount {
    fn tmpfs(at: &Path, shared: bool) -> HostMount {
        fs::create_dir_all(at).unwrap();
        let run = |args: &[&str]| {
            let status = std::process::Command::new("mount")
                .args(args)
                .arg(at)
                .status();
            assert!(status.unwrap().success());
        };
        run(&["-t", "tmpfs", "conex-test"]);
        run(&[if shared {
            "--make-shared"
        } else {
            "--make-private"
        }]);
        HostMount(at.to_owned())
    }
}

impl Drop for HostMount {
    fn drop(&mut self) {
        drop(
            std::process::Command::new("umount")
                .arg("-R")
                .arg(&self.0)
                .status(),
        );
    }
}

#[test]
fn a_recursive_bind_is_read_only_all_over_only_with_rro() {
    let mut bundle = bundle_or_skip!();
    let source = bundle.path().join("source");
    let _below = HostMount::tmpfs(&source.join("below"), false);
    bundle.spec.mounts.push(bind(&source, "/ro", "rbind,ro"));
    bundle.spec.mounts.push(bind(&source, "/rro", "rbind,rro"));
    let text =
        bundle.run_script("touch /ro/below/a && echo ok; touch /rro/x /rro/below/b 2>&1; true");
    assert!(
        text.starts_with("ok\n") && text.matches("Read-only").count() == 2,
        "{text}"
    );
}

#[test]
fn mounts_do_not_show_on_a_host_that_shares_the_root() {
    let mut bundle = bundle_or_skip!();
    let base = bundle.path().join("shared");
    let _shared = HostMount::tmpfs(&base, true);
    let copied = std::process::Command::new("cp")
        .arg("-a")
        .arg(bundle.root())
        .arg(base.join("root"))
        .status();
    assert!(copied.unwrap().success());
    bundle.spec.root.as_mut().unwrap().path = base.join("root");
    bundle.sleeper();
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let below = base.join("root");
    let below = below.to_str().unwrap();
    assert!(!mounts.contains(&format!("{below}/")), "{mounts}");

    // But with a slave root, what the host mounts later shows inside.
    assert!(bundle.oci(&["delete", "-f", &bundle.id]).status.success());
    bundle.linux().rootfs_propagation = Some("rslave".into());
    bundle.sleeper();
    let _late = HostMount::tmpfs(&base.join("root/tmp/late"), false);
    assert!(
        bundle
            .exec("cat /proc/self/mounts")
            .contains(" /tmp/late tmpfs ")
    );
}

#[test]
fn owners_of_a_bind_are_mapped() {
    let mut bundle = bundle_or_skip!();
    let source = bundle.path().join("source");
    let _mount = HostMount::tmpfs(&source, false);
    fs::write(source.join("file"), "").unwrap();
    let map = vec![IdMapping {
        container_id: 0,
        host_id: 1000,
        size: 10,
    }];
    let mut mount = bind(&source, "/mapped", "bind,idmap");
    (mount.uid_mappings, mount.gid_mappings) = (map.clone(), map);
    bundle.spec.mounts.push(mount);
    let text = bundle.run_script("stat -c %u:%g /mapped/file");
    assert_eq!(text, "1000:1000\n");
}

#[test]
fn devices_are_there_with_their_numbers_and_no_others_can_be_used() {
    let mut bundle = bundle_or_skip!();
    bundle.linux().devices.push(Device {
        path: "/dev/sub/null2".into(),
        kind: DeviceKind::Char,
        major: 1,
        minor: 3,
        file_mode: Some(0o640),
        uid: Some(5),
        gid: Some(6),
    });
    bundle
        .process()
        .capabilities
        .as_mut()
        .unwrap()
        .effective
        .push("CAP_MKNOD".into());
    bundle
        .process()
        .capabilities
        .as_mut()
        .unwrap()
        .permitted
        .push("CAP_MKNOD".into());
    bundle
        .process()
        .capabilities
        .as_mut()
        .unwrap()
        .bounding
        .push("CAP_MKNOD".into());
    let text = bundle.run_script(
        "cd /dev; stat -c '%n %F %t:%T %a' null zero full random urandom tty; stat -c '%t:%T %a %u:%g' sub/null2
         readlink fd stdin stdout stderr ptmx 2>/dev/null || for l in fd stdin stdout stderr ptmx; do readlink $l; done
         mknod /tmp/fuse c 10 229 && ( : < /tmp/fuse ) 2>&1
         dd if=/dev/zero of=/dev/null bs=1 count=1 2>/dev/null && echo zero works",
    );
    for (name, number) in [
        ("null", "1:3"),
        ("zero", "1:5"),
        ("full", "1:7"),
        ("random", "1:8"),
        ("urandom", "1:9"),
        ("tty", "5:0"),
    ] {
        assert!(
            text.contains(&format!("{name} character special file {number} 666\n")),
            "{text}"
        );
    }
    assert!(text.contains("1:3 640 5:6\n"), "{text}");
    assert!(
        text.contains("/proc/self/fd\n") && text.contains("pts/ptmx\n"),
        "{text}"
    );
    assert!(
        text.contains("/tmp/fuse: Operation not permitted\nzero works\n"),
        "{text}"
    );
    if !fs::read_to_string("/proc/misc")
        .unwrap()
        .contains("229 fuse")
    {
        eprintln!("skipped: without FUSE no device is known that anybody may open");
        return;
    }

    let rule = DeviceCgroup {
        allow: true,
        kind: Some(DeviceKind::Char),
        major: Some(10),
        minor: Some(229),
        access: Some("r".into()),
    };
    bundle
        .linux()
        .resources
        .as_mut()
        .unwrap()
        .devices
        .push(rule);
    fs::remove_file(bundle.root().join("tmp/fuse")).unwrap();
    bundle.run_script("mknod /tmp/fuse c 10 229 && exec 3< /tmp/fuse");
}

#[test]
fn links_of_the_image_lead_nowhere_outside() {
    let mut bundle = bundle_or_skip!();
    let outside = bundle.path().join("outside");
    fs::create_dir(&outside).unwrap();
    let upwards = "../".repeat(20);
    symlink(
        format!("{upwards}{}", outside.display()),
        bundle.root().join("up"),
    )
    .unwrap();
    symlink(&outside, bundle.root().join("absolute")).unwrap();
    let source = bundle.path().join("source");
    fs::create_dir(&source).unwrap();
    for target in ["/up/made", "/absolute/made", "/../../escaped"] {
        bundle.spec.mounts.push(bind(&source, target, "bind"));
    }
    let output = bundle.oci(&["run", &bundle.id]);
    // Whether a dangling link is an error or a place inside, the host is untouched.
    assert_eq!(
        fs::read_dir(&outside).unwrap().count(),
        0,
        "{}",
        stderr(&output)
    );
    assert!(!Path::new("/escaped").exists());
}

#[test]
fn a_bind_over_a_dangling_link_is_made_where_the_link_leads() {
    let mut bundle = bundle_or_skip!();
    let link = bundle.root().join("etc/resolv.conf");
    symlink("../run/resolve/stub", link).unwrap();
    let source = bundle.path().join("resolv.conf");
    fs::write(&source, "nameserver 192.0.2.1\n").unwrap();
    bundle
        .spec
        .mounts
        .push(bind(&source, "/etc/resolv.conf", "bind"));
    let text = bundle.run_script("cat /etc/resolv.conf /run/resolve/stub");
    assert_eq!(text, "nameserver 192.0.2.1\nnameserver 192.0.2.1\n");
}

#[test]
fn procfs_is_not_mounted_through_a_link() {
    for replaced in ["proc", "sys"] {
        let bundle = bundle_or_skip!();
        symlink("/tmp", bundle.root().join(replaced)).unwrap();
        let text = bundle.run_fails();
        assert!(
            text.starts_with(&format!(
                "mount {}",
                if replaced == "sys" { "sysfs" } else { "proc" }
            )),
            "{text}"
        );
    }
}

#[test]
fn a_false_device_in_the_image_is_not_taken_for_the_null_device() {
    let Some(mut bundle) = Bundle::new() else {
        return;
    };
    // A bind mount at /dev brings its own nodes; here a plain file.
    let dev = bundle.path().join("dev");
    fs::create_dir_all(dev.join("pts")).unwrap();
    for dir in ["shm", "mqueue"] {
        fs::create_dir_all(dev.join(dir)).unwrap();
    }
    fs::write(dev.join("null"), "").unwrap();
    bundle.spec.mounts[1] = bind(&dev, "/dev", "bind");
    assert_eq!(bundle.run_fails(), "verify /dev/null: no such device\n");
}
