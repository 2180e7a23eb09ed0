//! Tokens: which credentials are sent where, and how often.

use super::*;

/// A registry that requires the bearer token `good` from the token server at `realm`.
fn guarded(realm: String) -> Server {
    let image = hosted("linux/amd64", b"layer");
    Server::start(move |r| match r.header("authorization") {
        Some("Bearer good") => image.answer(r),
        _ => Reply::new(401, r#"{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}"#)
            .with("www-authenticate", format!(r#"Bearer realm="{realm}",service="svc",scope="repository:app:pull""#)),
    })
}

fn with(registry: &str, auth: &str) -> Client {
    let mut credentials = Credentials::none();
    credentials.add("test", format!(r#"{{"auths":{{"{registry}":{auth}}}}}"#).as_bytes());
    Client::new(Options { credentials, timing: short_timing(), ..Options::default() })
}

#[test]
fn one_token_serves_all_requests() {
    let tokens = Server::start(|_| Reply::new(200, r#"{"token":"good"}"#));
    let server = guarded(format!("http://{}/token", tokens.authority));
    client().pull(&name(&server), &amd64(), &Memory::default(), 4).expect("pulled");
    let asked = tokens.log();
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].target, "/token?service=svc&scope=repository%3Aapp%3Apull");
    assert_eq!(asked[0].header("authorization"), None);
    assert_eq!(server.log().iter().filter(|r| r.header("authorization").is_none()).count(), 1);
}

#[test]
fn password_is_sent_to_token_server_as_basic() {
    let tokens = Server::start(|r| match r.header("authorization") {
        Some("Basic dTpw") => Reply::new(200, r#"{"access_token":"good","expires_in":60}"#),
        _ => Reply::new(401, r#"{"details":"incorrect username or password"}"#),
    });
    let server = guarded(format!("http://{}/token", tokens.authority));
    let store = Memory::default();
    with(&server.authority, r#"{"auth":"dTpw"}"#).resolve(&name(&server), &amd64(), &store).expect("resolved");
    let wrong = with(&server.authority, r#"{"username":"u","password":"no"}"#);
    let message = wrong.resolve(&name(&server), &amd64(), &Memory::default()).expect_err("denied").to_string();
    assert!(message.contains("denied access: 401 incorrect username or password"), "{message}");
    assert!(server.log().iter().all(|r| r.header("authorization").is_none_or(|a| !a.starts_with("Basic"))));
}

#[test]
fn identity_token_is_exchanged_by_post_o76() {
    let tokens = Server::start(|r| {
        let right =
            r.method == "POST" && r.body.contains("grant_type=refresh_token") && r.body.contains("refresh_token=ref");
        if right { Reply::new(200, r#"{"access_token":"good"}"#) } else { Reply::new(400, "") }
    });
    let server = guarded(format!("http://{}/token", tokens.authority));
    let client = with(&server.authority, r#"{"identitytoken":"ref"}"#);
    client.resolve(&name(&server), &amd64(), &Memory::default()).expect("resolved");
}

#[test]
fn repeated_challenges_end_in_an_error_s58() {
    let tokens = Server::start(|_| Reply::new(200, r#"{"token":"never-good-enough"}"#));
    let server = guarded(format!("http://{}/token", tokens.authority));
    let message = client().resolve(&name(&server), &amd64(), &Memory::default()).expect_err("denied").to_string();
    assert!(message.contains("denied access (no credentials for it): 401"), "{message}");
    assert!(server.log().len() <= 3);
}

#[test]
fn password_is_not_sent_to_plain_http_token_server_s58() {
    let server = guarded("http://tokens.example/token".to_owned());
    let client = with(&server.authority, r#"{"auth":"dTpw"}"#);
    let message = client.resolve(&name(&server), &amd64(), &Memory::default()).expect_err("refused").to_string();
    assert!(message.contains("is not reached over https"), "{message}");
}

#[test]
fn unusable_tokens_are_refused_s58() {
    for answer in [r#"{"token":"a b"}"#, r#"{"token":"a\r\nx: y"}"#, r#"{"token":""}"#, "{}", "no json"] {
        let tokens = Server::start(move |_| Reply::new(200, answer));
        let server = guarded(format!("http://{}/token", tokens.authority));
        let message = client().resolve(&name(&server), &amd64(), &Memory::default()).expect_err("refused").to_string();
        assert!(message.contains("no usable token"), "{answer}: {message}");
    }
    let huge = format!(r#"{{"token":"{}"}}"#, "x".repeat(2 << 20));
    let tokens = Server::start(move |_| Reply::new(200, huge.clone()));
    let server = guarded(format!("http://{}/token", tokens.authority));
    let message = client().resolve(&name(&server), &amd64(), &Memory::default()).expect_err("refused").to_string();
    assert!(message.contains("larger than"), "{message}");
}

#[test]
fn expired_token_is_renewed_once() {
    let count = std::sync::atomic::AtomicUsize::new(0);
    let tokens = Server::start(move |_| {
        let n = count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        Reply::new(200, format!(r#"{{"token":"t{n}"}}"#))
    });
    let realm = format!("http://{}/token", tokens.authority);
    let image = hosted("linux/amd64", b"layer");
    let seen = std::sync::atomic::AtomicUsize::new(0);
    let server = Server::start(move |r| {
        // Each token is good for two requests.
        let n = seen.load(std::sync::atomic::Ordering::SeqCst);
        if r.header("authorization") == Some(format!("Bearer t{}", n / 2).as_str()) {
            seen.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            return image.answer(r);
        }
        Reply::new(401, "").with("www-authenticate", format!(r#"Bearer realm="{realm}""#))
    });
    client().pull(&name(&server), &amd64(), &Memory::default(), 1).expect("pulled");
}
