//! Formats of git: of commits, of branches and tags, of dates. What is not a known placeholder is
//! refused: `%G` and `%(signature)` run gpg, and a bare word may be a name from the configuration.

type Checked = Result<(), String>;

/// Formats that git itself names; the configuration cannot change their meaning.
const BUILT_IN: &[&str] =
    &["oneline", "short", "medium", "full", "fuller", "reference", "email", "mboxrd", "raw"];

/// Placeholders of one commit, without their `%`.
const OF_COMMITS: &[&str] = &[
    "H", "h", "T", "t", "P", "p", "an", "aN", "ae", "aE", "al", "aL", "ad", "aD", "ar", "at", "ai",
    "aI", "as", "ah", "cn", "cN", "ce", "cE", "cl", "cL", "cd", "cD", "cr", "ct", "ci", "cI", "cs",
    "ch", "d", "D", "S", "e", "s", "f", "b", "B", "N", "n", "m", "gD", "gd", "gn", "gN", "ge",
    "gE", "gs", "%", "Cred", "Cgreen", "Cblue", "Creset",
];

/// Fields of branches and tags, as `%(name)` has them, without what stands behind a colon.
const OF_REFS: &[&str] = &[
    "refname",
    "objectname",
    "objecttype",
    "objectsize",
    "tree",
    "parent",
    "upstream",
    "push",
    "HEAD",
    "subject",
    "body",
    "contents",
    "author",
    "authorname",
    "authoremail",
    "authordate",
    "committer",
    "committername",
    "committeremail",
    "committerdate",
    "tagger",
    "taggername",
    "taggeremail",
    "taggerdate",
    "creator",
    "creatordate",
    "symref",
    "numparent",
    "if",
    "then",
    "else",
    "end",
    "align",
    "color",
    "worktreepath",
];

/// What may stand behind the colon of such a field; `contents:signature` only prints, but is left out.
const MODIFIERS: &[&str] = &[
    "",
    "short",
    "track",
    "trackshort",
    "remotename",
    "relative",
    "local",
    "iso",
    "iso8601",
    "iso-strict",
    "rfc",
    "rfc2822",
    "unix",
    "raw",
    "human",
    "default",
    "subject",
    "body",
    "lines=1",
    "lstrip=1",
    "lstrip=2",
    "lstrip=3",
    "strip=2",
    "strip=3",
    "trim",
    "localpart",
    "red",
    "green",
    "yellow",
    "blue",
    "magenta",
    "cyan",
    "reset",
    "left",
    "right",
];

const DATES: &[&str] = &[
    "relative",
    "local",
    "iso",
    "iso8601",
    "iso-strict",
    "iso8601-strict",
    "rfc",
    "rfc2822",
    "short",
    "raw",
    "unix",
    "human",
    "default",
];

/// `--format` of log and show: a name of git's own, or text with placeholders.
pub(super) fn check_format(value: &str) -> Checked {
    let format = value.strip_prefix("format:").or_else(|| value.strip_prefix("tformat:"));
    if format.is_none() && !value.is_empty() && !value.contains('%') {
        return match BUILT_IN.contains(&value) {
            true => Ok(()),
            false => Err("that is a name from the configuration, or none".into()),
        };
    }
    let mut rest = format.unwrap_or(value);
    while let Some(at) = rest.find('%') {
        let behind = &rest[at + 1..];
        let length = placeholder(behind).ok_or_else(|| {
            let shown: String = behind.chars().take(3).collect();
            format!("`%{shown}` is no placeholder that it knows")
        })?;
        rest = &behind[length..];
    }
    Ok(())
}

/// How long the placeholder is that begins here, behind its `%`.
fn placeholder(text: &str) -> Option<usize> {
    // `%+s` and its like add a newline or a blank where the value is not empty.
    let bare = text.strip_prefix(['+', '-', ' ']).unwrap_or(text);
    let sign = text.len() - bare.len();
    if let Some(hex) = bare.strip_prefix('x') {
        let digits = hex.as_bytes().get(..2)?;
        return digits.iter().all(u8::is_ascii_hexdigit).then_some(sign + 3);
    }
    for (opening, allowed) in [
        ("C(", "abcdefghijklmnopqrstuvwxyz0123456789#, "),
        ("w(", "0123456789,"),
        ("<(", "0123456789,lmtrunc"),
        ("<|(", "0123456789,lmtrunc"),
        (">(", "0123456789,lmtrunc"),
        (">>(", "0123456789,lmtrunc"),
        ("><(", "0123456789,lmtrunc"),
    ] {
        if let Some(inside) = bare.strip_prefix(opening) {
            let end = inside.find(')').filter(|end| *end <= 30)?;
            let plain = inside[..end].chars().all(|c| allowed.contains(c));
            return plain.then_some(sign + opening.len() + end + 1);
        }
    }
    let longest = OF_COMMITS.iter().filter(|known| bare.starts_with(**known));
    longest.map(|known| sign + known.len()).max()
}

