//! What kind of model is wanted, in MCP's own words.

use serde::{Deserialize, Serialize};

use crate::{Model, Traits};

/// MCP's `ModelPreferences`, as servers send them and steps spell `prefer`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Preferences {
    /// Models by name or a part of it, the most wanted first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hints: Vec<Hint>,
    /// How much it matters that the model is cheap, 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost_priority: Option<f64>,
    /// How much it matters that it is fast, 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub speed_priority: Option<f64>,
    /// How much it matters that it is clever, 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub intelligence_priority: Option<f64>,
}

/// MCP's `ModelHint`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Hint {
    /// A model's name or a part of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

impl Preferences {
    /// Nothing in particular.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Which of the hints a model fits, counted from 0: by its name in the project, or its maker's.
    pub fn hint(&self, model: &dyn Model) -> Option<usize> {
        let names = [model.name().to_lowercase(), model.id().to_lowercase()];
        let fits = |hint: &str| !hint.is_empty() && names.iter().any(|name| name.contains(hint));
        self.hints.iter().position(|hint| hint.name.as_ref().is_some_and(|name| fits(&name.to_lowercase())))
    }

    /// How well these traits fit the priorities: more is better, and without priorities all are equal.
    pub fn weigh(&self, traits: &Traits) -> f64 {
        let weight = |priority: Option<f64>| priority.unwrap_or(0.0).clamp(0.0, 1.0);
        weight(self.cost_priority) * (1.0 - traits.cost)
            + weight(self.speed_priority) * traits.speed
            + weight(self.intelligence_priority) * traits.intelligence
    }
}
