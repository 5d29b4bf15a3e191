//! Following one chain back from its head, event by event, as `docs/audit.md` describes it. Nothing here trusts the
//! cluster: hashes are computed anew.

use baton_protocol::audit::{Hash, Record, genesis};
use serde_json::Value;

/// How far a chain had come, and where what is kept of it begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) workspace_id: String,
    pub(super) group_id: u32,
    pub(super) sequence: u64,
    pub(super) anchor_sequence: u64,
    hash: Hash,
    anchor_hash: Hash,
}

impl Head {
    pub(super) fn read(head: &Value) -> Result<Self, String> {
        Ok(Self {
            workspace_id: text(head, "workspace_id")?.to_owned(),
            group_id: small(head, "group_id")?,
            sequence: number(head, "sequence")?,
            hash: hash(head, "hash")?,
            anchor_sequence: number(&head["anchor"], "sequence")?,
            anchor_hash: hash(&head["anchor"], "hash")?,
        })
    }

    pub(super) fn hash_text(&self) -> String {
        hex(&self.hash)
    }

    pub(super) fn is_of(&self, other: &Self) -> bool {
        self.group_id == other.group_id && self.workspace_id == other.workspace_id
    }

    fn name(&self) -> String {
        let whose = match self.workspace_id.as_str() {
            "" => "the cluster",
            id => id,
        };
        format!("chain of {whose} in group {}", self.group_id)
    }
}

/// One chain on the way back from its head.
#[derive(Debug)]
pub(super) struct Chain {
    head: Head,
    earlier: Option<Head>,
    /// What the next event must be.
    sequence: u64,
    hash: Hash,
    pub(super) events: u64,
}

impl Chain {
    /// `earlier` is what the same chain was like at some time before.
    ///
    /// # Errors
    /// When the head alone shows that something is wrong.
    pub(super) fn new(head: Head, earlier: Option<Head>) -> Result<Self, String> {
        if let Some(before) = &earlier {
            if before.sequence > head.sequence {
                return Err(format!(
                    "{} was cut: it had {} events and has {} now",
                    head.name(),
                    before.sequence,
                    head.sequence
                ));
            }
            if before.sequence < head.anchor_sequence {
                return Err(format!(
                    "{} cannot be compared: retention has removed events up to {} and the earlier heads end at {}; \
                     compare with heads that are younger than the retention",
                    head.name(),
                    head.anchor_sequence,
                    before.sequence
                ));
            }
        }
        let mut chain = Self {
            sequence: head.sequence,
            hash: head.hash,
            head,
            earlier,
            events: 0,
        };
        chain.compare_earlier()?;
        Ok(chain)
    }

    /// Takes the next older event.
    ///
    /// # Errors
    /// When it is not the one that its successor, or the head, was sealed with.
    pub(super) fn take(&mut self, event: &Value) -> Result<(), String> {
        let found = number(event, "sequence")?;
        if found > self.head.sequence && self.events == 0 {
            // Written after the heads were read.
            return Ok(());
        }
        if found != self.sequence || found <= self.head.anchor_sequence {
            return Err(format!(
                "{}: event {found} stands where event {} belongs; events were removed, added or moved",
                self.head.name(),
                self.sequence
            ));
        }
        let previous = hash(event, "previous_hash")?;
        let computed = record(event, |record| record.hash(&previous))?;
        if computed != self.hash || hash(event, "hash")? != self.hash {
            return Err(format!(
                "{}: event {found} is not what was sealed: it hashes to {}, and what follows it names {}",
                self.head.name(),
                hex(&computed),
                hex(&self.hash)
            ));
        }
        self.events += 1;
        self.sequence -= 1;
        self.hash = previous;
        self.compare_earlier()
    }

    /// Ends the way back.
    ///
    /// # Errors
    /// When it did not lead to where what is kept begins.
    pub(super) fn end(&self) -> Result<(), String> {
        let (name, anchor) = (self.head.name(), self.head.anchor_sequence);
        if self.sequence != anchor {
            return Err(format!(
                "{name}: events {} to {} are missing",
                anchor + 1,
                self.sequence
            ));
        }
        if self.hash != self.head.anchor_hash {
            return Err(format!(
                "{name}: event {} does not build on what retention removed before it",
                anchor + 1
            ));
        }
        let empty = genesis(&self.head.workspace_id, self.head.group_id);
        if anchor == 0 && self.hash != empty {
            return Err(format!(
                "{name}: its first event does not begin a chain of this workspace"
            ));
        }
        Ok(())
    }

