//! Platforms: `os/arch[/variant]` (image-spec `image-index.md`; F-6).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::base::json::null_default;

/// An operating system and a processor. The variant is normalised: `arm64/v8` is `arm64`, `arm` is `arm/v7`, `amd64/v1` is `amd64`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Platform {
    /// `GOARCH`.
    pub architecture: String,
    /// `GOOS`.
    pub os: String,
    /// The version of the operating system, as on Windows; kept from the base image.
    #[serde(rename = "os.version", default, skip_serializing_if = "Option::is_none")]
    pub os_version: Option<String>,
    /// Required features of the operating system; kept from the base image.
    #[serde(rename = "os.features", default, deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub os_features: Vec<String>,
    /// The CPU variant, unless it is the architecture's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

/// Text that does not name a platform.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("invalid platform {0:?}: want os/arch or os/arch/variant, for example linux/arm64")]
pub struct InvalidPlatform(pub String);

impl Platform {
    /// A platform without variant or version.
    pub fn new(os: &str, architecture: &str) -> Self {
        Self {
            architecture: architecture.to_owned(),
            os: os.to_owned(),
            os_version: None,
            os_features: Vec::new(),
            variant: None,
        }
        .normalized()
    }

    /// The platform of this binary.
    pub(crate) fn host() -> Self {
        let arch = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            "x86" => "386",
            "powerpc64" => "ppc64le",
            other => other,
        };
        Self::new("linux", arch)
    }

    /// The normal spelling, as in containerd's `platforms`.
    pub(crate) fn normalized(mut self) -> Self {
        self.os = match self.os.to_ascii_lowercase().as_str() {
            "macos" => "darwin".to_owned(),
            other => other.to_owned(),
        };
        let variant = self.variant.take().filter(|v| !v.is_empty()).map(|v| v.to_ascii_lowercase());
        let (arch, variant) = match (self.architecture.to_ascii_lowercase().as_str(), variant) {
            ("aarch64" | "arm64", v) => ("arm64", v.filter(|v| v != "8" && v != "v8")),
            ("x86_64" | "x86-64" | "amd64", v) => ("amd64", v.filter(|v| v != "v1")),
            ("i386", _) => ("386", None),
            ("armhf", _) => ("arm", Some("v7".to_owned())),
            ("armel", _) => ("arm", Some("v6".to_owned())),
            ("arm", None) => ("arm", Some("v7".to_owned())),
            ("arm", Some(v)) if !v.starts_with('v') => ("arm", Some(format!("v{v}"))),
            (other, v) => {
                self.architecture = other.to_owned();
                self.variant = v;
                return self;
            }
        };
        self.architecture = arch.to_owned();
        self.variant = variant;
        self
    }

    /// How well this platform runs images for `other`: smaller is better, `None` = not at all.
    /// arm v7 runs v6 and v5, amd64 v3 runs v2 and v1.
    pub(crate) fn distance(&self, other: &Platform) -> Option<u32> {
        if self.os != other.os || self.architecture != other.architecture {
            return None;
        }
        let default = if self.architecture == "arm" {
            7
        } else if self.architecture == "arm64" {
            8
        } else {
            1
        };
        let level = |p: &Platform| match p.variant.as_deref() {
            None => Some(default),
            Some(v) => v.strip_prefix('v').and_then(|n| n.parse::<u32>().ok()),
        };
        match (level(self), level(other)) {
            (Some(have), Some(want)) => have.checked_sub(want),
            _ => (self.variant == other.variant).then_some(0),
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(v) => write!(f, "/{v}"),
            None => Ok(()),
        }
    }
}

impl FromStr for Platform {
    type Err = InvalidPlatform;

    fn from_str(text: &str) -> Result<Self, InvalidPlatform> {
        let invalid = || InvalidPlatform(text.to_owned());
        let ok =
            |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b));
        let parts: Vec<&str> = text.split('/').collect();
        if !parts.iter().all(|p| ok(p)) {
            return Err(invalid());
        }
        let mut platform = match parts.as_slice() {
            ["local"] => return Ok(Platform::host()),
            [os @ ("linux" | "windows" | "darwin" | "freebsd")] => Platform::new(os, &Platform::host().architecture),
            [arch @ ("amd64" | "arm64" | "arm" | "386" | "ppc64le" | "s390x" | "riscv64" | "x86_64" | "aarch64")] => {
                Platform::new("linux", arch)
            }
            [os, arch] | [os, arch, _] => Platform {
                architecture: (*arch).to_owned(),
                os: (*os).to_owned(),
                os_version: None,
                os_features: Vec::new(),
                variant: None,
            },
            _ => return Err(invalid()),
        };
        if let [_, _, variant] = parts.as_slice() {
            platform.variant = Some((*variant).to_owned());
        }
        Ok(platform.normalized())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn platforms_are_normalised_and_compared_f6() {
        for (text, want) in [
            ("linux/amd64", "linux/amd64"),
            ("linux/x86_64/v1", "linux/amd64"),
            ("linux/arm64/v8", "linux/arm64"),
            ("linux/arm", "linux/arm/v7"),
            ("linux/arm/6", "linux/arm/v6"),
            ("arm64", "linux/arm64"),
            ("Linux/AMD64", "linux/amd64"),
        ] {
            assert_eq!(text.parse::<Platform>().map(|p| p.to_string()), Ok(want.to_owned()));
        }
        for bad in ["", "/", "linux/", "a/b/c/d", "linux amd64", "nonsense"] {
            assert!(bad.parse::<Platform>().is_err(), "{bad}");
        }
        let p = |s: &str| s.parse::<Platform>().expect("platform");
        assert_eq!(p("linux/arm/v7").distance(&p("linux/arm/v6")), Some(1));
        assert_eq!(p("linux/arm/v6").distance(&p("linux/arm/v7")), None);
        assert_eq!(p("linux/amd64").distance(&p("linux/arm64")), None);
        assert_eq!(p("linux/amd64").distance(&p("linux/amd64")), Some(0));
    }
}
