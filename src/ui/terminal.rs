//! Progress on a terminal: finished steps as lines that stay, running ones below them, redrawn in place (O-70).
//!
//! **Holds.** Running steps show their name, reason, duration and last lines of output, as far as they fit. Lines that stay are
//! those of [`super::plain`], without output. Memory is bounded by the number of steps.
//! **Order.** A thread redraws while steps run, so that durations advance without events; it ends with the view.

use std::collections::{BTreeMap, VecDeque};
use std::io::Write;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::engine::{Event, Observer};
use crate::plan::{Plan, StepId};

use super::lines::Lines;
use super::{sanitize, step};

/// Lines of output shown below a running step.
const LAST_LINES: usize = 4;

/// The interval between redraws.
const TICK: Duration = Duration::from_millis(100);

/// Columns and rows if the terminal does not report them.
const USUAL: (usize, usize) = (80, 24);

/// Shows progress on a terminal.
pub(crate) struct Terminal {
    screen: Arc<Mutex<Screen>>,
    /// Dropped to end the thread.
    stop: Option<mpsc::Sender<()>>,
    ticker: Option<JoinHandle<()>>,
}

/// How large the terminal is now: columns and rows.
pub(crate) type Size = fn() -> Option<(usize, usize)>;

/// The size of the terminal that is standard error.
pub(crate) fn size_of_stderr() -> Option<(usize, usize)> {
    let size = rustix::termios::tcgetwinsize(std::io::stderr()).ok()?;
    (size.ws_col > 0 && size.ws_row > 0).then_some((size.ws_col.into(), size.ws_row.into()))
}

impl Terminal {
    /// Draws on `out`, a terminal of `size`.
    pub(crate) fn new(out: Box<dyn Write + Send>, size: Size, colour: bool) -> Self {
        let screen = Screen { out, size, drawn: 0, view: View::new(colour) };
        let screen = Arc::new(Mutex::new(screen));
        let (stop, stopped) = mpsc::channel::<()>();
        let shared = Arc::clone(&screen);
        let ticker = std::thread::Builder::new().name("progress".to_owned()).spawn(move || {
            while stopped.recv_timeout(TICK) == Err(mpsc::RecvTimeoutError::Timeout) {
                let mut screen = locked(&shared);
                if screen.view.is_busy() {
                    screen.draw(&[]);
                }
            }
        });
        // Without the thread, durations advance only with events.
        Self { screen, stop: Some(stop), ticker: ticker.ok() }
    }
}

impl Observer for Terminal {
    fn event(&mut self, event: &Event) {
        let mut screen = locked(&self.screen);
        let stays = screen.view.take(event);
        screen.draw(&stays);
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(ticker) = self.ticker.take() {
            // A panic has been reported.
            let _ = ticker.join();
        }
        let mut screen = locked(&self.screen);
        screen.view.running.clear();
        screen.view.packing.clear();
        screen.view.plan = None;
        screen.draw(&[]);
    }
}

fn locked(screen: &Mutex<Screen>) -> MutexGuard<'_, Screen> {
    screen.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Screen {
    out: Box<dyn Write + Send>,
    size: Size,
    /// Lines at the bottom to draw over.
    drawn: usize,
    view: View,
}

impl Screen {
    /// Replaces the lines at the bottom by `stays` and the running steps, in one write.
    fn draw(&mut self, stays: &[String]) {
        let (columns, rows) = (self.size)().unwrap_or(USUAL);
        let live = self.view.frame(columns, rows, Instant::now());
        let mut text = String::new();
        if self.drawn > 0 {
            text.push_str(&format!("\x1b[{}A\x1b[J", self.drawn));
        }
        for line in stays.iter().chain(&live) {
            text.push_str(line);
            text.push('\n');
        }
        self.drawn = live.len();
        // A closed standard error cannot be reported.
        let _ = self.out.write_all(text.as_bytes()).and_then(|()| self.out.flush());
    }
}

struct View {
    colour: bool,
    plan: Option<Arc<Plan>>,
    began: Instant,
    done: usize,
    running: BTreeMap<StepId, Running>,
    /// Bytes packed so far, of layers whose commands have ended.
    packing: BTreeMap<StepId, u64>,
}

struct Running {
    why: String,
    began: Instant,
    lines: Lines,
    last: VecDeque<String>,
}

impl View {
    fn new(colour: bool) -> Self {
        Self { colour, plan: None, began: Instant::now(), done: 0, running: BTreeMap::new(), packing: BTreeMap::new() }
    }

    /// Whether anything runs.
    fn is_busy(&self) -> bool {
        !self.running.is_empty() || !self.packing.is_empty()
    }

