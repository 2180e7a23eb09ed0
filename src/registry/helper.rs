//! Credential helpers: programs named `docker-credential-NAME` that keep credentials (O-76).
//!
//! **Holds.** A helper reads its request from standard input, so that no secret is an argument, and is killed if it hangs.
//! Its own words are in every error.

use std::io::{self, Read, Write};
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::RegistryError;
use super::credential::Credential;

const TIMEOUT: Duration = Duration::from_secs(30);
/// The time that a child of an ended helper may keep its standard error open.
const STDERR_TIMEOUT: Duration = Duration::from_secs(1);
const MAX_OUTPUT: u64 = 1 << 20;

/// A helper that a credential file names.
pub(super) struct Helper {
    program: String,
    /// File and program, for errors.
    origin: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Stored {
    username: String,
    secret: String,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ToStore<'a> {
    #[serde(rename = "ServerURL")]
    server: &'a str,
    username: &'a str,
    secret: &'a str,
}

impl Helper {
    /// The helper `name` of the file `origin`. Ok: the name is one; the program may not exist.
    pub(super) fn new(origin: &str, name: &str) -> Result<Self, RegistryError> {
        let program = format!("docker-credential-{name}");
        let helper = Self { origin: format!("{origin}: {program}"), program };
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)) {
            return Err(helper.failure("not the name of a credential helper".to_owned()));
        }
        Ok(helper)
    }

    /// The credential for a server; `None`: it has none.
    pub(super) fn get(&self, server: &str) -> Result<Option<Credential>, RegistryError> {
        let Some(answer) = self.ask("get", server.as_bytes())? else { return Ok(None) };
        let stored: Stored =
            serde_json::from_slice(&answer).map_err(|_| self.failure("its output is not a credential".to_owned()))?;
        Ok(Some(Credential::from_pair(&stored.username, &stored.secret)))
    }

    /// Ok: the helper has stored user name and password for a server.
    pub(super) fn store(&self, server: &str, username: &str, secret: &str) -> Result<(), RegistryError> {
        let request = serde_json::to_vec(&ToStore { server, username, secret });
        let request = request.map_err(|e| self.failure(e.to_string()))?;
        self.ask("store", &request).map(drop)
    }

    /// Ok: the helper has nothing for a server any more. `false`: it had nothing.
    pub(super) fn erase(&self, server: &str) -> Result<bool, RegistryError> {
        Ok(self.ask("erase", server.as_bytes())?.is_some())
    }

    /// Runs the helper with one request. `None`: it has no credentials.
    fn ask(&self, action: &str, request: &[u8]) -> Result<Option<Vec<u8>>, RegistryError> {
        let mut child = Command::new(&self.program)
            .arg(action)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|e| self.failure(format!("cannot be started: {e}")))?;
        if let Some(mut stdin) = child.stdin.take() {
            // A helper that does not read its input reports the reason with its exit code.
            let _ = stdin.write_all(request);
        }
        let output = collect(child.stdout.take());
        let errors = collect(child.stderr.take());
        let answer = match output.recv_timeout(TIMEOUT) {
            Ok(answer) => answer.map_err(|e| self.failure(e.to_string()))?,
            Err(_) => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(self.failure(format!("gave no answer within {} s", TIMEOUT.as_secs())));
            }
        };
        let status = child.wait().map_err(|e| self.failure(e.to_string()))?;
        if status.success() {
            return Ok(Some(answer));
        }
        // The protocol expects the message on standard output, but many helpers write it to standard error.
        let errors = errors.recv_timeout(STDERR_TIMEOUT).ok().and_then(Result::ok).unwrap_or_default();
        let text = [answer, errors].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).join("\n");
        if text.contains("credentials not found") || text.contains("no credentials") {
            return Ok(None);
        }
        let line = text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
        Err(self.failure(if line.is_empty() { format!("ended with {status}") } else { line.to_owned() }))
    }

    fn failure(&self, why: String) -> RegistryError {
        RegistryError::Credentials { origin: self.origin.clone(), why }
    }
}

/// Reads a stream to its end in another thread.
fn collect(stream: Option<impl Read + Send + 'static>) -> Receiver<io::Result<Vec<u8>>> {
    let (done, output) = mpsc::channel();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let read = stream.map_or(Ok(0), |stream| stream.take(MAX_OUTPUT).read_to_end(&mut bytes));
        // The receiver is gone if the helper was killed.
        let _ = done.send(read.map(|_| bytes));
    });
    output
}
