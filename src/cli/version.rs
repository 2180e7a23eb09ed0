//! `kiln version`: prints the version.

use serde_json::json;

use super::args::{Format, VersionArgs};
use super::failure;
use super::failure::Done;
use super::session::Session;

/// Prints kiln's version and the platform it builds for by default.
pub(super) fn run(args: &VersionArgs, session: &mut Session<'_>) -> Done {
    let platform = crate::oci::platform::Platform::host();
    let version = env!("CARGO_PKG_VERSION");
    match args.format {
        Format::Text => session.console.data(format_args!("kiln {version} ({platform})"))?,
        Format::Json => {
            session
                .console
                .data(format_args!("{}", json!({ "version": version, "platform": platform.to_string() })))?;
        }
    }
    Ok(failure::SUCCESS)
}