    fn title(&self, id: StepId) -> String {
        step::title(self.plan.as_ref().map_or("", |plan| plan.step(id).meta.name.as_str()))
    }

    fn painted(&self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// Takes an event; returns the lines that stay.
    fn take(&mut self, event: &Event) -> Vec<String> {
        match event {
            Event::Planned(plan) => {
                self.plan = Some(Arc::clone(plan));
                self.began = Instant::now();
            }
            Event::Fetching { step, bytes } => {
                if let Some(running) = self.running.get_mut(step) {
                    running.why = format!("fetching {}", step::size(*bytes));
                }
            }
            Event::Fetched { step, bytes, of } => {
                if let Some(running) = self.running.get_mut(step) {
                    running.why = format!("fetched {} of {}", step::size(*bytes), step::size(*of));
                }
            }
            Event::Packing { step, bytes } => match self.running.get_mut(step) {
                Some(running) => running.why = format!("packing {}", step::size(*bytes)),
                None => drop(self.packing.insert(*step, *bytes)),
            },
            Event::Packed { step, .. } => drop(self.packing.remove(step)),
            Event::Stored { .. } => {}
            Event::Started { step, why } => {
                let why = sanitize::text(&why.to_string()).into_owned();
                let (lines, last) = (Lines::default(), VecDeque::new());
                self.running.insert(*step, Running { why, began: Instant::now(), lines, last });
            }
            Event::Cached(step) => {
                self.done += 1;
                return vec![format!("{} {}", self.painted("36", "CACHED"), self.title(*step))];
            }
            Event::Output { step, bytes } => {
                if let Some(Running { lines, last, .. }) = self.running.get_mut(step) {
                    lines.feed(bytes, |line| {
                        if last.len() == LAST_LINES {
                            last.pop_front();
                        }
                        last.push_back(line);
                    });
                }
            }
            Event::Finished { step, took } => {
                self.done += 1;
                self.running.remove(step);
                return vec![format!("{} {}", self.title(*step), self.painted("2", &step::duration(*took)))];
            }
            Event::Failed(step) => {
                self.running.remove(step);
                self.packing.remove(step);
                return vec![format!("{} {}", self.painted("31", "FAILED"), self.title(*step))];
            }
            Event::Fallback { .. }
            | Event::HostNetwork
            | Event::Keystore(_)
            | Event::ManyLayers { .. }
            | Event::StorageFreed { .. }
            | Event::StorageFull { .. }
            | Event::Noted { .. } => {
                return step::notice(event).into_iter().collect();
            }
        }
        Vec::new()
    }

    /// The running steps, in lines that fit.
    fn frame(&self, columns: usize, rows: usize, now: Instant) -> Vec<String> {
        let Some(plan) = &self.plan else { return Vec::new() };
        if !self.is_busy() {
            return Vec::new();
        }
        let total = step::duration(now.saturating_duration_since(self.began));
        let head = format!("{} of {} steps done, {total}", self.done, plan.steps.len());
        let mut lines = vec![self.painted("1", &fit(&head, columns))];
        for (id, running) in &self.running {
            let took = step::duration(now.saturating_duration_since(running.began));
            let title = fit(&self.title(*id), columns.saturating_sub(took.len() + 1));
            lines.push(self.painted("36", &format!("{title} {took}")));
            lines.push(self.painted("2", &fit(&format!("  why: {}", running.why), columns)));
            lines.extend(running.last.iter().map(|line| self.painted("2", &fit(&format!("  | {line}"), columns))));
        }
        for (id, bytes) in &self.packing {
            let size = format!("packing {}", step::size(*bytes));
            let title = fit(&self.title(*id), columns.saturating_sub(size.len() + 1));
            lines.push(self.painted("2", &format!("{title} {size}")));
        }
        // The last row is for the cursor.
        lines.truncate(rows.saturating_sub(1).max(1));
        lines
    }
}

/// Cuts a line to `columns` characters. Wide characters are not counted twice: a line that wraps costs one line of history.
fn fit(line: &str, columns: usize) -> String {
    let line = line.replace('\t', "    ");
    match line.char_indices().nth(columns.saturating_sub(1)) {
        Some((cut, _)) if line.chars().count() > columns => format!("{}…", &line[..cut]),
        _ => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fit_cuts_long_lines() {
        assert_eq!(fit("abc", 3), "abc");
        assert_eq!(fit("abcd", 3), "ab…");
        assert_eq!(fit("äöüß", 3), "äö…");
        assert_eq!(fit("", 0), "");
    }
}
