//! Git's disarmed form: what executor and sandbox add before a git read that policy has allowed. The
//! settings of a repository can make git run any program.
//!
//! The text of the command stays as it was decided upon: the environment outranks the repository's
//! own settings, and what it cannot outrank is looked for in the repository.

/// Folders with repositories that one command may rest on.
pub const MAX_FOLDERS: usize = 32;

/// Variables that win over those of the caller. The numbered pairs are settings with the rank of
/// `git -c`.
pub const DISARMING_ENV: &[(&str, &str)] = &[
    ("GIT_CONFIG_NOSYSTEM", "1"),
    ("GIT_CONFIG_SYSTEM", "/dev/null"),
    ("GIT_CONFIG_GLOBAL", "/dev/null"),
    ("GIT_OPTIONAL_LOCKS", "0"),
    ("GIT_TERMINAL_PROMPT", "0"),
    ("GIT_ATTR_NOSYSTEM", "1"),
    ("GIT_PAGER", "cat"),
    ("GIT_EDITOR", "false"),
    ("GIT_SEQUENCE_EDITOR", "false"),
    ("GIT_ASKPASS", "false"),
    ("GIT_SSH_COMMAND", "false"),
    ("GIT_PROXY_COMMAND", "false"),
    ("GIT_ALLOW_PROTOCOL", ""),
    ("GIT_NO_LAZY_FETCH", "1"),
    ("GIT_CONFIG_COUNT", "18"),
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
    ("GIT_CONFIG_KEY_6", "safe.bareRepository"),
    ("GIT_CONFIG_VALUE_6", "explicit"),
    ("GIT_CONFIG_KEY_7", "status.submoduleSummary"),
    ("GIT_CONFIG_VALUE_7", "false"),
    ("GIT_CONFIG_KEY_8", "diff.submodule"),
    ("GIT_CONFIG_VALUE_8", "short"),
    ("GIT_CONFIG_KEY_9", "core.sshCommand"),
    ("GIT_CONFIG_VALUE_9", "false"),
    ("GIT_CONFIG_KEY_10", "core.askPass"),
    ("GIT_CONFIG_VALUE_10", "false"),
    ("GIT_CONFIG_KEY_11", "core.editor"),
    ("GIT_CONFIG_VALUE_11", "false"),
    ("GIT_CONFIG_KEY_12", "core.attributesFile"),
    ("GIT_CONFIG_VALUE_12", "/dev/null"),
    ("GIT_CONFIG_KEY_13", "credential.helper"),
    ("GIT_CONFIG_VALUE_13", ""),
    ("GIT_CONFIG_KEY_14", "gpg.program"),
    ("GIT_CONFIG_VALUE_14", "false"),
    ("GIT_CONFIG_KEY_15", "gpg.ssh.program"),
    ("GIT_CONFIG_VALUE_15", "false"),
    ("GIT_CONFIG_KEY_16", "gpg.x509.program"),
    ("GIT_CONFIG_VALUE_16", "false"),
    ("GIT_CONFIG_KEY_17", "protocol.allow"),
    ("GIT_CONFIG_VALUE_17", "never"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_of_settings_is_right_and_each_has_a_value() {
        let has = |name: String| DISARMING_ENV.iter().any(|(key, _)| *key == name);
        let keys = DISARMING_ENV.iter().filter(|(key, _)| key.starts_with("GIT_CONFIG_KEY_"));
        let count = keys.count();
        assert!(DISARMING_ENV.contains(&("GIT_CONFIG_COUNT", count.to_string().as_str())));
        for index in 0..count {
            assert!(has(format!("GIT_CONFIG_KEY_{index}")), "{index}");
            assert!(has(format!("GIT_CONFIG_VALUE_{index}")), "{index}");
        }
    }
}
