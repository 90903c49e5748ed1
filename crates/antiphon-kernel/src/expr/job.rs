//! Jobs: what the kernel asks to be evaluated.

use std::collections::BTreeMap;
use std::sync::Arc;

use indexmap::IndexMap;
use serde_json::{Map, Value as Json, json};

use super::eval::Eval;
use super::schema::{validate, with_defaults};
use super::scope::{Names, fetch};
use super::syntax::{self, Kind};
use super::turn;
use super::value::{Budget, Nothing, Stop, copy, json_text, kind};
use super::{Values, time};
use crate::{ErrorKind, Evaluated, Job, Record, Scope, Slot, Source, StepError, ValueRef, Want};

/// Evaluates a job. Results are inline: the driver may move large ones out of line before it records them.
///
/// It never panics and always ends soon: fuel, depth and the size of the result are bounded.
pub fn run(job: &Job, scope: &Scope, values: &dyn Values) -> Evaluated {
    let names = Names::new(scope, values);
    let mut work = Work { names: &names, values, budget: Budget::default() };
    let result = match job {
        Job::Eval { source, want } => work.eval(source, *want),
        Job::Input { source, schema } => work.input(source, schema),
        Job::Outputs { entries, schema } => work.outputs(entries).and_then(|map| conforming(map, schema.as_ref())),
        Job::Gather { entries, schema } => work.gather(entries).and_then(|map| conforming(map, schema.as_ref())),
        Job::Collect { records, items, errors } => work.collect(records, items, errors),
    };
    result.unwrap_or_else(|stop| match stop {
        Stop::Nothing(Nothing { step: Some(step), .. }) => Evaluated::Absent { step },
        Stop::Nothing(Nothing { message, step: None }) | Stop::Error(message) => {
            Evaluated::Error { kind: ErrorKind::Template, message }
        }
    })
}

/// The hashes of all blobs that the job and its scope mention, each once.
pub fn blobs(job: &Job, scope: &Scope) -> Vec<Arc<str>> {
    let slots = scope.vars.values().map(|slot| match slot {
        Slot::Value(value) | Slot::OutputOf(value) | Slot::Item { list: value, .. } => value,
    });
    let facts = scope.steps.values().filter_map(|facts| facts.record.as_ref());
    let own: Vec<&ValueRef> = match job {
        Job::Eval { .. } | Job::Input { .. } | Job::Outputs { .. } => Vec::new(),
        Job::Gather { entries, .. } => entries.iter().map(|(_, record)| record).collect(),
        Job::Collect { records, items, .. } => records.iter().flatten().chain([items]).collect(),
    };
    let mut hashes = Vec::new();
    for value in slots.chain(facts).chain(own) {
        if let ValueRef::Blob { sha256, .. } = value
            && !hashes.contains(sha256)
        {
            hashes.push(Arc::clone(sha256));
        }
    }
    hashes
}

struct Work<'a> {
    names: &'a Names<'a>,
    values: &'a dyn Values,
    budget: Budget,
}

