//! The arguments of `kiln run`.

use std::borrow::Cow;
use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;

use crate::oci::platform::Platform;
use crate::oci::reference::Reference;

use super::{ContainerArgs, NetworkArg, Pull, RegistryArgs, SnapshotterArg};

const FILES: &str = "Files";
const NETWORK: &str = "Network and devices";
const LIMITS: &str = "Hosts and limits";

/// Arguments of `kiln run`.
#[derive(Debug, Args)]
#[command(override_usage = "kiln run [OPTIONS] IMAGE [COMMAND [ARG]...]")]
pub(in crate::cli) struct RunArgs {
    /// An image, and a command to run instead of its CMD
    ///
    /// The image is given by name, digest or the beginning of a digest. All words after it are the command. The
    /// ENTRYPOINT of the image still applies.
    #[arg(value_names = ["IMAGE", "COMMAND"], required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    words: Vec<OsString>,

    /// Set an environment variable
    ///
    /// Without a value, it is taken from the environment.
    #[arg(long, short = 'e', value_name = "KEY[=VALUE]")]
    pub(in crate::cli) env: Vec<String>,

    /// Set the environment variables in this file, one per line
    #[arg(long, value_name = "FILE", hide_short_help = true)]
    pub(in crate::cli) env_file: Vec<PathBuf>,

    /// Replace the ENTRYPOINT and CMD of the image
    ///
    /// Empty for no entrypoint.
    #[arg(long, value_name = "PROGRAM")]
    pub(in crate::cli) entrypoint: Option<String>,

    /// Run in this directory
    ///
    /// It is created if it is missing.
    #[arg(long, short = 'w', value_name = "DIR")]
    pub(in crate::cli) workdir: Option<String>,

    /// Run as this user
    #[arg(long, short = 'u', value_name = "USER[:GROUP]")]
    pub(in crate::cli) user: Option<String>,

    /// Keep standard input open
    #[arg(long, short = 'i')]
    pub(in crate::cli) interactive: bool,

    /// Allocate a terminal
    #[arg(long, short = 't')]
    pub(in crate::cli) tty: bool,

    /// Run the command below an init process
    ///
    /// The init forwards signals and reaps orphans. With false the command itself is process 1, as init systems
    /// require; a command named init or systemd is process 1 by default.
    #[arg(long, value_name = "BOOL", hide_short_help = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(in crate::cli) init: Option<bool>,

    /// Choose how layers are assembled into the root of the command
    #[arg(long, value_name = "METHOD", value_enum, default_value_t, help_heading = FILES, hide_short_help = true)]
    pub(in crate::cli) snapshotter: SnapshotterArg,

    /// Remove the container afterwards
    ///
    /// No effect: containers are always removed. Accepted for Docker compatibility.
    #[arg(long, help_heading = FILES, hide_short_help = true)]
    pub(in crate::cli) rm: bool,

    /// Mount a file or directory of the host
    #[arg(long, short = 'v', value_name = "HOST:PATH[:ro]", help_heading = FILES)]
    pub(in crate::cli) volume: Vec<String>,

    /// Mount a file or directory of the host, or a tmpfs
    ///
    /// A tmpfs takes dst, tmpfs-size and tmpfs-mode.
    #[arg(long, value_name = "type=bind|tmpfs,src=HOST,dst=PATH[,ro]", help_heading = FILES, hide_short_help = true)]
    pub(in crate::cli) mount: Vec<String>,

    /// Mount a tmpfs
    #[arg(long, value_name = "PATH[:size=SIZE,mode=MODE]", help_heading = FILES, hide_short_help = true)]
    pub(in crate::cli) tmpfs: Vec<String>,

    /// Create an image from the changed files if the command succeeds
    #[arg(long, value_name = "NAME[:TAG]", help_heading = FILES)]
    pub(in crate::cli) commit: Option<Reference>,

    /// Set the network
    ///
    /// With --publish the default is private, or none where private is not available.
    #[arg(long, alias = "net", value_name = "MODE", value_enum, default_value_t, help_heading = NETWORK)]
    pub(in crate::cli) network: NetworkArg,

    /// Publish a TCP port on the host
    ///
    /// On IPv4 and IPv6, unless IP is given. Without HOST a free port is chosen and printed. FIRST-LAST on both sides
    /// publishes a range. The command gets a network of its own.
    #[arg(long, short = 'p', value_name = "[[IP:]HOST:]PORT", help_heading = NETWORK)]
    pub(in crate::cli) publish: Vec<String>,

    /// Add a host device
    ///
    /// By its path, or as VENDOR/CLASS=NAME if a CDI file describes it.
    #[arg(long, value_name = "HOST[:PATH]|NAME", help_heading = NETWORK, hide_short_help = true)]
    pub(in crate::cli) device: Vec<String>,

    /// Read CDI device descriptions from this directory
    ///
    /// The default is /etc/cdi and /var/run/cdi.
    #[arg(long, value_name = "DIR", help_heading = NETWORK, hide_short_help = true)]
    pub(in crate::cli) cdi_spec_dir: Vec<PathBuf>,

    #[command(flatten)]
    pub(in crate::cli) container: ContainerArgs,

    /// Set the host name
    #[arg(long, value_name = "NAME", default_value = "kiln", help_heading = LIMITS, hide_short_help = true)]
    pub(in crate::cli) hostname: String,

    /// Choose when to pull the image
    ///
    /// An image that is named by its id is never pulled.
    #[arg(long, value_name = "WHEN", value_enum, default_value_t)]
    pub(in crate::cli) pull: Pull,

    /// Select this platform of an image with several
    ///
    /// The default is the platform of this machine.
    #[arg(long, value_name = "OS/ARCH")]
    pub(in crate::cli) platform: Option<Platform>,

    #[command(flatten)]
    pub(in crate::cli) registries: RegistryArgs,

    /// Not supported
    #[arg(long, short = 'd', hide = true)]
    pub(in crate::cli) detach: bool,

    /// Not supported
    #[arg(long, hide = true)]
    pub(in crate::cli) name: Option<String>,

    /// Not supported
    #[arg(long, hide = true)]
    pub(in crate::cli) privileged: bool,
}

impl RunArgs {
    /// The image as named on the command line.
    pub(in crate::cli) fn image(&self) -> Cow<'_, str> {
        self.words.first().map(|word| word.to_string_lossy()).unwrap_or_default()
    }

    /// The command to run instead of the CMD of the image; empty for none.
    pub(in crate::cli) fn command(&self) -> &[OsString] {
        self.words.get(1..).unwrap_or_default()
    }
}
