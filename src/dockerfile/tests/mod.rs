mod properties;
mod reference;

use super::ast::{Command, CopySource, Instruction};
use super::*;

fn file(text: &str) -> Dockerfile {
    parse(&Source::new("Dockerfile", text)).unwrap_or_else(|problems| panic!("{problems:#?}"))
}

fn problems(text: &str) -> Vec<String> {
    let problems = parse(&Source::new("Dockerfile", text)).expect_err("the text is wrong");
    problems.iter().map(ToString::to_string).collect()
}

#[test]
fn parse_reads_ordinary_file() {
    let text = "# syntax=docker/dockerfile:1\n# the base\nARG TAG=12\nFROM --platform=$BUILDPLATFORM debian:$TAG AS Build\n\
                RUN apt-get update && \\\n    # no recommends\n    apt-get install -y x\n\
                COPY --from=0 --chown=1:2 a b /c/\nENV A=b C=\"d e\"\nCMD [\"sh\", \"-c\"]\n";
    let file = file(text);
    assert_eq!(file.directives.syntax.as_ref().map(|w| w.as_str()), Some("docker/dockerfile:1"));
    assert_eq!(file.global_args[0].node.items[0].default.as_ref().map(|w| w.as_str()), Some("12"));
    let stage = &file.stages[0];
    assert_eq!(stage.name.as_ref().map(|n| n.node.as_str()), Some("build"));
    let Instruction::Run(run) = &stage.instructions[0].node else { panic!() };
    let Command::Shell(line) = &run.command else { panic!() };
    assert_eq!(line.text, "apt-get update &&     apt-get install -y x");
    let at = line.text.find("install").unwrap();
    assert_eq!(file.source.slice(line.locate(at..at + 7)), "install");
    let Instruction::Copy(copy) = &stage.instructions[1].node else { panic!() };
    assert_eq!(file.source.slice(copy.chown.as_ref().unwrap().span), "1:2");
    assert_eq!((copy.sources.len(), copy.dest.as_str()), (2, "/c/"));
    let Instruction::Env(env) = &stage.instructions[2].node else { panic!() };
    assert_eq!(env.pairs[1].1.as_str(), "\"d e\"");
    let Instruction::Cmd(Command::Exec(words)) = &stage.instructions[3].node else { panic!() };
    assert_eq!(words[1].as_str(), "-c");
}

#[test]
fn parse_reads_heredocs_and_trigger_keeps_them() {
    let text = "FROM x\nCOPY <<A <<-'B' /d/\n$one\nA\n\ttwo\n\tB\nONBUILD RUN <<EOF\nhi\nEOF\nRUN cat <<X\n#y\nX\n";
    let file = file(text);
    let Instruction::Copy(copy) = &file.stages[0].instructions[0].node else { panic!() };
    let CopySource::Heredoc(b) = &copy.sources[1] else { panic!() };
    assert_eq!((b.body().as_str(), b.expand), ("two\n", false));
    let Instruction::Onbuild(onbuild) = &file.stages[0].instructions[1].node else { panic!() };
    assert_eq!(onbuild.trigger.as_str(), "RUN <<EOF\nhi\nEOF");
    let inner = parse_trigger(&Source::new("trigger", onbuild.trigger.as_str())).unwrap();
    assert!(matches!(&inner.node, Instruction::Run(run) if matches!(run.form(), RunForm::Script(_))));
    let Instruction::Run(run) = &file.stages[0].instructions[2].node else { panic!() };
    assert_eq!(run.form(), RunForm::Fed("cat <<X\n#y\nX".to_owned()));
}

#[test]
fn parse_reports_all_problems() {
    let text = "FROM a b\nRNU x\nCOPY a\nHEALTHCHECK --retires=3 CMD x\nSHELL sh -c\n";
    assert_eq!(problems(text).len(), 5, "{:#?}", problems(text));
    assert_eq!(problems("").len(), 1);
    assert_eq!(problems("ARG x\n").len(), 1);
    assert_eq!(problems("RUN a\nRUN b\nFROM x\n").len(), 1);
}
