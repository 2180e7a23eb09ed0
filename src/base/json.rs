//! JSON as Go programs write it: `null` for an empty list, map, string or number.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};

/// Reads `null` as the default. Together with `#[serde(default)]`, a field that is `null` is one that is absent.
pub(crate) fn null_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(d: D) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(d)?.unwrap_or_default())
}

/// Reads a map; `null` is the empty map, or the default of one value.
pub(crate) fn null_values<'de, D: Deserializer<'de>, V: Default + Deserialize<'de>>(
    d: D,
) -> Result<BTreeMap<String, V>, D::Error> {
    let map: BTreeMap<String, Option<V>> = null_default(d)?;
    Ok(map.into_iter().map(|(key, value)| (key, value.unwrap_or_default())).collect())
}
