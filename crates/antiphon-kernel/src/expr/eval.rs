//! Evaluates expressions, straight from the syntax tree.

use std::cmp::Ordering;

use minijinja::machinery::ast::{BinOp, BinOpKind, Compare, CompareOpKind, Expr, IfExpr, UnaryOpKind};
use minijinja::{State, Value};

use super::analyze::steps_in;
use super::member::Key;
use super::operators;
use super::scope::Names;
use super::syntax::MAX_DEPTH;
use super::value::{Budget, Nothing, Stop, Val};

/// Evaluates the expressions of one source.
pub(super) struct Eval<'a> {
    pub(super) source: &'a str,
    pub(super) names: &'a Names<'a>,
    pub(super) budget: &'a mut Budget,
    /// Names that the template itself has defined, innermost last.
    pub(super) locals: Vec<(&'a str, Val<'a>)>,
    /// What a filter block or a set block feeds its filter.
    pub(super) piped: Option<Value>,
    pub(super) depth: u32,
    /// MiniJinja's state, which filters and tests want.
    pub(super) state: Option<State<'static, 'static>>,
}

/// A value, or why there is none.
pub(super) type Evaluated<'a> = Result<Val<'a>, Stop>;

impl<'a> Eval<'a> {
    pub(super) fn new(source: &'a str, names: &'a Names<'a>, budget: &'a mut Budget) -> Self {
        Self { source, names, budget, locals: Vec::new(), piped: None, depth: 0, state: None }
    }

    /// One step deeper into the tree.
    pub(super) fn descend(&mut self) -> Result<(), Stop> {
        self.budget.spend(1)?;
        self.depth += 1;
        if self.depth > MAX_DEPTH { Stop::error("this is nested too deeply") } else { Ok(()) }
    }

