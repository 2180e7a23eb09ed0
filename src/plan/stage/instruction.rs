//! Dispatches each instruction to the code that plans it.

use crate::dockerfile::{Escape, Instruction, Statement};
use crate::plan::trigger::Trigger;

use super::planner::{CurrentInstruction, StagePlanner};

impl StagePlanner<'_, '_> {
    /// Plans an ONBUILD trigger. Its spans index its own text, and its escape is always `\` (I-13).
    pub(in crate::plan) fn trigger(&mut self, trigger: &Trigger, ordinal: usize) {
        self.current = CurrentInstruction {
            span: self.draft.dockerfile.stages[self.index].from.span,
            escape: Escape::Backslash,
            slot: format!("{}/onbuild-{ordinal}", self.stage_slot()),
            text: trigger.statement.text.clone(),
            sets: Vec::new(),
            trigger: Some((trigger.source.clone(), trigger.origin.clone())),
        };
        self.dispatch(&trigger.statement);
    }

    /// Plans an instruction of the stage.
    pub(in crate::plan) fn instruction(&mut self, statement: &Statement<Instruction>, ordinal: usize) {
        self.current = CurrentInstruction {
            span: statement.span,
            escape: self.draft.escape(),
            slot: format!("{}/{ordinal}", self.stage_slot()),
            text: statement.text.clone(),
            sets: Vec::new(),
            trigger: None,
        };
        self.dispatch(statement);
    }

    fn dispatch(&mut self, statement: &Statement<Instruction>) {
        self.unknown = false;
        if self.draft.spent > self.draft.options.variable_limit {
            return;
        }
        match &statement.node {
            Instruction::Run(run) => self.run(run),
            Instruction::Copy(copy) => self.copy(copy, false),
            Instruction::Add(copy) => self.copy(copy, true),
            other => self.configure(other),
        }
    }
}
