//! Tables and figures for people, in the shapes that `docker images` has made familiar.

use std::io::{self, Write};

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Digits of an id that people are shown.
pub(super) const SHORT_ID: usize = 12;

/// Writes rows under their headings, each column as wide as its widest cell.
pub(super) fn write(out: &mut dyn Write, rows: &[Vec<String>]) -> io::Result<()> {
    const GAP: usize = 3;
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            let pad = width + GAP - cell.chars().count();
            line.push_str(cell);
            line.push_str(&" ".repeat(pad));
        }
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

/// A number of bytes in decimal units and three or four digits: `7.83MB`.
pub(super) fn size(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1000.0 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    let digits = match value {
        value if value < 10.0 => 2,
        value if value < 100.0 => 1,
        _ => 0,
    };
    let text = format!("{value:.digits$}");
    let text = if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.')
    } else {
        &text
    };
    format!("{text}{}", UNITS[unit])
}

/// How long ago an RFC 3339 time was: `3 weeks ago`; what is no time, `N/A`.
pub(super) fn since(created: Option<&str>, now: OffsetDateTime) -> String {
    let parsed = created.map(|text| OffsetDateTime::parse(text, &Rfc3339));
    let Some(Ok(then)) = parsed else {
        return "N/A".into();
    };
    let seconds = (now - then).whole_seconds().max(0);
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    let days = hours / 24;
    let text = match () {
        () if seconds < 1 => "Less than a second".to_owned(),
        () if seconds == 1 => "1 second".to_owned(),
        () if seconds < 60 => format!("{seconds} seconds"),
        () if minutes == 1 => "About a minute".to_owned(),
        () if minutes < 60 => format!("{minutes} minutes"),
        () if hours == 1 => "About an hour".to_owned(),
        () if hours < 48 => format!("{hours} hours"),
        () if days < 14 => format!("{days} days"),
        () if days < 60 => format!("{} weeks", days / 7),
        () if days < 730 => format!("{} months", days / 30),
        () => format!("{} years", days / 365),
    };
    format!("{text} ago")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_short() {
        for (bytes, expected) in [
            (0, "0B"),
            (999, "999B"),
            (1000, "1kB"),
            (7_834_000, "7.83MB"),
            (78_340_000, "78.3MB"),
            (783_400_000, "783MB"),
            (1_500_000_000, "1.5GB"),
        ] {
            assert_eq!(size(bytes), expected);
        }
    }

    #[test]
    fn times_are_relative() {
        let now = OffsetDateTime::parse("2026-03-01T00:00:00Z", &Rfc3339).unwrap();
        for (created, expected) in [
            ("2026-03-01T00:00:00Z", "Less than a second ago"),
            ("2026-02-28T23:59:00.5Z", "59 seconds ago"),
            ("2026-02-28T23:00:00Z", "About an hour ago"),
            ("2026-02-27T00:00:01Z", "47 hours ago"),
            ("2026-02-01T00:00:00Z", "4 weeks ago"),
            ("1970-01-01T00:00:00Z", "56 years ago"),
            ("2027-01-01T00:00:00Z", "Less than a second ago"),
            ("yesterday", "N/A"),
        ] {
            assert_eq!(since(Some(created), now), expected, "{created}");
        }
        assert_eq!(since(None, now), "N/A");
    }

    #[test]
    fn columns_line_up() {
        let rows = [
            vec!["A".into(), "B".into()],
            vec!["long".into(), "x".into()],
        ];
        let mut out = Vec::new();
        write(&mut out, &rows).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "A      B\nlong   x\n");
    }
}
