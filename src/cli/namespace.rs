//! Root without being root, for the commands that need it.

use std::ffi::OsString;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::sandbox::userns::{self, Privilege};

use super::failure::{Failure, Kind, sandbox_hint, single_id};
use super::request::BEGAN;
use super::session::Session;

impl Session<'_> {
    /// Keeps `what` for the process inside, should one be started: what this one has read, and need not or cannot be
    /// read again. It goes from memory to memory.
    pub(super) fn hand_over<T: Serialize>(&self, what: &T) {
        // It was asked for twice: then both say the same.
        let _ = self.handed.set(serde_json::to_string(what).expect("what is handed over has only string keys"));
    }

    /// What the process outside kept for this one.
    pub(super) fn handed_over<T: DeserializeOwned>() -> Option<T> {
        serde_json::from_str(userns::payload()?).ok()
    }

    /// Makes sure that what follows runs as root of something. `Some(code)`: the whole command has run, as root of a
    /// user namespace, and this is its exit code. `None`: go on here.
    pub(super) fn as_root(&self) -> Result<Option<u8>, Failure> {
        let failed = |error: userns::Error| {
            let failure = Failure::from_error(Kind::Host, &error);
            match error.hint() {
                Some(hint) => failure.hint(sandbox_hint(&hint)),
                None => failure,
            }
        };
        match userns::privilege().map_err(failed)? {
            Privilege::Root => Ok(None),
            Privilege::Namespace { .. } => userns::own_mounts().map(|()| None).map_err(failed),
            Privilege::Plain => self.enter_namespace()?.map(Some).map_err(failed),
        }
    }

    /// Runs the whole command as root of a user namespace. `Ok(Err)`: there is none for this user.
    pub(super) fn enter_namespace(&self) -> Result<Result<u8, userns::Error>, Failure> {
        // The process inside watches for itself, and is passed what arrives here.
        drop(self.interrupts.borrow_mut().take());
        // Inside, the user is root: the place of the store must not change with that.
        let root = self.store_root()?;
        // What was asked of servers out here need not be asked again.
        let began = self.began.to_string().into();
        let env = [("KILN_ROOT".into(), root.into_os_string()), (OsString::from(BEGAN), began)];
        Ok(userns::enter(&self.argv, &env, self.handed.get().map_or("", String::as_str)))
    }

    /// We are root of a user namespace, not of the machine.
    pub(super) fn in_user_namespace(&self) -> Result<bool, Failure> {
        let privilege = userns::privilege().map_err(|e| Failure::from_error(Kind::Host, &e))?;
        Ok(privilege != Privilege::Root)
    }

    /// What a single id cannot do, said once where it matters.
    pub(super) fn announce_single_id(&mut self) {
        if let Some(reason) = userns::single_id_reason() {
            self.console.labelled("note", &format!("only one user id is available here: {}", single_id(&reason)));
        }
    }
}
