//! `explain-route`: who would answer, or who answered in a run, and why. Nobody is asked.

use antiphon_kernel::{Graph, Source, Step, Verb};
use antiphon_models::{Models, Preferences, SampleRequest};
use antiphon_router::{Choice, Considered, Wish, choose};
use antiphon_workflow::{Consent, Project, Workflow};
use clap::Args;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Which, find, print};
use crate::exit::Exit;
use crate::fault::Fault;
use crate::late::{Environment, Lent};
use crate::owner::verbs::{Choices, Chosen};
use crate::ui::form::printable;

/// Arguments of `explain-route`.
#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// The workflow
    #[arg(required_unless_present = "run")]
    workflow: Option<String>,
    /// A step that samples (`block/step` inside a block), or a server that may ask models
    #[arg(required_unless_present = "run")]
    who: Option<String>,
    /// Tell who answered in this run instead, as it was recorded
    #[arg(long, value_name = "ID", conflicts_with_all = ["workflow", "who"])]
    run: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    which: Which,
}

/// Explains the choice of a model.
pub async fn explain_route(args: ExplainArgs) -> Result<Exit, Fault> {
    if let Some(id) = &args.run {
        return of_run(&args, id).await;
    }
    let (name, who) = (args.workflow.unwrap_or_default(), args.who.unwrap_or_default());
    let place = args.which.place()?;
    let checked = place.load()?;
    let project = &checked.project;
    let Some(workflow) = project.workflows.get(&name) else {
        let known: Vec<&str> = project.workflows.keys().map(String::as_str).collect();
        let help = format!("there are: {}; `antiphon check` tells what is wrong with the others", known.join(", "));
        return Err(Fault::usage(format!("no workflow is named `{name}`"), help));
    };
    let nothing_lent = Lent::default();
    let (models, not_ready) = models(project, &Environment::of(&place.root, &nothing_lent));
    let route = of_step(workflow, &who, &models).or_else(|| of_server(project, workflow, &who, &models));
    let Some((mut choice, terms)) = route else {
        let help = "name a step with `sample`, or a server that the workflow uses";
        return Err(Fault::usage(format!("`{who}` has no route to a model in `{name}`"), help));
    };
    choice.considered.extend(not_ready);
    if args.json {
        print::json(&json!({ "order": choice.order, "considered": choice.considered, "terms": terms }), true)?;
        return Ok(Exit::Ok);
    }
    print::line(&terms)?;
    print_choice(&choice)?;
    if choice.order.is_empty() {
        print::line("nobody can answer")?;
    }
    Ok(Exit::Ok)
}

fn print_choice(choice: &Choice) -> Result<(), Fault> {
    for considered in &choice.considered {
        let place = choice.order.iter().position(|model| *model == considered.model);
        let place = place.map_or_else(|| "-".to_owned(), |place| format!("{}.", place + 1));
        print::line(&format!("{place:>3} {:<20} {}", considered.model, considered.why))?;
    }
    Ok(())
}

/// Who answered what in a run.
async fn of_run(args: &ExplainArgs, id: &str) -> Result<Exit, Fault> {
    let (hub, _) = args.which.look().await?;
    let id = find(&hub, id).await?.id.to_string();
    let choices = hub.ask(Choices { id }).await?;
    if args.json {
        print::json(&json!(choices), true)?;
        return Ok(Exit::Ok);
    }
    for Chosen { op, model, tokens, cost_usd, route } in &choices {
        let model = printable(model.as_deref().unwrap_or("nobody"));
        print::line(&format!("{}: {model} answered, {tokens} tokens, ${cost_usd:.4}", printable(op)))?;
        print_choice(&Choice::deserialize(route).map_err(Fault::internal)?)?;
        for failed in route.get("failed").and_then(Value::as_array).into_iter().flatten() {
            let text = |key: &str| printable(failed.get(key).and_then(Value::as_str).unwrap_or_default());
            print::line(&format!("    `{}` was asked first: {}", text("model"), text("why")))?;
        }
    }
    if choices.is_empty() {
        print::line("no model has answered in this run")?;
    }
    Ok(Exit::Ok)
}

