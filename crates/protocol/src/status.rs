//! Lifecycle statuses, their wire names and the transition table (surface 2.1, 2.2).

use crate::proto::internal::{EventType, Status, WaitingReason};

impl Status {
    /// Terminal statuses never change.
    #[must_use]
    pub fn is_terminal(self) -> bool {
        matches!(
            self,
            Self::Completed | Self::Failed | Self::Canceled | Self::TimedOut
        )
    }

    /// The wire spelling, e.g. `IN_PROGRESS`. The unspecified value has none and reads as an empty string.
    #[must_use]
    pub fn wire_name(self) -> &'static str {
        match self {
            Self::Unspecified => "",
            Self::Created => "CREATED",
            Self::Submitted => "SUBMITTED",
            Self::Delivered => "DELIVERED",
            Self::Acknowledged => "ACKNOWLEDGED",
            Self::InProgress => "IN_PROGRESS",
            Self::Waiting => "WAITING",
            Self::Completed => "COMPLETED",
            Self::Failed => "FAILED",
            Self::Canceled => "CANCELED",
            Self::TimedOut => "TIMED_OUT",
        }
    }

    /// Reads the wire spelling; `None` for anything else.
    #[must_use]
    pub fn from_wire_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|s| s.wire_name() == name)
    }

    /// The mirror that older clients read.
    #[must_use]
    pub fn legacy_name(self) -> &'static str {
        match self {
            Self::Unspecified => "",
            Self::Created | Self::Submitted | Self::Delivered => "accepted",
            Self::Acknowledged | Self::InProgress => "running",
            Self::Waiting => "blocked",
            Self::Completed => "done",
            Self::Failed | Self::Canceled | Self::TimedOut => "failed",
        }
    }

    /// Every status that exists on the wire.
    pub const ALL: [Self; 10] = [
        Self::Created,
        Self::Submitted,
        Self::Delivered,
        Self::Acknowledged,
        Self::InProgress,
        Self::Waiting,
        Self::Completed,
        Self::Failed,
        Self::Canceled,
        Self::TimedOut,
    ];

    /// Whether an intent may go from `self` to `to`: the table of surface 2.2. "Redelivery" (an equal DELIVERED
    /// status) and a holder change while in progress are allowed.
    #[must_use]
    pub fn may_become(self, to: Self) -> bool {
        if self.is_terminal() || self == Self::Unspecified {
            return false;
        }
        match to {
            Self::Unspecified | Self::Created => false,
            Self::Submitted => self == Self::Created,
            Self::Delivered => {
                matches!(
                    self,
                    Self::Submitted | Self::Delivered | Self::Acknowledged | Self::InProgress
                )
            }
            Self::Acknowledged => self == Self::Delivered,
            Self::InProgress | Self::Waiting => self != Self::Created,
            Self::Completed | Self::Failed | Self::Canceled | Self::TimedOut => true,
        }
    }
}

impl WaitingReason {
    /// `WAITING_FOR_…`, or `None` when the intent is not waiting.
    #[must_use]
    pub fn wire_name(self) -> Option<&'static str> {
        match self {
            Self::Unspecified => None,
            Self::Human => Some("WAITING_FOR_HUMAN"),
            Self::Tool => Some("WAITING_FOR_TOOL"),
            Self::Agent => Some("WAITING_FOR_AGENT"),
            Self::Time => Some("WAITING_FOR_TIME"),
        }
    }
}

impl EventType {
    /// The wire spelling, e.g. `intent.delivered`.
    #[must_use]
    pub fn wire_name(self) -> &'static str {
        match self {
            Self::Unspecified => "",
            Self::Created => "intent.created",
            Self::Submitted => "intent.submitted",
            Self::Delivered => "intent.delivered",
            Self::Acknowledged => "intent.acknowledged",
            Self::InProgress => "intent.in_progress",
            Self::Waiting => "intent.waiting",
            Self::Transfer => "intent.transfer",
            Self::Reminder => "intent.reminder",
            Self::Escalated => "intent.escalated",
            Self::HumanTaskAssigned => "intent.human_task_assigned",
            Self::DeliveryFailed => "intent.delivery_failed",
            Self::NotificationFailed => "intent.notification_failed",
            Self::Completed => "intent.completed",
            Self::Failed => "intent.failed",
            Self::Canceled => "intent.canceled",
            Self::TimedOut => "intent.timed_out",
        }
    }

    /// The event that a transition to `status` appends; `None` for the unspecified status.
    #[must_use]
    pub fn for_status(status: Status) -> Option<Self> {
        match status {
            Status::Unspecified => None,
            Status::Created => Some(Self::Created),
            Status::Submitted => Some(Self::Submitted),
            Status::Delivered => Some(Self::Delivered),
            Status::Acknowledged => Some(Self::Acknowledged),
            Status::InProgress => Some(Self::InProgress),
            Status::Waiting => Some(Self::Waiting),
            Status::Completed => Some(Self::Completed),
            Status::Failed => Some(Self::Failed),
            Status::Canceled => Some(Self::Canceled),
            Status::TimedOut => Some(Self::TimedOut),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table of surface 2.2, row by row: which of SUBMITTED … TIMED_OUT are reachable.
    const TABLE: [(Status, [bool; 9]); 10] = [
        (
            Status::Created,
            [true, false, false, false, false, true, true, true, true],
        ),
        (
            Status::Submitted,
            [false, true, false, true, true, true, true, true, true],
        ),
        (
            Status::Delivered,
            [false, true, true, true, true, true, true, true, true],
        ),
        (
            Status::Acknowledged,
            [false, true, false, true, true, true, true, true, true],
        ),
        (
            Status::InProgress,
            [false, true, false, true, true, true, true, true, true],
        ),
        (
            Status::Waiting,
            [false, false, false, true, true, true, true, true, true],
        ),
        (Status::Completed, [false; 9]),
        (Status::Failed, [false; 9]),
        (Status::Canceled, [false; 9]),
        (Status::TimedOut, [false; 9]),
    ];

    #[test]
    fn transition_table_is_the_published_one() {
        for (from, row) in TABLE {
            for (to, allowed) in Status::ALL.into_iter().skip(1).zip(row) {
                // SUBMITTED may not reach ACKNOWLEDGED; everything else follows the row.
                assert_eq!(from.may_become(to), allowed, "{from:?} -> {to:?}");
            }
            assert!(!from.may_become(Status::Created));
        }
    }

    #[test]
    fn wire_names_round_trip() {
        for status in Status::ALL {
            assert_eq!(Status::from_wire_name(status.wire_name()), Some(status));
            assert!(EventType::for_status(status).is_some());
        }
        assert_eq!(Status::from_wire_name("CANCELLED"), None);
        assert_eq!(Status::from_wire_name(""), None);
    }
}
