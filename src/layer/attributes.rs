//! Extended attributes as entries hold them.

use std::collections::BTreeMap;
use std::ops::Deref;

type Map = BTreeMap<Vec<u8>, Vec<u8>>;

static NONE: Map = Map::new();

/// Extended attributes by full name (`user.x`, `security.capability`), in order. Few files have any and trees hold millions of
/// files: an empty list takes no more than a pointer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attributes(Option<Box<Map>>);

impl Attributes {
    /// Adds an attribute and returns its former value.
    pub fn insert(&mut self, name: Vec<u8>, value: Vec<u8>) -> Option<Vec<u8>> {
        self.0.get_or_insert_default().insert(name, value)
    }

    /// Keeps the attributes whose names `keep` accepts.
    pub fn retain(&mut self, mut keep: impl FnMut(&[u8]) -> bool) {
        let Some(map) = &mut self.0 else { return };
        map.retain(|name, _| keep(name));
        if map.is_empty() {
            self.0 = None;
        }
    }
}

impl From<Map> for Attributes {
    fn from(map: Map) -> Self {
        Self((!map.is_empty()).then(|| Box::new(map)))
    }
}

impl Deref for Attributes {
    type Target = Map;

    fn deref(&self) -> &Map {
        self.0.as_deref().unwrap_or(&NONE)
    }
}

impl<'a> IntoIterator for &'a Attributes {
    type Item = (&'a Vec<u8>, &'a Vec<u8>);
    type IntoIter = std::collections::btree_map::Iter<'a, Vec<u8>, Vec<u8>>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}
