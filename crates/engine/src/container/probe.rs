//! One run of a health check: an exec like any other, with a limit.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use conex_api::exec::{CreateRequest, StartRequest};
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::sync::oneshot;

use super::Container;
use super::health::{Check, Output, Probe};
use super::task::Command;
use crate::engine::Inner;
use crate::exec::{Exec, Status};
use crate::time::{go_duration, now_ns};
use crate::{Engine, Error};

/// How long the start of a probe may take, as Docker's may.
const START_PATIENCE: Duration = Duration::from_secs(30);

/// How long a killed probe may take to end.
const END_PATIENCE: Duration = Duration::from_secs(10);

/// Runs the check once; the probe is killed when it takes too long, or when nobody wants its
/// result any more.
pub(super) async fn run(
    engine: Arc<Inner>,
    container: Arc<Container>,
    check: Check,
    unwanted: impl Future<Output = ()>,
) -> Probe {
    let started_ns = now_ns();
    let (exit_code, output) = match ask(engine, container, &check, unwanted).await {
        Ok(answer) => answer,
        Err(error) => (-1, error.to_string()),
    };
    Probe {
        started_ns,
        ended_ns: now_ns(),
        exit_code,
        output,
    }
}

async fn ask(
    engine: Arc<Inner>,
    container: Arc<Container>,
    check: &Check,
    unwanted: impl Future<Output = ()>,
) -> Result<(i32, String), Error> {
    let api = Engine { inner: engine };
    let request = CreateRequest {
        cmd: Some(check.command.clone()),
        attach_stdout: true,
        attach_stderr: true,
        ..CreateRequest::default()
    };
    let id = api.exec_create(container.id(), request)?.id;
    // Bytes as they come, without frames.
    let start = StartRequest {
        tty: true,
        ..StartRequest::default()
    };
    let started = tokio::time::timeout(START_PATIENCE, api.exec_start(&id, start)).await;
    let Ok(started) = started else {
        let text = format!(
            "timed out starting health check for container {}",
            container.id()
        );
        return Ok((-1, text));
    };
    let live = started?.live;
    let Some(exec) = api.inner.execs.get(&id) else {
        return Err(Error::no_container(container.id()));
    };
    if let Status::Failed { message, .. } = exec.status() {
        return Ok((-1, message));
    }
    let mut output = Output::default();
    let ended = tokio::select! {
        code = finish(live, &exec, &mut output) => Some(code),
        () = tokio::time::sleep(check.timeout) => None,
        () = unwanted => None,
    };
    if let Some(code) = ended {
        return Ok((code, output.text()));
    }
    kill(&container, &exec).await;
    let limit = go_duration(check.timeout);
    let text = match output.text() {
        text if text.is_empty() => format!("Health check exceeded timeout ({limit})"),
        text => format!("Health check exceeded timeout ({limit}): {text}"),
    };
    Ok((-1, text))
}

/// Reads what it says to the end, and its exit code.
async fn finish(live: Option<UnixStream>, exec: &Exec, output: &mut Output) -> i32 {
    if let Some(mut live) = live {
        let mut buffer = [0; 4096];
        while let Ok(n @ 1..) = live.read(&mut buffer).await {
            output.push(&buffer[..n]);
        }
    }
    match exec.over().await {
        Some(Status::Ended { exit_code, .. } | Status::Failed { exit_code, .. }) => exit_code,
        _ => -1,
    }
}

/// Probes that hang must not pile up.
async fn kill(container: &Container, exec: &Exec) {
    let (reply, answer) = oneshot::channel();
    let command = Command::ExecSignal {
        id: exec.id.clone(),
        signal: libc::SIGKILL,
        reply,
    };
    if container.command(command).is_ok() && matches!(answer.await, Ok(Ok(()))) {
        let _hangs = tokio::time::timeout(END_PATIENCE, exec.over())
            .await
            .is_err();
    }
}
