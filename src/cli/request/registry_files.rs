//! The files that configure registries: `containers/registries.conf` and `certs.d`, in the places of podman and docker.
//!
//! **Holds.** A file that is missing is no error, and one that is broken only a problem that is told, unless the
//! environment names it, or the host that it is for is used.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use crate::base::fs;
use crate::cli::args::{CaArgs, ConnectionArgs};
use crate::cli::failure::Failure;
use crate::registry::Rules;
use crate::transport::{Authorities, Certificates};

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

    /// The certificates of `--cert-dir`, `--registry-ca` and `--ca-cert`. Ok: everything that is named was read.
    pub(super) fn common_certificates(&self, connection: &ConnectionArgs) -> Result<Certificates, Failure> {
        let mut common = Certificates::default();
        if let Some(dir) = &connection.cert_dir {
            let wrong = |why: String| Failure::usage(format!("--cert-dir: {why}"));
            fs::list(dir).map_err(|e| wrong(crate::cli::failure::chain(&e)))?;
            let found = certificates_in(dir).map_err(wrong)?;
            common = found.ok_or_else(|| wrong(format!("{} has neither *.crt nor *.cert", dir.display())))?;
        }
        for file in &connection.registry_ca {
            let (option, path) = ("--registry-ca", file.display());
            let wrong = |why: String| Failure::usage(format!("{option}: {path}: {why}"));
            common.add_authorities(&named(option, file)?).map_err(wrong)?;
        }
        if let Some(authorities) = self.authorities(&connection.ca)? {
            common.add(&authorities);
        }
        Ok(common)
    }

    /// The authorities of `--ca-cert`, else of `$KILN_CA_CERT`.
    pub(in crate::cli) fn authorities(&self, ca: &CaArgs) -> Result<Option<Authorities>, Failure> {
        let variable = || self.non_empty("KILN_CA_CERT").map(|file| ("KILN_CA_CERT", Path::new(file)));
        let Some((asker, file)) = ca.ca_cert.as_deref().map(|file| ("--ca-cert", file)).or_else(variable) else {
            return Ok(None);
        };
        let read = Authorities::read(&named(asker, file)?);
        read.map(Some).map_err(|why| Failure::usage(format!("{asker}: {}: {why}", file.display())))
    }

    /// Where the user's configuration is.
    pub(super) fn config_home(&self) -> Option<PathBuf> {
        let config = self.non_empty("XDG_CONFIG_HOME").map(PathBuf::from);
        config.or_else(|| self.non_empty("HOME").map(|home| Path::new(home).join(".config")))
    }
}

/// The content of a file that `asker` names.
fn named(asker: &str, file: &Path) -> Result<Vec<u8>, Failure> {
    let wrong = |why: String| Failure::usage(format!("{asker}: {why}"));
    let read = fs::read_opt(file).map_err(|e| wrong(crate::cli::failure::chain(&e)))?;
    read.ok_or_else(|| wrong(format!("{} does not exist", file.display())))
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
