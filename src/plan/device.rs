//! Device names of `RUN --device`, as the Container Device Interface (CDI) defines them.

use std::fmt;

/// `VENDOR/CLASS`, and which devices of that kind.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DeviceName {
    /// `vendor.com/class`.
    pub kind: String,
    /// Which devices of that kind.
    pub pick: Pick,
}

/// Which devices of a kind.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pick {
    /// The first by name: no name was given.
    First,
    /// All: `*`.
    All,
    /// The one with this name; if there is none, all devices whose annotations give this class.
    Named(String),
}

/// One `--device` of a RUN.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Device {
    /// Its name.
    pub name: DeviceName,
    /// A missing device is an error; otherwise the command runs without it.
    pub required: bool,
}

impl DeviceName {
    /// Parses `VENDOR/CLASS`, `VENDOR/CLASS=NAME` or `VENDOR/CLASS=*`. Err: why it is invalid.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (kind, name) = text.split_once('=').unwrap_or((text, ""));
        check_kind(kind)?;
        let pick = match name {
            "" => Pick::First,
            "*" => Pick::All,
            name => {
                check_name(name)?;
                Pick::Named(name.to_owned())
            }
        };
        Ok(Self { kind: kind.to_owned(), pick })
    }
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.pick {
            Pick::First => write!(f, "{}", self.kind),
            Pick::All => write!(f, "{}=*", self.kind),
            Pick::Named(name) => write!(f, "{}={name}", self.kind),
        }
    }
}

/// Whether `text` is `VENDOR/CLASS`. Err: why not.
pub(crate) fn check_kind(text: &str) -> Result<(), String> {
    let Some((vendor, class)) = text.split_once('/') else {
        return Err(format!("{text:?} is not a device kind: want VENDOR/CLASS, for example vendor.com/gpu"));
    };
    for (what, part) in [("vendor", vendor), ("class", class)] {
        if !part.starts_with(|c: char| c.is_ascii_alphabetic()) || !is_word(part, "_-.") {
            return Err(format!(
                "{part:?} is not a {what}: want a letter, then letters, digits and `_-.`, then a letter or digit"
            ));
        }
    }
    Ok(())
}

/// Whether `text` is a valid name of one device of a kind. Err: why not.
pub(crate) fn check_name(text: &str) -> Result<(), String> {
    if text.starts_with(|c: char| c.is_ascii_alphanumeric()) && is_word(text, "_-.:") {
        return Ok(());
    }
    Err(format!("{text:?} is not a device name: want letters and digits, with `_-.:` only between them"))
}

fn is_word(text: &str, between: &str) -> bool {
    text.ends_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || between.contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parse_reads_device_kind_and_selection() {
        //
        for (text, pick) in [
            ("vendor.com/gpu", Pick::First),
            ("vendor.com/gpu=*", Pick::All),
            ("vendor.com/gpu=0", Pick::Named("0".to_owned())),
            ("v/c=a:b_c-d.e", Pick::Named("a:b_c-d.e".to_owned())),
        ] {
            let read = DeviceName::parse(text).unwrap();
            assert_eq!((read.pick.clone(), read.to_string()), (pick, text.to_owned()), "{text}");
        }
        assert_eq!(DeviceName::parse("v.com/c=").unwrap().pick, Pick::First);
        for wrong in ["", "gpu", "gpu=0", "/gpu", "v/", "v/c/d=0", "1v/c", "v-/c", "v/$c", "v/c=-", "v/c=a b", "v/c=$x"]
        {
            assert!(DeviceName::parse(wrong).is_err(), "{wrong}");
        }
    }
}
