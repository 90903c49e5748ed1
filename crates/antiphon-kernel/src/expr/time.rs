//! Moments as RFC 3339 writes them.

const MS_PER_SECOND: i64 = 1_000;
const SECONDS_PER_DAY: i64 = 86_400;

/// Milliseconds since the Unix epoch; a moment before it counts as the epoch.
pub(super) fn parse(text: &str) -> Option<u64> {
    let text = text.trim();
    let date = text.get(..10)?;
    let (year, month, day) = (digits(date, 0, 4)?, digits(date, 5, 7)?, digits(date, 8, 10)?);
    let time = text.get(11..19)?;
    let (hour, minute, second) = (digits(time, 0, 2)?, digits(time, 3, 5)?, digits(time, 6, 8)?);
    let marks = [date.get(4..5)?, date.get(7..8)?, time.get(2..3)?, time.get(5..6)?];
    let separated = marks == ["-", "-", ":", ":"] && matches!(text.get(10..11)?, "T" | "t" | " ");
    let leap_second = 60;
    if !separated || hour > 23 || minute > 59 || second > leap_second || !(1..=days_in(year, month)?).contains(&day) {
        return None;
    }
    let (millis, zone) = fraction(text.get(19..)?)?;
    let seconds = days(year, month, day) * SECONDS_PER_DAY + hour * 3_600 + minute * 60 + second - offset(zone)?;
    Some(u64::try_from(seconds * MS_PER_SECOND + millis).unwrap_or(0))
}

fn digits(text: &str, from: usize, to: usize) -> Option<i64> {
    let digits = text.get(from..to)?;
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
}

/// `.123`, if there is one, in milliseconds, and what follows.
fn fraction(text: &str) -> Option<(i64, &str)> {
    let Some(rest) = text.strip_prefix('.') else { return Some((0, text)) };
    let end = rest.find(|c: char| !c.is_ascii_digit())?;
    let millis = format!("{:0<3.3}", &rest[..end]);
    (end > 0).then(|| Some((millis.parse().ok()?, &rest[end..])))?
}

/// `Z` or `+01:00`, in seconds.
fn offset(text: &str) -> Option<i64> {
    if matches!(text, "Z" | "z") {
        return Some(0);
    }
    let sign = match text.get(..1)? {
        "+" => 1,
        "-" => -1,
        _ => return None,
    };
    let (hours, minutes) = (digits(text, 1, 3)?, digits(text, 4, 6)?);
    let fits = text.len() == 6 && text.get(3..4)? == ":" && hours <= 23 && minutes <= 59;
    fits.then_some(sign * (hours * 3_600 + minutes * 60))
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn days_in(year: i64, month: i64) -> Option<i64> {
    match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => Some(31),
        4 | 6 | 9 | 11 => Some(30),
        2 => Some(if is_leap(year) { 29 } else { 28 }),
        _ => None,
    }
}

/// Days since 1970-01-01.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let before = year - 1;
    let leaps = |year: i64| year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    let whole_years = (year - 1970) * 365 + leaps(before) - leaps(1969);
    let whole_months: i64 = (1..month).filter_map(|month| days_in(year, month)).sum();
    whole_years + whole_months + day - 1
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn reads_rfc_3339() {
        for (text, expected) in [
            ("1970-01-01T00:00:00Z", Some(0)),
            ("2026-07-28T12:30:45.5+02:00", Some(1_785_234_645_500)),
            ("2000-02-29 23:59:59.123456Z", Some(951_868_799_123)),
            ("2016-12-31T23:59:60Z", Some(1_483_228_800_000)),
            ("1969-12-31T23:59:59Z", Some(0)),
            ("2025-02-29T00:00:00Z", None),
            ("2025-13-01T00:00:00Z", None),
            ("2025-01-01T24:00:00Z", None),
            ("2025-01-01T00:00:00", None),
            ("2025-01-01", None),
            ("2025-01-01T00:00:00.Z", None),
            ("2025-01-01T00:00:00+2:00", None),
            ("é025-01-01T00:00:00Z", None),
            ("+025-01-01T00:00:00Z", None),
            ("", None),
        ] {
            assert_eq!(parse(text), expected, "{text}");
        }
    }
}
