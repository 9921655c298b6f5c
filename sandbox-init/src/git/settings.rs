//! The settings of a repository, read more strictly than git does: what is not plain is refused, and
//! so is every setting that is not known to run nothing.

use protocol::checks::Unfit;

/// Settings that run nothing and lead nowhere, `*` for any name.
const HARMLESS: &[&str] = &[
    "core.repositoryformatversion",
    "core.filemode",
    "core.bare",
    "core.logallrefupdates",
    "core.ignorecase",
    "core.precomposeunicode",
    "core.symlinks",
    "core.autocrlf",
    "core.safecrlf",
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
    "submodule.active",
];

/// Checks the text of a repository's settings.
///
/// # Errors
/// When a setting is not known to be harmless, or the text is not plain.
pub(super) fn check(text: &[u8]) -> Result<(), Unfit> {
    let text = std::str::from_utf8(text).map_err(|_| Unfit::Unreadable)?;
    let mut section: Option<String> = None;
    for line in text.split('\n') {
        // A line that goes on in the next one would make a name of what is a value, and a carriage
        // return is a space or the end of a line, depending on what follows.
        if line.ends_with('\\') || line.contains(|c: char| c.is_control() && c != '\t') {
            return Err(Unfit::Unreadable);
        }
        let line = line.trim_matches([' ', '\t']);
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        if let Some(rest) = line.strip_prefix('[') {
            section = Some(read_section(rest).ok_or(Unfit::Unreadable)?);
            continue;
        }
        let name = read_name(line).ok_or(Unfit::Unreadable)?;
        let section = section.as_deref().ok_or(Unfit::Unreadable)?;
        if !is_harmless(&format!("{section}.{name}")) {
            return Err(Unfit::Setting);
        }
    }
    Ok(())
}

/// `core]`, `a.b]` or `remote "origin"]`, and nothing behind it.
fn read_section(rest: &str) -> Option<String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
    let head = rest.strip_suffix(']')?;
    let Some((name, quoted)) = head.split_once([' ', '\t']) else {
        return (!head.is_empty() && head.chars().all(plain)).then(|| head.to_owned());
    };
    let sub = quoted.trim_start_matches([' ', '\t']).strip_prefix('"')?.strip_suffix('"')?;
    let is_plain = !name.is_empty() && name.chars().all(plain) && !sub.contains(['"', '\\']);
    is_plain.then(|| format!("{name}.{sub}"))
}

/// The name in `name`, `name = value`.
fn read_name(line: &str) -> Option<&str> {
    let end = line.find(|c: char| !c.is_ascii_alphanumeric() && c != '-').unwrap_or(line.len());
    let (name, rest) = line.split_at(end);
    let rest = rest.trim_start_matches([' ', '\t']);
    let starts_right = name.starts_with(|c: char| c.is_ascii_alphabetic());
    (starts_right && (rest.is_empty() || rest.starts_with('='))).then_some(name)
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
        let text = "[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = false\n\
            # a comment\n[remote \"origin\"]\n\turl = https://example.com/x.git ; there\n\
            \tfetch = +refs/heads/*:refs/remotes/origin/*\n[branch \"feature/x\"]\n\
            \tmerge = \"refs/heads/feature/x\"\n[user]\nname = Ada\n  email\n";
        assert_eq!(check(text.as_bytes()), Ok(()));
        assert_eq!(check(b""), Ok(()));
    }

    #[test]
    fn what_runs_programs_or_leads_elsewhere_does_not() {
        for (section, name) in [
            ("diff", "external"),
            ("diff \"x\"", "command"),
            ("diff \"x\"", "textconv"),
            ("diff.x", "textconv"),
            ("DIFF \"x\"", "TextConv"),
            ("filter \"x\"", "clean"),
            ("filter \"x\"", "smudge"),
            ("filter \"x\"", "process"),
            ("include", "path"),
            ("includeIf \"gitdir:x\"", "path"),
            ("gpg", "program"),
            ("core", "fsmonitor"),
            ("core", "hooksPath"),
            ("core", "pager"),
            ("core", "sshCommand"),
            ("core", "editor"),
            ("core", "worktree"),
            ("core", "attributesFile"),
            ("core", "alternateRefsCommand"),
            ("core", "gitProxy"),
            ("alias", "status"),
            ("pager", "log"),
            ("credential", "helper"),
            ("extensions", "worktreeConfig"),
            ("extensions", "partialClone"),
            ("extensions", "objectFormat"),
            ("extensions", "refStorage"),
            ("remote \"x\"", "uploadpack"),
            ("remote \"x\"", "vcs"),
            ("remote \"x\"", "promisor"),
            ("url \"ext::sh\"", "insteadOf"),
            ("merge \"x\"", "driver"),
            ("submodule \"x\"", "update"),
            ("trailer \"x\"", "command"),
            ("blame", "ignoreRevsFile"),
            ("mailmap", "file"),
            ("unknown", "x"),
        ] {
            let text = format!("[core]\n\tbare = false\n[{section}]\n\t{name} = x\n");
            assert_eq!(check(text.as_bytes()), Err(Unfit::Setting), "{section} {name}");
        }
    }

    #[test]
    fn what_git_would_read_otherwise_is_refused() {
        for text in [
            "[user]\n\tname = a\\\n[diff]\n\texternal = x\n",
            "[user] name = x\n",
            "[user][diff]\n\texternal = x\n",
            "[user]\r\n\tname = x\r\n",
            "[user]\n\tname = x\rexternal = y\n",
            "\u{feff}[user]\n\tname = x\n",
            "[user \"a\\\"b\"]\n\tname = x\n",
            "[user \"a\" ]\n\tname = x\n",
            "[user \"\"x\"]\n\tname = x\n",
            "[us er]\n\tname = x\n",
            "[]\n\tname = x\n",
            "[ \"x\"]\n\tname = x\n",
            "[user]\n\tname : x\n",
            "[user]\n\t1name = x\n",
            "[user]\n\tna_me = x\n",
            "name = x\n",
            "[user]\n\tname = a\0b\n",
        ] {
            assert_eq!(check(text.as_bytes()), Err(Unfit::Unreadable), "{text:?}");
        }
        assert_eq!(check(b"[user]\n\tname = \xff\n"), Err(Unfit::Unreadable));
    }

    #[test]
    fn a_star_stands_for_a_name() {
        assert!(is_harmless("remote.origin.url"));
        assert!(is_harmless("advice.x"));
        assert!(!is_harmless("remote..url") && !is_harmless("remote.url"));
        assert!(!is_harmless("advice."));
        assert!(!is_harmless("xremote.a.url") && !is_harmless("remote.a.urlx"));
    }
}
