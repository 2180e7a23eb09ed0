//! What a manifest answer is: three places may say so, and they must agree (S-54).

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::oci::descriptor::{DOCKER_INDEX, DOCKER_MANIFEST, INDEX, MANIFEST};

/// What we ask for, best first.
pub(super) const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.v2+json, */*;q=0.1";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Shape<'a> {
    #[serde(default)]
    media_type: Option<String>,
    #[serde(borrow, default)]
    manifests: Option<&'a RawValue>,
    #[serde(borrow, default)]
    layers: Option<&'a RawValue>,
    #[serde(borrow, default)]
    config: Option<&'a RawValue>,
    #[serde(borrow, default)]
    fs_layers: Option<&'a RawValue>,
}

/// The media type of a manifest or index, from its own `mediaType`, else from `Content-Type`, else from its shape.
/// A document that is both, or is labelled as what it is not, is refused (CVE-2021-41190).
pub(super) fn media_type(content_type: Option<&str>, body: &[u8]) -> Result<&'static str, String> {
    let shape: Shape<'_> = serde_json::from_slice(body).map_err(|e| format!("not a manifest: {e}"))?;
    if shape.fs_layers.is_some() {
        return Err(
            "a Docker schema 1 manifest, which is not supported; push the image again with a current tool".into()
        );
    }
    let is_index = match (shape.manifests.is_some(), shape.layers.is_some() || shape.config.is_some()) {
        (true, false) => true,
        (false, true) => false,
        (true, true) => return Err("has both a manifest's and an index's fields".to_owned()),
        (false, false) => return Err("neither a manifest nor an index".to_owned()),
    };
    let header = content_type.map(|t| t.split(';').next().unwrap_or_default().trim()).and_then(known);
    let declared = match shape.media_type.as_deref() {
        Some(text) => Some(known(text).ok_or_else(|| format!("has media type {text:?}, which is no image's"))?),
        None => None,
    };
    let default = if is_index { INDEX } else { MANIFEST };
    let chosen = declared.or(header).unwrap_or(default);
    for label in [declared, header].into_iter().flatten() {
        if matches!(label, INDEX | DOCKER_INDEX) != is_index {
            let is = if is_index { "an index" } else { "a manifest" };
            return Err(format!("labelled {label} but is {is}"));
        }
    }
    Ok(chosen)
}

pub(super) fn known(text: &str) -> Option<&'static str> {
    [INDEX, DOCKER_INDEX, MANIFEST, DOCKER_MANIFEST].into_iter().find(|known| *known == text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_and_shape_must_agree_s54() {
        let m = |extra: &str| format!(r#"{{"schemaVersion":2,"config":{{}},"layers":[]{extra}}}"#);
        let i = r#"{"schemaVersion":2,"manifests":[]}"#;
        assert_eq!(media_type(None, m("").as_bytes()), Ok(MANIFEST));
        assert_eq!(media_type(Some("application/json"), i.as_bytes()), Ok(INDEX));
        let docker = format!("{DOCKER_MANIFEST}; charset=utf-8");
        assert_eq!(media_type(Some(&docker), m("").as_bytes()), Ok(DOCKER_MANIFEST));
        let declared = m(&format!(r#","mediaType":"{MANIFEST}""#));
        assert_eq!(media_type(Some(DOCKER_MANIFEST), declared.as_bytes()), Ok(MANIFEST));
        for (header, body) in [
            (Some(INDEX), m("")),
            (Some(MANIFEST), i.to_owned()),
            (None, m(&format!(r#","mediaType":"{INDEX}""#))),
            (None, m(r#","manifests":[]"#)),
            (None, m(r#","mediaType":"application/vnd.example""#)),
            (None, r#"{"schemaVersion":1,"fsLayers":[]}"#.to_owned()),
            (None, "{}".to_owned()),
            (None, "<html>".to_owned()),
        ] {
            assert!(media_type(header, body.as_bytes()).is_err(), "{header:?} {body}");
        }
    }
}
