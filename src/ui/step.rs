//! Names, durations and sizes of steps in messages.

use std::time::Duration;

use super::sanitize;
use crate::engine::{Event, Note};

/// Longest name, in characters.
const MAX_NAME: usize = 200;

/// `[builder 2/5] RUN make`, on one line.
pub(crate) fn title(name: &str) -> String {
    let one_line = name.split_whitespace().collect::<Vec<_>>().join(" ");
    let safe = sanitize::text(&one_line);
    match safe.char_indices().nth(MAX_NAME) {
        Some((cut, _)) => format!("{}…", &safe[..cut]),
        None => safe.into_owned(),
    }
}

/// `[builder 2/5]`: the beginning of every line of the step.
pub(crate) fn tag(name: &str) -> String {
    let title = title(name);
    match title.find(']') {
        Some(end) if title.starts_with('[') => title[..=end].to_owned(),
        _ => title,
    }
}

/// What commands do that use the network of the host, and how to change that.
pub(crate) const HOST_NETWORK: (&str, &str) =
    ("RUN steps use the host network", "isolate with --network private or none");

/// Why Java in an image does not trust `--ca-cert`, and how it would.
pub(crate) fn keystore(path: &str) -> (String, &'static str) {
    (
        format!("Java does not trust --ca-cert: its keystore {} stays as it is", sanitize::text(path)),
        "import the certificate in a RUN with keytool -importcert -cacerts -storepass changeit -noprompt -file FILE",
    )
}

/// The warning about an image with more layers than Docker supports.
pub(crate) fn many_layers(layers: usize, portable: usize) -> String {
    format!("the image has {layers} layers; Docker stacks at most {portable}: join RUN instructions with &&")
}

/// What was removed because the store has a limit.
pub(crate) fn storage_freed(freed: u64, left: u64, limit: u64) -> String {
    let (freed, left, limit) = (size(freed), size(left), size(limit));
    format!("removed {freed} of least recently used data: the store takes {left} of {limit} (KILN_STORAGE_LIMIT)")
}

/// The warning about a store that cannot be kept within its limit.
pub(crate) fn storage_full(left: u64, limit: u64, named: u64) -> String {
    let (left, limit, named) = (size(left), size(limit), size(named));
    format!(
        "the store takes {left}, more than {limit} (KILN_STORAGE_LIMIT): tagged images take {named}, and the rest is in use"
    )
}

/// An event that is about no step, as a line; `None` for the others.
pub(crate) fn notice(event: &Event) -> Option<String> {
    Some(match event {
        Event::Fallback { what, why } => {
            format!("note: {} ({})", sanitize::text(what), sanitize::text(&sanitize::plain(why)))
        }
        Event::HostNetwork => format!("note: {} ({})", HOST_NETWORK.0, HOST_NETWORK.1),
        Event::Keystore(path) => {
            let (what, how) = keystore(path);
            format!("note: {what} ({how})")
        }
        Event::ManyLayers { layers, portable } => format!("warning: {}", many_layers(*layers, *portable)),
        Event::StorageFreed { freed, left, limit } => format!("note: {}", storage_freed(*freed, *left, *limit)),
        Event::StorageFull { left, limit, named } => format!("warning: {}", storage_full(*left, *limit, *named)),
        Event::Noted { name, note } => format!("warning: {}", noted(name, note)),
        _ => return None,
    })
}

/// What a COPY, ADD or WORKDIR reports.
pub(super) fn noted(name: &str, note: &Note) -> String {
    sanitize::text(&format!("{name}: {note}")).into_owned()
}

/// `0.03s`, `12.4s`, `3m05s`.
pub(crate) fn duration(took: Duration) -> String {
    let seconds = took.as_secs();
    match seconds {
        0..10 => format!("{:.2}s", took.as_secs_f64()),
        10..60 => format!("{:.1}s", took.as_secs_f64()),
        _ => format!("{}m{:02}s", seconds / 60, seconds % 60),
    }
}

/// `512 B`, `3.4 MB`: powers of 1000.
pub(crate) fn size(bytes: u64) -> String {
    let units = [(1_000_000_000, "GB"), (1_000_000, "MB"), (1_000, "kB")];
    match units.iter().find(|(unit, _)| bytes >= *unit) {
        Some((unit, name)) => format!("{:.1} {name}", bytes as f64 / *unit as f64),
        None => format!("{bytes} B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn title_is_one_safe_line() {
        assert_eq!(title("[b 2/5] RUN <<EOF\n  make \x1b[2J\nEOF"), "[b 2/5] RUN <<EOF make \\x1b[2J EOF");
        assert_eq!(title(&"x".repeat(500)).chars().count(), MAX_NAME + 1);
        assert_eq!(tag("[b 2/5] RUN echo ]"), "[b 2/5]");
        assert_eq!(tag("no brackets"), "no brackets");
    }

    #[test]
    fn duration_is_short() {
        for (millis, want) in [(0, "0.00s"), (1234, "1.23s"), (12_345, "12.3s"), (185_000, "3m05s")] {
            assert_eq!(duration(Duration::from_millis(millis)), want);
        }
    }
}
