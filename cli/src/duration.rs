//! Durations as people type them: `30s`, `500ms`, `5m`, `2h`.

use std::time::Duration;

/// A text is not a duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected a whole number with a unit, such as 500ms, 30s, 5m or 2h")]
pub struct InvalidDuration;

/// Reads a duration. A number alone is seconds.
///
/// # Errors
/// When there is no number, the unit is unknown, or it is longer than fits.
pub fn parse(text: &str) -> Result<Duration, InvalidDuration> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let number: u64 = number.parse().map_err(|_| InvalidDuration)?;
    let unit_ms = match unit {
        "ms" => 1,
        "" | "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(InvalidDuration),
    };
    number.checked_mul(unit_ms).map(Duration::from_millis).ok_or(InvalidDuration)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_understood() {
        for (text, ms) in [("250ms", 250), ("30s", 30_000), ("5m", 300_000), ("7", 7000)] {
            assert_eq!(parse(text), Ok(Duration::from_millis(ms)));
        }
        assert_eq!(parse("1d"), Ok(Duration::from_secs(86_400)));
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", "s", "-1s", "1.5s", "10 s", "3w", "99999999999999999999s"] {
            assert_eq!(parse(text), Err(InvalidDuration), "{text:?}");
        }
    }
}
