//! Archives of every sort must come back as they were.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::{Cursor, Read, Write};
use std::path::Path;

use conex_archive::tar::EntryKind;
use conex_spec::digest::Digest;
use proptest::prelude::*;

use super::*;
use crate::driver::LayerRoot;
use crate::extract::{Limits, Whiteouts};
use crate::fixture::{Archive, directory, privileged};
use crate::unpack::unpack_recording;

/// A layer and its recipe, and what its archive was.
struct Layer {
    temporary: tempfile::TempDir,
    recipes: Recipes,
    id: LayerId,
    diff_id: Digest,
}

impl Layer {
    fn of(archive: &[u8], whiteouts: Whiteouts) -> Result<Self, crate::unpack::Error> {
        let temporary = tempfile::tempdir().unwrap();
        let tree = temporary.path().join("tree");
        fs::create_dir(&tree).unwrap();
        let recipes = Recipes::open(&temporary.path().join("recipes")).unwrap();
        let id: LayerId = "layer".parse().unwrap();
        let root = LayerRoot {
            directory: directory(&tree),
            whiteouts,
        };
        let stream = Box::new(Cursor::new(archive.to_vec()));
        let recipe = recipes.create(&id).unwrap();
        let unpacked = unpack_recording(stream, &root, Limits::default(), recipe)?;
        assert_eq!(unpacked.diff_id, Digest::of(archive));
        Ok(Self {
            recipes,
            id,
            diff_id: unpacked.diff_id,
            temporary,
        })
    }

    fn tree(&self) -> std::path::PathBuf {
        self.temporary.path().join("tree")
    }

    fn again(&self) -> Result<Vec<u8>, String> {
        let mut bytes = Vec::new();
        let told = |error: &dyn std::error::Error| error.to_string();
        self.recipes
            .regenerate(&self.id, directory(&self.tree()), &self.diff_id)
            .map_err(|error| told(&error))?
            .read_to_end(&mut bytes)
            .map_err(|error| told(&error))?;
        Ok(bytes)
    }
}

fn comes_back(archive: &[u8]) {
    for whiteouts in [Whiteouts::Overlay, Whiteouts::Apply] {
        let layer = Layer::of(archive, whiteouts).unwrap();
        assert!(layer.again().unwrap() == archive, "{whiteouts:?}");
    }
}

#[test]
fn an_ordinary_archive_comes_back() {
    if !privileged() {
        return;
    }
    let large = "0123456789".repeat(50_000);
    comes_back(
        &Archive::new()
            .directory("d", 0o750)
            .file("d/small", "x")
            .file("d/empty", "")
            .file("d/large", &large)
            .symlink("d/link", "small")
            .hard_link("d/hard", "d/large")
            .file("d/.wh.gone", "")
            .file(&"long/".repeat(60), "")
            .finish(),
    );
    comes_back(b"");
    comes_back(&[0; 10240]);
}

#[test]
fn what_follows_the_archive_and_lies_between_comes_back() {
    if !privileged() {
        return;
    }
    let mut archive = Archive::new().file("a", "x").file("b", "y").finish();
    // The padding behind "x" is nobody's.
    archive[513..1024].fill(0xa5);
    archive.extend_from_slice(&[0; 4096]);
    archive.extend_from_slice(b"and a signature");
    comes_back(&archive);
    // No end mark and no padding behind the last member.
    let archive = Archive::new().file("a", "x").finish();
    comes_back(&archive[..513]);
    // A whiteout with content, which goes into no file.
    comes_back(&Archive::new().file(".wh.a", &"x".repeat(70_000)).finish());
}

#[test]
fn content_that_the_archive_replaces_itself_comes_back() {
    if !privileged() {
        return;
    }
    let old = "old ".repeat(40_000);
    comes_back(&Archive::new().file("a", &old).file("a", "new").finish());
    comes_back(
        &Archive::new()
            .file("a", &old)
            .hard_link("b", "a")
            .file("a", "second")
            .file("b", "third")
            .file("a", "fourth")
            .finish(),
    );
    comes_back(
        &Archive::new()
            .file("d/x", &old)
            .file("d/e/y", "deep")
            .file("d", "a file where a directory was")
            .finish(),
    );
    comes_back(
        &Archive::new()
            .file("a", &old)
            .symlink("a", "b")
            .directory("a", 0o755)
            .file("a/b", "c")
            .finish(),
    );
}

