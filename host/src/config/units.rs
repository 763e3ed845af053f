//! Sizes, rates and durations as people write them: `64KiB`, `8MiB`, `10MiB/s`, `50ms`, `2m`.

use std::time::Duration;

use thiserror::Error;

/// Reads `65536`, `64KiB`, `8MiB` or `1GiB`. Zero is refused, and so is what could mean powers of ten.
pub fn parse_size(text: &str) -> Result<usize, UnitError> {
    let (digits, unit) = split(text);
    let scale = match unit {
        "" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return Err(refused_size(text, digits, unit)),
    };
    let count: usize = digits.parse().map_err(|_| UnitError::Size(text.into()))?;
    match count.checked_mul(scale) {
        Some(0) => Err(UnitError::Zero(text.into())),
        Some(bytes) => Ok(bytes),
        None => Err(UnitError::TooLarge(text.into())),
    }
}

/// Reads `65536/s` or `10MiB/s`: as [`parse_size`], in a second.
pub fn parse_per_second(text: &str) -> Result<u64, UnitError> {
    let size = text.strip_suffix("/s").ok_or_else(|| UnitError::PerSecond(text.into()))?;
    Ok(parse_size(size)? as u64)
}

/// Reads `500us`, `50ms`, `1s`, `2m` or `1h`. Zero is refused, and so is a number without a unit.
pub fn parse_duration(text: &str) -> Result<Duration, UnitError> {
    let (digits, unit) = split(text);
    let nanos: u64 = match unit {
        "us" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return Err(UnitError::Duration(text.into())),
    };
    let count: u64 = digits.parse().map_err(|_| UnitError::Duration(text.into()))?;
    match count.checked_mul(nanos) {
        Some(0) => Err(UnitError::Zero(text.into())),
        Some(nanos) => Ok(Duration::from_nanos(nanos)),
        None => Err(UnitError::TooLarge(text.into())),
    }
}

/// As [`parse_size`] reads it, in the largest unit that it is whole in.
pub fn show_size(bytes: u64) -> String {
    let units = [(30, "GiB"), (20, "MiB"), (10, "KiB")];
    let whole = units.iter().find(|(shift, _)| bytes != 0 && bytes.is_multiple_of(1 << shift));
    whole.map_or_else(|| bytes.to_string(), |(shift, unit)| format!("{}{unit}", bytes >> shift))
}

/// As [`parse_duration`] reads it, in the largest unit that it is whole in, with what is below a microsecond rounded up.
pub fn show_duration(time: Duration) -> String {
    let micros = time.as_nanos().div_ceil(1000);
    let units = [(3_600_000_000, "h"), (60_000_000, "m"), (1_000_000, "s"), (1_000, "ms")];
    let whole = units.iter().find(|(unit, _)| micros != 0 && micros.is_multiple_of(*unit));
    whole.map_or_else(|| format!("{micros}us"), |(unit, name)| format!("{}{name}", micros / unit))
}

/// Why a size or duration could not be read. Each says what to write instead.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum UnitError {
    /// Not a size at all.
    #[error("`{0}` is not a size: write whole bytes, or KiB, MiB or GiB, as in `64KiB` or `8MiB`")]
    Size(String),
    /// Not so many bytes a second.
    #[error("`{0}` is no rate: write a size and `/s`, as in `512KiB/s` or `10MiB/s`")]
    PerSecond(String),
    /// `M`, `MB` and the like mean powers of two to some and of ten to others.
    #[error("`{text}` could mean powers of ten or of two: write `{meant}`")]
    Ambiguous {
        /// What was given.
        text: String,
        /// The nearest clear form.
        meant: String,
    },
    /// Not a duration at all.
    #[error("`{0}` is not a duration: write a whole number and us, ms, s, m or h, as in `50ms` or `1s`")]
    Duration(String),
    /// Zero would refuse or end everything.
    #[error("`{0}` is zero, which nothing can run with")]
    Zero(String),
    /// Beyond what this machine can count.
    #[error("`{0}` is too large")]
    TooLarge(String),
}

fn split(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text.split_at(end)
}

fn refused_size(text: &str, digits: &str, unit: &str) -> UnitError {
    let clear = match unit.to_ascii_lowercase().as_str() {
        "k" | "kb" | "kib" => "KiB",
        "m" | "mb" | "mib" => "MiB",
        "g" | "gb" | "gib" => "GiB",
        _ => return UnitError::Size(text.into()),
    };
    if digits.is_empty() {
        return UnitError::Size(text.into());
    }
    UnitError::Ambiguous { text: text.into(), meant: format!("{digits}{clear}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_is_read_as_it_was() {
        for bytes in [1, 1023, 1 << 10, 3 << 20, 5 << 30, (1 << 20) + 1] {
            assert_eq!(parse_size(&show_size(bytes)), Ok(bytes as usize));
        }
        for (micros, text) in [(1, "1us"), (50_000, "50ms"), (1_500_000, "1500ms"), (120_000_000, "2m")] {
            let time = Duration::from_micros(micros);
            assert_eq!((show_duration(time).as_str(), parse_duration(text)), (text, Ok(time)));
        }
        assert_eq!(show_size(3 << 20), "3MiB");
    }

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("1", 1),
            ("65536", 65_536),
            ("64KiB", 65_536),
            ("8MiB", 8_388_608),
            ("2GiB", 2_147_483_648),
            ("007KiB", 7_168),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn refused_sizes_say_what_to_write() {
        for (text, says) in [
            ("512M", "write `512MiB`"),
            ("512MB", "write `512MiB`"),
            ("512mib", "write `512MiB`"),
            ("1k", "write `1KiB`"),
            ("3gb", "write `3GiB`"),
            ("", "is not a size"),
            ("MiB", "is not a size"),
            ("M", "is not a size"),
            ("1.5MiB", "is not a size"),
            ("-1", "is not a size"),
            ("+1", "is not a size"),
            (" 1", "is not a size"),
            ("8 MiB", "is not a size"),
            ("1TiB", "is not a size"),
            ("٣MiB", "is not a size"),
            ("0", "is zero"),
            ("0MiB", "is zero"),
            ("18446744073709551615KiB", "too large"),
        ] {
            let error = parse_size(text).expect_err(text).to_string();
            assert!(error.contains(says), "{text}: {error}");
        }
    }

    #[test]
    fn rates() {
        assert_eq!(parse_per_second("10MiB/s"), Ok(10 << 20));
        assert_eq!(parse_per_second("1500/s"), Ok(1500));
        for (text, says) in
            [("10MiB", "`/s`"), ("10MB/s", "write `10MiB`"), ("/s", "not a size"), ("0/s", "zero")]
        {
            let error = parse_per_second(text).expect_err(text).to_string();
            assert!(error.contains(says), "{text}: {error}");
        }
    }

    #[test]
    fn durations() {
        for (text, millis) in [("50ms", 50), ("1s", 1_000), ("2m", 120_000), ("1h", 3_600_000), ("5000us", 5)]
        {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn refused_durations_say_what_to_write() {
        for (text, says) in [
            ("50", "is not a duration"),
            ("1.5s", "is not a duration"),
            ("s", "is not a duration"),
            ("", "is not a duration"),
            ("1 s", "is not a duration"),
            ("1min", "is not a duration"),
            ("-1s", "is not a duration"),
            ("0ms", "is zero"),
            ("99999999999999h", "too large"),
        ] {
            let error = parse_duration(text).expect_err(text).to_string();
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}
