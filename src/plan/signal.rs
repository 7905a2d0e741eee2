//! `STOPSIGNAL` (S10): which names are signals.

const NAMES: [&str; 36] = [
    "ABRT", "ALRM", "BUS", "CHLD", "CLD", "CONT", "FPE", "HUP", "ILL", "INT", "IO", "IOT", "KILL",
    "PIPE", "POLL", "PROF", "PWR", "QUIT", "SEGV", "STKFLT", "STOP", "SYS", "TERM", "TRAP", "TSTP",
    "TTIN", "TTOU", "URG", "USR1", "USR2", "VTALRM", "WINCH", "XCPU", "XFSZ", "RTMIN", "RTMAX",
];

/// Whether `text` is a signal's name, with or without `SIG`, in any case, or a positive number.
pub(super) fn is_signal(text: &str) -> bool {
    if let Ok(number) = text.parse::<u32>() {
        return number > 0;
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    NAMES.contains(&name)
        || offset(name, "RTMIN+").is_some_and(|offset| (1..=15).contains(&offset))
        || offset(name, "RTMAX-").is_some_and(|offset| (1..=14).contains(&offset))
}

/// The signal that was probably meant.
pub(super) fn nearest_signal(text: &str) -> Option<String> {
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    crate::dockerfile::nearest(name, NAMES).map(|name| format!("SIG{name}"))
}

fn offset(name: &str, prefix: &str) -> Option<u32> {
    name.strip_prefix(prefix)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s10_stopsignal() {
        for text in ["SIGTERM", "term", "9", "SIGRTMIN+3", "rtmax-14", "RTMIN"] {
            assert!(is_signal(text), "{text}");
        }
        for text in ["", "0", "-1", "SIGFOO", "RTMIN+16", "SIG"] {
            assert!(!is_signal(text), "{text}");
        }
        assert_eq!(nearest_signal("SIGTREM").as_deref(), Some("SIGTERM"));
    }
}
