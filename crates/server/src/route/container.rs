//! Handlers of containers.

use std::future::Future;

use bytes::Bytes;
use conex_api::container::{
    AttachOptions, CreateRequest, HostConfig, ListOptions, LogsOptions, RemoveOptions, StatsMode,
    StopOptions, WaitCondition, WaitExitError, WaitResponse,
};
use conex_api::filters::Filters;
use conex_api::query::Query;
use conex_api::stream::{self as frames, Stream as FrameStream};
use conex_api::version::ApiVersion;
use conex_engine::{Engine, Error as EngineError};
use futures_util::stream::{self, StreamExt};
use hyper::{Response, StatusCode};

use super::{Call, to_the_end};
use crate::answer::{self, Body};
use crate::body;
use crate::error::Error;
use crate::hijack::{self, Input, Streams, websocket};
use crate::legacy;

/// Since when a websocket says which streams it wants.
const WEBSOCKET_STREAMS_SINCE: ApiVersion = ApiVersion::new(1, 42);

pub(super) fn list(call: &Call) -> Result<Response<Body>, Error> {
    let options = ListOptions {
        all: call.query.flag("all"),
        limit: call.query.integer("limit")?,
        size: call.query.flag("size"),
        filters: Filters::parse(call.query.get("filters").unwrap_or_default())?,
    };
    let mut list = call.engine().container_list(options)?;
    legacy::summaries_for(call.version, &mut list);
    Ok(answer::json(StatusCode::OK, &list))
}

pub(super) async fn create(call: Call) -> Result<Response<Body>, Error> {
    let name = call.query.non_empty("name").map(str::to_owned);
    let platform = call.query.non_empty("platform").map(str::to_owned);
    let engine = call.engine().clone();
    let request: Option<Option<CreateRequest>> = body::json(call.request).await?;
    let mut request = request.flatten().ok_or(Error::Invalid(
        "config cannot be empty in order to create a container",
    ))?;
    legacy::create_from(call.version, &mut request);
    let created =
        to_the_end(async move { engine.container_create(name, platform, request).await }).await?;
    Ok(answer::json(StatusCode::CREATED, &created))
}

pub(super) fn inspect(call: &Call, name: &str) -> Result<Response<Body>, Error> {
    let container = call
        .engine()
        .container_inspect(name, call.query.flag("size"))?;
    let container = legacy::container_inspect_for(call.version, &container);
    Ok(answer::json(StatusCode::OK, &container))
}

/// Has the engine do something to a container, to the end, and answers without a body.
async fn change<F>(
    call: &Call,
    name: &str,
    verb: impl FnOnce(Engine, String) -> F,
) -> Result<Response<Body>, Error>
where
    F: Future<Output = Result<(), EngineError>> + Send + 'static,
{
    to_the_end(verb(call.engine().clone(), name.to_owned())).await?;
    Ok(answer::empty(StatusCode::NO_CONTENT))
}

pub(super) async fn start(call: &Call, name: &str) -> Result<Response<Body>, Error> {
    change(call, name, async move |engine, name| {
        engine.container_start(&name).await
    })
    .await
}

pub(super) async fn stop(call: &Call, name: &str) -> Result<Response<Body>, Error> {
    let options = stop_options(&call.query)?;
    change(call, name, async move |engine, name| {
        engine.container_stop(&name, options).await
    })
    .await
}

pub(super) async fn restart(call: &Call, name: &str) -> Result<Response<Body>, Error> {
    let options = stop_options(&call.query)?;
    change(call, name, async move |engine, name| {
        engine.container_restart(&name, options).await
    })
    .await
}

fn stop_options(query: &Query) -> Result<StopOptions, Error> {
    Ok(StopOptions {
        signal: query.non_empty("signal").map(str::to_owned),
        timeout_seconds: query.integer("t")?,
    })
}

pub(super) async fn kill(call: &Call, name: &str) -> Result<Response<Body>, Error> {
    let signal = call.query.non_empty("signal").map(str::to_owned);
    change(call, name, async move |engine, name| {
        engine.container_kill(&name, signal).await
    })
    .await
}

