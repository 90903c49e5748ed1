//! Long lists, by pages.

use rmcp::ErrorData;

/// So many entries are on a page.
const PAGE: usize = 500;

/// The page of a list that the cursor leads to, and the cursor of the next one. A cursor says how many came before: who is told that
/// the list has changed begins anew.
///
/// # Errors
/// -32602 for a cursor that was not made here.
pub(crate) fn of<T>(mut all: Vec<T>, cursor: Option<&str>) -> Result<(Vec<T>, Option<String>), ErrorData> {
    let before = match cursor {
        None => 0,
        Some(cursor) => cursor.parse().ok().filter(|before| *before <= all.len()).ok_or_else(|| unknown(cursor))?,
    };
    let mut page = all.split_off(before);
    let more = page.len() > PAGE;
    page.truncate(PAGE);
    Ok((page, more.then(|| (before + PAGE).to_string())))
}

/// What is said of a cursor that leads nowhere.
pub(crate) fn unknown(cursor: &str) -> ErrorData {
    ErrorData::invalid_params(format!("the cursor `{cursor}` leads nowhere: begin again without one"), None)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn pages_follow_each_other_and_end() {
        let all: Vec<usize> = (0..1_001).collect();
        let mut seen = Vec::new();
        let mut cursor: Option<String> = None;
        let mut pages = 0;
        loop {
            let (page, next) = of(all.clone(), cursor.as_deref()).unwrap();
            seen.extend(page);
            pages += 1;
            let Some(next) = next else { break };
            cursor = Some(next);
        }
        assert_eq!((seen, pages), (all, 3));
        assert_eq!(of(vec![1; PAGE], None).unwrap().1, None);
        for cursor in ["x", "-1", "1002", ""] {
            assert_eq!(of(vec![1; 1_001], Some(cursor)).unwrap_err().code.0, -32602, "{cursor}");
        }
    }
}
