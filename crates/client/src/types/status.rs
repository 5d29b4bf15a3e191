//! Where an intent is in its life.

use baton_protocol::proto::v1;
use serde::{Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

/// Lifecycle status. The last four are terminal: nothing follows them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Status {
    /// A status that this client does not know: the server is newer.
    Unknown,
    Created,
    Submitted,
    Delivered,
    Acknowledged,
    InProgress,
    Waiting,
    Completed,
    Failed,
    Canceled,
    TimedOut,
}

impl Status {
    /// Every status with its number and name on the wire.
    const ROWS: [(Self, v1::Status, &'static str); 11] = [
        (Self::Unknown, v1::Status::Unspecified, "UNKNOWN"),
        (Self::Created, v1::Status::Created, "CREATED"),
        (Self::Submitted, v1::Status::Submitted, "SUBMITTED"),
        (Self::Delivered, v1::Status::Delivered, "DELIVERED"),
        (Self::Acknowledged, v1::Status::Acknowledged, "ACKNOWLEDGED"),
        (Self::InProgress, v1::Status::InProgress, "IN_PROGRESS"),
        (Self::Waiting, v1::Status::Waiting, "WAITING"),
        (Self::Completed, v1::Status::Completed, "COMPLETED"),
        (Self::Failed, v1::Status::Failed, "FAILED"),
        (Self::Canceled, v1::Status::Canceled, "CANCELED"),
        (Self::TimedOut, v1::Status::TimedOut, "TIMED_OUT"),
    ];

    /// Every known status, in the order of a life.
    pub fn all() -> impl Iterator<Item = Self> {
        Self::ROWS.into_iter().skip(1).map(|row| row.0)
    }

    /// Whether nothing follows.
    #[must_use]
    pub fn is_terminal(self) -> bool {
        matches!(
            self,
            Self::Completed | Self::Failed | Self::Canceled | Self::TimedOut
        )
    }

    /// The wire spelling, for example `IN_PROGRESS`.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.row().2
    }

    pub(crate) fn from_wire(number: i32) -> Self {
        let wire = v1::Status::try_from(number).unwrap_or_default();
        Self::ROWS
            .into_iter()
            .find(|row| row.1 == wire)
            .map_or(Self::Unknown, |row| row.0)
    }

    pub(crate) fn to_wire(self) -> i32 {
        self.row().1.into()
    }

    fn row(self) -> (Self, v1::Status, &'static str) {
        let at = Self::ROWS.into_iter().find(|row| row.0 == self);
        at.unwrap_or(Self::ROWS[0])
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Serialize for Status {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// Reads the wire spelling in any case, with `-` or `_`.
impl FromStr for Status {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let name = text.to_uppercase().replace('-', "_");
        Self::all().find(|status| status.name() == name).ok_or_else(|| {
            let names: Vec<_> = Self::all().map(|s| s.name().to_lowercase()).collect();
            format!("no such status; use one of {}", names.join(", "))
        })
    }
}

/// What a waiting intent waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[non_exhaustive]
pub enum WaitingReason {
    Human,
    Tool,
    Agent,
    Time,
}

impl WaitingReason {
    pub(crate) fn from_wire(number: i32) -> Option<Self> {
        match v1::WaitingReason::try_from(number).unwrap_or_default() {
            v1::WaitingReason::Unspecified => None,
            v1::WaitingReason::Human => Some(Self::Human),
            v1::WaitingReason::Tool => Some(Self::Tool),
            v1::WaitingReason::Agent => Some(Self::Agent),
            v1::WaitingReason::Time => Some(Self::Time),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_of_the_wire_has_a_name_and_comes_back() {
        for status in Status::all() {
            assert_eq!(Status::from_wire(status.to_wire()), status);
            assert_eq!(status.name().to_lowercase().parse(), Ok(status));
            let wire = v1::Status::try_from(status.to_wire()).unwrap();
            assert_eq!(wire.as_str_name(), format!("STATUS_{status}"));
        }
        assert_eq!(Status::from_wire(77), Status::Unknown);
        assert!("done".parse::<Status>().unwrap_err().contains("timed_out"));
    }
}
