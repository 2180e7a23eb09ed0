//! Comparing the configs of two images.
//!
//! **Holds.** One line per field, environment variable, label, port and volume, named as in `kiln inspect`. Unknown fields
//! are compared too.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::oci::config::ImageConfig;
use crate::ui::sanitize;

use super::super::args::Attribute;

/// A field that differs. `None`: the side does not have it.
#[derive(Debug, PartialEq)]
pub(super) struct Field {
    /// `Env PATH`, `Cmd`, `Label a`, `architecture`, `created`, `history 3`, `layers`, …
    pub(super) name: String,
    a: Option<Value>,
    b: Option<Value>,
}

impl Field {
    /// Whether the ignored attributes explain the difference.
    pub(super) fn is_covered(&self, ignored: &[Attribute]) -> bool {
        ignored.contains(&Attribute::Config)
            || match self.name.as_str() {
                "created" => ignored.contains(&Attribute::Mtime),
                // A layer's digest covers the ignored attributes too.
                "layers" => ignored.iter().any(|one| *one != Attribute::Config),
                _ => false,
            }
    }

    /// `changed config Env PATH: /bin → /usr/bin`
    pub(super) fn line(&self) -> String {
        let name = &self.name;
        match (&self.a, &self.b) {
            (None, Some(b)) => format!("added   config {name}: {}", text(b)),
            (Some(a), None) => format!("removed config {name}: {}", text(a)),
            _ if self.name == "layers" => {
                let list = |side: &Option<Value>| side.as_ref().and_then(Value::as_array).cloned().unwrap_or_default();
                let (a, b) = (list(&self.a), list(&self.b));
                let common = a.iter().zip(&b).take_while(|(x, y)| x == y).count();
                format!("changed config layers: {} → {}, {common} in common at the bottom", a.len(), b.len())
            }
            (a, b) => {
                let shown = |side: &Option<Value>| side.as_ref().map_or_else(|| "none".to_owned(), text);
                format!("changed config {name}: {} → {}", shown(a), shown(b))
            }
        }
    }

    /// The field as JSON.
    pub(super) fn json(&self) -> Value {
        json!({ "field": self.name, "a": self.a, "b": self.b })
    }
}

/// A string as it is, other values as JSON; safe for a terminal.
fn text(value: &Value) -> String {
    match value {
        Value::String(text) => sanitize::text(text).into_owned(),
        other => sanitize::text(&other.to_string()).into_owned(),
    }
}

/// Every field that differs, in a fixed order.
pub(super) fn diff(a: &ImageConfig, b: &ImageConfig) -> Vec<Field> {
    let mut fields = Vec::new();
    let (mut left, mut right) = (fields_of(a), fields_of(b));
    let names: Vec<String> = left.keys().chain(right.keys().filter(|k| !left.contains_key(*k))).cloned().collect();
    for name in names {
        let (a, b) = (left.remove(&name), right.remove(&name));
        if a != b {
            fields.push(Field { name, a, b });
        }
    }
    fields.sort_by(|x, y| key(&x.name).cmp(&key(&y.name)));
    fields
}

/// By name, entries of the history by number.
fn key(name: &str) -> (&str, usize, &str) {
    let (group, rest) = name.split_once(' ').unwrap_or((name, ""));
    (group, if group == "history" { rest.parse().unwrap_or_default() } else { 0 }, rest)
}

fn fields_of(config: &ImageConfig) -> BTreeMap<String, Value> {
    let mut fields = BTreeMap::new();
    let mut whole = as_object(serde_json::to_value(config).unwrap_or_default());
    for (name, value) in as_object(whole.remove("config").unwrap_or_default()) {
        match (name.as_str(), value) {
            ("Env", Value::Array(variables)) => {
                for variable in variables.iter().filter_map(Value::as_str) {
                    let (key, value) = variable.split_once('=').unwrap_or((variable, ""));
                    // Of duplicates the last one counts, as at run time.
                    fields.insert(format!("Env {key}"), value.into());
                }
            }
            ("Labels", Value::Object(labels)) => {
                fields.extend(labels.into_iter().map(|(key, value)| (format!("Label {key}"), value)));
            }
            ("ExposedPorts", Value::Object(ports)) => {
                fields.extend(ports.into_iter().map(|(port, value)| (format!("ExposedPorts {port}"), value)));
            }
            ("Volumes", Value::Object(volumes)) => {
                fields.extend(volumes.into_iter().map(|(volume, value)| (format!("Volumes {volume}"), value)));
            }
            ("Healthcheck", Value::Object(check)) => {
                fields.extend(check.into_iter().map(|(part, value)| (format!("Healthcheck {part}"), value)));
            }
            (_, value) => drop(fields.insert(name, value)),
        }
    }
    if whole.remove("rootfs").is_some() {
        fields.insert("layers".to_owned(), json!(config.rootfs.diff_ids));
    }
    // Times of history entries are not compared: `created` covers them.
    whole.remove("history");
    for (number, entry) in (1..).zip(&config.history) {
        fields.insert(format!("history {number}"), entry.created_by.clone().unwrap_or_default().into());
    }
    fields.extend(whole);
    fields
}

