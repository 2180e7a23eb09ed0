//! Text to nodes.

use std::iter::Peekable;
use std::vec::IntoIter;

use serde_json::Value;

use super::syntax::{Command, FUNCTIONS, Node, Operand, Parsed, wrong};

/// Deeper nesting is a mistake.
const MAX_DEPTH: usize = 50;

/// The nodes of a whole template.
pub(super) fn nodes(text: &str) -> Parsed<Vec<Node>> {
    let mut pieces = pieces(text)?.into_iter().peekable();
    match block(&mut pieces, 0)? {
        (nodes, None) => Ok(nodes),
        (_, Some(word)) => Err(wrong(format!("{{{{{word}}}}} without its beginning"))),
    }
}

/// A piece of a template.
enum Piece {
    Text(String),
    Action(String),
}

fn pieces(text: &str) -> Parsed<Vec<Piece>> {
    let mut out = Vec::new();
    let (mut rest, mut trim) = (text, false);
    while !rest.is_empty() {
        let (before, action) = rest.split_once("{{").map_or((rest, None), |(before, action)| (before, Some(action)));
        let mut before = if trim { before.trim_start() } else { before };
        let Some(action) = action else {
            out.push(Piece::Text(before.to_owned()));
            break;
        };
        let action = match action.strip_prefix("- ") {
            Some(action) => {
                before = before.trim_end();
                action
            }
            None => action,
        };
        let end = end_of(action).ok_or_else(|| wrong("{{ without }}"))?;
        let (inner, after) = (&action[..end], &action[end + 2..]);
        trim = inner.ends_with(" -");
        let inner = inner.strip_suffix(" -").unwrap_or(inner).trim();
        if !before.is_empty() {
            out.push(Piece::Text(before.to_owned()));
        }
        if !(inner.starts_with("/*") && inner.ends_with("*/")) {
            out.push(Piece::Action(inner.to_owned()));
        }
        rest = after;
    }
    Ok(out)
}

/// Where an action ends: at the first `}}` outside quotes.
fn end_of(action: &str) -> Option<usize> {
    let (mut quote, mut escaped) = (None, false);
    for (at, c) in action.char_indices() {
        match quote {
            Some('"') if escaped => escaped = false,
            Some('"') if c == '\\' => escaped = true,
            Some(q) if c == q => quote = None,
            Some(_) => {}
            None if matches!(c, '"' | '`') => quote = Some(c),
            None if action[at..].starts_with("}}") => return Some(at),
            None => {}
        }
    }
    None
}

/// Nodes up to the `else` or `end` that is returned with them.
fn block(pieces: &mut Peekable<IntoIter<Piece>>, depth: usize) -> Parsed<(Vec<Node>, Option<String>)> {
    if depth > MAX_DEPTH {
        return Err(wrong("nested too deep"));
    }
    let mut nodes = Vec::new();
    while let Some(piece) = pieces.next() {
        let action = match piece {
            Piece::Text(text) => {
                nodes.push(Node::Text(text));
                continue;
            }
            Piece::Action(action) => action,
        };
        let (word, rest) = action.split_once(char::is_whitespace).unwrap_or((&action, ""));
        match word {
            "end" | "else" => return Ok((nodes, Some(action))),
            "if" | "with" => nodes.push(conditional(word, rest, pieces, depth)?),
            "range" => {
                let (names, over) = variables(rest)?;
                let (body, end) = block(pieces, depth + 1)?;
                let otherwise = otherwise(end, pieces, depth, "range")?;
                let (key, item) = match names.as_slice() {
                    [] => (None, None),
                    [item] => (None, Some(item.clone())),
                    [key, item] => (Some(key.clone()), Some(item.clone())),
                    _ => return Err(wrong("range sets at most two variables")),
                };
                nodes.push(Node::Range { over, key, item, body, otherwise });
            }
            "define" | "template" | "block" | "break" | "continue" => {
                return Err(wrong(format!("{word} is not supported")));
            }
            _ => {
                let (names, commands) = variables(&action)?;
                nodes.push(match names.as_slice() {
                    [] => Node::Print(commands),
                    [name] => Node::Set(name.clone(), commands),
                    _ => return Err(wrong(format!("{action}: want one variable"))),
                });
            }
        }
    }
    if depth > 0 { Err(wrong("{{end}} is missing")) } else { Ok((nodes, None)) }
}

fn conditional(word: &str, test: &str, pieces: &mut Peekable<IntoIter<Piece>>, depth: usize) -> Parsed<Node> {
    let test = pipeline(test)?;
    let (then, end) = block(pieces, depth + 1)?;
    let otherwise = otherwise(end, pieces, depth, word)?;
    Ok(Node::If { test, with: word == "with", then, otherwise })
}

/// What follows `else`, up to `end`.
fn otherwise(
    end: Option<String>,
    pieces: &mut Peekable<IntoIter<Piece>>,
    depth: usize,
    word: &str,
) -> Parsed<Vec<Node>> {
    let end = end.unwrap_or_default();
    if end == "end" {
        return Ok(Vec::new());
    }
    match end.strip_prefix("else").map(str::trim_start) {
        Some("") => match block(pieces, depth + 1)? {
            (nodes, Some(end)) if end == "end" => Ok(nodes),
            _ => Err(wrong(format!("{word} has more than one else"))),
        },
        Some(next) => match next.split_once(char::is_whitespace) {
            Some((again @ ("if" | "with"), test)) => Ok(vec![conditional(again, test, pieces, depth + 1)?]),
            _ => Err(wrong(format!("{end} is not supported"))),
        },
        None => Err(wrong(format!("{end:?} in place of end"))),
    }
}

