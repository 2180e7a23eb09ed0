//! The media type of a manifest response: three places may state it, and they must agree (S-54).

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use crate::oci::descriptor::{DOCKER_INDEX, DOCKER_MANIFEST, INDEX, MANIFEST};

/// The accepted media types, preferred ones first.
pub(super) const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.v2+json, */*;q=0.1";

/// The media type of a manifest or index, from its own `mediaType`, else from `Content-Type`, else from its shape.
/// A document that could be either, or whose label contradicts its shape, is refused (CVE-2021-41190).
pub(super) fn media_type(content_type: Option<&str>, body: &[u8]) -> Result<&'static str, String> {
    let not_a_manifest = |e: serde_json::Error| format!("not a manifest: {e}");
    let fields: BTreeMap<String, &RawValue> = serde_json::from_slice(body).map_err(not_a_manifest)?;
    // Go writes `null` for an empty list; such a field does not decide the shape (N-20).
    let has = |name: &str| fields.get(name).is_some_and(|value| value.get() != "null");
    if has("fsLayers") {
        return Err(
            "a Docker schema 1 manifest, which is not supported; push the image again with a current tool".into()
        );
    }
    let is_index = match (has("manifests"), has("layers") || has("config")) {
        (true, false) => true,
        (false, true) => false,
        (false, false) if fields.contains_key("manifests") => true,
        (true, true) => return Err("has both a manifest's and an index's fields".to_owned()),
        (false, false) => return Err("neither a manifest nor an index".to_owned()),
    };
    let header = content_type.map(|t| t.split(';').next().unwrap_or_default().trim()).and_then(known);
    let declared = match fields.get("mediaType") {
        Some(value) => serde_json::from_str::<Option<String>>(value.get()).map_err(not_a_manifest)?,
        None => None,
    };
    let declared = match declared.as_deref() {
        Some(text) => Some(known(text).ok_or_else(|| format!("has media type {text:?}, which is not an image's"))?),
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

/// The media type, if it is one of a manifest or index.
pub(super) fn known(text: &str) -> Option<&'static str> {
    [INDEX, DOCKER_INDEX, MANIFEST, DOCKER_MANIFEST].into_iter().find(|known| *known == text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn media_type_and_shape_must_agree_s54() {
        let m = |extra: &str| format!(r#"{{"schemaVersion":2,"config":{{}},"layers":[]{extra}}}"#);
        let i = r#"{"schemaVersion":2,"manifests":[]}"#;
        assert_eq!(media_type(None, m("").as_bytes()), Ok(MANIFEST));
        assert_eq!(media_type(Some("application/json"), i.as_bytes()), Ok(INDEX));
        let docker = format!("{DOCKER_MANIFEST}; charset=utf-8");
        assert_eq!(media_type(Some(&docker), m("").as_bytes()), Ok(DOCKER_MANIFEST));
        let declared = m(&format!(r#","mediaType":"{MANIFEST}""#));
        assert_eq!(media_type(Some(DOCKER_MANIFEST), declared.as_bytes()), Ok(MANIFEST));
        for (is, null) in [
            (MANIFEST, r#"{"config":{},"layers":null}"#),
            (MANIFEST, r#"{"config":{},"layers":null,"manifests":null,"mediaType":null}"#),
            (INDEX, r#"{"manifests":null}"#),
            (INDEX, r#"{"manifests":[],"layers":null,"config":null,"fsLayers":null}"#),
        ] {
            assert_eq!(media_type(None, null.as_bytes()), Ok(is), "{null}");
        }
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
