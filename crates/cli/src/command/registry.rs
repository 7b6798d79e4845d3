//! Commands about registries that move no image.

pub mod login;
pub mod logout;
pub mod search;

use crate::credential::HUB_SERVER;

/// The name credentials are kept under: Docker Hub's for none, else the host without scheme.
fn server(argument: Option<&String>) -> String {
    let given = argument.map(String::as_str).unwrap_or_default();
    if given == HUB_SERVER {
        return given.to_owned();
    }
    let host = given
        .strip_prefix("https://")
        .or_else(|| given.strip_prefix("http://"))
        .unwrap_or(given);
    match host.split('/').next().unwrap_or_default() {
        "" | "docker.io" | "index.docker.io" | "registry-1.docker.io" => HUB_SERVER.to_owned(),
        host => host.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_a_host_and_docker_hub_an_address() {
        let of = |text: &str| server(Some(&text.to_owned()));
        assert_eq!(of("https://r.lan:5000/v2/"), "r.lan:5000");
        assert_eq!(server(None), HUB_SERVER);
        assert_eq!(of("docker.io"), HUB_SERVER);
        assert_eq!(of(HUB_SERVER), HUB_SERVER);
    }
}