pub(super) async fn pause(call: &Call, name: &str) -> Result<Response<Body>, Error> {
    change(call, name, async move |engine, name| {
        engine.container_pause(&name).await
    })
    .await
}

pub(super) async fn unpause(call: &Call, name: &str) -> Result<Response<Body>, Error> {
    change(call, name, async move |engine, name| {
        engine.container_unpause(&name).await
    })
    .await
}

pub(super) async fn rename(call: &Call, name: &str) -> Result<Response<Body>, Error> {
    let new_name = call.query.get("name").unwrap_or_default().to_owned();
    change(call, name, async move |engine, name| {
        engine.container_rename(&name, &new_name).await
    })
    .await
}

pub(super) async fn top(call: &Call, name: &str) -> Result<Response<Body>, Error> {
    let ps_args = call.query.get("ps_args").unwrap_or_default();
    let top = call.engine().container_top(name, ps_args).await?;
    Ok(answer::json(StatusCode::OK, &top))
}

pub(super) fn stats(call: &Call, name: &str) -> Result<Response<Body>, Error> {
    let samples = call
        .engine()
        .container_stats(name, stats_mode(&call.query)?)?;
    let lines = samples.map(|sample| Ok(answer::to_line(&sample, b"\n").into()));
    Ok(answer::stream(
        "application/json",
        call.until_closing(lines),
    ))
}

fn stats_mode(query: &Query) -> Result<StatsMode, Error> {
    // It streams unless it is told not to.
    let streams = query.get("stream").is_none() || query.flag("stream");
    match (streams, query.flag("one-shot")) {
        (true, true) => Err(Error::Invalid("cannot have stream=true and one-shot=true")),
        (true, false) => Ok(StatsMode::Stream),
        (false, true) => Ok(StatsMode::OneShot),
        (false, false) => Ok(StatsMode::Once),
    }
}

pub(super) async fn update(call: Call, name: &str) -> Result<Response<Body>, Error> {
    let engine = call.engine().clone();
    let name = name.to_owned();
    let wanted: Option<Option<HostConfig>> = body::json(call.request).await?;
    let wanted = wanted.flatten().unwrap_or_default();
    let updated = to_the_end(async move { engine.container_update(&name, wanted).await }).await?;
    Ok(answer::json(StatusCode::OK, &updated))
}

pub(super) async fn prune(call: &Call) -> Result<Response<Body>, Error> {
    let filters = Filters::parse(call.query.get("filters").unwrap_or_default())?;
    let engine = call.engine().clone();
    let report = to_the_end(async move { engine.container_prune(filters).await }).await?;
    Ok(answer::json(StatusCode::OK, &report))
}

pub(super) async fn resize(call: &Call, name: &str) -> Result<Response<Body>, Error> {
    let rows = terminal_side(&call.query, "height", "h")?;
    let columns = terminal_side(&call.query, "width", "w")?;
    call.engine().container_resize(name, rows, columns).await?;
    Ok(answer::empty(StatusCode::OK))
}

/// One side of a terminal in characters; the kernel's terminals end at 65535.
pub(super) fn terminal_side(
    query: &Query,
    side: &'static str,
    parameter: &str,
) -> Result<u16, Error> {
    let value = query.get(parameter).unwrap_or_default();
    let length: u32 = value
        .parse()
        .map_err(|error: std::num::ParseIntError| Error::Size {
            side,
            value: value.to_owned(),
            reason: match error.kind() {
                std::num::IntErrorKind::PosOverflow => "value out of range",
                _ => "invalid syntax",
            },
        })?;
    Ok(u16::try_from(length).unwrap_or(u16::MAX))
}

pub(super) async fn remove(call: &Call, name: &str) -> Result<Response<Body>, Error> {
    let options = RemoveOptions {
        force: call.query.flag("force"),
        volumes: call.query.flag("v"),
        link: call.query.flag("link"),
    };
    change(call, name, async move |engine, name| {
        engine.container_remove(&name, options).await
    })
    .await
}

