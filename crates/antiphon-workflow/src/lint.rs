//! What is allowed, but worth saying: values that nothing uses, steps that never run, steps that may be skipped.

use std::collections::{BTreeMap, BTreeSet};

use antiphon_kernel::{Dep, OnDoubt, OnError, Source};
use serde_json::Value;

use crate::code::{MAY_BE_SKIPPED, NEVER_RUNS, UNUSED};
use crate::diagnostic::Diagnostic;
use crate::graph::{Edges, Level};
use crate::parsed::{Action, File, Step};

/// Looks through a file whose step graph is sound.
pub(crate) fn lint(file: &File, edges: &Edges, diagnostics: &mut Vec<Diagnostic>) {
    let mut linter = Linter { edges, fates: BTreeMap::new(), diagnostics };
    linter.level(&Level::root(file));
}

/// What may become of a step, apart from success and from a failure that ends the run.
#[derive(Clone)]
enum Fate {
    /// It always runs.
    Runs,
    /// It may not succeed although the run goes on; why.
    May(String),
    /// It never runs; why.
    Never(String),
}

struct Linter<'a> {
    edges: &'a Edges,
    fates: BTreeMap<String, Fate>,
    diagnostics: &'a mut Vec<Diagnostic>,
}

impl Linter<'_> {
    fn level(&mut self, level: &Level<'_>) {
        for step in &level.body.steps {
            let path = format!("{}{}", level.prefix, step.id);
            self.unused(step, &path, level);
            self.fate(step, &path, level);
            self.asks_in_vain(step, &path, level);
            if let Action::Do(body) = &step.action {
                let inner = Level { body, prefix: &format!("{path}/"), around: Some((&step.id, level)) };
                self.level(&inner);
            }
        }
    }

    /// A step whose only point is its value, and whose value goes nowhere. Without a declared `output` all values go into it.
    fn unused(&mut self, step: &Step, path: &str, level: &Level<'_>) {
        let pure = matches!(step.action, Action::Set { .. } | Action::Read { .. } | Action::Sample { .. });
        let checked = step.expect.is_some();
        if pure && !checked && level.body.output.is_some() && !self.edges.mentioned.contains(path) {
            let message = format!("nothing uses what `{}` yields", step.id);
            let help = format!("use `steps.{}.output` somewhere, or remove the step", step.id);
            self.diagnostics.push(Diagnostic::new(UNUSED, &step.place, message).help(help));
        }
    }

    fn deps(&self, path: &str) -> impl Iterator<Item = (&String, &Dep)> {
        self.edges.deps.get(path).into_iter().flatten()
    }

    /// What may become of a step; says so the first time it is asked.
    fn fate(&mut self, step: &Step, path: &str, level: &Level<'_>) -> Fate {
        if let Some(fate) = self.fates.get(path) {
            return fate.clone();
        }
        let mut fate = own_fate(step);
        if let Fate::Never(why) = &fate {
            let message = format!("`{}` never runs: {why}", step.id);
            let place = step.when.as_ref().map_or(&step.place, |when| &when.place);
            self.diagnostics
                .push(Diagnostic::new(NEVER_RUNS, place, message).help("remove the step, or mend its `when`"));
        } else {
            let used: Vec<String> = self.deps(path).filter(|(_, dep)| dep.uses).map(|(id, _)| id.clone()).collect();
            for id in used {
                let Some((other, other_path)) = level.find(&id) else { continue };
                match self.fate(other, &other_path, level) {
                    Fate::Never(_) => {
                        let why = format!("it uses `{id}`, which never runs");
                        let message = format!("`{}` never runs: {why}", step.id);
                        self.diagnostics.push(
                            Diagnostic::new(NEVER_RUNS, &step.place, message)
                                .help("guard the use, as in `steps.x.output | default(none)`, or remove the step"),
                        );
                        fate = Fate::Never(why);
                        break;
                    }
                    Fate::May(why) => {
                        let message = format!("`{}` may be skipped: it uses `{id}`, which may not run: {why}", step.id);
                        let help = format!(
                            "that is often meant; to run in any case, guard the use (`steps.{id}.output | default(none)`), or ask `steps.{id}.status`"
                        );
                        self.diagnostics.push(Diagnostic::new(MAY_BE_SKIPPED, &step.place, message).help(help));
                        fate = Fate::May(why);
                        break;
                    }
                    Fate::Runs => {}
                }
            }
        }
        self.fates.insert(path.to_owned(), fate.clone());
        fate
    }

    /// A step that asks how another ended, but needs the value of one that does not run when that fails.
    fn asks_in_vain(&mut self, step: &Step, path: &str, level: &Level<'_>) {
        let asked: Vec<_> =
            self.deps(path).filter(|(_, dep)| dep.asks && !dep.uses).filter_map(|(id, _)| level.find(id)).collect();
        let used: Vec<_> = self.deps(path).filter(|(_, dep)| dep.uses).filter_map(|(id, _)| level.find(id)).collect();
        for (needed, needed_path) in &used {
            let Some((failed, _)) = asked.iter().find(|(_, asked)| self.follows(needed_path, asked, level)) else {
                continue;
            };
            let message = format!(
                "`{}` asks how `{}` ended, but uses `{}`, which may not run: `{}` failed",
                step.id, failed.id, needed.id, failed.id
            );
            let help = format!("to run in any case, guard the use: `steps.{}.output | default(none)`", needed.id);
            self.diagnostics.push(Diagnostic::new(MAY_BE_SKIPPED, &step.place, message).help(help));
        }
    }

    /// Whether the step at `path` needs the success of the one at `other`.
    fn follows(&self, path: &str, other: &str, level: &Level<'_>) -> bool {
        let mut seen = BTreeSet::new();
        let mut todo = vec![path.to_owned()];
        while let Some(path) = todo.pop() {
            for (_, before) in self.deps(&path).filter(|(_, dep)| dep.uses).filter_map(|(id, _)| level.find(id)) {
                if before == other {
                    return true;
                }
                if seen.insert(before.clone()) {
                    todo.push(before);
                }
            }
        }
        false
    }
}

/// What may become of a step by itself.
fn own_fate(step: &Step) -> Fate {
    if let Some(when) = &step.when {
        return match &when.expr.source {
            Source::Literal(Value::Bool(false)) => Fate::Never("its `when` is false".to_owned()),
            Source::Expression(text) if text.trim() == "false" => Fate::Never("its `when` is false".to_owned()),
            Source::Literal(_) => Fate::Runs,
            _ => Fate::May(format!("the `when` of `{}` may be false", step.id)),
        };
    }
    if matches!(step.action, Action::Elicit { .. }) {
        return Fate::May(format!("`{}` may be declined", step.id));
    }
    if matches!(step.on_error, OnError::Continue) {
        return Fate::May(format!("`{}` may fail, and the run goes on", step.id));
    }
    if step.on_doubt == OnDoubt::Skip {
        return Fate::May(format!("`{}` may be in doubt, and is then skipped", step.id));
    }
    Fate::Runs
}