#[test]
fn files_behind_links_that_lead_elsewhere_later_come_back() {
    if !privileged() {
        return;
    }
    let archive = Archive::new()
        .directory("real", 0o755)
        .symlink("way", "real")
        .file("way/file", "content")
        .directory("way", 0o755)
        .file("way/file", "another")
        .finish();
    let layer = Layer::of(&archive, Whiteouts::Overlay).unwrap();
    assert_eq!(
        fs::read(layer.tree().join("real/file")).unwrap(),
        b"content"
    );
    assert!(layer.again().unwrap() == archive);
    comes_back(&archive);
}

#[test]
fn a_damaged_file_is_named() {
    if !privileged() {
        return;
    }
    let archive = Archive::new()
        .file("d/a", "first")
        .file("d/b", "second")
        .finish();
    let damage = |harm: &dyn Fn(&Path)| {
        let layer = Layer::of(&archive, Whiteouts::Overlay).unwrap();
        harm(&layer.tree().join("d/b"));
        layer.again().unwrap_err()
    };
    assert_eq!(
        damage(&|path| fs::write(path, "secone").unwrap()),
        "the file \"d/b\" of the layer is damaged: its content has changed"
    );
    assert_eq!(
        damage(&|path| fs::write(path, "sec").unwrap()),
        "the file \"d/b\" of the layer is damaged: it has become shorter"
    );
    assert_eq!(
        damage(&|path| fs::remove_file(path).unwrap()),
        "the file \"d/b\" of the layer cannot be read"
    );
    let linked = damage(&|path| {
        fs::remove_file(path).unwrap();
        std::os::unix::fs::symlink("a", path).unwrap();
    });
    assert_eq!(linked, "the file \"d/b\" of the layer cannot be read");
}

#[test]
fn a_damaged_recipe_is_an_error_and_never_another_archive() {
    if !privileged() {
        return;
    }
    let archive = Archive::new()
        .file("a", "old")
        .file("a", "new")
        .file("b", &"text ".repeat(1000))
        .finish();
    let layer = Layer::of(&archive, Whiteouts::Overlay).unwrap();
    let path = layer.recipes.path(&layer.id);
    let recipe = fs::read(&path).unwrap();
    for cut in 0..recipe.len() {
        fs::write(&path, &recipe[..cut]).unwrap();
        assert!(layer.again().is_err(), "cut at {cut}");
    }
    for at in 0..recipe.len() {
        let mut damaged = recipe.clone();
        damaged[at] ^= 0x10;
        fs::write(&path, &damaged).unwrap();
        if let Ok(bytes) = layer.again() {
            assert!(bytes == archive, "byte {at}");
        }
    }
    fs::remove_file(&path).unwrap();
    assert_eq!(
        layer.again().unwrap_err(),
        "layer layer has no recipe: its archive cannot be made again"
    );
}

#[test]
fn recipes_are_listed_and_removed() {
    let temporary = tempfile::tempdir().unwrap();
    let recipes = Recipes::open(&temporary.path().join("recipes")).unwrap();
    let id: LayerId = "one".parse().unwrap();
    drop(recipes.create(&id).unwrap());
    assert_eq!(recipes.list().unwrap(), std::slice::from_ref(&id));
    let error = recipes
        .regenerate(&id, directory(temporary.path()), &Digest::of(b""))
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "the layer's recipe is damaged: it was never finished"
    );
    recipes.remove(&id).unwrap();
    recipes.remove(&id).unwrap();
    assert!(recipes.list().unwrap().is_empty());
}

/// A member written by hand, in a form no canonical writer has.
#[derive(Debug, Clone)]
struct Odd {
    name: &'static str,
    link: &'static str,
    flag: u8,
    content: Vec<u8>,
    /// 0 v7, 1 ustar, 2 GNU.
    dialect: u8,
    /// How numbers are written.
    octal: u8,
    padding: u8,
    /// PAX records in front, not in the canonical order or form.
    pax: bool,
    /// A GNU long name in front.
    long: bool,
    signed: bool,
}

