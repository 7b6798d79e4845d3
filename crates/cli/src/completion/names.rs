//! Names of objects, asked of the engine that the line and the environment
//! name. A shell waits for them, so nobody is started, nobody is waited for long,
//! and what goes wrong is no candidate rather than an error.

use std::collections::BTreeMap;
use std::time::Duration;

use conex_client::Client;
use serde_json::Value;

use super::{Candidate, Object};
use crate::context::Context;
use crate::{connect, contexts};

/// Longer than this no shell waits for a tab.
const PATIENCE: Duration = Duration::from_secs(2);

/// The names of these kinds, sorted.
pub(super) fn of(ctx: &Context, objects: &[Object]) -> Vec<Candidate> {
    let mut names = BTreeMap::new();
    let from_engine: Vec<Object> = objects
        .iter()
        .copied()
        .filter(|object| *object != Object::Context)
        .collect();
    if from_engine.len() < objects.len() {
        let store = contexts::Contexts::of(&ctx.globals.config_dir);
        for context in store.list() {
            names.insert(context.name, context.metadata.description);
        }
        names.insert(connect::DEFAULT_CONTEXT.to_owned(), String::new());
    }
    if !from_engine.is_empty() {
        let asked = ask(ctx, &from_engine);
        let answered = ctx.block_on(async { tokio::time::timeout(PATIENCE, asked).await });
        names.extend(answered.ok().flatten().unwrap_or_default());
    }
    let candidates = names.into_iter();
    candidates
        .map(|(name, about)| Candidate::new(name, &about))
        .collect()
}

async fn ask(ctx: &Context, objects: &[Object]) -> Option<Vec<(String, String)>> {
    let endpoint = connect::endpoint(ctx).ok()?;
    let client = Client::connect(&endpoint.host).await.ok()?;
    let mut names = Vec::new();
    for object in objects {
        let path = match object {
            Object::Container => "/containers/json?all=1",
            Object::Image => "/images/json",
            Object::Volume => "/volumes",
            Object::Network => "/networks",
            Object::Context => continue,
        };
        // One kind that cannot be listed hides no other.
        if let Ok(list) = client.get_value(path).await {
            read(*object, &list, &mut names);
        }
    }
    Some(names)
}

/// What a list of the engine calls its objects.
fn read(object: Object, list: &Value, names: &mut Vec<(String, String)>) {
    let items = match object {
        Object::Volume => &list["Volumes"],
        _ => list,
    };
    for item in items.as_array().into_iter().flatten() {
        let text = |member: &str| item[member].as_str().unwrap_or_default().to_owned();
        let all = |member: &str| {
            let list = item[member].as_array().into_iter().flatten();
            list.filter_map(Value::as_str).map(str::to_owned)
        };
        match object {
            Object::Container => names.extend(all("Names").map(|name| {
                let about = format!("{}, {}", text("Image"), text("Status"));
                (name.trim_start_matches('/').to_owned(), about)
            })),
            Object::Image => names.extend(
                all("RepoTags")
                    .filter(|tag| !tag.contains("<none>"))
                    .map(|tag| (tag, String::new())),
            ),
            Object::Volume | Object::Network => names.push((text("Name"), text("Driver"))),
            Object::Context => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_are_read_from_the_engines_lists() {
        let mut names = Vec::new();
        let containers = json!([{"Names": ["/web"], "Image": "busybox", "Status": "Up"}, 7]);
        read(Object::Container, &containers, &mut names);
        let images = json!([{"RepoTags": ["a:1", "<none>:<none>"]}, {"RepoTags": null}]);
        read(Object::Image, &images, &mut names);
        let volumes = json!({"Volumes": [{"Name": "data", "Driver": "local"}]});
        read(Object::Volume, &volumes, &mut names);
        let own = |(a, b): (&str, &str)| (a.to_owned(), b.to_owned());
        assert_eq!(
            names,
            [("web", "busybox, Up"), ("a:1", ""), ("data", "local")].map(own)
        );
    }
}
