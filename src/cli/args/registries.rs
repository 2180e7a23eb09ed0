//! The arguments of the commands for registries, and the options that they share.

use std::path::PathBuf;

use clap::Args;

use crate::oci::platform::Platform;
use crate::oci::reference::Reference;

use super::{ConnectionArgs, RegistryArgs};

/// Arguments of `kiln pull`.
#[derive(Debug, Args)]
pub(in crate::cli) struct PullArgs {
    /// The name of an image in a registry
    #[arg(value_name = "NAME[:TAG|@DIGEST]")]
    pub(in crate::cli) name: Reference,

    /// Pull this platform of an image with several
    ///
    /// The default is the platform of this machine.
    #[arg(long, value_name = "OS/ARCH")]
    pub(in crate::cli) platform: Option<Platform>,

    /// Pull all platforms of an image with several
    ///
    /// The image then stands for all of them in the store: a push of it gives the same digest.
    #[arg(long, conflicts_with = "platform")]
    pub(in crate::cli) all_platforms: bool,

    #[command(flatten)]
    pub(in crate::cli) registries: RegistryArgs,

    /// Print only the digest
    #[arg(short, long)]
    pub(in crate::cli) quiet: bool,
}

/// Arguments of `kiln push`.
#[derive(Debug, Args)]
pub(in crate::cli) struct PushArgs {
    /// Images, by the names that they get in their registries
    #[arg(value_name = "NAME[:TAG]", required = true)]
    pub(in crate::cli) names: Vec<Reference>,

    /// Push all tags of each name
    #[arg(short, long)]
    pub(in crate::cli) all_tags: bool,

    /// Push only this platform of an image with several
    ///
    /// The default is all that the image has in the store.
    #[arg(long, value_name = "OS/ARCH")]
    pub(in crate::cli) platform: Option<Platform>,

    /// Write the digest to this file
    #[arg(long, value_name = "FILE", conflicts_with = "all_tags")]
    pub(in crate::cli) digestfile: Option<PathBuf>,

    /// Use this credential file alone
    ///
    /// The default is every file that docker login, podman login and kiln login write.
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) authfile: Option<PathBuf>,

    /// Use this registry without TLS or without checking its certificate
    ///
    /// Registries on loopback addresses need no option.
    #[arg(long, value_name = "HOST[:PORT]")]
    pub(in crate::cli) insecure_registry: Vec<String>,

    #[command(flatten)]
    pub(in crate::cli) connection: ConnectionArgs,

    /// Print only the names
    #[arg(short, long)]
    pub(in crate::cli) quiet: bool,
}

/// Arguments of `kiln login`.
#[derive(Debug, Args)]
pub(in crate::cli) struct LoginArgs {
    /// The registry; without one, Docker Hub
    #[arg(value_name = "HOST[:PORT]")]
    pub(in crate::cli) registry: Option<String>,

    /// Set the user name
    #[arg(short, long, value_name = "NAME")]
    pub(in crate::cli) username: Option<String>,

    /// Set the password or access token
    ///
    /// Other users of this host can see it in the list of processes.
    #[arg(short, long, value_name = "PASSWORD", conflicts_with = "password_stdin")]
    pub(in crate::cli) password: Option<String>,

    /// Read the password from standard input
    #[arg(long)]
    pub(in crate::cli) password_stdin: bool,

    #[command(flatten)]
    pub(in crate::cli) file: AuthFileArgs,

    /// Use this registry without TLS or without checking its certificate
    ///
    /// Registries on loopback addresses need no option.
    #[arg(long, value_name = "HOST[:PORT]")]
    pub(in crate::cli) insecure_registry: Vec<String>,

    #[command(flatten)]
    pub(in crate::cli) connection: ConnectionArgs,
}

/// Arguments of `kiln logout`.
#[derive(Debug, Args)]
pub(in crate::cli) struct LogoutArgs {
    /// The registry; without one, Docker Hub
    #[arg(value_name = "HOST[:PORT]")]
    pub(in crate::cli) registry: Option<String>,

    #[command(flatten)]
    pub(in crate::cli) file: AuthFileArgs,
}

/// Which credential file is written.
#[derive(Debug, Args)]
pub(in crate::cli) struct AuthFileArgs {
    /// Use this credential file
    ///
    /// The default is $REGISTRY_AUTH_FILE, else $DOCKER_CONFIG/config.json, else ~/.docker/config.json.
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) authfile: Option<PathBuf>,
}
