//! Durations, as the files write them.

/// How a duration is written.
pub(crate) const HELP: &str = "write a number and a unit: \"250ms\", \"2s\", \"1m\", \"8h\" or \"1d\"";

/// The longest duration: ten years. Longer ones are typos, and sums of them must not overflow.
const MAX_MS: u64 = 10 * 366 * 24 * 60 * 60 * 1_000;

/// A duration such as `2s`, in milliseconds.
pub(crate) fn parse(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let number: u64 = text[..digits].parse().ok()?;
    let unit = match &text[digits..] {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    number.checked_mul(unit).filter(|ms| *ms <= MAX_MS)
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn durations() {
        assert_eq!(parse("250ms"), Some(250));
        assert_eq!(parse("2s"), Some(2_000));
        assert_eq!(parse("1m"), Some(60_000));
        assert_eq!(parse("8h"), Some(28_800_000));
        assert_eq!(parse("1d"), Some(86_400_000));
        for bad in ["", "s", "2", "2 s", "-2s", "1.5h", "2S", "99999999999d"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
