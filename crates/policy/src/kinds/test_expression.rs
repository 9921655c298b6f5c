//! The words of `test`: file checks and comparisons. `-v` and `-R` are missing on purpose, they
//! evaluate an array subscript, and with it any command inside.

const OPERATORS: &[&str] = &[
    "!", "=", "==", "!=", "-a", "-o", "-b", "-c", "-d", "-e", "-f", "-g", "-h", "-k", "-p", "-r",
    "-s", "-u", "-w", "-x", "-L", "-N", "-O", "-G", "-S", "-n", "-z", "-eq", "-ne", "-lt", "-le",
    "-gt", "-ge", "-nt", "-ot", "-ef",
];

/// Checks one word: an operator, a plain text, or a path inside the workspace.
pub(super) fn check(word: &str) -> Result<(), String> {
    if OPERATORS.contains(&word) || word.is_empty() {
        return Ok(());
    }
    if word.starts_with('-') && word.parse::<i64>().is_err() {
        return Err("that is no test it knows".into());
    }
    super::path::check_read(word)
}

#[cfg(test)]
mod tests {
    use super::check;

    #[test]
    fn variables_are_not_tested() {
        for good in ["-f", "a.txt", "", "=", "!", "-5", "x y"] {
            assert!(check(good).is_ok(), "{good}");
        }
        for bad in ["-v", "-R", "-t", "/etc/shadow", "../x", "-foo"] {
            assert!(check(bad).is_err(), "{bad}");
        }
    }
}
