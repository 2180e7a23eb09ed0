//! Where a repository really is: mirrors, other locations, blocked registries (`containers-registries.conf`).
//!
//! A short name is one of Docker Hub (F-1). Where an alias or the list of registries to search says otherwise, it is an
//! error.
//!
//! **Holds.** The rule with the longest matching prefix decides. A prefix names a registry, the beginning of a repository
//! at a slash, or with `*.` every subdomain.
//! **Not here.** Finding and reading files: their contents come in as text.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::oci::reference::{DEFAULT_REGISTRY, Reference};

use super::RegistryError;

/// All rules, the most important first.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rules {
    rules: Vec<Rule>,
    /// The whole name of a short one, and the file that says so.
    aliases: BTreeMap<String, (String, String)>,
    /// Registries to search for short names, and the file that lists them.
    search: Option<(Vec<String>, String)>,
}

/// One `[[registry]]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
struct Rule {
    prefix: String,
    location: String,
    insecure: bool,
    blocked: bool,
    mirror_by_digest_only: bool,
    mirror: Vec<Mirror>,
    /// The file, for errors.
    #[serde(skip)]
    origin: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
struct Mirror {
    location: String,
    insecure: bool,
    pull_from_mirror: PullFrom,
}

/// Which pulls a mirror serves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum PullFrom {
    #[default]
    All,
    DigestOnly,
    TagOnly,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct File {
    #[serde(default)]
    registry: Vec<Rule>,
    unqualified_search_registries: Option<Vec<String>>,
    #[serde(default)]
    aliases: BTreeMap<String, String>,
}

/// A place that may have a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// As references name it: `docker.io`, `localhost:5000`.
    pub(super) registry: String,
    pub(super) repository: String,
}

impl Rules {
    /// Adds the rules of a file before those that are there. Err: why it is not such a file.
    pub(crate) fn add(&mut self, origin: &str, text: &str) -> Result<(), String> {
        let file: File = toml::from_str(text).map_err(|e| {
            let line = e.span().map_or(1, |span| text[..span.start].lines().count().max(1));
            format!("line {line}: {}", e.message().lines().next().unwrap_or_default())
        })?;
        let mut rules = file.registry;
        for rule in &mut rules {
            origin.clone_into(&mut rule.origin);
            if rule.prefix.is_empty() {
                rule.prefix.clone_from(&rule.location);
            }
            if rule.prefix.is_empty() {
                return Err("a [[registry]] has neither prefix nor location".to_owned());
            }
            let places = rule.mirror.iter().map(|mirror| &mirror.location).chain(Some(&rule.location));
            if let Some(wrong) = places.into_iter().find(|place| place.contains("://")) {
                return Err(format!("{wrong:?} is a URL; want HOST[:PORT][/PATH]"));
            }
        }
        rules.append(&mut self.rules);
        self.rules = rules;
        for (short, whole) in file.aliases {
            // An empty one removes that of an earlier file.
            match whole.is_empty() {
                true => drop(self.aliases.remove(&short)),
                false => drop(self.aliases.insert(short, (whole, origin.to_owned()))),
            }
        }
        if let Some(search) = file.unqualified_search_registries {
            self.search = Some((search, origin.to_owned()));
        }
        Ok(())
    }

    /// Adds a mirror of a registry, which is asked first.
    pub(crate) fn add_mirror(&mut self, registry: &str, host: &str) {
        let mirror = Mirror { location: host.to_owned(), ..Mirror::default() };
        match self.rules.iter_mut().find(|rule| rule.prefix == registry) {
            Some(rule) => rule.mirror.push(mirror),
            None => {
                self.rules.push(Rule { prefix: registry.to_owned(), mirror: vec![mirror], ..Rule::default() });
            }
        }
    }

    /// Drops `insecure` from all rules.
    pub(crate) fn forget_insecure(&mut self) {
        for rule in &mut self.rules {
            rule.insecure = false;
            rule.mirror.iter_mut().for_each(|mirror| mirror.insecure = false);
        }
    }

    /// Hosts that may be used without TLS or with an unknown certificate.
    pub(super) fn insecure_hosts(&self) -> impl Iterator<Item = &str> {
        self.rules.iter().flat_map(|rule| {
            let own = if rule.location.is_empty() { &rule.prefix } else { &rule.location };
            let own = Some((own, rule.insecure)).into_iter();
            let all = own.chain(rule.mirror.iter().map(|mirror| (&mirror.location, mirror.insecure)));
            all.filter(|(_, insecure)| *insecure).map(|(location, _)| location.split('/').next().unwrap_or_default())
        })
    }

