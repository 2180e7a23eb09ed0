//! Entering a user namespace, for commands that need root.

use std::ffi::OsString;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::sandbox::userns::{self, Privilege};

use super::failure::{Failure, Kind, sandbox_hint, single_id};
use super::request::BEGAN;
use super::session::Session;

impl Session<'_> {
    /// Keeps `what` for the process inside a user namespace, if one is started: data that this process has read and that
    /// cannot or need not be read again. It is passed from memory to memory.
    pub(super) fn hand_over<T: Serialize>(&self, what: &T) {
        // A second call passes the same data.
        let _ = self.handed.set(serde_json::to_string(what).expect("maps have string keys only"));
    }

    /// What the process outside has kept for this one.
    pub(super) fn handed_over<T: DeserializeOwned>() -> Option<T> {
        serde_json::from_str(userns::payload()?).ok()
    }

    /// Ensures that the caller continues as root of the host or of a user namespace. `None`: it does. `Some(code)`: the
    /// whole command has run inside a user namespace, with this exit code.
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

    /// Runs the whole command as root of a user namespace. `Ok(Err)`: this user cannot create one.
    pub(super) fn enter_namespace(&self) -> Result<Result<u8, userns::Error>, Failure> {
        // The process inside watches for signals itself; they are forwarded to it.
        drop(self.interrupts.borrow_mut().take());
        // Inside, the user is root, for whom the default store is another one.
        let root = self.store_root()?;
        // Lets the process inside reuse what servers have answered since.
        let began = self.began.to_string().into();
        let env = [("KILN_ROOT".into(), root.into_os_string()), (OsString::from(BEGAN), began)];
        Ok(userns::enter(&self.argv, &env, self.handed.get().map_or("", String::as_str)))
    }

    /// kiln is root of a user namespace, not of the host.
    pub(super) fn in_user_namespace(&self) -> Result<bool, Failure> {
        let privilege = userns::privilege().map_err(|e| Failure::from_error(Kind::Host, &e))?;
        Ok(privilege != Privilege::Root)
    }

    /// Notes that only one user id is available, and why.
    pub(super) fn announce_single_id(&mut self) {
        if let Some(reason) = userns::single_id_reason() {
            self.console.labelled("note", &format!("only one user id is available here: {}", single_id(&reason)));
        }
    }
}
