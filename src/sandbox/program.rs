//! Finds why the kernel cannot start a file: a script's interpreter, or the loader or processor of an ELF program.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use serde::{Deserialize, Serialize};

/// How many bytes of a file the kernel reads to find its interpreter.
const HEAD: usize = 256;
/// The number of program headers that are read.
const MAX_HEADERS: usize = 64;
const PT_INTERP: u32 = 3;

/// Why a file that exists and is executable cannot be started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExecObstacle {
    /// Its first line ends in a carriage return, which the kernel takes for part of the interpreter's name or argument.
    CarriageReturn,
    /// The interpreter of its `#!` line does not exist.
    NoInterpreter(String),
    /// It is a dynamic program whose loader does not exist, because it was built for another C library.
    NoLoader(String),
    /// It is a program for another processor, named here.
    Machine(String),
    /// It is empty.
    Empty,
}

impl ExecObstacle {
    /// Why `file` cannot be started, from its content; `exists` says whether a path exists in its root. `None`: no
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
            return Ok(Some(Self::Machine(other.to_owned())));
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

/// The header of an ELF file.
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

    /// The processor, if this machine does not run its programs.
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

    /// The path of the dynamic loader, if the program needs one.
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

/// Fills `buffer` from `offset` on, up to the end of the file.
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

    fn obstacle(content: &[u8]) -> Option<ExecObstacle> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(content).unwrap();
        ExecObstacle::of(&file, &|path| path == "/bin/sh").unwrap()
    }

    #[test]
    fn obstacle_of_script_is_read_from_first_line() {
        for (content, want) in [
            (&b"#!/bin/sh\necho\n"[..], None),
            (b"#! /bin/sh -e\necho\n", None),
            (b"#!/bin/sh", None),
            (b"echo hi\n", None),
            (b"", Some(ExecObstacle::Empty)),
            (b"#!/bin/sh\r\necho\r\n", Some(ExecObstacle::CarriageReturn)),
            (b"#!/usr/bin/env bash\r\n", Some(ExecObstacle::CarriageReturn)),
            (b"#!/bin/bash\n", Some(ExecObstacle::NoInterpreter("/bin/bash".to_owned()))),
            (b"#!bash -x\n", Some(ExecObstacle::NoInterpreter("bash".to_owned()))),
        ] {
            assert_eq!(obstacle(content), want, "{:?}", String::from_utf8_lossy(content));
        }
    }

    #[test]
    fn obstacle_of_program_is_read_from_elf_header() {
        let own = std::fs::read("/proc/self/exe").unwrap();
        let file = File::open("/proc/self/exe").unwrap();
        assert_eq!(ExecObstacle::of(&file, &|_| true).unwrap(), None);
        let asked = std::cell::RefCell::new(String::new());
        let found = ExecObstacle::of(&file, &|path| {
            asked.replace(path.to_owned());
            false
        });
        // A static program has no loader to ask for.
        let loader = asked.take();
        let want = (!loader.is_empty()).then_some(ExecObstacle::NoLoader(loader));
        assert_eq!(found.unwrap(), want);
        for (machine, name) in
            [(22_u16, "s390x"), (243, "riscv64")].iter().filter(|(_, name)| *name != std::env::consts::ARCH)
        {
            let mut other = own[..4096].to_vec();
            other[18..20].copy_from_slice(&machine.to_le_bytes());
            assert_eq!(obstacle(&other), Some(ExecObstacle::Machine((*name).to_owned())));
        }
        for cut in [5, 17, 19, 40, 60] {
            assert_eq!(obstacle(&own[..cut]), None, "{cut} bytes");
        }
    }
}