    /// The value of an expression.
    pub(super) fn expr(&mut self, expr: &'a Expr<'a>) -> Evaluated<'a> {
        let depth = self.depth;
        self.descend()?;
        let result = match expr {
            Expr::Const(constant) => Ok(Val::Own(constant.value.clone())),
            Expr::Var(var) => self.name(var.id),
            Expr::GetAttr(get) => {
                self.expr(&get.expr).and_then(|base| self.member(expr, &get.expr, base, &Key::Name(get.name)))
            }
            Expr::GetItem(get) => self.item(expr, &get.expr, &get.subscript_expr),
            Expr::UnaryOp(op) => match op.op {
                UnaryOpKind::Not => self.truth(&op.expr).map(|truth| Val::Own(Value::from(!truth))),
                UnaryOpKind::Neg => self.operate(expr, "neg", &[&op.expr]),
            },
            Expr::BinOp(op) => self.binary(expr, op),
            Expr::Compare(chain) => self.chain(expr, chain),
            Expr::IfExpr(choice) => self.choose(expr, choice),
            Expr::Filter(filter) => self.filter(expr, filter),
            Expr::Test(test) => self.test(expr, test),
            Expr::Call(call) => self.call(expr, call),
            Expr::List(list) => self.list(&list.items),
            Expr::Tuple(tuple) => self.list(&tuple.items),
            Expr::Map(map) => {
                let entries: Result<Vec<_>, Stop> =
                    map.keys.iter().zip(&map.values).map(|(key, item)| Ok((self.own(key)?, self.own(item)?))).collect();
                entries.map(|entries| Val::Own(Value::from_pairs(entries)))
            }
            Expr::Slice(slice) => {
                let mut operands = vec![self.own(&slice.expr)?];
                for bound in [&slice.start, &slice.stop, &slice.step] {
                    operands.push(bound.as_ref().map_or(Ok(Value::from(())), |bound| self.own(bound))?);
                }
                self.finish(expr, operators::operate("slice", &operands).map_err(Stop::Error))
            }
        };
        // A guard catches errors from any depth.
        self.depth = depth;
        result
    }

    fn name(&mut self, name: &str) -> Evaluated<'a> {
        match self.locals.iter().rev().find(|(local, _)| *local == name) {
            Some((_, value)) => Ok(value.clone()),
            None => self.names.var(name),
        }
    }

    fn list(&mut self, items: &'a [Expr<'a>]) -> Evaluated<'a> {
        let items: Result<Vec<_>, _> = items.iter().map(|item| self.own(item)).collect();
        Ok(Val::Own(Value::from(items?)))
    }

    fn binary(&mut self, expr: &'a Expr<'a>, op: &'a BinOp<'a>) -> Evaluated<'a> {
        let operator = match op.op {
            BinOpKind::ScAnd => {
                let left = self.expr(&op.left)?;
                return if self.is_true(&op.left, &left)? { self.expr(&op.right) } else { Ok(left) };
            }
            BinOpKind::ScOr => return self.either(op),
            BinOpKind::Concat => {
                let mut text = self.text(&op.left)?;
                text.push_str(&self.text(&op.right)?);
                return self.finish(expr, operators::sized(Value::from(text)).map_err(Stop::Error));
            }
            BinOpKind::Eq => return self.compare(expr, CompareOpKind::Eq, &op.left, &op.right),
            BinOpKind::Ne => return self.compare(expr, CompareOpKind::Ne, &op.left, &op.right),
            BinOpKind::Lt => return self.compare(expr, CompareOpKind::Lt, &op.left, &op.right),
            BinOpKind::Lte => return self.compare(expr, CompareOpKind::Lte, &op.left, &op.right),
            BinOpKind::Gt => return self.compare(expr, CompareOpKind::Gt, &op.left, &op.right),
            BinOpKind::Gte => return self.compare(expr, CompareOpKind::Gte, &op.left, &op.right),
            BinOpKind::In => return self.compare(expr, CompareOpKind::In, &op.left, &op.right),
            BinOpKind::Add => "+",
            BinOpKind::Sub => "-",
            BinOpKind::Mul => "*",
            BinOpKind::Div => "/",
            BinOpKind::FloorDiv => "//",
            BinOpKind::Rem => "%",
            BinOpKind::Pow => "**",
        };
        self.operate(expr, operator, &[&op.left, &op.right])
    }

    fn operate(&mut self, expr: &'a Expr<'a>, operator: &str, operands: &[&'a Expr<'a>]) -> Evaluated<'a> {
        let operands: Result<Vec<_>, _> = operands.iter().map(|operand| self.own(operand)).collect();
        self.finish(expr, operators::operate(operator, &operands?).map_err(Stop::Error))
    }

    /// `or`: whatever is missing on the left counts as false.
    fn either(&mut self, op: &'a BinOp<'a>) -> Evaluated<'a> {
        match self.expr(&op.left) {
            Ok(left) => {
                if self.is_true(&op.left, &left)? {
                    Ok(left)
                } else {
                    self.expr(&op.right)
                }
            }
            Err(Stop::Nothing(left)) => self.instead(left, &op.right),
            Err(error) => Err(error),
        }
    }

    /// What a guard gives instead. If that is nothing too, the step that did not succeed is still the reason.
    pub(super) fn instead(&mut self, missing: Nothing, other: &'a Expr<'a>) -> Evaluated<'a> {
        self.expr(other).map_err(|stop| match stop {
            Stop::Nothing(Nothing { message, step }) => Stop::Nothing(Nothing { message, step: step.or(missing.step) }),
            error => error,
        })
    }

    /// `a < b <= c`.
    fn chain(&mut self, expr: &'a Expr<'a>, chain: &'a Compare<'a>) -> Evaluated<'a> {
        let mut left = &chain.expr;
        for op in &chain.ops {
            let holds = self.compare(expr, op.op, left, &op.expr)?;
            if !self.is_true(expr, &holds)? {
                return Ok(holds);
            }
            left = &op.expr;
        }
        Ok(Val::Own(Value::from(true)))
    }

    fn compare(
        &mut self,
        expr: &'a Expr<'a>,
        op: CompareOpKind,
        left: &'a Expr<'a>,
        right: &'a Expr<'a>,
    ) -> Evaluated<'a> {
        let ordered = match op {
            CompareOpKind::Eq | CompareOpKind::Ne => {
                let equal = self.or_none(left)? == self.or_none(right)?;
                return Ok(Val::Own(Value::from(equal == matches!(op, CompareOpKind::Eq))));
            }
            CompareOpKind::In | CompareOpKind::NotIn => {
                let operands = [self.own(right)?, self.or_none(left)?];
                self.budget.spend(operands[0].len().unwrap_or(1))?;
                let found = self.finish(expr, operators::operate("in", &operands).map_err(Stop::Error))?;
                let found = self.is_true(expr, &found)?;
                return Ok(Val::Own(Value::from(found == matches!(op, CompareOpKind::In))));
            }
            CompareOpKind::Lt => Ordering::is_lt,
            CompareOpKind::Lte => Ordering::is_le,
            CompareOpKind::Gt => Ordering::is_gt,
            CompareOpKind::Gte => Ordering::is_ge,
        };
        let (left, right) = (self.own(left)?, self.own(right)?);
        let ordering = operators::compare(&left, &right).map_err(Stop::Error);
        self.finish(expr, ordering.map(|ordering| Value::from(ordered(ordering))))
    }

    fn choose(&mut self, expr: &'a Expr<'a>, choice: &'a IfExpr<'a>) -> Evaluated<'a> {
        if self.truth(&choice.test_expr)? {
            return self.expr(&choice.true_expr);
        }
        match &choice.false_expr {
            Some(other) => self.expr(other),
            None => {
                let mentioned = steps_in(self.source, expr);
                let failed = |id: &String| self.names.step(id).is_ok_and(|step| !step.succeeded());
                let message = format!("{}: the condition is false, and there is no `else`", self.quote(expr));
                Err(Stop::Nothing(Nothing { message, step: mentioned.into_iter().find(failed) }))
            }
        }
    }
}
