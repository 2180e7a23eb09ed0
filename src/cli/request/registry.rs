//! Credentials, proxies and the configuration of registries, from the environment (O-76).

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use crate::base::fs;
use crate::cli::args::{ConnectionArgs, RegistryArgs};
use crate::cli::failure::Failure;
use crate::fetch::MAX_BYTES;
use crate::oci::reference::DEFAULT_REGISTRY;
use crate::registry::{Credentials, Options};
use crate::transport::{Proxies, Verification};

use super::{Environment, size};

impl Environment {
    /// How the registries are reached that images are pulled from, and the credentials for them.
    pub(in crate::cli) fn pulling(&self, args: &RegistryArgs) -> Result<Options, Failure> {
        let authfile = args.authfile.as_deref();
        self.registry_options(&args.insecure_registry, &args.registry_mirror, authfile, &args.connection)
    }

    /// How registries are reached, and the credentials for them.
    pub(in crate::cli) fn registry_options(
        &self,
        insecure: &[String],
        mirrors: &[String],
        authfile: Option<&Path>,
        connection: &ConnectionArgs,
    ) -> Result<Options, Failure> {
        Ok(Options { credentials: self.credentials(authfile)?, ..self.connections(insecure, mirrors, connection)? })
    }

    /// How registries are reached, without credentials.
    pub(in crate::cli) fn connections(
        &self,
        insecure: &[String],
        mirrors: &[String],
        connection: &ConnectionArgs,
    ) -> Result<Options, Failure> {
        let mirrors: Vec<(String, String)> = mirrors.iter().map(|text| mirror(text)).collect::<Result<_, _>>()?;
        if let Some(wrong) = insecure.iter().find(|host| !is_host(host)) {
            return Err(Failure::usage(format!("--insecure-registry {wrong:?}: want HOST[:PORT], without a scheme")));
        }
        let mut problems = Vec::new();
        let mut rules = self.registry_rules(&mut problems)?;
        for (registry, host) in &mirrors {
            rules.add_mirror(registry, host);
        }
        if connection.tls_verify == Some(true) {
            rules.forget_insecure();
        }
        let verification = match connection.tls_verify {
            None => Verification::Usual,
            Some(true) => Verification::Strict,
            Some(false) => Verification::Off,
        };
        let common = self.common_certificates(connection)?;
        let certificates = if connection.cert_dir.is_some() { BTreeMap::new() } else { self.certificates() };
        let (insecure, proxies) = (insecure.to_vec(), self.proxies());
        Ok(Options { insecure, rules, certificates, common, verification, proxies, problems, ..Options::default() })
    }

    /// The credentials of `--authfile`, else of the environment and of all credential files. Ok: every file that exists
    /// was read, or is recorded as unreadable; files that were asked for exist.
    fn credentials(&self, authfile: Option<&Path>) -> Result<Credentials, Failure> {
        let mut credentials = Credentials::none();
        let files = match authfile {
            Some(file) => vec![(file.to_owned(), Some("--authfile"))],
            None => {
                if let Some(text) = self.non_empty("DOCKER_AUTH_CONFIG") {
                    credentials.add("DOCKER_AUTH_CONFIG", text.as_encoded_bytes());
                }
                self.credential_files()
            }
        };
        for (path, asked_by) in files {
            let origin = path.display().to_string();
            match (fs::read_opt(&path), asked_by) {
                (Err(error), _) => credentials.add_unreadable(&origin, crate::cli::failure::chain(&error)),
                (Ok(Some(bytes)), _) => credentials.add(&origin, &bytes),
                (Ok(None), Some(asker)) => return Err(Failure::usage(format!("{asker}: {origin} does not exist"))),
                (Ok(None), None) => {}
            }
        }
        Ok(credentials)
    }

    /// The proxies.
    pub(in crate::cli) fn proxies(&self) -> Proxies {
        let either = |name: &str| self.non_empty(&name.to_ascii_lowercase()).or_else(|| self.non_empty(name));
        let text = |value: &OsStr| value.to_string_lossy().into_owned();
        let all = either("ALL_PROXY");
        Proxies {
            http: either("HTTP_PROXY").or(all).map(text),
            https: either("HTTPS_PROXY").or(all).map(text),
            no_proxy: either("NO_PROXY").map(text).unwrap_or_default(),
        }
    }

    /// How many bytes the store may take (`KILN_STORAGE_LIMIT`).
    pub(in crate::cli) fn storage_limit(&self) -> Result<Option<u64>, Failure> {
        let Some(text) = self.non_empty("KILN_STORAGE_LIMIT") else { return Ok(None) };
        let limit = size(&text.to_string_lossy());
        limit.map(Some).map_err(|why| Failure::usage(format!("KILN_STORAGE_LIMIT: {why}")))
    }

    /// The largest file to fetch from a URL, in bytes (S-64).
    pub(in crate::cli) fn max_download(&self) -> Result<u64, Failure> {
        let Some(text) = self.non_empty("KILN_MAX_DOWNLOAD") else { return Ok(MAX_BYTES) };
        size(&text.to_string_lossy()).map_err(|why| Failure::usage(format!("KILN_MAX_DOWNLOAD: {why}")))
    }