fn as_object(value: Value) -> serde_json::Map<String, Value> {
    if let Value::Object(map) = value { map } else { serde_json::Map::new() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::config::History;

    fn config(changed: &str) -> ImageConfig {
        let text = format!(
            r#"{{"architecture":"amd64","os":"linux","rootfs":{{"type":"layers","diff_ids":[]}},"config":{{{changed}}}}}"#
        );
        ImageConfig::parse(text.as_bytes()).expect("a config")
    }

    fn said(a: &str, b: &str) -> Vec<String> {
        diff(&config(a), &config(b)).iter().map(Field::line).collect()
    }

    #[test]
    fn config_diff_names_fields_like_inspect() {
        for (a, b, want) in [
            ("", "", vec![]),
            (r#""Env":["A=1","B=2"]"#, r#""Env":["B=2","A=3"]"#, vec!["changed config Env A: 1 → 3"]),
            ("", r#""Env":["A="]"#, vec!["added   config Env A: "]),
            (r#""Labels":{"l":"x"}"#, "", vec!["removed config Label l: x"]),
            (r#""Cmd":["a","b"]"#, r#""Cmd":["a b"]"#, vec![r#"changed config Cmd: ["a","b"] → ["a b"]"#]),
            ("", r#""Entrypoint":["e"]"#, vec![r#"added   config Entrypoint: ["e"]"#]),
            (r#""User":"a""#, r#""User":"b""#, vec!["changed config User: a → b"]),
            (
                "",
                r#""WorkingDir":"/w","StopSignal":"9""#,
                vec!["added   config StopSignal: 9", "added   config WorkingDir: /w"],
            ),
            (
                r#""ExposedPorts":{"80/tcp":{}}"#,
                r#""Volumes":{"/v":{}}"#,
                vec!["removed config ExposedPorts 80/tcp: {}", "added   config Volumes /v: {}"],
            ),
            (
                r#""Healthcheck":{"Test":["NONE"]}"#,
                r#""Healthcheck":{"Test":["NONE"],"Retries":2}"#,
                vec!["added   config Healthcheck Retries: 2"],
            ),
            (
                "",
                r#""OnBuild":["RUN x"],"Zebra":1"#,
                vec![r#"added   config OnBuild: ["RUN x"]"#, "added   config Zebra: 1"],
            ),
            // S-99
            ("", r#""User":"\u001b[2J""#, vec!["added   config User: \\x1b[2J"]),
        ] {
            assert_eq!(said(a, b), want, "{a} {b}");
        }
    }

    #[test]
    fn config_diff_compares_top_level_fields() {
        let mut other = config("");
        other.platform.architecture = "arm64".to_owned();
        other.author = Some("me".to_owned());
        let entry = |text: &str| History { created_by: Some(text.to_owned()), empty_layer: true, ..History::default() };
        let many: Vec<_> = (0..12).map(|n| entry(&format!("RUN {n}"))).collect();
        let mut base = config("");
        base.history = many[..1].to_vec();
        other.history = many;
        other.history[1] = entry("RUN x");
        let lines: Vec<_> = diff(&base, &other).iter().map(Field::line).collect();
        assert_eq!(
            lines[..3],
            [
                "changed config architecture: amd64 → arm64",
                "added   config author: me",
                "added   config history 2: RUN x",
            ]
        );
        assert_eq!(lines.last().map(String::as_str), Some("added   config history 12: RUN 11"));
    }
}
