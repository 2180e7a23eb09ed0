//! The attributes of `--cache-from` and `--cache-to`, some of which are secrets.

use crate::cli::failure::Failure;

use super::value;

/// Attributes that no message shows.
// The last one is the end of several names.
const SECRETS: [&str; 3] = ["access_key_id=", "secret_access_key=", "token="];

/// The value of an option.
pub(super) struct Given<'a> {
    option: &'static str,
    /// The whole of it, for messages.
    shown: String,
    /// A value without attributes.
    pub(super) name: Option<&'a str>,
    /// The attributes that nobody took yet.
    pub(super) fields: Vec<(String, String)>,
}

impl<'a> Given<'a> {
    /// Reads the attributes; or the text is a name.
    pub(super) fn parse(option: &'static str, text: &'a str) -> Result<Self, Failure> {
        let mut given = Self { option, shown: without_secrets(text), name: None, fields: Vec::new() };
        if !text.contains('=') && !text.is_empty() {
            given.name = Some(text);
            return Ok(given);
        }
        let malformed = |why: String| why.replace(&format!("{text:?}"), &format!("{:?}", given.shown));
        let fields = value::fields(text).map_err(|why| Failure::usage(format!("{option} {}", malformed(why))))?;
        for (key, value) in fields {
            let value = value.ok_or_else(|| given.wrong(&format!("{key} needs a value")))?;
            given.fields.push((key, value));
        }
        Ok(given)
    }

    /// The value of an attribute; the last one, if it is repeated.
    pub(super) fn take(&mut self, key: &str) -> Option<String> {
        self.take_all(key).pop()
    }

    /// All values of an attribute that may be repeated.
    pub(super) fn take_all(&mut self, key: &str) -> Vec<String> {
        let (mine, rest) = std::mem::take(&mut self.fields).into_iter().partition(|(known, _)| known == key);
        self.fields = rest;
        let mine: Vec<(String, String)> = mine;
        mine.into_iter().map(|(_, value)| value).collect()
    }

    /// A value that cannot be used.
    pub(super) fn wrong(&self, why: &str) -> Failure {
        Failure::usage(format!("{} {:?}: {why}", self.option, self.shown))
    }

    /// An attribute that nobody took.
    pub(super) fn unsupported(&self, key: &str) -> Failure {
        let failure = self.wrong(&format!("the attribute {key} is not supported"));
        match key {
            "compression" | "compression-level" => failure.hint(format!("use --{key}, which applies to all layers")),
            "tag" | "digest" => failure.hint("omit it: entries are found by their keys"),
            "mode" => failure.hint("give mode with --cache-to"),
            "timeout" => failure.hint("use --cache-timeout, which applies to all caches"),
            "repository" | "ghtoken" => failure.hint("omit it: few requests are made, and only to the cache"),
            _ => failure.hint(
                "use type, ref, src, dest, mode and mounts, for type=s3 bucket, region, prefix and endpoint_url, for type=gha scope",
            ),
        }
    }
}

/// The text with `xxxxx` for the values of secret attributes.
fn without_secrets(text: &str) -> String {
    let mut shown = String::new();
    let mut rest = text;
    let lower = text.to_ascii_lowercase();
    let next = |from: usize| {
        let found = |name: &&str| Some(from + lower[from..].find(*name)? + name.len());
        SECRETS.iter().filter_map(found).min()
    };
    while let Some(at) = next(text.len() - rest.len()) {
        shown.push_str(&text[text.len() - rest.len()..at]);
        shown.push_str("xxxxx");
        // A quoted value may have commas: nothing after it is shown.
        let end = if text[..at].contains('"') { None } else { text[at..].find(',') };
        rest = end.map_or("", |end| &text[at + end..]);
    }
    shown + rest
}