pub(super) fn wait(call: &Call, name: &str) -> Result<Response<Body>, Error> {
    let condition: WaitCondition = call.query.get("condition").unwrap_or_default().parse()?;
    let ended = call.engine().container_wait(name, condition)?;
    // As a stream, so that the head is out before the wait begins: clients start the container only then.
    let answer = stream::once(async move {
        let response = ended.await.unwrap_or_else(|error| WaitResponse {
            status_code: -1,
            error: Some(WaitExitError {
                message: error.to_string(),
            }),
        });
        Ok(answer::to_line(&response, b"\n").into())
    });
    Ok(answer::stream(
        "application/json",
        call.until_closing(answer),
    ))
}

pub(super) async fn attach(call: Call, name: &str) -> Result<Response<Body>, Error> {
    let query = &call.query;
    let wants = [
        query.flag("stdin"),
        query.flag("stdout"),
        query.flag("stderr"),
    ];
    let (streams, tty, input) = attachment(&call, name, wants).await?;
    let closing = call.context.closing.clone();
    let shape = (call.version, tty);
    Ok(hijack::hand_over(
        call.request,
        &call.peer,
        closing,
        shape,
        streams,
        input,
    ))
}

pub(super) async fn attach_websocket(call: Call, name: &str) -> Result<Response<Body>, Error> {
    let accepted = websocket::accept(&call.request)?;
    let query = &call.query;
    // Which streams are wanted has a meaning here since then; before, it was all of them.
    let wants = match call.version >= WEBSOCKET_STREAMS_SINCE {
        true => [
            query.flag("stdin"),
            query.flag("stdout"),
            query.flag("stderr"),
        ],
        false => [true; 3],
    };
    let (streams, tty, input) = attachment(&call, name, wants).await?;
    let closing = call.context.closing.clone();
    let shape = (call.version, tty);
    Ok(websocket::hand_over(
        call.request,
        accepted,
        &call.peer,
        closing,
        shape,
        streams,
        input,
    ))
}

/// Attaches to the wanted ones of input, output and errors.
async fn attachment(
    call: &Call,
    name: &str,
    [stdin, stdout, stderr]: [bool; 3],
) -> Result<(Streams, bool, Input), Error> {
    let query = &call.query;
    let options = AttachOptions {
        logs: query.flag("logs"),
        stream: query.flag("stream"),
        stdin,
        stdout,
        stderr,
        detach_keys: query.non_empty("detachKeys").map(str::to_owned),
    };
    let input = if options.stdin && options.stream {
        Input::Forwarded
    } else {
        Input::Discarded
    };
    let attachment = call.engine().container_attach(name, options).await?;
    let streams = Streams {
        replay: attachment.replay,
        live: attachment.live,
    };
    Ok((streams, attachment.tty, input))
}

pub(super) async fn logs(call: &Call, name: &str) -> Result<Response<Body>, Error> {
    let options = logs_options(&call.query)?;
    let logs = call.engine().container_logs(name, options).await?;
    let tty = logs.tty;
    let stream = logs
        .stream
        .map(move |chunk| Ok(chunk.unwrap_or_else(|error| failure(tty, &error))));
    Ok(answer::stream(
        hijack::content_type(call.version, tty),
        call.until_closing(stream),
    ))
}

fn logs_options(query: &Query) -> Result<LogsOptions, Error> {
    let (stdout, stderr) = (query.flag("stdout"), query.flag("stderr"));
    if !stdout && !stderr {
        return Err(Error::Invalid(
            "must specify at least one of 'stdout' or 'stderr'",
        ));
    }
    Ok(LogsOptions {
        follow: query.flag("follow"),
        stdout,
        stderr,
        // The epoch itself is how clients spell "no limit".
        since_ns: query.unix_ns("since")?.filter(|since_ns| *since_ns != 0),
        until_ns: query.unix_ns("until")?.filter(|until_ns| *until_ns != 0),
        timestamps: query.flag("timestamps"),
        details: query.flag("details"),
        // `all` and whatever else is no count.
        tail: query.get("tail").and_then(|tail| tail.parse().ok()),
    })
}

