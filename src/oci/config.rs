//! Image configs (image-spec `config.md`) with Docker's additions, as BuildKit writes them.
//!
//! **Holds.** Docker's `Healthcheck`, `Shell`, `OnBuild` and `ArgsEscaped` are written into OCI configs too (A9). Unknown
//! fields of a base image's `config` object are kept (F-12).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::base::digest::DiffId;
use crate::base::json::{null_default, null_values};
use crate::base::time::Timestamp;

use super::manifest::{InvalidDocument, MAX_DOCUMENT, parse, serialize, shape};
use super::platform::Platform;

/// An image config.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ImageConfig {
    /// When the image was created.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<Timestamp>,
    /// The author (MAINTAINER).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// The platform, as fields of the document.
    #[serde(flatten)]
    pub platform: Platform,
    /// How to run a container.
    #[serde(default, deserialize_with = "null_default")]
    pub config: RuntimeConfig,
    /// The layers, bottom first.
    #[serde(default, deserialize_with = "null_default")]
    pub rootfs: RootFs,
    /// One entry per instruction, oldest first. Those without `empty_layer` match `rootfs.diff_ids` in order.
    #[serde(default, deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<History>,
}

/// The layers of an image by the digests of their uncompressed tars.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RootFs {
    /// Always `layers`.
    #[serde(rename = "type", deserialize_with = "layers")]
    pub kind: String,
    /// Bottom first.
    #[serde(deserialize_with = "null_default")]
    pub diff_ids: Vec<DiffId>,
}

impl Default for RootFs {
    fn default() -> Self {
        Self { kind: "layers".to_owned(), diff_ids: Vec::new() }
    }
}

/// Reads the type; `null` stands for the only one.
fn layers<'de, D: serde::Deserializer<'de>>(d: D) -> Result<String, D::Error> {
    Ok(Option::deserialize(d)?.unwrap_or_else(|| RootFs::default().kind))
}

/// How to run a container: the `config` object.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct RuntimeConfig {
    /// `name`, `uid`, `name:group`, `uid:gid`; empty = root.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "String::is_empty")]
    pub user: String,
    /// `80/tcp`.
    #[serde(deserialize_with = "null_values", skip_serializing_if = "BTreeMap::is_empty")]
    pub exposed_ports: BTreeMap<String, Empty>,
    /// `K=V`, in order of first definition.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// The arguments before `cmd`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<Vec<String>>,
    /// Default arguments, or the command.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cmd: Option<Vec<String>>,
    /// Paths that are volumes at run time.
    #[serde(deserialize_with = "null_values", skip_serializing_if = "BTreeMap::is_empty")]
    pub volumes: BTreeMap<String, Empty>,
    /// Absolute path.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "String::is_empty")]
    pub working_dir: String,
    /// Labels.
    #[serde(deserialize_with = "null_values", skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Name or number.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "String::is_empty")]
    pub stop_signal: String,
    /// Docker: how to check a container's health.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<Healthcheck>,
    /// Docker: the shell that runs shell-form commands.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shell: Option<Vec<String>>,
    /// Docker: instructions for builds on this image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_build: Option<Vec<String>>,
    /// Docker: `cmd` is one shell string; BuildKit writes it for shell-form CMD and ENTRYPOINT.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "is_false")]
    pub args_escaped: bool,
    /// Unknown fields, from the base image.
    #[serde(flatten)]
    pub other: BTreeMap<String, Value>,
}

/// `{}`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Empty {}

/// Docker's health check; durations in nanoseconds, 0 = inherit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Healthcheck {
    /// `["NONE"]`, `["CMD", …]` or `["CMD-SHELL", text]`.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub test: Vec<String>,
    /// Time between checks.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "is_zero")]
    pub interval: i64,
    /// Time a check may take.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "is_zero")]
    pub timeout: i64,
    /// Time before failures count.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "is_zero")]
    pub start_period: i64,
    /// Time between checks in the start period.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "is_zero")]
    pub start_interval: i64,
    /// Failures in a row that make it unhealthy.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "is_zero")]
    pub retries: i64,
}

/// An instruction of the build.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// When it was executed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<Timestamp>,
    /// The instruction as text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
    /// The author at that point.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// `buildkit.dockerfile.v0` in BuildKit's images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// The instruction made no layer.
    #[serde(default, deserialize_with = "null_default", skip_serializing_if = "is_false")]
    pub empty_layer: bool,
}

