//! [`PlanOptions`], and the arguments that exist without being declared (S4).

use super::contexts::NamedContext;
use super::environment::Environment;
use crate::image::Platform;

/// What the user asked for.
#[derive(Clone, Debug)]
pub struct PlanOptions {
    /// `--build-arg`; of equal names the last counts.
    pub build_args: Vec<(String, String)>,
    /// `--target`.
    pub target: Option<String>,
    /// The platform to build for.
    pub platform: Platform,
    /// Whether the user named that platform.
    pub platform_explicit: bool,
    /// The platform the build runs on.
    pub build_platform: Platform,
    /// `--build-context`; of equal names the last counts.
    pub contexts: Vec<NamedContext>,
}

impl Default for PlanOptions {
    fn default() -> Self {
        Self {
            build_args: Vec::new(),
            target: None,
            platform: Platform::host(),
            platform_explicit: false,
            build_platform: Platform::host(),
            contexts: Vec::new(),
        }
    }
}

/// Build arguments that change a build without any `ARG`.
const WITH_EFFECT: [&str; 5] = [
    "BUILDKIT_INLINE_CACHE",
    "BUILDKIT_SANDBOX_HOSTNAME",
    "BUILDKIT_CACHE_MOUNT_NS",
    "BUILDKIT_CONTEXT_KEEP_GIT_DIR",
    "BUILDKIT_DOCKERFILE_CHECK",
];

/// Build arguments for what a build here does not have: custom frontends, build records, scanners.
const WITHOUT_EFFECT: [&str; 5] = [
    "BUILDKIT_MULTI_PLATFORM",
    "BUILDKIT_SYNTAX",
    "BUILDKIT_BUILD_NAME",
    "BUILDKIT_SBOM_SCAN_CONTEXT",
    "BUILDKIT_SBOM_SCAN_STAGE",
];

/// The proxy variables, upper case.
pub(super) const PROXIES: [&str; 5] = [
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "FTP_PROXY",
    "NO_PROXY",
    "ALL_PROXY",
];

impl PlanOptions {
    /// The value of a `--build-arg`.
    pub fn build_arg(&self, name: &str) -> Option<&str> {
        let (_, value) = self.build_args.iter().rfind(|(key, _)| key == name)?;
        Some(value)
    }

    /// Whether `name` is set in the global scope without any `ARG`.
    pub fn is_platform_arg(name: &str) -> bool {
        Self::default().platform_args("").get(name).is_some()
    }

    /// The platform arguments, which live in the global scope.
    pub(super) fn platform_args(&self, target_stage: &str) -> Environment {
        let mut globals = Environment::default();
        for (prefix, platform) in [("BUILD", &self.build_platform), ("TARGET", &self.platform)] {
            for (suffix, value) in [
                ("PLATFORM", platform.to_string()),
                ("OS", platform.os.clone()),
                ("OSVERSION", String::new()),
                ("ARCH", platform.arch.clone()),
                ("VARIANT", platform.variant.clone()),
            ] {
                self.set_global(&mut globals, &format!("{prefix}{suffix}"), value);
            }
        }
        self.set_global(&mut globals, "TARGETSTAGE", target_stage.to_owned());
        globals
    }

    fn set_global(&self, globals: &mut Environment, name: &str, value: String) {
        globals.set(name, self.build_arg(name).map_or(value, str::to_owned));
    }

    /// The proxy variables in both cases, from build arguments of either case.
    pub(super) fn proxy_env(&self) -> Vec<(String, String)> {
        let mut env = Vec::new();
        for name in PROXIES {
            let given = self
                .build_args
                .iter()
                .rfind(|(key, _)| key.eq_ignore_ascii_case(name));
            if let Some((_, value)) = given {
                env.push((name.to_owned(), value.clone()));
                env.push((name.to_ascii_lowercase(), value.clone()));
            }
        }
        env
    }

    /// Those of the given build arguments that mean something to BuildKit and nothing here.
    pub fn build_args_without_effect(&self) -> impl Iterator<Item = &str> {
        let names = self.build_args.iter().map(|(name, _)| name.as_str());
        names.filter(|name| WITHOUT_EFFECT.contains(name))
    }

    /// Whether a build argument means something without any `ARG`.
    pub(super) fn is_predefined(name: &str) -> bool {
        WITH_EFFECT.contains(&name)
            || WITHOUT_EFFECT.contains(&name)
            || name == "SOURCE_DATE_EPOCH"
            || PROXIES.iter().any(|proxy| name.eq_ignore_ascii_case(proxy))
    }
}
