//! [`Tree`]: a path that is selected as a whole, to be shown rather than copied.
//!
//! Whoever shows it needs to know whether the disk will do, which is what [`Difference`] tells.

use std::ffi::OsStr;

use super::select::Selector;
use super::{CopyError, Selection, Source};
use crate::context::IgnoreFile;
use crate::rootfs::RootPath;

/// What a path leads to, with all that is in it.
#[derive(Debug)]
pub struct Tree {
    /// Its entries.
    pub selection: Selection,
    /// What the disk has otherwise.
    pub difference: Difference,
}

/// How the disk under a selection differs from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Difference {
    /// Not at all.
    None,
    /// It has these entries too, relative to the selected path; what is below them not named.
    Hidden(Vec<RootPath>),
    /// Its owners are not the ones that count.
    Owners,
}

/// Selects what `path`, in which nothing is a wildcard, leads to.
///
/// # Errors
/// As [`super::select`].
pub fn select_path(source: &Source<'_>, path: &str) -> Result<Tree, CopyError> {
    let selector = Selector::new(source, IgnoreFile::default());
    let at = RootPath::new(path);
    let hit = match selector.filter().verdict(&at).prune {
        true => None,
        false => selector.hit(path, &at, &|_| false)?.flatten(),
    };
    let Some(hit) = hit else {
        return Err(selector.missing(path, &at));
    };
    let hidden = selector.hidden.take();
    let difference = match (selector.foreign.get(), hidden.is_empty()) {
        (true, _) => Difference::Owners,
        (false, true) => Difference::None,
        (false, false) => Difference::Hidden(hidden),
    };
    Ok(Tree {
        selection: Selection { hits: vec![hit] },
        difference,
    })
}

impl Tree {
    /// The name of the file or directory, empty for a root.
    pub fn name(&self) -> &OsStr {
        let hit = self.selection.hits.first();
        hit.map_or(OsStr::new(""), |hit| &hit.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::Context;
    use std::fs;

    #[test]
    fn s8_what_a_context_hides() {
        let dir = tempfile::tempdir().unwrap();
        for file in [
            "a/b/x.log",
            "a/b/y",
            "node/m/f",
            "node/keep",
            "only/x.log",
            "z",
        ] {
            let file = dir.path().join(file);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, "").unwrap();
        }
        fs::create_dir(dir.path().join("empty")).unwrap();
        for (ignored, path, expected) in [
            ("", "/", &[][..]),
            ("*.log", "/a", &[]),
            ("**/*.log", "/", &["/a/b/x.log", "/only/x.log"]),
            ("**/*.log", "/a", &["/b/x.log"]),
            ("a", "/", &["/a"]),
            ("node\n!node/keep", "/", &["/node/m"]),
            (
                "*\n!z",
                "/",
                &["/.dockerignore", "/a", "/empty", "/node", "/only"],
            ),
            ("*\n!**/none", "/only", &["/x.log"]),
        ] {
            fs::write(dir.path().join(".dockerignore"), ignored).unwrap();
            let context = Context::open_dir(dir.path(), None).unwrap();
            let source = Source::context(&context);
            let found = match select_path(&source, path).map(|tree| tree.difference) {
                Ok(Difference::Hidden(mut hidden)) => {
                    hidden.sort();
                    hidden
                }
                Ok(Difference::None) => Vec::new(),
                // A directory in which everything is hidden is hidden too.
                Err(CopyError::Excluded { .. }) => vec![RootPath::new("/x.log")],
                other => panic!("{other:?}"),
            };
            let expected: Vec<_> = expected.iter().map(RootPath::new).collect();
            assert_eq!(found, expected, "{ignored:?} {path}");
        }
    }
}