    fn compare_earlier(&mut self) -> Result<(), String> {
        match self.earlier.take_if(|before| before.sequence == self.sequence) {
            Some(before) if before.hash != self.hash => Err(format!(
                "{}: event {} was rewritten since the earlier heads: they name {}, now it is {}",
                self.head.name(),
                self.sequence,
                hex(&before.hash),
                hex(&self.hash)
            )),
            Some(_) | None => Ok(()),
        }
    }

    pub(super) fn is_of(&self, event: &Value) -> bool {
        event["group_id"].as_u64() == Some(self.head.group_id.into())
            && event["workspace_id"].as_str() == Some(&self.head.workspace_id)
    }
}

/// What is sealed of an event.
fn record<T>(event: &Value, use_it: impl FnOnce(&Record<'_>) -> T) -> Result<T, String> {
    let details = event["details"].as_object().ok_or("an event has no details")?;
    let details = details.iter().map(|(name, value)| {
        let value = value
            .as_str()
            .ok_or_else(|| format!("detail {name} is no text"))?;
        Ok((name.as_str(), value))
    });
    Ok(use_it(&Record {
        workspace_id: text(event, "workspace_id")?,
        group_id: small(event, "group_id")?,
        sequence: number(event, "sequence")?,
        at_ms: number(event, "at_ms")?,
        action: text(event, "action")?,
        actor: text(event, "actor")?,
        actor_kind: text(event, "actor_kind")?,
        actor_label: text(event, "actor_label")?,
        key_id: text(event, "key_id")?,
        owner_agent: text(event, "owner_agent")?,
        request_id: text(event, "request_id")?,
        trace_id: text(event, "trace_id")?,
        endpoint: text(event, "endpoint")?,
        method: text(event, "method")?,
        status_code: small(event, "status_code")?,
        target_type: text(event, "target_type")?,
        target_id: text(event, "target_id")?,
        details: details.collect::<Result<_, String>>()?,
    }))
}

fn text<'v>(value: &'v Value, name: &str) -> Result<&'v str, String> {
    value[name]
        .as_str()
        .ok_or_else(|| format!("{name} is missing or no text"))
}

fn number(value: &Value, name: &str) -> Result<u64, String> {
    value[name]
        .as_u64()
        .ok_or_else(|| format!("{name} is missing or no number"))
}

fn small(value: &Value, name: &str) -> Result<u32, String> {
    u32::try_from(number(value, name)?).map_err(|_| format!("{name} is too large"))
}

fn hash(value: &Value, name: &str) -> Result<Hash, String> {
    let digits = text(value, name)?;
    let wrong = || format!("{name} is no SHA-256");
    if digits.len() != 64 || !digits.is_ascii() {
        return Err(wrong());
    }
    let mut bytes = Hash::default();
    for (byte, at) in bytes.iter_mut().zip((0..64).step_by(2)) {
        *byte = u8::from_str_radix(&digits[at..at + 2], 16).map_err(|_| wrong())?;
    }
    Ok(bytes)
}

