//! What the kernel needs to start a file: the interpreter a script names, the loader of an ELF program, its processor.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// The kernel reads this much of a file to find its interpreter.
const HEAD: usize = 256;
/// A longer table of program headers is not looked through.
const MAX_HEADERS: usize = 64;
const PT_INTERP: u32 = 3;

/// What to do about line ends of Windows.
pub const CRLF: &str = "save the file with LF line ends (dos2unix, or `*.sh text eol=lf` in .gitattributes)";

/// Why a file that exists and is executable cannot be started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// Its first line ends in a carriage return, which belongs to the interpreter's name or argument.
    CarriageReturn,
    /// The interpreter of its `#!` line does not exist.
    NoInterpreter(String),
    /// It is a dynamic program whose loader does not exist: it was built for another C library.
    NoLoader(String),
    /// It is a program for another processor.
    Machine(&'static str),
    /// It is empty.
    Empty,
}

impl Obstacle {
    /// Why `file` cannot be started, judged by what is in it; `exists` tells whether a path exists in its root. None: no
    /// reason was found.
    pub fn of(file: &File, exists: &dyn Fn(&str) -> bool) -> io::Result<Option<Self>> {
        let mut head = [0; HEAD];
        let length = read_up_to(file, &mut head, 0)?;
        let head = &head[..length];
        if head.is_empty() {
            return Ok(Some(Self::Empty));
        }
        if let Some(line) = head.strip_prefix(b"#!") {
            return Ok(Self::of_script(line, exists));
        }
        if !head.starts_with(b"\x7fELF") {
            return Ok(None);
        }
        let Some(elf) = Elf::read(head) else { return Ok(None) };
        if let Some(other) = elf.foreign() {
            return Ok(Some(Self::Machine(other)));
        }
        Ok(elf.loader(file)?.filter(|loader| !exists(loader)).map(Self::NoLoader))
    }

    fn of_script(line: &[u8], exists: &dyn Fn(&str) -> bool) -> Option<Self> {
        let line = line.split(|b| *b == b'\n').next().unwrap_or_default();
        if line.ends_with(b"\r") {
            return Some(Self::CarriageReturn);
        }
        let line = String::from_utf8_lossy(line);
        let interpreter = line.split_ascii_whitespace().next()?;
        (!exists(interpreter)).then(|| Self::NoInterpreter(interpreter.to_owned()))
    }
}

/// The rest of a sentence that begins with the file's path.
impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CarriageReturn => write!(f, "has a first line that ends in a carriage return: {CRLF}"),
            Self::NoInterpreter(name) => {
                write!(f, "names the interpreter {name}, which the image lacks: install it, or change the first line")
            }
            Self::NoLoader(name) => write!(
                f,
                "needs the loader {name}, which the image lacks: build it for the image's C library, or statically"
            ),
            Self::Machine(name) => write!(f, "is a program for {name}: copy the one for this platform"),
            Self::Empty => f.write_str("is empty"),
        }
    }
}

/// What the header of an ELF file says.
struct Elf {
    wide: bool,
    big_endian: bool,
    machine: u16,
    headers: u64,
    header_size: usize,
    count: usize,
}

impl Elf {
    fn read(head: &[u8]) -> Option<Self> {
        let (wide, big_endian) = (*head.get(4)? == 2, *head.get(5)? == 2);
        let mut elf = Self { wide, big_endian, machine: 0, headers: 0, header_size: 0, count: 0 };
        elf.machine = elf.short(head, 18)?;
        elf.headers = if wide { elf.number(head, 32)? } else { elf.number(head, 28)? };
        elf.header_size = elf.short(head, if wide { 54 } else { 42 })?.into();
        elf.count = usize::from(elf.short(head, if wide { 56 } else { 44 })?).min(MAX_HEADERS);
        Some(elf)
    }

    fn short(&self, bytes: &[u8], at: usize) -> Option<u16> {
        let two = bytes.get(at..at + 2)?.try_into().ok()?;
        Some(if self.big_endian { u16::from_be_bytes(two) } else { u16::from_le_bytes(two) })
    }

    fn word(&self, bytes: &[u8], at: usize) -> Option<u32> {
        let four = bytes.get(at..at + 4)?.try_into().ok()?;
        Some(if self.big_endian { u32::from_be_bytes(four) } else { u32::from_le_bytes(four) })
    }

