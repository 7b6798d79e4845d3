//! Messages of a transfer on their way to one client. What matters waits for the client, what only moves a bar is
//! dropped when it does not keep up.

use std::time::{Duration, Instant};

use conex_api::progress::{Message, ProgressDetail};
use futures_util::stream::{BoxStream, StreamExt};
use tokio::sync::mpsc;

use super::blob::{Download, Stage, Unpacked};

/// Bars are moved at most so often.
const PACE: Duration = Duration::from_millis(100);
/// Messages a client may lag behind.
const QUEUE: usize = 256;

/// Tells one client.
#[derive(Debug, Clone)]
pub(super) struct Teller {
    sender: mpsc::Sender<Message>,
}

impl Teller {
    /// A teller and its messages; dropping them drops `guard`.
    pub(super) fn new<G: Send + 'static>(guard: G) -> (Self, BoxStream<'static, Message>) {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let messages = futures_util::stream::unfold((receiver, guard), async |(mut r, guard)| {
            let message = r.recv().await?;
            Some((message, (r, guard)))
        });
        (Self { sender }, messages.boxed())
    }

    /// Waits for the client; one that is gone hears nothing.
    pub(super) async fn tell(&self, message: Message) {
        let _gone = self.sender.send(message).await.is_err();
    }

    /// Only if the client keeps up.
    pub(super) fn hint(&self, message: Message) {
        let _dropped = self.sender.try_send(message).is_err();
    }

    /// Until the client has gone.
    pub(super) async fn gone(&self) {
        self.sender.closed().await;
    }
}

/// The state of one layer, without a bar.
pub(super) fn state(id: &str, status: impl Into<String>) -> Message {
    Message {
        id: id.to_owned(),
        progress_detail: Some(ProgressDetail::default()),
        ..Message::status(status)
    }
}

/// The state of one layer with a bar.
pub(super) fn bar(id: &str, status: &str, current: u64, total: u64) -> Message {
    let signed = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    Message {
        progress_detail: Some(ProgressDetail {
            current: signed(current),
            total: signed(total),
            ..ProgressDetail::default()
        }),
        ..state(id, status)
    }
}

/// Tells of a layer until it is complete, whoever fetches and unpacks it; says whether it has come so far.
pub(super) async fn follow(teller: &Teller, id: &str, download: &Download) -> bool {
    fetching(teller, id, download).await && unpacking(teller, id, download).await
}

async fn fetching(teller: &Teller, id: &str, download: &Download) -> bool {
    let mut stages = download.stages();
    let total = download.shared.blob.size_bytes;
    let mut next = Instant::now();
    loop {
        let stage = *stages.borrow_and_update();
        match stage {
            Stage::Waiting => teller.tell(state(id, "Waiting")).await,
            Stage::Downloading(bytes) => {
                if Instant::now() >= next {
                    teller.hint(bar(id, "Downloading", bytes, total));
                    next = Instant::now() + PACE;
                }
            }
            Stage::Retrying(seconds) => {
                let s = if seconds == 1 { "" } else { "s" };
                teller
                    .tell(state(id, format!("Retrying in {seconds} second{s}")))
                    .await;
            }
            Stage::Complete => {
                teller.tell(state(id, "Verifying Checksum")).await;
                teller.tell(state(id, "Download complete")).await;
                return true;
            }
            Stage::Failed => return false,
        }
        tokio::select! {
            changed = stages.changed() => if changed.is_err() { return false },
            () = teller.gone() => return false,
        }
    }
}

async fn unpacking(teller: &Teller, id: &str, download: &Download) -> bool {
    let mut unpacking = download.unpacking();
    let total = download.shared.blob.size_bytes;
    let mut next = Instant::now();
    loop {
        let unpacked = *unpacking.borrow_and_update();
        match unpacked {
            Unpacked::Bytes(bytes) => {
                if bytes > 0 && Instant::now() >= next {
                    teller.hint(bar(id, "Extracting", bytes, total));
                    next = Instant::now() + PACE;
                }
            }
            Unpacked::Complete => {
                teller.tell(bar(id, "Extracting", total, total)).await;
                teller.tell(state(id, "Pull complete")).await;
                return true;
            }
        }
        tokio::select! {
            changed = unpacking.changed() => if changed.is_err() { return false },
            () = teller.gone() => return false,
        }
    }
}
