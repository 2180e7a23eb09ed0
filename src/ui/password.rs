//! Reading a password from the terminal, which does not show it.

use std::io::{self, Read as _};

use rustix::termios::{self, LocalModes, OptionalActions, Termios};

const INTERRUPT: u8 = 3;
const END_OF_INPUT: u8 = 4;
const BACKSPACE: u8 = 8;
const CLEAR: u8 = 21;
const DELETE: u8 = 127;

/// Reads a line from standard input, a terminal, without showing it. Err(`Interrupted`): Ctrl-C. Keys arrive as bytes
/// meanwhile, so that no signal ends the process before the terminal is as it was.
pub(crate) fn read() -> io::Result<String> {
    let before = termios::tcgetattr(io::stdin())?;
    let mut hidden = before.clone();
    hidden.local_modes.remove(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG);
    termios::tcsetattr(io::stdin(), OptionalActions::Flush, &hidden)?;
    let _restored = Restored(before);
    line(io::stdin().lock().bytes())
}

struct Restored(Termios);

impl Drop for Restored {
    fn drop(&mut self) {
        let _ = termios::tcsetattr(io::stdin(), OptionalActions::Now, &self.0);
    }
}

/// The line that these keys make.
fn line(keys: impl Iterator<Item = io::Result<u8>>) -> io::Result<String> {
    let mut line = Vec::new();
    for key in keys {
        match key? {
            b'\n' | b'\r' | END_OF_INPUT => break,
            INTERRUPT => return Err(io::ErrorKind::Interrupted.into()),
            CLEAR => line.clear(),
            BACKSPACE | DELETE => {
                // A character may have several bytes.
                while line.pop().is_some_and(|byte| byte & 0xc0 == 0x80) {}
            }
            other => line.push(other),
        }
    }
    String::from_utf8(line).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_make_the_line_that_was_meant() {
        for (keys, want) in [
            ("secret\n", Some("secret")),
            ("sex\u{7f}cret\r", Some("secret")),
            ("wrong\u{15}secret\n", Some("secret")),
            ("é\u{8}e\n", Some("e")),
            ("\u{7f}a\u{4}", Some("a")),
            ("se\u{3}cret\n", None),
        ] {
            assert_eq!(line(keys.bytes().map(Ok)).ok().as_deref(), want, "{keys:?}");
        }
    }
}
