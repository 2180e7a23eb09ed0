//! `kiln images --filter`.

use crate::base::time::Timestamp;
use crate::context::go_match;
use crate::oci::image::Image;
use crate::oci::platform::Platform;
use crate::store::{Entry, Store};

use super::failure::Failure;

/// What an image must be to be listed.
#[derive(Debug, Default)]
pub(super) struct Filters {
    dangling: Option<bool>,
    /// One must match.
    references: Vec<String>,
    /// All must match.
    labels: Vec<(String, Option<String>)>,
    before: Option<Timestamp>,
    since: Option<Timestamp>,
}

impl Filters {
    /// Reads `KEY=VALUE`s; images that they name must exist.
    pub(super) fn parse(texts: &[String], store: &Store) -> Result<Self, Failure> {
        let mut filters = Self::default();
        for text in texts {
            let wrong = |why: &str| Failure::usage(format!("--filter {text:?}: {why}"));
            let Some((key, value)) = text.split_once('=') else { return Err(wrong("want KEY=VALUE")) };
            let created = || -> Result<Option<Timestamp>, Failure> {
                Ok(store.image(value, &Platform::host())?.1.config.created)
            };
            match (key, value) {
                ("dangling", "true" | "1") => filters.dangling = Some(true),
                ("dangling", "false" | "0") => filters.dangling = Some(false),
                ("dangling", _) => return Err(wrong("want dangling=true or dangling=false")),
                ("reference", _) => {
                    go_match(value, "").map_err(wrong)?;
                    filters.references.push(value.to_owned());
                }
                ("label", _) => filters.labels.push(match value.split_once('=') {
                    Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
                    None => (value.to_owned(), None),
                }),
                ("before", _) => filters.before = created()?,
                ("since", _) => filters.since = created()?,
                _ => return Err(wrong("there are dangling, reference, label, before and since")),
            }
        }
        Ok(filters)
    }

    /// Whether the name, or its absence, is one to list.
    pub(super) fn admit_name(&self, entry: &Entry) -> bool {
        self.dangling.is_none_or(|unnamed| entry.name.is_none() == unnamed)
            && (self.references.is_empty() || self.references.iter().any(|pattern| is_called(entry, pattern)))
    }

    /// Whether images must be read to be filtered.
    pub(super) fn need_images(&self) -> bool {
        !self.labels.is_empty() || self.before.is_some() || self.since.is_some()
    }

    /// Whether the image is one to list; one that cannot be read has neither labels nor a time.
    pub(super) fn admit_image(&self, image: Option<&Image>) -> bool {
        let Some(image) = image else { return !self.need_images() };
        let labels = &image.config.config.labels;
        let created = image.config.created;
        self.labels.iter().all(|(name, value)| {
            let is = labels.get(name);
            is.is_some_and(|is| value.as_ref().is_none_or(|value| is == value))
        }) && self.before.is_none_or(|time| created < Some(time))
            && self.since.is_none_or(|time| created > Some(time))
    }
}

/// As in Docker, a pattern matches the whole name, or the name without its tag.
fn is_called(entry: &Entry, pattern: &str) -> bool {
    let Some(name) = &entry.name else { return false };
    let familiar = name.familiar();
    let repository = match &name.tag {
        Some(tag) => familiar.strip_suffix(&format!(":{tag}")).unwrap_or(&familiar),
        None => &familiar,
    };
    [familiar.as_str(), repository].iter().any(|text| go_match(pattern, text) == Ok(true))
}
