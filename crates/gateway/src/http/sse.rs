//! Server-sent event frames (surface 4.1): one ASCII line of data, short enough for line-buffered readers.

use baton_protocol::limits::SSE_LINE_BYTES_MAX;
use bytes::Bytes;

use super::render::Object;

/// A comment that keeps the connection alive.
pub(crate) const PING: Bytes = Bytes::from_static(b": ping\n\n");

/// One event; `None` when its data line would be too long.
pub(crate) fn frame(id: u64, event: &str, json: &[u8]) -> Option<Bytes> {
    let data = ascii_line(json);
    if data.len() + "data: ".len() > SSE_LINE_BYTES_MAX {
        return None;
    }
    let mut out = format!("id: {id}\nevent: {event}\ndata: ").into_bytes();
    out.extend_from_slice(&data);
    out.extend_from_slice(b"\n\n");
    Some(out.into())
}

/// The last frame of a segment. It has no `id`: that would move a client's cursor.
pub(crate) fn timeout_frame(next_seq: u64) -> Bytes {
    let mut data = Object::ok();
    data.number("next_seq", next_seq);
    let mut out = b"event: stream.timeout\ndata: ".to_vec();
    out.extend_from_slice(&data.finish());
    out.extend_from_slice(b"\n\n");
    out.into()
}

/// JSON on one line of ASCII. Raw line breaks can only be white space between tokens and go; everything beyond
/// ASCII is escaped, because some readers also break lines at U+0085, U+2028, U+2029, VT and FF.
fn ascii_line(json: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(json.len());
    for chunk in json.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\0'..='\x1f' => {}
                ' '..='\x7f' => out.push(c as u8),
                _ => {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        out.extend_from_slice(format!("\\u{unit:04x}").as_bytes());
                    }
                }
            }
        }
        if !chunk.invalid().is_empty() {
            out.extend_from_slice(b"\\ufffd");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_is_one_ascii_line_that_means_the_same() {
        let json = "{\n \"t\": \"a\u{2028}b\u{2029}c\u{85}d\u{1F600}é\\u000b\\f\\n\",\r\n\t\"n\": 1}";
        let frame = frame(4, "intent.waiting", json.as_bytes()).unwrap();
        let text = std::str::from_utf8(&frame).unwrap();
        assert!(text.is_ascii());
        assert!(text.ends_with("\n\n"));
        let lines: Vec<&str> = text.trim_end().split(['\n', '\r', '\x0b', '\x0c']).collect();
        assert_eq!(lines[..2], ["id: 4", "event: intent.waiting"]);
        assert_eq!(lines.len(), 3);
        let data = lines[2].strip_prefix("data: ").unwrap();
        let parsed: serde_json::Value = serde_json::from_str(data).unwrap();
        assert_eq!(parsed, serde_json::from_str::<serde_json::Value>(json).unwrap());
        assert_eq!(parsed["t"], "a\u{2028}b\u{2029}c\u{85}d\u{1F600}é\u{b}\u{c}\n");
    }

    #[test]
    fn lines_stay_below_the_readers_limit() {
        let json = |n: usize| format!("\"{}\"", "x".repeat(n));
        assert!(frame(1, "intent.completed", json(SSE_LINE_BYTES_MAX - 8).as_bytes()).is_some());
        assert!(frame(1, "intent.completed", json(SSE_LINE_BYTES_MAX - 7).as_bytes()).is_none());
        // Escaping counts.
        assert!(
            frame(
                1,
                "intent.completed",
                "é".repeat(SSE_LINE_BYTES_MAX / 5).as_bytes()
            )
            .is_none()
        );
    }

    #[test]
    fn the_end_of_a_segment_has_no_id() {
        assert_eq!(
            &timeout_frame(7)[..],
            b"event: stream.timeout\ndata: {\"ok\":true,\"next_seq\":7}\n\n"
        );
    }
}
