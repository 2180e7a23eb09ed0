//! Tokens: which credentials are sent where, and how often.

use super::*;

/// A registry that requires the bearer token `good` from the token server at `realm`.
fn guarded(realm: String) -> Server {
    let image = hosted("linux/amd64", b"layer");
    Server::start(move |r| match r.header("authorization") {
        Some("Bearer good") if r.target == "/v2/" => Reply::new(200, "{}"),
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
    // The manifest is asked for at once, and all goes through the connection that was refused first.
    let asked: Vec<String> = server.log().iter().map(|r| format!("{} {}", r.method, r.target)).collect();
    assert_eq!(asked[..2], ["GET /v2/app/manifests/1", "GET /v2/app/manifests/1"]);
    assert!(asked.len() == 4 && asked[2..].iter().all(|asked| asked.starts_with("GET /v2/app/blobs/")), "{asked:?}");
    assert_eq!(server.connections(), 1);
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

/// A registry as [`guarded`] whose tokens are good only once `good` says so.
fn demanding(realm: String, good: impl Fn(&str) -> bool + Send + Sync + 'static) -> Server {
    let image = hosted("linux/amd64", b"layer");
    Server::start(move |r| match r.header("authorization").and_then(|value| value.strip_prefix("Bearer ")) {
        Some(token) if good(token) => image.answer(r),
        _ => Reply::new(401, "").with("www-authenticate", format!(r#"Bearer realm="{realm}",error="invalid_token""#)),
    })
}

#[test]
fn parallel_requests_renew_an_expired_token_once() {
    let count = std::sync::atomic::AtomicUsize::new(0);
    let tokens = Server::start(move |_| {
        let n = count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        // The others wait meanwhile.
        std::thread::sleep(Duration::from_millis(50));
        Reply::new(200, format!(r#"{{"token":"t{n}"}}"#))
    });
    // Once the manifest has been read, the first token is no longer accepted.
    let expired = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let server = demanding(format!("http://{}/token", tokens.authority), {
        let expired = std::sync::Arc::clone(&expired);
        move |token| token == if expired.load(std::sync::atomic::Ordering::SeqCst) { "t1" } else { "t0" }
    });
    let (client, store) = (client(), Memory::default());
    let pinned = client.resolve(&name(&server), &amd64(), &store).expect("resolved");
    expired.store(true, std::sync::atomic::Ordering::SeqCst);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let layers = &pinned.image.manifest.layers;
                client.fetch(&name(&server), layers, &Memory::default(), 1).expect("fetched");
            });
        }
    });
    assert_eq!(tokens.log().len(), 2);
}

#[test]
fn token_is_renewed_before_it_expires() {
    let count = std::sync::atomic::AtomicUsize::new(0);
    let tokens = Server::start(move |_| {
        let n = count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        Reply::new(200, format!(r#"{{"token":"t{n}","expires_in":{}}}"#, ["1", "\"900\""][n.min(1)]))
    });
    let server = demanding(format!("http://{}/token", tokens.authority), |_| true);
    let (client, store) = (client(), Memory::default());
    let pinned = client.resolve(&name(&server), &amd64(), &store).expect("resolved");
    std::thread::sleep(Duration::from_millis(1100));
    client.fetch(&name(&server), &pinned.image.manifest.layers, &store, 1).expect("fetched");
    assert_eq!(server.log().last().and_then(|r| r.header("authorization")), Some("Bearer t1"));
    let refused = server.log().iter().filter(|r| r.header("authorization").is_none()).count();
    assert_eq!((refused, tokens.log().len()), (1, 2), "the registry did not have to refuse the first token");
}

#[test]
fn login_asks_for_a_refresh_token_o76() {
    let tokens = Server::start(|r| match r.header("authorization") {
        Some("Basic dTpwYXNzd29yZA==") => Reply::new(200, r#"{"token":"good","refresh_token":"ref","expires_in":60}"#),
        _ => Reply::new(401, r#"{"details":"no such user"}"#),
    });
    let server = guarded(format!("http://{}/token", tokens.authority));
    let stored = client().verify_login(&server.authority, "u", "password").expect("accepted");
    assert!(stored == super::super::credential::Credential::Identity("ref".to_owned()), "{stored:?}");
    let asked = &tokens.log()[0].target;
    assert_eq!(asked, "/token?service=svc&account=u&offline_token=true&client_id=kiln");
    let error = client().verify_login(&server.authority, "u", "other").expect_err("refused");
    let want = format!("{}: {} denied access: 401 no such user", server.authority, tokens.authority);
    assert_eq!(error.to_string(), want);
    // A token server that knows no refresh tokens leaves the password.
    let tokens = Server::start(|_| Reply::new(200, r#"{"access_token":"good"}"#));
    let server = guarded(format!("http://{}/token", tokens.authority));
    let stored = client().verify_login(&server.authority, "u", "password").expect("accepted");
    assert!(matches!(stored, super::super::credential::Credential::Password { .. }), "{stored:?}");
}

#[test]
fn expired_refresh_token_is_told_from_missing_rights() {
    use Refusal::*;
    for (status, auth, want) in [
        (400, r#"{"identitytoken":"ref-old"}"#, Credentials),
        (401, r#"{"auth":"dTpw"}"#, Credentials),
        (403, r#"{"auth":"dTpw"}"#, Access),
        (403, "{}", Anonymous),
    ] {
        let tokens = Server::start(move |_| Reply::new(status, r#"{"error":"invalid_grant"}"#));
        let server = guarded(format!("http://{}/token", tokens.authority));
        let error = with(&server.authority, auth).resolve(&name(&server), &amd64(), &Memory::default());
        match error.expect_err("denied") {
            RegistryError::Denied { refusal, registry, host, .. } => {
                assert_eq!((refusal, registry, host), (want, server.authority.clone(), tokens.authority.clone()));
            }
            other => panic!("{other}"),
        }
    }
    // A token that does not cover the repository.
    let tokens = Server::start(|_| Reply::new(200, r#"{"token":"good"}"#));
    let realm = format!("http://{}/token", tokens.authority);
    let server = Server::start(move |_| {
        let challenge = format!(r#"Bearer realm="{realm}",error="insufficient_scope""#);
        Reply::new(401, "").with("www-authenticate", challenge)
    });
    let client = with(&server.authority, r#"{"auth":"dTpw"}"#);
    let error = client.resolve(&name(&server), &amd64(), &Memory::default()).expect_err("denied");
    assert!(matches!(error, RegistryError::Denied { refusal: Access, .. }), "{error:?}");
}

#[test]
fn host_that_is_redirected_to_gets_no_credentials_s58() {
    let thief = Server::start(|_| Reply::new(200, r#"{"token":"x"}"#));
    let realm = format!("http://{}/token", thief.authority);
    // A redirect to a host that asks for credentials, and names itself as the token server.
    let elsewhere = Server::start(move |_| {
        Reply::new(401, "").with("www-authenticate", format!(r#"Bearer realm="{realm}",service="x""#))
    });
    let away = format!("http://{}/x", elsewhere.authority);
    let server = Server::start(move |_| Reply::new(307, "").with("location", away.clone()));
    let client = with(&server.authority, r#"{"auth":"dTpw"}"#);
    let error = client.resolve(&name(&server), &amd64(), &Memory::default()).expect_err("refused");
    assert_eq!(error.to_string(), format!("{}/app:1: {} denied access: 401", server.authority, elsewhere.authority));
    assert!(matches!(error, RegistryError::Denied { refusal: Refusal::Elsewhere, .. }), "{error:?}");
    let error = client.verify_login(&server.authority, "u", "p").expect_err("refused");
    assert!(matches!(error, RegistryError::Denied { refusal: Refusal::Elsewhere, .. }), "{error:?}");
    assert_eq!(thief.log().len(), 0);
    // A token server that redirects: the password stays behind, a refresh token is not sent at all.
    let (takes, taken) = (thief.authority.clone(), thief.log().len());
    let tokens = Server::start(move |_| Reply::new(307, "").with("location", format!("http://{takes}/token")));
    let server = guarded(format!("http://{}/token", tokens.authority));
    let refresh = with(&server.authority, r#"{"identitytoken":"refresh-secret"}"#);
    let message = refresh.resolve(&name(&server), &amd64(), &Memory::default()).expect_err("refused").to_string();
    let want = format!("http://{}/token: redirects credentials to http://{}/token", tokens.authority, thief.authority);
    assert_eq!((message, thief.log().len()), (want, taken));
    let password = with(&server.authority, r#"{"auth":"dTpw"}"#);
    assert!(password.resolve(&name(&server), &amd64(), &Memory::default()).is_err());
    assert!(thief.log().iter().all(|r| r.header("authorization").is_none()));
}

#[test]
fn secrets_that_a_server_repeats_are_not_shown_s58() {
    // "u:hunter-2"
    let (auth, refresh) = (r#"{"auth":"dTpodW50ZXItMg=="}"#, r#"{"identitytoken":"refresh/secret"}"#);
    for (auth, repeated) in [(auth, "dTpodW50ZXItMg== is u and hunter-2"), (refresh, "refresh/secret is old")] {
        let tokens = Server::start(move |_| Reply::new(401, repeated));
        let server = guarded(format!("http://{}/token", tokens.authority));
        let error = with(&server.authority, auth).resolve(&name(&server), &amd64(), &Memory::default());
        let message = format!("{0} {0:?}", error.expect_err("denied"));
        for secret in ["dTpodW50ZXItMg==", "hunter-2", "refresh/secret"] {
            assert!(!message.contains(secret) && message.contains("xxxxx is "), "{message}");
        }
    }
    let mut credentials = Credentials::none();
    credentials.add("f", br#"{"auths":{"r":{"auth":"dTpodW50ZXItMg==","password":"hunter-2","identitytoken":"ref"}}}"#);
    let shown = format!("{:?}", Options { credentials, ..Options::default() });
    assert!(!shown.contains("hunter") && !shown.contains("dTpo") && !shown.contains("ref\""), "{shown}");
}
