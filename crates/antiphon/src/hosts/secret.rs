//! What looks like a secret in a host's file. When in doubt it is one: then it stays out of files and off the screen.

use antiphon_workflow::sounds_secret;

/// Last words of names that have secrets. `antiphon check` insists on fewer: those nobody writes out.
const WORDS: [&str; 15] = [
    "AUTH",
    "AUTHORIZATION",
    "BEARER",
    "COOKIE",
    "CREDENTIAL",
    "CREDENTIALS",
    "DSN",
    "JWT",
    "KEY",
    "PASS",
    "PASSWD",
    "PAT",
    "PWD",
    "SIGNATURE",
    "WEBHOOK",
];

/// How well-known tokens begin.
const PREFIXES: [&str; 26] = [
    "sk-",
    "sk_",
    "rk_",
    "ghp_",
    "gho_",
    "ghu_",
    "ghs_",
    "ghr_",
    "github_pat_",
    "glpat-",
    "xoxb-",
    "xoxp-",
    "xapp-",
    "AKIA",
    "ASIA",
    "AIza",
    "ya29.",
    "eyJ",
    "npm_",
    "pypi-",
    "hf_",
    "lin_api_",
    "ntn_",
    "tvly-",
    "figd_",
    "shpat_",
];

/// Letters and digits in one run from which on it looks drawn at random.
const RANDOM: usize = 20;

/// Whether what stands under this name looks like a secret. References to variables are none.
pub fn is_secret(name: &str, value: &str) -> bool {
    let value = value.trim();
    if value.is_empty() || value.starts_with("${") && value.ends_with('}') && value.matches("${").count() == 1 {
        return false;
    }
    sounds_secret(name) || (is_named(name) && !is_harmless(value)) || looks_secret(value)
}

/// `API-Key`, `apiKey`, `API_KEY`, `--api-key`: is the last word one of those that secrets have?
fn is_named(name: &str) -> bool {
    let mut words = String::with_capacity(name.len() + 4);
    let mut lower = false;
    for c in name.chars() {
        if lower && c.is_ascii_uppercase() {
            words.push('_');
        }
        lower = c.is_ascii_lowercase();
        words.push(if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' });
    }
    let last = words.trim_end_matches('_').rsplit('_').next().unwrap_or_default();
    sounds_secret(words.trim_end_matches('_'))
        || WORDS.contains(&last)
        || words.contains("SECRET")
        || words.contains("PASSWORD")
}

/// A switch, a small number, a path: nothing that anybody keeps to himself.
fn is_harmless(value: &str) -> bool {
    ["true", "false"].contains(&value) || value.len() <= 6 && value.parse::<u32>().is_ok() || is_path(value)
}

fn is_path(value: &str) -> bool {
    ["/", "./", "../", "~/", "$HOME", "${"].iter().any(|start| value.starts_with(start))
}

fn looks_secret(value: &str) -> bool {
    let scheme = value.split_once(' ').map(|(scheme, _)| scheme.to_ascii_lowercase());
    if scheme.is_some_and(|scheme| scheme == "bearer" || scheme == "basic") {
        return true;
    }
    let token = value.rsplit(' ').next().unwrap_or(value);
    if PREFIXES.iter().any(|prefix| token.starts_with(prefix) && token.len() >= prefix.len() + 8) {
        return true;
    }
    if let Some((_, rest)) = value.split_once("://") {
        return url_has_secret(rest);
    }
    !is_path(value) && has_random_run(value)
}

/// A password, a parameter that is called like a secret, or a part that looks drawn at random.
fn url_has_secret(rest: &str) -> bool {
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let password = authority.rsplit_once('@').is_some_and(|(user, _)| user.contains(':') && !user.contains("${"));
    let query = rest.split_once('?').map_or("", |(_, query)| query);
    let parameter =
        |pair: &str| pair.split_once('=').is_some_and(|(name, value)| is_named(name) && !value.starts_with("${"));
    password || query.split('&').any(parameter) || has_random_run(&rest[authority.len()..])
}

/// Letters and digits, mixed, too many for a word. A digest (`@sha256:…`) or a commit (`@…`) is public.
fn has_random_run(value: &str) -> bool {
    let mut from = 0;
    value.split(|c: char| !c.is_ascii_alphanumeric()).any(|run| {
        let before = &value[..from];
        from += run.len() + 1;
        let public = before.ends_with('@') || ["sha256:", "sha512:"].iter().any(|digest| before.ends_with(digest));
        run.len() >= RANDOM
            && !public
            && run.contains(|c: char| c.is_ascii_digit())
            && run.contains(|c: char| c.is_ascii_alphabetic())
    })
}

#[cfg(test)]
mod tests {
    use super::is_secret;

    #[test]
    fn secrets_are_told_from_settings() {
        for (name, value) in [
            ("GITHUB_PERSONAL_ACCESS_TOKEN", "x"),
            ("DB_PASS", "hunter2"),
            ("apiKey", "abc"),
            ("--api-key", "abc"),
            ("X-Api-Key", "abc"),
            ("Authorization", "Bearer abc"),
            ("", "sk-abcdefgh1234"),
            ("HEADER", "Bearer abc"),
            ("DATABASE", "postgres://me:secret@db/x"),
            ("", "https://mcp.example.com/mcp/?tavilyApiKey=abc"),
            ("", "https://hooks.example.com/s/N2E5YzQyZjYtZGE4Ny00/mcp"),
            ("ACCOUNT", "9f86d081884c7d659a2feaa0c55ad015"),
        ] {
            assert!(is_secret(name, value), "{name}={value}");
        }
        for (name, value) in [
            ("LOG_LEVEL", "debug"),
            ("MAX_TOKENS", "4096"),
            ("USE_AUTH", "false"),
            ("GOOGLE_APPLICATION_CREDENTIALS", "/home/me/key.json"),
            ("", "@modelcontextprotocol/server-sequential-thinking"),
            ("", "mcp/fetch@sha256:9f86d081884c7d659a2feaa0c55ad0159f86d081884c7d659a2feaa0c55ad015"),
            ("", "git+https://github.com/a/b@9f86d081884c7d659a2feaa0c55ad0159f86d081"),
            ("", "postgresql://localhost/mydb"),
            ("", "https://mcp.example.com/v1/mcp"),
            ("PATH_TO", "/nix/store/0c5b7m5p1hqy1zq3vlyp3j2h9w6cxxdk-x/bin/y"),
            ("ANY_TOKEN", ""),
            ("ANY_TOKEN", "${ANY_TOKEN}"),
        ] {
            assert!(!is_secret(name, value), "{name}={value}");
        }
    }
}
