//! Lengths of time as people write them: on the command line and in URLs, by one rule.
//!
//! | written | meant |
//! |---|---|
//! | `250ms`, `30s`, `5m`, `2h`, `7d` | a number and its unit |
//! | `30` | seconds |
//! | `1.5h`, `.5` | decimal fractions |
//! | `1h30m`, `1h 30m` | a sum, the largest unit first |

use alloc::string::String;
use core::fmt;
use core::time::Duration;

const SECOND: u128 = 1_000_000_000;

/// The units, and how many nanoseconds each has.
const UNITS: [(&str, u128); 5] = [
    ("d", 86_400 * SECOND),
    ("h", 3_600 * SECOND),
    ("m", 60 * SECOND),
    ("s", SECOND),
    ("ms", SECOND / 1_000),
];

/// Why a text is no length of time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DurationError {
    /// There is something else where a number should be.
    #[error("not a time; write for example 30s, 5m or 1h30m")]
    NoNumber,
    /// The unit is none of ours. A month is not one; M could be mistaken for a minute.
    #[error("{0:?} is no unit of time (ms, s, m, h and d are); write for example 30s, 5m or 1h30m")]
    Unit(String),
    /// In a sum, a number has no unit, or a unit comes twice or after a smaller one.
    #[error("a sum of times needs a unit for each, the largest first; write for example 1h30m")]
    Order,
    /// More than can be counted.
    #[error("the time is too long; write for example 30s, 5m or 1h30m")]
    TooLong,
}

/// Reads a length of time.
///
/// # Errors
/// [`DurationError`]: what is wrong, with an example.
pub fn parse(text: &str) -> Result<Duration, DurationError> {
    let (mut rest, mut sum, mut units) = (text, 0_u128, &UNITS[..]);
    loop {
        let (number, tail) = split(rest, |c| c.is_ascii_digit() || c == '.');
        let (unit, tail) = split(tail, char::is_alphabetic);
        let tail = tail.trim_start_matches(' ');
        let scale = match unit {
            "" if tail.is_empty() && rest.len() == text.len() => SECOND,
            _ if number.is_empty() => return Err(DurationError::NoNumber),
            "" if tail.is_empty() => return Err(DurationError::Order),
            "" => return Err(DurationError::NoNumber),
            unit => {
                let at = units.iter().position(|(name, _)| *name == unit);
                let Some(at) = at else { return Err(unknown(unit)) };
                let (_, scale) = units[at];
                units = &units[at + 1..];
                scale
            }
        };
        sum = sum.checked_add(scaled(number, scale)?).ok_or(DurationError::TooLong)?;
        rest = tail;
        if rest.is_empty() {
            break;
        }
    }
    let seconds = u64::try_from(sum / SECOND).map_err(|_| DurationError::TooLong)?;
    let nanos = u32::try_from(sum % SECOND).map_err(|_| DurationError::TooLong)?;
    Ok(Duration::new(seconds, nanos))
}

fn split(text: &str, belongs: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(|c| !belongs(c)).unwrap_or(text.len()))
}

fn unknown(unit: &str) -> DurationError {
    if UNITS.iter().any(|(name, _)| *name == unit) {
        return DurationError::Order;
    }
    DurationError::Unit(unit.chars().take(12).collect())
}

/// That many of a unit, in nanoseconds; what is less than one of them is left out.
fn scaled(number: &str, scale: u128) -> Result<u128, DurationError> {
    /// Smaller digits are less than a nanosecond even of days.
    const DIGITS: usize = 18;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() {
        return Err(DurationError::NoNumber);
    }
    if fraction.contains('.') {
        return Err(DurationError::NoNumber);
    }
    let fraction = &fraction[..fraction.len().min(DIGITS)];
    let digits = |text: &str| match text {
        "" => Ok(0),
        text => text.parse::<u64>().map(u128::from).map_err(|_| DurationError::TooLong),
    };
    let parts = 10_u128.pow(u32::try_from(fraction.len()).unwrap_or(0));
    Ok(digits(whole)? * scale + digits(fraction)? * scale / parts)
}

