//! Bytes in JSON: a string if they are UTF-8, otherwise a list of numbers.

use std::ffi::OsString;
use std::fmt;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use serde::de::{Deserialize, Deserializer, SeqAccess, Visitor};
use serde::ser::{Serialize, Serializer};

/// Bytes as sent over the wire.
pub(super) struct Bytes(Vec<u8>);

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match std::str::from_utf8(&self.0) {
            Ok(text) => serializer.serialize_str(text),
            Err(_) => serializer.collect_seq(&self.0),
        }
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Bytes;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or a list of bytes")
            }

            fn visit_str<E>(self, text: &str) -> Result<Bytes, E> {
                Ok(Bytes(text.as_bytes().to_vec()))
            }

            fn visit_string<E>(self, text: String) -> Result<Bytes, E> {
                Ok(Bytes(text.into_bytes()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Bytes, A::Error> {
                let mut bytes = Vec::new();
                while let Some(byte) = seq.next_element()? {
                    bytes.push(byte);
                }
                Ok(Bytes(bytes))
            }
        }
        deserializer.deserialize_any(Either)
    }
}

/// A type that is sent as [`Bytes`].
pub(super) trait Raw: Sized {
    /// Its form on the wire.
    type Wire: Serialize + for<'de> Deserialize<'de>;
    /// To the wire.
    fn wire(&self) -> Self::Wire;
    /// From the wire.
    fn unwire(wire: Self::Wire) -> Self;
}

impl Raw for Vec<u8> {
    type Wire = Bytes;

    fn wire(&self) -> Bytes {
        Bytes(self.clone())
    }

    fn unwire(wire: Bytes) -> Self {
        wire.0
    }
}

impl Raw for OsString {
    type Wire = Bytes;

    fn wire(&self) -> Bytes {
        Bytes(self.clone().into_vec())
    }

    fn unwire(wire: Bytes) -> Self {
        OsString::from_vec(wire.0)
    }
}

impl Raw for PathBuf {
    type Wire = Bytes;

    fn wire(&self) -> Bytes {
        Bytes(self.clone().into_os_string().into_vec())
    }

    fn unwire(wire: Bytes) -> Self {
        OsString::from_vec(wire.0).into()
    }
}

impl<T: Raw> Raw for Option<T> {
    type Wire = Option<T::Wire>;

    fn wire(&self) -> Self::Wire {
        self.as_ref().map(Raw::wire)
    }

    fn unwire(wire: Self::Wire) -> Self {
        wire.map(Raw::unwire)
    }
}

macro_rules! raw_list {
    ($($item:ty),*) => {$(
        impl Raw for Vec<$item> {
            type Wire = Vec<<$item as Raw>::Wire>;

            fn wire(&self) -> Self::Wire {
                self.iter().map(Raw::wire).collect()
            }

            fn unwire(wire: Self::Wire) -> Self {
                wire.into_iter().map(Raw::unwire).collect()
            }
        }
    )*};
}

raw_list!(OsString, PathBuf, (OsString, OsString));

impl Raw for (OsString, OsString) {
    type Wire = (Bytes, Bytes);

    fn wire(&self) -> Self::Wire {
        (self.0.wire(), self.1.wire())
    }

    fn unwire(wire: Self::Wire) -> Self {
        (Raw::unwire(wire.0), Raw::unwire(wire.1))
    }
}

/// For `#[serde(with = "raw")]`.
pub(super) fn serialize<T: Raw, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
    value.wire().serialize(serializer)
}

/// For `#[serde(with = "raw")]`.
pub(super) fn deserialize<'de, T: Raw, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    T::Wire::deserialize(deserializer).map(T::unwire)
}
