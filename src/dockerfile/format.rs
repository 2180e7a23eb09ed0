//! The syntax tree as a Dockerfile, in one canonical spelling.
//!
//! **Holds.** Parsing the text gives the same tree, except for positions and for blank lines inside instructions.

use super::ast::{Command, Copy, CopySource, Dockerfile, Escape, Healthcheck, Instruction, Run, Statement};
use super::heredoc::Heredoc;
use super::line::{MAX_LINE, continued};
use super::source::Spanned;
use super::word::Word;

/// Writes the file out.
pub fn to_text(file: &Dockerfile) -> String {
    let mut out = String::new();
    let escape = file.escape();
    let directives = &file.directives;
    let escape_text = directives.escape.map(|e| e.node.char().to_string());
    let values = [
        ("syntax", directives.syntax.as_ref().map(|w| w.text.as_str())),
        ("escape", escape_text.as_deref()),
        ("check", directives.check.as_ref().map(|w| w.text.as_str())),
    ];
    for (name, value) in values {
        if let Some(value) = value {
            out.push_str(&format!("# {name}={value}\n"));
        }
    }
    for statement in &file.global_args {
        let node = Instruction::Arg(statement.node.clone());
        write(&mut out, statement, escape, &instruction(&node, &statement.keyword.text), &[]);
    }
    for stage in &file.stages {
        let from = &stage.from.node;
        let mut line = Line::new(&stage.from.keyword.text);
        line.flag("platform", from.platform.as_ref(), false);
        line.arguments([from.image.text.as_str()]);
        if let (Some(keyword), Some(alias)) = (&from.as_keyword, &from.alias) {
            line.text.push_str(&format!(" {} {}", keyword.text, alias.text));
        }
        write(&mut out, &stage.from, escape, &line.text, &[]);
        for statement in &stage.instructions {
            let text = instruction(&statement.node, &statement.keyword.text);
            write(&mut out, statement, escape, &text, &bodies(&statement.node));
        }
    }
    out
}

/// Comments, the line, and the bodies of its heredocs. The empty line before them keeps comments with their
/// instruction and ends the directives.
fn write<T>(out: &mut String, statement: &Statement<T>, escape: Escape, line: &str, bodies: &[&Heredoc]) {
    out.push('\n');
    for comment in &statement.comments {
        out.push_str("# ");
        out.push_str(&comment.text);
        out.push('\n');
    }
    fold(out, line, escape.char());
    for heredoc in bodies {
        out.push_str(&heredoc.raw.text);
        out.push_str(&heredoc.name);
        out.push('\n');
    }
}

/// Writes one logical line as physical lines that are not too long and do not continue unintentionally.
fn fold(out: &mut String, mut line: &str, escape: char) {
    while line.len() > MAX_LINE {
        let fits = |(at, c): &(usize, char)| {
            let before = line[..*at].chars().next_back();
            *at < MAX_LINE - 1 && !c.is_whitespace() && *c != '#' && before.is_none_or(|b| b != escape)
        };
        let Some((at, _)) = line.char_indices().take_while(|(at, _)| *at < MAX_LINE).filter(fits).last() else { break };
        if at == 0 {
            break;
        }
        out.push_str(&line[..at]);
        out.push(escape);
        out.push('\n');
        line = &line[at..];
    }
    out.push_str(line);
    if continued(line, escape).is_some() {
        // A blank that is trimmed later, so that the escape is not the last character.
        out.push('\u{b}');
    }
    out.push('\n');
}

fn bodies(node: &Instruction) -> Vec<&Heredoc> {
    match node {
        Instruction::Run(run) => run.heredocs.iter().collect(),
        Instruction::Add(copy) | Instruction::Copy(copy) => copy.written.iter().collect(),
        Instruction::Onbuild(onbuild) => bodies(&onbuild.inner.node),
        _ => Vec::new(),
    }
}

fn instruction(node: &Instruction, keyword: &str) -> String {
    let mut line = Line::new(keyword);
    match node {
        Instruction::Add(node) | Instruction::Copy(node) => copy(&mut line, node),
        Instruction::Run(node) => run(&mut line, node),
        Instruction::Arg(node) => {
            let items = node.items.iter().map(|item| match &item.default {
                Some(default) => format!("{}={}", item.name.text, default.text),
                None => item.name.text.clone(),
            });
            line.arguments(items);
        }
        Instruction::Cmd(node) | Instruction::Entrypoint(node) => line.arguments([command(node)]),
        Instruction::Env(node) | Instruction::Label(node) => {
            let separator = if node.legacy { ' ' } else { '=' };
            line.arguments(node.pairs.iter().map(|(key, value)| format!("{}{separator}{}", key.text, value.text)));
        }
        Instruction::Expose(node) => line.arguments(node.iter().map(|word| &word.text)),
        Instruction::Shell(node) => line.arguments([json(node)]),
        Instruction::Volume(node) if node.json => line.arguments([json(&node.paths)]),
        Instruction::Volume(node) => line.arguments(node.paths.iter().map(|word| &word.text)),
        Instruction::Healthcheck(node) => healthcheck(&mut line, node),
        Instruction::Maintainer(word)
        | Instruction::StopSignal(word)
        | Instruction::User(word)
        | Instruction::Workdir(word) => line.arguments([&word.text]),
        // The config stores exactly this text.
        Instruction::Onbuild(node) => line.arguments([&node.inner.text]),
    }
    line.text
}

