//! Numbers, sizes and durations as people write them, and back.
//!
//! Nothing here knows a setting; ranges are checked by the caller.

use std::time::Duration;

/// Binary first: the first one that divides a number is the one it is shown in.
const UNITS: [(&str, u64); 7] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("B", 1),
];

/// `100000`, `100_000` and `100,000`. Commas only where thousands end: `1,5` is not fifteen.
pub(super) fn parse_count(text: &str) -> Option<u64> {
    let mut groups = text.split(',');
    let first = groups.next()?;
    let grouped = text.contains(',');
    let is_good = (!grouped || first.len() <= 3) && groups.all(|group| group.len() == 3);
    let digits = text.replace([',', '_'], "");
    let is_number = text.starts_with(|c: char| c.is_ascii_digit())
        && text.ends_with(|c: char| c.is_ascii_digit())
        && digits.bytes().all(|byte| byte.is_ascii_digit());
    if is_good && is_number { digits.parse().ok() } else { None }
}

/// `4MiB`, `4 MB`, `4194304`. Units are taken in any case: nobody means millibits.
pub(super) fn parse_size(text: &str) -> Option<u64> {
    let end = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (count, unit) = text.split_at(end);
    let bytes = if unit.is_empty() {
        1
    } else {
        UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit)).map(|(_, bytes)| *bytes)?
    };
    parse_count(count.trim_end())?.checked_mul(bytes)
}

/// In the largest binary unit that divides it.
pub(super) fn show_size(bytes: u64) -> String {
    match UNITS[..3].iter().find(|(_, unit)| bytes != 0 && bytes.is_multiple_of(*unit)) {
        Some((name, unit)) => format!("{}{name}", bytes / unit),
        None => bytes.to_string(),
    }
}

/// `7s`, `5m`, `500ms`, `1m 30s`. Always with a unit: humantime takes a bare `0`, and whoever learns from that writes `7` next.
pub(super) fn parse_duration(text: &str) -> Option<Duration> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    humantime::parse_duration(text).ok()
}

/// The same for durations that are whole seconds.
pub(super) fn parse_seconds(text: &str) -> Option<u32> {
    let duration = parse_duration(text)?;
    if duration.subsec_nanos() == 0 { duration.as_secs().try_into().ok() } else { None }
}

/// In seconds where that is exact: the documentation says `75s`, not `1m 15s`.
pub(super) fn show_duration(duration: Duration) -> String {
    if duration.subsec_nanos() == 0 {
        format!("{}s", duration.as_secs())
    } else {
        humantime::format_duration(duration).to_string()
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("0", Some(0))]
    #[case("100000", Some(100_000))]
    #[case("100,000", Some(100_000))]
    #[case("1,000,000", Some(1_000_000))]
    #[case("100_000", Some(100_000))]
    #[case("18446744073709551615", Some(u64::MAX))]
    #[case("18446744073709551616", None)]
    #[case("1,5", None)]
    #[case("1000,000", None)]
    #[case(",100", None)]
    #[case("100,", None)]
    #[case("_1", None)]
    #[case("-1", None)]
    #[case("+1", None)]
    #[case("1.0", None)]
    #[case(" 1", None)]
    #[case("", None)]
    fn counts(#[case] text: &str, #[case] expected: Option<u64>) {
        assert_eq!(parse_count(text), expected);
    }

    #[rstest]
    #[case("4MiB", Some(4_194_304))]
    #[case("4mib", Some(4_194_304))]
    #[case("4 MiB", Some(4_194_304))]
    #[case("4194304", Some(4_194_304))]
    #[case("4_194_304", Some(4_194_304))]
    #[case("4MB", Some(4_000_000))]
    #[case("12B", Some(12))]
    #[case("4M", None)]
    #[case("MiB", None)]
    #[case("4.5MiB", None)]
    #[case("99999999999GiB", None)]
    #[case("", None)]
    fn sizes(#[case] text: &str, #[case] expected: Option<u64>) {
        assert_eq!(parse_size(text), expected);
    }

    #[rstest]
    #[case(4_194_304, "4MiB")]
    #[case(1_073_741_824, "1GiB")]
    #[case(1_536, "1536")]
    #[case(1_000, "1000")]
    #[case(0, "0")]
    fn sizes_shown(#[case] bytes: u64, #[case] expected: &str) {
        assert_eq!(show_size(bytes), expected);
    }

    #[rstest]
    #[case("7s", Some(7_000))]
    #[case("5m", Some(300_000))]
    #[case("500ms", Some(500))]
    #[case("1m 30s", Some(90_000))]
    #[case("0s", Some(0))]
    #[case("0", None)]
    #[case("7", None)]
    #[case("-7s", None)]
    #[case("s", None)]
    #[case("7 apples", None)]
    #[case("", None)]
    fn durations(#[case] text: &str, #[case] expected_ms: Option<u64>) {
        assert_eq!(parse_duration(text), expected_ms.map(Duration::from_millis));
    }

    #[rstest]
    #[case("7000ms", Some(7))]
    #[case("1500ms", None)]
    #[case("200years", None)]
    fn whole_seconds(#[case] text: &str, #[case] expected: Option<u32>) {
        assert_eq!(parse_seconds(text), expected);
    }

    #[test]
    fn durations_shown() {
        assert_eq!(show_duration(Duration::from_secs(75)), "75s");
        assert_eq!(show_duration(Duration::from_millis(1_500)), "1s 500ms");
    }
}
