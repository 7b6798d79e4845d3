//! The built-in image: this very program in its `hello` personality, so that a
//! first container needs no network and no registry.

use std::io::{self, BufReader};
use std::sync::Arc;

use conex_archive::tar::{EntryKind, Header, Writer};
use conex_spec::image::ContainerConfig;
use conex_spec::platform::Platform;
use conex_spec::reference::Reference;

use super::Image;
use super::import::Plan;
use crate::Error;
use crate::engine::Inner;

const NAME: &str = "docker.io/library/hello-world:latest";

/// Whether a word that names no image here means the built-in one.
pub(super) fn is_meant(word: &str) -> bool {
    Reference::parse(word).is_ok_and(|r| r.with_default_tag().to_string() == NAME)
}

/// Makes the image. Blocks.
pub(super) fn make(engine: &Inner) -> Result<Arc<Image>, Error> {
    let failed = |e: &dyn std::error::Error| Error::system("make the built-in image", e);
    let (reader, writer) = io::pipe().map_err(|e| failed(&e))?;
    let writing = std::thread::spawn(move || write_archive(writer));
    let config = ContainerConfig {
        cmd: Some(vec!["/conex".into(), "hello".into()]),
        working_dir: "/".into(),
        ..ContainerConfig::default()
    };
    let plan = Plan {
        name: Some(Reference::parse(NAME).map_err(|e| failed(&e))?),
        config,
        platform: Platform::host(),
        message: "Built into conex".into(),
    };
    let image = engine.import(Box::new(BufReader::with_capacity(1 << 18, reader)), plan);
    match writing.join() {
        Ok(Ok(())) => image,
        Ok(Err(error)) => image.and(Err(failed(&error))),
        Err(_) => Err(Error::new(
            crate::ErrorKind::System,
            "the built-in image was not written",
        )),
    }
}

fn write_archive(sink: io::PipeWriter) -> io::Result<()> {
    let mut program = conex_sys::process::own_executable()?;
    let mut archive = Writer::new(io::BufWriter::with_capacity(1 << 16, sink));
    for dir in ["dev", "etc", "proc", "sys", "tmp"] {
        let mut header = Header::new(format!("{dir}/"), EntryKind::Directory);
        header.mode = if dir == "tmp" { 0o1777 } else { 0o755 };
        archive.append_empty(&header).map_err(io::Error::other)?;
    }
    for (path, text) in [
        ("etc/passwd", "root:x:0:0:root:/:/conex\n"),
        ("etc/group", "root:x:0:\n"),
    ] {
        let mut header = Header::new(path, EntryKind::Regular);
        header.mode = 0o644;
        header.size = text.len() as u64;
        archive
            .append(&header, &mut text.as_bytes())
            .map_err(io::Error::other)?;
    }
    let mut header = Header::new("conex", EntryKind::Regular);
    header.mode = 0o755;
    header.size = program.metadata()?.len();
    archive
        .append(&header, &mut program)
        .map_err(io::Error::other)?;
    let mut sink = archive.finish().map_err(io::Error::other)?;
    io::Write::flush(&mut sink)
}

#[cfg(test)]
mod tests {
    use super::is_meant;

    #[test]
    fn only_its_own_name_means_the_built_in_image() {
        assert!(is_meant("hello-world") && is_meant("docker.io/library/hello-world:latest"));
        assert!(!is_meant("hello-world:linux") && !is_meant("me/hello-world"));
    }
}
