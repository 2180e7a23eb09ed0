//! What every command is given besides its own arguments.

use std::cell::{OnceCell, RefCell};
use std::ffi::OsString;
use std::path::PathBuf;

use crate::base::cancel::Cancel;
use crate::base::fs::FsError;
use crate::base::notice::Notices;
use crate::base::time::Timestamp;
use crate::ui::console::Console;

use super::failure::Failure;
use super::interrupt::{self, Interrupts};
use super::request::Environment;

/// One invocation of kiln.
pub(super) struct Session<'a> {
    /// The environment kiln was started in.
    pub(super) environment: &'a Environment,
    /// Where data and messages go.
    pub(super) console: &'a mut Console,
    /// When the command began; inside a user namespace, when the process outside began.
    pub(super) began: Timestamp,
    /// `--root`, if given.
    root: Option<PathBuf>,
    /// The whole command line, program name first: to run it again as root of a user namespace.
    pub(super) argv: Vec<OsString>,
    /// What the process inside a user namespace is handed, as JSON.
    pub(super) handed: OnceCell<String>,
    /// The watcher for signals, once one is needed.
    pub(super) interrupts: RefCell<Option<Interrupts>>,
    /// Damage found in the stores that were opened.
    pub(super) notices: RefCell<Vec<Notices>>,
    /// Set by the first signal.
    pub(super) stop: OnceCell<Cancel>,
}

impl<'a> Session<'a> {
    /// A session at its start.
    pub(super) fn new(
        environment: &'a Environment,
        console: &'a mut Console,
        root: Option<PathBuf>,
        argv: Vec<OsString>,
    ) -> Self {
        Self {
            began: environment.began().unwrap_or_else(Timestamp::now),
            environment,
            console,
            root,
            argv,
            handed: OnceCell::new(),
            interrupts: RefCell::default(),
            notices: RefCell::default(),
            stop: OnceCell::new(),
        }
    }

    /// The store's directory: `--root`, else `$KILN_ROOT`, else `/var/lib/kiln` for root, else `$XDG_DATA_HOME/kiln`.
    pub(super) fn store_root(&self) -> Result<PathBuf, Failure> {
        let root = self.environment.store_root(self.root.as_deref())?;
        // Absolute, because a RUN is prepared from another working directory.
        std::path::absolute(&root).map_err(|e| FsError::new("find", &root, e).into())
    }

    /// Ends this command in an orderly way when a signal arrives. The flag it returns is set then. Must be called before
    /// other threads start: they inherit the blocked signals. Repeating is harmless.
    pub(super) fn interruptible(&self) -> Result<Cancel, Failure> {
        let flag = match self.stop.get() {
            Some(flag) => flag,
            None => {
                let new = interrupt::event()?;
                self.stop.get_or_init(|| new)
            }
        };
        let mut watching = self.interrupts.borrow_mut();
        if watching.is_none() {
            let (colour, json) = (self.console.colour(), self.console.is_json());
            let report = move || {
                let mut console = Console::stdio(colour);
                if json {
                    console.use_json();
                }
                interrupt::interrupted().report(&mut console);
            };
            *watching = Some(Interrupts::watch(flag.clone(), report)?);
        }
        Ok(flag.clone())
    }

    /// A signal arrived: later failures are its consequence.
    pub(super) fn was_interrupted(&self) -> bool {
        self.interrupts.borrow().as_ref().is_some_and(Interrupts::has_arrived)
    }
}
