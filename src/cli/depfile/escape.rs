//! Names of files as GNU make reads them in a rule.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

/// A name in both places of a rule.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Escaped {
    pub(super) target: Vec<u8>,
    pub(super) prerequisite: Vec<u8>,
}

/// The name, escaped; none if make has no way to write it.
///
/// Backslashes count only before what they escape. `=` and `;` are hidden in an expansion, since
/// make looks for them before it knows names from other words. A tab, which cannot be escaped in a
/// target, is a wildcard for one letter, and a tilde in front a set of one letter.
pub(super) fn escape(name: &OsStr) -> Option<Escaped> {
    let bytes = name.as_bytes();
    if !can_be_written(bytes) {
        return None;
    }
    let mut escaped = Escaped {
        target: Vec::new(),
        prerequisite: Vec::new(),
    };
    let mut backslashes = 0;
    for (at, byte) in bytes.iter().enumerate() {
        match byte {
            b'\\' => {
                escaped.both(b"\\");
                backslashes += 1;
                continue;
            }
            b' ' | b'#' | b':' => {
                escaped.both(&vec![b'\\'; backslashes + 1]);
                escaped.both(&[*byte]);
            }
            b'*' | b'?' | b'[' | b']' => escaped.both(&[b'\\', *byte]),
            b'\t' => escaped.both(b"?"),
            b'~' if at == 0 => escaped.both(b"[~]"),
            b'$' => escaped.both(b"$$"),
            b'=' => escaped.both(b"$(if ,,=)"),
            b';' => escaped.both(b"$(if ,,\\;)"),
            b'&' => escaped.both(b"$(if ,,&)"),
            b'%' => {
                escaped.prerequisite.push(b'%');
                escaped.target.extend(vec![b'\\'; backslashes + 1]);
                escaped.target.push(b'%');
            }
            b'|' => {
                escaped.prerequisite.extend(vec![b'\\'; backslashes + 1]);
                escaped.prerequisite.push(b'|');
                escaped.target.push(b'|');
            }
            other => escaped.both(&[*other]),
        }
        backslashes = 0;
    }
    if bytes.ends_with(b" ") {
        // make takes away the spaces before the end of a line, whatever is before them.
        escaped.both(b"$(if ,,)");
    }
    // What follows is a space, or a colon.
    escaped.both(&vec![b'\\'; backslashes]);
    Some(escaped)
}

/// Whether the name is one of plain letters, which mean themselves in a function, too.
pub(super) fn is_plain(name: &OsStr) -> bool {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"/._-+@".contains(byte);
    name.as_bytes().iter().all(plain)
}

fn can_be_written(name: &[u8]) -> bool {
    let is_control = |byte: &u8| byte.is_ascii_control() && *byte != b'\t';
    // x(y) is what is called y in the archive x.
    let is_member = name.ends_with(b")") && name.iter().skip(1).any(|byte| *byte == b'(');
    // .SUFFIXES and its like are orders to make.
    let is_order = name.starts_with(b".")
        && name.len() > 1
        && name[1..]
            .iter()
            .all(|byte| byte.is_ascii_uppercase() || *byte == b'_');
    let has = |wanted: &[u8]| name.iter().any(|byte| wanted.contains(byte));
    // In a pattern a backslash is read differently.
    let is_mixed = has(b"\\") && (has(b"*?[]\t;&=") || name.starts_with(b"~"));
    !(name.is_empty() || name.iter().any(is_control) || is_member || is_order || is_mixed)
}