/// The models of the project that could be asked from here, and why others could not.
fn models(project: &Project, environment: &Environment<'_>) -> (Models, Vec<Considered>) {
    let (mut models, mut not_ready) = (Models::default(), Vec::new());
    for (key, def) in &project.models {
        match environment.model(key, def) {
            Ok(model) => models.insert(key.clone(), model),
            Err(fault) => {
                not_ready.push(Considered { model: key.clone(), why: format!("not asked: {}", fault.message()) });
            }
        }
    }
    #[cfg(feature = "local-model")]
    if !project.models.contains_key(crate::local::NAME) {
        match crate::local::model() {
            Ok(model) => models.insert(crate::local::NAME, model),
            Err(fault) => {
                let why = format!("not asked: {}", fault.message());
                not_ready.push(Considered { model: crate::local::NAME.to_owned(), why });
            }
        }
    }
    (models, not_ready)
}

fn of_step(workflow: &Workflow, path: &str, models: &Models) -> Option<(Choice, String)> {
    let body = &workflow.plan.workflows.get(&workflow.plan.root)?.body;
    let Verb::Sample { models: names, caller, request, max_tokens, .. } = &step_at(body, path)?.verb else {
        return None;
    };
    let mut names = names.clone();
    names.extend(caller.then(|| "caller".to_owned()));
    let prefer = match &request.source {
        Source::Map(entries) => entries.get("prefer").and_then(literal),
        Source::Literal(request) => request.get("prefer").cloned(),
        _ => None,
    };
    let mut asked = SampleRequest::text("");
    asked.max_tokens = u32::try_from(*max_tokens).unwrap_or(u32::MAX);
    let (workflows, cost_usd) = (vec![workflow.name.clone()], workflow.plan.limits.cost_usd);
    let wish = Wish { workflows, cost_usd, ..Wish::of_step(&asked, prefer.as_ref()) };
    let terms = format!("step `{path}`: sample = {}, at most {max_tokens} tokens an answer", json!(names));
    Some((choose(models, &names, &wish), terms))
}

fn step_at<'a>(graph: &'a Graph, path: &str) -> Option<&'a Step> {
    let (first, rest) = path.split_once('/').map_or((path, None), |(first, rest)| (first, Some(rest)));
    let step = graph.steps.iter().find(|step| step.id == first)?;
    match (rest, &step.verb) {
        (None, _) => Some(step),
        (Some(rest), Verb::Do { body }) => step_at(body, rest),
        (Some(_), _) => None,
    }
}

/// A value without templates in it.
fn literal(source: &Source) -> Option<Value> {
    match source {
        Source::Literal(value) => Some(value.clone()),
        Source::List(list) => list.iter().map(literal).collect(),
        Source::Map(map) => {
            let fields: Option<serde_json::Map<String, Value>> =
                map.iter().map(|(key, source)| Some((key.clone(), literal(source)?))).collect();
            fields.map(Value::Object)
        }
        _ => None,
    }
}

fn of_server(project: &Project, workflow: &Workflow, name: &str, models: &Models) -> Option<(Choice, String)> {
    let own = format!("{}/{name}", workflow.name);
    let key = [own.as_str(), name].into_iter().find(|key| workflow.servers_used.contains(*key))?;
    let grant = project.servers.get(key)?.sampling.as_ref();
    let Some(grant) = grant.filter(|grant| grant.consent != Consent::Deny) else {
        return Some((Choice::default(), format!("server `{name}`: it may not ask models (`sampling`)")));
    };
    let (workflows, of_run) = (vec![workflow.name.clone()], workflow.plan.limits.cost_usd);
    let cost_usd = grant.cost_usd.into_iter().chain(of_run).reduce(f64::min);
    let wish = Wish { workflows, cost_usd, ..Wish::of(&SampleRequest::text(""), Preferences::default()) };
    let consent = if grant.consent == Consent::Ask { "once a person has agreed, in each run" } else { "unasked" };
    let bounds = [
        grant.tokens.map(|n| format!("{n} tokens")),
        grant.calls.map(|n| format!("{n} samples")),
        grant.cost_usd.map(|cost| format!("{cost} US dollars")),
        grant.duration.map(|duration| format!("{duration:?} of models' work")),
    ];
    let bounds = bounds.into_iter().flatten().collect::<Vec<_>>().join(", ");
    let bounds = if bounds.is_empty() { "the run's limits".to_owned() } else { format!("{bounds} a run") };
    let terms = format!(
        "server `{name}`: sampling = {}, {consent}, within {bounds}; its requests may prefer others",
        json!(grant.models)
    );
    Some((choose(models, &grant.models, &wish), terms))
}
