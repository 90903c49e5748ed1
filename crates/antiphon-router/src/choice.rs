//! Which models are asked, in which order, and why.

use antiphon_models::{Models, Preferences, Price, SampleRequest, Shape, Traits, Usage, prompt};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::policy::CALLER;

/// How it begins why a model is left out for want of money.
const TOO_DEAR: &str = "too dear for what is left of the budget:";

/// Stands for all models, in the order that the request prefers.
const AUTO: &str = "auto";

/// What a request wants of whoever answers it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Wish {
    /// What the model should be like.
    pub preferences: Preferences,
    /// It must not leave this machine.
    pub local_only: bool,
    /// The workflows on the way to it: what their files define is theirs to choose from, beside what the project does.
    pub workflows: Vec<String>,
    /// It comes with tools.
    pub tools: bool,
    /// How many tokens the prompt has, about.
    pub prompt: u64,
    /// How many the answer may have.
    pub answer: u64,
    /// An answer that does not fit is asked for again: the second time the first is part of the prompt.
    pub mended: bool,
    /// What it may cost, in US dollars, if that is limited.
    pub cost_usd: Option<f64>,
    /// Whoever called can't be asked.
    pub no_caller: bool,
}

/// Who is asked, and why.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Choice {
    /// In the order in which they are asked; `caller` is whoever called us.
    pub order: Vec<String>,
    /// All that could have been asked.
    pub considered: Vec<Considered>,
}

/// A model that could have been asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Considered {
    /// Its name in the project.
    pub model: String,
    /// Why it stands where it does, or is not asked.
    pub why: String,
}

impl Wish {
    /// Of a request with these preferences.
    pub fn of(request: &SampleRequest, preferences: Preferences) -> Self {
        let callable = request.callable();
        let prompt = Usage::guess(&prompt::messages(request), "").prompt_tokens;
        let specs = callable.iter().map(|tool| tool.name.len() + tool.input_schema.to_string().len());
        let prompt = prompt + specs.sum::<usize>() as u64 / 4;
        let (tools, answer) = (!callable.is_empty(), request.max_tokens.into());
        let mended = tools || !matches!(request.shape, Shape::Text);
        Self { preferences, tools, prompt, answer, mended, ..Self::default() }
    }

    /// Of a step's request, whose `prefer` speaks MCP's words, and whose hints are plain texts.
    pub fn of_step(request: &SampleRequest, prefer: Option<&Value>) -> Self {
        let mut words = prefer.cloned().unwrap_or_default();
        for hint in words.get_mut("hints").and_then(Value::as_array_mut).into_iter().flatten() {
            if hint.is_string() {
                *hint = json!({ "name": hint.take() });
            }
        }
        let local_only = words.get("local_only").and_then(Value::as_bool).unwrap_or(false);
        Self { local_only, ..Self::of(request, serde_json::from_value(words).unwrap_or_default()) }
    }

    /// Why a model can't answer this.
    fn unfit(&self, traits: Traits) -> Option<String> {
        match traits.context {
            _ if self.tools && !traits.tools => Some("it can't be given tools".to_owned()),
            _ if self.local_only && !traits.local => Some("it is not on this machine".to_owned()),
            Some(context) if context < self.prompt + self.answer => {
                let needed = self.prompt + self.answer;
                Some(format!("its context of {context} tokens is too short for about {needed}"))
            }
            _ => self.too_dear(traits.price),
        }
    }

    /// Whether the answer may cost more than is left.
    fn too_dear(&self, price: Option<Price>) -> Option<String> {
        let (price, left) = (price?, self.cost_usd?);
        let (read, written) = match self.mended {
            true => (2 * self.prompt + self.answer, 2 * self.answer),
            false => (self.prompt, self.answer),
        };
        let cost = price.of(Usage { prompt_tokens: read, completion_tokens: written, estimated: true, waited_ms: 0 });
        (cost > left).then(|| format!("{TOO_DEAR} it may cost {cost:.4} US dollars, and {left:.4} are left"))
    }
}

/// The models that these names mean.
pub(crate) fn named(models: &Models, names: &[String]) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for name in names {
        let meant: Vec<&str> = match name.as_str() {
            AUTO => models.names().collect(),
            CALLER => Vec::new(),
            name => models.get(name).is_ok().then_some(name).into_iter().collect(),
        };
        for name in meant {
            if !all.iter().any(|known| known == name) {
                all.push(name.to_owned());
            }
        }
    }
    all
}

