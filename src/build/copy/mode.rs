//! `--chmod` (C-17).

use super::Error;

/// A mode to give, or changes to the mode there is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// For files and directories alike.
    Octal(u32),
    /// In order, each on the result of the one before.
    Symbolic(Vec<Change>),
}

/// `u+rw`: one operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Change {
    who: u32,
    operation: u8,
    what: What,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum What {
    Bits {
        /// `rwx` of one class: 0 to 7.
        rwx: u32,
        /// `X`: execution for directories and for what somebody can execute already.
        cond: bool,
        /// `s`.
        set_id: bool,
        /// `t`.
        sticky: bool,
    },
    /// The bits that another class has.
    CopyOf(u8),
}

const USER: u32 = 0o4700;
const GROUP: u32 = 0o2070;
const OTHER: u32 = 0o1007;

impl Mode {
    /// Reads what `chmod(1)` reads: an octal number up to 7777, or symbolic changes. Without a class, changes are for all.
    pub(super) fn parse(text: &str) -> Result<Self, Error> {
        let bad = || Error::Chmod { mode: text.to_owned() };
        if text.bytes().next().is_some_and(|b| b.is_ascii_digit()) {
            let octal = text.bytes().all(|b| b.is_ascii_digit());
            let mode = u32::from_str_radix(text, 8).ok().filter(|&mode| octal && mode <= 0o7777);
            return mode.map(Mode::Octal).ok_or_else(bad);
        }
        let mut changes = Vec::new();
        for clause in text.split(',') {
            let bytes = clause.as_bytes();
            let classes = bytes.iter().take_while(|b| b"ugoa".contains(b)).count();
            let mut who = bytes[..classes].iter().fold(0, |who, class| who | class_mask(*class));
            if who == 0 {
                who = USER | GROUP | OTHER;
            }
            let mut rest = &bytes[classes..];
            if rest.is_empty() {
                return Err(bad());
            }
            while let Some((&operation, after)) = rest.split_first() {
                if !b"+-=".contains(&operation) {
                    return Err(bad());
                }
                let len = after.iter().take_while(|b| !b"+-=".contains(b)).count();
                changes.push(Change { who, operation, what: what(&after[..len]).ok_or_else(bad)? });
                rest = &after[len..];
            }
        }
        Ok(Mode::Symbolic(changes))
    }

    /// The mode to give to something that has `mode`.
    pub(super) fn apply(&self, mode: u32, is_dir: bool) -> u32 {
        match self {
            Mode::Octal(octal) => *octal,
            Mode::Symbolic(changes) => changes.iter().fold(mode, |mode, change| change.apply(mode, is_dir)),
        }
    }

    /// The mode of a directory that is made to hold a copied directory's content.
    pub(super) fn for_new_dir(&self) -> u32 {
        match self {
            Mode::Octal(octal) => *octal,
            Mode::Symbolic(_) => 0o755,
        }
    }
}

fn class_mask(class: u8) -> u32 {
    match class {
        b'u' => USER,
        b'g' => GROUP,
        b'o' => OTHER,
        _ => USER | GROUP | OTHER,
    }
}

fn what(letters: &[u8]) -> Option<What> {
    if let [class @ (b'u' | b'g' | b'o')] = letters {
        return Some(What::CopyOf(*class));
    }
    let (mut rwx, mut cond, mut set_id, mut sticky) = (0, false, false, false);
    for letter in letters {
        match letter {
            b'r' => rwx |= 4,
            b'w' => rwx |= 2,
            b'x' => rwx |= 1,
            b'X' => cond = true,
            b's' => set_id = true,
            b't' => sticky = true,
            _ => return None,
        }
    }
    Some(What::Bits { rwx, cond, set_id, sticky })
}

impl Change {
    fn apply(&self, mode: u32, is_dir: bool) -> u32 {
        let bits = match self.what {
            What::Bits { rwx, cond, set_id, sticky } => {
                let rwx = if cond && (is_dir || mode & 0o111 != 0) { rwx | 1 } else { rwx };
                let special = if set_id { 0o6000 } else { 0 } | if sticky { 0o1000 } else { 0 };
                (rwx * 0o111) | special
            }
            What::CopyOf(class) => {
                let rwx = match class {
                    b'u' => mode >> 6,
                    b'g' => mode >> 3,
                    _ => mode,
                };
                (rwx & 7) * 0o111
            }
        };
        match self.operation {
            b'+' => mode | (bits & self.who),
            b'-' => mode & !(bits & self.who),
            _ => (mode & !self.who) | (bits & self.who),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_read_as_chmod_reads_them() {
        // C-17
        for (text, before, is_dir, want) in [
            ("0644", 0o4755, false, 0o644),
            ("4755", 0o600, false, 0o4755),
            ("0", 0o600, true, 0),
            ("u=rwX,go=rX", 0o600, false, 0o644),
            ("u=rwX,go=rX", 0o700, false, 0o755),
            ("u=rwX,go=rX", 0o600, true, 0o755),
            ("+x", 0o644, false, 0o755),
            ("a-w", 0o666, false, 0o444),
            ("g=u", 0o740, false, 0o770),
            ("o=g,g=", 0o750, false, 0o705),
            ("u+s", 0o755, false, 0o4755),
            ("g+s,+t", 0o755, true, 0o3755),
            ("u+x-w", 0o600, false, 0o500),
            ("go=", 0o777, false, 0o700),
            ("u=", 0o4700, false, 0),
            ("ug+rw,o-rwx", 0o407, false, 0o660),
        ] {
            assert_eq!(Mode::parse(text).unwrap().apply(before, is_dir), want, "{text} on {before:o}");
        }
        for bad in ["", "8", "10000", "07778", "u", "u+q", "x", "u=rw,", "0644x", "644,u+x", "-1", "u+ug"] {
            assert!(Mode::parse(bad).is_err(), "{bad}");
        }
    }
}
