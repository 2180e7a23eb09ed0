//! `--chmod` values (C-17): octal up to 07777, or symbolic.
//!
//! Symbolic modes follow BuildKit, which follows BSD rather than GNU: `X` tests the original mode of the file, not the
//! result of earlier changes; `=` also clears the set-id bits of directories; only `t` changes the sticky bit.

use std::fmt;

/// A mode to set, or changes to the existing mode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// For files and directories alike.
    Octal(u32),
    /// Changes in order; each applies to the result of the previous one.
    Symbolic(Vec<Change>),
}

/// One change of a symbolic mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// Set these bits.
    Set(u32),
    /// Clear these bits.
    Clear(u32),
    /// Set these bits on a directory, and on a file that anyone could execute before the first change.
    SetIfExecutable(u32),
    /// Combine the bits of one class with those of others.
    Copy {
        /// How far to shift the mode right so that the copied class is lowest.
        from: u32,
        /// Permission bits of the classes to change.
        to: u32,
        /// Clear the copied bits (`-`), or all bits first (`=`).
        clear: bool,
        /// Set the copied bits (`+`, `=`).
        set: bool,
    },
}

/// An invalid mode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BadMode {
    mode: String,
    octal: bool,
}

impl fmt::Display for BadMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let want = match self.octal {
            true => "want octal digits up to 7777",
            false => "want octal such as 755, or symbolic such as u=rwX,go=rX",
        };
        write!(f, "invalid mode `{}`: {want}", self.mode)
    }
}

const ALL: u32 = 0o6777;
const STICKY: u32 = 0o1000;
const OTHER: u32 = 0o007;

impl Mode {
    /// Parses `text`.
    pub(crate) fn parse(text: &str) -> Result<Self, BadMode> {
        if text.starts_with(|c: char| c.is_ascii_digit()) {
            let octal = text.bytes().all(|b| b.is_ascii_digit());
            let mode = u32::from_str_radix(text, 8).ok().filter(|&mode| octal && mode <= 0o7777);
            return mode.map(Mode::Octal).ok_or_else(|| BadMode { mode: text.to_owned(), octal });
        }
        let mut changes = Vec::new();
        for clause in text.split(',') {
            read_clause(clause, &mut changes).ok_or_else(|| BadMode { mode: text.to_owned(), octal: false })?;
        }
        Ok(Mode::Symbolic(changes))
    }

    /// The new mode of a file or directory that has `mode`.
    pub(crate) fn apply(&self, mode: u32, is_dir: bool) -> u32 {
        let changes = match self {
            Mode::Octal(octal) => return *octal,
            Mode::Symbolic(changes) => changes,
        };
        let executable = is_dir || mode & 0o111 != 0;
        changes.iter().fold(mode, |mode, change| match *change {
            Change::Set(bits) => mode | bits,
            Change::Clear(bits) => mode & !bits,
            Change::SetIfExecutable(bits) => mode | if executable { bits } else { 0 },
            Change::Copy { from, to, clear, set } => {
                let copied = ((mode >> from) & 7) * 0o111;
                let cleared = if clear && set { to } else { copied & to };
                let mode = if clear { mode & !cleared } else { mode };
                if set { mode | (copied & to) } else { mode }
            }
        })
    }

    /// The mode of a directory that is created as a missing parent (C-6).
    pub(crate) fn for_new_dir(&self) -> u32 {
        match self {
            Mode::Octal(octal) => octal & 0o777,
            Mode::Symbolic(_) => 0o755,
        }
    }
}

/// `[ugoa]*([-+=][rwxXstugo]*)+`
fn read_clause(clause: &str, changes: &mut Vec<Change>) -> Option<()> {
    let bytes = clause.as_bytes();
    let classes = bytes.iter().take_while(|b| b"ugoa".contains(b)).count();
    let mut who = bytes[..classes].iter().fold(0, |who, class| who | class_bits(*class));
    let mut rest = &bytes[classes..];
    if rest.is_empty() {
        return None;
    }
    while let Some((&operation, after)) = rest.split_first() {
        let len = after.iter().take_while(|b| !b"+-=".contains(b)).count();
        if !b"+-=".contains(&operation) {
            return None;
        }
        read_operation(&mut who, operation, &after[..len], changes)?;
        rest = &after[len..];
    }
    Some(())
}

