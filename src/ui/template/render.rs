//! Nodes and a value to text.

use serde_json::{Map, Value};

use super::syntax::{Command, Node, Operand, Parsed, wrong};

/// The text that nodes make of a value.
pub(super) fn render(nodes: &[Node], value: &Value) -> Parsed<String> {
    let mut scope = Scope { variables: vec![(String::from("$"), value.clone())], out: String::new() };
    scope.run(nodes, value)?;
    Ok(scope.out)
}

/// Text in the making.
struct Scope {
    /// The newest last.
    variables: Vec<(String, Value)>,
    out: String,
}

impl Scope {
    fn run(&mut self, nodes: &[Node], dot: &Value) -> Parsed<()> {
        let depth = self.variables.len();
        for node in nodes {
            match node {
                Node::Text(text) => self.out.push_str(text),
                Node::Print(commands) => {
                    let value = self.evaluate(commands, dot)?;
                    self.out.push_str(&printed(&value));
                }
                Node::Set(name, commands) => {
                    let value = self.evaluate(commands, dot)?;
                    self.variables.push((name.clone(), value));
                }
                Node::If { test, with, then, otherwise } => {
                    let value = self.evaluate(test, dot)?;
                    let (branch, dot) = match (truth(&value), with) {
                        (true, true) => (then, &value),
                        (true, false) => (then, dot),
                        (false, _) => (otherwise, dot),
                    };
                    self.run(branch, dot)?;
                }
                Node::Range { over, key, item, body, otherwise } => {
                    let items = items(self.evaluate(over, dot)?)?;
                    if items.is_empty() {
                        self.run(otherwise, dot)?;
                    }
                    for (at, value) in items {
                        let before = self.variables.len();
                        self.variables.extend(key.clone().map(|name| (name, at)));
                        self.variables.extend(item.clone().map(|name| (name, value.clone())));
                        self.run(body, &value)?;
                        self.variables.truncate(before);
                    }
                }
            }
        }
        self.variables.truncate(depth);
        Ok(())
    }

    fn evaluate(&self, commands: &[Command], dot: &Value) -> Parsed<Value> {
        let mut piped = None;
        for command in commands {
            let (first, rest) = command.split_first().expect("no command is empty");
            let mut arguments =
                rest.iter().map(|operand| self.operand(operand, dot)).collect::<Parsed<Vec<Value>>>()?;
            arguments.extend(piped.take());
            piped = Some(match first {
                Operand::Function(name) => call(name, &arguments)?,
                operand if arguments.is_empty() => self.operand(operand, dot)?,
                operand => return Err(wrong(format!("{operand:?} is not a function"))),
            });
        }
        Ok(piped.unwrap_or(Value::Null))
    }

    fn operand(&self, operand: &Operand, dot: &Value) -> Parsed<Value> {
        match operand {
            Operand::Literal(value) => Ok(value.clone()),
            Operand::Function(name) => call(name, &[]),
            Operand::Nested(commands, fields) => field(&self.evaluate(commands, dot)?, fields),
            Operand::Path(name, fields) if name.is_empty() => field(dot, fields),
            Operand::Path(name, fields) => {
                let known = self.variables.iter().rev().find(|(known, _)| known == name);
                field(&known.ok_or_else(|| wrong(format!("there is no variable {name}")))?.1, fields)
            }
        }
    }
}

/// A field of a field; one that a map lacks has no value.
fn field(value: &Value, fields: &[String]) -> Parsed<Value> {
    let mut at = value;
    for (depth, name) in fields.iter().enumerate() {
        at = match at {
            Value::Object(map) => match map.get(name).or_else(|| renamed(map, &fields[..depth], name)) {
                Some(next) => next,
                // The outermost object has the fields that the command documents.
                None if depth == 0 && map.keys().all(|key| key.starts_with(char::is_uppercase)) => {
                    return Err(wrong(format!("there is no field .{name}; there are {}", list(map))));
                }
                None => return Ok(Value::Null),
            },
            Value::Null => return Ok(Value::Null),
            other => {
                return Err(wrong(format!(".{} has no fields: it is {}", fields[..depth].join("."), printed(other))));
            }
        };
    }
    Ok(at.clone())
}

/// A field by its name in Go, which begins with a capital letter: `.MediaType` is `mediaType`, `.OS` is `os`. Keys below
/// `path` may be the user's, and mean nothing else.
fn renamed<'v>(map: &'v Map<String, Value>, path: &[String], name: &str) -> Option<&'v Value> {
    let free = path.iter().any(|field| ["Annotations", "Labels"].contains(&field.as_str()));
    if free || !name.starts_with(char::is_uppercase) {
        return None;
    }
    map.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