impl Odd {
    fn write(&self, out: &mut Vec<u8>) {
        if self.long {
            let name = [self.name.as_bytes(), b"\0"].concat();
            self.block(out, "././@LongLink", b'L', name.len());
            self.data(out, &name);
        }
        if self.pax {
            let records = b"22 comment=of no worth\n12 mtime=1.5\n13 mtime=2.25\n";
            self.block(out, "pax", b'x', records.len());
            self.data(out, records);
        }
        let content = if matches!(self.flag, b'0' | 0 | b'7') {
            &self.content[..]
        } else {
            b""
        };
        let name = if self.long { "short" } else { self.name };
        self.block(out, name, self.flag, content.len());
        self.data(out, content);
    }

    fn number(&self, value: usize, width: usize) -> Vec<u8> {
        let text = match self.octal {
            0 => format!("{value:0w$o}\0", w = width - 1),
            1 => format!("{value:w$o} ", w = width - 1),
            2 => format!("{value:0width$o}"),
            _ => {
                let mut bytes = vec![0; width];
                bytes[0] = 0x80;
                bytes[width - 8..].copy_from_slice(&(value as u64).to_be_bytes());
                bytes[0] = 0x80;
                return bytes;
            }
        };
        text.into_bytes()
    }

    fn block(&self, out: &mut Vec<u8>, name: &str, flag: u8, size: usize) {
        let mut block = [0u8; 512];
        block[..name.len()].copy_from_slice(name.as_bytes());
        block[100..108].copy_from_slice(b"0000640\0");
        block[124..136].copy_from_slice(&self.number(size, 12));
        block[136..148].copy_from_slice(b"00000000017\0");
        block[156] = flag;
        block[157..157 + self.link.len()].copy_from_slice(self.link.as_bytes());
        match self.dialect {
            0 => block[500..510].copy_from_slice(b"unassigned"),
            1 => block[257..265].copy_from_slice(b"ustar\x0000"),
            _ => block[257..265].copy_from_slice(b"ustar  \0"),
        }
        block[148..156].fill(b' ');
        let sum: i64 = block
            .iter()
            .map(|byte| match self.signed {
                true => i64::from(byte.cast_signed()),
                false => i64::from(*byte),
            })
            .sum();
        let text = format!("{sum:07o}\0");
        block[148..156].copy_from_slice(text.as_bytes());
        out.extend_from_slice(&block);
    }

    fn data(&self, out: &mut Vec<u8>, data: &[u8]) {
        out.extend_from_slice(data);
        let padded = data.len().next_multiple_of(512);
        out.resize(out.len() + padded - data.len(), self.padding);
    }
}

fn odd() -> impl Strategy<Value = Odd> {
    const NAMES: [&str; 12] = [
        "a",
        "b",
        "./a",
        "d/a",
        "d/",
        "d",
        "d/e/f",
        "way",
        "way/a",
        ".wh.a",
        "d/.wh..wh..opq",
        "/b//c",
    ];
    let flags = prop::sample::select(vec![b'0', b'0', b'0', 0, b'7', b'5', b'2', b'1', b'6']);
    let content = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..40),
        (any::<u8>(), 500usize..1600).prop_map(|(byte, length)| vec![byte; length]),
    ];
    (
        prop::sample::select(NAMES.to_vec()),
        prop::sample::select(vec!["a", "d", "d/a", "/", "..", "nowhere"]),
        flags,
        content,
        (0u8..3, 0u8..4, any::<u8>()),
        (
            prop::bool::weighted(0.2),
            prop::bool::weighted(0.2),
            any::<bool>(),
        ),
    )
        .prop_map(
            |(name, link, flag, content, (dialect, octal, padding), (pax, long, signed))| Odd {
                name,
                link: if matches!(flag, b'1' | b'2') {
                    link
                } else {
                    ""
                },
                flag,
                content,
                dialect,
                octal,
                padding,
                pax,
                long,
                signed,
            },
        )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// Whatever can be unpacked comes back, and what cannot is an error.
    #[test]
    fn every_archive_that_unpacks_comes_back(
        members in prop::collection::vec(odd(), 0..12),
        trailer in prop::collection::vec(any::<u8>(), 0..700),
        end in 0usize..4,
    ) {
        if !rustix::process::geteuid().is_root() {
            return Ok(());
        }
        let mut archive = Vec::new();
        for member in &members {
            member.write(&mut archive);
        }
        if end > 0 {
            archive.resize(archive.len() + end * 512, 0);
            archive.write_all(&trailer).unwrap();
        }
        for whiteouts in [Whiteouts::Overlay, Whiteouts::Apply, Whiteouts::AsIs] {
            if let Ok(layer) = Layer::of(&archive, whiteouts) {
                let again = layer.again();
                prop_assert!(again.as_ref() == Ok(&archive), "{:?}", again.err());
            }
        }
    }

    /// Anything done to a valid archive is unpacked or refused, never a panic,
    /// and what was unpacked comes back.
    #[test]
    fn a_mutilated_archive_is_refused_or_comes_back(
        members in prop::collection::vec(odd(), 1..6),
        harm in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(),
        cuts in any::<bool>(),
    ) {
        if !rustix::process::geteuid().is_root() {
            return Ok(());
        }
        let mut archive = Vec::new();
        for member in &members {
            member.write(&mut archive);
        }
        archive.resize(archive.len() + 1024, 0);
        for (at, byte) in harm {
            let at = at.index(archive.len());
            archive[at] = byte;
        }
        if cuts {
            archive.truncate(cut.index(archive.len()));
        }
        if let Ok(layer) = Layer::of(&archive, Whiteouts::Overlay) {
            prop_assert!(layer.again().as_ref() == Ok(&archive));
        }
    }

    /// Records of any bytes decode or fail, within what was given.
    #[test]
    fn decoding_anything_ends(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut stream = &bytes[..];
        while format::Record::decode(&mut stream).is_ok() {}
    }
}

