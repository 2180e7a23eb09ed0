//! The two streams a command writes to.

use std::fmt;
use std::io::{self, IsTerminal, Write};

use super::sanitize;

/// Standard output is closed or full.
#[derive(Debug)]
pub(crate) struct Unwritten(pub(crate) io::Error);

/// Standard output for data, standard error for messages.
pub(crate) struct Console {
    out: Sink,
    err: Sink,
    colour: bool,
    terminal: bool,
    json: bool,
}

enum Sink {
    Out(io::Stdout),
    Err(io::Stderr),
    #[cfg(test)]
    Memory(Vec<u8>),
}

impl Write for Sink {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self {
            Sink::Out(out) => out.write(buf),
            Sink::Err(err) => err.write(buf),
            #[cfg(test)]
            Sink::Memory(bytes) => bytes.write(buf),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Sink::Out(out) => out.flush(),
            Sink::Err(err) => err.flush(),
            #[cfg(test)]
            Sink::Memory(_) => Ok(()),
        }
    }
}

impl Console {
    /// The streams of the process. `colour`: allowed, if standard error is a terminal.
    pub(crate) fn stdio(colour: bool) -> Self {
        let terminal = io::stderr().is_terminal();
        Self {
            out: Sink::Out(io::stdout()),
            err: Sink::Err(io::stderr()),
            colour: colour && terminal,
            terminal,
            json: false,
        }
    }

    /// Whether messages are coloured.
    pub(crate) fn colour(&self) -> bool {
        self.colour
    }

    /// From now on messages are JSON, one object per line.
    pub(crate) fn use_json(&mut self) {
        self.json = true;
    }

    /// Whether messages are JSON.
    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// Whether text on standard output is coloured.
    pub(crate) fn out_colour(&self) -> bool {
        self.colour && self.out_is_terminal()
    }

    /// Whether standard output is a terminal.
    pub(crate) fn out_is_terminal(&self) -> bool {
        matches!(&self.out, Sink::Out(out) if out.is_terminal())
    }

    /// Writes one line of data to standard output. Ok: it is written and flushed.
    pub(crate) fn data(&mut self, line: fmt::Arguments<'_>) -> Result<(), Unwritten> {
        writeln!(self.out, "{line}").and_then(|()| self.out.flush()).map_err(Unwritten)
    }

    /// Standard output, for binary data.
    pub(crate) fn raw(&mut self) -> &mut dyn Write {
        &mut self.out
    }

    /// Standard error, for a renderer that sanitises its text.
    pub(crate) fn err(&mut self) -> &mut dyn Write {
        &mut self.err
    }

    /// Standard error, for a view with its own thread; none if it is not a terminal.
    pub(crate) fn screen(&self) -> Option<io::Stderr> {
        match &self.err {
            Sink::Err(_) if self.terminal => Some(io::stderr()),
            _ => None,
        }
    }

    /// Writes a message to standard error; it must be safe for a terminal.
    pub(crate) fn message(&mut self, text: &str) {
        let newline = if text.ends_with('\n') { "" } else { "\n" };
        // A closed standard error cannot be reported.
        let _ = write!(self.err, "{text}{newline}");
    }

    /// Writes `label: text` to standard error; labels are coloured.
    pub(crate) fn labelled(&mut self, label: &str, text: &str) {
        let text = sanitize::plain(text);
        if self.json {
            self.message(&serde_json::json!({ "event": label, "message": text }).to_string());
            return;
        }
        let code = match (self.colour, label) {
            (false, _) => "",
            (true, "error") => "\x1b[1;31m",
            (true, "warning") => "\x1b[1;33m",
            (true, _) => "\x1b[1;36m",
        };
        let reset = if code.is_empty() { "" } else { "\x1b[0m" };
        self.message(&format!("{code}{label}:{reset} {text}"));
    }

    /// Prints an answer of clap, help to standard output and errors to standard error, and returns the exit code.
    pub(crate) fn clap_answer(&mut self, answer: &clap::Error) -> u8 {
        let text = answer.render();
        if answer.use_stderr() {
            self.message(&if self.colour { text.ansi().to_string() } else { text.to_string() });
            return 2;
        }
        let text = if self.colour && self.out_is_terminal() { text.ansi().to_string() } else { text.to_string() };
        // `kiln --help | head` is not an error.
        let _ = self.out.write_all(text.as_bytes()).and_then(|()| self.out.flush());
        0
    }
}

#[cfg(test)]
impl Console {
    /// Streams in memory, without colour.
    pub(crate) fn capture() -> Self {
        Self { out: Sink::Memory(vec![]), err: Sink::Memory(vec![]), colour: false, terminal: false, json: false }
    }

    /// What was written to standard output and standard error of a capturing console.
    pub(crate) fn captured(&self) -> (String, String) {
        let text = |sink: &Sink| match sink {
            Sink::Memory(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            Sink::Out(_) | Sink::Err(_) => String::new(),
        };
        (text(&self.out), text(&self.err))
    }
}
