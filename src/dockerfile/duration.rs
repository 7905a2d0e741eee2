//! Durations as Go writes them: `1h30m`, `1.5s`, `300ms`.

const UNITS: [(&str, f64); 8] = [
    ("ns", 1.0),
    ("us", 1e3),
    ("\u{b5}s", 1e3),
    ("\u{3bc}s", 1e3),
    ("ms", 1e6),
    ("s", 1e9),
    ("m", 6e10),
    ("h", 3.6e12),
];

/// The duration `text` stands for, in nanoseconds; `None` if it is no duration or too long.
pub fn parse_duration(text: &str) -> Option<i64> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total: i64 = 0;
    while !rest.is_empty() {
        let (nanoseconds, after) = parse_term(rest)?;
        total = total.checked_add(nanoseconds)?;
        rest = after;
    }
    Some(if negative { -total } else { total })
}

/// One number with its unit, and what follows it.
fn parse_term(text: &str) -> Option<(i64, &str)> {
    let digits = text
        .find(|letter: char| !letter.is_ascii_digit() && letter != '.')
        .unwrap_or(text.len());
    let (number, rest) = text.split_at(digits);
    let length = rest
        .find(|letter: char| letter.is_ascii_digit() || letter == '.')
        .unwrap_or(rest.len());
    let (name, rest) = rest.split_at(length);
    let (_, unit) = UNITS.iter().find(|(unit, _)| *unit == name)?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return None;
    }
    #[expect(clippy::cast_possible_truncation, reason = "units are whole numbers")]
    let unit_ns = *unit as i64;
    let whole: i64 = if whole.is_empty() {
        0
    } else {
        whole.parse().ok()?
    };
    let part = if fraction.is_empty() {
        0.0
    } else {
        format!("0.{fraction}").parse::<f64>().ok()? * unit
    };
    #[expect(
        clippy::cast_possible_truncation,
        reason = "less than one unit, an hour at most"
    )]
    let part = part as i64;
    Some((whole.checked_mul(unit_ns)?.checked_add(part)?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s10_go_durations() {
        for (text, expected) in [
            ("0", Some(0)),
            ("30s", Some(30_000_000_000)),
            ("1h30m", Some(5_400_000_000_000)),
            ("1.5s", Some(1_500_000_000)),
            (".5s", Some(500_000_000)),
            ("1.s", Some(1_000_000_000)),
            ("-2ms", Some(-2_000_000)),
            ("5us", Some(5_000)),
            ("5", None),
            ("s", None),
            ("", None),
            ("-", None),
            ("1d", None),
            ("1..5s", None),
            (".s", None),
            ("99999999999999h", None),
        ] {
            assert_eq!(parse_duration(text), expected, "{text}");
        }
    }
}
