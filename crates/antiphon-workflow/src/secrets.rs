//! Secrets that somebody wrote into a file after all: which names have them, and how a file is shown without them.

/// Whether a name is one that secrets have: what stands under it must not be written out in a file.
pub fn sounds_secret(name: &str) -> bool {
    let name = name.to_ascii_uppercase().replace('-', "_");
    let ends = ["TOKEN", "SECRET", "PASSWORD", "API_KEY", "APIKEY", "ACCESS_KEY", "PRIVATE_KEY"];
    name == "AUTHORIZATION" || ends.iter().any(|word| name.ends_with(word))
}

/// The text of a file with every `token = "…"` blanked, as long as before. Also works on what is not valid TOML.
pub(crate) fn masked(text: &str) -> String {
    let mut shown = text.as_bytes().to_vec();
    for (equals, _) in text.match_indices('=') {
        let key = text[..equals].trim_end().trim_end_matches(['"', '\'']);
        let key = key.rsplit(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '-').next().unwrap_or_default();
        let after = text[equals + 1..].trim_start_matches([' ', '\t']);
        let Some(quote) = after.chars().next().filter(|quote| ['"', '\''].contains(quote)) else { continue };
        let start = text.len() - after.len() + 1;
        let line = text[start..].lines().next().unwrap_or_default();
        let value = &line[..line.find(quote).unwrap_or(line.len())];
        if sounds_secret(key) && !value.contains("${") {
            shown[start..start + value.len()].fill(b'*');
        }
    }
    // Whole values were replaced, so this is still UTF-8.
    String::from_utf8(shown).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::masked;

    #[test]
    fn values_of_secrets_are_blanked() {
        let text = "api_key = \"sk-1é\"\nheaders = { Authorization = \"Bearer x\", \"X-Api-Key\" = 'y', a = \"b\" }\ntoken = \"${T}\"\nsecret = \"open";
        let shown = "api_key = \"******\"\nheaders = { Authorization = \"********\", \"X-Api-Key\" = '*', a = \"b\" }\ntoken = \"${T}\"\nsecret = \"****";
        assert_eq!(masked(text), shown);
        assert_eq!(masked(text).len(), text.len());
    }
}
