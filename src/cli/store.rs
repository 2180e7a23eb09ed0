//! Opening the store, and its errors as failures.

use std::sync::Arc;

use crate::base::lock::Patience;
use crate::oci::image::Image;
use crate::oci::platform::Platform;
use crate::store::{Error, SharedGuard, Store};
use crate::ui::console::Console;
use crate::ui::sanitize;

use super::failure::{Failure, Kind, OTHER_STORE};
use super::session::Session;
use super::sourced::Sourced;

impl Session<'_> {
    /// Opens the store; creates it if it is missing.
    pub(super) fn store(&self) -> Result<Store, Failure> {
        let store = Store::open(&self.store_root()?)?;
        store.fetch_missing_from(Arc::new(Sourced::new(self.environment, None)));
        self.notices.borrow_mut().push(store.notices().clone());
        Ok(store)
    }
}

impl Session<'_> {
    /// Warns about damage that was found in the store and repaired.
    pub(super) fn report_damage(&mut self) {
        for notices in self.notices.take() {
            for (what, why) in notices.take() {
                self.console.labelled("warning", &sanitize::text(&format!("{what}: {why}")));
            }
        }
    }

    /// Protects the contents of `store` from pruning, for a short command.
    pub(super) fn share(&self, store: &Store) -> Result<(), Failure> {
        let (stop, report) = (self.stop.get().cloned(), self.wait_reporter());
        let mut waiting = |who: &str| report(who, "it prunes the store");
        let patience = Patience::new(&mut waiting);
        let mut patience = match &stop {
            Some(stop) => patience.until(stop),
            None => patience,
        };
        Ok(store.share(&mut patience)?)
    }

    /// Protects what the command creates or reads from pruning; the rest may be pruned meanwhile.
    pub(super) fn lease(&self, store: &Store) -> Result<SharedGuard, Failure> {
        self.share(store)?;
        Ok(store.lease()?)
    }

    /// Reports a wait: for which process, and why. May be called from any thread.
    pub(super) fn wait_reporter(&self) -> impl Fn(&str, &str) + Send + Sync + use<> {
        let (colour, json) = (self.console.colour(), self.console.is_json());
        move |who, why| {
            let mut console = Console::stdio(colour);
            if json {
                console.use_json();
            }
            console.labelled("note", &format!("waiting for {who}: {why}"));
        }
    }
}

/// Ok: `image` is for the requested platform, if one was requested. A single-platform image is not chosen by platform, so it
/// is checked here (N-8).
pub(super) fn check_platform(name: &str, image: &Image, asked: Option<&Platform>) -> Result<(), Failure> {
    let is = image.config.platform.clone().normalized();
    match asked {
        Some(asked) if asked.distance(&is).is_none() => {
            Err(Failure::build(format!("{name} is an image for {is}, not for {asked}")))
        }
        _ => Ok(()),
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::Fs(error) => error.into(),
            Error::Unusable { .. } => Self::from_error(Kind::Host, &error).hint(OTHER_STORE),
            Error::Newer { .. } => Self::from_error(Kind::Host, &error).hint("use a newer kiln").hint(OTHER_STORE),
            Error::NotAStore { .. } => Self::from_error(Kind::Host, &error).hint("choose an empty or new directory"),
            Error::InvalidName(error) => Self::usage(error.to_string()),
            Error::NoSuchImage { .. } => Self::from_error(Kind::Build, &error)
                .hint("list images with `kiln images`, or pull one with `kiln pull`"),
            Error::Ambiguous { .. } => Self::from_error(Kind::Build, &error).hint("use more digits, or a name"),
            Error::Damaged { ref path, .. } if path.ends_with("index.json") => Self::from_error(Kind::Build, &error)
                .hint("restore a good copy, or remove it: the store then has no images until they are built or pulled again"),
            other => Self::of_error(&other),
        }
    }
}
