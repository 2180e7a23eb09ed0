//! `RUN --mount` and `RUN --device` (M-1…M-20, R-10).
//!
//! **Holds.** Options with known keys and unexpanded values. [`Mount::resolve`] expands the values and checks the
//! combination. The order of options does not matter (M-20); of a repeated key the last one counts.

use std::ops::Range;

use super::diagnostic::Diagnostic;
use super::source::{Span, Spanned};
use super::word::{Word, WordBuilder};

/// One `--mount`, as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// The flag.
    pub span: Span,
    /// The options, in order.
    pub options: Vec<MountOption>,
}

/// One `key=value` of a mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountOption {
    /// The key, aliases resolved.
    pub key: MountKey,
    /// The value; expandable for every key but `from`.
    pub value: Option<Word>,
    /// Key and value.
    pub span: Span,
}

/// The keys of a mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum MountKey {
    /// `type`.
    Type,
    /// `from`.
    From,
    /// `source`, `src`.
    Source,
    /// `target`, `dst`, `destination`.
    Target,
    /// `readonly`, `ro`.
    ReadOnly,
    /// `readwrite`, `rw`.
    ReadWrite,
    /// `id`.
    Id,
    /// `sharing`.
    Sharing,
    /// `required`.
    Required,
    /// `size`.
    Size,
    /// `mode`.
    Mode,
    /// `uid`.
    Uid,
    /// `gid`.
    Gid,
    /// `env`.
    Env,
}

const KEYS: [(&str, MountKey); 19] = [
    ("type", MountKey::Type),
    ("from", MountKey::From),
    ("source", MountKey::Source),
    ("src", MountKey::Source),
    ("target", MountKey::Target),
    ("dst", MountKey::Target),
    ("destination", MountKey::Target),
    ("readonly", MountKey::ReadOnly),
    ("ro", MountKey::ReadOnly),
    ("readwrite", MountKey::ReadWrite),
    ("rw", MountKey::ReadWrite),
    ("id", MountKey::Id),
    ("sharing", MountKey::Sharing),
    ("required", MountKey::Required),
    ("size", MountKey::Size),
    ("mode", MountKey::Mode),
    ("uid", MountKey::Uid),
    ("gid", MountKey::Gid),
    ("env", MountKey::Env),
];

impl MountKey {
    /// The key's full name.
    pub fn as_str(self) -> &'static str {
        KEYS.iter().find(|(_, key)| *key == self).map_or("", |(name, _)| name)
    }

    /// The types that have the key (M-20).
    fn kinds(self) -> &'static [MountKind] {
        use MountKind::{Bind, Cache, Secret, Ssh, Tmpfs};
        match self {
            MountKey::Sharing => &[Cache],
            MountKey::Size => &[Tmpfs],
            MountKey::Required => &[Secret, Ssh],
            MountKey::Mode | MountKey::Uid | MountKey::Gid => &[Cache, Secret, Ssh],
            MountKey::From => &[Bind, Cache, Tmpfs, Ssh],
            MountKey::Source => &[Bind, Cache, Tmpfs, Secret],
            MountKey::Env => &[Secret],
            _ => &[Bind, Cache, Tmpfs, Secret, Ssh],
        }
    }
}

/// What is mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum MountKind {
    /// Files of the context, a stage or an image.
    #[default]
    Bind,
    /// A directory that outlives the build.
    Cache,
    /// Memory.
    Tmpfs,
    /// A secret file or variable.
    Secret,
    /// An agent socket.
    Ssh,
}

const KINDS: [(&str, MountKind); 5] = [
    ("bind", MountKind::Bind),
    ("cache", MountKind::Cache),
    ("tmpfs", MountKind::Tmpfs),
    ("secret", MountKind::Secret),
    ("ssh", MountKind::Ssh),
];

impl MountKind {
    /// The word after `type=`.
    pub fn as_str(self) -> &'static str {
        KINDS.iter().find(|(_, kind)| *kind == self).map_or("", |(name, _)| name)
    }
}

/// Which commands may use a cache at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sharing {
    /// All of them.
    Shared,
    /// Each gets an instance of its own.
    Private,
    /// One after the other.
    Locked,
}

const SHARINGS: [(&str, Sharing); 3] =
    [("shared", Sharing::Shared), ("private", Sharing::Private), ("locked", Sharing::Locked)];

