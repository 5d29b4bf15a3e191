//! What a listener asks for and what it gets, as gateway and delivery both see it.

use crate::proto::internal::{AgentRef, Intent, Payload};

/// One listener on an agent address.
#[derive(Debug, Clone)]
pub struct Listen {
    pub agent: AgentRef,
    /// Deliveries with a cursor above this are sent.
    pub since: u64,
    /// Key id of the listener's credential, for pick-up.
    pub credential: String,
}

/// One delivery for a listener. Receiving it from the channel counts as "written to a listener".
#[derive(Debug, Clone)]
pub struct FeedItem {
    pub cursor: u64,
    /// Boxed, because a channel sets 32 places aside: that is what an idle listener costs.
    pub intent: Box<Intent>,
    /// Absent when too large for a frame.
    pub payload: Option<Payload>,
    /// 1 for the first attempt.
    pub attempt: u32,
}
