//! Engines whose data root is a file system of its own, in a file behind a loop
//! device.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::Engine;
use crate::{skip, workspace};

impl Engine {
    /// Starts an engine whose data root is an ext4 of its own of so many MiB.
    pub fn start_on_disk(mebibytes: u64) -> Option<Engine> {
        Engine::start_on("ext4", mebibytes, &[])
    }

    /// Starts an engine whose data root is a file system of its own, of that
    /// kind and so many MiB.
    pub fn start_on(kind: &str, mebibytes: u64, flags: &[&str]) -> Option<Engine> {
        let engine = Engine::prepare(flags, &[])?;
        let image = engine.disk_image();
        File::create(&image)
            .and_then(|file| file.set_len(mebibytes << 20))
            .expect("a sparse file can be made");
        engine.format_and_start(kind, &image)
    }

    /// The same in a file that is there.
    pub fn start_in(kind: &str, image: &Path, flags: &[&str]) -> Option<Engine> {
        Engine::prepare(flags, &[])?.format_and_start(kind, image)
    }

    fn format_and_start(mut self, kind: &str, image: &Path) -> Option<Engine> {
        fs::create_dir(self.data_root()).expect("a fresh directory takes a folder");
        let name = format!("mkfs.{kind}");
        let Some(mkfs) = workspace::program(&name) else {
            skip(&format!("{name} is missing"));
            return None;
        };
        let options: &[&str] = match kind {
            "ext4" => &["-q", "-F", "-m", "0"],
            _ => &["-q"],
        };
        let made = Command::new(mkfs).args(options).arg(image).output();
        // The kernel's cleaner of btrfs comes with its commits.
        let mount_options = match kind {
            "btrfs" => "loop,commit=1",
            _ => "loop",
        };
        let mounted = Command::new("mount")
            .args(["-o", mount_options])
            .args([image, &self.data_root()])
            .output();
        for (what, output) in [(name.as_str(), made), ("mount -o loop", mounted)] {
            let output = output.unwrap_or_else(|e| panic!("{what}: {e}"));
            if !output.status.success() {
                skip(&format!(
                    "{what}: {}",
                    String::from_utf8_lossy(&output.stderr)
                ));
                return None;
            }
        }
        self.disk = true;
        self.resume();
        Some(self)
    }

    /// Starts an engine whose data root is a copy of another one's disk, as that
    /// was at one moment.
    pub fn start_on_copy(image: &Path, flags: &[&str]) -> Option<Engine> {
        let mut engine = Engine::prepare(flags, &[])?;
        fs::create_dir(engine.data_root()).expect("a fresh directory takes a folder");
        let mounted = Command::new("mount")
            .args(["-o", "loop"])
            .args([image, &engine.data_root()])
            .output()
            .expect("mount can be run");
        assert!(
            mounted.status.success(),
            "{}",
            String::from_utf8_lossy(&mounted.stderr)
        );
        engine.disk = true;
        engine.resume();
        Some(engine)
    }

    /// The file that holds the data root, of an engine on a disk of its own.
    pub fn disk_image(&self) -> PathBuf {
        self.root().join("disk")
    }

    /// What is free in the data root's file system, in bytes.
    pub fn free_bytes(&self) -> u64 {
        let stat = rustix::fs::statvfs(self.data_root()).expect("the data root exists");
        stat.f_bavail * stat.f_frsize
    }
}