fn hex(hash: &Hash) -> String {
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// A chain of `n` events as an export shows it: its head, and the events, newest first.
    fn sealed(n: u64) -> (Value, Vec<Value>) {
        let mut previous = genesis("w1", 3);
        let empty = hex(&previous);
        let mut events = Vec::new();
        for sequence in 1..=n {
            let mut event = json!({
                "workspace_id": "w1", "group_id": 3, "sequence": sequence, "at_ms": 1_000 + sequence,
                "action": "task.answered", "actor": "agent://a/b/boss", "actor_kind": "agent",
                "actor_label": "", "key_id": "", "owner_agent": "", "request_id": "", "trace_id": "",
                "endpoint": "", "method": "", "status_code": 200, "target_type": "intent",
                "target_id": sequence.to_string(), "details": {"outcome": "approved"},
                "previous_hash": hex(&previous),
            });
            previous = record(&event, |record| record.hash(&previous)).unwrap();
            event["hash"] = hex(&previous).into();
            events.push(event);
        }
        events.reverse();
        let anchor = json!({"sequence": 0, "hash": empty});
        let head = json!({"workspace_id": "w1", "group_id": 3, "sequence": n, "hash": hex(&previous), "anchor": anchor});
        (head, events)
    }

    fn follow(head: &Value, events: &[Value], earlier: Option<&Value>) -> Result<u64, String> {
        let earlier = earlier.map(|head| Head::read(head).unwrap());
        let mut chain = Chain::new(Head::read(head)?, earlier)?;
        for event in events {
            chain.take(event)?;
        }
        chain.end()?;
        Ok(chain.events)
    }

    /// Seals everything anew after a change, as somebody would who runs every node.
    fn reseal(head: &mut Value, events: &mut [Value]) {
        let mut previous = genesis("w1", 3);
        for event in events.iter_mut().rev() {
            event["previous_hash"] = hex(&previous).into();
            previous = record(event, |record| record.hash(&previous)).unwrap();
            event["hash"] = hex(&previous).into();
        }
        head["hash"] = hex(&previous).into();
        head["sequence"] = (events.len() as u64).into();
    }

    #[test]
    fn a_chain_that_nobody_touched_is_whole() {
        let (head, events) = sealed(5);
        assert_eq!(follow(&head, &events, None), Ok(5));
        assert_eq!(follow(&head, &events, Some(&head)), Ok(5));
        let (earlier, _) = sealed(3);
        assert_eq!(follow(&head, &events, Some(&earlier)), Ok(5));
        let (none, nothing) = sealed(0);
        assert_eq!(follow(&none, &nothing, None), Ok(0));
        // Events that were written after the heads were read.
        let (earlier_head, _) = sealed(4);
        assert_eq!(follow(&earlier_head, &events, None), Ok(4));
    }

    #[test]
    fn tampering_is_found_and_the_event_named() {
        let (head, events) = sealed(5);
        type Tamper = fn(&mut Vec<Value>);
        let cases: [(&str, Tamper, &str); 8] = [
            (
                "a detail",
                |e| e[2]["details"]["outcome"] = "rejected".into(),
                "event 3 is not",
            ),
            ("an actor", |e| e[0]["actor"] = "x".into(), "event 5 is not"),
            ("its own hash too", |e| forge(e), "event 3 is not"),
            (
                "a removed event",
                |e| drop(e.remove(2)),
                "event 2 stands where event 3",
            ),
            (
                "a removed end",
                |e| drop(e.remove(0)),
                "event 4 stands where event 5",
            ),
            ("a removed start", |e| drop(e.pop()), "events 1 to 1 are missing"),
            (
                "two turned around",
                |e| e.swap(1, 2),
                "event 3 stands where event 4",
            ),
            (
                "one twice",
                |e| e.insert(1, e[0].clone()),
                "event 5 stands where event 4",
            ),
        ];
        for (what, tamper, expected) in cases {
            let mut changed = events.clone();
            tamper(&mut changed);
            let fault = follow(&head, &changed, None).unwrap_err();
            assert!(fault.contains(expected), "{what}: {fault}");
        }
    }

    fn forge(events: &mut [Value]) {
        events[2]["details"]["outcome"] = "rejected".into();
        let previous = hash(&events[2], "previous_hash").unwrap();
        let sealed = record(&events[2], |record| record.hash(&previous)).unwrap();
        events[2]["hash"] = hex(&sealed).into();
    }

    #[test]
    fn who_seals_everything_anew_is_found_by_earlier_heads() {
        let (earlier, _) = sealed(4);
        let (mut head, mut events) = sealed(5);
        events[2]["details"]["outcome"] = "rejected".into();
        reseal(&mut head, &mut events);
        assert_eq!(follow(&head, &events, None), Ok(5));
        let fault = follow(&head, &events, Some(&earlier)).unwrap_err();
        assert!(fault.contains("event 4 was rewritten"), "{fault}");
        let (mut head, mut events) = sealed(5);
        events.drain(..2);
        reseal(&mut head, &mut events);
        let fault = follow(&head, &events, Some(&earlier)).unwrap_err();
        assert!(fault.contains("had 4 events and has 3"), "{fault}");
    }

    #[test]
    fn what_retention_removed_is_vouched_for_by_the_anchor() {
        let (mut head, mut events) = sealed(5);
        let second = events[3]["hash"].clone();
        events.truncate(3);
        head["anchor"] = json!({"sequence": 2, "hash": second});
        assert_eq!(follow(&head, &events, None), Ok(3));
        let (at_anchor, _) = sealed(2);
        assert_eq!(follow(&head, &events, Some(&at_anchor)), Ok(3));
        let (too_old, _) = sealed(1);
        let fault = follow(&head, &events, Some(&too_old)).unwrap_err();
        assert!(fault.contains("cannot be compared"), "{fault}");
        head["anchor"]["hash"] = events[0]["hash"].clone();
        let fault = follow(&head, &events, None).unwrap_err();
        assert!(fault.contains("event 3 does not build"), "{fault}");
        // A chain that belongs to somebody else.
        let (mut head, events) = sealed(2);
        head["anchor"]["hash"] = hex(&genesis("w2", 3)).into();
        assert!(follow(&head, &events, None).is_err());
    }
}
