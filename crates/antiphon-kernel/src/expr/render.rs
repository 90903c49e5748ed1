//! Renders templates: the statements between the expressions.

use minijinja::Value;
use minijinja::machinery::ast::{Expr, ForLoop, Stmt};
use serde_json::Value as Json;

use super::eval::Eval;
use super::value::{MAX_BYTES, MAX_ITEMS, Stop, Val, too_large};

impl<'a> Eval<'a> {
    /// The text of some statements. Names that they define stay defined.
    pub(super) fn render(&mut self, body: &'a [Stmt<'a>], out: &mut String) -> Result<(), Stop> {
        let depth = self.depth;
        self.descend()?;
        for stmt in body {
            self.stmt(stmt, out)?;
            if out.len() > MAX_BYTES {
                return too_large();
            }
        }
        self.depth = depth;
        Ok(())
    }

    fn stmt(&mut self, stmt: &'a Stmt<'a>, out: &mut String) -> Result<(), Stop> {
        match stmt {
            Stmt::EmitRaw(raw) => out.push_str(raw.raw),
            Stmt::EmitExpr(emit) => out.push_str(&self.text(&emit.expr)?),
            Stmt::IfCond(cond) => {
                let body = if self.truth(&cond.expr)? { &cond.true_body } else { &cond.false_body };
                self.render(body, out)?;
            }
            Stmt::ForLoop(each) => self.each(each, out)?,
            Stmt::WithBlock(with) => {
                let mark = self.locals.len();
                for (target, value) in &with.assignments {
                    let value = self.expr(value)?;
                    self.bind(target, value)?;
                }
                self.render(&with.body, out)?;
                self.locals.truncate(mark);
            }
            Stmt::Set(set) => {
                let value = self.expr(&set.expr)?;
                self.bind(&set.target, value)?;
            }
            Stmt::SetBlock(set) => {
                let value = self.capture(&set.body, set.filter.as_ref())?;
                self.bind(&set.target, value)?;
            }
            Stmt::FilterBlock(block) => {
                let value = self.capture(&block.body, Some(&block.filter))?;
                let value = self.value(&block.filter, value)?;
                out.push_str(&super::value::text(&value)?);
            }
            _ => return Stop::error("this statement does not belong to the language"),
        }
        Ok(())
    }

    /// The text of a block, run through a filter if there is one.
    fn capture(&mut self, body: &'a [Stmt<'a>], filter: Option<&'a Expr<'a>>) -> Result<Val<'a>, Stop> {
        let mark = self.locals.len();
        let mut text = String::new();
        self.render(body, &mut text)?;
        self.locals.truncate(mark);
        let text = Value::from(text);
        let Some(filter) = filter else { return Ok(Val::Own(text)) };
        let outer = self.piped.replace(text);
        let value = self.expr(filter)?;
        self.piped = outer;
        Ok(value)
    }

    fn each(&mut self, each: &'a ForLoop<'a>, out: &mut String) -> Result<(), Stop> {
        let mark = self.locals.len();
        let mut items = self.items(&each.iter)?;
        if let Some(condition) = &each.filter_expr {
            let mut kept = Vec::new();
            for item in items {
                self.bind(&each.target, item.clone())?;
                if self.truth(condition)? {
                    kept.push(item);
                }
                self.locals.truncate(mark);
            }
            items = kept;
        }
        if items.is_empty() {
            self.render(&each.else_body, out)?;
            self.locals.truncate(mark);
            return Ok(());
        }
        let length = items.len();
        for (index, item) in items.into_iter().enumerate() {
            self.budget.spend(1)?;
            self.bind(&each.target, item)?;
            self.locals.push(("loop", Val::Loop { index, length }));
            self.render(&each.body, out)?;
            self.locals.truncate(mark);
        }
        Ok(())
    }

    /// What a loop goes over: a list, or a map's keys.
    fn items(&mut self, expr: &'a Expr<'a>) -> Result<Vec<Val<'a>>, Stop> {
        let value = match self.expr(expr)? {
            Val::Json(Json::Array(items)) => return Ok(items.iter().map(Val::Json).collect()),
            value => self.value(expr, value)?,
        };
        if value.as_str().is_some() {
            return Stop::error(format!(
                "{}: a loop can't go over a string; `| lines` makes a list of it",
                self.quote(expr)
            ));
        }
        let items = value.try_iter().map_err(|_| Stop::Error(format!("{}: a loop needs a list", self.quote(expr))))?;
        let items: Vec<_> = items.take(MAX_ITEMS).map(Val::Own).collect();
        self.budget.spend(items.len())?;
        Ok(items)
    }

    /// Defines names.
    fn bind(&mut self, target: &'a Expr<'a>, value: Val<'a>) -> Result<(), Stop> {
        match target {
            Expr::Var(var) => self.locals.push((var.id, self.present(value)?)),
            Expr::List(list) => {
                let values = match value {
                    Val::Json(Json::Array(items)) => items.iter().map(Val::Json).collect(),
                    value => {
                        let value = self.value(target, value)?;
                        let items = value.try_iter().map_err(|_| self.cannot_unpack(target))?;
                        items.take(MAX_ITEMS).map(Val::Own).collect::<Vec<_>>()
                    }
                };
                if values.len() != list.items.len() {
                    return Err(self.cannot_unpack(target));
                }
                for (target, value) in list.items.iter().zip(values) {
                    self.bind(target, value)?;
                }
            }
            _ => return Stop::error("only a plain name can be set"),
        }
        Ok(())
    }

    fn cannot_unpack(&self, target: &Expr<'_>) -> Stop {
        Stop::Error(format!("{}: there are not as many values as names", self.quote(target)))
    }

    /// A value that may be given a name.
    fn present(&self, value: Val<'a>) -> Result<Val<'a>, Stop> {
        if let Val::Step(step) = &value {
            step.record()?;
        }
        Ok(value)
    }
}