impl Escaped {
    fn both(&mut self, bytes: &[u8]) {
        self.target.extend_from_slice(bytes);
        self.prerequisite.extend_from_slice(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsString;
    use std::fs::{self, File};
    use std::os::unix::ffi::OsStringExt;
    use std::path::Path;
    use std::process::Command;
    use std::time::{Duration, SystemTime};

    #[test]
    fn what_make_cannot_be_told() {
        for name in [
            "",
            "a\nb",
            "a\rb",
            "a\x1bb",
            "x(y)",
            ".PHONY",
            ".EXPORT_ALL_VARIABLES",
            "a\\*",
        ] {
            assert_eq!(escape(name.as_ref()), None, "{name:?}");
        }
        for name in ["(x)", "x(y).c", ".profile", "."] {
            assert!(escape(name.as_ref()).is_some(), "{name:?}");
        }
    }

    /// Gives what make says when it is asked for `id`, a target that `rule` makes depend.
    fn make(dir: &Path) -> String {
        let mut make = Command::new("make");
        make.args(["-r", "id"]).current_dir(dir);
        make.env_remove("MAKEFLAGS").env_remove("MAKELEVEL");
        let out = make.output();
        let out = out.unwrap();
        let text = [out.stdout, out.stderr].concat();
        String::from_utf8_lossy(&text).trim().to_owned()
    }

    #[test]
    fn make_reads_every_name() {
        if Command::new("make").arg("--version").output().is_err() {
            println!("skipped: there is no make here");
            return;
        }
        let names = [
            "plain",
            "a b",
            " lead",
            "trail ",
            "tab\tx",
            "d$x",
            "$(y)z",
            "$",
            "$$@",
            "h#x",
            "#",
            "c:d",
            ":",
            "p%q",
            "%",
            "back\\slash",
            "bs\\ sp",
            "bs\\\\ sp",
            "end\\",
            "end\\\\",
            "eq=x",
            "a+=b",
            "=",
            "semi;x",
            "st*ar",
            "q?x",
            "br[1]",
            "amp&",
            "pi|pe",
            "|",
            "ü ö",
            "x~y",
            "~",
            "~root",
            "a'b",
            "a\"b",
            "(x)",
            "bs\\#h",
            "bs\\:c",
            "bs\\%p",
            "bs\\|p",
            "comma,x",
            "{a,b}",
            "!x",
            "@at",
            "-dash",
            "+plus",
            "back`tick",
            "<a>",
            "^",
            "ex port",
            "export",
            "include",
            "define",
            "a::b",
            "a b[1].c",
            "a=[1]",
            "~ $*",
        ];
        let mut names: Vec<OsString> = names.iter().map(OsString::from).collect();
        names.push(OsString::from_vec(b"not \xff utf8".to_vec()));
        let old = SystemTime::now() - Duration::from_secs(1000);
        let set = |path: &Path, time| File::open(path).unwrap().set_modified(time).unwrap();
        for name in names {
            let dir = tempfile::tempdir().unwrap();
            let file = dir.path().join(&name);
            fs::write(&file, "").unwrap();
            fs::write(dir.path().join("other"), "").unwrap();
            set(&file, old);
            set(&dir.path().join("other"), old);
            let escaped = escape(&name).unwrap();
            let mut rule = b"id:; @touch id; echo built\nid: \\\n other \\\n ".to_vec();
            rule.extend_from_slice(&escaped.prerequisite);
            rule.extend_from_slice(b" \\\n other\n\n");
            rule.extend_from_slice(&escaped.target);
            rule.extend_from_slice(b":\n");
            fs::write(dir.path().join("Makefile"), &rule).unwrap();
            let text = String::from_utf8_lossy(&rule).into_owned();
            let again = "make: 'id' is up to date.";
            assert_eq!(make(dir.path()), "built", "{name:?}: {text}");
            assert_eq!(make(dir.path()), again, "{name:?}: {text}");
            set(&file, SystemTime::now() + Duration::from_secs(1));
            let told = make(dir.path());
            assert!(told.contains("built"), "touched {name:?}: {told}: {text}");
            set(&file, old);
            assert_eq!(make(dir.path()), again, "{name:?}: {text}");
            fs::remove_file(&file).unwrap();
            assert_eq!(make(dir.path()), "built", "deleted {name:?}: {text}");
        }
    }
}