    /// An address or offset: 8 bytes in a 64-bit file, else 4.
    fn number(&self, bytes: &[u8], at: usize) -> Option<u64> {
        if !self.wide {
            return self.word(bytes, at).map(u64::from);
        }
        let eight = bytes.get(at..at + 8)?.try_into().ok()?;
        Some(if self.big_endian { u64::from_be_bytes(eight) } else { u64::from_le_bytes(eight) })
    }

    /// The processor, if this one does not run its programs.
    fn foreign(&self) -> Option<&'static str> {
        let name = match self.machine {
            3 => "386",
            8 => "mips",
            20 | 21 => "ppc64",
            22 => "s390x",
            40 => "arm",
            62 => "amd64",
            183 => "arm64",
            243 => "riscv64",
            _ => return None,
        };
        let here: &[&str] = match std::env::consts::ARCH {
            "x86_64" => &["amd64", "386"],
            "aarch64" => &["arm64", "arm"],
            "riscv64" => &["riscv64"],
            "s390x" => &["s390x"],
            _ => return None,
        };
        (!here.contains(&name)).then_some(name)
    }

    /// The path of the dynamic loader, if the program wants one.
    fn loader(&self, file: &File) -> io::Result<Option<String>> {
        let mut table = vec![0; self.header_size * self.count];
        let length = read_up_to(file, &mut table, self.headers)?;
        for header in table[..length].chunks_exact(self.header_size.max(1)) {
            if self.word(header, 0) != Some(PT_INTERP) {
                continue;
            }
            let (offset, size) = if self.wide { (8, 32) } else { (4, 16) };
            let (Some(offset), Some(size)) = (self.number(header, offset), self.number(header, size)) else { continue };
            let mut name = vec![0; size.min(4096) as usize];
            let length = read_up_to(file, &mut name, offset)?;
            let name = name[..length].split(|b| *b == 0).next().unwrap_or_default();
            return Ok(Some(String::from_utf8_lossy(name).into_owned()));
        }
        Ok(None)
    }
}

/// Fills `buffer` from `offset` on, as far as the file goes.
fn read_up_to(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut length = 0;
    while length < buffer.len() {
        match file.read_at(&mut buffer[length..], offset.saturating_add(length as u64)) {
            Ok(0) => break,
            Ok(read) => length += read,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(length)
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "the files are the tests' own")]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn obstacle(content: &[u8]) -> Option<Obstacle> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(content).unwrap();
        Obstacle::of(&file, &|path| path == "/bin/sh").unwrap()
    }

    #[test]
    fn script_obstacles_are_read_from_its_first_line() {
        for (content, want) in [
            (&b"#!/bin/sh\necho\n"[..], None),
            (b"#! /bin/sh -e\necho\n", None),
            (b"#!/bin/sh", None),
            (b"echo hi\n", None),
            (b"", Some(Obstacle::Empty)),
            (b"#!/bin/sh\r\necho\r\n", Some(Obstacle::CarriageReturn)),
            (b"#!/usr/bin/env bash\r\n", Some(Obstacle::CarriageReturn)),
            (b"#!/bin/bash\n", Some(Obstacle::NoInterpreter("/bin/bash".to_owned()))),
            (b"#!bash -x\n", Some(Obstacle::NoInterpreter("bash".to_owned()))),
        ] {
            assert_eq!(obstacle(content), want, "{:?}", String::from_utf8_lossy(content));
        }
    }

    #[test]
    fn program_obstacles_are_read_from_its_elf_header() {
        let own = std::fs::read("/proc/self/exe").unwrap();
        let file = File::open("/proc/self/exe").unwrap();
        assert_eq!(Obstacle::of(&file, &|_| true).unwrap(), None);
        let asked = std::cell::RefCell::new(String::new());
        let found = Obstacle::of(&file, &|path| {
            asked.replace(path.to_owned());
            false
        });
        // A static program has no loader to ask for.
        let loader = asked.take();
        let want = (!loader.is_empty()).then_some(Obstacle::NoLoader(loader));
        assert_eq!(found.unwrap(), want);
        for (machine, name) in
            [(22_u16, "s390x"), (243, "riscv64")].iter().filter(|(_, name)| *name != std::env::consts::ARCH)
        {
            let mut other = own[..4096].to_vec();
            other[18..20].copy_from_slice(&machine.to_le_bytes());
            assert_eq!(obstacle(&other), Some(Obstacle::Machine(name)));
        }
        for cut in [5, 17, 19, 40, 60] {
            assert_eq!(obstacle(&own[..cut]), None, "{cut} bytes");
        }
    }
}