/// Reads the letters after one `+`, `-` or `=`. The letters before a copied class (`u`, `g`, `o`) apply first.
fn read_operation(who: &mut u32, operation: u8, letters: &[u8], changes: &mut Vec<Change>) -> Option<()> {
    *who &= !STICKY;
    let (mut bits, mut if_executable, mut assigned) = (0, 0, false);
    for &letter in letters {
        // The class `o` alone has neither set-id bits nor a sticky bit.
        let special = *who == 0 || *who & !OTHER != 0;
        match letter {
            b'r' => bits |= 0o444,
            b'w' => bits |= 0o222,
            b'x' => bits |= 0o111,
            b'X' if operation == b'-' => bits |= 0o111,
            b'X' => if_executable = 0o111,
            b's' if special => bits |= 0o6000,
            b't' if special => {
                *who |= STICKY;
                bits |= STICKY;
            }
            b's' | b't' => {}
            b'u' | b'g' | b'o' => {
                flush(*who, operation, &mut bits, &mut if_executable, changes);
                assigned |= operation == b'=';
                let from = [b'o', b'g', b'u'].iter().position(|class| *class == letter)? as u32 * 3;
                let to = if *who == 0 { 0o777 } else { *who & 0o777 };
                changes.push(Change::Copy { from, to, clear: operation != b'+', set: operation != b'-' });
            }
            _ => return None,
        }
    }
    if operation == b'=' && !assigned && bits == 0 {
        changes.push(Change::Clear(if *who == 0 { ALL } else { *who }));
    }
    flush(*who, operation, &mut bits, &mut if_executable, changes);
    Some(())
}

fn flush(who: u32, operation: u8, bits: &mut u32, if_executable: &mut u32, changes: &mut Vec<Change>) {
    let of = |bits: u32| if who == 0 { bits } else { who & bits };
    match (std::mem::take(bits), operation) {
        (0, _) => {}
        (bits, b'-') => changes.push(Change::Clear(of(bits))),
        (bits, operation) => {
            if operation == b'=' {
                changes.push(Change::Clear(if who == 0 { ALL } else { who }));
            }
            changes.push(Change::Set(of(bits)));
        }
    }
    match std::mem::take(if_executable) {
        0 => {}
        bits => changes.push(Change::SetIfExecutable(of(bits))),
    }
}

fn class_bits(class: u8) -> u32 {
    match class {
        b'u' => 0o4700,
        b'g' => 0o2070,
        b'o' => OTHER,
        _ => ALL,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chmod_reads_octal_and_symbolic_modes() {
        // C-17
        for good in ["0", "755", "0755", "7777", "00007777", "+x", "u=rwX,go=rX", "g=u", "a+r-w", "=", "u=go,u+ug"] {
            assert!(Mode::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "8", "10000", "0o755", "0644x", "rwx", "u", "z+x", "u=rw,", "755,u+x", "644,u+x", "-1", "u+y"] {
            assert!(Mode::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn chmod_applies_modes_like_buildkit() {
        // C-17, N-31
        for (text, before, is_dir, want) in [
            ("0644", 0o4755, false, 0o644),
            ("4755", 0o600, false, 0o4755),
            ("0", 0o600, true, 0),
            ("u=rwX,go=rX", 0o600, false, 0o644),
            ("u=rwX,go=rX", 0o700, false, 0o755),
            ("u=rwX,go=rX", 0o600, true, 0o755),
            ("u=rwx,go=rX", 0o644, false, 0o744),
            ("u=rwx,go=rX", 0o645, false, 0o755),
            ("a-x,a+X", 0o755, false, 0o755),
            ("+x,+X", 0o644, false, 0o755),
            ("-X", 0o755, false, 0o644),
            ("+x", 0o644, false, 0o755),
            ("a-w", 0o666, false, 0o444),
            ("g=u", 0o740, false, 0o770),
            ("g=u", 0o2740, false, 0o2770),
            ("go=u-w", 0o640, false, 0o644),
            ("u=go", 0o641, false, 0o141),
            ("u+go", 0o241, false, 0o741),
            ("u-g", 0o750, false, 0o250),
            ("g=ru", 0o300, false, 0o330),
            ("o=g,g=", 0o750, false, 0o705),
            ("u+s", 0o755, false, 0o4755),
            ("o+s", 0o755, false, 0o755),
            ("g+s,+t", 0o755, true, 0o3755),
            ("o+t", 0o755, true, 0o755),
            ("+xt", 0o644, false, 0o1644),
            ("a=rx", 0o7777, true, 0o1555),
            ("=", 0o7777, false, 0o1000),
            ("o=", 0o1777, true, 0o1770),
            ("u+x-w", 0o600, false, 0o500),
            ("go=", 0o777, false, 0o700),
            ("u=", 0o4700, false, 0),
            ("ug+rw,o-rwx", 0o407, false, 0o660),
        ] {
            assert_eq!(Mode::parse(text).unwrap().apply(before, is_dir), want, "{text} on {before:o}");
        }
    }

    #[test]
    fn chmod_never_leaves_the_twelve_mode_bits() {
        use proptest::prelude::*;
        let symbolic = "[ugoa]{0,2}([-+=][rwxXstugo]{0,4}){1,3}(,[ugoa]{0,2}[-+=][rwxXst]{0,3}){0,2}";
        proptest!(|(text in symbolic, mode in 0u32..0o10000)| {
            let changed = Mode::parse(&text).unwrap();
            prop_assert!(changed.apply(mode, false) <= 0o7777);
            prop_assert_eq!(changed.apply(mode, true) & !0o777, changed.apply(mode, false) & !0o777);
        });
    }
}
