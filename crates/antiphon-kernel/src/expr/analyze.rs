//! What a source refers to, read from its syntax tree, and everything that can be refused before it runs.

use std::ops::Range;

use minijinja::machinery::ast::{BinOpKind, Call, CallArg, Expr, Filter, Stmt, Test};

use super::chain::Chain;
use super::filters::{FILTERS, FUNCTIONS, TESTS};
use super::syntax::{self, Kind, MAX_DEPTH, SyntaxError, did_you_mean};

/// What an expression may ask of a step.
pub(super) const STEP_FIELDS: &[&str] =
    &["status", "error", "action", "output", "text", "blocks", "model", "usage", "errors"];

/// Names that a template must not give to something of its own.
const RESERVED: &[&str] = &["steps", "input", "output", "previous", "round", "run"];

/// What a source refers to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Analysis {
    /// In the order of the source; the same thing may occur more than once.
    pub references: Vec<Reference>,
    /// The value keeps its JSON type: an expression, or a template that is, trimmed, exactly one `{{ … }}`.
    pub single: bool,
}

/// One mention of something outside the source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// What.
    pub root: Root,
    /// The literal attributes and keys after it; list indices as decimal numbers.
    pub path: Vec<String>,
    /// What for.
    pub mode: Mode,
    /// Bytes of the source.
    pub span: Range<usize>,
}

/// What a reference begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Root {
    /// `steps.ID`.
    Step(String),
    /// Any other name: `input`, the item, `index`, `round`, `previous`, `output`, `run`, or a mistake.
    Var(String),
}

/// What a reference is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Its value is needed.
    Uses,
    /// Its value is used if it is there.
    Guarded,
    /// It asks how a step ended: `.status`, `.error`, `.action`.
    Asks,
}

/// Reads what a source refers to.
///
/// # Errors
/// When the source can't be parsed, or says something that can never work: a bare or computed `steps`, a field that steps
/// don't have, an unknown filter, test or function, a statement that is left out of the language.
pub fn analyze(source: &str, kind: Kind) -> Result<Analysis, SyntaxError> {
    let tree = syntax::parse(source, kind)?;
    let mut analyzer = Analyzer::new(source);
    match tree.single() {
        Some(expr) => analyzer.expr(expr)?,
        None => analyzer.block(tree.statements())?,
    }
    let references = analyzer.found.into_iter().map(|found| found.reference).collect();
    Ok(Analysis { references, single: tree.single().is_some() })
}

/// The steps that an expression mentions.
pub(super) fn steps_in(source: &str, expr: &Expr<'_>) -> Vec<String> {
    let mut analyzer = Analyzer::new(source);
    // What is wrong with the expression has been said before it was evaluated.
    let _ = analyzer.expr(expr);
    let roots = analyzer.found.into_iter().map(|found| found.reference.root);
    roots.filter_map(|root| if let Root::Step(id) = root { Some(id) } else { None }).collect()
}

struct Found {
    reference: Reference,
    /// It stands under `is defined` or `is undefined`, or asks how the step ended.
    tests: bool,
}

struct Analyzer<'s> {
    source: &'s str,
    found: Vec<Found>,
    /// Names that the template itself defines, innermost last.
    locals: Vec<&'s str>,
    /// Steps that an `if`, ternary, `and` or `or` around has tested.
    tested: Vec<String>,
    /// Under `default`, on the left of an `or`, or under `is defined`.
    covered: bool,
    /// Under `is defined` or `is undefined`.
    testing: bool,
    depth: u32,
}

type Checked = Result<(), SyntaxError>;

impl<'s> Analyzer<'s> {
    fn new(source: &'s str) -> Self {
        let (found, locals, tested) = Default::default();
        Self { source, found, locals, tested, covered: false, testing: false, depth: 0 }
    }

    fn refuse<T>(&self, expr: &Expr<'s>, message: impl Into<String>) -> Result<T, SyntaxError> {
        Err(SyntaxError::new(message, syntax::range(self.source, expr)))
    }