    /// The places to pull from: mirrors in order, then the registry itself. Err: it is blocked, or a short name means
    /// something else.
    pub(super) fn places(&self, name: &Reference) -> Result<(Vec<Place>, Place), RegistryError> {
        self.check_short(name)?;
        let Some((rule, rest)) = self.rule(name) else { return Ok((Vec::new(), own(name))) };
        if rule.blocked {
            return Err(RegistryError::Blocked { name: name.familiar(), origin: rule.origin.clone() });
        }
        let serves = |mirror: &&Mirror| match mirror.pull_from_mirror {
            PullFrom::All => !rule.mirror_by_digest_only || name.digest.is_some(),
            PullFrom::DigestOnly => name.digest.is_some(),
            PullFrom::TagOnly => name.digest.is_none(),
        };
        let mirrors = rule.mirror.iter().filter(serves).filter_map(|mirror| place(&mirror.location, rest)).collect();
        let location = if rule.location.is_empty() { None } else { place(&rule.location, rest) };
        Ok((mirrors, location.unwrap_or_else(|| own(name))))
    }

    /// Ok: the name has a registry, or nothing says that it is not of Docker Hub.
    fn check_short(&self, name: &Reference) -> Result<(), RegistryError> {
        if !name.spelling.short {
            return Ok(());
        }
        let own = name.name();
        let path = name.repository.strip_prefix("library/").unwrap_or(&name.repository);
        let (mut choices, origin) = match (self.aliases.get(path), &self.search) {
            (Some((whole, origin)), _) => {
                let whole = whole.parse().map_or_else(|_| whole.clone(), |whole: Reference| whole.name());
                (vec![whole], origin)
            }
            (None, Some((search, origin))) if !search.is_empty() => {
                let at = |registry: &String| match registry.as_str() {
                    DEFAULT_REGISTRY => own.clone(),
                    other => format!("{other}/{path}"),
                };
                (search.iter().map(at).collect::<Vec<_>>(), origin)
            }
            _ => return Ok(()),
        };
        if choices.contains(&own) {
            return Ok(());
        }
        choices.push(own.clone());
        Err(RegistryError::ShortName { name: name.familiar(), own, choices, origin: origin.clone() })
    }

    /// The rule for a name, and what follows its prefix.
    fn rule<'a>(&'a self, name: &'a Reference) -> Option<(&'a Rule, &'a str)> {
        let matching = self.rules.iter().filter_map(|rule| Some((rule, rest(&rule.prefix, name)?)));
        // Of equally long prefixes the first rule wins.
        matching.min_by_key(|(rule, _)| std::cmp::Reverse(rule.prefix.len()))
    }
}

/// What follows `prefix` in the name, without its leading slash.
fn rest<'a>(prefix: &str, name: &'a Reference) -> Option<&'a str> {
    if let Some(domain) = prefix.strip_prefix("*.") {
        let host = name.registry.split(':').next().unwrap_or_default();
        let below = host.strip_suffix(domain)?;
        return (below.ends_with('.') && below.len() > 1).then_some(name.repository.as_str());
    }
    let (registry, path) = prefix.split_once('/').unwrap_or((prefix, ""));
    if !registry.eq_ignore_ascii_case(&name.registry) {
        return None;
    }
    let rest = name.repository.strip_prefix(path.trim_end_matches('/'))?;
    if path.is_empty() {
        return Some(rest);
    }
    if rest.is_empty() { Some(rest) } else { rest.strip_prefix('/') }
}

/// `HOST[:PORT][/PATH]` with what follows the prefix.
fn place(location: &str, rest: &str) -> Option<Place> {
    let (registry, path) = location.split_once('/').unwrap_or((location, ""));
    let parts = [path.trim_matches('/'), rest];
    let repository = parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("/");
    (!registry.is_empty() && !repository.is_empty()).then(|| Place { registry: registry.to_owned(), repository })
}

