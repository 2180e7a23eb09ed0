//! URLs without what grants access, for messages and for the history of images (S-6, C-31).

/// Stands for what was removed.
const REDACTED: &str = "xxxxx";
/// A query parameter whose name contains one of these is a secret.
const SECRET_PARTS: [&str; 9] =
    ["token", "secret", "passw", "signature", "credential", "authoriz", "apikey", "accesskey", "privatekey"];
/// A query parameter of which one word is one of these is a secret.
const SECRET_WORDS: [&str; 6] = ["sig", "key", "auth", "pass", "pwd", "jwt"];

/// `text` without the user information and the secret query parameters of the URL that it is. The account of an
/// `ssh://` URL stays unless a password follows it; text that is no URL is returned as it is.
pub(crate) fn redacted(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("//").filter(|(scheme, _)| scheme.is_empty() || scheme.ends_with(':'))
    else {
        return text.to_owned();
    };
    let (authority, rest) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let mut out = format!("{scheme}//");
    match authority.rsplit_once('@') {
        Some((user, host)) if is_secret_user(scheme, user) => out.extend([REDACTED, "@", host]),
        _ => out.push_str(authority),
    }
    let (rest, fragment) = rest.split_at(rest.find('#').unwrap_or(rest.len()));
    let (path, query) = rest.split_at(rest.find('?').unwrap_or(rest.len()));
    out.push_str(path);
    if let Some(query) = query.strip_prefix('?') {
        out.push('?');
        out.push_str(&query.split('&').map(redacted_parameter).collect::<Vec<_>>().join("&"));
    }
    out + fragment
}

/// `name=value`, the value removed if it is a secret. Some servers also separate parameters by `;`, which may as well be
/// part of the secret.
fn redacted_parameter(text: &str) -> String {
    let mut start = 0;
    for parameter in text.split_inclusive(';') {
        if let Some((name, value)) = parameter.split_once('=')
            && !matches!(value, "" | ";")
            && is_secret_name(name)
        {
            return format!("{}{name}={REDACTED}", &text[..start]);
        }
        start += parameter.len();
    }
    text.to_owned()
}

/// Whether user information is a secret: over HTTP a name alone may be a token, elsewhere it is an account.
fn is_secret_user(scheme: &str, user: &str) -> bool {
    let is_http = ["http:", "https:", ""].iter().any(|http| http.eq_ignore_ascii_case(scheme));
    is_http || user.contains(':') || user.contains("%3")
}

fn is_secret_name(name: &str) -> bool {
    let name = String::from_utf8_lossy(&percent_decode(name)).to_ascii_lowercase();
    SECRET_PARTS.iter().any(|part| name.contains(part))
        || name.split(|c: char| !c.is_alphanumeric()).any(|word| SECRET_WORDS.contains(&word))
}

/// The bytes that `text` stands for; a `%` that two hexadecimal digits do not follow stays.
pub(crate) fn percent_decode(text: &str) -> Vec<u8> {
    let mut decoded = Vec::new();
    let mut bytes = text.as_bytes();
    while let Some((&b, rest)) = bytes.split_first() {
        let hex = |at: usize| (bytes.get(at).copied()? as char).to_digit(16);
        match (b, hex(1), hex(2)) {
            (b'%', Some(high), Some(low)) => {
                decoded.push((high * 16 + low) as u8);
                bytes = &bytes[3..];
            }
            _ => {
                decoded.push(b);
                bytes = rest;
            }
        }
    }
    decoded
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn redacted_url_keeps_all_but_secrets_c31() {
        for (url, want) in [
            ("https://me:secret@h/x?a@b", "https://xxxxx@h/x?a@b"),
            ("https://token@h/x", "https://xxxxx@h/x"),
            ("HTTPS://token@h", "HTTPS://xxxxx@h"),
            ("//me:secret@h/x", "//xxxxx@h/x"),
            ("ssh://git@h/x", "ssh://git@h/x"),
            ("ssh://git:secret@h/x", "ssh://xxxxx@h/x"),
            ("https://h/x@y", "https://h/x@y"),
            ("https://h/x?a=1&X-Amz-Signature=s&b=2#f", "https://h/x?a=1&X-Amz-Signature=xxxxx&b=2#f"),
            ("https://h/x?sig=s", "https://h/x?sig=xxxxx"),
            ("https://h/x?a=?;%74oken=s;?&b", "https://h/x?a=?;%74oken=xxxxx&b"),
            ("https://h/r.git?ref=main&keep-git-dir=1", "https://h/r.git?ref=main&keep-git-dir=1"),
            ("https://h/x?design=a&token=", "https://h/x?design=a&token="),
            ("git@h:owner/name", "git@h:owner/name"),
            ("a//b@c", "a//b@c"),
            ("a@b", "a@b"),
        ] {
            assert_eq!(redacted(url), want, "{url}");
        }
    }

    #[test]
    fn percent_signs_are_decoded_where_valid() {
        assert_eq!(percent_decode("a%20b%zz%2"), b"a b%zz%2");
    }

    proptest! {
        #[test]
        fn redacted_url_holds_no_credentials(
            scheme in "https?|HTTP|ssh|git",
            account in "[a-z]{1,4}",
            host in "[a-z]{1,8}(:[0-9]{1,4})?",
            path in "(/[a-z@:]{0,4}){0,2}",
            before in "([a-z]{1,3}=[a-z]{0,3}[&;]){0,2}",
            name in "token|access_token|Access-Token|X-Amz-Signature|X-Amz-Credential|sig|api_key|apiKey|pass|%70assword",
            after in "(&[a-z]{1,3}=[a-z@?]{0,3}){0,2}",
            fragment in "(#[a-z:/@]{0,4})?",
        ) {
            let secret = "S3CR3T";
            let url = format!(
                "{scheme}://{account}:{secret}@{host}{path}?{before}{name}={secret}{after}{fragment}"
            );
            let shown = redacted(&url);
            prop_assert!(!shown.contains(secret), "{shown}");
            prop_assert_eq!(&shown, &url.replace(&format!("{account}:{secret}"), REDACTED).replace(secret, REDACTED));
            prop_assert_eq!(redacted(&shown), shown);
        }

        #[test]
        fn any_text_can_be_redacted(text in "\\PC{0,40}") {
            let once = redacted(&text);
            prop_assert_eq!(redacted(&once), once);
        }
    }
}