    /// Statements whose names stay visible after them.
    fn block(&mut self, body: &[Stmt<'s>]) -> Checked {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(SyntaxError::new("this is nested too deeply", 0..self.source.len()));
        }
        body.iter().try_for_each(|stmt| self.stmt(stmt))?;
        self.depth -= 1;
        Ok(())
    }

    /// Statements whose names end with them.
    fn scoped(&mut self, body: &[Stmt<'s>]) -> Checked {
        let mark = self.locals.len();
        self.block(body)?;
        self.locals.truncate(mark);
        Ok(())
    }

    fn stmt(&mut self, stmt: &Stmt<'s>) -> Checked {
        match stmt {
            Stmt::Template(template) => self.block(&template.children),
            Stmt::EmitRaw(_) => Ok(()),
            Stmt::EmitExpr(emit) => self.expr(&emit.expr),
            Stmt::IfCond(cond) => self.decides(&cond.expr, |this| {
                this.block(&cond.true_body)?;
                this.block(&cond.false_body)
            }),
            Stmt::ForLoop(each) => {
                if each.recursive {
                    return self.refuse(&each.target, "there are no recursive loops here");
                }
                self.expr(&each.iter)?;
                let mark = self.locals.len();
                self.bind(&each.target)?;
                if let Some(condition) = &each.filter_expr {
                    self.expr(condition)?;
                }
                self.locals.push("loop");
                self.block(&each.body)?;
                self.locals.truncate(mark);
                self.scoped(&each.else_body)
            }
            Stmt::WithBlock(with) => {
                let mark = self.locals.len();
                for (target, value) in &with.assignments {
                    self.expr(value)?;
                    self.bind(target)?;
                }
                self.block(&with.body)?;
                self.locals.truncate(mark);
                Ok(())
            }
            Stmt::Set(set) => {
                self.expr(&set.expr)?;
                self.bind(&set.target)
            }
            Stmt::SetBlock(set) => {
                self.scoped(&set.body)?;
                set.filter.iter().try_for_each(|filter| self.expr(filter))?;
                self.bind(&set.target)
            }
            Stmt::FilterBlock(block) => {
                self.scoped(&block.body)?;
                self.expr(&block.filter)
            }
            _ => Err(SyntaxError::new("this statement does not belong to the language", 0..self.source.len())),
        }
    }

    /// The names that a `for`, `set` or `with` defines.
    fn bind(&mut self, target: &Expr<'s>) -> Checked {
        match target {
            Expr::Var(var) if RESERVED.contains(&var.id) => {
                self.refuse(target, format!("`{}` has a meaning already: take another name", var.id))
            }
            Expr::Var(var) => {
                self.locals.push(var.id);
                Ok(())
            }
            Expr::List(list) => list.items.iter().try_for_each(|item| self.bind(item)),
            _ => self.refuse(target, "only a plain name can be set"),
        }
    }

    /// A test, and what it decides over: whatever that mentions of a step that the test tests is guarded.
    fn decides(&mut self, test: &Expr<'s>, inner: impl FnOnce(&mut Self) -> Checked) -> Checked {
        let from = self.found.len();
        self.expr(test)?;
        self.tested_since(from, |found| found.tests || found.reference.mode == Mode::Guarded, inner)
    }

    fn tested_since(
        &mut self,
        from: usize,
        counts: impl Fn(&Found) -> bool,
        inner: impl FnOnce(&mut Self) -> Checked,
    ) -> Checked {
        let mark = self.tested.len();
        for found in self.found[from..].iter().filter(|found| counts(found)) {
            if let Root::Step(id) = &found.reference.root {
                self.tested.push(id.clone());
            }
        }
        inner(self)?;
        self.tested.truncate(mark);
        Ok(())
    }

    fn covered(&mut self, testing: bool, inner: impl FnOnce(&mut Self) -> Checked) -> Checked {
        let before = (self.covered, self.testing);
        (self.covered, self.testing) = (true, self.testing || testing);
        inner(self)?;
        (self.covered, self.testing) = before;
        Ok(())
    }

    fn expr(&mut self, expr: &Expr<'s>) -> Checked {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return self.refuse(expr, "this is nested too deeply");
        }
        match expr {
            Expr::Const(_) => {}
            Expr::Var(_) | Expr::GetAttr(_) | Expr::GetItem(_) => self.path(expr)?,
            Expr::UnaryOp(op) => self.expr(&op.expr)?,
            Expr::BinOp(op) => match op.op {
                BinOpKind::ScAnd => self.decides(&op.left, |this| this.expr(&op.right))?,
                BinOpKind::ScOr => {
                    let from = self.found.len();
                    self.covered(false, |this| this.expr(&op.left))?;
                    self.tested_since(from, |found| found.tests, |this| this.expr(&op.right))?;
                }
                _ => {
                    self.expr(&op.left)?;
                    self.expr(&op.right)?;
                }
            },
            Expr::Compare(compare) => {
                self.expr(&compare.expr)?;
                compare.ops.iter().try_for_each(|op| self.expr(&op.expr))?;
            }
            Expr::IfExpr(choice) => self.decides(&choice.test_expr, |this| {
                this.expr(&choice.true_expr)?;
                choice.false_expr.iter().try_for_each(|other| this.expr(other))
            })?,
            Expr::Filter(filter) => self.filter(expr, filter)?,
            Expr::Test(test) => self.test(expr, test)?,
            Expr::Call(call) => self.call(expr, call)?,
            Expr::List(list) => list.items.iter().try_for_each(|item| self.expr(item))?,
            Expr::Tuple(tuple) => tuple.items.iter().try_for_each(|item| self.expr(item))?,
            Expr::Map(map) => map.keys.iter().chain(&map.values).try_for_each(|item| self.expr(item))?,
            Expr::Slice(slice) => {
                self.expr(&slice.expr)?;
                [&slice.start, &slice.stop, &slice.step]
                    .into_iter()
                    .flatten()
                    .try_for_each(|bound| self.expr(bound))?;
            }
        }
        self.depth -= 1;
        Ok(())
    }

