//! The store's limit: from where it is taken, and what happens at the end of a build.

use anyhow::Result;

use super::{table, values};
use crate::build::{Cancel, Why};
use crate::config::Config;
use crate::progress::Progress;
use crate::store::{PruneReport, Store};

/// The variable that stands between the flag and the configuration file.
const VARIABLE: &str = "LAPSTRAKE_STORE_LIMIT";

/// How many bytes the store may take: the flag, else the variable, else the configuration file;
/// none where that is 0 or nothing was said.
///
/// # Errors
/// When it is no size, or the configuration file cannot be read.
pub(super) fn limit(flag: Option<&str>) -> Result<Option<u64>> {
    let variable = || Ok::<_, anyhow::Error>(values::variable(VARIABLE)?);
    let (from, text) = match flag {
        Some(text) => ("--store-limit", Some(text.to_owned())),
        None => match variable()?.filter(|text| !text.is_empty()) {
            Some(text) => (VARIABLE, Some(text)),
            None => ("store-limit", Config::user()?.store_limit),
        },
    };
    let bytes = text.map(|text| values::size(from, &text)).transpose()?;
    Ok(bytes.filter(|bytes| *bytes > 0))
}

/// Dropped at the end of a build, it brings the store back within its limit: after a build that
/// failed too, for that has filled it as well, and never making one fail.
pub(super) struct AtTheEnd<'a> {
    pub(super) store: &'a Store,
    pub(super) limit: Option<u64>,
    pub(super) progress: &'a Progress,
    pub(super) cancel: &'a Cancel,
}

impl Drop for AtTheEnd<'_> {
    fn drop(&mut self) {
        let Some(limit) = self.limit else {
            return;
        };
        // Who has sent one wants the build to end.
        let is_signalled = || matches!(self.cancel.why(), Some(Why::Signal(_)));
        if is_signalled() {
            return;
        }
        match self.store.keep_within(limit, &is_signalled) {
            Ok(None) => {}
            Ok(Some(report)) => self.tell(limit, &report),
            Err(error) => {
                let error = anyhow::Error::new(error);
                self.progress.warn(&format!(
                    "the store cannot be kept within its limit: {error:#}"
                ));
            }
        }
    }
}

impl AtTheEnd<'_> {
    fn tell(&self, limit: u64, report: &PruneReport) {
        let left = report
            .before
            .unwrap_or_default()
            .saturating_sub(report.bytes);
        let is_over = left > limit;
        let limit = table::size(limit);
        let gone = table::size(report.bytes);
        self.progress.note(&format!(
            "store: removed {gone} to stay within its limit of {limit}"
        ));
        if is_over {
            self.progress.warn(&format!(
                "the store takes {}, more than its limit of {limit}: the rest is named or in use",
                table::size(left)
            ));
        }
    }
}
