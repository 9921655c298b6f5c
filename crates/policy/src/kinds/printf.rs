//! printf's format: plain conversions only. `%n` would assign a shell variable.

/// Checks a format.
pub(super) fn check(format: &str) -> Result<(), String> {
    if format.starts_with('-') {
        return Err("it reads as an option".into());
    }
    let mut rest = format;
    while let Some(at) = rest.find('%') {
        let tail = rest[at + 1..]
            .trim_start_matches(|c: char| "-+ 0#'.".contains(c) || c.is_ascii_digit());
        let mut chars = tail.chars();
        match chars.next() {
            Some(
                '%' | 's' | 'b' | 'q' | 'd' | 'i' | 'u' | 'x' | 'X' | 'o' | 'c' | 'e' | 'f' | 'g',
            ) => {}
            other => return Err(format!("`%{}` is no plain conversion", other.unwrap_or(' '))),
        }
        rest = chars.as_str();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::check;

    #[test]
    fn plain_conversions_only() {
        for good in ["%s\\n", "a", "", "%5.2f%%", "%-10s|", "%05d"] {
            assert!(check(good).is_ok(), "{good}");
        }
        for bad in ["%n", "-v", "%", "%*d", "%(%F)T", "%ln", "%s %n"] {
            assert!(check(bad).is_err(), "{bad}");
        }
    }
}
