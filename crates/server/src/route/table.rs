//! The table of routes: method and path to what is asked. Pure.

use hyper::Method;

/// What a request asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Route<'a> {
    Ping,
    Info,
    Version,
    Events,
    ContainerList,
    ContainerCreate,
    ContainerInspect(&'a str),
    ContainerStart(&'a str),
    ContainerStop(&'a str),
    ContainerRestart(&'a str),
    ContainerKill(&'a str),
    ContainerResize(&'a str),
    ContainerRemove(&'a str),
    ContainerWait(&'a str),
    ContainerAttach(&'a str),
    ContainerAttachWebsocket(&'a str),
    ContainerLogs(&'a str),
    ContainerPause(&'a str),
    ContainerUnpause(&'a str),
    ContainerRename(&'a str),
    ContainerTop(&'a str),
    ContainerStats(&'a str),
    ContainerUpdate(&'a str),
    ContainerPrune,
    ContainerExec(&'a str),
    ContainerChanges(&'a str),
    ContainerExport(&'a str),
    ContainerPathStat(&'a str),
    ContainerArchive(&'a str),
    ContainerExtract(&'a str),
    Commit,
    ExecStart(&'a str),
    ExecResize(&'a str),
    ExecInspect(&'a str),
    ImageList,
    ImageCreate,
    ImageInspect(String),
    ImagePush(String),
    ImageSearch,
    DistributionInspect(String),
    Auth,
    ImageTag(String),
    ImageRemove(String),
    ImageHistory(String),
    ImagePrune,
    DiskUsage,
    /// Ours: `GET /conex/check`, `POST /conex/repair`.
    Check {
        repair: bool,
    },
    /// Ours: `GET /conex/images/verify`, `GET /conex/images/{name}/verify`.
    Verify(Option<String>),
    VolumeList,
    VolumeCreate,
    VolumePrune,
    VolumeInspect(&'a str),
    VolumeRemove(&'a str),
    /// The image of the path, or the ones of the query.
    ImageSave(Option<String>),
    ImageLoad,
    /// There is no cache of builds to take from.
    BuildPrune,
    NetworkList,
    NetworkCreate,
    NetworkPrune,
    NetworkInspect(&'a str),
    NetworkRemove(&'a str),
    NetworkConnect(&'a str),
    NetworkDisconnect(&'a str),
    /// A question only a swarm manager answers.
    Swarm,
    /// An order that would make this node part of a swarm.
    SwarmSetup,
}

/// The route of a method and the segments of a decoded path without its version.
pub(super) fn find<'a>(method: &Method, segments: &[&'a str]) -> Option<Route<'a>> {
    match *method {
        Method::GET => find_get(segments),
        Method::HEAD => find_head(segments),
        Method::POST => find_post(segments),
        Method::PUT => find_put(segments),
        Method::DELETE => find_delete(segments),
        // Only volumes of a cluster are updated.
        _ => None,
    }
}

fn find_head<'a>(segments: &[&'a str]) -> Option<Route<'a>> {
    Some(match segments {
        ["_ping"] => Route::Ping,
        ["containers", name, "archive"] => Route::ContainerPathStat(some(name)?),
        _ => return None,
    })
}

fn find_put<'a>(segments: &[&'a str]) -> Option<Route<'a>> {
    Some(match segments {
        ["containers", name, "archive"] => Route::ContainerExtract(some(name)?),
        ["volumes", _] => Route::Swarm,
        _ => return None,
    })
}

fn find_get<'a>(segments: &[&'a str]) -> Option<Route<'a>> {
    Some(match segments {
        ["_ping"] => Route::Ping,
        ["info"] => Route::Info,
        ["version"] => Route::Version,
        ["events"] => Route::Events,
        ["containers", "json"] => Route::ContainerList,
        ["containers", name, "json"] => Route::ContainerInspect(some(name)?),
        ["containers", name, "attach", "ws"] => Route::ContainerAttachWebsocket(some(name)?),
        ["containers", name, "logs"] => Route::ContainerLogs(some(name)?),
        ["containers", name, "top"] => Route::ContainerTop(some(name)?),
        ["containers", name, "changes"] => Route::ContainerChanges(some(name)?),
        ["containers", name, "export"] => Route::ContainerExport(some(name)?),
        ["containers", name, "archive"] => Route::ContainerArchive(some(name)?),
        ["containers", name, "stats"] => Route::ContainerStats(some(name)?),
        ["exec", id, "json"] => Route::ExecInspect(some(id)?),
        ["images", "json"] => Route::ImageList,
        ["images", "search"] => Route::ImageSearch,
        ["images", name @ .., "json"] => Route::ImageInspect(join(name)?),
        ["images", name @ .., "history"] => Route::ImageHistory(join(name)?),
        ["system", "df"] => Route::DiskUsage,
        ["conex", "check"] => Route::Check { repair: false },
        ["conex", "images", name @ .., "verify"] => Route::Verify(join(name)),
        ["volumes"] => Route::VolumeList,
        ["volumes", name] => Route::VolumeInspect(some(name)?),
        ["images", "get"] => Route::ImageSave(None),
        ["images", name @ .., "get"] => Route::ImageSave(Some(join(name)?)),
        ["distribution", name @ .., "json"] => Route::DistributionInspect(join(name)?),
        ["networks"] | ["networks", ""] => Route::NetworkList,
        ["networks", name] => Route::NetworkInspect(name),
        ["swarm"] | ["swarm", "unlockkey"] => Route::Swarm,
        ["nodes" | "services" | "tasks" | "secrets" | "configs"]
        | ["nodes" | "services" | "tasks" | "secrets" | "configs", _]
        | ["services" | "tasks", _, "logs"] => Route::Swarm,
        _ => return None,
    })
}

fn find_post<'a>(segments: &[&'a str]) -> Option<Route<'a>> {
    Some(match segments {
        ["containers", "create"] => Route::ContainerCreate,
        ["containers", "prune"] => Route::ContainerPrune,
        ["containers", name, verb] => {
            let name = some(name)?;
            match *verb {
                "start" => Route::ContainerStart(name),
                "stop" => Route::ContainerStop(name),
                "restart" => Route::ContainerRestart(name),
                "kill" => Route::ContainerKill(name),
                "resize" => Route::ContainerResize(name),
                "wait" => Route::ContainerWait(name),
                "attach" => Route::ContainerAttach(name),
                "exec" => Route::ContainerExec(name),
                "pause" => Route::ContainerPause(name),
                "unpause" => Route::ContainerUnpause(name),
                "rename" => Route::ContainerRename(name),
                "update" => Route::ContainerUpdate(name),
                _ => return None,
            }
        }
        ["commit"] => Route::Commit,
        ["exec", id, "start"] => Route::ExecStart(some(id)?),
        ["exec", id, "resize"] => Route::ExecResize(some(id)?),
        ["images", "create"] => Route::ImageCreate,
        ["images", "load"] => Route::ImageLoad,
        ["images", "prune"] => Route::ImagePrune,
        ["images", name @ .., "tag"] => Route::ImageTag(join(name)?),
        ["conex", "repair"] => Route::Check { repair: true },
        ["volumes", "create"] => Route::VolumeCreate,
        ["volumes", "prune"] => Route::VolumePrune,
        ["images", name @ .., "push"] => Route::ImagePush(join(name)?),
        ["auth"] => Route::Auth,
        ["build", "prune"] => Route::BuildPrune,
        ["networks", "create"] => Route::NetworkCreate,
        ["networks", "prune"] => Route::NetworkPrune,
        ["networks", name, "connect"] => Route::NetworkConnect(some(name)?),
        ["networks", name, "disconnect"] => Route::NetworkDisconnect(some(name)?),
        ["swarm", "init" | "join"] => Route::SwarmSetup,
        ["swarm", "leave" | "update" | "unlock"]
        | ["services" | "secrets" | "configs", "create"]
        | ["nodes" | "services" | "secrets" | "configs", _, "update"] => Route::Swarm,
        _ => return None,
    })
}

fn find_delete<'a>(segments: &[&'a str]) -> Option<Route<'a>> {
    Some(match segments {
        ["containers", name] => Route::ContainerRemove(some(name)?),
        ["images", name @ ..] => Route::ImageRemove(join(name)?),
        ["volumes", name] => Route::VolumeRemove(some(name)?),
        ["networks", name] => Route::NetworkRemove(some(name)?),
        ["nodes" | "services" | "secrets" | "configs", _] => Route::Swarm,
        _ => return None,
    })
}

/// A name that is not empty.
fn some<'a>(name: &&'a str) -> Option<&'a str> {
    Some(*name).filter(|name| !name.is_empty())
}

/// An image's name, which may have slashes.
fn join(name: &[&str]) -> Option<String> {
    Some(name.join("/")).filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(method: Method, path: &str) -> Option<String> {
        let segments: Vec<&str> = path.split('/').collect();
        find(&method, &segments).map(|route| format!("{route:?}"))
    }

    #[test]
    fn every_route_is_found() {
        for (method, path, expected) in [
            (Method::GET, "_ping", "Ping"),
            (Method::HEAD, "_ping", "Ping"),
            (Method::GET, "info", "Info"),
            (Method::GET, "version", "Version"),
            (Method::GET, "events", "Events"),
            (Method::GET, "containers/json", "ContainerList"),
            (Method::POST, "containers/create", "ContainerCreate"),
            (Method::GET, "containers/c/json", r#"ContainerInspect("c")"#),
            (
                Method::GET,
                "containers/c/attach/ws",
                r#"ContainerAttachWebsocket("c")"#,
            ),
            (Method::GET, "containers/c/logs", r#"ContainerLogs("c")"#),
            (Method::GET, "containers/c/stats", r#"ContainerStats("c")"#),
            (
                Method::POST,
                "containers/c/update",
                r#"ContainerUpdate("c")"#,
            ),
            (Method::POST, "containers/prune", "ContainerPrune"),
            (Method::POST, "containers/c/start", r#"ContainerStart("c")"#),
            (Method::POST, "containers/c/stop", r#"ContainerStop("c")"#),
            (
                Method::POST,
                "containers/c/restart",
                r#"ContainerRestart("c")"#,
            ),
            (Method::POST, "containers/c/kill", r#"ContainerKill("c")"#),
            (
                Method::POST,
                "containers/c/resize",
                r#"ContainerResize("c")"#,
            ),
            (Method::POST, "containers/c/wait", r#"ContainerWait("c")"#),
            (
                Method::POST,
                "containers/c/attach",
                r#"ContainerAttach("c")"#,
            ),
            (Method::POST, "containers/c/pause", r#"ContainerPause("c")"#),
            (
                Method::POST,
                "containers/c/unpause",
                r#"ContainerUnpause("c")"#,
            ),
            (
                Method::POST,
                "containers/c/rename",
                r#"ContainerRename("c")"#,
            ),
            (Method::GET, "containers/c/top", r#"ContainerTop("c")"#),
            (Method::POST, "containers/c/exec", r#"ContainerExec("c")"#),
            (
                Method::GET,
                "containers/c/changes",
                r#"ContainerChanges("c")"#,
            ),
            (
                Method::GET,
                "containers/c/export",
                r#"ContainerExport("c")"#,
            ),
            (
                Method::HEAD,
                "containers/c/archive",
                r#"ContainerPathStat("c")"#,
            ),
            (
                Method::GET,
                "containers/c/archive",
                r#"ContainerArchive("c")"#,
            ),
            (
                Method::PUT,
                "containers/c/archive",
                r#"ContainerExtract("c")"#,
            ),
            (Method::POST, "commit", "Commit"),
            (Method::POST, "exec/e/start", r#"ExecStart("e")"#),
            (Method::POST, "exec/e/resize", r#"ExecResize("e")"#),
            (Method::GET, "exec/e/json", r#"ExecInspect("e")"#),
            (Method::DELETE, "containers/c", r#"ContainerRemove("c")"#),
            (Method::GET, "images/json", "ImageList"),
            (Method::POST, "images/create", "ImageCreate"),
            (Method::POST, "images/load", "ImageLoad"),
            (Method::GET, "images/get", "ImageSave(None)"),
            (
                Method::GET,
                "images/r.io:5000/a/b:1/get",
                r#"ImageSave(Some("r.io:5000/a/b:1"))"#,
            ),
            (
                Method::GET,
                "images/busybox/json",
                r#"ImageInspect("busybox")"#,
            ),
            (
                Method::GET,
                "images/r.io:5000/a/b:1/json",
                r#"ImageInspect("r.io:5000/a/b:1")"#,
            ),
            (Method::POST, "images/a/b/tag", r#"ImageTag("a/b")"#),
            (Method::POST, "images/a/b/push", r#"ImagePush("a/b")"#),
            (Method::GET, "images/search", "ImageSearch"),
            (Method::POST, "auth", "Auth"),
            (
                Method::GET,
                "distribution/r.io:5000/a/json",
                r#"DistributionInspect("r.io:5000/a")"#,
            ),
            (Method::DELETE, "images/a/b:1", r#"ImageRemove("a/b:1")"#),
            (Method::GET, "images/a/b/history", r#"ImageHistory("a/b")"#),
            (Method::POST, "images/prune", "ImagePrune"),
            (Method::GET, "system/df", "DiskUsage"),
            (Method::GET, "conex/check", "Check { repair: false }"),
            (Method::POST, "conex/repair", "Check { repair: true }"),
            (Method::GET, "conex/images/verify", "Verify(None)"),
            (
                Method::GET,
                "conex/images/a/b/verify",
                r#"Verify(Some("a/b"))"#,
            ),
            (Method::GET, "volumes", "VolumeList"),
            (Method::POST, "volumes/create", "VolumeCreate"),
            (Method::POST, "volumes/prune", "VolumePrune"),
            (Method::GET, "volumes/v", r#"VolumeInspect("v")"#),
            (Method::DELETE, "volumes/v", r#"VolumeRemove("v")"#),
            (Method::PUT, "volumes/v", "Swarm"),
            (Method::POST, "build/prune", "BuildPrune"),
            (Method::GET, "networks", "NetworkList"),
            (Method::GET, "networks/n", r#"NetworkInspect("n")"#),
            (Method::POST, "networks/create", "NetworkCreate"),
            (Method::POST, "networks/prune", "NetworkPrune"),
            (Method::POST, "networks/n/connect", r#"NetworkConnect("n")"#),
            (
                Method::POST,
                "networks/n/disconnect",
                r#"NetworkDisconnect("n")"#,
            ),
            (Method::DELETE, "networks/n", r#"NetworkRemove("n")"#),
            (Method::GET, "swarm", "Swarm"),
            (Method::GET, "services/s/logs", "Swarm"),
            (Method::POST, "swarm/init", "SwarmSetup"),
        ] {
            assert_eq!(
                route(method.clone(), path).as_deref(),
                Some(expected),
                "{method} {path}"
            );
        }
    }

    #[test]
    fn names_may_be_called_like_routes() {
        assert_eq!(
            route(Method::GET, "containers/json/json").as_deref(),
            Some(r#"ContainerInspect("json")"#)
        );
        assert_eq!(
            route(Method::GET, "images/json/json").as_deref(),
            Some(r#"ImageInspect("json")"#)
        );
        assert_eq!(
            route(Method::POST, "containers/create/start").as_deref(),
            Some(r#"ContainerStart("create")"#)
        );
    }

    #[test]
    fn what_is_not_in_the_table_is_not_found() {
        for (method, path) in [
            (Method::GET, ""),
            (Method::GET, "nosuch"),
            (Method::PUT, "containers/json"),
            (Method::HEAD, "info"),
            (Method::POST, "info"),
            (Method::GET, "containers"),
            (Method::GET, "containers//json"),
            (Method::DELETE, "containers/"),
            (Method::DELETE, "images/"),
            (Method::DELETE, "images"),
            (Method::POST, "containers/c/nosuch"),
            (Method::GET, "containers/a/b/json"),
        ] {
            assert_eq!(route(method.clone(), path), None, "{method} {path}");
        }
    }
}
