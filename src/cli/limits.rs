//! What helps where a limit of the process or a lack of the kernel ended the work.

/// Number of the errno, as errors tell it, and what to do.
const HELP: &[(&str, &str)] = &[
    (
        "(os error 24)",
        "the limit on open files is reached: raise it with `ulimit -n`; 64 do for a few layers, and a step \
         takes one for each layer below it",
    ),
    (
        "(os error 11)",
        "the limit on processes and threads is reached: raise it with `ulimit -u`, or the container's limit \
         on pids; --jobs 1 needs the fewest",
    ),
    (
        "(os error 27)",
        "a file would be larger than the process may write: raise that limit with `ulimit -f`, or put the \
         store on a file system that takes it with LAPSTRAKE_ROOT",
    ),
    (
        "(os error 30)",
        "the store is on a read-only file system: put it elsewhere with --root or LAPSTRAKE_ROOT",
    ),
    (
        "(os error 12)",
        "there is no memory left: raise `ulimit -v` or the container's limit; --jobs 1 needs the least",
    ),
    (
        "(os error 38)",
        "this kernel, or a filter of the container, lacks a system call: Linux 5.12 or later has all that are \
         needed, and securityContext.seccompProfile.type: Unconfined or --security-opt seccomp=unconfined \
         allows them",
    ),
];

/// The help for an error of the environment, by the text it is told with: what comes from a sandbox's own
/// processes is text and nothing else.
pub(super) fn help(told: &str) -> Option<&'static str> {
    let found = HELP.iter().find(|(errno, _)| told.contains(errno));
    found.map(|(_, help)| *help)
}

#[cfg(test)]
mod tests {
    use super::help;

    #[test]
    fn limits_are_named_with_their_cure() {
        for (errno, word) in [
            (libc::EMFILE, "ulimit -n"),
            (libc::EAGAIN, "ulimit -u"),
            (libc::EFBIG, "ulimit -f"),
            (libc::ENOMEM, "ulimit -v"),
            (libc::ENOSYS, "system call"),
        ] {
            let error = std::io::Error::from_raw_os_error(errno);
            let help = help(&format!("cannot do it: {error}: whatever"));
            assert!(
                help.is_some_and(|help| help.contains(word)),
                "{error}: {help:?}"
            );
        }
        assert_eq!(help("cannot do it: Permission denied (os error 13)"), None);
    }
}