fn own(name: &Reference) -> Place {
    Place { registry: name.registry.clone(), repository: name.repository.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONF: &str = r#"
unqualified-search-registries = ["docker.io"]

[[registry]]
location = "docker.io"
[[registry.mirror]]
location = "mirror.example:5000"
insecure = true
[[registry.mirror]]
location = "other.example/hub"
pull-from-mirror = "digest-only"

[[registry]]
prefix = "r.example/team"
location = "inside.example/a/b"

[[registry]]
prefix = "*.evil.example"
blocked = true

[[registry]]
location = "plain.example"
insecure = true

[aliases]
"fedora" = "registry.fedoraproject.org/fedora"
"#;

    fn places(rules: &Rules, name: &str) -> Vec<String> {
        match rules.places(&name.parse().expect("name")) {
            Ok((mirrors, own)) => {
                mirrors.iter().chain([&own]).map(|p| format!("{}/{}", p.registry, p.repository)).collect()
            }
            Err(e) => vec![e.to_string()],
        }
    }

    #[test]
    fn longest_prefix_decides_where_a_repository_is() {
        let mut rules = Rules::default();
        rules.add("registries.conf", CONF).expect("read");
        let digest = format!("debian@sha256:{}", "0".repeat(64));
        for (name, want) in [
            ("debian", &["mirror.example:5000/library/debian", "docker.io/library/debian"][..]),
            (
                &digest,
                &["mirror.example:5000/library/debian", "other.example/hub/library/debian", "docker.io/library/debian"],
            ),
            ("r.example/team/app:1", &["inside.example/a/b/app"]),
            ("r.example/team", &["inside.example/a/b"]),
            ("r.example/teams/app", &["r.example/teams/app"]),
            ("x.evil.example/app", &["x.evil.example/app:latest: blocked by registries.conf"]),
            ("evil.example/app", &["evil.example/app"]),
            ("elsewhere.example/app", &["elsewhere.example/app"]),
        ] {
            assert_eq!(places(&rules, name), want, "{name}");
        }
        assert_eq!(rules.insecure_hosts().collect::<Vec<_>>(), ["mirror.example:5000", "plain.example"]);
        // A later file comes first, and an option's mirror is one more.
        rules.add("user.conf", "[[registry]]\nlocation = 'docker.io'\n").expect("read");
        assert_eq!(places(&rules, "debian"), ["docker.io/library/debian"]);
        rules.add_mirror("docker.io", "fast.example");
        assert_eq!(places(&rules, "debian"), ["fast.example/library/debian", "docker.io/library/debian"]);
    }

    #[test]
    fn short_names_are_of_docker_hub_or_ambiguous() {
        // F-1: what Debian and Fedora install leaves `debian` alone.
        let debian = "[aliases]\n'debian' = 'docker.io/library/debian'\n'fedora' = 'registry.example/fedora'\n";
        let fedora = "unqualified-search-registries = ['registry.example', 'docker.io']\n";
        let closed = "unqualified-search-registries = ['in.example', 'registry.example:5000']\n";
        let none = "unqualified-search-registries = []\n";
        for (files, name, want) in [
            (&[debian][..], "debian", "docker.io/library/debian"),
            (&[debian], "nginx", "docker.io/library/nginx"),
            (&[debian], "fedora:41", "fedora:41: a short name, which 0.conf does not read as docker.io/library/fedora"),
            (&[debian], "docker.io/library/fedora", "docker.io/library/fedora"),
            (&[debian], "team/fedora", "docker.io/team/fedora"),
            (&[debian, "[aliases]\nfedora = ''\n"], "fedora", "docker.io/library/fedora"),
            (&[fedora], "nginx", "docker.io/library/nginx"),
            (&[closed], "a/b", "a/b:latest: a short name, which 0.conf does not read as docker.io/a/b"),
            (&[closed], "in.example/a/b", "in.example/a/b"),
            (&[closed, debian], "debian", "docker.io/library/debian"),
            (&[closed, none], "nginx", "docker.io/library/nginx"),
        ] {
            let mut rules = Rules::default();
            for (number, file) in files.iter().enumerate() {
                rules.add(&format!("{number}.conf"), file).expect("read");
            }
            assert_eq!(places(&rules, name), [want], "{files:?} {name}");
        }
        let mut rules = Rules::default();
        rules.add("x.conf", closed).expect("read");
        let Err(RegistryError::ShortName { choices, .. }) = rules.places(&"app".parse().expect("name")) else {
            panic!("app is ambiguous");
        };
        assert_eq!(choices, ["in.example/app", "registry.example:5000/app", "docker.io/library/app"]);
    }

    #[test]
    fn broken_rules_are_named_by_line() {
        let mut rules = Rules::default();
        for (text, want) in [
            ("x = 1\n[[registry]\n", "line 2: "),
            ("[[registry]]\ninsecure = true\n", "a [[registry]] has neither prefix nor location"),
            ("[[registry]]\nlocation = \"https://r\"\n", "\"https://r\" is a URL"),
            ("[[registry]]\nlocation = 3\n", "line 2: "),
        ] {
            let why = rules.add("registries.conf", text).expect_err(text);
            assert!(why.starts_with(want), "{text}: {why}");
        }
    }
}