#[test]
fn sparse_files_of_gnu_tar_come_back_in_every_format() {
    if !privileged() {
        return;
    }
    let temporary = tempfile::tempdir().unwrap();
    let file = fs::File::create(temporary.path().join("sparse")).unwrap();
    file.set_len(10 << 20).unwrap();
    for at in [0u64, 1 << 20, (5 << 20) + 7, (10 << 20) - 3] {
        use std::os::unix::fs::FileExt;
        file.write_all_at(b"abc", at).unwrap();
    }
    for format in [
        &["--format=gnu"][..],
        &["--format=posix", "--sparse-version=0.0"],
        &["--format=posix", "--sparse-version=0.1"],
        &["--format=posix", "--sparse-version=1.0"],
    ] {
        let output = std::process::Command::new("tar")
            .args(["-C", temporary.path().to_str().unwrap(), "--sparse", "-cf-"])
            .args(format)
            .arg("sparse")
            .output();
        let Ok(output) = output else {
            eprintln!("skipped: no tar on this machine");
            return;
        };
        assert!(output.status.success());
        assert!(output.stdout.len() < 1 << 20, "tar found no holes");
        comes_back(&output.stdout);
        let layer = Layer::of(&output.stdout, Whiteouts::Overlay).unwrap();
        let unpacked = fs::read(layer.tree().join("sparse")).unwrap();
        assert!(unpacked == fs::read(temporary.path().join("sparse")).unwrap());
        use std::os::unix::fs::MetadataExt;
        let blocks = fs::metadata(layer.tree().join("sparse")).unwrap().blocks();
        assert!(blocks * 512 < 1 << 20, "holes were filled");
    }
}

#[test]
fn a_hard_link_archive_member_of_itself_changes_nothing() {
    if !privileged() {
        return;
    }
    comes_back(
        &Archive::new()
            .file("a", "x")
            .link(EntryKind::HardLink, "a", "a")
            .finish(),
    );
}

#[test]
fn a_sparse_file_beyond_8_gib_comes_back_and_keeps_its_holes() {
    use std::os::unix::fs::{FileExt, MetadataExt};
    if !privileged() {
        return;
    }
    let temporary = tempfile::tempdir().unwrap();
    let size = (9u64 << 30) + 5;
    let file = fs::File::create(temporary.path().join("huge")).unwrap();
    file.set_len(size).unwrap();
    file.write_all_at(b"end", size - 3).unwrap();
    for format in ["gnu", "posix"] {
        let output = std::process::Command::new("tar")
            .args(["-C", temporary.path().to_str().unwrap(), "--sparse"])
            .args([&format!("--format={format}"), "-cf-", "huge"])
            .output();
        let Ok(output) = output else {
            eprintln!("skipped: no tar on this machine");
            return;
        };
        let layer = Layer::of(&output.stdout, Whiteouts::Overlay).unwrap();
        assert!(layer.again().unwrap() == output.stdout, "{format}");
        let status = fs::metadata(layer.tree().join("huge")).unwrap();
        assert_eq!(status.len(), size);
        assert!(status.blocks() * 512 < 1 << 20, "holes were filled");
    }
}
