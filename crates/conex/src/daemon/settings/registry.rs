//! What flags and file say about registries.

use conex_distribution::{InvalidInsecure, InvalidRule, Proxies, Settings};
use conex_engine::RegistrySettings;

use super::Values;

/// Docker's texts for what is no mirror, registry or number.
pub(super) fn settings(values: &Values<'_>) -> Result<RegistrySettings, String> {
    let insecure = values.all("insecure-registry");
    let insecure = insecure.iter().map(|text| text.parse());
    let rules = values.all("mirror");
    let rules = rules.iter().map(|text| text.parse());
    let mut registries = Settings {
        insecure: insecure
            .collect::<Result<_, InvalidInsecure>>()
            .map_err(|e| e.to_string())?,
        rules: rules
            .collect::<Result<_, InvalidRule>>()
            .map_err(|e| e.to_string())?,
        hub_mirrors: values.all("registry-mirror"),
        ..Settings::default()
    };
    if let Some(mirror) = registries
        .hub_mirrors
        .iter()
        .find(|mirror| !mirror.starts_with("http://") && !mirror.starts_with("https://"))
    {
        return Err(format!(
            "invalid mirror: {mirror} is not a valid URI: unsupported scheme, use https:// or http://"
        ));
    }
    let dirs = values.all("certificate-dir");
    if !dirs.is_empty() {
        registries.certificate_dirs = dirs.into_iter().map(Into::into).collect();
    }
    let proxy = |flag: &str| {
        let own = values.proxies.get(flag).cloned();
        own.or_else(|| Some(values.text(flag)))
            .filter(|text| !text.is_empty())
    };
    registries.proxies = Proxies {
        http: proxy("http-proxy"),
        https: proxy("https-proxy"),
        none_for: proxy("no-proxy"),
    };
    let number = |flag: &str, what: &str| -> Result<u32, String> {
        let text = values.text(flag);
        match text.parse::<i64>() {
            Ok(number) if number > 0 => Ok(u32::try_from(number).unwrap_or(u32::MAX)),
            _ => Err(format!("invalid {what}: {text}")),
        }
    };
    registries.attempts = number("max-download-attempts", "max download attempts")?;
    Ok(RegistrySettings {
        registries,
        max_downloads: number("max-concurrent-downloads", "max concurrent downloads")? as usize,
        max_uploads: number("max-concurrent-uploads", "max concurrent uploads")? as usize,
    })
}
