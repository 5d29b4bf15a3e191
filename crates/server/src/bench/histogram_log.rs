//! Latencies of all cells in an HDR histogram log, one interval a line, as the HdrHistogram tools read it.

use super::record::Interval;
use anyhow::Context as _;
use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, Tag};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// A microsecond histogram's largest value is written in milliseconds.
const MAX_VALUE_DIVISOR: f64 = 1000.0;

/// One line to be.
#[derive(Debug)]
struct Line {
    tag: String,
    start: SystemTime,
    time: Duration,
    interval: Interval,
}

/// Collects intervals and writes them in the end.
#[derive(Debug)]
pub(super) struct HistogramLog {
    path: PathBuf,
    begun: SystemTime,
    lines: Vec<Line>,
}

impl HistogramLog {
    /// Makes sure early that the file can be written.
    pub(super) fn create(path: &Path) -> anyhow::Result<Self> {
        std::fs::File::create(path)
            .with_context(|| format!("cannot write --histogram {}", path.display()))?;
        Ok(Self {
            path: path.to_path_buf(),
            begun: SystemTime::now(),
            lines: Vec::new(),
        })
    }

    /// Adds an interval that ends now.
    pub(super) fn add(&mut self, tag: &str, time: Duration, interval: Interval) {
        self.lines.push(Line {
            tag: tag.to_owned(),
            start: SystemTime::now() - time,
            time,
            interval,
        });
    }

    /// Writes the file.
    pub(super) fn write(&self) -> anyhow::Result<()> {
        let mut bytes = Vec::new();
        let mut serializer = V2DeflateSerializer::new();
        let mut writer = IntervalLogWriterBuilder::new()
            .add_comment("baton bench: microseconds; the column after the duration is the maximum in ms")
            .with_start_time(self.begun)
            .with_base_time(self.begun)
            .with_max_value_divisor(MAX_VALUE_DIVISOR)
            .begin_log_with(&mut bytes, &mut serializer)?;
        for line in &self.lines {
            let start = line.start.duration_since(self.begun).unwrap_or_default();
            let tag = Tag::new(&line.tag);
            writer
                .write_histogram(&line.interval.latencies_us, start, line.time, tag)
                .map_err(|error| anyhow::anyhow!("cannot encode a histogram: {error:?}"))?;
        }
        std::fs::write(&self.path, &bytes).with_context(|| format!("cannot write {}", self.path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hdrhistogram::serialization::Deserializer;
    use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};

    #[test]
    fn the_log_reads_back_with_its_tags_and_values() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run.hlog");
        let mut log = HistogramLog::create(&path).unwrap();
        let mut interval = Interval::default();
        interval.latencies_us.saturating_record(1500);
        log.add("cycle-grpc-16", Duration::from_secs(1), interval);
        log.write().unwrap();

        let bytes = std::fs::read(&path).unwrap();
        let mut found = 0;
        for entry in IntervalLogIterator::new(&bytes) {
            if let LogEntry::Interval(interval) = entry.unwrap() {
                found += 1;
                assert_eq!(interval.tag().unwrap().as_str(), "cycle-grpc-16");
                assert_eq!(interval.duration(), Duration::from_secs(1));
                let text = interval.encoded_histogram().as_bytes().to_vec();
                let raw = base64_decode(&text);
                let histogram: hdrhistogram::Histogram<u64> =
                    Deserializer::new().deserialize(&mut raw.as_slice()).unwrap();
                assert_eq!((histogram.len(), histogram.max()), (1, 1500));
            }
        }
        assert_eq!(found, 1);
        assert!(HistogramLog::create(Path::new("/no/such/dir/x")).is_err());
    }

    /// Standard alphabet with padding, for this one check.
    fn base64_decode(text: &[u8]) -> Vec<u8> {
        let value = |c: u8| match c {
            b'A'..=b'Z' => u32::from(c - b'A'),
            b'a'..=b'z' => u32::from(c - b'a') + 26,
            b'0'..=b'9' => u32::from(c - b'0') + 52,
            b'+' => 62,
            _ => 63,
        };
        text.chunks(4)
            .flat_map(|chunk| {
                let kept = chunk.iter().take_while(|&&c| c != b'=').count();
                let bits =
                    chunk.iter().take(kept).fold(0, |bits, &c| bits << 6 | value(c)) << (6 * (4 - kept));
                bits.to_be_bytes()[1..kept].to_vec()
            })
            .collect()
    }
}
