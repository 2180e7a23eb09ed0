//! `RUN`, `COPY` and `ADD`.

use std::collections::{BTreeMap, BTreeSet};

use super::args::{Args, needs};
use crate::dockerfile::ast::{Command, Copy, CopySource, Network, Run, Security};
use crate::dockerfile::diagnostic::Diagnostic;
use crate::dockerfile::heredoc::{self, Heredoc};
use crate::dockerfile::mount::{Device, Mount, keyword};
use crate::dockerfile::word::Word;
use crate::dockerfile::words::{self, List};

const NETWORKS: [(&str, Network); 3] =
    [("default", Network::Default), ("none", Network::None), ("host", Network::Host)];
const SECURITIES: [(&str, Security); 2] = [("sandbox", Security::Sandbox), ("insecure", Security::Insecure)];

/// How many bytes of heredoc bodies may be copied because several sources share a name: a small file must not exhaust
/// the memory.
const SHARED: usize = 16 << 20;

impl Args<'_> {
    pub(super) fn run(&mut self, json: List) -> Option<Run> {
        let mounts = self.flags.list("mount");
        let mounts = mounts.iter().filter_map(|value| Mount::parse(value, self.problems)).collect();
        let devices = self.flags.list("device");
        let devices = devices.iter().filter_map(|value| Device::parse(value, self.problems)).collect();
        let network = self.flags.text("network");
        let network = network.and_then(|value| keyword("network", &value, &NETWORKS, self.problems));
        let security = self.flags.text("security");
        let security = security.and_then(|value| keyword("security", &value, &SECURITIES, self.problems));
        let command = self.command(json, self.rest.clone())?;
        // Without a command the shell runs an empty one, which succeeds (N-34).
        if matches!(&command, Command::Exec(words) if words.is_empty()) {
            self.report(needs(self.args_span(), "RUN", "a command"));
            return None;
        }
        let heredocs = std::mem::take(&mut self.heredocs);
        Some(Run { mounts, network, security, devices, command, heredocs })
    }

    pub(super) fn copy(&mut self, json: List) -> Option<Copy> {
        let (mut found, json) = match json {
            List::Strings(found) => (found, true),
            List::Mixed(mixed) => {
                self.report(mixed);
                return None;
            }
            List::Not => {
                let ranges = words::split(self.line, self.rest.clone());
                (ranges.into_iter().map(|range| self.line.word(range)).collect::<Vec<Word>>(), false)
            }
        };
        if found.len() < 2 {
            self.too_few(&found, found.first().is_some_and(|only| opening(only, json).is_some()));
            return None;
        }
        let dest = found.pop()?;
        if opening(&dest, json).is_some() {
            let message = format!("{} cannot take a heredoc as its destination", self.keyword);
            self.report(Diagnostic::error(dest.span, message).hint("the destination comes last"));
            return None;
        }
        let sources = self.sources(found, json)?;
        let mentioned: BTreeSet<&str> = sources.iter().filter_map(heredoc_name).collect();
        if let Some(doc) = self.heredocs.iter().find(|doc| !mentioned.contains(doc.name.as_str())) {
            let message = format!("this heredoc is no source of the {}", self.keyword);
            let problem = Diagnostic::error(doc.span, message);
            self.report(problem.hint("write <<NAME without blanks, followed by the destination"));
            return None;
        }
        Some(Copy {
            from: self.flags.filled("from"),
            chown: self.flags.filled("chown"),
            chmod: self.flags.filled("chmod"),
            link: self.flags.bool("link"),
            parents: self.flags.bool("parents"),
            exclude: self.flags.list("exclude"),
            checksum: self.flags.filled("checksum"),
            keep_git_dir: self.flags.bool("keep-git-dir"),
            unpack: self.flags.bool("unpack"),
            sources,
            dest,
            json,
            written: std::mem::take(&mut self.heredocs),
        })
    }

    /// Every word as a path or as the heredoc that it opens. Of two bodies with one name the later one counts (P-19).
    fn sources(&mut self, found: Vec<Word>, json: bool) -> Option<Vec<CopySource>> {
        let bodies: BTreeMap<&str, &Heredoc> = self.heredocs.iter().map(|doc| (doc.name.as_str(), doc)).collect();
        let mut sources = Vec::new();
        let mut room = SHARED + self.heredocs.iter().map(|doc| doc.raw.text.len()).sum::<usize>();
        for word in found {
            let opening = opening(&word, json).filter(|opening| bodies.contains_key(opening.name.as_str()));
            let Some(heredoc::Opening { name, fd, chomp, expand, .. }) = opening else {
                sources.push(CopySource::Path(word));
                continue;
            };
            let raw = &bodies[name.as_str()].raw;
            let Some(left) = room.checked_sub(raw.text.len()) else {
                let problem = Diagnostic::error(word.span, format!("the long heredoc `{name}` is used too often"));
                self.report(problem.hint("give every heredoc a name of its own"));
                return None;
            };
            room = left;
            let raw = raw.clone();
            sources.push(CopySource::Heredoc(Heredoc { name, span: word.span, fd, chomp, expand, raw }));
        }
        Some(sources)
    }

    fn too_few(&mut self, found: &[Word], heredoc: bool) {
        let keyword = self.keyword;
        let message = match found {
            [] => format!("{keyword} requires at least two arguments"),
            _ => format!("{keyword} requires at least two arguments, but only one was given"),
        };
        let hint = match found {
            [only] if heredoc => format!("say where the file goes: {keyword} {only} /path/of/the/file"),
            _ => "name the sources first and the destination last".to_owned(),
        };
        self.report(Diagnostic::error(self.args_span(), message).hint(hint));
    }
}

/// The heredoc that a word opens; the strings of a JSON list open none.
fn opening(word: &Word, json: bool) -> Option<heredoc::Opening> {
    if json { None } else { heredoc::parse_word(&word.text) }
}

/// The name of a source that is a heredoc.
fn heredoc_name(source: &CopySource) -> Option<&str> {
    match source {
        CopySource::Heredoc(doc) => Some(&doc.name),
        CopySource::Path(_) => None,
    }
}
