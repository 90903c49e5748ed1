//! Models by the names that plans give them.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::{Model, ModelError, ModelErrorKind};

/// The models of a project: `NAME`, or `WORKFLOW/NAME` when a workflow file defines its own.
#[derive(Clone, Default)]
pub struct Models {
    by_name: BTreeMap<String, Arc<dyn Model>>,
}

impl Models {
    /// Adds a model under the name that plans use; an earlier one of that name gives way.
    pub fn insert(&mut self, name: impl Into<String>, model: Arc<dyn Model>) {
        self.by_name.insert(name.into(), model);
    }

    /// The names, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.by_name.keys().map(String::as_str)
    }

    /// Finds a model.
    ///
    /// # Errors
    /// [`ModelErrorKind::Unavailable`], with the choices that there are: the next of a list of fallbacks may do.
    pub fn get(&self, name: &str) -> Result<&Arc<dyn Model>, ModelError> {
        self.by_name.get(name).ok_or_else(|| ModelError::new(ModelErrorKind::Unavailable, self.missing(name)))
    }

    fn missing(&self, name: &str) -> String {
        let what = match name {
            "local" => "this build has no embedded model, so `local` must be declared".to_owned(),
            name => format!("no model is named `{name}`"),
        };
        let declared = match self.names().collect::<Vec<_>>() {
            names if names.is_empty() => "none is declared".to_owned(),
            names => format!("declared are `{}`", names.join("`, `")),
        };
        let table = name.rsplit_once('/').map_or(name, |(_, own)| own);
        format!(
            "{what}; {declared}. Declare it as [models.{table}] with `base_url` and `model` of any OpenAI-compatible server \
             (such as http://127.0.0.1:11434/v1), or sample from `caller`"
        )
    }
}
