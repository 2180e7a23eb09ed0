//! A slow and simple implementation of expansion: every rule by itself, patterns by trying every length.

use std::collections::BTreeMap;

/// The variables.
pub(super) type Vars = BTreeMap<String, String>;

/// The expanded text, or nothing if the word is invalid.
pub(super) fn expand(text: &str, escape: char, quotes: bool, vars: &Vars) -> Option<String> {
    let chars: Vec<char> = text.chars().collect();
    let mut reader = Reader { chars: &chars, at: 0, escape, quotes, vars };
    reader.run(None, false)
}

struct Reader<'a> {
    chars: &'a [char],
    at: usize,
    escape: char,
    quotes: bool,
    vars: &'a Vars,
}

impl Reader<'_> {
    fn peek(&self) -> Option<char> {
        self.chars.get(self.at).copied()
    }

    fn take(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += 1;
        Some(c)
    }

    fn run(&mut self, stop: Option<char>, raw: bool) -> Option<String> {
        let mut out = String::new();
        loop {
            match self.peek() {
                None if stop.is_none() => return Some(out),
                None => return None,
                c if c == stop => {
                    self.at += 1;
                    return Some(out);
                }
                Some('$') => out += &self.dollar()?,
                Some('\'') if self.quotes => {
                    self.at += 1;
                    loop {
                        match self.take()? {
                            '\'' => break,
                            c => out.push(c),
                        }
                    }
                }
                Some('"') if self.quotes => out += &self.double(raw)?,
                Some(c) if c == self.escape => {
                    self.at += 1;
                    if raw {
                        out.push(c);
                    }
                    if let Some(next) = self.take() {
                        out.push(next);
                    }
                }
                Some(c) => {
                    self.at += 1;
                    out.push(c);
                }
            }
        }
    }

    fn double(&mut self, raw: bool) -> Option<String> {
        let mut out = String::new();
        self.at += 1;
        loop {
            match self.peek()? {
                '"' => {
                    self.at += 1;
                    return Some(out);
                }
                '$' => out += &self.dollar()?,
                c if c == self.escape => {
                    self.at += 1;
                    if raw {
                        out.push(c);
                    }
                    match self.peek()? {
                        next if next == '"' || next == '$' || next == self.escape => {
                            self.at += 1;
                            out.push(next);
                        }
                        _ => out.push(c),
                    }
                }
                c => {
                    self.at += 1;
                    out.push(c);
                }
            }
        }
    }

    fn name(&mut self) -> String {
        let mut name = String::new();
        match self.peek() {
            Some(c) if c.is_numeric() => {
                while self.peek().is_some_and(char::is_numeric) {
                    name.extend(self.take());
                }
            }
            Some(c) if "@*#?-$!".contains(c) => name.extend(self.take()),
            _ => {
                while self.peek().is_some_and(|c| c.is_alphanumeric() || c == '_') {
                    name.extend(self.take());
                }
            }
        }
        name
    }

    fn dollar(&mut self) -> Option<String> {
        self.at += 1;
        if self.peek() != Some('{') {
            let name = self.name();
            return Some(if name.is_empty() { "$".to_owned() } else { self.value(&name).unwrap_or_default() });
        }
        self.at += 1;
        if matches!(self.peek()?, '{' | '}' | ':') {
            return None;
        }
        let name = self.name();
        let operator = self.take()?;
        let (operator, colon) = if operator == ':' { (self.take()?, true) } else { (operator, false) };
        let allowed = if colon { "-+?" } else { "}-+?#%/" };
        if !allowed.contains(operator) {
            return None;
        }
        if operator == '}' {
            return Some(self.value(&name).unwrap_or_default());
        }
        let all = operator == '/' && self.peek() == Some('/');
        if all {
            self.at += 1;
        }
        let patterned = matches!(operator, '#' | '%' | '/');
        let word = self.run(Some(if operator == '/' { '/' } else { '}' }), patterned)?;
        let replacement = if operator == '/' { Some(self.run(Some('}'), true)?) } else { None };
        let value = self.value(&name);
        let present = value.as_ref().is_some_and(|v| !(colon && v.is_empty()));
        match operator {
            '-' => Some(if present { value? } else { word }),
            '+' => Some(if present { word } else { String::new() }),
            '?' => {
                if present {
                    value
                } else {
                    None
                }
            }
            '/' => replace(&value.unwrap_or_default(), &pattern(&word)?, &replacement?, all),
            _ => {
                let (word, longest) = match word.strip_prefix(operator) {
                    Some(rest) => (rest, true),
                    None => (word.as_str(), false),
                };
                trim(&value.unwrap_or_default(), &pattern(word)?, operator == '#', longest)
            }
        }
    }

    fn value(&self, name: &str) -> Option<String> {
        self.vars.get(name).cloned()
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Part {
    Is(char),
    One,
    Many,
}

fn pattern(text: &str) -> Option<Vec<Part>> {
    let mut parts = Vec::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        parts.push(match c {
            '*' => Part::Many,
            '?' => Part::One,
            '\\' => Part::Is(chars.next().filter(|c| "*?\\/}".contains(*c))?),
            c => Part::Is(c),
        });
    }
    Some(parts)
}

/// Whether the whole `text` matches.
fn matches(parts: &[Part], text: &[char]) -> bool {
    match (parts.split_first(), text.split_first()) {
        (None, None) => true,
        (None, Some(_)) => false,
        (Some((Part::Many, rest)), None) => matches(rest, text),
        (Some((Part::Many, rest)), Some((c, after))) => matches(rest, text) || (*c != '\n' && matches(parts, after)),
        (Some(_), None) => false,
        (Some((Part::One, rest)), Some((c, after))) => *c != '\n' && matches(rest, after),
        (Some((Part::Is(own), rest)), Some((c, after))) => own == c && matches(rest, after),
    }
}

fn trim(value: &str, parts: &[Part], front: bool, longest: bool) -> Option<String> {
    let chars: Vec<char> = value.chars().collect();
    let mut lengths: Vec<usize> = (0..=chars.len()).collect();
    if longest {
        lengths.reverse();
    }
    for length in lengths {
        let (cut, kept) = match front {
            true => chars.split_at(length),
            false => {
                let (kept, cut) = chars.split_at(chars.len() - length);
                (cut, kept)
            }
        };
        if matches(parts, cut) {
            return Some(kept.iter().collect());
        }
    }
    Some(value.to_owned())
}

fn replace(value: &str, parts: &[Part], new: &str, all: bool) -> Option<String> {
    let chars: Vec<char> = value.chars().collect();
    let mut out = String::new();
    let mut at = 0;
    let mut last_end = None;
    let mut done = false;
    while at <= chars.len() {
        let found = (at..=chars.len()).rev().find(|end| matches(parts, &chars[at..*end])).filter(|_| all || !done);
        match found {
            // An empty match where the last one ended does not count.
            Some(end) if end == at && last_end == Some(at) => {
                out.extend(chars.get(at));
                at += 1;
            }
            Some(end) => {
                out += new;
                done = true;
                last_end = Some(end);
                if end == at {
                    out.extend(chars.get(at));
                    at += 1;
                } else {
                    at = end;
                }
            }
            None => {
                out.extend(chars.get(at));
                at += 1;
            }
        }
    }
    Some(out)
}
