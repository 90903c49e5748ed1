//! Evaluates expressions, straight from the syntax tree.

use std::cmp::Ordering;

use minijinja::machinery::ast::{
    BinOp, BinOpKind, Call, CallArg, Compare, CompareOpKind, Expr, Filter, IfExpr, Test, UnaryOpKind,
};
use minijinja::value::{Kwargs, ValueKind};
use minijinja::{State, Value};
use serde_json::Value as Json;

use super::analyze::steps_in;
use super::functions;
use super::scope::Names;
use super::syntax::{MAX_DEPTH, snippet};
use super::value::{Budget, Nothing, Stop, Val, copy, from_json, json_text, kind, to_json, weigh, words};

/// How many keys a message lists.
const LISTED: usize = 8;

/// Evaluates the expressions of one source.
pub(super) struct Eval<'a> {
    pub(super) source: &'a str,
    names: &'a Names<'a>,
    pub(super) budget: &'a mut Budget,
    /// Names that the template itself has defined, innermost last.
    pub(super) locals: Vec<(&'a str, Val<'a>)>,
    /// What a filter block or a set block feeds its filter.
    pub(super) piped: Option<Value>,
    pub(super) depth: u32,
    /// MiniJinja's state, which filters and tests want.
    state: Option<State<'static, 'static>>,
}

type Evaluated<'a> = Result<Val<'a>, Stop>;

