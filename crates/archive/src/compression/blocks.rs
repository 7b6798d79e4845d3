//! Compressing the blocks of a stream on all processors, in order. It knows no format.
//!
//! ```text
//! source ─► block n ─► worker n modulo their number ─► its result, when its turn has come
//! ```

use std::io::{self, Read};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

/// Blocks waiting for each worker, and finished ones waiting for their turn.
const AHEAD: usize = 2;

type Lane<T> = (SyncSender<Vec<u8>>, Receiver<(Vec<u8>, io::Result<T>)>);

/// As many as there are processors.
pub(super) fn workers() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Cuts `source` into blocks of `block_bytes`, the last one shorter and none empty; gives each to a compressor, of
/// which every worker makes its own, and the results to `take`, in the order of the blocks.
///
/// Errors are those of the source, the compressors and `take`; the first one ends it.
pub(super) fn compress<T: Send, C: FnMut(&[u8]) -> io::Result<T>>(
    workers: usize,
    block_bytes: usize,
    source: &mut dyn Read,
    compressor: impl Fn() -> C + Sync,
    take: &mut dyn FnMut(T) -> io::Result<()>,
) -> io::Result<()> {
    std::thread::scope(|scope| {
        let mut lanes = Vec::with_capacity(workers);
        for _ in 0..workers {
            let (to_worker, blocks) = sync_channel::<Vec<u8>>(AHEAD);
            let (done, from_worker) = sync_channel(AHEAD);
            let compressor = &compressor;
            std::thread::Builder::new()
                .name("compress".to_owned())
                .spawn_scoped(scope, move || work(compressor(), &blocks, &done))?;
            lanes.push((to_worker, from_worker));
        }
        drive(&lanes, block_bytes, source, take)
    })
}

fn drive<T>(
    lanes: &[Lane<T>],
    block_bytes: usize,
    source: &mut dyn Read,
    take: &mut dyn FnMut(T) -> io::Result<()>,
) -> io::Result<()> {
    let gone = || io::Error::other("a compressing thread has ended");
    let mut spare = Vec::new();
    let mut finish = |number: usize| -> io::Result<Vec<u8>> {
        let done = lanes[number % lanes.len()].1.recv();
        let (content, compressed) = done.map_err(|_| gone())?;
        take(compressed?)?;
        Ok(content)
    };
    let (mut sent, mut finished) = (0, 0);
    loop {
        let mut content: Vec<u8> = std::mem::take(&mut spare);
        content.clear();
        source.take(block_bytes as u64).read_to_end(&mut content)?;
        if content.is_empty() {
            break;
        }
        let lane = &lanes[sent % lanes.len()];
        lane.0.send(content).map_err(|_| gone())?;
        sent += 1;
        if sent - finished >= lanes.len() * AHEAD {
            spare = finish(finished)?;
            finished += 1;
        }
    }
    while finished < sent {
        finish(finished)?;
        finished += 1;
    }
    Ok(())
}

fn work<T>(
    mut compress: impl FnMut(&[u8]) -> io::Result<T>,
    blocks: &Receiver<Vec<u8>>,
    done: &SyncSender<(Vec<u8>, io::Result<T>)>,
) {
    while let Ok(content) = blocks.recv() {
        let compressed = compress(&content);
        if done.send((content, compressed)).is_err() {
            return;
        }
    }
}