fn list(map: &Map<String, Value>) -> String {
    map.keys().map(|key| format!(".{key}")).collect::<Vec<_>>().join(", ")
}

/// The elements of a list or map, with their keys.
fn items(value: Value) -> Parsed<Vec<(Value, Value)>> {
    match value {
        Value::Null => Ok(Vec::new()),
        Value::Array(all) => Ok(all.into_iter().enumerate().map(|(at, item)| (at.into(), item)).collect()),
        Value::Object(map) => Ok(map.into_iter().map(|(key, item)| (key.into(), item)).collect()),
        other => Err(wrong(format!("range cannot go over {}", printed(&other)))),
    }
}

fn truth(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(yes) => *yes,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(all) => !all.is_empty(),
        Value::Object(map) => !map.is_empty(),
    }
}

fn call(name: &str, arguments: &[Value]) -> Parsed<Value> {
    let count = |want: &str| wrong(format!("{name} wants {want}, not {} arguments", arguments.len()));
    let text = |value: &Value| value.as_str().map_or_else(|| printed(value), str::to_owned);
    Ok(match (name, arguments) {
        ("json", [value]) => value.to_string().into(),
        ("len", [Value::String(text)]) => text.len().into(),
        ("len", [Value::Array(all)]) => all.len().into(),
        ("len", [Value::Object(map)]) => map.len().into(),
        ("len", [Value::Null]) => 0.into(),
        ("lower", [value]) => text(value).to_lowercase().into(),
        ("upper", [value]) => text(value).to_uppercase().into(),
        ("join", [list, between]) => {
            let items = items(list.clone())?;
            items.iter().map(|(_, item)| text(item)).collect::<Vec<_>>().join(&text(between)).into()
        }
        ("split", [value, between]) => text(value).split(&text(between)).map(str::to_owned).collect::<Vec<_>>().into(),
        ("println", all) => format!("{}\n", all.iter().map(printed).collect::<Vec<_>>().join(" ")).into(),
        ("index", [value, keys @ ..]) => keys.iter().try_fold(value.clone(), |value, key| index(&value, key))?,
        ("not", [value]) => (!truth(value)).into(),
        ("and", [.., last]) => arguments.iter().find(|value| !truth(value)).unwrap_or(last).clone(),
        ("or", [.., last]) => arguments.iter().find(|value| truth(value)).unwrap_or(last).clone(),
        ("eq", [first, rest @ ..]) if !rest.is_empty() => rest.iter().any(|other| other == first).into(),
        ("ne", [one, other]) => (one != other).into(),
        ("lt" | "le" | "gt" | "ge", [one, other]) => compare(name, one, other)?.into(),
        ("lt" | "le" | "gt" | "ge" | "ne" | "eq" | "join" | "split", _) => return Err(count("two")),
        ("index" | "and" | "or", _) => return Err(count("at least one")),
        (_, [value]) => return Err(wrong(format!("{name} does not take {}", printed(value)))),
        _ => return Err(count("one")),
    })
}

fn index(value: &Value, key: &Value) -> Parsed<Value> {
    match (value, key) {
        (Value::Array(all), Value::Number(at)) => {
            let item = at.as_u64().and_then(|at| all.get(at as usize));
            item.cloned().ok_or_else(|| wrong(format!("index {at} is out of range: there are {}", all.len())))
        }
        (Value::Object(map), Value::String(key)) => Ok(map.get(key).cloned().unwrap_or(Value::String(String::new()))),
        (Value::Null, _) => Ok(Value::Null),
        _ => Err(wrong(format!("cannot index {} by {}", printed(value), printed(key)))),
    }
}

fn compare(name: &str, one: &Value, other: &Value) -> Parsed<bool> {
    let order = match (one, other) {
        (Value::Number(one), Value::Number(other)) => one.as_f64().partial_cmp(&other.as_f64()),
        (Value::String(one), Value::String(other)) => Some(one.cmp(other)),
        _ => None,
    };
    let order = order.ok_or_else(|| wrong(format!("{name} cannot compare {} and {}", printed(one), printed(other))))?;
    Ok(match name {
        "lt" => order.is_lt(),
        "le" => order.is_le(),
        "gt" => order.is_gt(),
        _ => order.is_ge(),
    })
}

/// A value as Go prints it.
fn printed(value: &Value) -> String {
    match value {
        Value::Null => "<no value>".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(all) => format!("[{}]", all.iter().map(printed).collect::<Vec<_>>().join(" ")),
        Value::Object(map) => {
            let pairs: Vec<String> = map.iter().map(|(key, item)| format!("{key}:{}", printed(item))).collect();
            format!("map[{}]", pairs.join(" "))
        }
        other => other.to_string(),
    }
}
