//! A cache service of GitHub Actions: what a token may read, entries that are written once, and blobs behind signed URLs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::{Reply, Request, Server};

const READ: u32 = 1;
const WRITE: u32 = 2;
const METHODS: &str = "/twirp/github.actions.results.api.v1.CacheService/";

/// A running service; it ends with the test process.
pub struct Actions {
    server: Server,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    entries: Vec<Entry>,
    blobs: BTreeMap<String, Vec<u8>>,
    /// By blob and id.
    blocks: BTreeMap<(String, String), Vec<u8>>,
    finalized: usize,
}

struct Entry {
    key: String,
    version: String,
    branch: String,
    blob: String,
    /// When it was finalized; 0: it was not.
    order: usize,
}

/// A token for these branches; the first one may be written, if `writes`.
pub fn token(branches: &[&str], writes: bool) -> String {
    let right = |(at, branch): (usize, &&str)| {
        let permission = if at == 0 && writes { READ | WRITE } else { READ };
        json!({ "Scope": branch, "Permission": permission })
    };
    let rights: Vec<Value> = branches.iter().enumerate().map(right).collect();
    let claims = json!({ "nbf": 1, "exp": 9_999_999_999_u64, "ac": Value::from(rights).to_string() });
    let [head, claims] = [json!({ "alg": "none" }), claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string()));
    format!("{head}.{claims}.hidden")
}

impl Actions {
    /// A service that works.
    pub fn start() -> Self {
        Self::with(|_| None)
    }

    /// A service in which `first` may answer instead.
    pub fn with(first: impl Fn(&Request) -> Option<Reply> + Send + Sync + 'static) -> Self {
        let state = Arc::<Mutex<State>>::default();
        let shared = Arc::clone(&state);
        let server = Server::start(move |request| match first(request) {
            Some(reply) => reply,
            None => answer(request, &mut shared.lock().expect("lock")),
        });
        Self { server, state }
    }

    /// The URL of the service.
    pub fn url(&self) -> String {
        format!("http://{}/", self.server.authority)
    }

    /// All requests so far, each in a word or two.
    pub fn asked(&self) -> Vec<String> {
        self.server.log().iter().map(word).collect()
    }

    /// How many of the requests were this one.
    pub fn requests(&self, word: &str) -> usize {
        self.asked().iter().filter(|asked| *asked == word).count()
    }

    /// The keys of all entries, with their contents.
    pub fn entries(&self) -> BTreeMap<String, Vec<u8>> {
        let state = self.state.lock().expect("lock");
        let content = |entry: &Entry| (entry.key.clone(), state.blobs.get(&entry.blob).cloned().unwrap_or_default());
        state.entries.iter().filter(|entry| entry.order > 0).map(content).collect()
    }

    /// Changes the contents of the entries whose keys have this text.
    pub fn alter(&self, text: &str, change: impl Fn(&mut Vec<u8>)) {
        let mut state = self.state.lock().expect("lock");
        let blobs: BTreeSet<String> =
            state.entries.iter().filter(|entry| entry.key.contains(text)).map(|entry| entry.blob.clone()).collect();
        state.blobs.iter_mut().filter(|(id, _)| blobs.contains(*id)).for_each(|(_, content)| change(content));
    }

    /// Removes the entries whose keys have this text.
    pub fn evict(&self, text: &str) {
        self.state.lock().expect("lock").entries.retain(|entry| !entry.key.contains(text));
    }

    /// Reserves a key as a writer does that dies then.
    pub fn abandon(&self, key: &str) {
        let mut state = self.state.lock().expect("lock");
        let like = state.entries.iter().find(|entry| entry.key.contains("-index-")).expect("an index");
        let (version, branch) = (like.version.clone(), like.branch.clone());
        state.entries.push(Entry { key: key.to_owned(), version, branch, blob: "none".to_owned(), order: 0 });
    }
}

/// What a request is.
pub fn word(request: &Request) -> String {
    let (path, query) = request.target.split_once('?').unwrap_or((&request.target, ""));
    match path.strip_prefix(METHODS) {
        Some(method) => method.to_owned(),
        None if query.contains("comp=blocklist") => format!("{} list", request.method),
        None if query.contains("comp=block") => format!("{} block", request.method),
        None => format!("{} blob", request.method),
    }
}

