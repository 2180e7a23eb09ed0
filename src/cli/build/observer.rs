//! The observers of a build.

use crate::cli::args::Progress;
use crate::cli::session::Session;
use crate::engine::{Event, Observer};
use crate::ui::json::Json;
use crate::ui::plain::{DEFAULT_LOG_LIMIT, Plain};
use crate::ui::terminal::{self, Terminal};

/// The observer that `--progress` asks for.
pub(super) fn observer<'s>(progress: Progress, session: &'s mut Session<'_>) -> Box<dyn Observer + 's> {
    if progress == Progress::Auto
        && session.environment.can_redraw()
        && let Some(screen) = session.console.screen()
    {
        return Box::new(Terminal::new(Box::new(screen), terminal::size_of_stderr, session.console.colour()));
    }
    match progress {
        Progress::Quiet => Box::new(Quiet),
        Progress::Json => Box::new(Json::new(session.console.err())),
        Progress::Auto | Progress::Plain => Box::new(Plain::new(session.console.err(), Some(DEFAULT_LOG_LIMIT))),
    }
}

/// Ignores events.
struct Quiet;

impl Observer for Quiet {
    fn event(&mut self, _: &Event) {}
}

/// Keeps events until it is known whether this process runs the build.
#[derive(Default)]
pub(super) struct Recorder(pub(super) Vec<Event>);

impl Observer for Recorder {
    fn event(&mut self, event: &Event) {
        self.0.push(event.clone());
    }
}
