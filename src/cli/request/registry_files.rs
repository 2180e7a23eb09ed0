//! The files that configure registries: `containers/registries.conf` and `certs.d`, in the places of podman and docker.
//!
//! **Holds.** A file that is missing is no error, and one that is broken only a problem that is told, unless the
//! environment names it, or the host that it is for is used.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use crate::base::fs;
use crate::cli::failure::Failure;
use crate::registry::Rules;
use crate::transport::Certificates;

use super::Environment;

/// Files and why they cannot be used.
type Problems = Vec<(String, String)>;

impl Environment {
    /// The rules of `registries.conf`: of the file that `$CONTAINERS_REGISTRIES_CONF` names, else of the user's or the
    /// system's file and of the drop-ins, later ones first.
    pub(super) fn registry_rules(&self, problems: &mut Problems) -> Result<Rules, Failure> {
        let mut rules = Rules::default();
        if let Some(path) = self.non_empty("CONTAINERS_REGISTRIES_CONF").map(Path::new) {
            let named = |why: String| Failure::usage(format!("CONTAINERS_REGISTRIES_CONF: {}: {why}", path.display()));
            let text = fs::read_opt(path).map_err(|e| named(crate::cli::failure::chain(&e)))?;
            let text = text.ok_or_else(|| named("does not exist".to_owned()))?;
            rules.add(&path.display().to_string(), &String::from_utf8_lossy(&text)).map_err(named)?;
            return Ok(rules);
        }
        let system = PathBuf::from("/etc/containers");
        let user = self.config_home().map(|config| config.join("containers"));
        let main = user.iter().chain([&system]).map(|dir| dir.join("registries.conf")).find(|path| path.exists());
        let mut files: Vec<PathBuf> = main.into_iter().collect();
        for dir in [Some(&system), user.as_ref()].into_iter().flatten() {
            files.extend(files_in(&dir.join("registries.conf.d"), "conf"));
        }
        for path in files {
            let origin = path.display().to_string();
            let added = match fs::read_opt(&path) {
                Ok(text) => rules.add(&origin, &String::from_utf8_lossy(&text.unwrap_or_default())),
                Err(e) => Err(crate::cli::failure::chain(&e)),
            };
            problems.extend(added.err().map(|why| (origin, why)));
        }
        Ok(rules)
    }

    /// The certificates in `certs.d/HOST[:PORT]` directories, by host.
    pub(super) fn certificates(&self) -> BTreeMap<String, Result<Certificates, String>> {
        let mut found = BTreeMap::new();
        let user =
            self.config_home().into_iter().flat_map(|config| ["containers", "docker"].map(|tool| config.join(tool)));
        let all = ["/etc/docker", "/etc/containers"].map(PathBuf::from).into_iter().chain(user);
        for dir in all.map(|dir| dir.join("certs.d")) {
            for host in fs::list(&dir).unwrap_or_default() {
                let Some(name) = host.to_str() else { continue };
                // The user's directory replaces the system's.
                if let Some(certificates) = certificates_in(&dir.join(name)).transpose() {
                    found.insert(name.to_ascii_lowercase(), certificates);
                }
            }
        }
        found
    }

    /// Where the user's configuration is.
    pub(super) fn config_home(&self) -> Option<PathBuf> {
        let config = self.non_empty("XDG_CONFIG_HOME").map(PathBuf::from);
        config.or_else(|| self.non_empty("HOME").map(|home| Path::new(home).join(".config")))
    }
}

/// `*.crt`: authorities; `*.cert` with its `*.key`: kiln's own. `None`: there are none.
fn certificates_in(dir: &Path) -> Result<Option<Certificates>, String> {
    let mut certificates = Certificates::default();
    let (authorities, own) = (files_in(dir, "crt"), files_in(dir, "cert"));
    let read = |path: &Path| match fs::read_opt(path) {
        Ok(Some(bytes)) => Ok(bytes),
        Ok(None) => Err(format!("{} does not exist", path.display())),
        Err(e) => Err(crate::cli::failure::chain(&e)),
    };
    let named = |path: &Path, why: String| format!("{}: {why}", path.display());
    for path in &authorities {
        certificates.add_authorities(&read(path)?).map_err(|why| named(path, why))?;
    }
    for path in &own {
        let key = read(&path.with_extension("key"))?;
        certificates.set_client(&read(path)?, &key).map_err(|why| named(path, why))?;
    }
    Ok((!authorities.is_empty() || !own.is_empty()).then_some(certificates))
}

/// The files of a directory with this extension, by name; none if it cannot be read.
fn files_in(dir: &Path, extension: &str) -> Vec<PathBuf> {
    let mut names = fs::list(dir).unwrap_or_default();
    names.sort();
    let paths = names.into_iter().map(|name| dir.join(name));
    paths.filter(|path| path.extension() == Some(OsStr::new(extension))).collect()
}
