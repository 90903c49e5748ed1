//! A change of a text, as people read it.

use super::secret;

/// How many unchanged lines are shown around it.
const CONTEXT: usize = 2;

/// The lines that differ, between unchanged ones, as in a unified diff. One place is changed here, so this is the whole of it.
/// Values of the host's other servers that look like secrets are not shown.
pub fn diff(before: &str, after: &str) -> String {
    let (old, new): (Vec<&str>, Vec<&str>) = (before.lines().collect(), after.lines().collect());
    let same = old.iter().zip(&new).take_while(|(old, new)| old == new).count();
    let rest = old.len().min(new.len()) - same;
    let tail = old.iter().rev().zip(new.iter().rev()).take(rest).take_while(|(old, new)| old == new).count();
    let (old_end, new_end) = (old.len() - tail, new.len() - tail);
    let from = same.saturating_sub(CONTEXT);
    let around = |lines: &[&str]| lines.iter().map(|line| format!("   {}\n", veiled(line))).collect::<String>();
    let marked =
        |mark: char, lines: &[&str]| lines.iter().map(|line| format!(" {mark} {}\n", veiled(line))).collect::<String>();
    let mut shown = format!(" @@ line {} @@\n", same + 1);
    shown.push_str(&around(&old[from..same]));
    shown.push_str(&marked('-', &old[same..old_end]));
    shown.push_str(&marked('+', &new[same..new_end]));
    shown.push_str(&around(&old[old_end..old.len().min(old_end + CONTEXT)]));
    shown.trim_end().to_owned()
}

/// A line of a host's file without the secrets in it, and without what could drive a terminal.
fn veiled(line: &str) -> String {
    let mut shown = String::with_capacity(line.len());
    let (mut rest, mut key) = (line, String::new());
    // Texts in quotes, with the key that stands before them.
    while let Some((before, quoted, after)) = next_quoted(rest) {
        let is_key = after[1..].trim_start().starts_with(':');
        let secret = !is_key && secret::is_secret(&key, quoted);
        shown.push_str(before);
        shown.push_str(if secret { "…" } else { quoted });
        shown.push_str(&after[..1]);
        key = if is_key { quoted.to_owned() } else { String::new() };
        rest = &after[1..];
    }
    // YAML without quotes.
    match rest.split_once(": ") {
        Some((name, value)) if secret::is_secret(name.trim(), value) => shown.push_str(&format!("{name}: …")),
        None if secret::is_secret(&key, rest.trim_start_matches([' ', '-'])) => shown.push('…'),
        _ => shown.push_str(rest),
    }
    shown.chars().filter(|c| !c.is_control() || *c == '\t').collect()
}

/// What stands before the next text in quotes, with the first of them; the text; and the rest, from the last of them.
fn next_quoted(line: &str) -> Option<(&str, &str, &str)> {
    let open = line.find('"')? + 1;
    let mut escaped = false;
    let close = line[open..].find(|c| {
        let closes = c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        closes
    })?;
    Some((&line[..open], &line[open..open + close], &line[open + close..]))
}

#[cfg(test)]
mod tests {
    use super::diff;

    #[test]
    fn a_change_is_shown_between_its_neighbours_without_their_secrets() {
        let before = "{\n  \"a\": {\n    \"GITHUB_TOKEN\": \"ghp_0123456789abcdef0123456789abcdef0123\"\n  }\n}\n";
        let after =
            "{\n  \"a\": {\n    \"GITHUB_TOKEN\": \"ghp_0123456789abcdef0123456789abcdef0123\"\n  },\n  \"b\": 1\n}\n";
        let shown =
            " @@ line 4 @@\n     \"a\": {\n       \"GITHUB_TOKEN\": \"…\"\n -   }\n +   },\n +   \"b\": 1\n   }";
        assert_eq!(diff(before, after), shown);
        assert_eq!(diff("", "x\n"), " @@ line 1 @@\n + x");
    }

    #[test]
    fn secrets_are_found_wherever_they_stand_in_a_line() {
        for (line, shown) in [
            (
                r#"  "h": { "Authorization": "Bearer abc", "Accept": "x" },"#,
                r#"  "h": { "Authorization": "…", "Accept": "x" },"#,
            ),
            (r#"["--n", "a\"b", "sk-abcdefgh1234"]"#, r#"["--n", "a\"b", "…"]"#),
            ("    API_KEY: abc", "    API_KEY: …"),
            ("    - sk-abcdefgh1234", "…"),
            ("    cmd: npx\u{1b}[2J", "    cmd: npx[2J"),
        ] {
            assert_eq!(super::veiled(line), shown);
        }
    }
}
