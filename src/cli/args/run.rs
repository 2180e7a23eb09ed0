//! The arguments of `kiln run`.

use std::borrow::Cow;
use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;

use crate::oci::platform::Platform;
use crate::oci::reference::Reference;

use super::{AroundArgs, NetworkArg, SnapshotterArg};

const COMMAND: &str = "The command";
const FILES: &str = "Its files";
const AROUND: &str = "Around commands";

/// Arguments of `kiln run`.
#[derive(Debug, Args)]
#[command(override_usage = "kiln run [OPTIONS] IMAGE [COMMAND [ARG]...]")]
pub(in crate::cli) struct RunArgs {
    /// An image (a name, a digest or the beginning of one), and what to run instead of its CMD: everything after the
    /// image belongs to the command. The image's ENTRYPOINT stays in front
    #[arg(value_names = ["IMAGE", "COMMAND"], required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    words: Vec<OsString>,

    /// Set an environment variable; without a value, to what it is here
    #[arg(long, short = 'e', value_name = "KEY[=VALUE]", help_heading = COMMAND)]
    pub(in crate::cli) env: Vec<String>,

    /// Set the environment variables in a file, one KEY=VALUE a line
    #[arg(long, value_name = "FILE", help_heading = COMMAND)]
    pub(in crate::cli) env_file: Vec<PathBuf>,

    /// Run this instead of the image's ENTRYPOINT and CMD; empty for no entrypoint
    #[arg(long, value_name = "PROGRAM", help_heading = COMMAND)]
    pub(in crate::cli) entrypoint: Option<String>,

    /// Run in this directory, made if it is missing
    #[arg(long, short = 'w', value_name = "DIR", help_heading = COMMAND)]
    pub(in crate::cli) workdir: Option<String>,

    /// Run as this user
    #[arg(long, short = 'u', value_name = "USER[:GROUP]", help_heading = COMMAND)]
    pub(in crate::cli) user: Option<String>,

    /// Pass standard input on
    #[arg(long, short = 'i', help_heading = COMMAND)]
    pub(in crate::cli) interactive: bool,

    /// Give the command a terminal
    #[arg(long, short = 't', help_heading = COMMAND)]
    pub(in crate::cli) tty: bool,

    /// Keep kiln's init as process 1, which forwards signals and reaps orphans; with false the command is process 1
    ///
    /// An init system insists on being process 1; a command named init or systemd is so by default.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", help_heading = COMMAND)]
    pub(in crate::cli) init: Option<bool>,

    /// How layers become the command's files: stacked by overlayfs, or copied
    #[arg(long, value_name = "HOW", value_enum, default_value_t, help_heading = FILES)]
    pub(in crate::cli) snapshotter: SnapshotterArg,

    /// Keep nothing of the run: always so, and accepted for those who are used to it
    #[arg(long, help_heading = FILES)]
    pub(in crate::cli) rm: bool,

    /// Show a file or directory of the host inside
    #[arg(long, short = 'v', value_name = "HOST:INSIDE[:ro]", help_heading = FILES)]
    pub(in crate::cli) volume: Vec<String>,

    /// The same, or an empty file system in memory, in long form
    #[arg(long, value_name = "type=bind|tmpfs,src=HOST,dst=INSIDE[,ro]", help_heading = FILES)]
    pub(in crate::cli) mount: Vec<String>,

    /// An empty file system in memory
    #[arg(long, value_name = "INSIDE[:size=SIZE,mode=MODE]", help_heading = FILES)]
    pub(in crate::cli) tmpfs: Vec<String>,

    /// Make an image of what the command changed, if it succeeds
    #[arg(long, value_name = "NAME[:TAG]", help_heading = FILES)]
    pub(in crate::cli) commit: Option<Reference>,

    /// The network. With --publish, the default is private, or none where that is not to be had
    #[arg(long, alias = "net", value_name = "MODE", value_enum, default_value_t, help_heading = AROUND)]
    pub(in crate::cli) network: NetworkArg,

    /// Give the command a network of its own, and lead a port of the host into it: TCP, over IPv4 and IPv6 unless IP says
    /// otherwise. Without HOST one that is free, which is said. FIRST-LAST on both sides is several
    #[arg(long, short = 'p', value_name = "[[IP:]HOST:]INSIDE", help_heading = AROUND)]
    pub(in crate::cli) publish: Vec<String>,

    /// Show a device of the host inside: by its path, or as VENDOR/CLASS=NAME with what its description (CDI) adds
    #[arg(long, value_name = "HOST[:INSIDE]|NAME", help_heading = AROUND)]
    pub(in crate::cli) device: Vec<String>,

    /// Look in this directory for the descriptions of devices [default: /etc/cdi and /var/run/cdi]
    #[arg(long, value_name = "DIR", help_heading = AROUND)]
    pub(in crate::cli) cdi_spec_dir: Vec<PathBuf>,

    #[command(flatten)]
    pub(in crate::cli) around: AroundArgs,

    /// The host name inside
    #[arg(long, value_name = "NAME", default_value = "kiln", help_heading = AROUND)]
    pub(in crate::cli) hostname: String,

    /// Of an image for several platforms, run this one [default: this machine's]
    #[arg(long, value_name = "OS/ARCH[/VARIANT]", help_heading = AROUND)]
    pub(in crate::cli) platform: Option<Platform>,

    /// Not known here
    #[arg(long, short = 'd', hide = true)]
    pub(in crate::cli) detach: bool,

    /// Not known here
    #[arg(long, hide = true)]
    pub(in crate::cli) name: Option<String>,

    /// Not known here
    #[arg(long, hide = true)]
    pub(in crate::cli) privileged: bool,
}

impl RunArgs {
    /// The image's name, digest or the beginning of one.
    pub(in crate::cli) fn image(&self) -> Cow<'_, str> {
        self.words.first().map(|word| word.to_string_lossy()).unwrap_or_default()
    }

    /// What to run instead of the image's CMD, if anything.
    pub(in crate::cli) fn command(&self) -> &[OsString] {
        self.words.get(1..).unwrap_or_default()
    }
}
