//! Reads an event stream body into frames.

/// One frame with its three fields; comment lines leave no trace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Frame {
    pub id: Option<u64>,
    pub event: String,
    pub data: String,
}

/// Cuts a byte stream into frames; bytes may arrive in any portions.
#[derive(Debug, Default)]
pub struct FrameParser {
    line: Vec<u8>,
    frame: Frame,
}

impl FrameParser {
    /// Takes the next bytes and returns the frames they complete.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<Frame> {
        let mut frames = Vec::new();
        for &byte in bytes {
            if byte != b'\n' {
                self.line.push(byte);
                continue;
            }
            let line = std::mem::take(&mut self.line);
            let line = String::from_utf8_lossy(&line);
            if let Some(frame) = self.take_line(line.trim_end_matches('\r')) {
                frames.push(frame);
            }
        }
        frames
    }

    fn take_line(&mut self, line: &str) -> Option<Frame> {
        if line.is_empty() {
            let frame = std::mem::take(&mut self.frame);
            return (!frame.data.is_empty() || !frame.event.is_empty()).then_some(frame);
        }
        if let Some(id) = line.strip_prefix("id: ") {
            self.frame.id = id.parse().ok();
        } else if let Some(event) = line.strip_prefix("event: ") {
            event.clone_into(&mut self.frame.event);
        } else if let Some(data) = line.strip_prefix("data: ") {
            self.frame.data.push_str(data);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_survive_any_split_and_comments() {
        let text =
            b": ping\n\nid: 4\nevent: intent.waiting\ndata: {\"a\":1}\n\nevent: stream.timeout\ndata: {}\n\n";
        for cut in 0..text.len() {
            let mut parser = FrameParser::default();
            let mut frames = parser.push(&text[..cut]);
            frames.extend(parser.push(&text[cut..]));
            assert_eq!(frames.len(), 2, "cut at {cut}");
            assert_eq!(frames[0].id, Some(4));
            assert_eq!(frames[0].event, "intent.waiting");
            assert_eq!(
                frames[1],
                Frame {
                    id: None,
                    event: "stream.timeout".into(),
                    data: "{}".into()
                }
            );
        }
    }
}
