//! Reports circular dependencies between stages (F-9).

use crate::dockerfile::{Diagnostic, Span};

use super::stages::Graph;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Seen {
    Not,
    /// On the current path.
    Open,
    Done,
}

/// A stage on the current path: the stages it refers to, and how many of those were followed.
struct Step {
    stage: usize,
    names: Vec<(usize, Span)>,
    next: usize,
}

/// Reports every cycle, also between stages that the target does not need.
pub(super) fn check(graph: &Graph<'_>, problems: &mut Vec<Diagnostic>) {
    let mut seen = vec![Seen::Not; graph.nodes.len()];
    for start in 0..graph.nodes.len() {
        // No recursion: a chain of ten thousand stages must not overflow the stack.
        let mut path: Vec<Step> = Vec::new();
        let mut enter = Some(start).filter(|start| seen[*start] == Seen::Not);
        loop {
            if let Some(stage) = enter.take() {
                seen[stage] = Seen::Open;
                path.push(Step { stage, names: graph.referenced_stages(stage), next: 0 });
            }
            let Some(step) = path.last_mut() else { break };
            let Some(&(named, _)) = step.names.get(step.next) else {
                seen[step.stage] = Seen::Done;
                path.pop();
                continue;
            };
            step.next += 1;
            match seen[named] {
                Seen::Not => enter = Some(named),
                Seen::Open => problems.push(report(graph, &path, named)),
                Seen::Done => {}
            }
        }
    }
}

fn report(graph: &Graph<'_>, path: &[Step], back_to: usize) -> Diagnostic {
    let start = path.iter().position(|step| step.stage == back_to).unwrap_or(0);
    let ring = &path[start..];
    let name = |stage: usize| match &graph.dockerfile.stages[stage].name {
        Some(name) => format!("`{}`", name.node),
        None => stage.to_string(),
    };
    let mut places = ring.iter().map(|step| step.names[step.next - 1].1);
    let first = places.next().unwrap_or_default();
    if let [_] = ring {
        return Diagnostic::error(first, format!("stage {} depends on itself", name(back_to)));
    }
    let mut around: Vec<String> = ring.iter().map(|step| name(step.stage)).collect();
    around.push(name(back_to));
    let message = format!("circular dependency between stages: {}", around.join(" → "));
    places.fold(Diagnostic::error(first, message), |problem, place| problem.also(place, "and this"))
}
