//! `proxies` of `config.json`: the variables a new container gets, so that what runs in it finds its way out.

use serde::Deserialize;

use super::Config;

/// One engine's proxies, as URLs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Proxies {
    /// For HTTP.
    pub http_proxy: String,
    /// For HTTPS.
    pub https_proxy: String,
    /// Hosts reached without one.
    pub no_proxy: String,
    /// For FTP.
    pub ftp_proxy: String,
    /// For everything else.
    pub all_proxy: String,
}

impl Config {
    /// The variables for a container of an engine, in both spellings; those that are `set` already (`A=b` or `A`) are
    /// left out.
    pub fn proxy_variables(&self, engine: &str, set: &[String]) -> Vec<String> {
        let own = self.proxies.get(engine);
        let Some(proxies) = own.or_else(|| self.proxies.get("default")) else {
            return Vec::new();
        };
        let values = [
            ("HTTP_PROXY", &proxies.http_proxy),
            ("HTTPS_PROXY", &proxies.https_proxy),
            ("NO_PROXY", &proxies.no_proxy),
            ("FTP_PROXY", &proxies.ftp_proxy),
            ("ALL_PROXY", &proxies.all_proxy),
        ];
        let is_set = |name: &str| {
            let mut names = set.iter().map(|pair| pair.split('=').next());
            names.any(|known| known == Some(name))
        };
        let mut variables = Vec::new();
        for (name, value) in values.into_iter().filter(|(_, value)| !value.is_empty()) {
            for name in [name.to_owned(), name.to_lowercase()] {
                if !is_set(&name) {
                    variables.push(format!("{name}={value}"));
                }
            }
        }
        variables
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn an_engines_own_proxies_go_before_the_default_and_the_users_variables_before_both() {
        let text = r#"{"proxies": {
            "default": {"httpProxy": "http://p:1", "noProxy": "a,b"},
            "tcp://e:2375": {"allProxy": "socks5://s"}}}"#;
        let config: Config = serde_json::from_str(text).unwrap();
        let set = ["http_proxy=mine".to_owned(), "NO_PROXY".to_owned()];
        assert_eq!(
            config.proxy_variables("unix:///run/x", &set),
            ["HTTP_PROXY=http://p:1", "no_proxy=a,b"]
        );
        assert_eq!(
            config.proxy_variables("tcp://e:2375", &[]),
            ["ALL_PROXY=socks5://s", "all_proxy=socks5://s"]
        );
        assert!(Config::default().proxy_variables("x", &[]).is_empty());
    }
}