fn answer(request: &Request, state: &mut State) -> Reply {
    let path = request.target.split('?').next().unwrap_or_default();
    let Some(method) = path.strip_prefix(METHODS) else { return blob(request, state) };
    let token = request.header("authorization").and_then(|header| header.strip_prefix("Bearer "));
    let Some(rights) = token.and_then(rights) else { return refuse(401, "unauthenticated", "bad token") };
    let question: Value = serde_json::from_str(&request.body).expect("JSON");
    let text = |name: &str| question[name].as_str().unwrap_or_default().to_owned();
    let (key, version) = (text("key"), text("version"));
    assert!((1..=512).contains(&key.len()) && version.len() == 64 && request.method == "POST", "{question}");
    let host = request.header("host").expect("a host");
    let own = rights.iter().find(|(_, permission)| permission & WRITE != 0).map(|(branch, _)| branch.clone());
    match method {
        "GetCacheEntryDownloadURL" => {
            let prefixes: Vec<String> = [key.clone()]
                .into_iter()
                .chain(
                    question["restore_keys"]
                        .as_array()
                        .into_iter()
                        .flatten()
                        .map(|k| k.as_str().expect("a key").to_owned()),
                )
                .collect();
            match find(state, &rights, &key, &prefixes, &version) {
                None => Reply::new(200, r#"{"ok":false}"#),
                Some(entry) => {
                    let url = format!("http://{host}/blobs/{}?sig=read%2Fhidden", entry.blob);
                    let found = json!({ "ok": true, "signed_download_url": url, "matched_key": entry.key });
                    Reply::new(200, found.to_string())
                }
            }
        }
        "CreateCacheEntry" => {
            let denied = r#"{"ok":false,"message":"cache write denied: token has no writable scopes"}"#;
            let Some(branch) = own else { return Reply::new(200, denied) };
            if state.entries.iter().any(|e| e.key == key && e.version == version && e.branch == branch) {
                return refuse(
                    409,
                    "already_exists",
                    "cache entry with the same key, version, and scope already exists",
                );
            }
            let blob = format!("{}", state.entries.len());
            let url = format!("http://{host}/blobs/{blob}?sig=write%2Fhidden");
            state.entries.push(Entry { key, version, branch, blob, order: 0 });
            Reply::new(200, json!({ "ok": true, "signed_upload_url": url }).to_string())
        }
        "FinalizeCacheEntryUpload" => {
            let size: Option<usize> = text("size_bytes").parse().ok();
            let order = state.finalized + 1;
            let State { entries, blobs, .. } = state;
            let entry =
                entries.iter_mut().find(|e| e.key == key && e.version == version && Some(&e.branch) == own.as_ref());
            match entry {
                Some(entry) if size.is_some_and(|size| size > 0) && blobs.get(&entry.blob).map(Vec::len) == size => {
                    entry.order = order;
                    state.finalized = order;
                    Reply::new(200, json!({ "ok": true, "entry_id": order.to_string() }).to_string())
                }
                _ => refuse(404, "not_found", "no such upload"),
            }
        }
        _ => refuse(404, "bad_route", "no such method"),
    }
}

/// The entry that a lookup finds: branch by branch an exact key, then the newest that begins so.
fn find<'s>(
    state: &'s State,
    rights: &[(String, u32)],
    key: &str,
    prefixes: &[String],
    version: &str,
) -> Option<&'s Entry> {
    rights.iter().find_map(|(branch, _)| {
        let mine = || state.entries.iter().filter(|e| e.order > 0 && e.branch == *branch && e.version == version);
        let newest = |prefix: &String| mine().filter(|e| e.key.starts_with(prefix)).max_by_key(|e| e.order);
        mine().find(|e| e.key == key).or_else(|| prefixes.iter().find_map(newest))
    })
}

fn blob(request: &Request, state: &mut State) -> Reply {
    let (path, query) = request.target.split_once('?').unwrap_or((&request.target, ""));
    let Some(id) = path.strip_prefix("/blobs/").map(str::to_owned) else { return Reply::new(404, "") };
    assert_eq!(request.header("authorization"), None, "the token is for the service only");
    let field =
        |name: &str| query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('=').map(str::to_owned));
    match (request.method.as_str(), field("comp").as_deref()) {
        ("GET", None) if field("sig").as_deref() == Some("read%2Fhidden") => {
            let Some(content) = state.blobs.get(&id) else { return Reply::new(404, azure("BlobNotFound")) };
            let Some(range) = request.header("range") else { return Reply::new(200, content.clone()) };
            let (start, end) = range.strip_prefix("bytes=").and_then(|range| range.split_once('-')).expect("a range");
            let (start, end): (usize, usize) = (start.parse().expect("start"), end.parse().expect("end"));
            match content.get(start..=end.min(content.len().saturating_sub(1))) {
                Some(part) => {
                    let range = format!("bytes {start}-{end}/{}", content.len());
                    Reply::new(206, part).with("content-range", range)
                }
                None => Reply::new(416, azure("InvalidRange")),
            }
        }
        ("PUT", _) if field("sig").as_deref() != Some("write%2Fhidden") => {
            Reply::new(403, azure("AuthenticationFailed"))
        }
        ("PUT", None) if request.header("x-ms-blob-type") == Some("BlockBlob") => {
            state.blobs.insert(id, request.bytes.clone());
            Reply::new(201, "")
        }
        ("PUT", Some("block")) => {
            let block = field("blockid").expect("an id");
            let block = String::from_utf8(STANDARD.decode(block).expect("base64")).expect("text");
            state.blocks.insert((id, block), request.bytes.clone());
            Reply::new(201, "")
        }
        ("PUT", Some("blocklist")) => {
            let ids = request.body.split("<Latest>").skip(1).map(|rest| rest.split('<').next().expect("an id"));
            let mut content = Vec::new();
            for block in ids {
                let block = String::from_utf8(STANDARD.decode(block).expect("base64")).expect("text");
                match state.blocks.get(&(id.clone(), block)) {
                    Some(bytes) => content.extend(bytes),
                    None => return Reply::new(400, azure("InvalidBlockList")),
                }
            }
            state.blobs.insert(id, content);
            Reply::new(201, "")
        }
        _ => Reply::new(403, azure("AuthenticationFailed")),
    }
}

/// What a token may do, by branch.
fn rights(token: &str) -> Option<Vec<(String, u32)>> {
    let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?).ok()?;
    let rights: Vec<Value> = serde_json::from_str(claims["ac"].as_str()?).ok()?;
    let right = |right: &Value| Some((right["Scope"].as_str()?.to_owned(), right["Permission"].as_u64()? as u32));
    rights.iter().map(right).collect()
}

fn refuse(status: u16, code: &str, message: &str) -> Reply {
    Reply::new(status, json!({ "code": code, "msg": message }).to_string())
}

fn azure(code: &str) -> String {
    format!("<?xml version=\"1.0\" encoding=\"utf-8\"?><Error><Code>{code}</Code><Message>sig=hidden</Message></Error>")
}
