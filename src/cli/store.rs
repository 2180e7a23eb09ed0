//! Opening the store, and its errors as words.

use crate::base::lock::Patience;
use crate::oci::image::Image;
use crate::oci::platform::Platform;
use crate::store::{Error, Moment, Store};
use crate::ui::console::Console;
use crate::ui::sanitize;

use super::failure::{ELSEWHERE, Failure, Kind};
use super::session::Session;

impl Session<'_> {
    /// Opens the store, making it if it is not there.
    pub(super) fn store(&self) -> Result<Store, Failure> {
        let store = Store::open(&self.store_root()?)?;
        self.notices.borrow_mut().push(store.notices().clone());
        Ok(store)
    }
}

impl Session<'_> {
    /// Says what was found damaged in the store and is derived again, once.
    pub(super) fn say_damage(&mut self) {
        for notices in self.notices.take() {
            for (what, why) in notices.take() {
                self.console.labelled("warning", &sanitize::text(&format!("{what}: {why}")));
            }
        }
    }

    /// Keeps what is in `store` from being removed, for a command that is done soon.
    pub(super) fn share(&self, store: &Store) -> Result<(), Failure> {
        let (stop, tell) = (self.stop.get().cloned(), self.teller());
        let mut told = |who: &str| tell(who, "it prunes the store");
        let patience = Patience::new(&mut told);
        let mut patience = match &stop {
            Some(stop) => patience.until(stop),
            None => patience,
        };
        Ok(store.share(&mut patience)?)
    }

    /// Keeps what the command makes or looks at from being removed. Others may remove the rest meanwhile.
    pub(super) fn lease(&self, store: &Store) -> Result<Moment, Failure> {
        self.share(store)?;
        Ok(store.lease()?)
    }

    /// Says whom a wait is for, and why, from whatever thread waits.
    pub(super) fn teller(&self) -> impl Fn(&str, &str) + Send + Sync + use<> {
        let (colour, json) = (self.console.colour(), self.console.is_json());
        move |who, why| {
            let mut console = Console::stdio(colour);
            if json {
                console.speak_json();
            }
            console.labelled("note", &format!("waiting for {who}: {why}"));
        }
    }
}

/// Ok: `image`, which was named `name`, runs on the platform that was asked for, if one was. An index has been searched
/// for it; an image for one platform alone would otherwise be taken whatever was asked for (N-8).
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
            Error::Unusable { .. } => Self::from_error(Kind::Host, &error).hint(ELSEWHERE),
            Error::Newer { .. } => Self::from_error(Kind::Host, &error).hint("use a newer kiln").hint(ELSEWHERE),
            Error::NotAStore { .. } => Self::from_error(Kind::Host, &error).hint("choose an empty or new directory"),
            Error::InvalidName(error) => Self::usage(error.to_string()),
            Error::NoSuchImage { .. } => Self::from_error(Kind::Build, &error)
                .hint("`kiln images` lists what there is, `kiln pull` fetches more"),
            Error::Ambiguous { .. } => Self::from_error(Kind::Build, &error).hint("give more digits, or a name"),
            Error::Damaged { ref path, .. } if path.ends_with("index.json") => Self::from_error(Kind::Build, &error)
                .hint("put a good copy there, or remove it: the store then has no images until they are built or pulled again"),
            other => Self::of_error(&other),
        }
    }
}
