//! The programs that connect a private network.

use std::io;
use std::net::Ipv4Addr;
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};

/// The directories of helpers. The user's `PATH` is not trusted.
const DIRS: &[&str] = &["/usr/bin", "/bin", "/usr/local/bin", "/usr/sbin", "/run/current-system/sw/bin"];

/// A program that forwards packets between a private network and the host's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum NetworkHelper {
    /// From the package `passt`.
    Pasta,
    /// From the package of that name.
    Slirp4netns,
}

impl NetworkHelper {
    /// The first one that is installed.
    pub fn find() -> Option<Self> {
        [Self::Pasta, Self::Slirp4netns].into_iter().find(|helper| helper.program().is_some())
    }

    /// The program's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pasta => "pasta",
            Self::Slirp4netns => "slirp4netns",
        }
    }

    /// Where it is installed.
    pub(super) fn program(self) -> Option<String> {
        DIRS.iter().map(|dir| format!("{dir}/{}", self.name())).find(|path| Path::new(path).exists())
    }

    /// The address in the sandbox where it forwards DNS queries to the host's resolver.
    pub(super) fn resolver(self) -> Ipv4Addr {
        match self {
            Self::Pasta => Ipv4Addr::new(169, 254, 1, 1),
            Self::Slirp4netns => Ipv4Addr::new(10, 0, 2, 3),
        }
    }

    /// Its command line, for the network namespace that is open as this descriptor.
    pub(super) fn command(self, netns: i32, real_root: bool) -> Vec<String> {
        let netns = format!("/proc/self/fd/{netns}");
        let words: Vec<&str> = match self {
            // The sandbox reaches no loopback address or port of the host, and the host none of the sandbox.
            Self::Pasta => {
                let mut words = vec!["pasta", "--config-net", "--foreground", "--quiet", "--no-map-gw"];
                words.extend(["-t", "none", "-u", "none", "-T", "none", "-U", "none"]);
                words.extend(["--dns-forward", "169.254.1.1", "--netns-only", "--netns", &netns]);
                if real_root {
                    words.extend(["--runas", "0:0"]);
                }
                words
            }
            Self::Slirp4netns => {
                let mut words = vec!["slirp4netns", "--configure", "--mtu=65520", "--disable-host-loopback"];
                words.extend(["--netns-type=path", &netns, "tap0"]);
                words
            }
        };
        words.into_iter().map(str::to_owned).collect()
    }
}

/// Why a private network is not available.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NoPrivateNetwork {
    /// No helper is installed.
    NoHelper,
    /// There is no `/dev/net/tun`.
    NoTunDevice,
    /// `/dev/net/tun` cannot be opened; the error of the system.
    TunDenied(String),
}

/// The helper for a private network, or what is missing.
pub(crate) fn private_network() -> Result<NetworkHelper, NoPrivateNetwork> {
    let helper = NetworkHelper::find().ok_or(NoPrivateNetwork::NoHelper)?;
    match rustix::fs::open("/dev/net/tun", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()) {
        Ok(_) => Ok(helper),
        Err(rustix::io::Errno::NOENT) => Err(NoPrivateNetwork::NoTunDevice),
        Err(e) => Err(NoPrivateNetwork::TunDenied(io::Error::from(e).to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn helper_command_opens_no_port() {
        let pasta = NetworkHelper::Pasta.command(9, true).join(" ");
        for part in ["-t none", "-u none", "-T none", "-U none", "--no-map-gw", "/proc/self/fd/9", "--runas 0:0"] {
            assert!(pasta.contains(part), "{part}: {pasta}");
        }
        assert!(!NetworkHelper::Pasta.command(9, false).join(" ").contains("--runas"));
        assert!(NetworkHelper::Slirp4netns.command(9, false).join(" ").contains("--disable-host-loopback"));
    }
}
