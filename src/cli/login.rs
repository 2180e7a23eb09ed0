//! `kiln login` and `kiln logout`: credentials of registries, in the files that Docker uses (O-76).

use std::io::{self, BufRead as _, IsTerminal as _, Read as _};
use std::path::{Path, PathBuf};

use crate::base::fs::{self, FsError};
use crate::base::publish;
use crate::oci::reference::{DEFAULT_REGISTRY, Reference};
use crate::registry::{Client, CredentialFile, Kept};
use crate::ui::password;

use super::args::{LoginArgs, LogoutArgs};
use super::failure::{Done, Failure, SUCCESS};
use super::interrupt;
use super::session::Session;

/// A longer password is none.
const LONGEST: u64 = 64 << 10;

/// Ok: the registry accepts user name and password, and the credential file, or the helper that it names, has them.
pub(super) fn login(args: &LoginArgs, session: &mut Session<'_>) -> Done {
    session.interruptible()?;
    let registry = registry(args.registry.as_deref())?;
    let path = session.environment.credential_file(args.file.authfile.as_deref())?;
    let mut file = read(&path)?;
    if args.password.is_some() {
        session.console.labelled("warning", "other users can see a password on the command line: use --password-stdin");
    }
    let (user, password) = credentials(args, session)?;
    let client = Client::new(session.environment.connections(&args.insecure_registry, &[], &args.connection)?);
    let credential = client.verify_login(&registry, &user, &password)?;
    let kept = file.log_in(&registry, &user, &credential)?;
    write(&path, file)?;
    let stored = match kept {
        Kept::PasswordInFile => Some("the password"),
        Kept::TokenInFile => Some("a token in place of the password"),
        Kept::ByHelper => None,
    };
    if let Some(stored) = stored {
        let text = format!("{stored} is stored as it is in {}; a credential helper keeps it safer", path.display());
        session.console.labelled("note", &text);
    }
    session.console.data(format_args!("Login Succeeded"))?;
    Ok(SUCCESS)
}

/// Ok: the credential file, and the helper that it names, have nothing for the registry.
pub(super) fn logout(args: &LogoutArgs, session: &mut Session<'_>) -> Done {
    let registry = registry(args.registry.as_deref())?;
    let path = session.environment.credential_file(args.file.authfile.as_deref())?;
    let mut file = read(&path)?;
    if file.log_out(&registry)? {
        write(&path, file)?;
        session.console.data(format_args!("Removed the login credentials of {registry}"))?;
    } else {
        session.console.data(format_args!("Not logged in to {registry}"))?;
    }
    Ok(SUCCESS)
}

/// A registry as users name it: Docker takes a URL, and ignores its path.
fn registry(given: Option<&str>) -> Result<String, Failure> {
    let Some(given) = given else { return Ok(DEFAULT_REGISTRY.to_owned()) };
    let host = given.trim_start_matches("https://").trim_start_matches("http://");
    let host = host.split('/').next().unwrap_or_default();
    if matches!(host, "index.docker.io" | "registry-1.docker.io" | DEFAULT_REGISTRY) {
        return Ok(DEFAULT_REGISTRY.to_owned());
    }
    let name: Result<Reference, _> = format!("{host}/name").parse();
    match name {
        Ok(name) if name.registry == host => Ok(name.registry),
        _ => Err(Failure::usage(format!("{given:?} is not a registry: want HOST[:PORT]"))),
    }
}

fn credentials(args: &LoginArgs, session: &mut Session<'_>) -> Result<(String, String), Failure> {
    let interactive = io::stdin().is_terminal() && !args.password_stdin;
    let user = match &args.username {
        Some(user) => user.clone(),
        None if interactive => ask(session, "Username: ", false)?,
        None => return Err(Failure::usage("the user name is missing").hint("name the user with --username NAME")),
    };
    let password = match &args.password {
        Some(password) => password.clone(),
        None if args.password_stdin => from_stdin()?,
        None if interactive => ask(session, "Password: ", true)?,
        None => {
            return Err(
                Failure::usage("the password is missing").hint("pass it on standard input, with --password-stdin")
            );
        }
    };
    if user.is_empty() || password.is_empty() {
        return Err(Failure::usage(format!("the {} is empty", if user.is_empty() { "user name" } else { "password" })));
    }
    if user.contains(':') {
        return Err(Failure::usage("a user name has no colon"));
    }
    Ok((user, password))
}

/// The password on standard input, without the line end that `echo` adds.
fn from_stdin() -> Result<String, Failure> {
    let mut text = String::new();
    let read = io::stdin().take(LONGEST).read_to_string(&mut text);
    read.map_err(|e| Failure::usage(format!("cannot read the password from standard input: {e}")))?;
    Ok(text.trim_end_matches(['\n', '\r']).to_owned())
}

/// Asks on the terminal.
fn ask(session: &mut Session<'_>, question: &str, secret: bool) -> Result<String, Failure> {
    let failed = |e: io::Error| match e.kind() {
        io::ErrorKind::Interrupted => interrupt::interrupted(),
        _ => Failure::usage(format!("cannot read from the terminal: {e}")),
    };
    let err = session.console.err();
    write!(err, "{question}").and_then(|()| err.flush()).map_err(failed)?;
    if secret {
        let read = password::read();
        writeln!(session.console.err()).map_err(failed)?;
        return read.map_err(failed);
    }
    let mut line = String::new();
    io::stdin().lock().take(LONGEST).read_line(&mut line).map_err(failed)?;
    Ok(line.trim_end_matches(['\n', '\r']).to_owned())
}

fn read(path: &Path) -> Result<CredentialFile, Failure> {
    let content = fs::read_opt(path)?.unwrap_or_default();
    Ok(CredentialFile::read(&path.display().to_string(), &content)?)
}

/// Ok: the file has the content, readable by its owner only. A link to the file stays one.
fn write(path: &Path, file: CredentialFile) -> Result<(), Failure> {
    if let Some(dir) = path.parent().filter(|dir| !dir.as_os_str().is_empty() && !dir.exists()) {
        use std::os::unix::fs::DirBuilderExt as _;
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
        made.map_err(|e| FsError::new("create", dir, e))?;
    }
    let real: PathBuf = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    Ok(publish::atomic(&real, &file.into_bytes(), 0o600)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registry_is_a_host_however_it_is_spelled() {
        for (given, want) in [
            (None, Some("docker.io")),
            (Some("https://index.docker.io/v1/"), Some("docker.io")),
            (Some("r.example"), Some("r.example")),
            (Some("https://r.example:5000/v2/"), Some("r.example:5000")),
            (Some("localhost:5000"), Some("localhost:5000")),
            (Some("[::1]:5000"), Some("[::1]:5000")),
            (Some("name"), None),
            (Some(""), None),
            (Some("a b"), None),
            (Some("ftp://r.example"), None),
        ] {
            assert_eq!(registry(given).ok().as_deref(), want, "{given:?}");
        }
    }
}
