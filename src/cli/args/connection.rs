//! The options for registries, which all commands that use them share.

use std::path::PathBuf;

use clap::{Args, builder::TypedValueParser as _, builder::ValueParser};

use crate::dockerfile::mount::parse_bool;

/// How the registries are used that images are pulled from.
#[derive(Clone, Debug, Default, Args)]
pub(in crate::cli) struct RegistryArgs {
    /// Use this credential file alone
    ///
    /// The default is every file that docker login, podman login and kiln login write.
    #[arg(long, value_name = "FILE", help_heading = "Registries", hide_short_help = true)]
    pub(in crate::cli) authfile: Option<PathBuf>,

    /// Use this registry without TLS or without checking its certificate
    ///
    /// Registries on loopback addresses need no option.
    #[arg(long, value_name = "HOST[:PORT]", help_heading = "Registries", hide_short_help = true)]
    pub(in crate::cli) insecure_registry: Vec<String>,

    #[command(flatten)]
    pub(in crate::cli) connection: ConnectionArgs,

    /// Use this mirror first
    ///
    /// A mirror of Docker Hub, or of REGISTRY.
    #[arg(long, value_name = "[REGISTRY=]HOST[:PORT]", help_heading = "Registries", hide_short_help = true)]
    pub(in crate::cli) registry_mirror: Vec<String>,
}

/// How servers and kiln prove who they are.
#[derive(Clone, Debug, Default, Args)]
pub(in crate::cli) struct ConnectionArgs {
    /// Check the certificates of registries
    ///
    /// With false, every registry may have any certificate or speak plain HTTP. With true, registries on loopback
    /// addresses must have a valid certificate, too, and insecure in registries.conf has no effect.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(value_parser = boolean(), help_heading = "Registries", hide_short_help = true)]
    pub(in crate::cli) tls_verify: Option<bool>,

    /// Use the certificates of this directory for registries
    ///
    /// *.crt are authorities to trust, *.cert with *.key identify kiln to registries that ask. The directories certs.d
    /// are not read then.
    #[arg(long, value_name = "DIR", help_heading = "Registries", hide_short_help = true)]
    pub(in crate::cli) cert_dir: Option<PathBuf>,

    /// Trust the authorities of this PEM file in registries
    #[arg(long, value_name = "FILE", help_heading = "Registries", hide_short_help = true)]
    pub(in crate::cli) registry_ca: Vec<PathBuf>,

    #[command(flatten)]
    pub(in crate::cli) ca: CaArgs,
}

/// The authority of a network, for everything that is fetched.
#[derive(Clone, Debug, Default, Args)]
pub(in crate::cli) struct CaArgs {
    /// Trust the authorities of this PEM file in everything
    ///
    /// Registries, URLs, git and, in kiln build, every RUN trust it: a RUN sees its image's authorities and these. No
    /// layer, cache key or history holds them. The default is $KILN_CA_CERT.
    #[arg(long, value_name = "FILE", help_heading = "Registries", hide_short_help = true)]
    pub(in crate::cli) ca_cert: Option<PathBuf>,
}

fn boolean() -> ValueParser {
    let text = clap::builder::NonEmptyStringValueParser::new();
    text.try_map(|text| parse_bool(&text).ok_or("want true or false")).into()
}
