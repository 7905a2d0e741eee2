//! `EXPOSE` (S10): ports, ranges, protocols.

/// The most ports one instruction may name.
const MOST_PORTS: usize = 1 << 16;

/// `port/proto` for every port that `word` names, or what is wrong with it.
pub(super) fn parse_ports(word: &str) -> Result<Vec<String>, String> {
    let (ports, protocol) = match word.split_once('/') {
        Some((ports, protocol)) => (ports, protocol.to_lowercase()),
        None => (word, "tcp".into()),
    };
    let protocol = if protocol.is_empty() {
        "tcp".into()
    } else {
        protocol
    };
    if !["tcp", "udp", "sctp"].contains(&protocol.as_str()) {
        return Err(format!(
            "unknown protocol {protocol:?}: expected tcp, udp or sctp"
        ));
    }
    // Of `ip:host:container` only the container's port counts.
    let container = match ports.rsplit_once(':') {
        Some((_, container)) => container,
        None => ports,
    };
    if container.is_empty() {
        return Err(format!("no port in {word:?}"));
    }
    let (first, last) = match container.split_once('-') {
        Some((first, last)) => (port(first)?, port(last)?),
        None => (port(container)?, port(container)?),
    };
    if last < first {
        return Err(format!("the range {container} ends before it begins"));
    }
    Ok((first..=last)
        .take(MOST_PORTS)
        .map(|port| format!("{port}/{protocol}"))
        .collect())
}

fn port(text: &str) -> Result<u16, String> {
    let digits = !text.is_empty() && text.chars().all(|c| c.is_ascii_digit());
    match text.parse() {
        Ok(port) if digits => Ok(port),
        _ => Err(format!(
            "{text:?} is no port: expected a number from 0 to 65535"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s10_expose() {
        for (word, expected) in [
            ("80", vec!["80/tcp"]),
            ("53/UDP", vec!["53/udp"]),
            (
                "8000-8002/sctp",
                vec!["8000/sctp", "8001/sctp", "8002/sctp"],
            ),
            ("8080:80", vec!["80/tcp"]),
            ("127.0.0.1:8080:80/udp", vec!["80/udp"]),
        ] {
            assert_eq!(parse_ports(word).unwrap(), expected, "{word}");
        }
        for word in ["", "x", "80/icmp", "70000", "9-8", "-1", "1-", "80:", "+80"] {
            assert!(parse_ports(word).is_err(), "{word}");
        }
    }
}
