//! What this program does when a case runs it in a sandbox, where no other can be asked to make just
//! these calls.

use std::process::ExitCode;

/// Does `what` and writes what came of it.
pub fn run(what: &str) -> ExitCode {
    match what {
        "ids" => println!("{}", ids()),
        _ => return ExitCode::FAILURE,
    }
    ExitCode::SUCCESS
}

/// Real, effective and saved user, the same of the group, and all groups.
fn ids() -> String {
    let (user, group) = (
        nix::unistd::getresuid().unwrap(),
        nix::unistd::getresgid().unwrap(),
    );
    let groups: Vec<u32> = nix::unistd::getgroups()
        .unwrap()
        .iter()
        .map(|g| g.as_raw())
        .collect();
    format!(
        "{} {} {}, {} {} {}, {groups:?}",
        user.real, user.effective, user.saved, group.real, group.effective, group.saved
    )
}
