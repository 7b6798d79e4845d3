//! Signals of this process: their names, and passing them on to a container.

use std::time::Duration;

use conex_client::{Client, query, segment};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::terminal;
use crate::error::CliError;

/// Names of the signals 1 to 31, in order.
const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
    "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG",
    "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];
const INT: i32 = 2;
const TERM: i32 = 15;
const WINCH: i32 = 28;
/// The last real-time signal.
const LAST: i32 = 64;
/// How many INT or TERM end this process whatever the container does.
const GIVE_UP_AFTER: u32 = 3;

/// How often the first size of a terminal is told, and the pause that grows by itself each time.
const SIZE_ATTEMPTS: u32 = 10;
const SIZE_PAUSE: Duration = Duration::from_millis(10);

/// What the API calls a signal.
fn name(number: i32) -> String {
    usize::try_from(number - 1)
        .ok()
        .and_then(|index| NAMES.get(index))
        .map_or_else(|| number.to_string(), |name| (*name).to_owned())
}

/// Whether a signal is the container's business; the others are this process's own.
fn is_forwarded(number: i32, tty: bool) -> bool {
    match name(number).as_str() {
        "CHLD" | "PIPE" | "URG" => false,
        // With a terminal the size is passed on, and the kernel signals it.
        "WINCH" => !tty,
        _ => true,
    }
}

/// Signals being passed on, or not.
pub(super) struct Forwarding {
    /// Hears when the user has asked three times to stop.
    gave_up: Option<mpsc::UnboundedReceiver<()>>,
}

impl Forwarding {
    /// Signals keep their ordinary effect on this process.
    pub(super) fn none() -> Self {
        Self { gave_up: None }
    }

    /// Does something unless the user asks for the third time to stop.
    pub(super) async fn unless_forced<T>(
        &mut self,
        work: impl Future<Output = Result<T, CliError>>,
    ) -> Result<T, CliError> {
        let Some(gave_up) = &mut self.gave_up else {
            return work.await;
        };
        tokio::select! {
            result = work => result,
            Some(()) = gave_up.recv() => Err(CliError::message("\ngot 3 SIGTERM/SIGINTs, forcefully exiting")),
        }
    }
}

/// Passes every signal on to a container until the runtime ends.
pub(super) fn forward_all(client: Client, container: String, tty: bool) -> Forwarding {
    let (caught, mut arriving) = mpsc::unbounded_channel();
    for number in (1..=LAST).filter(|number| is_forwarded(*number, tty)) {
        // Refused for those nobody may catch (KILL, STOP, and faults of the process itself).
        let Ok(mut stream) = signal(SignalKind::from_raw(number)) else {
            continue;
        };
        let caught = caught.clone();
        tokio::spawn(async move {
            while stream.recv().await.is_some() {
                if caught.send(number).is_err() {
                    return;
                }
            }
        });
    }
    let (give_up, gave_up) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut asked = 0;
        while let Some(number) = arriving.recv().await {
            if matches!(number, INT | TERM) {
                asked += 1;
                if asked == GIVE_UP_AFTER && give_up.send(()).is_err() {
                    return;
                }
            }
            let path = format!(
                "/containers/{}/kill{}",
                segment(&container),
                query(&[("signal", &name(number))])
            );
            let client = client.clone();
            // Not awaited here: an engine that hangs must not keep the third Ctrl-C from counting.
            tokio::spawn(async move { client.post_empty(&path).await.ok() });
        }
    });
    Forwarding {
        gave_up: Some(gave_up),
    }
}

/// Tells a container the size of this terminal, now and whenever it changes.
pub(super) fn follow_size(client: Client, container: String) {
    follow_size_of(client, format!("/containers/{}", segment(&container)));
}

/// The same for whatever has a terminal: a container or an exec, by its path in the API.
pub(super) fn follow_size_of(client: Client, path: String) {
    // Before the first look at the size, so that no change is missed.
    let changes = signal(SignalKind::from_raw(WINCH));
    tokio::spawn(async move {
        let [rows, columns] = terminal::size();
        first_size(&client, &path, rows, columns).await;
        let Ok(mut changes) = changes else { return };
        while changes.recv().await.is_some() {
            let [rows, columns] = terminal::size();
            resize_of(&client, &path, rows, columns).await;
        }
    });
}

/// Tells a container the size of its terminal; a container that ended meanwhile has none.
pub(super) async fn resize(client: &Client, container: &str, rows: u32, columns: u32) {
    resize_of(
        client,
        &format!("/containers/{}", segment(container)),
        rows,
        columns,
    )
    .await;
}

/// Tells the size until it is taken, as often and in such intervals as Docker's client: an engine may have started a
/// program that has no terminal yet, and has no event for it.
async fn first_size(client: &Client, path: &str, rows: u32, columns: u32) {
    for attempt in 1..=SIZE_ATTEMPTS {
        if resize_of(client, path, rows, columns).await {
            return;
        }
        tokio::time::sleep(attempt * SIZE_PAUSE).await;
    }
}

/// Whether the size was taken.
async fn resize_of(client: &Client, path: &str, rows: u32, columns: u32) -> bool {
    if rows == 0 && columns == 0 {
        return true;
    }
    let (rows, columns) = (rows.to_string(), columns.to_string());
    let size = query(&[("h", &rows), ("w", &columns)]);
    let path = format!("{path}/resize{size}");
    client.post_empty(&path).await.is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_first_size_is_told_until_it_is_taken() {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let dir = tempfile::tempdir().expect("a directory can be made");
        let path = dir.path().join("s");
        let listener = tokio::net::UnixListener::bind(&path).expect("a socket can be bound");
        let engine = tokio::spawn(async move {
            let mut seen = Vec::new();
            for status in ["409 Conflict", "500 No", "200 OK"] {
                let (mut client, _) = listener.accept().await.expect("a client comes");
                let mut head = [0; 1024];
                let read = client.read(&mut head).await.expect("it asks");
                let text = String::from_utf8_lossy(&head[..read]).into_owned();
                seen.push(text.lines().next().unwrap_or_default().to_owned());
                let answer =
                    format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
                client
                    .write_all(answer.as_bytes())
                    .await
                    .expect("it listens");
            }
            seen
        });
        let client = Client::new(conex_client::Host::Unix(path)).with_version("1.50");
        first_size(&client, "/exec/x", 24, 80).await;
        let seen = engine.await.expect("three were asked");
        assert_eq!(seen, ["POST /v1.50/exec/x/resize?h=24&w=80 HTTP/1.1"; 3]);
    }

    #[test]
    fn signals_have_the_apis_names() {
        assert_eq!(name(1), "HUP");
        assert_eq!(name(INT), "INT");
        assert_eq!(name(TERM), "TERM");
        assert_eq!(name(WINCH), "WINCH");
        assert_eq!(name(31), "SYS");
        assert_eq!(name(37), "37");
        assert_eq!(name(0), "0");
    }

    #[test]
    fn what_the_client_needs_itself_is_not_passed_on() {
        for number in [13, 17, 23] {
            assert!(!is_forwarded(number, false), "{}", name(number));
        }
        assert!(is_forwarded(WINCH, false) && !is_forwarded(WINCH, true));
        assert!(is_forwarded(TERM, true) && is_forwarded(20, false) && is_forwarded(40, false));
    }
}
