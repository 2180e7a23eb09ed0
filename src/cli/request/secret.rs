//! `--secret`: secrets of RUN steps.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::cli::failure::Failure;

use super::{Environment, value};

/// The source of a secret.
#[derive(Clone, PartialEq, Eq)]
pub(in crate::cli) enum SecretFrom {
    /// A file; it is read when the build starts.
    File(PathBuf),
    /// The value of a variable.
    Value(Vec<u8>),
}

impl std::fmt::Debug for SecretFrom {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SecretFrom")
    }
}

/// `--secret id=ID[,src=FILE|,env=VAR]`: without a source, the variable of that name, else the file of that name
/// (M-12).
pub(super) fn secrets(given: &[String], environment: &Environment) -> Result<BTreeMap<String, SecretFrom>, Failure> {
    let mut secrets = BTreeMap::new();
    for text in given {
        let wrong = |why: &str| Failure::usage(format!("--secret {text:?}: {why}"));
        let (mut id, mut file, mut variable, mut kind) = (None, None, None, None);
        for (key, value) in value::fields(text).map_err(|why| Failure::usage(format!("--secret {why}")))? {
            let value = value.ok_or_else(|| wrong("want id=ID,src=FILE or id=ID,env=VARIABLE"))?;
            match key.as_str() {
                "id" => id = Some(value),
                "src" | "source" => file = Some(value),
                "env" => variable = Some(value),
                "type" if matches!(value.as_str(), "file" | "env") => kind = Some(value),
                "type" => return Err(wrong("want type=file or type=env")),
                _ => return Err(wrong(&format!("{key} is not an attribute of a secret: want id, src or env"))),
            }
        }
        // As in Docker, `type=env` takes src for the name of the variable, in any order (N-8).
        match kind.as_deref() {
            Some("env") if variable.is_none() => variable = file.take().or_else(|| id.clone()),
            Some("file") if variable.is_some() => return Err(wrong("type=file and env contradict each other")),
            _ => {}
        }
        let id = id.filter(|id| !id.is_empty()).or_else(|| file.as_ref().map(|path| base_name(path)));
        let id = id.ok_or_else(|| wrong("the id is missing"))?;
        let value =
            |name: &str| environment.get(name).map(|value| SecretFrom::Value(value.as_encoded_bytes().to_vec()));
        let from = match (file, variable) {
            (Some(_), Some(_)) => return Err(wrong("src and env contradict each other")),
            (Some(file), None) if file.starts_with("~/") && !Path::new(&file).exists() => {
                let shell = "the shell expands ~ only at the beginning of a word";
                return Err(wrong(&format!("there is no file {file}")).hint(format!("{shell}: write $HOME instead")));
            }
            (Some(file), None) => SecretFrom::File(PathBuf::from(file)),
            (None, Some(name)) => value(&name).ok_or_else(|| wrong(&format!("the variable {name} is not set")))?,
            (None, None) => match value(&id).filter(|_| kind.is_none()) {
                Some(value) => value,
                None if Path::new(&id).exists() => SecretFrom::File(PathBuf::from(&id)),
                None => {
                    return Err(wrong(&format!("there is neither a variable nor a file {id}"))
                        .hint(format!("name the source: --secret id={id},src=FILE or id={id},env=VARIABLE")));
                }
            },
        };
        if secrets.insert(id, from).is_some() {
            return Err(wrong("the id is given twice"));
        }
    }
    Ok(secrets)
}

fn base_name(path: &str) -> String {
    path.rsplit('/').next().unwrap_or(path).to_owned()
}
