//! `WWW-Authenticate`: how a server asks for credentials (RFC 9110 §11.6.1).

use std::collections::BTreeMap;

/// One challenge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Challenge {
    /// In lower case.
    pub(super) scheme: String,
    parameters: BTreeMap<String, String>,
}

impl Challenge {
    /// All challenges of these header values.
    pub(super) fn all<S: AsRef<str>>(values: &[S]) -> Vec<Self> {
        values.iter().flat_map(|value| parse(value.as_ref())).collect()
    }

    /// A parameter, by its name in lower case.
    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.get(name).map(String::as_str)
    }
}

/// Reads a header value, which may hold several challenges. What cannot be read is skipped.
fn parse(text: &str) -> Vec<Challenge> {
    let mut challenges: Vec<Challenge> = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let end = rest.find([' ', ',', '=']).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        if let Some(value) = after.strip_prefix('=') {
            let (value, after) = value_of(value);
            if let Some(challenge) = challenges.last_mut() {
                challenge.parameters.insert(word.to_ascii_lowercase(), value);
            }
            rest = after;
        } else {
            if !word.is_empty() {
                challenges.push(Challenge { scheme: word.to_ascii_lowercase(), parameters: BTreeMap::new() });
            }
            rest = after;
        }
        rest = rest.trim_start_matches([' ', ',', '\t']);
    }
    challenges
}

/// A token or a quoted string, and the text after it.
fn value_of(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ' ']).unwrap_or(text.len());
        return (text[..end].to_owned(), &text[end..]);
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((i, c)) = chars.next() {
        match c {
            '"' => return (value, &quoted[i + 1..]),
            '\\' => value.extend(chars.next().map(|(_, c)| c)),
            c => value.push(c),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_of_real_servers_are_parsed() {
        let parsed =
            parse(r#"Bearer realm="https://auth.example/token",service="r.example",scope="repository:a/b:pull,push""#);
        assert_eq!(parsed.len(), 1);
        assert_eq!(parsed[0].scheme, "bearer");
        assert_eq!(parsed[0].parameters["scope"], "repository:a/b:pull,push");
        let parsed = parse(r#"Basic realm="a \"quoted\" name", bearer realm=https://x , error=invalid_token"#);
        assert_eq!(parsed.iter().map(|c| c.scheme.as_str()).collect::<Vec<_>>(), ["basic", "bearer"]);
        assert_eq!(parsed[0].parameters["realm"], "a \"quoted\" name");
        assert_eq!(parsed[1].parameters["error"], "invalid_token");
        for odd in ["", " ", "=", "Bearer", "Bearer realm=\"", ",,,", "a=b"] {
            let _ = parse(odd);
        }
    }
}