/// A failure in the middle of a log, where the client will see it.
fn failure(tty: bool, error: &std::io::Error) -> Bytes {
    let text = format!("Error grabbing logs: {error}\n");
    if tty {
        return text.into();
    }
    let size = u32::try_from(text.len()).expect("an error message is shorter than 4 GiB");
    [
        &frames::header(FrameStream::SystemErr, size),
        text.as_bytes(),
    ]
    .concat()
    .into()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn logs_need_a_stream() {
        let error = logs_options(&Query::parse("follow=1")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "must specify at least one of 'stdout' or 'stderr'"
        );
    }

    #[test]
    fn log_options_read_dockers_spellings() {
        let options = logs_options(&Query::parse(
            "stdout=1&follow=true&since=1.5&until=0&tail=all&stderr=0",
        ))
        .unwrap();
        assert_eq!(
            options,
            LogsOptions {
                stdout: true,
                follow: true,
                since_ns: Some(1_500_000_000),
                ..LogsOptions::default()
            }
        );
        let tail = |text: &str| {
            logs_options(&Query::parse(&format!("stderr=1&tail={text}")))
                .unwrap()
                .tail
        };
        assert_eq!(
            (tail("10"), tail("0"), tail("-1"), tail("")),
            (Some(10), Some(0), None, None)
        );
        assert!(logs_options(&Query::parse("stderr=1&since=yesterday")).is_err());
    }

    #[test]
    fn stop_options_name_a_bad_timeout() {
        let options = stop_options(&Query::parse("t=-1&signal=INT")).unwrap();
        assert_eq!(
            (options.timeout_seconds, options.signal.as_deref()),
            (Some(-1), Some("INT"))
        );
        let error = stop_options(&Query::parse("t=soon")).unwrap_err();
        assert_eq!(
            error.to_string(),
            r#"strconv.Atoi: parsing "soon": invalid syntax"#
        );
    }

    #[test]
    fn samples_are_streamed_unless_asked_otherwise() {
        let mode = |text: &str| stats_mode(&Query::parse(text));
        assert_eq!(mode("").unwrap(), StatsMode::Stream);
        assert_eq!(mode("stream=1&one-shot=0").unwrap(), StatsMode::Stream);
        assert_eq!(mode("stream=false").unwrap(), StatsMode::Once);
        assert_eq!(mode("stream=0&one-shot=1").unwrap(), StatsMode::OneShot);
        assert_eq!(
            mode("one-shot=true").unwrap_err().to_string(),
            "cannot have stream=true and one-shot=true"
        );
    }

    #[test]
    fn a_terminals_size_is_two_numbers() {
        let query = Query::parse("h=24&w=x");
        assert_eq!(terminal_side(&query, "height", "h").unwrap(), 24);
        let error = terminal_side(&query, "width", "w").unwrap_err();
        assert_eq!(
            error.to_string(),
            r#"invalid resize width "x": invalid syntax"#
        );
        let query = Query::parse("h=70000&w=99999999999");
        assert_eq!(terminal_side(&query, "height", "h").unwrap(), u16::MAX);
        let error = terminal_side(&query, "width", "w").unwrap_err();
        assert_eq!(
            error.to_string(),
            r#"invalid resize width "99999999999": value out of range"#
        );
    }

    #[test]
    fn a_failure_within_a_log_is_a_frame_of_its_own() {
        let error = std::io::Error::other("disk gone");
        assert_eq!(&failure(false, &error)[..8], [3, 0, 0, 0, 0, 0, 0, 31]);
        assert_eq!(
            &failure(true, &error)[..],
            b"Error grabbing logs: disk gone\n"
        );
    }
}