/// `--format` of branch, tag and for-each-ref: `%(refname:short)`.
pub(super) fn check_ref_format(value: &str) -> Checked {
    let mut rest = value;
    while let Some(at) = rest.find('%') {
        let behind = &rest[at + 1..];
        if let Some(after) = behind.strip_prefix('%') {
            rest = after;
            continue;
        }
        let field = behind.strip_prefix('(').and_then(|field| field.split_once(')'));
        let Some((field, after)) = field else {
            return Err("a `%` has no field behind it".into());
        };
        let (name, modifier) = field.split_once(':').unwrap_or((field, ""));
        let known = OF_REFS.contains(&name.strip_prefix('*').unwrap_or(name))
            && modifier.split(',').all(|modifier| MODIFIERS.contains(&modifier));
        if !known {
            return Err(format!("`%({field})` is no field that it knows"));
        }
        rest = after;
    }
    Ok(())
}

/// `--date`: a name, or a format for strftime.
pub(super) fn check_date(value: &str) -> Checked {
    let plain = |c: char| c.is_ascii_alphanumeric() || " %-/:,._+".contains(c);
    let own = value.strip_prefix("format:").or_else(|| value.strip_prefix("format-local:"));
    let known = match own {
        Some(format) => format.len() <= 100 && format.chars().all(plain),
        None => DATES.contains(&value.strip_suffix("-local").unwrap_or(value)),
    };
    if known { Ok(()) } else { Err("that is no format of dates that it knows".into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_print_and_run_nothing() {
        for good in [
            "",
            "oneline",
            "%h %s",
            "format:%h - %an, %ar : %s",
            "tformat:%H",
            "format:",
            "%C(yellow)%h%Creset %C(bold blue)%d%C(auto)",
            "%<(20,trunc)%an %>(8)%h %w(72,0,2)%b",
            "%x09%x1f",
            "%+b%-d% s",
            "100%%",
            "%cs %gd %aE GREAT",
        ] {
            assert!(check_format(good).is_ok(), "{good}: {:?}", check_format(good));
        }
        for bad in [
            "mine",
            "%G?",
            "%GG",
            "%+G?",
            "%-GS",
            "% GK",
            "format:%G?",
            "%(describe)",
            "%(trailers)",
            "%",
            "%x4",
            "%xzz",
            "%C(yellow",
            "%w(1;2)",
            "%<(5,G?)",
            "%Z",
            "%(signature)",
            "%C(%G?)",
        ] {
            assert!(check_format(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn fields_of_branches_print_and_run_nothing() {
        for good in [
            "%(refname:short)",
            "%(committerdate:relative) %(authorname)",
            "%(upstream:track,nobracket)",
            "%(*objectname:short) 100%%",
            "%(if)%(HEAD)%(then)* %(end)%(color:red)x%(color:reset)",
            "plain",
        ] {
            let known = !good.contains("nobracket");
            assert_eq!(check_ref_format(good).is_ok(), known, "{good}");
        }
        for bad in [
            "%(signature)",
            "%(signature:grade)",
            "%(contents:signature)",
            "%(raw)",
            "%(trailers)",
            "%(describe)",
            "%",
            "%h",
            "%(refname",
            "%(refname:lstrip=-99)",
            "%(*signature)",
            "%(is-base:x)",
        ] {
            assert!(check_ref_format(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn dates_are_named_or_plain() {
        for good in
            ["iso", "short", "relative", "iso-local", "format:%Y-%m-%d %H:%M", "format-local:%s"]
        {
            assert!(check_date(good).is_ok(), "{good}");
        }
        for bad in ["", "mine", "format:$x", "auto:format", "format:\n", "-local"] {
            assert!(check_date(bad).is_err(), "{bad}");
        }
    }
}