/// A mount with its values expanded and checked. Defaults that depend on more than the mount (`target` of a secret,
/// `id` of a cache) are set by the plan.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MountSpec {
    /// `type`.
    pub kind: MountKind,
    /// `from`.
    pub from: Option<String>,
    /// `source`.
    pub source: Option<String>,
    /// `target`.
    pub target: Option<String>,
    /// Whether writing is refused, as written or by the type's default (M-5, M-10).
    pub read_only: bool,
    /// `id`.
    pub id: Option<String>,
    /// `sharing` of a cache.
    pub sharing: Option<Sharing>,
    /// `required` of a secret or socket.
    pub required: bool,
    /// `size` of a tmpfs, in bytes.
    pub size: Option<u64>,
    /// `mode`.
    pub mode: Option<u32>,
    /// `uid`.
    pub uid: Option<u32>,
    /// `gid`.
    pub gid: Option<u32>,
    /// `env` of a secret.
    pub env: Option<String>,
}

/// One `--device`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// The device's name; not expanded.
    pub name: Word,
    /// Whether the build fails without it.
    pub required: bool,
    /// The flag's value.
    pub span: Span,
}

type Expand<'a> = dyn FnMut(&Word) -> Result<String, Box<Diagnostic>> + 'a;

impl Mount {
    /// Parses the flag's value. A mount whose values need no expansion is checked at once.
    pub(super) fn parse(value: &Word, problems: &mut Vec<Diagnostic>) -> Option<Self> {
        let before = problems.len();
        let fields = fields(value).map_err(|p| problems.push(*p)).ok()?;
        let mut options = Vec::new();
        for field in fields {
            match option(&field) {
                Ok(option) => options.push(option),
                Err(problem) => problems.push(*problem),
            }
        }
        let mount = Self { span: value.span, options };
        let plain = mount.options.iter().all(|o| o.value.as_ref().is_none_or(Word::is_plain));
        if problems.len() == before && plain {
            let checked = mount.resolve(&mut |word| Ok(word.text.clone()));
            problems.extend(checked.err().unwrap_or_default());
        }
        Some(mount)
    }

    /// Expands the values. Ok: the combination is valid. Err: every problem.
    pub fn resolve(&self, expand: &mut Expand<'_>) -> Result<MountSpec, Vec<Diagnostic>> {
        let mut problems = Vec::new();
        let mut spec = MountSpec::default();
        let mut read_only = None;
        for option in &self.options {
            if let Err(problem) = apply(&mut spec, &mut read_only, option, expand) {
                problems.push(*problem);
            }
        }
        spec.read_only = read_only.unwrap_or(!matches!(spec.kind, MountKind::Cache | MountKind::Tmpfs));
        if problems.is_empty() {
            self.check(&spec, &mut problems);
        }
        if problems.is_empty() { Ok(spec) } else { Err(problems) }
    }

    /// The type, and the options that are accepted, as in BuildKit, but have no effect for this type (N-8).
    pub fn without_effect(&self) -> (&'static str, Vec<&MountOption>) {
        let written = self.options.iter().rfind(|option| option.key == MountKey::Type);
        let written = written.and_then(|option| option.value.as_ref()).map_or("bind", |value| value.text.as_str());
        let known = KINDS.iter().find(|(name, _)| name.eq_ignore_ascii_case(written));
        let Some((name, kind)) = known else { return ("", Vec::new()) };
        let unused: &[MountKey] = match kind {
            MountKind::Bind => &[MountKey::Id],
            MountKind::Cache => &[],
            MountKind::Tmpfs => &[MountKey::From, MountKey::Source, MountKey::Id],
            MountKind::Secret => &[MountKey::ReadWrite],
            MountKind::Ssh => &[MountKey::From, MountKey::ReadOnly, MountKey::ReadWrite],
        };
        (name, self.options.iter().filter(|option| unused.contains(&option.key)).collect())
    }

    fn check(&self, spec: &MountSpec, problems: &mut Vec<Diagnostic>) {
        let kind = spec.kind;
        for option in &self.options {
            let kinds = option.key.kinds();
            if !kinds.contains(&kind) {
                let message = format!("`{}` means nothing for a mount of type {}", option.key.as_str(), kind.as_str());
                let names: Vec<&str> = kinds.iter().map(|kind| kind.as_str()).collect();
                let hint = format!("`{}` is for type {}", option.key.as_str(), names.join(", "));
                problems.push(Diagnostic::error(option.span, message).hint(hint));
            }
        }
        if kind == MountKind::Secret {
            if spec.source.is_none() && spec.target.is_none() && spec.id.is_none() {
                let problem = Diagnostic::error(self.span, "a secret mount needs `id`, `source` or `target`");
                problems.push(problem.hint(match &spec.env {
                    Some(env) => format!("for example --mount=type=secret,id=token,env={env}"),
                    None => "for example --mount=type=secret,id=token".to_owned(),
                }));
            }
            if spec.source.is_some() && spec.id.is_some() {
                problems.push(Diagnostic::error(self.span, "a secret mount cannot have both `source` and `id`"));
            }
        }
    }
}

