//! Figures as people read them.

use std::time::Duration;

/// What stands where a figure is unknown.
pub const UNKNOWN: &str = "-";

/// A figure, or [`UNKNOWN`].
pub fn or_unknown<T>(figure: Option<T>, written: impl FnOnce(T) -> String) -> String {
    figure.map_or_else(|| UNKNOWN.into(), written)
}

/// A count as a number to calculate with.
#[allow(clippy::cast_precision_loss)] // counts here are far below 2^53, and are shown to three digits
pub fn float(count: u64) -> f64 {
    count as f64
}

/// `1,234,567`.
pub fn count(count: u64) -> String {
    let digits = count.to_string();
    let mut written = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            written.push(',');
        }
        written.push(digit);
    }
    written
}

/// `12.3`, `1,234`: heals a second.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // rates are positive and small
pub fn rate(per_second: f64) -> String {
    if per_second < 1_000.0 { format!("{per_second:.1}") } else { count(per_second.round() as u64) }
}

/// `850 ns`, `21.3 µs`, `210 µs`, `1.25 ms`, `2.10 s`: three digits.
pub fn latency(latency: Duration) -> String {
    let seconds = latency.as_secs_f64();
    let (number, unit) = match seconds {
        s if s < 1e-6 => (s * 1e9, "ns"),
        s if s < 1e-3 => (s * 1e6, "µs"),
        s if s < 1.0 => (s * 1e3, "ms"),
        s => (s, "s"),
    };
    format!("{} {unit}", three_digits(number))
}

/// A latency in seconds, as [`latency`] writes it.
pub fn seconds(seconds: f64) -> String {
    latency(Duration::try_from_secs_f64(seconds).unwrap_or_default())
}

/// `512 B`, `1.50 KiB`, `12.3 MiB`: three digits.
pub fn bytes(bytes: u64) -> String {
    let (mut number, mut unit) = (float(bytes), "B");
    for larger in ["KiB", "MiB", "GiB", "TiB"] {
        if number < 1_024.0 {
            break;
        }
        (number, unit) = (number / 1_024.0, larger);
    }
    if unit == "B" { format!("{bytes} B") } else { format!("{} {unit}", three_digits(number)) }
}

/// `3.4%`, `120%`: of one core.
pub fn percent(percent: f64) -> String {
    if percent < 9.95 { format!("{percent:.1}%") } else { format!("{percent:.0}%") }
}

fn three_digits(number: f64) -> String {
    match number {
        n if n < 9.995 => format!("{n:.2}"),
        n if n < 99.95 => format!("{n:.1}"),
        n => format!("{n:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_have_commas() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([0.0, 12.34, 99_999.6].map(rate), ["0.0", "12.3", "100,000"]);
    }

    #[test]
    fn latencies_have_three_digits() {
        let shown =
            [850, 21_340, 210_400, 1_250_000, 2_100_000_000].map(|ns| latency(Duration::from_nanos(ns)));
        assert_eq!(shown, ["850 ns", "21.3 µs", "210 µs", "1.25 ms", "2.10 s"]);
    }

    #[test]
    fn bytes_are_binary() {
        assert_eq!([0, 1_023, 1_536, 12_897_485].map(bytes), ["0 B", "1023 B", "1.50 KiB", "12.3 MiB"]);
    }

    #[test]
    fn percents_of_a_core_may_be_above_a_hundred() {
        assert_eq!([0.04, 3.44, 120.4].map(percent), ["0.0%", "3.4%", "120%"]);
    }
}
