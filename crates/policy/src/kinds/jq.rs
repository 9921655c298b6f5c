//! jq filters that read nothing but their input. jq can neither write nor execute; what is left to
//! refuse is reading the environment and other files.

/// Words that read something other than the input.
const READERS: &[&str] = &[
    "env",
    "ENV",
    "import",
    "include",
    "modulemeta",
    "get_search_list",
    "input_filename",
    "__prog_args",
    "getpath_env",
    "halt_error",
    "debug",
    "stderr",
];

/// Checks a filter.
pub(super) fn check(filter: &str) -> Result<(), String> {
    if filter.starts_with('-') {
        return Err("it reads as an option".into());
    }
    let mut before = "";
    let mut rest = filter;
    while let Some(start) = rest.find(is_word) {
        let tail = &rest[start..];
        let end = tail.find(|c| !is_word(c)).unwrap_or(tail.len());
        let word = &tail[..end];
        before = if start == 0 { before } else { &rest[..start] };
        // `.env` is a field of the input, and so is `."env"`.
        let is_field = before.ends_with('.') && !before.ends_with("..");
        if READERS.contains(&word) && !is_field {
            return Err(format!("`{word}` reads or writes more than the input"));
        }
        rest = &tail[end..];
        before = "";
    }
    Ok(())
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

#[cfg(test)]
mod tests {
    use super::check;

    #[test]
    fn only_the_input_is_read() {
        for good in
            [".", ".a.b[0]", ".env", ".items[] | .env.name", "map(select(.x > 1)) | length", "keys"]
        {
            assert!(check(good).is_ok(), "{good}");
        }
        for bad in [
            "env",
            "$ENV",
            "$ENV.PATH",
            "\"\\(env)\"",
            "import \"a\" as a; .",
            "include \"x\";",
            ". | env",
            "..env",
            "-n",
            "input_filename",
            "[env]",
            "$__prog_args",
            ".a|debug",
        ] {
            assert!(check(bad).is_err(), "{bad}");
        }
    }
}
