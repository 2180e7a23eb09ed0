//! The progress of a push or a pull: on a terminal one line that is redrawn, otherwise a line every few seconds.

use std::io::Write as _;
use std::time::{Duration, Instant};

use super::console::Console;
use super::terminal::size_of_stderr;

/// The interval between redraws on a terminal.
const TICK: Duration = Duration::from_millis(100);

/// The time between lines elsewhere.
const INTERVAL: Duration = Duration::from_secs(5);

/// Says how far a transfer is.
pub(crate) struct Meter {
    /// `None`: nothing is shown.
    console: Option<Console>,
    said: Instant,
    /// A line on the terminal will be redrawn or removed.
    drawn: bool,
}

impl Meter {
    /// Shows progress on `console`.
    pub(crate) fn new(console: Option<Console>) -> Self {
        Self { console, said: Instant::now(), drawn: false }
    }

    /// Writes a line that stays.
    pub(crate) fn line(&mut self, text: &str) {
        self.clear();
        self.said = Instant::now();
        if let Some(console) = &mut self.console {
            console.message(text);
        }
    }

    /// Shows `text`, if it is time; call it as often as something changes.
    pub(crate) fn progress(&mut self, text: impl FnOnce() -> String) {
        let Some(console) = &mut self.console else { return };
        let screen = console.screen();
        if self.said.elapsed() < if screen.is_some() { TICK } else { INTERVAL } {
            return;
        }
        let text = text();
        match screen {
            None => self.line(&text),
            Some(mut screen) => {
                let columns = size_of_stderr().map_or(80, |(columns, _)| columns);
                let shown: String = text.chars().take(columns.saturating_sub(1)).collect();
                // A closed standard error cannot be reported.
                let _ = write!(screen, "\r\x1b[2K{shown}").and_then(|()| screen.flush());
                (self.said, self.drawn) = (Instant::now(), true);
            }
        }
    }

    /// Removes the line that is redrawn.
    fn clear(&mut self) {
        if std::mem::take(&mut self.drawn)
            && let Some(mut screen) = self.console.as_ref().and_then(Console::screen)
        {
            let _ = write!(screen, "\r\x1b[2K").and_then(|()| screen.flush());
        }
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.clear();
    }
}
