//! The ready set of a graph: the steps that may start. It knows only step numbers.

use std::collections::BTreeSet;

/// Hands out steps whose inputs are done, lowest number first.
#[derive(Debug)]
pub(super) struct ReadySet {
    waiting_for: Vec<usize>,
    dependents: Vec<Vec<usize>>,
    ready: BTreeSet<usize>,
    left: usize,
}

impl ReadySet {
    /// A ready set of steps, of which step `i` needs `inputs[i]`. Inputs have smaller numbers.
    pub(super) fn new(inputs: &[Vec<usize>]) -> Self {
        let mut dependents = vec![Vec::new(); inputs.len()];
        let mut waiting_for = Vec::with_capacity(inputs.len());
        let mut ready = BTreeSet::new();
        for (step, needs) in inputs.iter().enumerate() {
            let needs: BTreeSet<usize> = needs.iter().copied().collect();
            debug_assert!(needs.iter().all(|&n| n < step), "inputs come first");
            for &need in &needs {
                dependents[need].push(step);
            }
            if needs.is_empty() {
                ready.insert(step);
            }
            waiting_for.push(needs.len());
        }
        Self { waiting_for, dependents, ready, left: inputs.len() }
    }

    /// Takes the next step that may start, if there is one.
    pub(super) fn take(&mut self) -> Option<usize> {
        self.ready.pop_first()
    }

    /// Marks `step` as done: steps that waited only for it become ready.
    pub(super) fn done(&mut self, step: usize) {
        self.left -= 1;
        for &next in &self.dependents[step] {
            self.waiting_for[next] -= 1;
            if self.waiting_for[next] == 0 {
                self.ready.insert(next);
            }
        }
    }

    /// Every step is done.
    pub(super) fn finished(&self) -> bool {
        self.left == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn diamond_runs_sides_together_and_tip_last() {
        let mut ready_set = ReadySet::new(&[vec![], vec![0], vec![0, 0], vec![1, 2]]);
        assert_eq!((ready_set.take(), ready_set.take()), (Some(0), None));
        ready_set.done(0);
        assert_eq!((ready_set.take(), ready_set.take(), ready_set.take()), (Some(1), Some(2), None));
        ready_set.done(2);
        assert_eq!(ready_set.take(), None);
        ready_set.done(1);
        assert_eq!(ready_set.take(), Some(3));
        ready_set.done(3);
        assert!(ready_set.finished());
    }
}
