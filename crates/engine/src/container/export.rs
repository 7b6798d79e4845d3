//! `export`: all files of a container as one archive, without what is mounted
//! over them.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;

use conex_layers::pack::Tree;

use crate::pipe::{self, ByteStream};
use crate::{Engine, Error};

impl Engine {
    /// The archive of a container's root, running or not. It is of no single
    /// moment if the container writes meanwhile. An error of the stream says
    /// that the archive is cut.
    pub async fn container_export(&self, name: &str) -> Result<ByteStream, Error> {
        let container = self.inner.find(name)?;
        let engine = Arc::clone(&self.inner);
        let exported = Arc::clone(&container);
        let view = tokio::task::spawn_blocking(move || engine.view_of(&exported.record))
            .await
            .map_err(|e| Error::system("export the container", &e))??;
        let (mut writer, stream) = pipe::writer();
        tokio::task::spawn_blocking(move || {
            let packed = Tree::default().pack(view.as_fd(), &mut writer);
            writer.finish(packed.map(drop).map_err(io::Error::other));
        });
        container.publish(&self.inner.events, "export", &[]);
        Ok(stream)
    }
}
