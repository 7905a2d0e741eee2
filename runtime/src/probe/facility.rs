//! What is tried, and how a trial ended.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One thing that a sandbox may need.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs)] // `title` says what each is
pub enum Facility {
    UserNamespace,
    ManyIds,
    OneId,
    MountNamespace,
    SystemCalls,
    Tmpfs,
    BindMount,
    Overlay,
    OuterProc,
    FreshProc,
    PivotRoot,
    MoveRoot,
    HostNamespaces,
    NetworkNamespace,
    Chroot,
    SetIds,
    ChangeOwner,
    DeviceNode,
    Whiteout,
    FileCapability,
    UserAttributes,
    Locks,
    Programs,
    Reflink,
    SeccompFilter,
    SeccompNotification,
    Landlock,
}

impl Facility {
    /// What it is, for people.
    pub const fn title(self) -> &'static str {
        match self {
            Self::UserNamespace => "user namespace",
            Self::ManyIds => "map of many ids",
            Self::OneId => "map of one id",
            Self::MountNamespace => "mount namespace",
            Self::SystemCalls => "system calls",
            Self::Tmpfs => "tmpfs",
            Self::BindMount => "bind mount",
            Self::Overlay => "overlay in the store",
            Self::OuterProc => "bind of /proc",
            Self::FreshProc => "fresh /proc",
            Self::PivotRoot => "pivot_root",
            Self::MoveRoot => "root moved by mount and chroot",
            Self::HostNamespaces => "namespaces for host name, IPC and cgroups",
            Self::NetworkNamespace => "network namespace",
            Self::Chroot => "chroot",
            Self::SetIds => "setgroups, setuid, setgid",
            Self::ChangeOwner => "chown to others",
            Self::DeviceNode => "device nodes",
            Self::Whiteout => "whiteouts in the store",
            Self::FileCapability => "file capabilities",
            Self::UserAttributes => "user attributes in the store",
            Self::Locks => "locks in the store",
            Self::Programs => "programs in the store",
            Self::Reflink => "reflinks in the store",
            Self::SeccompFilter => "seccomp filter",
            Self::SeccompNotification => "seccomp notification",
            Self::Landlock => "Landlock",
        }
    }

    /// The name in JSON.
    pub fn name(self) -> String {
        match serde_json::to_value(self) {
            Ok(serde_json::Value::String(name)) => name,
            other => unreachable!("a unit variant is a string: {other:?}"),
        }
    }
}

/// Where a trial stopped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failed {
    /// The step, after "cannot".
    pub step: String,
    /// What the kernel said; 0 where it was not the kernel.
    pub errno: i32,
    /// What somebody else said: a helper program.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub said: Option<String>,
}

impl Failed {
    /// A step that the kernel refused.
    pub fn new(step: &str, errno: i32) -> Self {
        Self {
            step: step.to_owned(),
            errno,
            said: None,
        }
    }

    /// A step that failed for a reason with words of its own.
    pub fn said(step: &str, said: impl Into<String>) -> Self {
        Self {
            step: step.to_owned(),
            errno: 0,
            said: Some(said.into()),
        }
    }

    /// `EPERM` and the like; empty without an errno.
    pub fn errno_name(&self) -> String {
        match self.errno {
            0 => String::new(),
            errno => format!("{:?}", nix::errno::Errno::from_raw(errno)),
        }
    }
}

/// Names the step of an error.
pub(super) fn step<E: Into<std::io::Error>>(step: &'static str) -> impl Fn(E) -> Failed {
    move |error| {
        let error: std::io::Error = error.into();
        match crate::mount::errno(&error) {
            Some(errno) => Failed::new(step, errno),
            None => Failed::said(step, error.to_string()),
        }
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {}", self.step)?;
        if let Some(said) = &self.said {
            write!(f, ": {said}")?;
        }
        if self.errno != 0 {
            let errno = nix::errno::Errno::from_raw(self.errno);
            write!(f, ": {} ({errno:?})", errno.desc())?;
        }
        Ok(())
    }
}

/// The trials of one process, in their order. What is not listed was not reached.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trials(pub Vec<Trial>);

/// One trial.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trial {
    /// What was tried.
    pub facility: Facility,
    /// Which of the places in question, for what is tried in each.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub place: Option<usize>,
    /// Where it stopped; none if it works.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub failed: Option<Failed>,
}

impl Trials {
    /// Takes down how a trial ended.
    pub fn add(&mut self, facility: Facility, result: Result<(), Failed>) {
        self.0.push(Trial {
            facility,
            place: None,
            failed: result.err(),
        });
    }

    /// The trial of a facility, in a place or in none.
    pub fn get(&self, facility: Facility, place: Option<usize>) -> Option<&Trial> {
        let mut trials = self.0.iter();
        trials.find(|trial| trial.facility == facility && trial.place == place)
    }

    /// Whether it was tried and works.
    pub fn works(&self, facility: Facility) -> bool {
        self.works_in(facility, None)
    }

    /// Whether it was tried in this place and works.
    pub fn works_in(&self, facility: Facility, place: Option<usize>) -> bool {
        self.get(facility, place)
            .is_some_and(|trial| trial.failed.is_none())
    }
}
