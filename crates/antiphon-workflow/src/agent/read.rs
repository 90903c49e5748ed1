//! Reading `[agents.NAME]`.

use super::Agent;
use crate::read::{Item, Table};
use crate::template::{Names, Templates};
use crate::verbs;

/// The turns that an agent has, if it does not say.
const MAX_TURNS: u64 = 10;
/// What of a call's result the conversation keeps, if it does not say: some forty thousand letters.
const MAX_RESULT_TOKENS: u64 = 10_000;
/// The most turns that it may have.
const MOST_TURNS: u64 = 1_000;

/// Reads one agent. Its texts are templates that see nothing: an agent is the same for everyone who asks it.
pub(crate) fn read(item: &Item<'_>, table: &Table<'_>) -> Option<Agent> {
    let mut templates = Templates::new(item.cx);
    let names = Names::default();
    let description = table.take("description").and_then(|item| item.string()).map(str::to_owned);
    let instructions = table.require("instructions").and_then(|item| templates.prose(&item, &names));
    let model = table.take("model");
    let route = match &model {
        Some(item) => verbs::route(item),
        None => Some((vec![("local".to_owned(), item.key_place())], false)),
    };
    let prefer = table.take("prefer").map(|item| {
        let models = route.as_ref().map_or(&[][..], |(models, _)| models);
        verbs::prefer(&mut templates, &item, models, &names)
    });
    let list = |key, help: &str| {
        let named = table.take(key).map_or(Some(Vec::new()), |item| item.strings(help));
        Some(named?.into_iter().map(|(name, place)| (name.to_owned(), place)).collect::<Vec<_>>())
    };
    let grants = list("grants", "write `grants = [\"files.read_*\", \"critic\"]`");
    let handoffs = list("handoffs", "write `handoffs = [\"refund\"]`");
    let turns = table.take("max_turns").map_or(Some(MAX_TURNS), |item| item.integer(1..=MOST_TURNS));
    let max_tokens = verbs::max_tokens(table);
    let most = table.take("max_result_tokens");
    let max_result_tokens = most.map_or(Some(MAX_RESULT_TOKENS), |item| item.integer(1..=u32::MAX.into()));
    let temperature = table.take("temperature").map(|item| verbs::temperature(&item));
    let examples = table.take("examples").map(|item| verbs::examples(&mut templates, &item, &names));
    Some(Agent {
        path: item.cx.text.path.clone(),
        description,
        instructions: instructions?,
        prefer: prefer.map_or(Some(None), |prefer| prefer.map(Some))?,
        models: route.as_ref()?.0.clone(),
        caller: route?.1,
        grants: grants?,
        handoffs: handoffs?,
        max_turns: u32::try_from(turns?).ok()?,
        max_tokens: max_tokens?,
        max_result_tokens: max_result_tokens?,
        temperature: temperature.map_or(Some(None), |temperature| temperature.map(Some))?,
        examples: examples.map_or(Some(None), |examples| examples.map(Some))?,
    })
}