/// `$a, $b := pipeline`: names without the dollar, and the pipeline.
fn variables(text: &str) -> Parsed<(Vec<String>, Vec<Command>)> {
    let Some((names, rest)) = text.split_once(":=").filter(|(names, _)| names.trim_start().starts_with('$')) else {
        return Ok((Vec::new(), pipeline(text)?));
    };
    let names = names.split(',').map(|name| match name.trim().strip_prefix('$') {
        Some(name) if !name.is_empty() => Ok(format!("${name}")),
        _ => Err(wrong(format!("{name:?} is not a variable"))),
    });
    Ok((names.collect::<Parsed<_>>()?, pipeline(rest)?))
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Operand(Operand),
    Pipe,
    Open,
    /// `)`, and the fields that follow it.
    Close(Vec<String>),
}

fn pipeline(text: &str) -> Parsed<Vec<Command>> {
    let mut tokens = tokens(text)?.into_iter().peekable();
    let commands = commands(&mut tokens, 0)?;
    match tokens.next() {
        None => Ok(commands),
        Some(_) => Err(wrong(format!("{text}: a parenthesis too many"))),
    }
}

fn commands(tokens: &mut Peekable<IntoIter<Token>>, depth: usize) -> Parsed<Vec<Command>> {
    if depth > MAX_DEPTH {
        return Err(wrong("nested too deep"));
    }
    let mut all = vec![Vec::new()];
    while let Some(token) = tokens.next_if(|token| !matches!(token, Token::Close(_))) {
        let last = all.last_mut().expect("there is one");
        match token {
            Token::Operand(operand) => last.push(operand),
            Token::Pipe => all.push(Vec::new()),
            Token::Open => {
                let inner = commands(tokens, depth + 1)?;
                let Some(Token::Close(fields)) = tokens.next() else { return Err(wrong("a parenthesis is open")) };
                last.push(Operand::Nested(inner, fields));
            }
            Token::Close(_) => unreachable!("ends the loop"),
        }
    }
    if all.iter().any(Vec::is_empty) { Err(wrong("an action or a side of | is empty")) } else { Ok(all) }
}

fn tokens(text: &str) -> Parsed<Vec<Token>> {
    let mut out = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let (token, after) = match first {
            '|' => (Token::Pipe, &rest[1..]),
            '(' => (Token::Open, &rest[1..]),
            ')' => {
                let (fields, after) = fields(&rest[1..]);
                (Token::Close(fields), after)
            }
            '"' | '`' => string(rest)?,
            '.' if rest[1..].starts_with(|c: char| c.is_ascii_digit()) => return Err(wrong(format!("{rest:?}"))),
            '.' => {
                let (fields, after) = fields(rest);
                let after = if fields.is_empty() { &rest[1..] } else { after };
                (Token::Operand(Operand::Path(String::new(), fields)), after)
            }
            '$' => {
                let end = rest[1..].find(|c: char| !c.is_alphanumeric() && c != '_').map_or(rest.len(), |at| at + 1);
                let (fields, after) = fields(&rest[end..]);
                (Token::Operand(Operand::Path(rest[..end].to_owned(), fields)), after)
            }
            _ => word(rest)?,
        };
        out.push(token);
        rest = after.trim_start();
    }
    Ok(out)
}

/// `.A.B` at the beginning.
fn fields(mut rest: &str) -> (Vec<String>, &str) {
    let mut names = Vec::new();
    while let Some(after) = rest.strip_prefix('.') {
        let end = after.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(after.len());
        if end == 0 {
            break;
        }
        names.push(after[..end].to_owned());
        rest = &after[end..];
    }
    (names, rest)
}

fn string(rest: &str) -> Parsed<(Token, &str)> {
    let open = || wrong(format!("{rest}: the quote is not closed"));
    if let Some(raw) = rest.strip_prefix('`') {
        let (text, after) = raw.split_once('`').ok_or_else(open)?;
        return Ok((Token::Operand(Operand::Literal(text.into())), after));
    }
    let mut escaped = false;
    let end = rest.char_indices().skip(1).find(|(_, c)| {
        let ends = *c == '"' && !escaped;
        escaped = *c == '\\' && !escaped;
        ends
    });
    let (end, _) = end.ok_or_else(open)?;
    let text: String = serde_json::from_str(&rest[..=end].replace('\t', "\\t").replace('\n', "\\n"))
        .map_err(|_| wrong(format!("{} is not a string", &rest[..=end])))?;
    Ok((Token::Operand(Operand::Literal(text.into())), &rest[end + 1..]))
}

fn word(rest: &str) -> Parsed<(Token, &str)> {
    let end = rest.find(|c: char| c.is_whitespace() || "|()\"`".contains(c)).unwrap_or(rest.len());
    let (word, after) = rest.split_at(end);
    let operand = match word {
        "true" => Operand::Literal(true.into()),
        "false" => Operand::Literal(false.into()),
        "nil" => Operand::Literal(Value::Null),
        _ if FUNCTIONS.contains(&word) => Operand::Function(word.to_owned()),
        _ => match word.parse::<i64>() {
            Ok(number) => Operand::Literal(number.into()),
            Err(_) => {
                return Err(wrong(format!("{word} is not supported; there are {}", FUNCTIONS.join(", "))));
            }
        },
    };
    Ok((Token::Operand(operand), after))
}