impl Device {
    /// Reads the flag's value: `[name=]NAME[,required[=bool]]`.
    pub(super) fn parse(value: &Word, problems: &mut Vec<Diagnostic>) -> Option<Self> {
        let mut name: Option<Word> = None;
        let mut required = false;
        for field in fields(value).map_err(|p| problems.push(*p)).ok()? {
            let (key, rest) = match field.text.split_once('=') {
                Some((key, rest)) => (key.to_ascii_lowercase(), Some(rest)),
                None => (field.text.to_ascii_lowercase(), None),
            };
            match (key.as_str(), rest) {
                ("required", rest) => match rest.map_or(Some(true), parse_bool) {
                    Some(on) => required = on,
                    None => problems.push(Diagnostic::error(field.span, "`required` takes true or false")),
                },
                ("name", Some(rest)) if name.is_none() => {
                    name = Some(field.part(field.text.len() - rest.len()..field.text.len()));
                }
                // The name of a device may contain `=`: vendor.com/class=name.
                (key, _) if name.is_none() && key != "name" => name = Some(field),
                _ => problems.push(
                    Diagnostic::error(field.span, format!("unexpected `{}` in a device", field.text))
                        .hint("write --device=NAME or --device=name=NAME,required=true"),
                ),
            }
        }
        match name {
            Some(name) if !name.text.is_empty() => Some(Self { name, required, span: value.span }),
            _ => {
                problems.push(Diagnostic::error(value.span, "a device needs a name"));
                None
            }
        }
    }
}

fn option(field: &Word) -> Result<MountOption, Box<Diagnostic>> {
    let (name, value) = match field.text.find('=') {
        Some(eq) => (&field.text[..eq], Some(field.part(eq + 1..field.text.len()))),
        None => (field.text.as_str(), None),
    };
    let lower = name.to_ascii_lowercase();
    let Some((_, key)) = KEYS.iter().find(|(known, _)| *known == lower) else {
        return Err(Box::new(unknown(field, name, value.is_some())));
    };
    if value.is_none() && !matches!(key, MountKey::ReadOnly | MountKey::ReadWrite | MountKey::Required) {
        let problem = Diagnostic::error(field.span, format!("mount option `{name}` needs a value"));
        return Err(Box::new(problem.hint(format!("write {name}=VALUE"))));
    }
    if *key == MountKey::From
        && let Some(value) = &value
        && let Some(at) = value.text.find('$')
        && at + 1 < value.text.len()
    {
        let problem = Diagnostic::error(value.locate(at..value.text.len()), "`from` of a mount is not expanded");
        return Err(Box::new(problem.hint("name the image in a stage, FROM … AS NAME, and mount from that stage")));
    }
    Ok(MountOption { key: *key, value, span: field.span })
}

fn unknown(field: &Word, name: &str, has_value: bool) -> Diagnostic {
    let span = field.locate(0..name.len().max(1).min(field.text.len()));
    if name.is_empty() {
        let problem = Diagnostic::error(span, "a mount option has no name");
        return problem.hint("options are key=value with one comma, and no blank, between two");
    }
    let problem = Diagnostic::error(span, format!("unknown mount option `{name}`"));
    if !has_value && KINDS.iter().any(|(kind, _)| kind.eq_ignore_ascii_case(name)) {
        return problem.hint(format!("did you mean `type={name}`?"));
    }
    let problem = problem.suggest(&name.to_lowercase(), KEYS.iter().map(|(known, _)| *known));
    if problem.hints.is_empty() {
        let names: Vec<&str> = KEYS.iter().map(|(known, _)| *known).collect();
        return problem.note(format!("known are {}", names.join(", ")));
    }
    problem
}

