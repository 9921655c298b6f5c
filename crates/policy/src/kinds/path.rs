//! Which paths a command may name and still be understood: inside the workspace or `/tmp`, and
//! nothing that holds secrets or configures a tool that runs later.

type Checked = Result<(), String>;

/// Dot files and folders that are read like any other. All others may hold secrets or run something.
const READABLE_DOT_FILES: &[&str] = &[
    ".",
    ".bazelversion",
    ".buildkite",
    ".cargo",
    ".changeset",
    ".ci",
    ".circleci",
    ".clang-format",
    ".clang-tidy",
    ".clangd",
    ".coveragerc",
    ".devcontainer",
    ".dockerignore",
    ".editorconfig",
    ".env.example",
    ".env.sample",
    ".env.template",
    ".eslintignore",
    ".flake8",
    ".formatter.exs",
    ".git-blame-ignore-revs",
    ".gitattributes",
    ".github",
    ".gitignore",
    ".gitkeep",
    ".gitmodules",
    ".helmignore",
    ".hlint.yaml",
    ".husky",
    ".isort.cfg",
    ".java-version",
    ".jshintrc",
    ".keep",
    ".luacheckrc",
    ".mailmap",
    ".mypy.ini",
    ".node-version",
    ".nojekyll",
    ".npmignore",
    ".nvmrc",
    ".ocamlformat",
    ".prettierignore",
    ".pylintrc",
    ".python-version",
    ".rspec",
    ".ruby-gemset",
    ".ruby-version",
    ".scalafmt.conf",
    ".shellcheckrc",
    ".storybook",
    ".stylelintignore",
    ".terraform-version",
    ".tflint.hcl",
    ".tool-versions",
    ".vscode",
    ".watchmanconfig",
    ".well-known",
    ".yamllint",
    ".yardopts",
];

/// Settings of checkers and builders, which hold none: with one of the extensions, or without.
const READABLE_SETTINGS: &[&str] = &[
    ".appveyor",
    ".azure-pipelines",
    ".babelrc",
    ".browserslistrc",
    ".c8rc",
    ".clippy",
    ".codecov",
    ".commitlintrc",
    ".cspell",
    ".dprint",
    ".drone",
    ".eslintrc",
    ".gitlab-ci",
    ".golangci",
    ".goreleaser",
    ".graphqlrc",
    ".hadolint",
    ".huskyrc",
    ".jestrc",
    ".jscpd",
    ".lintstagedrc",
    ".markdownlint",
    ".mocharc",
    ".nycrc",
    ".parcelrc",
    ".postcssrc",
    ".pre-commit-config",
    ".pre-commit-hooks",
    ".prettierrc",
    ".readthedocs",
    ".rubocop",
    ".rubocop_todo",
    ".ruff",
    ".rustfmt",
    ".solhint",
    ".stylelintrc",
    ".stylua",
    ".swcrc",
    ".swiftlint",
    ".taplo",
    ".travis",
    ".typos",
    ".woodpecker",
];

const EXTENSIONS: &[&str] = &["json", "yaml", "yml", "toml", "js", "cjs", "mjs", "ts"];

fn is_readable_dot_file(name: &str) -> bool {
    let stem = match name.rsplit_once('.') {
        Some((stem, extension)) if EXTENSIONS.contains(&extension) => stem,
        _ => name,
    };
    READABLE_DOT_FILES.contains(&name) || READABLE_SETTINGS.contains(&stem)
}

/// A file or folder that is read; `-` is the standard input.
pub(super) fn check_read(path: &str) -> Checked {
    if path == "/dev/null" {
        return Ok(());
    }
    check_inside(path)?;
    let mut folder = "";
    for part in path.split('/') {
        let tokens = folder == ".cargo" && part.starts_with("credentials");
        if tokens || (part.starts_with('.') && !is_readable_dot_file(part)) {
            return Err(format!("`{part}` may hold secrets or settings"));
        }
        folder = if part.is_empty() || part == "." { folder } else { part };
    }
    Ok(())
}

/// A file or folder that is copied under its own name. What is in `a/.` comes under names that
/// nobody sees: `.git` can be one of them.
pub(super) fn check_source(path: &str) -> Checked {
    check_read(path)?;
    match path.trim_end_matches('/').rsplit('/').next() {
        Some("" | ".") => Err("it stands for everything in a folder, hidden files and all".into()),
        _ => Ok(()),
    }
}

/// A file or folder that is created, changed or removed.
pub(super) fn check_write(path: &str) -> Checked {
    check_inside(path)?;
    let mut parts = path.split('/').filter(|part| !part.is_empty() && *part != ".").peekable();
    let mut count = 0;
    for part in parts.by_ref() {
        if part.starts_with('.') {
            return Err(format!("`{part}` may configure a tool that runs later"));
        }
        count += 1;
    }
    let root_itself = path.starts_with('/') && count <= 1;
    if root_itself { Err("that is a whole folder of the sandbox".into()) } else { Ok(()) }
}

