//! Splicing of encoded JSON. No document is parsed: pieces that were stored are embedded byte for byte.

/// Appends `text` as a JSON string.
pub(crate) fn push_string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    for c in text.chars() {
        match c {
            '"' => out.extend_from_slice(b"\\\""),
            '\\' => out.extend_from_slice(b"\\\\"),
            c if u32::from(c) < 0x20 => {
                out.extend_from_slice(format!("\\u{:04x}", u32::from(c)).as_bytes());
            }
            c => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    out.push(b'"');
}

/// Appends a document as it is; blank bytes become an empty object.
pub(crate) fn push_document(out: &mut Vec<u8>, document: &[u8]) {
    let document = document.trim_ascii();
    out.extend_from_slice(if document.is_empty() { b"{}" } else { document });
}

/// The members between the braces of an object; `None` for anything else and for an empty object.
pub(crate) fn object_members(document: &[u8]) -> Option<&[u8]> {
    let inner = document
        .trim_ascii()
        .strip_prefix(b"{")?
        .strip_suffix(b"}")?
        .trim_ascii();
    (!inner.is_empty()).then_some(inner)
}

/// Builds one object, member by member.
#[derive(Debug)]
pub(crate) struct Object {
    out: Vec<u8>,
}

impl Object {
    pub(crate) fn new() -> Self {
        Self { out: vec![b'{'] }
    }

    fn key(&mut self, key: &str) {
        if self.out.len() > 1 {
            self.out.push(b',');
        }
        push_string(&mut self.out, key);
        self.out.push(b':');
    }

    pub(crate) fn string(mut self, key: &str, value: &str) -> Self {
        self.key(key);
        push_string(&mut self.out, value);
        self
    }

    pub(crate) fn document(mut self, key: &str, value: &[u8]) -> Self {
        self.key(key);
        push_document(&mut self.out, value);
        self
    }

    /// Adds encoded members of another object.
    pub(crate) fn members(mut self, members: Option<&[u8]>) -> Self {
        if let Some(members) = members {
            if self.out.len() > 1 {
                self.out.push(b',');
            }
            self.out.extend_from_slice(members);
        }
        self
    }

    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.out.push(b'}');
        self.out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_spliced_and_strings_escaped() {
        let object = Object::new()
            .string("a\"b", "x\\y\n\u{1}é")
            .document("d", b" {\"k\":1} ")
            .document("e", b"")
            .members(object_members(b" { \"m\" : [] } "))
            .members(object_members(b"{}"))
            .finish();
        assert_eq!(
            String::from_utf8(object).unwrap(),
            "{\"a\\\"b\":\"x\\\\y\\u000a\\u0001é\",\"d\":{\"k\":1},\"e\":{},\"m\" : []}"
        );
        assert_eq!(object_members(b"[1]"), None);
        assert_eq!(object_members(b"{"), None);
    }
}
