//! What an intent's header leaves out because it follows from the rest.

use crate::address::is_agent_core;
use crate::proto::internal::pending_with::Kind;
use crate::proto::internal::{AgentRef, Intent, PendingWith};
use std::borrow::Cow;

impl Intent {
    /// Who is responsible now, and holds the delivery: the handler, which is the recipient until a transfer.
    #[must_use]
    pub fn holder(&self) -> Option<&AgentRef> {
        self.handler.as_ref().or(self.to_agent.as_ref())
    }

    /// Who has to act; nobody once the intent is over.
    #[must_use]
    pub fn pending(&self) -> Option<Cow<'_, PendingWith>> {
        if self.status().is_terminal() {
            return None;
        }
        match &self.pending_with {
            Some(named) => Some(Cow::Borrowed(named)),
            None => self.holder().map(|agent| Cow::Owned(PendingWith::on(agent, ""))),
        }
    }
}

impl PendingWith {
    /// An agent as clients see it; without a `display_name` it goes by its address.
    #[must_use]
    pub fn on(agent: &AgentRef, display_name: &str) -> Self {
        let internal = is_agent_core(agent);
        let reference = if internal {
            "agent_core"
        } else {
            agent.address.as_str()
        };
        let name = if display_name.is_empty() {
            reference
        } else {
            display_name
        };
        Self {
            kind: if internal { Kind::Internal } else { Kind::Agent }.into(),
            r#ref: reference.to_owned(),
            name: name.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::internal::Status;

    fn agent(name: &str) -> AgentRef {
        AgentRef {
            address: format!("agent://acme/prod/{name}"),
            ..AgentRef::default()
        }
    }

    #[test]
    fn the_recipient_holds_and_acts_until_somebody_else_is_named() {
        let mut intent = Intent {
            to_agent: Some(agent("first")),
            status: Status::Delivered.into(),
            ..Intent::default()
        };
        let acts = |intent: &Intent| intent.pending().map(|p| p.name.clone());
        assert_eq!(acts(&intent).as_deref(), Some("agent://acme/prod/first"));
        intent.handler = Some(agent("second"));
        assert_eq!(intent.holder(), Some(&agent("second")));
        assert_eq!(acts(&intent).as_deref(), Some("agent://acme/prod/second"));
        intent.pending_with = Some(PendingWith::on(&agent("second"), "Second"));
        assert_eq!(acts(&intent).as_deref(), Some("Second"));
        intent.status = Status::Completed.into();
        assert_eq!(acts(&intent), None);
    }
}
