//! Finding tools by words: BM25 over names, titles, descriptions and the names of arguments. No model, and no index to keep.

use std::collections::{HashMap, HashSet};

use rmcp::model::Tool;

/// How much a word counts where it stands.
const NAME: f64 = 4.0;
const TITLE: f64 = 2.0;
const DESCRIPTION: f64 = 1.0;
const ARGUMENT: f64 = 0.5;

/// BM25's own two, as usual: how soon repetition counts no more, and how much length does.
const K1: f64 = 1.2;
const B: f64 = 0.75;

/// What a word counts that only begins as the wanted one does.
const BEGINS: f64 = 0.5;

/// Words that say nothing of a tool.
const EMPTY: [&str; 28] = [
    "a", "an", "and", "are", "as", "at", "be", "by", "can", "for", "from", "i", "in", "is", "it", "me", "my", "of",
    "on", "or", "that", "the", "this", "to", "tool", "want", "what", "with",
];

/// The tools that fit best, best first; of those that fit alike, in the order that they came in.
pub(super) fn best<'a>(tools: &'a [Tool], query: &str, limit: usize) -> Vec<&'a Tool> {
    let wanted: Vec<String> = {
        let mut seen = HashSet::new();
        words(query).into_iter().filter(|word| seen.insert(word.clone())).collect()
    };
    let exact = query.trim().to_lowercase();
    let entries: Vec<HashMap<String, f64>> = tools.iter().map(weights).collect();
    let length = |entry: &HashMap<String, f64>| entry.values().sum::<f64>();
    let average = entries.iter().map(length).sum::<f64>() / entries.len().max(1) as f64;
    let rarity: Vec<f64> = wanted
        .iter()
        .map(|word| {
            let having = entries.iter().filter(|entry| has(entry, word) > 0.0).count() as f64;
            (1.0 + (entries.len() as f64 - having + 0.5) / (having + 0.5)).ln()
        })
        .collect();
    let score = |tool: &Tool, entry: &HashMap<String, f64>| {
        let norm = K1 * (1.0 - B + B * length(entry) / average.max(1.0));
        let words = wanted.iter().zip(&rarity).map(|(word, rarity)| {
            let weight = has(entry, word);
            rarity * weight * (K1 + 1.0) / (weight + norm)
        });
        let name = tool.name.to_lowercase();
        // Who writes a name, or a part of it that is no word, means it.
        let named = if exact.is_empty() {
            0.0
        } else if name == exact {
            1_000.0
        } else if exact.len() > 2 && name.contains(&exact) {
            1.0
        } else {
            0.0
        };
        words.sum::<f64>() + named
    };
    let scored = tools.iter().zip(&entries).map(|(tool, entry)| (score(tool, entry), tool));
    let mut found: Vec<(f64, &Tool)> = scored.filter(|(score, _)| *score > 0.0).collect();
    found.sort_by(|(one, _), (other, _)| other.total_cmp(one));
    found.into_iter().take(limit).map(|(_, tool)| tool).collect()
}

/// How much each word counts for a tool.
fn weights(tool: &Tool) -> HashMap<String, f64> {
    let mut weights = HashMap::new();
    let mut add = |text: &str, weight: f64| {
        for word in words(text) {
            *weights.entry(word).or_insert(0.0) += weight;
        }
    };
    add(&tool.name, NAME);
    add(tool.title.as_deref().unwrap_or_default(), TITLE);
    add(tool.description.as_deref().unwrap_or_default(), DESCRIPTION);
    let arguments = tool.input_schema.get("properties").and_then(serde_json::Value::as_object);
    for name in arguments.into_iter().flat_map(|arguments| arguments.keys()) {
        add(name, ARGUMENT);
    }
    weights
}

fn has(entry: &HashMap<String, f64>, word: &str) -> f64 {
    if let Some(weight) = entry.get(word) {
        return *weight;
    }
    if word.len() < 3 {
        return 0.0;
    }
    let begins = |(other, weight): (&String, &f64)| {
        let alike = other.starts_with(word) || other.len() > 2 && word.starts_with(other.as_str());
        alike.then_some(weight * BEGINS)
    };
    entry.iter().filter_map(begins).fold(0.0, f64::max)
}

/// The words of a text: split where letters and digits end, and where a capital follows a small letter; singular, small.
fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut small = false;
    for c in text.chars().chain([' ']) {
        if !c.is_alphanumeric() || (small && c.is_uppercase()) {
            words.extend(taken(&mut word));
        }
        if c.is_alphanumeric() {
            word.extend(c.to_lowercase());
        }
        small = c.is_lowercase();
    }
    words
}

fn taken(word: &mut String) -> Option<String> {
    let mut word = std::mem::take(word);
    if word.len() > 3 && word.ends_with("ies") {
        word.truncate(word.len() - 3);
        word.push('y');
    } else if word.len() > 3 && word.ends_with('s') && !word.ends_with("ss") {
        word.pop();
    }
    (!word.is_empty() && !EMPTY.contains(&word.as_str())).then_some(word)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn tools() -> Vec<Tool> {
        let tool = |name: &'static str, about: &'static str, argument: &str| {
            let schema = json!({ "type": "object", "properties": { argument: { "type": "string" } } });
            Tool::new(name, about, schema.as_object().cloned().unwrap_or_default())
        };
        vec![
            tool("files__read_text_file", "Reads a whole file as text", "path"),
            tool("files__write_file", "Creates a file, or writes over one", "path"),
            tool("files__search_files", "Finds files whose names fit a pattern", "pattern"),
            tool("ci__getBuild", "How a build stands", "id"),
            tool("ci__startBuild", "Starts a build of a branch", "ref"),
            tool("chat__post", "Sends a message to a channel", "text"),
        ]
    }

    fn first(query: &str) -> Option<String> {
        best(&tools(), query, 1).first().map(|tool| tool.name.to_string())
    }

    #[test]
    fn what_is_asked_for_comes_first() {
        for (query, expected) in [
            ("read a file", "files__read_text_file"),
            ("write file", "files__write_file"),
            ("start the build", "ci__startBuild"),
            ("messages", "chat__post"),
            ("channels", "chat__post"),
            ("status of a build", "ci__getBuild"),
            ("sear", "files__search_files"),
            ("ci__getBuild", "ci__getBuild"),
            ("__post", "chat__post"),
            ("ref", "ci__startBuild"),
        ] {
            assert_eq!(first(query).as_deref(), Some(expected), "{query}");
        }
    }

    #[test]
    fn nothing_fits_what_nothing_says() {
        for query in ["", "the", "zebra", "???"] {
            assert_eq!(first(query), None, "{query}");
        }
        assert_eq!(best(&tools(), "file", 2).len(), 2);
        assert!(best(&[], "file", 2).is_empty());
    }

    #[test]
    fn words_are_split_and_made_alike() {
        assert_eq!(words("getBuildLogs of repositories__x-2"), ["get", "build", "log", "repository", "x", "2"]);
    }
}
