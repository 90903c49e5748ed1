//! The cases: files beside this one, a category each, in which suites of cases share what is asked for.

use std::collections::BTreeMap;
use std::fmt;

use antiphon_models::SampleRequest;
use serde::Deserialize;
use serde_json::{Value, json};

/// What is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Category {
    Routing,
    Extraction,
    Tools,
    Summary,
}

impl Category {
    pub const ALL: [Self; 4] = [Self::Routing, Self::Extraction, Self::Tools, Self::Summary];

    fn file(self) -> &'static str {
        match self {
            Self::Routing => include_str!("cases/routing.toml"),
            Self::Extraction => include_str!("cases/extraction.toml"),
            Self::Tools => include_str!("cases/tools.toml"),
            Self::Summary => include_str!("cases/summary.toml"),
        }
    }
}

impl fmt::Display for Category {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Routing => "routing",
            Self::Extraction => "extraction",
            Self::Tools => "tools",
            Self::Summary => "summary",
        })
    }
}

/// One question, and what is right.
pub struct Case {
    pub category: Category,
    pub request: SampleRequest,
    pub truth: Truth,
}

impl Case {
    pub fn prompt(&self) -> &str {
        &self.request.messages[0].text
    }
}

/// What is right; each file says at its top what its keys mean.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Truth {
    prompt: String,
    #[serde(default)]
    pub right: Value,
    #[serde(default)]
    pub also: BTreeMap<String, Vec<Value>>,
    #[serde(default)]
    pub says: Vec<Vec<String>>,
    #[serde(default)]
    pub never: Vec<String>,
    #[serde(default)]
    pub words: usize,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    suite: Vec<Suite>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Suite {
    /// For whoever reads the file.
    #[serde(rename = "name")]
    _name: String,
    /// As a `sample` step spells it, without the prompt.
    request: Value,
    case: Vec<Truth>,
}

/// All of them.
pub fn load() -> Vec<Case> {
    let suites = Category::ALL.into_iter().flat_map(|category| {
        let File { suite } = toml::from_str(category.file()).unwrap();
        suite.into_iter().map(move |suite| (category, suite))
    });
    let cases = suites.flat_map(|(category, suite)| {
        let asked = asked(suite.request);
        suite.case.into_iter().map(move |truth| {
            let mut request = asked.clone();
            request["prompt"] = truth.prompt.clone().into();
            Case { category, request: SampleRequest::parse(&request).unwrap(), truth }
        })
    });
    cases.collect()
}

/// A request at temperature 0, its schema written out.
fn asked(mut request: Value) -> Value {
    request["temperature"] = json!(0);
    if let Some(properties) = request.get("schema").cloned() {
        let names: Vec<&String> = properties.as_object().unwrap().keys().collect();
        let object = json!({ "type": "object", "required": names, "additionalProperties": false });
        request["schema"] = object;
        request["schema"]["properties"] = properties;
    }
    request
}
