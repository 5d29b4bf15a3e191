//! A line that follows the run on a terminal; plain lines elsewhere.

use super::record::Interval;
use crate::output::Output;
use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

/// Returns to the start of the line and empties it.
const CLEAR: &str = "\r\x1b[2K";

/// Tells a person how far the run is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Progress {
    out: Output,
    live: bool,
}

impl Progress {
    pub(super) fn new(out: Output) -> Self {
        Self {
            out,
            live: std::io::stderr().is_terminal(),
        }
    }

    /// Something begins.
    pub(super) fn line(self, text: impl AsRef<str>) {
        self.clear();
        self.out.line(text);
    }

    /// A second has passed.
    pub(super) fn second(self, name: &str, elapsed: Duration, last: &Interval, total: &Interval) {
        if self.live {
            // Nobody waits for this line; a closed terminal is no error.
            _ = write!(std::io::stderr(), "{CLEAR}{}", text(name, elapsed, last, total));
            _ = std::io::stderr().flush();
        }
    }

    /// The line has served.
    pub(super) fn clear(self) {
        if self.live {
            _ = write!(std::io::stderr(), "{CLEAR}");
        }
    }
}

fn text(name: &str, elapsed: Duration, last: &Interval, total: &Interval) -> String {
    let p99_ms = last.latencies_us.value_at_quantile(0.99) as f64 / 1000.0;
    format!(
        "{name}: {} s, {} per s, p99 {p99_ms:.1} ms, {} in all, {} errors",
        elapsed.as_secs(),
        last.operations(),
        total.operations(),
        total.errors
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_says_rate_latency_and_errors() {
        let mut last = Interval::default();
        last.latencies_us.saturating_record(2000);
        last.fail("refused", 3);
        let line = text("cycle grpc 16", Duration::from_secs(4), &last, &last);
        assert_eq!(
            line,
            "cycle grpc 16: 4 s, 1 per s, p99 2.0 ms, 1 in all, 3 errors"
        );
    }
}
