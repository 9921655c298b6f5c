//! The hardened form of git: what the platform adds before a git read counts as understood.
//!
//! The text of the command stays as it was approved: the environment outranks the repository's own
//! settings, and what the environment cannot outrank is looked for in those settings.

/// Variables for a command whose `Decision::git_folders` is not empty. The numbered pairs are settings
/// with the rank of `git -c`.
pub const HARDENED_ENV: &[(&str, &str)] = &[
    ("GIT_CONFIG_NOSYSTEM", "1"),
    ("GIT_CONFIG_GLOBAL", "/dev/null"),
    ("GIT_OPTIONAL_LOCKS", "0"),
    ("GIT_TERMINAL_PROMPT", "0"),
    ("GIT_ATTR_NOSYSTEM", "1"),
    ("GIT_PAGER", "cat"),
    ("GIT_EDITOR", "false"),
    ("GIT_ALLOW_PROTOCOL", ""),
    ("GIT_NO_LAZY_FETCH", "1"),
    ("GIT_CONFIG_COUNT", "6"),
    ("GIT_CONFIG_KEY_0", "core.fsmonitor"),
    ("GIT_CONFIG_VALUE_0", "false"),
    ("GIT_CONFIG_KEY_1", "core.pager"),
    ("GIT_CONFIG_VALUE_1", "cat"),
    ("GIT_CONFIG_KEY_2", "core.hooksPath"),
    ("GIT_CONFIG_VALUE_2", "/dev/null"),
    ("GIT_CONFIG_KEY_3", "log.showSignature"),
    ("GIT_CONFIG_VALUE_3", "false"),
    ("GIT_CONFIG_KEY_4", "diff.ignoreSubmodules"),
    ("GIT_CONFIG_VALUE_4", "all"),
    ("GIT_CONFIG_KEY_5", "submodule.recurse"),
    ("GIT_CONFIG_VALUE_5", "false"),
];

/// Settings of a repository that run nothing, `*` for any name.
const HARMLESS: &[&str] = &[
    "core.repositoryformatversion",
    "core.filemode",
    "core.bare",
    "core.logallrefupdates",
    "core.ignorecase",
    "core.precomposeunicode",
    "core.symlinks",
    "core.autocrlf",
    "core.eol",
    "core.quotepath",
    "core.abbrev",
    "core.untrackedcache",
    "remote.*.url",
    "remote.*.fetch",
    "remote.*.pushurl",
    "branch.*.remote",
    "branch.*.merge",
    "branch.*.rebase",
    "branch.*.description",
    "user.name",
    "user.email",
    "pull.rebase",
    "pull.ff",
    "push.default",
    "push.autosetupremote",
    "init.defaultbranch",
    "color.ui",
    "merge.conflictstyle",
    "fetch.prune",
    "rerere.enabled",
    "advice.*",
    "gc.auto",
    "extensions.objectformat",
    "submodule.active",
];

/// Checks the settings of a repository, as `git config --list --name-only -z` prints them under
/// `HARDENED_ENV`: external diffs, filters, text converters, includes and the like execute programs,
/// and no variable outranks them. Everything unknown is refused.
///
/// # Errors
/// Names the first setting that is not known to be harmless.
pub fn check_config(names: &str) -> Result<(), String> {
    let own = |name: &str| {
        HARDENED_ENV.iter().any(|(key, value)| {
            key.starts_with("GIT_CONFIG_KEY_") && value.eq_ignore_ascii_case(name)
        })
    };
    let names = names.split(['\0', '\n']).filter(|name| !name.is_empty());
    match names.into_iter().find(|name| !own(name) && !is_harmless(name)) {
        None => Ok(()),
        Some(name) => Err(format!("the repository sets `{name}`, which may run a program")),
    }
}

/// Checks the index of a repository, as `git ls-files --stage -z` prints it: in a submodule the same
/// commands run again, under settings of its own that no variable reaches.
///
/// # Errors
/// Names the first submodule.
pub fn check_index(entries: &str) -> Result<(), String> {
    match entries.split(['\0', '\n']).find(|entry| entry.starts_with("160000 ")) {
        None => Ok(()),
        Some(entry) => {
            let path = entry.split_once('\t').map_or("", |(_, path)| path);
            Err(format!("`{path}` is a submodule, whose settings may run a program"))
        }
    }
}

fn is_harmless(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    HARMLESS.iter().any(|pattern| match pattern.split_once('*') {
        None => *pattern == name,
        Some((head, tail)) => {
            name.len() > head.len() + tail.len() && name.starts_with(head) && name.ends_with(tail)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ordinary_repository_passes() {
        let names = "core.repositoryformatversion\0core.bare\0remote.origin.url\0branch.feature/x.merge\0core.fsmonitor\0";
        assert_eq!(check_config(names), Ok(()));
    }

    #[test]
    fn what_runs_programs_does_not() {
        for name in [
            "diff.external",
            "diff.x.command",
            "diff.x.textconv",
            "filter.x.clean",
            "filter.x.smudge",
            "filter.x.process",
            "include.path",
            "includeif.gitdir:x.path",
            "gpg.program",
            "core.sshcommand",
            "core.editor",
            "alias.x",
            "credential.helper",
            "extensions.worktreeconfig",
            "core.worktree",
            "core.attributesfile",
            "core.alternaterefscommand",
            "remote.x.uploadpack",
            "remote.x.vcs",
            "merge.x.driver",
            "pager.log",
            "unknown",
            "core.excludesfile",
            "remote.x.promisor",
            "extensions.partialclone",
            "submodule.x.update",
            "core.gitproxy",
            "trailer.x.command",
            "log.mailmap",
            "mailmap.file",
            "blame.ignorerevsfile",
        ] {
            assert!(check_config(&format!("core.bare\n{name}\n")).is_err(), "{name}");
        }
    }

    #[test]
    fn submodules_are_refused() {
        assert_eq!(check_index("100644 abc 0\ta\x00100755 abc 0\tb\0"), Ok(()));
        assert!(check_index("100644 abc 0\ta\x00160000 abc 0\tsub\0").unwrap_err().contains("sub"));
    }

    #[test]
    fn the_count_of_settings_is_right() {
        let keys =
            HARDENED_ENV.iter().filter(|(key, _)| key.starts_with("GIT_CONFIG_KEY_")).count();
        assert!(HARDENED_ENV.contains(&("GIT_CONFIG_COUNT", keys.to_string().as_str())));
    }
}
