//! Numbers in headers: octal digits or, with the highest bit set, two's complement.

/// The number in a header field, blanks and NULs around it ignored, an empty field zero.
///
/// # Errors
/// What the field holds instead.
pub(super) fn field(bytes: &[u8]) -> Result<i64, String> {
    match bytes.first() {
        Some(first) if first & 0x80 != 0 => binary(bytes),
        _ => octal(bytes),
    }
}

/// GNU's extension: big-endian two's complement whose sign is the second highest bit.
fn binary(bytes: &[u8]) -> Result<i64, String> {
    let is_negative = bytes[0] & 0x40 != 0;
    let mut value: i64 = if is_negative { -1 } else { 0 };
    for (index, byte) in bytes.iter().enumerate() {
        // The mark in the first byte is no part of the number: it reads as its sign.
        let byte = match (index, is_negative) {
            (0, false) => byte & 0x7f,
            _ => *byte,
        };
        value = value
            .checked_mul(256)
            .and_then(|high| high.checked_add(i64::from(byte)))
            .ok_or_else(|| "a number of more than 64 bits".to_owned())?;
    }
    Ok(value)
}

fn octal(bytes: &[u8]) -> Result<i64, String> {
    let is_blank = |byte: &u8| matches!(byte, b' ' | 0);
    let start = bytes
        .iter()
        .position(|byte| !is_blank(byte))
        .unwrap_or(bytes.len());
    let bytes = &bytes[start..];
    let end = bytes.iter().position(is_blank).unwrap_or(bytes.len());
    let (digits, rest) = bytes.split_at(end);
    let text = String::from_utf8_lossy(bytes);
    if !rest.iter().all(is_blank) || !digits.iter().all(|digit| (b'0'..=b'7').contains(digit)) {
        return Err(format!("{text:?}, which is no octal number"));
    }
    digits
        .iter()
        .try_fold(0_i64, |value, digit| {
            value.checked_mul(8)?.checked_add(i64::from(digit - b'0'))
        })
        .ok_or_else(|| "a number of more than 64 bits".to_owned())
}

/// A time as PAX writes it: decimal seconds with a fraction, rounded down to nanoseconds.
pub(super) fn time(text: &[u8]) -> Option<(i64, u32)> {
    let text = std::str::from_utf8(text).ok()?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if !fraction.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let is_negative = whole.starts_with('-');
    let seconds: i64 = decimal(whole)?;
    let mut nanos = 0;
    for index in 0..9 {
        let digit = fraction
            .as_bytes()
            .get(index)
            .map_or(0, |digit| digit - b'0');
        nanos = nanos * 10 + u32::from(digit);
    }
    let is_inexact = fraction.bytes().skip(9).any(|digit| digit != b'0');
    Some(match (is_negative, nanos) {
        (false, _) => (seconds, nanos),
        (true, 0) if !is_inexact => (seconds, 0),
        (true, _) => {
            let below = 1_000_000_000 - nanos - u32::from(is_inexact);
            let carry = below / 1_000_000_000;
            (
                seconds.checked_sub(1)?.checked_add(carry.into())?,
                below % 1_000_000_000,
            )
        }
    })
}

/// A decimal number without the `+` that Rust would take.
pub(super) fn decimal<T: std::str::FromStr>(text: &str) -> Option<T> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let is_number = !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit());
    is_number.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields() {
        let cases: [(&[u8], Option<i64>); 14] = [
            (b"0000644\0", Some(0o644)),
            (b"   644 \0", Some(0o644)),
            (b"\0\0\0\0", Some(0)),
            (b"", Some(0)),
            (b"77777777777", Some(0o77_777_777_777)),
            (b"8", None),
            (b"-1", None),
            (b"+1", None),
            (b"12 34", None),
            (b"7777777777777777777777777", None),
            (b"\x80\0\0\0\0\0\x01\0", Some(256)),
            (b"\xff\xff\xff\xff\xff\xff\xff\xfe", Some(-2)),
            (b"\x80\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff", None),
            (
                b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff",
                Some(i64::MAX),
            ),
        ];
        for (bytes, expected) in cases {
            assert_eq!(field(bytes).ok(), expected, "{bytes:?}");
        }
    }

    #[test]
    fn times() {
        let cases: [(&str, Option<(i64, u32)>); 13] = [
            ("0", Some((0, 0))),
            ("1.5", Some((1, 500_000_000))),
            ("1.", Some((1, 0))),
            ("1.0000000019", Some((1, 1))),
            ("-1", Some((-1, 0))),
            ("-1.25", Some((-2, 750_000_000))),
            ("-0.0000000001", Some((-1, 999_999_999))),
            ("-0.5", Some((-1, 500_000_000))),
            ("", None),
            ("+1", None),
            ("1e3", None),
            ("1.-5", None),
            ("99999999999999999999", None),
        ];
        for (text, expected) in cases {
            assert_eq!(time(text.as_bytes()), expected, "{text}");
        }
    }
}