    fn filter(&mut self, expr: &Expr<'s>, filter: &Filter<'s>) -> Checked {
        if !FILTERS.contains(&filter.name) {
            let hint = did_you_mean(filter.name, FILTERS);
            return self.refuse(expr, format!("there is no filter `{}`{hint}", filter.name));
        }
        let is_default = matches!(filter.name, "default" | "d");
        match &filter.expr {
            Some(inner) if is_default => self.covered(false, |this| this.expr(inner))?,
            Some(inner) => self.expr(inner)?,
            None => {}
        }
        self.args(&filter.args)?;
        // Filters that are handed the name of a filter or test.
        match filter.name {
            "map" => self.named(&filter.args, 0, FILTERS, "filter"),
            "select" | "reject" => self.named(&filter.args, 0, TESTS, "test"),
            "selectattr" | "rejectattr" => self.named(&filter.args, 1, TESTS, "test"),
            _ => Ok(()),
        }
    }

    fn named(&self, args: &[CallArg<'s>], at: usize, known: &[&str], what: &str) -> Checked {
        match args.get(at) {
            Some(CallArg::Pos(arg @ Expr::Const(name))) => match name.value.as_str() {
                Some(name) if !known.contains(&name) => {
                    self.refuse(arg, format!("there is no {what} `{name}`{}", did_you_mean(name, known)))
                }
                _ => Ok(()),
            },
            _ => Ok(()),
        }
    }

    fn test(&mut self, expr: &Expr<'s>, test: &Test<'s>) -> Checked {
        if !TESTS.contains(&test.name) {
            let hint = did_you_mean(test.name, TESTS);
            return self.refuse(expr, format!("there is no test `{}`{hint}", test.name));
        }
        match test.name {
            "defined" | "undefined" => self.covered(true, |this| this.expr(&test.expr))?,
            _ => self.expr(&test.expr)?,
        }
        self.args(&test.args)
    }

    fn call(&mut self, expr: &Expr<'s>, call: &Call<'s>) -> Checked {
        match &call.expr {
            Expr::Var(function) if FUNCTIONS.contains(&function.id) => self.args(&call.args),
            Expr::Var(function) => {
                let hint = did_you_mean(function.id, FUNCTIONS);
                let message = match FILTERS.contains(&function.id) {
                    true => format!("`{0}` is a filter: write `… | {0}`", function.id),
                    false => format!("there is no function `{}`{hint}", function.id),
                };
                self.refuse(expr, message)
            }
            Expr::GetAttr(method) if FILTERS.contains(&method.name) => {
                self.refuse(expr, format!("values have no methods: write `… | {}`", method.name))
            }
            _ => self.refuse(expr, "values have no methods, but there are filters"),
        }
    }

    fn args(&mut self, args: &[CallArg<'s>]) -> Checked {
        args.iter().try_for_each(|arg| match arg {
            CallArg::Pos(value) | CallArg::Kwarg(_, value) => self.expr(value),
            CallArg::PosSplat(value) | CallArg::KwargSplat(value) => {
                self.refuse(value, "arguments can't be unpacked here: write them out")
            }
        })
    }

    /// A chain of attributes and subscripts.
    fn path(&mut self, expr: &Expr<'s>) -> Checked {
        let chain = Chain::of(expr);
        if chain.literal.len() > MAX_DEPTH as usize {
            return self.refuse(expr, "this is nested too deeply");
        }
        chain.computed.iter().try_for_each(|computed| self.expr(computed))?;
        let Expr::Var(var) = chain.base else { return self.expr(chain.base) };
        if self.locals.contains(&var.id) {
            return Ok(());
        }
        let span = syntax::range(self.source, chain.literal_end);
        let (root, path) = match (var.id, chain.literal.split_first()) {
            ("steps", None) if chain.computed.is_empty() => {
                return self.refuse(expr, "bare `steps`: name the step, as in `steps.build.output`");
            }
            ("steps", first)
                if first.is_none_or(|(id, _)| id.starts_with(|c: char| c == '-' || c.is_ascii_digit())) =>
            {
                return self.refuse(expr, "a computed step: name it, as in `steps.build.output`");
            }
            ("steps", Some((id, path))) => (Root::Step(id.clone()), path.to_vec()),
            (name, _) => (Root::Var(name.to_owned()), chain.literal),
        };
        let mode = match &root {
            Root::Step(id) => {
                self.check_step_path(expr, id, &path, chain.computed.is_empty())?;
                match path.first().map(String::as_str) {
                    Some("status" | "error" | "action") => Mode::Asks,
                    _ if self.covered || self.tested.contains(id) => Mode::Guarded,
                    _ => Mode::Uses,
                }
            }
            Root::Var(name) if name == "run" && path.first().is_none_or(|key| key != "key") => {
                return self.refuse(expr, "`run` has only `run.key`");
            }
            Root::Var(_) if self.covered => Mode::Guarded,
            Root::Var(_) => Mode::Uses,
        };
        let tests = self.testing || mode == Mode::Asks;
        self.found.push(Found { reference: Reference { root, path, mode, span }, tests });
        Ok(())
    }

    fn check_step_path(&self, expr: &Expr<'s>, id: &str, path: &[String], literal: bool) -> Checked {
        let wrong = |field: &str, of: &str, known: &[&str]| {
            let hint = did_you_mean(field, known);
            let hint = if hint.is_empty() { format!("; it has `{}`", known.join("`, `")) } else { hint };
            self.refuse(expr, format!("{of} has no `{field}`{hint}"))
        };
        match path {
            [] if !literal => self.refuse(expr, format!("a computed field: name it, as in `steps.{id}.output`")),
            [field, ..] if !STEP_FIELDS.contains(&field.as_str()) => wrong(field, "a step", STEP_FIELDS),
            [error, field, ..] if error == "error" && !matches!(field.as_str(), "kind" | "message") => {
                wrong(field, "an error", &["kind", "message"])
            }
            _ => Ok(()),
        }
    }
}