impl ImageConfig {
    /// An empty image: `FROM scratch`.
    pub fn scratch(platform: Platform) -> Self {
        Self {
            created: None,
            author: None,
            platform,
            config: RuntimeConfig::default(),
            rootfs: RootFs::default(),
            history: Vec::new(),
        }
    }

    /// Reads a config. One whose history lists more or fewer layers than it has is refused (S-56).
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, InvalidDocument> {
        let config: ImageConfig = parse("image config", bytes)?;
        let claimed = config.history.iter().filter(|h| !h.empty_layer).count();
        if !config.history.is_empty() && claimed != config.rootfs.diff_ids.len() {
            let why = format!("history lists {claimed} layers, rootfs {}", config.rootfs.diff_ids.len());
            return Err(shape("image config", why));
        }
        config.config.check()?;
        Ok(config)
    }

    /// The bytes to store; equal configs give equal bytes.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        serialize(self)
    }

    /// The bytes to store. Ok: they are within the size limit and [`ImageConfig::parse`] accepts them (N-10).
    pub(crate) fn checked_bytes(&self) -> Result<Vec<u8>, InvalidDocument> {
        self.config.check()?;
        let bytes = self.to_bytes();
        match bytes.len() as u64 {
            size if size > MAX_DOCUMENT => {
                Err(shape("image config", format!("it has {size} bytes, more than the limit of {MAX_DOCUMENT}")))
            }
            _ => Ok(bytes),
        }
    }
}

impl RuntimeConfig {
    /// Ok: no value holds a NUL byte, which neither commands nor the kernel accept.
    fn check(&self) -> Result<(), InvalidDocument> {
        let list = |list: &Option<Vec<String>>| list.iter().flatten().any(|text| text.contains('\0'));
        let has = |text: &str| text.contains('\0');
        let found = [
            ("Env", self.env.iter().any(|text| has(text))),
            ("User", has(&self.user)),
            ("WorkingDir", has(&self.working_dir)),
            ("Entrypoint", list(&self.entrypoint)),
            ("Cmd", list(&self.cmd)),
            ("Shell", list(&self.shell)),
            ("OnBuild", list(&self.on_build)),
            ("StopSignal", has(&self.stop_signal)),
            ("Volumes", self.volumes.keys().any(|text| has(text))),
            ("ExposedPorts", self.exposed_ports.keys().any(|text| has(text))),
            ("Labels", self.labels.iter().any(|(name, value)| has(name) || has(value))),
            ("Healthcheck", self.healthcheck.as_ref().is_some_and(|check| check.test.iter().any(|text| has(text)))),
        ];
        match found.iter().find(|(_, found)| *found) {
            Some((name, _)) => Err(shape("image config", format!("{name} holds a NUL byte"))),
            None => Ok(()),
        }
    }
}

fn is_false(b: &bool) -> bool {
    !*b
}

