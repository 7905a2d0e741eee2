//! The files that tell a sandbox its names: `/etc/hosts` and `/etc/resolv.conf`.

use std::fmt::Write as _;
use std::{fs, io};

use crate::error::Error;
use crate::spec::{Mount, Network, RunSpec};

/// Where systemd-resolved lists the servers that its stub asks.
const UPSTREAM: &str = "/run/systemd/resolve/resolv.conf";

/// Both files, as mounts.
pub fn mounts(spec: &RunSpec) -> Result<Vec<Mount>, Error> {
    let file = |target: &str, content: String| Mount::Content {
        content: content.into_bytes(),
        target: target.into(),
        mode: 0o644,
        uid: 0,
        gid: 0,
    };
    Ok(vec![
        file("/etc/hosts", hosts(spec)),
        file("/etc/resolv.conf", resolv_conf(spec.network)?),
    ])
}

fn hosts(spec: &RunSpec) -> String {
    let mut text = format!(
        "127.0.0.1\tlocalhost {}\n::1\tlocalhost ip6-localhost ip6-loopback\n",
        spec.hostname
    );
    for (name, address) in &spec.hosts {
        // Writing to a string cannot fail.
        writeln!(text, "{address}\t{name}").unwrap_or_default();
    }
    text
}

fn resolv_conf(network: Network) -> Result<String, Error> {
    let path = std::path::Path::new("/etc/resolv.conf");
    let text = match fs::read_to_string(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(String::new()),
        other => other.map_err(Error::io("read", path))?,
    };
    // The stub listens on our loopback, which only the host's network shares.
    if network != Network::Host && is_stub(&text) {
        return Ok(fs::read_to_string(UPSTREAM).unwrap_or(text));
    }
    Ok(text)
}

/// Whether systemd-resolved's stub is the only name server.
fn is_stub(text: &str) -> bool {
    let mut servers = text
        .lines()
        .filter_map(|line| line.trim_start().strip_prefix("nameserver"))
        .map(str::trim);
    servers.next() == Some("127.0.0.53") && servers.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stub_is_known_by_its_address_alone() {
        for (text, stub) in [
            ("nameserver 127.0.0.53\noptions edns0\n", true),
            ("# nameserver 1.1.1.1\nnameserver 127.0.0.53", true),
            ("nameserver 127.0.0.53\nnameserver 9.9.9.9\n", false),
            ("nameserver 10.0.0.1\n", false),
            ("", false),
        ] {
            assert_eq!(is_stub(text), stub, "{text:?}");
        }
    }

    #[test]
    fn extra_hosts_follow_the_fixed_lines() {
        let mut spec = RunSpec::new(["x"]);
        spec.hosts.push(("db".to_owned(), "10.0.0.2".to_owned()));
        let text = hosts(&spec);
        assert!(text.starts_with("127.0.0.1\tlocalhost buildkitsandbox\n"));
        assert!(text.ends_with("\n10.0.0.2\tdb\n"));
    }
}
