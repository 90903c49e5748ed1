//! Finding out whose answer a broken message was.

/// The id of the response in `head` (the start of a message, or all of it) or `tail` (its end, or nothing).
///
/// `None` if it has none, if it can't be told, or if the message is a request or notification of the server's own.
pub(crate) fn response_id(head: &[u8], tail: &[u8]) -> Option<i64> {
    match scan(head) {
        Scan::Id(id) => Some(id),
        Scan::NotAResponse => None,
        Scan::Unknown => trailing_id(tail),
    }
}

enum Scan {
    Id(i64),
    NotAResponse,
    Unknown,
}

/// Looks through the members of the outermost object, as far as the text goes and can be understood.
fn scan(text: &[u8]) -> Scan {
    let mut depth = 0_usize;
    let mut at = 0;
    let mut id = None;
    // The key whose value comes next, at the outermost level.
    let mut key: Option<&[u8]> = None;
    while at < text.len() {
        match text[at] {
            b'"' => {
                let Some(end) = string_end(text, at) else { break };
                let inner = &text[at + 1..end];
                match key {
                    None if depth == 1 => key = Some(inner),
                    Some(b"id") if depth == 1 => id = number(inner),
                    _ => {}
                }
                at = end;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            b',' if depth == 1 => key = None,
            b':' if depth == 1 && key == Some(b"method") => return Scan::NotAResponse,
            b'0'..=b'9' if depth == 1 && key == Some(b"id") => {
                let digits = text[at..].iter().take_while(|c| c.is_ascii_digit()).count();
                // A number at the very end of what is kept may be cut off.
                if at + digits < text.len() {
                    id = number(&text[at..at + digits]);
                }
                at += digits - 1;
            }
            _ => {}
        }
        at += 1;
    }
    id.map_or(Scan::Unknown, Scan::Id)
}

/// Some servers write the id last: `…,"id":7}`.
fn trailing_id(text: &[u8]) -> Option<i64> {
    let text = text.trim_ascii_end().strip_suffix(b"}")?.trim_ascii_end();
    let text = text.strip_suffix(b"\"").unwrap_or(text);
    let digits = text.iter().rev().take_while(|c| c.is_ascii_digit()).count();
    let (before, id) = text.split_at(text.len() - digits);
    let before = before.strip_suffix(b"\"").unwrap_or(before).trim_ascii_end();
    before
        .strip_suffix(b":")?
        .trim_ascii_end()
        .strip_suffix(b",\"id\"".as_slice())
        .or_else(|| before.strip_suffix(b":")?.trim_ascii_end().strip_suffix(b", \"id\"".as_slice()))?;
    number(id)
}

/// Where the string that starts at `at` ends.
fn string_end(text: &[u8], at: usize) -> Option<usize> {
    let mut at = at + 1;
    loop {
        match text.get(at)? {
            b'"' => return Some(at),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

fn number(digits: &[u8]) -> Option<i64> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(text: &str) -> Option<i64> {
        response_id(text.as_bytes(), text.as_bytes())
    }

    #[test]
    fn ids_of_broken_answers() {
        for (text, id) in [
            (r#"{"jsonrpc":"2.0","id":7,"result":{"content":[{"type":"te"#, Some(7)),
            (r#"{"jsonrpc":"2.0", "id": "7", "result": oops}"#, Some(7)),
            (r#"{"result":{"id":3,"x":"\"id\":4"},"id":7}"#, Some(7)),
            (r#"{"result":{"text":"cut of"#, None),
            (r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"x":1}"#, None),
            (r#"{"id":9,"method":"ping"#, None),
            (r#"{"id":9,"method":"ping","params":{]"#, None),
            (r#"{"jsonrpc":"2.0","id":12"#, None),
            ("just some log line", None),
            (r#"{"level":"info","msg":"listening"}"#, None),
        ] {
            assert_eq!(whole(text), id, "{text}");
        }
    }

    #[test]
    fn an_id_at_the_end_of_a_long_line() {
        let head = br#"{"jsonrpc":"2.0","result":{"content":[{"type":"text","text":"xxxxxxxx"#;
        assert_eq!(response_id(head, br#"xxxx"}]},"id":41}"#), Some(41));
        assert_eq!(response_id(head, br#"xxxx"}]}, "id": "41" }"#), Some(41));
        assert_eq!(response_id(head, br#"xxxx","id":41}]}}"#), None);
    }
}
