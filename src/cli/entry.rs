//! From the command line to an exit code.

use std::ffi::OsString;

use clap::Parser as _;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::base::unfinished;
use crate::ui::console::Console;

use super::args::{self, Cli, Command};
use super::failure::{self, Done, Failure};
use super::request::Environment;
use super::session::Session;
use super::{
    build, cache, check, completions, diff, doctor, export, fsck, history, images, import, info, inspect, interrupt,
    load, login, manifest, names, pull, push, run, save, version,
};

/// Runs the command of `argv` (program name first) and returns the exit code of the process: 0 success, 1 the build
/// failed, 2 usage, 3 the host lacks something, 130 interrupted. `kiln run` returns the status of its command, or 125,
/// 126 or 127 if the command did not start.
pub fn main(argv: impl IntoIterator<Item = OsString>) -> u8 {
    let environment = Environment::read();
    let mut console = Console::stdio(environment.wants_colour());
    failure::report_panics();
    let argv = args::without_groups(argv.into_iter().collect());
    let cli = match Cli::try_parse_from(&argv) {
        Ok(cli) => cli,
        Err(answer) => return report_syntax(&answer, &argv, &mut console),
    };
    let mut session = Session::new(&environment, &mut console, cli.global.root, argv);
    let done = dispatch(cli.command, &mut session);
    session.report_damage();
    let interrupted = session.was_interrupted();
    // Waits if the watcher is already ending the process.
    drop(session);
    unfinished::wait_for_sweep();
    match done {
        Ok(code) => code,
        Err(_) if interrupted => interrupt::interrupted().report(&mut console),
        Err(failure) => failure.report(&mut console),
    }
}

/// Prints help, or what is wrong with the command line.
fn report_syntax(answer: &clap::Error, argv: &[OsString], console: &mut Console) -> u8 {
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
    // 2 could be the status of the command itself.
    if code != failure::SUCCESS && command.is_some_and(|word| word == "run") { run::NOT_STARTED } else { code }
}

/// Explains an option of another builder, and a value of `--pull` without `=`.
fn unknown_argument(option: &str, argv: &[OsString]) -> Option<Failure> {
    if let Some(instead) = args::instead_of_option(option) {
        return Some(Failure::usage(format!("{option} is not supported")).hint(instead));
    }
    // `--pull` takes no separate value, so the next word was read as the context.
    let after = argv.iter().skip_while(|word| *word != "--pull").nth(1)?.to_str()?;
    ["always", "missing", "never"]
        .contains(&after)
        .then(|| Failure::usage(format!("--pull {after}: want = before the value")).hint(format!("use --pull={after}")))
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
        Command::Push(args) => push::run(&args, session),
        Command::Manifest(args) => manifest::run(&args, session),
        Command::Imagetools(args) => manifest::imagetools(&args, session),
        Command::Login(args) => login::login(&args, session),
        Command::Logout(args) => login::logout(&args, session),
        Command::Load(args) => load::run(&args, session),
        Command::Save(args) => save::run(&args, session),
        Command::Export(args) => export::run(&args, session),
        Command::Cache(args) => cache::run(&args, session),
        Command::Du(args) => cache::du(&args, session),
        Command::Fsck(args) => fsck::run(&args, session),
        Command::Prune(args) => cache::prune(&args, cache::Scope::Store, session),
        Command::Doctor(args) => doctor::run(&args, session),
        Command::Info(args) => info::run(&args, session),
        Command::Version(args) => version::run(&args, session),
        Command::Completions(args) => completions::run(&args, session),
    }
}
