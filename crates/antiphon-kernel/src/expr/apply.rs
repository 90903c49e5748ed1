//! Filters, tests and functions, applied.

use minijinja::Value;
use minijinja::machinery::ast::{Call, CallArg, Expr, Filter, Test};
use minijinja::value::Kwargs;

use super::eval::{Eval, Evaluated};
use super::filters;
use super::value::{Nothing, Stop, Val};

impl<'a> Eval<'a> {
    pub(super) fn filter(&mut self, expr: &'a Expr<'a>, filter: &'a Filter<'a>) -> Evaluated<'a> {
        let input = match &filter.expr {
            Some(inner) if matches!(filter.name, "default" | "d") => return self.default(expr, inner, &filter.args),
            Some(inner) => self.own(inner)?,
            None => self.piped.clone().ok_or_else(|| Stop::Error("a filter needs something before it".to_owned()))?,
        };
        let mut args = self.args(input, &filter.args)?;
        let state = self.state.get_or_insert_with(|| filters::environment().empty_state());
        let result = filters::filter(state, filter.name, &mut args, self.budget);
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

    pub(super) fn test(&mut self, expr: &'a Expr<'a>, test: &'a Test<'a>) -> Evaluated<'a> {
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
                let state = self.state.get_or_insert_with(|| filters::environment().empty_state());
                filters::test(state, name, &args, self.budget)
            }
        };
        self.finish(expr, answer.map(Value::from))
    }

    pub(super) fn call(&mut self, expr: &'a Expr<'a>, call: &'a Call<'a>) -> Evaluated<'a> {
        let Expr::Var(function) = &call.expr else {
            return Stop::error(format!("{}: values have no methods", self.quote(expr)));
        };
        let mut args = self.args(Value::from(()), &call.args)?;
        args.remove(0);
        self.finish(expr, filters::call(function.id, &args).map_err(Stop::Error))
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
}
