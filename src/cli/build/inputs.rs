//! What a build reads before it plans: secrets, remote contexts, the Dockerfile.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::base::cancel::Cancel;
use crate::base::time::Timestamp;
use crate::cli::failure::Failure;
use crate::cli::fetch::Fetched;
use crate::cli::read::{self, Read};
use crate::cli::request::BuildRequest;
use crate::cli::session::Session;
use crate::engine::BaseImage;
use crate::plan::{self, EpochSource, ImageRequest};
use crate::registry::HelperAnswers;

use super::secrets;
use super::ssh::{self, GitAgent};

/// What was read.
pub(super) struct Inputs {
    /// Secrets by id.
    pub(super) secrets: BTreeMap<String, Vec<u8>>,
    /// The agent for git, once something is fetched through ssh.
    pub(super) git_agent: Option<GitAgent>,
    /// Contexts that were fetched; they are removed with this value.
    pub(super) fetched: Fetched,
    /// The Dockerfile.
    pub(super) read: Read,
    /// Images that the process outside has resolved.
    pub(super) pinned: BTreeMap<ImageRequest, BaseImage>,
    /// What credential helpers have answered outside.
    pub(super) helpers: HelperAnswers,
}

/// What the process inside a user namespace is handed: tags are resolved once in a build (N-66), and a secret may be a pipe.
#[derive(Default, Serialize, Deserialize)]
pub(super) struct Handover {
    pub(super) images: Vec<(ImageRequest, BaseImage)>,
    /// Modification times that were asked for.
    pub(super) times: BTreeMap<String, Option<Timestamp>>,
    pub(super) secrets: Option<BTreeMap<String, Vec<u8>>>,
    pub(super) helpers: HelperAnswers,
}

/// Ok: everything that planning needs is read, and `request` says where it is.
pub(super) fn read(request: &mut BuildRequest, session: &Session<'_>, cancel: &Cancel) -> Result<Inputs, Failure> {
    let handed = Session::handed_over::<Handover>().unwrap_or_default();
    let secrets = match handed.secrets {
        Some(secrets) => secrets,
        None => secrets::read(&request.secrets)?,
    };
    let mut git_agent = None;
    if ssh::is_needed_by_contexts(request) {
        ssh::start(&mut git_agent, request, session, true)?;
    }
    let socket = git_agent.as_ref().and_then(GitAgent::socket);
    let fetched = session.fetch(&mut request.source, &request.remotes, &secrets, socket, cancel)?;
    let read = read::read(&request.source)?;
    request.source.options.context_times.extend(handed.times);
    if let Some(source) = epoch_source(&read, request)? {
        if ssh::is_ssh(&source.url) {
            ssh::start(&mut git_agent, request, session, false)?;
        }
        let socket = git_agent.as_ref().and_then(GitAgent::socket);
        let time = session.time_of(&source, &secrets, socket, request.source.authorities.as_ref(), cancel)?;
        request.source.options.context_times.insert(source.stage, time);
    }
    let pinned = handed.images.into_iter().collect();
    Ok(Inputs { secrets, git_agent, fetched, read, pinned, helpers: handed.helpers })
}

/// The source that SOURCE_DATE_EPOCH names, unless its time was handed over.
fn epoch_source(read: &Read, request: &BuildRequest) -> Result<Option<EpochSource>, Failure> {
    let source = plan::epoch_source(&read.dockerfile, &request.source.options)
        .map_err(|problem| Failure::diagnostics(&read.dockerfile.source, vec![*problem]))?;
    Ok(source.filter(|source| !request.source.options.context_times.contains_key(&source.stage)))
}
