//! Panics as messages.

use crate::ui::sanitize;

/// A panic is a bug: it says so, where it is, and the process exits with 101.
pub(in crate::cli) fn report_panics() {
    std::panic::set_hook(Box::new(|panic| {
        use std::io::Write as _;
        let what = panic.payload_as_str().unwrap_or("panic");
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        // Standard error may be gone; then nobody can be told.
        let _ = writeln!(std::io::stderr(), "error: this is a bug in kiln: {} ({place})", sanitize::text(what));
    }));
}