impl Work<'_> {
    fn eval(&mut self, source: &Source, want: Want) -> Result<Evaluated, Stop> {
        let value = self.source(source)?;
        let found = kind(&value);
        Ok(match (want, value) {
            (Want::Value, value) => Evaluated::Value(ValueRef::inline(value)),
            (Want::Bool, value @ Json::Bool(_)) => Evaluated::Value(ValueRef::inline(value)),
            (Want::Bool, _) => {
                return Stop::error(format!(
                    "{}: a condition must be true or false, and this is {found}",
                    name(source)
                ));
            }
            (Want::List, Json::Array(items)) => {
                Evaluated::List { len: items.len(), list: ValueRef::inline(Json::Array(items)) }
            }
            (Want::List, _) => return Stop::error(format!("{}: this must be a list, and is {found}", name(source))),
            (Want::String, value) => Evaluated::Value(ValueRef::inline(json_text(&value))),
            (Want::Time, value) => match value.as_str().and_then(time::parse) {
                Some(moment) => Evaluated::Value(ValueRef::inline(moment)),
                None => {
                    let message = "this must be a time, such as \"2026-07-28T12:00:00Z\", and is";
                    return Stop::error(format!("{}: {message} {found}", name(source)));
                }
            },
            (Want::Record, value) => record(&Record::of(value))?,
        })
    }

    fn input(&mut self, source: &Source, schema: &Json) -> Result<Evaluated, Stop> {
        let value = with_defaults(schema, self.source(source)?);
        validate(schema, &value).map_err(|message| Stop::Error(format!("the input: {message}")))?;
        Ok(Evaluated::Value(ValueRef::inline(value)))
    }

    /// The value of a source.
    fn source(&mut self, source: &Source) -> Result<Json, Stop> {
        match source {
            Source::Literal(value) => Ok(value.clone()),
            Source::Template(text) if !text.contains('{') => Ok(Json::String(text.clone())),
            Source::Template(text) => self.text(text, Kind::Template),
            Source::Expression(text) => self.text(text, Kind::Expression),
            Source::List(items) => {
                items.iter().map(|item| self.source(item)).collect::<Result<_, _>>().map(Json::Array)
            }
            Source::Map(entries) => self.map(entries).map(Json::Object),
            Source::Apply(function, entries) => Ok(turn::apply(*function, self.map(entries)?)),
        }
    }

    fn map(&mut self, entries: &IndexMap<String, Source>) -> Result<Map<String, Json>, Stop> {
        entries.iter().map(|(key, item)| Ok((key.clone(), self.source(item)?))).collect()
    }

    fn text(&mut self, text: &str, kind: Kind) -> Result<Json, Stop> {
        let tree = syntax::parse(text, kind).map_err(|error| Stop::Error(error.message))?;
        let mut eval = Eval::new(text, self.names, &mut self.budget);
        match tree.single() {
            Some(expr) => eval.json(expr),
            None => {
                let mut out = String::new();
                eval.render(tree.statements(), &mut out)?;
                Ok(Json::String(out))
            }
        }
    }

    fn outputs(&mut self, entries: &[(String, Source)]) -> Result<Map<String, Json>, Stop> {
        let mut map = Map::new();
        for (name, source) in entries {
            match self.source(source) {
                Ok(value) => {
                    map.insert(name.clone(), value);
                }
                Err(Stop::Nothing(Nothing { step: Some(_), .. })) => {}
                Err(Stop::Nothing(Nothing { message, .. }) | Stop::Error(message)) => {
                    return Stop::error(format!("output `{name}`: {message}"));
                }
            }
        }
        Ok(map)
    }

    fn gather(&mut self, entries: &[(String, ValueRef)]) -> Result<Map<String, Json>, Stop> {
        entries.iter().map(|(id, record)| Ok((id.clone(), self.output(record)?))).collect()
    }

    fn collect(
        &mut self,
        records: &[Option<ValueRef>],
        items: &ValueRef,
        errors: &BTreeMap<u32, StepError>,
    ) -> Result<Evaluated, Stop> {
        let output: Result<Vec<_>, _> =
            records.iter().map(|record| record.as_ref().map_or(Ok(Json::Null), |record| self.output(record))).collect();
        let items = self.fetched(items)?;
        let error = |(index, error): (&u32, &StepError)| {
            let item = items.get(*index as usize).cloned().unwrap_or_default();
            json!({ "index": index, "item": item, "kind": error.kind.as_str(), "message": error.message })
        };
        record(&Record { errors: errors.iter().map(error).collect(), ..Record::of(output?) })
    }

    fn fetched(&self, value: &ValueRef) -> Result<Arc<Json>, Stop> {
        fetch(value, self.values).ok_or_else(|| Stop::Error("a value has been lost".to_owned()))
    }

    /// The `output` of a record.
    fn output(&mut self, record: &ValueRef) -> Result<Json, Stop> {
        let record = self.fetched(record)?;
        record.get("output").map_or(Ok(Json::Null), |output| copy(output, &mut self.budget))
    }
}

/// The declared output, if it conforms to its schema.
fn conforming(map: Map<String, Json>, schema: Option<&Json>) -> Result<Evaluated, Stop> {
    let output = Json::Object(map);
    if let Some(Err(message)) = schema.map(|schema| validate(schema, &output)) {
        return Ok(Evaluated::Error { kind: ErrorKind::InvalidOutput, message: format!("the output: {message}") });
    }
    record(&Record::of(output))
}

fn record(record: &Record) -> Result<Evaluated, Stop> {
    let value = serde_json::to_value(record).map_err(|error| Stop::Error(error.to_string()))?;
    Ok(Evaluated::Value(ValueRef::inline(value)))
}

/// A source, in a message.
fn name(source: &Source) -> String {
    const SHORT: usize = 80;
    match source {
        Source::Template(text) | Source::Expression(text) if text.chars().count() <= SHORT => {
            format!("`{}`", text.trim())
        }
        _ => "here".to_owned(),
    }
}
