//! What to say about a line that does not start with an instruction.

use crate::dockerfile::diagnostic::Diagnostic;
use crate::dockerfile::keyword::KEYWORDS;
use crate::dockerfile::line::Line;
use crate::dockerfile::word::Word;

/// Characters that start no instruction, but often a line that should continue the one above.
const CONTINUES: [&str; 17] = ["&", "|", ";", ">", "<", "-", "+", "(", ")", "[", "]", "{", "}", "\"", "'", "$", ","];

/// Reports a line whose first word is not an instruction. `text` is the whole source: the line above often explains
/// the mistake.
pub(super) fn unknown(line: &Line, word: &Word, text: &str, escape: char) -> Diagnostic {
    let shown: String = word.text.chars().take(40).collect();
    let mut problem = Diagnostic::error(word.span, format!("unknown instruction: {shown}"));
    let conflict = ["<<<<<<<", "=======", ">>>>>>>", "|||||||"].iter().any(|mark| word.text.starts_with(mark));
    if conflict {
        return problem.hint("this is the mark of a merge conflict: resolve it");
    }
    if let Some(blank) = word.text.chars().find(|c| !c.is_ascii() && (c.is_whitespace() || *c == '\u{200b}')) {
        let code = u32::from(blank);
        return problem.hint(format!("U+{code:04X} in it looks like a blank, but separates nothing: write a blank"));
    }
    if word.text.starts_with("//") || word.text.starts_with("/*") {
        return problem.hint("a comment starts with #");
    }
    problem = problem.suggest(&word.text.to_ascii_uppercase(), KEYWORDS.map(|(name, _)| name));
    if !problem.hints.is_empty() {
        return problem;
    }
    if let Some(hint) = above(text, word.span.start as usize, escape) {
        return problem.hint(hint);
    }
    if CONTINUES.iter().any(|start| word.text.starts_with(start)) && word.span.start > 0 {
        return problem.hint(format!("to continue the instruction above, end its line with `{escape}`"));
    }
    if line.text.contains("<<") {
        return problem.note("a heredoc may follow RUN, COPY and ADD only");
    }
    problem
}

/// Explains from the line above why this line does not continue it.
fn above(text: &str, at: usize, escape: char) -> Option<String> {
    let start = text[..at].rfind('\n')?;
    let above = text[..start].rsplit('\n').next()?.trim_end();
    let commented = above.rfind('#').is_some_and(|hash| {
        let before = &above[..hash];
        before.ends_with([' ', '\t']) && before.trim_end().ends_with(escape)
    });
    if commented {
        return Some(format!(
            "`{escape}` continues a line only at its end: put the comment above on a line of its own"
        ));
    }
    if above.ends_with(escape) {
        return Some(format!("two `{escape}` are one that is escaped, and do not continue a line; one does"));
    }
    let open = ["&&", "||", "|", ";", ","].into_iter().find(|operator| above.ends_with(operator))?;
    Some(format!("the line above ends in `{open}`: end it with `{escape}` to continue it here"))
}