fn is_zero(n: &i64) -> bool {
    *n == 0
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::manifest::null_is_absent;
    use super::*;

    #[test]
    fn config_with_nul_byte_or_too_long_is_refused() {
        // N-10
        let plain = ImageConfig::scratch(Platform::host());
        type Change = fn(&mut RuntimeConfig, String);
        let changes: [(&str, Change); 12] = [
            ("Env", |c, t| c.env.push(format!("A={t}"))),
            ("User", |c, t| c.user = t),
            ("WorkingDir", |c, t| c.working_dir = t),
            ("Entrypoint", |c, t| c.entrypoint = Some(vec![t])),
            ("Cmd", |c, t| c.cmd = Some(vec!["a".to_owned(), t])),
            ("Shell", |c, t| c.shell = Some(vec![t])),
            ("OnBuild", |c, t| c.on_build = Some(vec![t])),
            ("StopSignal", |c, t| c.stop_signal = t),
            ("Volumes", |c, t| c.volumes.extend([(t, Empty {})])),
            ("ExposedPorts", |c, t| c.exposed_ports.extend([(t, Empty {})])),
            ("Labels", |c, t| c.labels.extend([("l".to_owned(), t)])),
            ("Healthcheck", |c, t| c.healthcheck = Some(Healthcheck { test: vec![t], ..Healthcheck::default() })),
        ];
        for (name, change) in changes {
            let with = |text: &str| {
                let mut config = plain.clone();
                change(&mut config.config, text.to_owned());
                config
            };
            let good = with("x").checked_bytes().expect(name);
            assert!(ImageConfig::parse(&good).is_ok(), "{name}");
            let bad = with("x\0y");
            assert!(bad.checked_bytes().expect_err(name).to_string().contains(name));
            assert!(ImageConfig::parse(&bad.to_bytes()).expect_err(name).to_string().contains(name));
            assert!(
                with(&"x".repeat(4 << 20)).checked_bytes().expect_err(name).to_string().contains("bytes"),
                "{name}"
            );
        }
    }

    #[test]
    fn docker_and_unknown_fields_are_kept_f12() {
        let text = br#"{"created":"2024-01-01T00:00:00Z","architecture":"amd64","os":"linux","config":{"Env":null,
            "Cmd":["sh"],"Healthcheck":{"Test":["CMD","true"],"Interval":1000000},"OnBuild":["RUN x"],"Shell":["/bin/bash","-c"],
            "Zebra":{"a":1},"Volumes":null},"rootfs":{"type":"layers","diff_ids":[]}}"#;
        let config = ImageConfig::parse(text).expect("valid");
        let again = String::from_utf8(config.to_bytes()).expect("utf-8");
        for kept in ["Healthcheck", "OnBuild", "Shell", "Zebra", "\"Interval\":1000000"] {
            assert!(again.contains(kept), "{kept} lost in {again}");
        }
        assert_eq!(ImageConfig::parse(again.as_bytes()).expect("valid"), config);
    }

    #[test]
    fn null_in_config_means_absent_n_20() {
        let all = json!({
            "created": "2024-01-01T00:00:00Z", "author": "a", "architecture": "amd64", "os": "linux",
            "os.version": "1", "os.features": ["f"], "variant": "v2",
            "config": {
                "User": "u", "ExposedPorts": {"80/tcp": {}}, "Env": ["A=b"], "Entrypoint": ["e"], "Cmd": ["c"],
                "Volumes": {"/v": {}}, "WorkingDir": "/w", "Labels": {"l": "m"}, "StopSignal": "TERM",
                "Healthcheck": {
                    "Test": ["NONE"], "Interval": 1, "Timeout": 1, "StartPeriod": 1, "StartInterval": 1, "Retries": 1,
                },
                "Shell": ["s"], "OnBuild": ["RUN x"], "ArgsEscaped": true,
            },
            "rootfs": {"type": "layers", "diff_ids": []},
            "history": [
                {"created": "2024-01-01T00:00:00Z", "created_by": "x", "author": "a", "comment": "c", "empty_layer": true},
            ],
        });
        let read = |value: &Value| ImageConfig::parse(value.to_string().as_bytes());
        let empty_layer = "/history/0/empty_layer";
        let required = ["/architecture", "/os", empty_layer];
        null_is_absent(&all, &required, &|value| read(value).map_err(|e| e.to_string()));
        let mut one = all.clone();
        one["rootfs"]["diff_ids"] = json!([format!("sha256:{}", "0".repeat(64))]);
        one["history"][0]["empty_layer"] = Value::Null;
        assert!(!read(&one).expect("valid").history[0].empty_layer);
        for (map, value) in [("ExposedPorts", "80/tcp"), ("Volumes", "/v"), ("Labels", "l")] {
            let mut with = all.clone();
            with["config"][map][value] = Value::Null;
            let config = read(&with).expect("valid").config;
            assert_eq!(config.exposed_ports.len() + config.volumes.len() + config.labels.len(), 3);
        }
    }

    #[test]
    fn oci_spec_reads_written_configs() {
        let mut config = ImageConfig::scratch(Platform::new("linux", "arm64"));
        config.config.env = vec!["A=b".to_owned()];
        config.config.labels = BTreeMap::from([("l".to_owned(), "m".to_owned())]);
        config.config.shell = Some(vec!["/bin/bash".to_owned()]);
        config.history = vec![History { empty_layer: true, ..History::default() }];
        let read = oci_spec::image::ImageConfiguration::from_reader(&*config.to_bytes()).expect("a config");
        assert_eq!(read.architecture().to_string(), "arm64");
        assert_eq!(read.labels_of_config().map(|labels| labels["l"].as_str()), Some("m"));
        assert_eq!(read.config().as_ref().and_then(|c| c.env().clone()), Some(config.config.env));
        assert_eq!(read.history().as_ref().map(Vec::len), Some(1));
    }
}
