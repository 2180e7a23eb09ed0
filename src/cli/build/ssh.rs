//! `--ssh`: agents for RUN steps and for git.
//!
//! **Order.** An agent of the user is used as it is. Key files are loaded into an agent that kiln starts and that ends with
//! the build: it runs `cat`, which ends with kiln's end of the pipe.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::base::fs;
use crate::cli::failure::{Failure, Kind};
use crate::cli::request::{BuildRequest, SshFrom};
use crate::cli::session::Session;
use crate::engine::source::Origin;
use crate::fetch::GitUrl;
use crate::plan::{CopySource, Plan, StepKind};
use crate::sandbox::agent_listens;
use crate::store::{Scratch, Store};

/// The id of the agent that git uses.
const DEFAULT: &str = "default";
/// How long an agent may take to start.
const PATIENCE: Duration = Duration::from_secs(5);
/// The environment of ssh-agent and ssh-add.
const PATH: &str = "/usr/bin:/bin:/usr/local/bin";

/// Agents for a build; dropping this ends those that kiln started.
pub(super) struct Agents {
    /// Sockets by id.
    pub(super) sockets: BTreeMap<String, PathBuf>,
    _own: Vec<Own>,
}

struct Own {
    child: Child,
    _scratch: Scratch,
}

impl Drop for Own {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The agent for git. It must be known before the steps run. For a context, the agent of the user is used without `--ssh`;
/// a Dockerfile can use only an agent that `--ssh` names (C-25).
pub(super) struct GitAgent {
    own: Option<Agents>,
    given: Option<PathBuf>,
}

impl GitAgent {
    /// Ok: the agent listens.
    pub(super) fn new(
        asked: &BTreeMap<String, SshFrom>,
        users: Option<&Path>,
        context: bool,
        store: impl FnOnce() -> Result<Store, Failure>,
    ) -> Result<Self, Failure> {
        Ok(match asked.get(DEFAULT) {
            None => Self { own: None, given: users.filter(|_| context).map(Path::to_owned) },
            Some(SshFrom::Agent(socket)) => Self { own: None, given: Some(socket.clone()) },
            Some(SshFrom::Keys(_)) => Self { own: Some(agents(asked, &store()?)?), given: None },
        })
    }

    /// The socket.
    pub(super) fn socket(&self) -> Option<&Path> {
        let own = self.own.as_ref().and_then(|own| own.sockets.get(DEFAULT));
        own.or(self.given.as_ref()).map(PathBuf::as_path)
    }
}

/// Starts the agent for git unless it is started. `context`: a context is fetched through ssh.
pub(super) fn start(
    agent: &mut Option<GitAgent>,
    request: &BuildRequest,
    session: &Session<'_>,
    context: bool,
) -> Result<(), Failure> {
    if agent.is_none() {
        *agent = Some(GitAgent::new(&request.ssh, session.environment.agent(), context, || session.store())?);
    }
    Ok(())
}

/// Whether some context is a repository that is fetched through ssh.
pub(super) fn is_needed_by_contexts(request: &BuildRequest) -> bool {
    let mut remotes = request.source.origin.iter().chain(request.remotes.values());
    remotes.any(|remote| matches!(&remote.origin, Origin::Git { url, .. } if url.is_ssh()))
}

/// Whether some ADD fetches a repository through ssh.
pub(super) fn is_needed_by(plan: &Plan) -> bool {
    let sources = plan.steps.iter().flat_map(|step| match &step.kind {
        StepKind::Copy(copy) => copy.sources.as_slice(),
        _ => &[],
    });
    let mut urls = sources.filter_map(|source| if let CopySource::Git(url) = source { Some(url) } else { None });
    urls.any(|url| is_ssh(url))
}

/// Whether a repository is fetched through ssh. What is no URL is reported when it is fetched.
pub(super) fn is_ssh(url: &str) -> bool {
    GitUrl::parse(url).is_ok_and(|url| url.is_ssh())
}

/// Ok: every id has an agent that listens, with its keys loaded.
pub(super) fn agents(asked: &BTreeMap<String, SshFrom>, store: &Store) -> Result<Agents, Failure> {
    let mut agents = Agents { sockets: BTreeMap::new(), _own: Vec::new() };
    for (id, from) in asked {
        let socket = match from {
            SshFrom::Agent(socket) => socket.clone(),
            SshFrom::Keys(keys) => {
                let (own, socket) = load(id, keys, store)?;
                agents._own.push(own);
                socket
            }
        };
        agents.sockets.insert(id.clone(), socket);
    }
    Ok(agents)
}

fn load(id: &str, keys: &[PathBuf], store: &Store) -> Result<(Own, PathBuf), Failure> {
    let scratch = store.scratch()?;
    let dir = scratch.subdir("ssh")?;
    let missing = |e: std::io::Error| {
        Failure::new(Kind::Host, format!("--ssh {id}: cannot start ssh-agent: {e}"))
            .hint("install OpenSSH's ssh-agent and ssh-add (package openssh-client)")
    };
    let program = |name: &str| {
        let mut command = Command::new(name);
        command.env_clear().env("PATH", PATH).current_dir(&dir);
        command
    };
    // A plain agent would outlive kiln; one that runs a program ends with it, and `cat` ends with the pipe.
    let child = program("ssh-agent")
        .args(["-a", "agent", "cat"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(missing)?;
    let own = Own { child, _scratch: scratch };
    let began = Instant::now();
    while agent_listens(&dir.join("agent")).is_err() {
        if began.elapsed() > PATIENCE {
            return Err(Failure::new(Kind::Host, format!("--ssh {id}: ssh-agent does not start")));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    for key in keys {
        add(id, key, program("ssh-add")).map_err(|error| error.into_failure(missing))?;
    }
    Ok((own, dir.join("agent")))
}

/// Loads one key through standard input: from a file, ssh-add refuses keys that others can read.
fn add(id: &str, key: &Path, mut ssh_add: Command) -> Result<(), AddError> {
    let bytes = fs::read(key).map_err(|e| AddError::Said(Failure::usage(format!("--ssh {id}: {e}"))))?;
    ssh_add.args(["-q", "-"]).env("SSH_AUTH_SOCK", "agent").env("SSH_ASKPASS_REQUIRE", "never");
    ssh_add.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = ssh_add.spawn().map_err(AddError::Program)?;
    if let Some(mut stdin) = child.stdin.take() {
        // ssh-add reports the problem itself.
        let _ = stdin.write_all(&bytes);
    }
    let out = child.wait_with_output().map_err(AddError::Program)?;
    if out.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&out.stderr).trim().replace('\n', "; ");
    let failure = |why: &str| Failure::usage(format!("--ssh {id}: {} cannot be used: {why}", key.display()));
    Err(AddError::Said(if said.contains("passphrase") {
        failure("it has a passphrase").hint("load it into your agent with ssh-add KEY, then use --ssh default")
    } else {
        failure(&said).hint("pass a private key, or the socket of an agent")
    }))
}

enum AddError {
    Said(Failure),
    Program(std::io::Error),
}

impl AddError {
    fn into_failure(self, program: impl FnOnce(std::io::Error) -> Failure) -> Failure {
        match self {
            AddError::Said(failure) => failure,
            AddError::Program(error) => program(error),
        }
    }
}
