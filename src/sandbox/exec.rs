//! Executes the command, the last step of init.

use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{Access, AtFlags};

use super::hint::Hint;
use super::problem::{Problem, StepResult};
use super::program::ExecObstacle;

/// The search path if the environment has none.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Replaces this process by `argv`. Returns only if that fails, with code 127 = not found, 126 = found but not
/// executable.
pub(super) fn exec(argv: &[OsString], env: &[(OsString, OsString)]) -> Problem {
    match attempt(argv, env) {
        Err(problem) => problem,
        Ok(never) => match never {},
    }
}

fn attempt(argv: &[OsString], env: &[(OsString, OsString)]) -> StepResult<std::convert::Infallible> {
    let Some(command) = argv.first() else { return Err(Problem::request("no command")) };
    let shown = command.to_string_lossy().into_owned();
    let arguments = argv.iter().map(|arg| c_string(arg.as_bytes())).collect::<StepResult<Vec<_>>>()?;
    let mut variables = Vec::with_capacity(env.len());
    for (name, value) in env {
        variables.push(c_string(&[name.as_bytes(), b"=", value.as_bytes()].concat())?);
    }
    if command.as_bytes().contains(&b'/') {
        let Err(error) = execve(&arguments[0], &arguments, &variables);
        return Err(explain(&shown, command, &error));
    }
    let path = env.iter().find(|(name, _)| name == "PATH").map(|(_, value)| value.as_os_str());
    let path = path.unwrap_or(OsStr::new(DEFAULT_PATH));
    let mut denied = None;
    for dir in path.as_bytes().split(|b| *b == b':').filter(|_| !command.is_empty()) {
        let dir = if dir.is_empty() { b"." } else { dir };
        let file = Path::new(OsStr::from_bytes(dir)).join(command);
        let Err(error) = execve(&c_string(file.as_os_str().as_bytes())?, &arguments, &variables);
        match error.raw_os_error() {
            Some(libc::ENOENT) if !exists(&file) => {}
            Some(libc::ENOTDIR) => {}
            Some(libc::EACCES) => denied = Some((file, error)),
            _ => return Err(explain(&shown, file.as_os_str(), &error)),
        }
    }
    if let Some((file, error)) = denied {
        return Err(explain(&shown, file.as_os_str(), &error));
    }
    let problem = Problem::request(format!("{shown}: not found in PATH")).with_code(127);
    Err(problem.hint(Hint::SearchPath(path.to_string_lossy().into_owned())))
}

fn execve(file: &CString, argv: &[CString], env: &[CString]) -> Result<std::convert::Infallible, io::Error> {
    nix::unistd::execve(file, argv, env).map_err(io::Error::from)
}

fn c_string(bytes: &[u8]) -> StepResult<CString> {
    CString::new(bytes).map_err(|_| {
        Problem::request(format!("{:?} contains a NUL byte", String::from_utf8_lossy(bytes))).with_code(126)
    })
}

fn exists(file: &Path) -> bool {
    rustix::fs::accessat(rustix::fs::CWD, file, Access::EXISTS, AtFlags::empty()).is_ok()
}

fn explain(shown: &str, file: &OsStr, error: &io::Error) -> Problem {
    let path = Path::new(file);
    let problem = Problem::host(format!("execute {shown}"), error).requested().with_code(126);
    let cannot_start = || {
        let found = std::fs::File::open(path).and_then(|file| ExecObstacle::of(&file, &|path| exists(Path::new(path))));
        Hint::CannotStart { file: path.display().to_string(), obstacle: found.ok().flatten() }
    };
    match error.raw_os_error() {
        Some(libc::ENOENT) if exists(path) => problem.with_code(127).hint(cannot_start()),
        Some(libc::ENOENT) => problem.with_code(127).hint(Hint::NoSuchFile),
        Some(libc::ENOEXEC) => problem.hint(match cannot_start() {
            Hint::CannotStart { obstacle: None, .. } => Hint::UnknownFormat,
            known => known,
        }),
        Some(libc::EACCES) => problem.hint(Hint::NotExecutable(path.display().to_string())),
        _ => problem,
    }
}
