//! A [`Place`]: where a build is started, by whom, and what it came to.

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness;
use crate::registry::Registry;
use crate::support::{Context, Outcome, Ran, ran};

/// What is built in every place.
const DOCKERFILE: &str = r#"FROM BASE AS one
RUN --mount=type=cache,target=/cache echo cached >/cache/x && cp /cache/x /from-cache
RUN mkdir -p /d/e && echo hi >/d/e/f && ln -s f /d/e/l && mkfifo /d/p && ln /d/e/f /d/e/hard && \
    chown 33:44 /d/e/f && chmod 750 /d/e/f && cp /bin/sh /d/s && chmod 6755 /d/s && chown -h 7:8 /d/e/l && chmod 1777 /d
USER app
RUN id -u >/d/by-app
FROM BASE
COPY --from=one /d /d
COPY --chown=12:34 --chmod=640 ["file", "sub dir", "/there/"]
ADD archive.tar /added/
RUN rm -r /root /d/e/l && echo more >>/d/e/f && mv /there/file /there/moved && ln /there/moved /linked && \
    cat /there/inner >/dev/null && test "$(stat -c %u:%g /there/moved)" = 12:34 && touch -d @0 /there/inner
COPY <<END /text
of $HOME
END
WORKDIR /made/here
"#;

/// How a build ends.
#[derive(Clone, Copy, Debug)]
pub enum End {
    /// With the image that it gives everywhere.
    Same,
    /// With this exit code and these words on stderr.
    Fails(u8, &'static [&'static str]),
}

/// The surroundings of a case.
pub struct Place {
    pub context: Context,
    /// The user's id, when the launcher is to change to it.
    user: Option<u32>,
}

/// Everything that all cases share, in `base`: the base image in a registry, and the digest of the image
/// where nothing is awkward.
pub fn prepare(base: &Path) -> Registry {
    let own = base.join("prepared");
    fs::create_dir(&own).unwrap();
    let context = Context::new(&own);
    let registry = Registry::start();
    let name = registry.push_base(&context, "base");
    fs::write(base.join("image"), name).unwrap();
    let place = Place {
        context,
        user: None,
    };
    place.fill();
    place.build(&[]).ok();
    fs::write(base.join("digest"), place.digest()).unwrap();
    registry
}

impl Place {
    pub fn new(base: &Path, who: &str) -> Self {
        let user = match who {
            "user, many ids" => harness::user_with_many_ids("places").map(|ids| ids.0),
            "user, one id" => Some(crate::NOBODY_ELSE),
            _ => None,
        };
        let place = Self {
            context: Context::new(base),
            user,
        };
        place.fill();
        for dir in [base, &place.path("home"), &place.path("context")] {
            place.give(dir);
        }
        place
    }

    /// Makes a file of root's the user's.
    pub fn give(&self, path: &Path) {
        if let Some(user) = self.user {
            chown(path, Some(user), Some(user)).unwrap();
        }
    }

    pub fn path(&self, name: impl AsRef<OsStr>) -> PathBuf {
        self.context.base.join(Path::new(name.as_ref()))
    }

    /// Whether the launcher may mount and change users.
    pub fn is_made_by_root(&self) -> bool {
        nix::unistd::geteuid().is_root()
    }

    /// Whether the builder has one id, as far as the account goes.
    pub fn one_id(&self) -> bool {
        self.user == Some(crate::NOBODY_ELSE)
    }

    /// Whether the builder is root.
    pub fn is_root(&self) -> bool {
        self.user.is_none() && self.is_made_by_root()
    }

    /// A Dockerfile's line with the base image.
    pub fn base(&self) -> String {
        let image = fs::read_to_string(self.path("../image")).unwrap();
        format!("FROM {image}\n")
    }

