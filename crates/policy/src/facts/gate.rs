//! The input gate: what is refused before anybody tries to understand it.
//!
//! Everything here is about bytes and characters. What passes is still only text.

use crate::unclear::{Clear, refuse};

/// Longest script that is looked at, in bytes.
const MAX_BYTES: usize = 16 * 1024;

/// Checks a script character by character.
pub(crate) fn check(command: &str) -> Clear<()> {
    if command.len() > MAX_BYTES {
        return refuse("it is longer than 16 KiB");
    }
    match command.chars().find(|c| is_deceptive(*c)) {
        None => Ok(()),
        Some(c) => refuse(format!(
            "it contains the character U+{:04X}, which people cannot see or may misread",
            u32::from(c)
        )),
    }
}

/// Control characters, blanks that are no blanks to the shell, and everything that is invisible or
/// turns the direction of the text around: what a reviewer reads must be what bash reads.
fn is_deceptive(c: char) -> bool {
    let control = c.is_control() && c != '\n';
    let odd_blank = c.is_whitespace() && !matches!(c, ' ' | '\n');
    control || odd_blank || is_invisible(c)
}

fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{00ad}' | '\u{034f}' | '\u{061c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}'
        | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{2800}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}'
        | '\u{ffa0}' | '\u{fff0}'..='\u{ffff}' | '\u{1d173}'..='\u{1d17a}'
        | '\u{13430}'..='\u{13455}' | '\u{1bca0}'..='\u{1bca3}'
        | '\u{e000}'..='\u{f8ff}' | '\u{e0000}'..='\u{10ffff}')
}

/// Whether a working directory is an ordinary path inside the sandbox's own folders.
pub(crate) fn is_plain_cwd(path: &str) -> bool {
    let below = |root: &str| {
        path.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let ordinary = |part: &str| part != ".." && !part.eq_ignore_ascii_case(".git");
    (below("/work") || below("/tmp"))
        && !path.chars().any(|c| c.is_control() || is_deceptive(c))
        && path.split('/').all(ordinary)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_reviewer_cannot_see_is_refused() {
        for c in ['\0', '\t', '\r', '\u{b}', '\u{c}', '\u{1b}', '\u{7f}', '\u{85}'] {
            assert!(check(&format!("ls {c}x")).is_err(), "{c:?}");
        }
        for c in [
            '\u{a0}',
            '\u{200b}',
            '\u{202e}',
            '\u{2066}',
            '\u{3000}',
            '\u{feff}',
            '\u{e0041}',
            '\u{1bca0}',
        ] {
            assert!(check(&format!("echo '{c}'")).is_err(), "{c:?}");
        }
        for text in ["ls", "echo 'grüße 你好'", "ls\npwd"] {
            assert!(check(text).is_ok(), "{text:?}");
        }
    }

    #[test]
    fn the_length_limit_is_exact() {
        assert!(check(&"a".repeat(MAX_BYTES)).is_ok());
        assert!(check(&"a".repeat(MAX_BYTES + 1)).is_err());
    }

    #[test]
    fn only_the_sandboxs_own_folders_are_plain() {
        for cwd in ["/work", "/work/", "/work/src", "/tmp", "/tmp/a b"] {
            assert!(is_plain_cwd(cwd), "{cwd}");
        }
        for cwd in
            ["", "/", "/workshop", "/work/../etc", "work", "/work/.git", "/work/a\nb", "/tmpfoo"]
        {
            assert!(!is_plain_cwd(cwd), "{cwd}");
        }
    }
}