/// An archive: tar takes `host:file` for a file on another machine.
pub(super) fn check_archive(path: &str) -> Checked {
    if path.contains(':') {
        return Err("a colon may name another machine".into());
    }
    check_read(path)
}

/// A name that some programs take for a path: no way out of the workspace, no option.
pub(super) fn check_name(name: &str) -> Checked {
    let leaves = name.starts_with(['/', '-', '~', '@'])
        || name.split(['/', ':', '=']).any(|part| part == "..")
        || name.split(['/', ':', '=']).any(|part| part.eq_ignore_ascii_case(".git"))
        || name.contains("://")
        || name.contains("::");
    match leaves || name.is_empty() || name.chars().any(char::is_control) {
        true => Err("that is no plain name".into()),
        false => Ok(()),
    }
}

fn check_inside(path: &str) -> Checked {
    if path.is_empty() || path.chars().any(char::is_control) {
        return Err("that is no plain path".into());
    }
    let below = |root: &str| {
        path.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    if path.starts_with('/') && !below("/work") && !below("/tmp") {
        return Err("it is outside of the workspace".into());
    }
    // A path that some program takes for a URL or for a file of arguments.
    if path.contains("://") || path.starts_with('@') {
        return Err("that is no plain path".into());
    }
    match path.split('/').any(|part| part == "..") {
        true => Err("`..` may lead out of the workspace".into()),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_workspace_may_be_read() {
        for path in [
            "a",
            "-",
            ".",
            "./a",
            "src/main.rs",
            "a b",
            "/work",
            "/work/a",
            "/tmp/x",
            "/dev/null",
            ".github/workflows/ci.yml",
            ".gitignore",
            ".prettierrc",
            ".eslintrc.cjs",
            "web/.storybook/main.ts",
            ".husky/pre-commit",
            ".rubocop.yml",
            "a..b",
            "...",
        ] {
            // Three dots are a name like any other, but it starts with a dot.
            assert_eq!(check_read(path).is_ok(), path != "...", "{path}");
        }
    }

    #[test]
    fn nothing_else_may() {
        for path in [
            "",
            "/",
            "/etc/passwd",
            "/proc/1/environ",
            "/sys",
            "/dev/zero",
            "/dev/nullx",
            "/workshop",
            "..",
            "a/../b",
            "/work/../etc",
            "../x",
            ".git/config",
            ".ssh/id_rsa",
            ".env",
            "a/.netrc",
            "a\nb",
            "http://x/y",
            ".GIT/config",
            "@args",
            ".cargo/credentials",
            ".cargo/credentials.toml",
            "/work/.cargo//./credentials.toml",
            ".npmrc",
            ".npmrc.json",
            ".envrc",
            ".env.js",
            ".env.local",
            ".yarnrc.yml",
            ".eslintrc.json.bak",
            ".eslintrc.json.js",
            ".prettierrc.sh",
            ".config/gh/hosts.yml",
            ".json",
            ".github/.env",
        ] {
            assert!(check_read(path).is_err(), "{path}");
        }
        assert!(check_read(".cargo/config.toml").is_ok());
        assert!(check_read("src/credentials.rs").is_ok());
    }

    #[test]
    fn what_is_copied_has_a_name() {
        for path in ["a", "a/b", "a/", ".github", "/dev/null", "-"] {
            assert!(check_source(path).is_ok(), "{path}");
        }
        for path in [".", "./", "a/.", "a/./", "a//.//", "/work/.", ".env", "../a"] {
            assert!(check_source(path).is_err(), "{path}");
        }
    }

    #[test]
    fn writing_keeps_away_from_settings_and_whole_folders() {
        for path in ["a", "a/b", ".", "./a", "/work/a", "/tmp/x/y"] {
            assert!(check_write(path).is_ok(), "{path}");
        }
        for path in [
            "/",
            "/work",
            "/work/",
            "/tmp",
            "/tmp/.",
            "/work/./",
            ".bashrc",
            "a/.github",
            ".gitignore",
            "../a",
            "/etc/x",
            "/dev/null",
        ] {
            assert!(check_write(path).is_err(), "{path}");
        }
    }

    #[test]
    fn archives_stay_on_this_machine() {
        assert!(check_archive("a.tar").is_ok());
        assert!(check_archive("host:a.tar").is_err());
        assert!(check_archive("/etc/a.tar").is_err());
    }

    #[test]
    fn names_are_no_way_out() {
        for name in
            ["HEAD~2", "main..feature", "HEAD:src/a.rs", "src", "v1.0", "a@b", "HEAD^", "stash@{0}"]
        {
            assert!(check_name(name).is_ok(), "{name}");
        }
        for name in [
            "",
            "/etc",
            "-x",
            "../a",
            "a/../b",
            "HEAD:../x",
            "ext::sh",
            "http://x",
            "~x",
            ".git/x",
            "a\nb",
            "@x",
        ] {
            assert!(check_name(name).is_err(), "{name}");
        }
    }
}
