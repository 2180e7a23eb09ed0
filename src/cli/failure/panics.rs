//! Panics as messages.

use crate::ui::sanitize;

/// Reports panics as bugs, with their place in the source. The process exits with 101.
pub(in crate::cli) fn report_panics() {
    std::panic::set_hook(Box::new(|panic| {
        use std::io::Write as _;
        let what = panic.payload_as_str().unwrap_or("panic");
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        // A closed standard error cannot be reported.
        let _ = writeln!(std::io::stderr(), "error: this is a bug in kiln: {} ({place})", sanitize::text(what));
    }));
}