/// Chooses among what a list of names means: its order counts; `auto` is all models, the best for the wish first. Whoever can't
/// answer is left out, and models that were not there when last asked come last.
pub fn choose(models: &Models, names: &[String], wish: &Wish) -> Choice {
    let mut choice = Choice::default();
    for name in names {
        match name.as_str() {
            AUTO => {
                for (name, why) in ranked(models, wish) {
                    choice.add(models, wish, &name, why);
                }
            }
            CALLER if wish.no_caller => choice.leave_out(CALLER, "whoever called can't sample".to_owned()),
            CALLER if !wish.local_only => {
                choice.order.push(CALLER.to_owned());
                choice.considered.push(Considered { model: CALLER.to_owned(), why: "whoever called us".to_owned() });
            }
            CALLER => choice.leave_out(CALLER, "it is not on this machine".to_owned()),
            name => choice.add(models, wish, name, "named".to_owned()),
        }
    }
    let ill = |name: &String| models.get(name).is_ok_and(|model| !model.healthy());
    let (ill, well): (Vec<String>, Vec<String>) = choice.order.into_iter().partition(ill);
    for considered in choice.considered.iter_mut().filter(|considered| ill.contains(&considered.model)) {
        considered.why.push_str("; comes last, since it was not there when last asked");
    }
    choice.order = well.into_iter().chain(ill).collect();
    choice
}

impl Choice {
    fn add(&mut self, models: &Models, wish: &Wish, name: &str, why: String) {
        if self.considered.iter().any(|considered| considered.model == name) {
            return;
        }
        // One that is not there is asked too: the answer says what is missing.
        match models.get(name).ok().and_then(|model| wish.unfit(model.traits())) {
            Some(unfit) => self.leave_out(name, unfit),
            None => {
                self.order.push(name.to_owned());
                self.considered.push(Considered { model: name.to_owned(), why });
            }
        }
    }

    /// Somebody could have answered if there were more money.
    pub(crate) fn lacks_money(&self) -> bool {
        self.considered.iter().any(|considered| considered.why.contains(TOO_DEAR))
    }

    fn leave_out(&mut self, name: &str, why: String) {
        self.considered.push(Considered { model: name.to_owned(), why: format!("not asked: {why}") });
    }
}