    /// Writes the context.
    fn fill(&self) {
        let image = fs::read_to_string(self.path("../image")).unwrap();
        self.context
            .file("Dockerfile", DOCKERFILE.replace("BASE", &image));
        self.context
            .file("file", "a file of the context\n".repeat(5000));
        self.context.file("sub dir/inner", "inner\n");
        let archive = fs::File::create(self.path("context/archive.tar")).unwrap();
        let mut archive = tar::Builder::new(archive);
        for (name, kind) in [
            ("null", tar::EntryType::Char),
            ("plain", tar::EntryType::Regular),
        ] {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(kind);
            header.set_uid(5);
            header.set_gid(6);
            header.set_mode(0o604);
            header.set_mtime(1_000_000_000);
            header.set_size(0);
            header.set_device_major(1).unwrap();
            header.set_device_minor(3).unwrap();
            archive.append_data(&mut header, name, &[][..]).unwrap();
        }
        archive.into_inner().unwrap();
        for name in ["sub dir", "archive.tar"] {
            let mode = if name == "sub dir" { 0o755 } else { 0o644 };
            fs::set_permissions(
                self.path("context").join(name),
                Permissions::from_mode(mode),
            )
            .unwrap();
        }
    }

    /// The program with these arguments, started in a place made as `made` says; see [`crate::launch`].
    pub fn command(&self, made: &[&str], args: &[&OsStr]) -> Command {
        let mut command = self.context.tool(&self.path("../places"));
        command.arg("--launch").args(made);
        if let Some(user) = self.user {
            command.arg(format!("user={user}"));
        }
        command.arg("--").arg(self.path("../lapstrake")).args(args);
        command.env("SOURCE_DATE_EPOCH", "1500000000");
        command
    }

    /// The usual build, with the store in `store`.
    pub fn build_command(&self, made: &[&str], store: &OsStr) -> Command {
        let meta = self.path("meta.json");
        let context = self.path("context");
        let args: [&OsStr; 7] = [
            "--root".as_ref(),
            store,
            "build".as_ref(),
            "--metadata-file".as_ref(),
            meta.as_os_str(),
            "--tag=image".as_ref(),
            context.as_os_str(),
        ];
        self.command(made, &args)
    }

    /// The usual build, in a place made as `made` says.
    pub fn build(&self, made: &[&str]) -> Ran {
        ran(&mut self.build_command(made, self.path("store").as_os_str()))
    }

    /// The same with the strongest sandbox that the user can have, and no other.
    pub fn build_namespaced(&self, made: &[&str]) -> Ran {
        let mode = if self.one_id() {
            "userns-one"
        } else {
            "userns-many"
        };
        let mut command = self.build_command(made, self.path("store").as_os_str());
        ran(command.env("LAPSTRAKE_SANDBOX", mode))
    }

    /// The digest of the manifest that was built last.
    pub fn digest(&self) -> String {
        let meta = fs::read(self.path("meta.json")).unwrap();
        let meta: serde_json::Value = serde_json::from_slice(&meta).unwrap();
        meta["containerimage.digest"].as_str().unwrap().to_owned()
    }

    /// The digest that it has where nothing is awkward.
    pub fn usual_digest(&self) -> String {
        fs::read_to_string(self.path("../digest")).unwrap()
    }

    /// How a build ended is as it should be.
    #[track_caller]
    pub fn ends(&self, ran: &Ran, end: End) {
        match end {
            End::Same => {
                assert_eq!(ran.code, 0, "{}", ran.err);
                assert_eq!(self.digest(), self.usual_digest(), "{}", ran.err);
            }
            End::Fails(code, words) => {
                assert_eq!(ran.code, i32::from(code), "{}", ran.err);
                for word in words {
                    assert!(
                        ran.err.contains(word),
                        "{word:?} is missing in:\n{}",
                        ran.err
                    );
                }
            }
        }
    }

    /// A new directory of the user's.
    pub fn made(&self, name: impl AsRef<OsStr>) -> PathBuf {
        let dir = self.path(name);
        fs::create_dir(&dir).unwrap();
        self.give(&dir);
        dir
    }

    /// Skips what only root can make.
    pub fn needs_root(&self) -> Option<Outcome> {
        (!self.is_made_by_root())
            .then(|| Outcome::Skipped("only root can make this place".to_owned()))
    }
}