    /// The environment of git and ssh: known hosts, proxies, certificates and `agent`.
    pub(in crate::cli) fn for_git(&self, agent: Option<&Path>) -> Vec<(String, String)> {
        const NAMES: [&str; 4] = ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"];
        let lower = NAMES.iter().map(|name| name.to_ascii_lowercase());
        let names = NAMES.iter().map(|name| (*name).to_owned()).chain(lower);
        let names = names.chain(["SSL_CERT_FILE", "SSL_CERT_DIR"].map(str::to_owned));
        let value = |name: &str| Some(self.non_empty(name)?.to_str()?.to_owned());
        let mut all: Vec<_> = names.filter_map(|name| Some((name.clone(), value(&name)?))).collect();
        all.extend(agent.and_then(Path::to_str).map(|socket| ("SSH_AUTH_SOCK".to_owned(), socket.to_owned())));
        // git's own name for it.
        all.extend(value("SSL_CERT_FILE").map(|file| ("GIT_SSL_CAINFO".to_owned(), file)));
        // Inside a user namespace ssh would use the home of root.
        if let Some(home) = value("HOME").filter(|home| !home.contains(['\'', '"', '%', '$', '\\', '\n'])) {
            let ssh = format!("ssh -oBatchMode=yes '-oUserKnownHostsFile=\"{home}/.ssh/known_hosts\"'");
            all.push(("GIT_SSH_COMMAND".to_owned(), ssh));
        }
        all
    }

    /// The credential file that a login is stored in.
    pub(in crate::cli) fn credential_file(&self, given: Option<&Path>) -> Result<PathBuf, Failure> {
        if let Some(file) = given {
            return Ok(file.to_owned());
        }
        if let Some(file) = self.non_empty("REGISTRY_AUTH_FILE") {
            return Ok(PathBuf::from(file));
        }
        let docker =
            self.docker_config().ok_or_else(|| Failure::usage("HOME is not set").hint("use --authfile FILE"))?;
        Ok(docker.join("config.json"))
    }

    fn docker_config(&self) -> Option<PathBuf> {
        let dir = |name: &str| self.non_empty(name).map(Path::new);
        dir("DOCKER_CONFIG").map(Path::to_owned).or_else(|| dir("HOME").map(|home| home.join(".docker")))
    }

    /// Credential files in order of precedence, podman's before docker's, each with what demands that it exists.
    fn credential_files(&self) -> Vec<(PathBuf, Option<&'static str>)> {
        let dir = |name: &str| self.non_empty(name).map(PathBuf::from);
        let mut files = Vec::new();
        files.extend(dir("REGISTRY_AUTH_FILE").map(|file| (file, Some("REGISTRY_AUTH_FILE"))));
        // As root, podman has no runtime directory of its own.
        let runtime = dir("XDG_RUNTIME_DIR").map(|dir| dir.join("containers"));
        let runtime = runtime.unwrap_or_else(|| format!("/run/containers/{}", self.uid).into());
        let podman = [Some(runtime), self.config_home().map(|dir| dir.join("containers"))].into_iter().flatten();
        files.extend(podman.map(|dir| (dir.join("auth.json"), None)));
        files.extend(self.docker_config().map(|docker| (docker.join("config.json"), None)));
        files
    }
}

/// Whether the text has only the characters of `HOST[:PORT]`.
fn is_host(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.:[]_".contains(&b))
}

/// `[REGISTRY=]HOST[:PORT]`; without a registry, a mirror of Docker Hub.
fn mirror(text: &str) -> Result<(String, String), Failure> {
    let (registry, host) = text.split_once('=').unwrap_or((DEFAULT_REGISTRY, text));
    if is_host(registry) && is_host(host) {
        return Ok((registry.to_owned(), host.to_owned()));
    }
    Err(Failure::usage(format!(
        "--registry-mirror {text:?}: want HOST[:PORT] or REGISTRY=HOST[:PORT], without a scheme"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::time::Timestamp;

    #[test]
    fn git_and_inner_process_get_their_environment() {
        let variables = [("SSL_CERT_FILE", "/ca.pem"), ("SSL_CERT_DIR", "/ca"), ("HOME", "/h"), ("https_proxy", "p")];
        let given = Environment::of(0, &variables).for_git(Some(Path::new("/agent")));
        let value = |name: &str| given.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
        assert_eq!((value("SSL_CERT_FILE"), value("GIT_SSL_CAINFO")), (Some("/ca.pem"), Some("/ca.pem")));
        assert_eq!((value("SSL_CERT_DIR"), value("https_proxy")), (Some("/ca"), Some("p")));
        assert_eq!(value("SSH_AUTH_SOCK"), Some("/agent"));
        assert!(value("GIT_SSH_COMMAND").is_some_and(|line| line.contains("/h/.ssh/known_hosts")));
        let began = Timestamp::from_secs(7);
        let inside = Environment::of(0, &[("KILN_BEGAN", &began.to_string())]);
        assert_eq!(inside.began(), Some(began));
    }

    #[test]
    fn registry_mirror_defaults_to_docker_hub() {
        let pair = |registry: &str, host: &str| (registry.to_owned(), host.to_owned());
        assert_eq!(mirror("m.example:5000").ok(), Some(pair("docker.io", "m.example:5000")));
        assert_eq!(mirror("ghcr.io=[::1]:80").ok(), Some(pair("ghcr.io", "[::1]:80")));
        for wrong in ["", "https://m.example", "m.example/path", "=x", "x=", "a b"] {
            assert!(mirror(wrong).is_err(), "{wrong}");
        }
        for wrong in ["", "http://r.example"] {
            let failure = Environment::of(0, &[])
                .connections(&[wrong.to_owned()], &[], &ConnectionArgs::default())
                .expect_err(wrong);
            assert!(failure.message.starts_with(&format!("--insecure-registry {wrong:?}: want HOST")), "{wrong}");
        }
    }
}
