//! Arguments and environment in, exit code out.
//!
//! **Holds.** One file per command (`build`, `check`, …), each with one `run` that takes its arguments and a
//! `Session` and returns an exit code or a `Failure`. What was typed is `args`; what it means here, on this host
//! and with this environment, is `request`, the one place that reads the environment; every module's error becomes
//! words, hints and an exit code in `failure`.
//! **Order.** argv → `args` → `request` → the floors below → `failure` → exit code. A message is printed once, here.
//! **Not here.** How events and diagnostics look: `ui`.

use std::cell::{OnceCell, RefCell};
use std::ffi::OsString;
use std::path::PathBuf;

use clap::Parser as _;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::base::cancel::Cancel;
use crate::base::fs::FsError;
use crate::base::notice::Notices;
use crate::base::time::Timestamp;
use crate::base::unfinished;
use crate::ui::console::Console;

mod args;
mod build;
mod cache;
mod check;
mod completions;
mod diff;
mod doctor;
mod failure;
mod fetch;
mod history;
mod images;
mod import;
mod info;
mod inspect;
mod interrupt;
mod load;
mod locate;
mod names;
mod namespace;
mod outline;
mod pull;
mod read;
mod request;
mod run;
mod save;
mod store;
mod table;
mod version;

use args::{Cli, Command};
use failure::{Done, Failure};
use interrupt::Interrupts;
use request::Environment;

/// What every command is given besides its own arguments.
struct Session<'a> {
    /// The environment kiln was started in.
    environment: &'a Environment,
    /// Where data and messages go.
    console: &'a mut Console,
    /// When the command began, also if this is the process inside that goes on with it.
    began: Timestamp,
    /// `--root`, if given.
    root: Option<PathBuf>,
    /// The whole command line, program name first: to run it again as root of a user namespace.
    argv: Vec<OsString>,
    /// What a process inside need not or cannot read again, as JSON.
    handed: OnceCell<String>,
    /// Who watches for signals, once somebody does.
    interrupts: RefCell<Option<Interrupts>>,
    /// What the stores that were opened found damaged.
    notices: RefCell<Vec<Notices>>,
    /// What the first signal sets.
    stop: OnceCell<Cancel>,
}

impl Session<'_> {
    /// The store's directory: `--root`, else `$KILN_ROOT`, else `/var/lib/kiln` for root, else `$XDG_DATA_HOME/kiln`.
    fn store_root(&self) -> Result<PathBuf, Failure> {
        let root = self.environment.store_root(self.root.as_deref())?;
        // What runs commands stands in another directory.
        std::path::absolute(&root).map_err(|e| FsError::new("find", &root, e).into())
    }
}

/// Runs the command that `argv` (program name first) asks for. The result is the process's exit code: 0 done, 1 the
/// build failed, 2 usage, 3 this host lacks something, 130 interrupted; a command of `kiln run` passes its own on, and
/// is never mistaken for kiln: whatever keeps it from starting is 125, 126 or 127.
pub fn main(argv: impl IntoIterator<Item = OsString>) -> u8 {
    let environment = Environment::read();
    let mut console = Console::stdio(environment.wants_colour());
    failure::report_panics();
    let argv: Vec<OsString> = argv.into_iter().collect();
    let cli = match Cli::try_parse_from(&argv) {
        Ok(cli) => cli,
        Err(answer) => return not_understood(&answer, &argv, &mut console),
    };
    let began = environment.began().unwrap_or_else(Timestamp::now);
    let mut session = Session {
        environment: &environment,
        console: &mut console,
        began,
        root: cli.global.root,
        argv,
        handed: OnceCell::new(),
        interrupts: RefCell::default(),
        notices: RefCell::default(),
        stop: OnceCell::new(),
    };
    let done = dispatch(cli.command, &mut session);
    session.say_damage();
    let interrupted = session.was_interrupted();
    // Should it be ending the process already, this waits for it.
    drop(session);
    unfinished::settle();
    match done {
        Ok(code) => code,
        Err(_) if interrupted => interrupt::interrupted().report(&mut console),
        Err(failure) => failure.report(&mut console),
    }
}

/// Help that was asked for, or what is wrong with the command line.
fn not_understood(answer: &clap::Error, argv: &[OsString], console: &mut Console) -> u8 {
    if answer.kind() == ErrorKind::InvalidSubcommand
        && let Some(ContextValue::String(name)) = answer.get(ContextKind::InvalidSubcommand)
        && let Some(instead) = args::instead_of_command(name)
    {
        return Failure::usage(format!("kiln has no command {name}")).hint(instead).report(console);
    }
    if answer.kind() == ErrorKind::UnknownArgument
        && let Some(ContextValue::String(option)) = answer.get(ContextKind::InvalidArg)
        && let Some(failure) = unknown_argument(option, argv)
    {
        return failure.report(console);
    }
    let code = console.clap_answer(answer);
    let mut words = argv.iter().skip(1);
    let mut command = words.next();
    while let Some(option) = command.filter(|word| word.as_encoded_bytes().starts_with(b"-")) {
        if option == "--root" {
            words.next();
        }
        command = words.next();
    }
    // 2 might be the command's own answer.
    if code != failure::SUCCESS && command.is_some_and(|word| word == "run") { run::NOT_STARTED } else { code }
}

/// What to use in place of an option of another builder, or where a value must be joined to its option.
fn unknown_argument(option: &str, argv: &[OsString]) -> Option<Failure> {
    if let Some(instead) = args::instead_of_option(option) {
        return Some(Failure::usage(format!("{option} is not supported")).hint(instead));
    }
    // `--pull` may stand alone, so the next word is the context and the context one too many.
    let after = argv.iter().skip_while(|word| *word != "--pull").nth(1)?.to_str()?;
    ["always", "missing", "never"].contains(&after).then(|| {
        Failure::usage(format!("--pull {after}: the value is not joined to the option"))
            .hint(format!("use --pull={after}"))
    })
}

fn dispatch(command: Command, session: &mut Session<'_>) -> Done {
    match command {
        Command::Build(args) => build::run(&args, session),
        Command::Check(args) => check::run(&args, session),
        Command::Run(args) => run::run(&args, session),
        Command::Diff(args) => diff::run(&args, session),
        Command::Images(args) => images::run(&args, session),
        Command::Inspect(args) => inspect::run(&args, session),
        Command::History(args) => history::run(&args, session),
        Command::Tag(args) => names::tag(&args, session),
        Command::Rmi(args) => names::rmi(&args, session),
        Command::Import(args) => import::run(&args, session),
        Command::Pull(args) => pull::run(&args, session),
        Command::Load(args) => load::run(&args, session),
        Command::Save(args) => save::run(&args, session),
        Command::Cache(args) => cache::run(&args, session),
        Command::Prune(args) => cache::prune(&args, cache::Scope::Store, session),
        Command::Doctor(args) => doctor::run(&args, session),
        Command::Info(args) => info::run(&args, session),
        Command::Version(args) => version::run(&args, session),
        Command::Completions(args) => completions::run(&args, session),
    }
}