fn apply(
    spec: &mut MountSpec,
    read_only: &mut Option<bool>,
    option: &MountOption,
    expand: &mut Expand<'_>,
) -> Result<(), Box<Diagnostic>> {
    let value = match &option.value {
        Some(value) if option.key == MountKey::From => Some(value.text.clone()),
        Some(value) => Some(expand(value)?),
        None => None,
    };
    let flag = |value: &Option<String>| match value {
        None => Ok(true),
        Some(text) => parse_bool(text).ok_or_else(|| invalid(option, text, "true or false")),
    };
    let text = value.clone().unwrap_or_default();
    let number =
        |radix: u32, want: &str| u32::from_str_radix(&text, radix).map_err(|_| invalid(option, &text, want)).map(Some);
    let given = Some(text.clone()).filter(|t| !t.is_empty());
    match option.key {
        MountKey::Type => spec.kind = choose(option, &text, &KINDS)?,
        MountKey::From => spec.from = given,
        MountKey::Source => spec.source = given,
        MountKey::Target => spec.target = given,
        MountKey::ReadOnly => *read_only = Some(flag(&value)?),
        MountKey::ReadWrite => *read_only = Some(!flag(&value)?),
        MountKey::Id => spec.id = given,
        MountKey::Sharing => spec.sharing = Some(choose(option, &text, &SHARINGS)?),
        MountKey::Required => spec.required = flag(&value)?,
        MountKey::Size => {
            let size = parse_size(&text);
            spec.size = Some(size.ok_or_else(|| invalid(option, &text, "bytes, perhaps with k, m, g, t"))?);
        }
        MountKey::Mode => spec.mode = number(8, "octal digits")?,
        MountKey::Uid => spec.uid = number(10, "a number")?,
        MountKey::Gid => spec.gid = number(10, "a number")?,
        MountKey::Env => spec.env = given,
    }
    Ok(())
}

fn choose<T: Copy>(option: &MountOption, text: &str, known: &[(&'static str, T)]) -> Result<T, Box<Diagnostic>> {
    let lower = text.to_ascii_lowercase();
    if let Some((_, value)) = known.iter().find(|(name, _)| *name == lower) {
        return Ok(*value);
    }
    let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
    let problem = invalid(option, text, &names.join(", "));
    Err(Box::new(problem.suggest(&lower, names)))
}

fn invalid(option: &MountOption, text: &str, want: &str) -> Box<Diagnostic> {
    let span = option.value.as_ref().map_or(option.span, |v| v.span);
    let message = format!("mount option `{}` is `{text}`, want {want}", option.key.as_str());
    Box::new(Diagnostic::error(span, message))
}

/// A boolean in one of the spellings that Go's `strconv.ParseBool` accepts.
pub(crate) fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// Bytes with an optional binary unit: `64m`, `1.5g`, `100KiB`.
fn parse_size(text: &str) -> Option<u64> {
    let split = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let number: f64 = number.parse().ok()?;
    let unit = unit.trim_start_matches(' ').to_ascii_lowercase();
    let unit = unit.strip_suffix("ib").or_else(|| unit.strip_suffix('b')).unwrap_or(&unit);
    let power = match unit {
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        _ => return None,
    };
    let bytes = number * 1024f64.powi(power);
    (bytes.is_finite() && bytes < 9.0e18).then_some(bytes as u64)
}

/// Splits at commas. A field in double quotes may contain commas; `""` is a quote in it.
fn fields(value: &Word) -> Result<Vec<Word>, Box<Diagnostic>> {
    let text = &value.text;
    let mut out = Vec::new();
    let mut at = 0;
    let problem = |range: Range<usize>, message: &str| Box::new(Diagnostic::error(value.locate(range), message));
    loop {
        if text[at..].starts_with('"') {
            let start = at;
            let mut field = WordBuilder::default();
            at += 1;
            loop {
                let Some(length) = text[at..].find('"') else {
                    return Err(problem(start..start + 1, "unterminated quote in a comma-separated value"));
                };
                field.push(&text[at..at + length], value.locate(at..at + 1).start);
                at += length + 1;
                if !text[at..].starts_with('"') {
                    break;
                }
                field.push("\"", value.locate(at..at + 1).start);
                at += 1;
            }
            if !text[at..].is_empty() && !text[at..].starts_with(',') {
                return Err(problem(at..at + 1, "text after the closing quote of a field"));
            }
            out.push(field.finish(value.locate(start..at)));
        } else {
            let length = text[at..].find(',').unwrap_or(text.len() - at);
            if let Some(quote) = text[at..at + length].find('"') {
                return Err(problem(at + quote..at + quote + 1, "a quote must open at the start of a field"));
            }
            out.push(value.part(at..at + length));
            at += length;
        }
        if at >= text.len() {
            return Ok(out);
        }
        at += 1;
    }
}

/// The value of a flag that has a fixed set of them: `--network`, `--security`.
pub(super) fn keyword<T: Copy>(
    flag: &str,
    value: &Word,
    known: &[(&'static str, T)],
    problems: &mut Vec<Diagnostic>,
) -> Option<Spanned<T>> {
    if let Some((_, found)) = known.iter().find(|(name, _)| *name == value.text) {
        return Some(Spanned::new(*found, value.span));
    }
    let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
    let message = format!("flag --{flag} is `{}`, want {}", value.text, names.join(", "));
    problems.push(Diagnostic::error(value.span, message).suggest(&value.text, names));
    None
}