/// All models that may be chosen, the best first: by the first hint that they fit, then by what they are.
fn ranked(models: &Models, wish: &Wish) -> Vec<(String, String)> {
    let ours = |name: &&str| {
        let file = name.rsplit_once('/').map(|(file, _)| file);
        file.is_none_or(|file| wish.workflows.iter().any(|workflow| workflow == file))
    };
    let mut all: Vec<(usize, f64, &str)> = models
        .names()
        .filter(ours)
        .filter_map(|name| {
            let model = models.get(name).ok()?;
            let hint = wish.preferences.hint(&**model).unwrap_or(usize::MAX);
            Some((hint, wish.preferences.weigh(&model.traits()), name))
        })
        .collect();
    all.sort_by(|a, b| a.0.cmp(&b.0).then(b.1.total_cmp(&a.1)).then(a.2.cmp(b.2)));
    let said = |(hint, score, name): (usize, f64, &str)| {
        let hint = wish.preferences.hints.get(hint).and_then(|hint| hint.name.as_deref());
        let why = match hint {
            Some(hint) => format!("fits the hint `{hint}`; scores {score:.2}"),
            None => format!("scores {score:.2}"),
        };
        (name.to_owned(), why)
    };
    all.into_iter().map(said).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use antiphon_models::{Model, ModelError, SampleAnswer, SampleContext};
    use async_trait::async_trait;
    use serde_json::json;

    use super::*;

    struct Fake {
        id: &'static str,
        traits: Traits,
        healthy: bool,
    }

    #[async_trait]
    impl Model for Fake {
        fn name(&self) -> &str {
            self.id
        }
        async fn sample(&self, _: &SampleRequest, _: &SampleContext) -> Result<SampleAnswer, ModelError> {
            Ok(SampleAnswer::default())
        }
        fn traits(&self) -> Traits {
            self.traits
        }
        fn healthy(&self) -> bool {
            self.healthy
        }
    }

    fn models() -> Models {
        let mut models = Models::default();
        let mut add = |name: &str, id, cost, intelligence, local| {
            let traits = Traits { cost, speed: 1.0 - cost, intelligence, local, ..Traits::default() };
            models.insert(name, Arc::new(Fake { id, traits, healthy: name != "gone" }));
        };
        add("small", "qwen2.5-1.5b", 0.1, 0.2, true);
        add("big", "qwen3-235b", 0.9, 0.9, false);
        add("gone", "llama-4", 0.0, 1.0, false);
        models
    }

    fn order(names: &[&str], preferences: Value, wish: impl FnOnce(&mut Wish)) -> Vec<String> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut wanted = Wish::of_step(&SampleRequest::text("Hi"), Some(&preferences));
        wish(&mut wanted);
        choose(&models(), &names, &wanted).order
    }

    #[test]
    fn what_is_named_is_asked_in_that_order() {
        assert_eq!(order(&["big", "small", "caller"], json!({}), |_| {}), ["big", "small", "caller"]);
        assert_eq!(order(&["gone", "small"], json!({}), |_| {}), ["small", "gone"], "who was not there comes last");
    }

    #[test]
    fn hints_decide_in_their_order_then_what_the_models_are() {
        let hints = json!({ "hints": [{ "name": "nobody" }, { "name": "QWEN3" }, { "name": "1.5b" }] });
        assert_eq!(order(&["auto"], hints, |_| {}), ["big", "small", "gone"]);
        let both = json!({ "hints": ["qwen"], "costPriority": 1.0 });
        assert_eq!(order(&["auto"], both, |_| {}), ["small", "big", "gone"]);
        assert_eq!(order(&["auto"], json!({ "intelligencePriority": 1.0 }), |_| {}), ["big", "small", "gone"]);
        assert_eq!(order(&["auto"], json!({ "costPriority": 1.0 }), |_| {}), ["small", "big", "gone"]);
    }

    #[test]
    fn who_cannot_answer_is_left_out_and_it_is_said_why() {
        assert_eq!(order(&["auto", "caller"], json!({ "local_only": true }), |_| {}), ["small"]);
        let mut models = models();
        let traits = Traits { context: Some(100), tools: false, ..Traits::default() };
        models.insert("narrow", Arc::new(Fake { id: "narrow", traits, healthy: true }));
        let wish = Wish { prompt: 400, answer: 100, ..Wish::default() };
        let choice = choose(&models, &["narrow".to_owned(), "missing".to_owned()], &wish);
        assert_eq!(choice.order, ["missing"], "that it is missing is said when it is asked");
        assert!(choice.considered[0].why.contains("context of 100 tokens"), "{choice:?}");
        let wish = Wish { tools: true, ..Wish::default() };
        assert!(choose(&models, &["narrow".to_owned()], &wish).considered[0].why.contains("tools"));
    }

    #[test]
    fn who_costs_more_than_is_left_is_not_asked() {
        let mut models = models();
        for (name, dollars) in [("dear", 10.0), ("cheap", 1.0)] {
            let traits = Traits { price: Some(Price { input: 0.0, output: dollars }), ..Traits::default() };
            models.insert(name, Arc::new(Fake { id: name, traits, healthy: true }));
        }
        let names: Vec<String> = ["dear", "cheap", "small"].map(str::to_owned).into();
        // A thousand tokens of an answer are a cent, a tenth of one, and nothing.
        for (left, order) in [
            (None, vec!["dear", "cheap", "small"]),
            (Some(0.01), vec!["dear", "cheap", "small"]),
            (Some(0.002), vec!["cheap", "small"]),
            (Some(0.0), vec!["small"]),
        ] {
            let choice = choose(&models, &names, &Wish { answer: 1_000, cost_usd: left, ..Wish::default() });
            assert_eq!(choice.order, order, "{choice:?}");
            assert_eq!(choice.lacks_money(), order.len() < 3);
        }
    }

    #[test]
    fn whoever_called_is_asked_if_they_can_sample() {
        assert_eq!(order(&["caller", "big"], json!({}), |wish| wish.no_caller = true), ["big"]);
        let wish = Wish { no_caller: true, ..Wish::default() };
        let choice = choose(&models(), &["caller".to_owned()], &wish);
        assert_eq!(choice.considered[0].why, "not asked: whoever called can't sample");
    }

    #[test]
    fn what_a_file_defines_is_for_its_own_workflow_to_choose() {
        let mut models = Models::default();
        for name in ["flow/own", "other/own", "shared"] {
            models.insert(name, Arc::new(Fake { id: "m", traits: Traits::default(), healthy: true }));
        }
        let wish = Wish { workflows: vec!["flow".to_owned()], ..Wish::default() };
        assert_eq!(choose(&models, &["auto".to_owned()], &wish).order, ["flow/own", "shared"]);
    }
}