/// A length of time for people: `1h 30m`, to the millisecond.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shown(pub Duration);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut left = self.0.as_nanos();
        let mut between = "";
        for (unit, scale) in UNITS {
            let count = left / scale;
            left %= scale;
            if count > 0 {
                write!(f, "{between}{count}{unit}")?;
                between = " ";
            }
        }
        if between.is_empty() { f.write_str("0s") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;
    use alloc::string::ToString;

    #[test]
    fn times_are_as_people_write_them() {
        let ms = Duration::from_millis;
        for (text, expected) in [
            ("0", ms(0)),
            ("4", ms(4_000)),
            ("10", ms(10_000)),
            ("0.5", ms(500)),
            (".5", ms(500)),
            ("5.", ms(5_000)),
            ("1.25", ms(1_250)),
            ("250ms", ms(250)),
            ("0.5ms", Duration::from_micros(500)),
            ("30s", ms(30_000)),
            ("1.5s", ms(1_500)),
            ("5m", ms(300_000)),
            ("2h", ms(7_200_000)),
            ("1.5h", ms(5_400_000)),
            ("7d", ms(604_800_000)),
            ("1h30m", ms(5_400_000)),
            ("1h 30m", ms(5_400_000)),
            ("1d2h3m4s5ms", ms(93_784_005)),
            ("0.0000000001", ms(0)),
            ("0.1234567890123456789", Duration::from_nanos(123_456_789)),
            ("18446744073709551615", Duration::from_secs(u64::MAX)),
        ] {
            assert_eq!(parse(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_time_is_an_error_with_an_example() {
        use DurationError::{NoNumber, Order, TooLong};
        let unit = |unit: &str| DurationError::Unit(unit.to_string());
        let long = "9".repeat(40);
        for (text, expected) in [
            ("", NoNumber),
            (" ", NoNumber),
            (".", NoNumber),
            ("1.2.3", NoNumber),
            ("1..2", NoNumber),
            ("-1", NoNumber),
            ("-1s", NoNumber),
            ("+1", NoNumber),
            ("s", NoNumber),
            ("soon", NoNumber),
            ("inf", NoNumber),
            ("nan", NoNumber),
            ("1e3", unit("e")),
            ("5M", unit("M")),
            ("5min", unit("min")),
            ("5sec", unit("sec")),
            ("5S", unit("S")),
            ("5us", unit("us")),
            ("2w", unit("w")),
            ("1y", unit("y")),
            ("5\u{b5}s", unit("\u{b5}s")),
            ("5 s", NoNumber),
            ("30m1h", Order),
            ("5m5m", Order),
            ("1h30", Order),
            ("1h 30", Order),
            ("1 2", NoNumber),
            ("1,5s", NoNumber),
            ("1h-30m", NoNumber),
            ("\u{661}s", NoNumber),
            (&long, TooLong),
            ("18446744073709551616", TooLong),
            ("18446744073709551615m", TooLong),
        ] {
            assert_eq!(parse(text), Err(expected), "{text}");
            let error = format!("{}", parse(text).expect_err(text));
            assert!(error.contains("1h30m") && !error.contains('\n'), "{error}");
        }
        assert_eq!(parse(&("1".to_string() + &"x".repeat(100))), Err(unit(&"x".repeat(12))));
    }

    #[test]
    fn what_is_shown_can_be_read_again() {
        for (text, shown) in [
            ("0", "0s"),
            ("90", "1m 30s"),
            ("250ms", "250ms"),
            ("1.5h", "1h 30m"),
            ("36h", "1d 12h"),
            ("24h", "1d"),
            ("86461.001", "1d 1m 1s 1ms"),
        ] {
            let time = parse(text).expect(text);
            assert_eq!(format!("{}", Shown(time)), shown);
            assert_eq!(parse(shown), Ok(time));
        }
    }
}
