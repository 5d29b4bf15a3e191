//! Values of flags: times, payloads, keys.

use crate::exit::Failure;
use std::io::Read as _;
use std::path::Path;
use std::time::Duration;

/// Largest payload, bundle or key that is read from a file.
const INPUT_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// `250ms`, `30s`, `5m`, `2h`, `1d`; a plain number is seconds.
pub(super) fn parse_duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: u64 = digits.parse().map_err(|_| explain(text))?;
    let ms = match &text[digits.len()..] {
        "ms" => 1,
        "" | "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(explain(text)),
    };
    number
        .checked_mul(ms)
        .map(Duration::from_millis)
        .ok_or_else(|| explain(text))
}

fn explain(text: &str) -> String {
    format!("{text:?} is no time; write 250ms, 30s, 5m, 2h or 1d")
}

/// A file's bytes; `-` is standard input.
pub(super) fn read_input(path: &Path) -> Result<Vec<u8>, Failure> {
    let refused = |error: std::io::Error| Failure::usage(format!("cannot read {}: {error}", path.display()));
    let mut bytes = Vec::new();
    if path == Path::new("-") {
        std::io::stdin()
            .lock()
            .take(INPUT_BYTES_MAX + 1)
            .read_to_end(&mut bytes)
            .map_err(refused)?;
    } else {
        let file = std::fs::File::open(path).map_err(refused)?;
        file.take(INPUT_BYTES_MAX + 1)
            .read_to_end(&mut bytes)
            .map_err(refused)?;
    }
    if bytes.len() as u64 > INPUT_BYTES_MAX {
        return Err(Failure::usage(format!(
            "{} is larger than {INPUT_BYTES_MAX} bytes",
            path.display()
        )));
    }
    Ok(bytes)
}

/// A key from a file or standard input, without the line break.
pub(super) fn read_key(path: &Path) -> Result<String, Failure> {
    let text = String::from_utf8(read_input(path)?)
        .map_err(|_| Failure::usage(format!("{} holds no key", path.display())))?;
    match text.trim() {
        "" => Err(Failure::usage(format!("{} is empty", path.display()))),
        key => Ok(key.to_owned()),
    }
}

/// JSON of a flag.
pub(super) fn parse_json(text: &str) -> Result<serde_json::Value, String> {
    serde_json::from_str(text).map_err(|error| format!("it is no JSON: {error}"))
}

/// A moment, UTC, to the millisecond.
pub(super) fn moment(at_ms: u64) -> String {
    i64::try_from(at_ms)
        .ok()
        .and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok())
        .map_or_else(|| at_ms.to_string(), |at| format!("{at:.3}"))
}

/// A span of time as people say it: `850ms`, `3.2s`, `4m10s`, `2h05m`, `3d04h`.
pub(super) fn span(ms: u64) -> String {
    let seconds = ms / 1_000;
    match seconds {
        0 => format!("{ms}ms"),
        1..60 => format!("{}.{}s", seconds, ms % 1_000 / 100),
        60..3_600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{}h{:02}m", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{}d{:02}h", seconds / 86_400, seconds % 86_400 / 3_600),
    }
}

/// Milliseconds since 1970, this machine's clock.
pub(super) fn now_ms() -> u64 {
    u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_and_written_as_people_do() {
        for (text, ms) in [
            ("250ms", 250),
            ("30", 30_000),
            ("5m", 300_000),
            ("2h", 7_200_000),
            ("1d", 86_400_000),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for bad in ["", "s", "-1s", "1y", "1.5s", "99999999999999999d"] {
            assert!(parse_duration(bad).unwrap_err().contains("30s"), "{bad}");
        }
        let spans: Vec<_> = [850, 3_250, 250_000, 7_500_000, 273_600_000].map(span).into();
        assert_eq!(spans, ["850ms", "3.2s", "4m10s", "2h05m", "3d04h"]);
        assert_eq!(moment(1_700_000_000_123), "2023-11-14T22:13:20.123Z");
    }
}