/// A subscript.
enum Key<'k> {
    Name(&'k str),
    Index(i64),
}

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
                self.finish(expr, functions::operate("slice", &operands).map_err(Stop::Error))
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

    // Members

    fn item(&mut self, expr: &'a Expr<'a>, base: &'a Expr<'a>, subscript: &'a Expr<'a>) -> Evaluated<'a> {
        let value = self.expr(base)?;
        let key = self.expr(subscript)?;
        let key = self.value(subscript, key)?;
        match (key.as_str(), key.is_integer().then(|| key.as_i64()).flatten()) {
            (Some(name), _) => self.member(expr, base, value, &Key::Name(name)),
            (_, Some(index)) => self.member(expr, base, value, &Key::Index(index)),
            _ => Stop::error(format!("{}: a subscript must be a string or an integer", self.quote(expr))),
        }
    }

    fn member(&mut self, expr: &'a Expr<'a>, base: &'a Expr<'a>, value: Val<'a>, key: &Key<'_>) -> Evaluated<'a> {
        match (value, key) {
            (Val::Unset(reason), _) => Ok(Val::Unset(reason)),
            (Val::Steps, Key::Name(id)) => self.names.step(id).map(Val::Step),
            (Val::Step(step), Key::Name(field)) => step.field(field),
            (Val::Loop { index, length }, Key::Name(field)) => match *field {
                "index" => Ok(Val::Own(Value::from(index + 1))),
                "index0" => Ok(Val::Own(Value::from(index))),
                "revindex" => Ok(Val::Own(Value::from(length - index))),
                "revindex0" => Ok(Val::Own(Value::from(length - index - 1))),
                "first" => Ok(Val::Own(Value::from(index == 0))),
                "last" => Ok(Val::Own(Value::from(index + 1 == length))),
                "length" => Ok(Val::Own(Value::from(length))),
                _ => Stop::error(format!("`loop` has no `{field}`")),
            },
            (Val::Json(json), key) => match member_of(json, key) {
                Some(member) => Ok(Val::Json(member)),
                None => Err(Stop::nothing(self.no_member(expr, base, json, key))),
            },
            (Val::Own(value), key) => {
                let found = match key {
                    Key::Name(name) => value.get_attr(name),
                    Key::Index(index) => value.get_item(&Value::from(*index)),
                };
                match found {
                    Ok(member) if !member.is_undefined() => Ok(Val::Own(member)),
                    _ => {
                        let json = to_json(&value, &mut Budget::default())?;
                        Err(Stop::nothing(self.no_member(expr, base, &json, key)))
                    }
                }
            }
            (Val::Steps | Val::Step(_) | Val::Loop { .. }, Key::Index(_)) => {
                Stop::error(format!("{}: this has no numbered items", self.quote(expr)))
            }
        }
    }

    /// Why there is no such member.
    fn no_member(&self, expr: &Expr<'_>, base: &Expr<'_>, json: &Json, key: &Key<'_>) -> String {
        let whole = self.quote(expr);
        let base = snippet(self.source, base);
        let base = match base.strip_prefix("steps.").and_then(|rest| rest.strip_suffix(".output")) {
            Some(id) if !id.contains(['.', '[']) => format!("the output of `{id}`"),
            _ if base == "input" => "the input".to_owned(),
            _ => format!("`{base}`"),
        };
        match (json, key) {
            (Json::Object(entries), key) => {
                let name = key.to_string();
                if entries.is_empty() {
                    return format!("{whole}: {base} has no `{name}`; it is empty");
                }
                let names: Vec<String> = entries.keys().take(LISTED).map(|name| format!("`{name}`")).collect();
                let more = if entries.len() > LISTED { ", …" } else { "" };
                format!("{whole}: {base} has no `{name}`; it has {}{more}", names.join(", "))
            }
            (Json::Array(items), Key::Index(index)) => {
                format!("{whole}: {base} has no item {index}: its length is {}", items.len())
            }
            (Json::Array(_), Key::Name(name)) => format!("{whole}: {base} is a list, and a list has no `{name}`"),
            (other, key) => format!("{whole}: {base} is {}, and has no `{key}`", kind(other)),
        }
    }

    // Operators

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
                return self.finish(expr, functions::sized(Value::from(text)).map_err(Stop::Error));
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
        self.finish(expr, functions::operate(operator, &operands?).map_err(Stop::Error))
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
    fn instead(&mut self, missing: Nothing, other: &'a Expr<'a>) -> Evaluated<'a> {
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
                let found = self.finish(expr, functions::operate("in", &operands).map_err(Stop::Error))?;
                let found = self.is_true(expr, &found)?;
                return Ok(Val::Own(Value::from(found == matches!(op, CompareOpKind::In))));
            }
            CompareOpKind::Lt => Ordering::is_lt,
            CompareOpKind::Lte => Ordering::is_le,
            CompareOpKind::Gt => Ordering::is_gt,
            CompareOpKind::Gte => Ordering::is_ge,
        };
        let (left, right) = (self.own(left)?, self.own(right)?);
        let ordering = functions::compare(&left, &right).map_err(Stop::Error);
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

    // Filters, tests, functions

    fn filter(&mut self, expr: &'a Expr<'a>, filter: &'a Filter<'a>) -> Evaluated<'a> {
        let input = match &filter.expr {
            Some(inner) if matches!(filter.name, "default" | "d") => return self.default(expr, inner, &filter.args),
            Some(inner) => self.own(inner)?,
            None => self.piped.clone().ok_or_else(|| Stop::Error("a filter needs something before it".to_owned()))?,
        };
        let mut args = self.args(input, &filter.args)?;
        let state = self.state.get_or_insert_with(|| functions::environment().empty_state());
        let result = functions::filter(state, filter.name, &mut args, self.budget);
        self.finish(expr, result)
    }

    /// `… | default(other)`, and with a second argument that is true, also instead of what is false or empty.
    fn default(&mut self, expr: &'a Expr<'a>, inner: &'a Expr<'a>, args: &'a [CallArg<'a>]) -> Evaluated<'a> {
        let (other, lax) = match args {
            [] => (None, None),
            [CallArg::Pos(other)] => (Some(other), None),
            [CallArg::Pos(other), CallArg::Pos(lax) | CallArg::Kwarg("boolean", lax)] => (Some(other), Some(lax)),
            _ => return Stop::error(format!("{}: `default` takes one value, and `true` after it", self.quote(expr))),
        };
        let missing = match self.expr(inner) {
            Ok(Val::Unset(message)) => Nothing { message, step: None },
            Ok(value) => match lax {
                Some(lax) if self.truth(lax)? && !self.is_true(inner, &value)? => {
                    Nothing { message: String::new(), step: None }
                }
                _ => return Ok(value),
            },
            Err(Stop::Nothing(missing)) => missing,
            Err(error) => return Err(error),
        };
        match other {
            Some(other) => self.instead(missing, other),
            None => Ok(Val::Own(Value::from(""))),
        }
    }

    fn test(&mut self, expr: &'a Expr<'a>, test: &'a Test<'a>) -> Evaluated<'a> {
        let answer = match test.name {
            "defined" | "undefined" => {
                let defined = match self.expr(&test.expr) {
                    Ok(Val::Unset(_)) | Err(Stop::Nothing(_)) => false,
                    Ok(Val::Step(step)) => step.succeeded(),
                    Ok(_) => true,
                    Err(error) => return Err(error),
                };
                Ok(defined == (test.name == "defined"))
            }
            name => {
                let input = if name == "none" { self.or_none(&test.expr)? } else { self.own(&test.expr)? };
                let args = self.args(input, &test.args)?;
                let state = self.state.get_or_insert_with(|| functions::environment().empty_state());
                functions::test(state, name, &args, self.budget)
            }
        };
        self.finish(expr, answer.map(Value::from))
    }

    fn call(&mut self, expr: &'a Expr<'a>, call: &'a Call<'a>) -> Evaluated<'a> {
        let Expr::Var(function) = &call.expr else {
            return Stop::error(format!("{}: values have no methods", self.quote(expr)));
        };
        let mut args = self.args(Value::from(()), &call.args)?;
        args.remove(0);
        self.finish(expr, functions::call(function.id, &args).map_err(Stop::Error))
    }

    /// The value, then the arguments, as MiniJinja wants them: named ones as one map at the end.
    fn args(&mut self, input: Value, args: &'a [CallArg<'a>]) -> Result<Vec<Value>, Stop> {
        let mut positional = vec![input];
        let mut named = Vec::new();
        for arg in args {
            match arg {
                CallArg::Pos(value) => positional.push(self.own(value)?),
                CallArg::Kwarg(name, value) => named.push((*name, self.own(value)?)),
                CallArg::PosSplat(_) | CallArg::KwargSplat(_) => {
                    return Stop::error("arguments can't be unpacked here");
                }
            }
        }
        if !named.is_empty() {
            positional.push(named.into_iter().collect::<Kwargs>().into());
        }
        Ok(positional)
    }

    // What an expression amounts to

    /// A result of MiniJinja's, or what was wrong with the expression.
    fn finish(&self, expr: &Expr<'_>, result: Result<Value, Stop>) -> Evaluated<'a> {
        let name = |message: &str| format!("{}: {message}", self.quote(expr));
        match result {
            Ok(value) if value.is_undefined() => Err(Stop::nothing(name("there is no such thing"))),
            // Looking inside is what yields the error that an invalid value carries.
            Ok(value) if value.kind() == ValueKind::Invalid => {
                Stop::error(name(&value.try_iter().err().map_or_else(String::new, |error| words(&error))))
            }
            Ok(value) => Ok(Val::Own(value)),
            Err(Stop::Error(message)) => Stop::error(name(&message)),
            Err(Stop::Nothing(missing)) => {
                Err(Stop::Nothing(Nothing { message: name(&missing.message), step: missing.step }))
            }
        }
    }

    pub(super) fn quote(&self, expr: &Expr<'_>) -> String {
        format!("`{}`", snippet(self.source, expr))
    }

    fn unset<T>(&self, expr: &Expr<'_>, reason: &str) -> Result<T, Stop> {
        Err(Stop::nothing(format!("{}: {reason}", self.quote(expr))))
    }

    /// A value to compute with.
    fn own(&mut self, expr: &'a Expr<'a>) -> Result<Value, Stop> {
        let value = self.expr(expr)?;
        self.value(expr, value)
    }

    pub(super) fn value(&mut self, expr: &Expr<'_>, value: Val<'a>) -> Result<Value, Stop> {
        match value {
            Val::Own(value) => Ok(value),
            Val::Json(json) => from_json(json, self.budget),
            Val::Unset(reason) => self.unset(expr, &reason),
            Val::Step(step) => {
                let mut fields = vec![(Value::from("status"), Value::from(step.status()))];
                for (name, field) in step.record()?.as_object().into_iter().flatten() {
                    fields.push((Value::from(name.as_str()), from_json(field, self.budget)?));
                }
                Ok(Value::from_pairs(fields))
            }
            Val::Steps | Val::Loop { .. } => Stop::error(format!("{}: this is not a value", self.quote(expr))),
        }
    }

    /// A value to compare with: what is not set is `none`.
    fn or_none(&mut self, expr: &'a Expr<'a>) -> Result<Value, Stop> {
        match self.expr(expr)? {
            Val::Unset(_) => Ok(Value::from(())),
            value => self.value(expr, value),
        }
    }

    /// The value as JSON: a plain path is copied as it stands.
    pub(super) fn json(&mut self, expr: &'a Expr<'a>) -> Result<Json, Stop> {
        match self.expr(expr)? {
            Val::Json(json) => copy(json, self.budget),
            value => {
                let value = self.value(expr, value)?;
                self.converted(expr, &value, false)
            }
        }
    }

    /// The value as text: strings raw, everything else as compact JSON.
    pub(super) fn text(&mut self, expr: &'a Expr<'a>) -> Result<String, Stop> {
        let value = match self.expr(expr)? {
            Val::Json(json) => {
                self.budget.aside(|budget| weigh(json, budget))?;
                return Ok(json_text(json));
            }
            value => self.value(expr, value)?,
        };
        match value.as_str() {
            Some(text) => Ok(text.to_owned()),
            None => self.converted(expr, &value, true).map(|json| json_text(&json)),
        }
    }

    fn converted(&mut self, expr: &Expr<'_>, value: &Value, aside: bool) -> Result<Json, Stop> {
        let json = if aside { self.budget.aside(|budget| to_json(value, budget)) } else { to_json(value, self.budget) };
        json.map_err(|stop| match stop {
            Stop::Nothing(missing) => Stop::nothing(format!("{}: {}", self.quote(expr), missing.message)),
            Stop::Error(message) => Stop::Error(format!("{}: {message}", self.quote(expr))),
        })
    }

    pub(super) fn truth(&mut self, expr: &'a Expr<'a>) -> Result<bool, Stop> {
        let value = self.expr(expr)?;
        self.is_true(expr, &value)
    }

    fn is_true(&mut self, expr: &Expr<'_>, value: &Val<'a>) -> Result<bool, Stop> {
        Ok(match value {
            Val::Own(value) => value.is_true(),
            Val::Unset(_) => false,
            Val::Json(Json::Null) => false,
            Val::Json(Json::Bool(bool)) => *bool,
            Val::Json(Json::Number(number)) => number.as_f64() != Some(0.0),
            Val::Json(Json::String(text)) => !text.is_empty(),
            Val::Json(Json::Array(items)) => !items.is_empty(),
            Val::Json(Json::Object(entries)) => !entries.is_empty(),
            Val::Step(step) => step.record().map(|_| true)?,
            Val::Steps | Val::Loop { .. } => return Stop::error(format!("{}: this is not a value", self.quote(expr))),
        })
    }
}

fn member_of<'j>(json: &'j Json, key: &Key<'_>) -> Option<&'j Json> {
    match (json, key) {
        (Json::Object(entries), Key::Name(name)) => entries.get(*name),
        (Json::Object(entries), Key::Index(index)) => entries.get(&index.to_string()),
        (Json::Array(items), Key::Index(index)) => {
            let from_end = || usize::try_from(index.unsigned_abs()).ok().and_then(|back| items.len().checked_sub(back));
            items.get(if *index < 0 { from_end()? } else { usize::try_from(*index).ok()? })
        }
        _ => None,
    }
}

impl std::fmt::Display for Key<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Index(index) => write!(f, "{index}"),
        }
    }
}
