//! A token server, whose tokens Debian's `docker-registry` accepts.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::dir::Dir;
use super::server::{Reply, Request, Server};

/// The refresh token that a login gets.
pub const REFRESH: &str = "refresh-z9q7x-canary";

const ISSUER: &str = "kiln-tests";
const SERVICE: &str = "registry.test";

/// A running token server, which knows one user. Guard the test with `requires!(openssl)`.
pub struct Tokens {
    server: Server,
    issuer: Arc<Issuer>,
}

/// What makes tokens.
struct Issuer {
    dir: Dir,
    /// `user:password` in base64.
    user: String,
    /// The next tokens have expired already: so many.
    expired: AtomicUsize,
}

impl Tokens {
    /// Starts one for this user, who has all rights except those on `other/…`.
    pub fn start(user: &str, password: &str) -> Tokens {
        let dir = Dir::new();
        let made = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=tokens"])
            .args(["-keyout", "key.pem", "-out", "cert.pem"])
            .current_dir(dir.path())
            .output()
            .expect("run openssl");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let user = STANDARD.encode(format!("{user}:{password}"));
        let issuer = Arc::new(Issuer { dir, user, expired: AtomicUsize::new(0) });
        let server = Server::start({
            let issuer = Arc::clone(&issuer);
            move |request| issuer.answer(request)
        });
        Tokens { server, issuer }
    }

    /// The configuration with which a registry accepts the tokens.
    pub fn config(&self) -> String {
        format!(
            "auth:\n  token:\n    realm: http://{}/token\n    service: {SERVICE}\n    issuer: {ISSUER}\n    \
             rootcertbundle: {}\n",
            self.server.authority,
            self.issuer.dir.path().join("cert.pem").display()
        )
    }

    /// The next token has expired already.
    pub fn expire_next(&self) {
        self.issuer.expired.store(1, Ordering::SeqCst);
    }

    /// All requests so far: `GET` or `POST`, and the fields of query or form.
    pub fn asked(&self) -> Vec<String> {
        self.server.log().iter().map(|r| format!("{} {}", r.method, fields_of(r).concat())).collect()
    }

    /// `HOST:PORT`.
    pub fn host(&self) -> &str {
        &self.server.authority
    }
}

/// The fields of a query and a form, decoded: `name=value;`.
fn fields_of(request: &Request) -> Vec<String> {
    let query = request.target.split_once('?').map_or("", |(_, query)| query);
    let pairs = query.split('&').chain(request.body.split('&')).filter(|pair| !pair.is_empty());
    pairs.map(|pair| format!("{};", decoded(pair))).collect()
}

fn decoded(text: &str) -> String {
    let mut parts = text.split('%');
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (code, rest) = part.split_at(2);
        out.push(char::from(u8::from_str_radix(code, 16).expect("a percent-encoded byte")));
        out.push_str(rest);
    }
    out
}

impl Issuer {
    fn answer(&self, request: &Request) -> Reply {
        let fields = fields_of(request);
        let values = |name: &str| -> Vec<String> {
            let named =
                fields.iter().filter_map(|field| field.strip_suffix(';')?.strip_prefix(name)?.strip_prefix('='));
            named.flat_map(|value| value.split(' ')).map(str::to_owned).collect()
        };
        let known = match (request.method.as_str(), request.header("authorization")) {
            ("POST", _) if values("refresh_token") == [REFRESH] => true,
            ("POST", _) => return Reply::new(400, r#"{"error":"invalid_grant"}"#),
            (_, Some(given)) if given == format!("Basic {}", self.user) => true,
            (_, Some(_)) => return Reply::new(401, r#"{"details":"incorrect username or password"}"#),
            (_, None) => false,
        };
        let access: Vec<Value> = values("scope").iter().filter(|_| known).filter_map(|scope| granted(scope)).collect();
        let mut answer = json!({ "token": self.token(&access), "expires_in": 300 });
        if known && !values("offline_token").is_empty() {
            answer["refresh_token"] = json!(REFRESH);
        }
        Reply::new(200, answer.to_string())
    }

    /// A signed token (RFC 7519) with its certificate.
    fn token(&self, access: &[Value]) -> String {
        let pem = std::fs::read_to_string(self.dir.path().join("cert.pem")).expect("read");
        let certificate: String = pem.lines().filter(|line| !line.starts_with("--")).collect();
        let header = json!({ "typ": "JWT", "alg": "RS256", "x5c": [certificate] });
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
        let old = self.expired.swap(0, Ordering::SeqCst) as u64 * 3600;
        let claims = json!({
            "iss": ISSUER, "sub": "kiln", "aud": SERVICE, "jti": now.to_string(),
            "iat": now - 10 - old, "nbf": now - 10 - old, "exp": now + 300 - old, "access": access,
        });
        let text = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string())).join(".");
        format!("{text}.{}", URL_SAFE_NO_PAD.encode(self.signature(&text)))
    }

    fn signature(&self, text: &str) -> Vec<u8> {
        use std::io::Write as _;
        let mut openssl = Command::new("openssl")
            .args(["dgst", "-sha256", "-sign", "key.pem"])
            .current_dir(self.dir.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("run openssl");
        openssl.stdin.take().expect("a pipe").write_all(text.as_bytes()).expect("write");
        openssl.wait_with_output().expect("wait").stdout
    }
}

/// What a scope grants, as tokens spell it.
fn granted(scope: &str) -> Option<Value> {
    let (resource, actions) = scope.rsplit_once(':')?;
    let (kind, name) = resource.split_once(':')?;
    let actions: Vec<&str> = actions.split(',').filter(|_| !name.starts_with("other/")).collect();
    Some(json!({ "type": kind, "name": name, "actions": actions }))
}