struct Line {
    text: String,
}

impl Line {
    fn new(keyword: &str) -> Self {
        Self { text: keyword.to_owned() }
    }

    /// Words as they are. The first must not look like a flag, and words that start with a bracket must not become a
    /// JSON list: the blank between them is one that JSON does not allow.
    fn arguments<S: AsRef<str>>(&mut self, words: impl IntoIterator<Item = S>) {
        let mut blank = ' ';
        for (i, word) in words.into_iter().enumerate() {
            let word = word.as_ref();
            if i == 0 && word.starts_with("--") {
                self.text.push_str(" --");
            }
            self.text.push(if i == 0 { ' ' } else { blank });
            if i == 0 && word.starts_with('[') {
                blank = '\u{b}';
            }
            self.text.push_str(word);
        }
    }

    /// A flag, with all characters escaped that are special in flags or heredocs. `$` is escaped only if `dollars`: a
    /// line with an unclosed `${` has no heredocs, and must not get any.
    fn flag(&mut self, name: &str, value: Option<&Word>, dollars: bool) {
        if let Some(value) = value {
            self.flag_text(name, &value.text, dollars);
        }
    }

    fn flag_text(&mut self, name: &str, value: &str, dollars: bool) {
        self.text.push_str(&format!(" --{name}="));
        for c in value.chars() {
            if matches!(c, '\\' | '"' | '\'') || c.is_whitespace() || (c == '$' && dollars) {
                self.text.push('\\');
            }
            self.text.push(c);
        }
    }

    fn bool(&mut self, name: &str, value: Option<Spanned<bool>>) {
        if let Some(value) = value {
            self.text.push_str(&format!(" --{name}={}", value.node));
        }
    }
}

fn json(words: &[Word]) -> String {
    let words: Vec<&str> = words.iter().map(Word::as_str).collect();
    serde_json::to_string(&words).unwrap_or_default()
}

fn command(node: &Command) -> String {
    match node {
        Command::Shell(line) => line.text.clone(),
        Command::Exec(words) => json(words),
    }
}

fn run(line: &mut Line, node: &Run) {
    let dollars = !node.heredocs.is_empty();
    for mount in &node.mounts {
        let fields = mount.options.iter().map(|option| match &option.value {
            Some(value) => field(&format!("{}={}", option.key.as_str(), value.text)),
            None => option.key.as_str().to_owned(),
        });
        line.flag_text("mount", &fields.collect::<Vec<_>>().join(","), dollars);
    }
    if let Some(network) = node.network {
        line.flag_text("network", &format!("{:?}", network.node).to_lowercase(), false);
    }
    if let Some(security) = node.security {
        line.flag_text("security", &format!("{:?}", security.node).to_lowercase(), false);
    }
    for device in &node.devices {
        let name = field(&format!("name={}", device.name.text));
        let required = if device.required { ",required" } else { "" };
        line.flag_text("device", &format!("{name}{required}"), dollars);
    }
    line.arguments([command(&node.command)]);
}

/// One field of a comma-separated value.
fn field(text: &str) -> String {
    if text.contains([',', '"']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.to_owned() }
}

fn copy(line: &mut Line, node: &Copy) {
    let dollars = !node.written.is_empty();
    line.flag("from", node.from.as_ref(), dollars);
    line.flag("chown", node.chown.as_ref(), dollars);
    line.flag("chmod", node.chmod.as_ref(), dollars);
    line.bool("link", node.link);
    line.bool("parents", node.parents);
    for pattern in &node.exclude {
        line.flag("exclude", Some(pattern), dollars);
    }
    line.flag("checksum", node.checksum.as_ref(), dollars);
    line.bool("keep-git-dir", node.keep_git_dir);
    line.bool("unpack", node.unpack);
    let sources = node.sources.iter().map(|source| match source {
        CopySource::Path(word) => word.text.clone(),
        CopySource::Heredoc(doc) => opening(doc),
    });
    let all: Vec<String> = sources.chain([node.dest.text.clone()]).collect();
    if node.json {
        line.arguments([serde_json::to_string(&all).unwrap_or_default()]);
    } else {
        line.arguments(all);
    }
}

/// `N<<-NAME`, with the name quoted if the body is not expanded.
fn opening(doc: &Heredoc) -> String {
    let fd = doc.fd.map(|fd| fd.to_string()).unwrap_or_default();
    let chomp = if doc.chomp { "-" } else { "" };
    let mut name = String::new();
    if !doc.expand {
        name.push_str("''");
    }
    for c in doc.name.chars() {
        if matches!(c, '\\' | '"' | '\'' | '$') {
            name.push('\\');
        }
        name.push(c);
    }
    format!("{fd}<<{chomp}{name}")
}

fn healthcheck(line: &mut Line, node: &Healthcheck) {
    let test = match node {
        Healthcheck::None => return line.arguments(["NONE"]),
        Healthcheck::Test(test) => test,
    };
    for (name, value) in test.options() {
        line.flag_text(name, &value, false);
    }
    line.arguments([format!("CMD {}", command(&test.command))]);
}
