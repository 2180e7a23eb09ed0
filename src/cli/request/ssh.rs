//! `--ssh`: agents and keys.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::cli::failure::Failure;
use crate::sandbox::agent_listens;

use super::Environment;

/// The source of an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cli) enum SshFrom {
    /// The socket of a running agent.
    Agent(PathBuf),
    /// Key files, for an agent that kiln starts.
    Keys(Vec<PathBuf>),
}

/// `--ssh default|ID[=SOCKET|KEY[,KEY]]` (O-34).
pub(super) fn ssh(given: &[String], environment: &Environment) -> Result<BTreeMap<String, SshFrom>, Failure> {
    use std::os::unix::fs::FileTypeExt as _;
    let mut agents = BTreeMap::new();
    for text in given {
        let wrong = |why: String| Failure::usage(format!("--ssh {text:?}: {why}"));
        let (id, paths) = text.split_once('=').unwrap_or((text, ""));
        if id.is_empty() {
            return Err(wrong("the id is empty".to_owned()));
        }
        let start = format!("start an agent (eval $(ssh-agent)), or name keys: --ssh {id}=FILE");
        let from = if paths.is_empty() {
            let socket = environment
                .non_empty("SSH_AUTH_SOCK")
                .ok_or_else(|| wrong("SSH_AUTH_SOCK is not set".to_owned()).hint(start.clone()))?;
            let socket = absolute(Path::new(socket));
            if let Err(e) = agent_listens(&socket) {
                let failure =
                    wrong(format!("no agent answers at {}, which SSH_AUTH_SOCK names: {e}", socket.display()));
                return Err(failure.hint(start));
            }
            SshFrom::Agent(socket)
        } else {
            let paths: Vec<PathBuf> = paths.split(',').map(|path| absolute(Path::new(path))).collect();
            let mut sockets = 0;
            for path in &paths {
                let found = std::fs::metadata(path).map_err(|e| wrong(format!("{}: {e}", path.display())))?;
                if found.is_dir() {
                    return Err(wrong(format!("{} is a directory", path.display())));
                }
                if path.extension().is_some_and(|extension| extension == "pub") {
                    let why = format!("{} is a public key", path.display());
                    return Err(wrong(why).hint(format!("pass the private key: {}", path.with_extension("").display())));
                }
                sockets += usize::from(found.file_type().is_socket());
            }
            match (sockets, paths.as_slice()) {
                (0, _) => SshFrom::Keys(paths),
                (1, [socket]) => match agent_listens(socket) {
                    Ok(()) => SshFrom::Agent(socket.clone()),
                    Err(e) => return Err(wrong(format!("no agent answers at {}: {e}", socket.display())).hint(start)),
                },
                _ => return Err(wrong("want one socket, or key files".to_owned())),
            }
        };
        if agents.insert(id.to_owned(), from).is_some() {
            return Err(wrong(format!("{id} is given twice")));
        }
    }
    Ok(agents)
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}
