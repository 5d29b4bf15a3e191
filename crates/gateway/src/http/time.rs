//! RFC 3339 with milliseconds and `Z`.

use jiff::Timestamp;

/// `2026-05-01T10:00:00.123Z`.
pub(crate) fn render_ms(unix_ms: u64) -> String {
    let ms = i64::try_from(unix_ms).unwrap_or(i64::MAX);
    let at = Timestamp::from_millisecond(ms).unwrap_or(Timestamp::MAX);
    at.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}

/// The last days a timestamp can name; beyond the very last one they stand for "never".
const LAST_DAYS: &str = "9999-12-3";

/// Reads an instant; one without an offset is UTC. `None` when it is none, or before 1970.
pub(crate) fn parse_ms(text: &str) -> Option<u64> {
    let text = text.trim();
    let at = read(text).or_else(|| {
        let rest = text.strip_prefix(LAST_DAYS)?;
        read(&format!("9998-12-3{rest}")).map(|_| Timestamp::MAX)
    })?;
    u64::try_from(at.as_millisecond()).ok()
}

fn read(text: &str) -> Option<Timestamp> {
    text.parse().or_else(|_| format!("{text}Z").parse()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_round_trip() {
        assert_eq!(render_ms(1_777_629_600_123), "2026-05-01T10:00:00.123Z");
        assert_eq!(render_ms(0), "1970-01-01T00:00:00.000Z");
        for text in [
            "2026-05-01T10:00:00.123Z",
            "2026-05-01T12:00:00.123+02:00",
            "2026-05-01T10:00:00.123456Z",
            "2026-05-01T10:00:00.123",
        ] {
            assert_eq!(parse_ms(text), Some(1_777_629_600_123), "{text}");
        }
        assert_eq!(parse_ms("tomorrow"), None);
        assert_eq!(parse_ms("1960-01-01T00:00:00Z"), None);
        assert!(render_ms(u64::MAX).starts_with("9999-"));
        // What several clients write for "never" is beyond the last timestamp.
        let never = parse_ms("9999-12-31T23:59:59Z");
        assert_eq!(never, u64::try_from(Timestamp::MAX.as_millisecond()).ok());
        assert_eq!(parse_ms("9999-12-39T00:00:00Z"), None);
    }
}
