//! `daemon.json`: the same settings as the flags, by the same names.

use std::path::Path;

use serde_json::{Map, Value};

/// Keys of the file and the flag each stands for; an empty one has no flag.
const KEYS: &[(&str, &str)] = &[
    ("hosts", "host"),
    ("labels", "label"),
    ("log-opts", "log-opt"),
    ("storage-opts", "storage-opt"),
    ("default-ulimits", "default-ulimit"),
    ("registry-mirrors", "registry-mirror"),
    ("insecure-registries", "insecure-registry"),
    ("mirrors", "mirror"),
    ("certificate-dirs", "certificate-dir"),
    ("dns-opts", "dns-opt"),
    ("exec-opts", "exec-opt"),
    ("runtimes", "add-runtime"),
    ("features", "feature"),
    ("authorization-plugins", "authorization-plugin"),
    ("default-network-opts", "default-network-opt"),
    ("default-address-pools", "default-address-pool"),
    ("cdi-spec-dirs", "cdi-spec-dir"),
    ("host-gateway-ips", "host-gateway-ip"),
    ("node-generic-resources", "node-generic-resource"),
    ("proxies", ""),
    ("builder", ""),
    ("default-stop-timeout", ""),
    ("graph", "data-root"),
];

/// Reads the file. A missing one is empty unless it was asked for by name.
pub(super) fn read(path: &Path, required: bool) -> Result<Map<String, Value>, String> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound && !required => return Ok(Map::new()),
        Err(e) => {
            return Err(format!(
                "unable to configure the daemon with file {}: {e}",
                path.display()
            ));
        }
    };
    let text =
        decode(&bytes).ok_or_else(|| format!("{} is neither UTF-8 nor UTF-16", path.display()))?;
    if text.trim().is_empty() {
        return Ok(Map::new());
    }
    serde_json::from_str(&text).map_err(|e| {
        format!(
            "unable to configure the daemon with file {}: {e}",
            path.display()
        )
    })
}

/// UTF-8 with or without its mark, or UTF-16 with its mark.
fn decode(bytes: &[u8]) -> Option<String> {
    let wide = |from: fn([u8; 2]) -> u16, rest: &[u8]| {
        let units = rest.chunks_exact(2).map(|pair| from([pair[0], pair[1]]));
        char::decode_utf16(units)
            .collect::<Result<String, _>>()
            .ok()
    };
    match bytes {
        [0xef, 0xbb, 0xbf, rest @ ..] => String::from_utf8(rest.to_vec()).ok(),
        [0xff, 0xfe, rest @ ..] => wide(u16::from_le_bytes, rest),
        [0xfe, 0xff, rest @ ..] => wide(u16::from_be_bytes, rest),
        _ => String::from_utf8(bytes.to_vec()).ok(),
    }
}

/// The flag a key stands for; an error for a key nobody knows.
pub(super) fn flag_of<'a>(key: &'a str, flags: &[&'a str]) -> Result<Option<&'a str>, String> {
    if let Some((_, flag)) = KEYS.iter().find(|(k, _)| *k == key) {
        return Ok((!flag.is_empty()).then_some(*flag));
    }
    if flags.contains(&key) {
        return Ok(Some(key));
    }
    Err(format!(
        "the following directives don't match any configuration option: {key}"
    ))
}

/// A value of the file in the words a flag would have had.
pub(super) fn words(value: &Value) -> Vec<String> {
    let word = |value: &Value| match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    match value {
        // default-address-pools: [{"base": "10.10.0.0/16", "size": 24}]
        Value::Array(list) if list.iter().any(Value::is_object) => list
            .iter()
            .map(|value| match value {
                Value::Object(map) => {
                    let pairs = map
                        .iter()
                        .map(|(key, value)| format!("{key}={}", word(value)));
                    pairs.collect::<Vec<_>>().join(",")
                }
                other => word(other),
            })
            .collect(),
        Value::Array(list) => list.iter().map(word).collect(),
        // mirrors: {"ghcr.io": ["https://a", "https://b"]}
        Value::Object(map) if map.values().any(Value::is_array) => map
            .iter()
            .flat_map(|(key, value)| {
                let values = words(value);
                values
                    .into_iter()
                    .map(move |value| format!("{key}={value}"))
            })
            .collect(),
        Value::Object(map) => map
            .iter()
            .map(|(key, value)| match value.as_object() {
                // default-ulimits: {"nofile": {"Name": "nofile", "Soft": 1, "Hard": 2}}
                Some(limit) => {
                    let number = |k: &str| limit.get(k).map(word).unwrap_or_default();
                    format!("{key}={}:{}", number("Soft"), number("Hard"))
                }
                None => format!("{key}={}", word(value)),
            })
            .collect(),
        other => vec![word(other)],
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    #[test]
    fn every_encoding_of_the_file_is_read() {
        let text = "{\"debug\": true}";
        let wide: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
        for bytes in [
            text.as_bytes().to_vec(),
            [&[0xef, 0xbb, 0xbf], text.as_bytes()].concat(),
            [&[0xff, 0xfe], wide.as_slice()].concat(),
        ] {
            assert_eq!(decode(&bytes).unwrap(), text);
        }
        assert_eq!(decode(&[0xc0, 0x20]), None);
    }

    #[test]
    fn values_become_the_words_of_flags() {
        assert_eq!(words(&json!(["a", "b"])), ["a", "b"]);
        assert_eq!(words(&json!({"max-size": "10m"})), ["max-size=10m"]);
        let limit = json!({"nofile": {"Name": "nofile", "Soft": 1, "Hard": 2}});
        assert_eq!(words(&limit), ["nofile=1:2"]);
        let mirrors = json!({"r.lan": ["a", "b"], "s.lan": "c"});
        assert_eq!(words(&mirrors), ["r.lan=a", "r.lan=b", "s.lan=c"]);
        assert_eq!(words(&json!(true)), ["true"]);
    }

    #[test]
    fn an_unknown_key_is_named() {
        assert_eq!(flag_of("hosts", &["host"]), Ok(Some("host")));
        assert_eq!(flag_of("debug", &["debug"]), Ok(Some("debug")));
        assert!(
            flag_of("nope", &["debug"])
                .unwrap_err()
                .ends_with("option: nope")
        );
    }
}
