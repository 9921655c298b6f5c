//! Small kinds: numbers, sizes, durations, ranges, formats. Anything but the plain form is refused.

type Checked = Result<(), String>;

/// Longest time that a command may be told to wait, in seconds.
const MAX_WAIT_S: f64 = 3600.0;

pub(super) fn check_number(value: &str) -> Checked {
    let plain = !value.is_empty() && value.len() <= 12 && value.bytes().all(|b| b.is_ascii_digit());
    expect(plain, "it needs a plain number")
}

pub(super) fn check_signed(value: &str) -> Checked {
    let digits = value.strip_prefix(['-', '+']).unwrap_or(value);
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
    let plain = |part: &str| check_number(part).is_ok();
    expect(plain(whole) && plain(fraction), "it needs a plain number")
}

/// A number with a unit; find writes `+10k`, du `50%`.
pub(super) fn check_size(value: &str) -> Checked {
    let digits = value.strip_prefix(['-', '+']).unwrap_or(value);
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    let (number, unit) = digits.split_at(end);
    let known = unit.len() <= 3 && unit.bytes().all(|b| b"bcwkKmMgGtTPEiB%".contains(&b));
    expect(check_number(number).is_ok() && known, "it needs a number with a unit")
}

pub(super) fn check_duration(value: &str) -> Checked {
    let (number, unit) = match value.strip_suffix(['s', 'm', 'h']) {
        Some(number) => (number, &value[number.len()..]),
        None => (value, "s"),
    };
    let seconds = match unit {
        "m" => 60.0,
        "h" => 3600.0,
        _ => 1.0,
    };
    let plain = number.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let time = number.parse::<f64>().ok().filter(|_| plain).map(|number| number * seconds);
    expect(time.is_some_and(|time| time <= MAX_WAIT_S), "it needs a time of at most an hour")
}

pub(super) fn check_ranges(value: &str) -> Checked {
    let plain =
        !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit() || b"-,".contains(&b));
    expect(plain, "it needs numbers and ranges such as 1,3-5")
}

/// `+%Y-%m-%d`: date without the `+` would set the clock.
pub(super) fn check_date(value: &str) -> Checked {
    expect(value.starts_with('+'), "a format starts with `+`, anything else sets the clock")
}

/// `name=value` where the name means nothing to awk itself except for its separators.
pub(super) fn check_assignment(value: &str) -> Checked {
    const SPECIAL: &[&str] = &["FS", "OFS", "RS", "ORS"];
    let Some((name, _)) = value.split_once('=') else {
        return expect(false, "it needs NAME=value");
    };
    let plain = !name.is_empty()
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
        && !name.starts_with(|c: char| c.is_ascii_digit());
    expect(plain || SPECIAL.contains(&name), "that is no plain variable")
}

pub(super) fn check_word(value: &str) -> Checked {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"_-.".contains(&b);
    let starts_well = value.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
    expect(starts_well && value.bytes().all(plain), "that is no plain word")
}

/// `feature/x`: words joined by slashes, so neither a path out of here nor an address.
pub(super) fn check_ref(value: &str) -> Checked {
    let parts = value.split('/').all(|part| check_word(part).is_ok() && !part.contains(".."));
    expect(parts, "that is no plain name of a branch or tag")
}

fn expect(holds: bool, otherwise: &str) -> Checked {
    if holds { Ok(()) } else { Err(otherwise.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_forms_pass_and_others_do_not() {
        assert!(check_number("12").is_ok());
        for bad in ["", "-1", "1a", "0x1", "9999999999999"] {
            assert!(check_number(bad).is_err(), "{bad}");
        }
        for good in ["-5", "+5", "1.5", "0"] {
            assert!(check_signed(good).is_ok(), "{good}");
        }
        for bad in ["", "-", "1.", "--1", "1.2.3", "1e5"] {
            assert!(check_signed(bad).is_err(), "{bad}");
        }
        for good in ["10", "10k", "+1M", "50%", "4KiB"] {
            assert!(check_size(good).is_ok(), "{good}");
        }
        for bad in ["", "k", "10x", "10kkkk", "1 k"] {
            assert!(check_size(bad).is_err(), "{bad}");
        }
        for good in ["5", "0.5", "5s", "2m", "1h"] {
            assert!(check_duration(good).is_ok(), "{good}");
        }
        for bad in ["", "inf", "nan", "1e9", "2h", "-1", "5d", "."] {
            assert!(check_duration(bad).is_err(), "{bad}");
        }
        assert!(check_ranges("1,3-5").is_ok() && check_ranges("a").is_err());
        assert!(check_date("+%F").is_ok() && check_date("01010000").is_err());
        for good in ["n=5", "FS=:", "x_1="] {
            assert!(check_assignment(good).is_ok(), "{good}");
        }
        for bad in ["=1", "ENVIRON=1", "n", "1a=2", "a b=1"] {
            assert!(check_assignment(bad).is_err(), "{bad}");
        }
    }
}
