//! Human tasks: their types, and which outcomes each of them knows (surface 2.7).

use crate::proto::internal::{Gate, HumanTask, Intent, TaskType};

/// Outcomes that mean "no", of whatever task: a workflow goes on to its failure step.
const NEGATIVE: [&str; 6] = [
    "rejected",
    "denied",
    "declined",
    "failed",
    "cannot_assess",
    "changes_requested",
];

impl TaskType {
    /// Every type that exists on the wire.
    pub const ALL: [Self; 15] = [
        Self::Approval,
        Self::Review,
        Self::Clarification,
        Self::ProvideData,
        Self::AttachFile,
        Self::ManualAction,
        Self::Confirmation,
        Self::ValidateRealWorld,
        Self::ValidateOutput,
        Self::Assignment,
        Self::Delegation,
        Self::Reroute,
        Self::Override,
        Self::Escalate,
        Self::Form,
    ];

    /// The wire spelling.
    #[must_use]
    pub fn wire_name(self) -> &'static str {
        match self {
            Self::Unspecified | Self::Approval => "approval",
            Self::Review => "review",
            Self::Clarification => "clarification",
            Self::ProvideData => "provide_data",
            Self::AttachFile => "attach_file",
            Self::ManualAction => "manual_action",
            Self::Confirmation => "confirmation",
            Self::ValidateRealWorld => "validate_real_world",
            Self::ValidateOutput => "validate_output",
            Self::Assignment => "assignment",
            Self::Delegation => "delegation",
            Self::Reroute => "reroute",
            Self::Override => "override",
            Self::Escalate => "escalate",
            Self::Form => "form",
        }
    }

    /// Reads the wire spelling; `None` for anything else.
    #[must_use]
    pub fn from_wire_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|t| t.wire_name() == name)
    }

    /// Outcomes of a task that lists none itself. The first one is its plain "yes", `rejected` its plain "no".
    #[must_use]
    pub fn default_outcomes(self) -> &'static [&'static str] {
        match self {
            Self::Unspecified
            | Self::Approval
            | Self::Escalate
            | Self::Delegation
            | Self::Reroute
            | Self::ValidateRealWorld
            | Self::ValidateOutput => &["approved", "rejected"],
            Self::Review => &["approved", "changes_requested", "rejected"],
            Self::Confirmation => &["confirmed", "approved", "denied", "rejected"],
            Self::Assignment => &["assigned", "declined", "rejected"],
            Self::Clarification | Self::ProvideData | Self::AttachFile => {
                &["provided", "submitted", "rejected"]
            }
            Self::ManualAction => &["completed", "failed", "rejected"],
            Self::Form => &["submitted", "approved", "rejected"],
            Self::Override => &["override_approved", "approved", "rejected"],
        }
    }
}

impl HumanTask {
    /// Every outcome that answers this task.
    #[must_use]
    pub fn outcomes(&self) -> Vec<&str> {
        if self.allowed_outcomes.is_empty() {
            self.task_type().default_outcomes().to_vec()
        } else {
            self.allowed_outcomes.iter().map(String::as_str).collect()
        }
    }

    /// Whether this outcome answers the task.
    #[must_use]
    pub fn accepts(&self, outcome: &str) -> bool {
        self.outcomes().contains(&outcome)
    }

    /// The outcome that says plainly yes (`true`) or no, for whoever can say no more than that.
    #[must_use]
    pub fn plain_outcome(&self, positive: bool) -> Option<&str> {
        plain(&self.outcomes(), positive)
    }

    /// Whether an answer needs a comment.
    #[must_use]
    pub fn needs_comment(&self) -> bool {
        self.required_comment || self.task_type() == TaskType::Clarification
    }

    /// What to call the task: its own title, else what kind of intent it is about.
    #[must_use]
    pub fn default_title(intent_type: &str) -> String {
        if intent_type.is_empty() {
            "Human approval required".to_owned()
        } else {
            format!("Human approval required: {intent_type}")
        }
    }
}

/// Whether a name is an address that a mail can be sent to, rather than a role, an agent or a channel.
#[must_use]
pub fn is_mail_address(name: &str) -> bool {
    let plain = |c: char| !c.is_control() && !c.is_whitespace() && !"<>,;:\"()[]\\/".contains(c);
    let Some((local, domain)) = name.rsplit_once('@') else {
        return false;
    };
    !local.is_empty()
        && !local.contains('@')
        && !domain.is_empty()
        && name.chars().all(plain)
        && name.chars().count() <= crate::limits::MAIL_ADDRESS_CHARS_MAX
}

/// When the answer is due at the latest, unix milliseconds; 0 = never.
#[must_use]
pub fn due_at_ms(intent: &Intent, gate: &Gate) -> u64 {
    match (gate.due_at_ms, intent.deadline_at_ms) {
        (0, deadline) => deadline,
        (due, 0) => due,
        (due, deadline) => due.min(deadline),
    }
}

/// The outcome among `outcomes` that says plainly yes (`true`) or no.
#[must_use]
pub fn plain_outcome(outcomes: &[String], positive: bool) -> Option<&str> {
    let outcomes: Vec<&str> = outcomes.iter().map(String::as_str).collect();
    plain(&outcomes, positive)
}

fn plain<'o>(outcomes: &[&'o str], positive: bool) -> Option<&'o str> {
    let usual = if positive { "approved" } else { "rejected" };
    let as_usual = outcomes.iter().find(|outcome| **outcome == usual);
    let of_kind = || outcomes.iter().find(|outcome| is_positive(outcome) == positive);
    as_usual.or_else(of_kind).copied()
}

/// Whether a workflow goes on as after a success.
#[must_use]
pub fn is_positive(outcome: &str) -> bool {
    !NEGATIVE.contains(&outcome)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table of surface 2.7: what each type accepts, and which of that counts as a yes.
    #[test]
    fn outcomes_follow_the_published_table() {
        let yes = |t: TaskType| -> Vec<&str> {
            let all = t.default_outcomes().iter().copied();
            all.filter(|outcome| is_positive(outcome)).collect()
        };
        for (task_type, count, positive) in [
            (TaskType::Approval, 2, &["approved"][..]),
            (TaskType::ValidateOutput, 2, &["approved"]),
            (TaskType::Review, 3, &["approved"]),
            (TaskType::Confirmation, 4, &["confirmed", "approved"]),
            (TaskType::Assignment, 3, &["assigned"]),
            (TaskType::ProvideData, 3, &["provided", "submitted"]),
            (TaskType::ManualAction, 3, &["completed"]),
            (TaskType::Form, 3, &["submitted", "approved"]),
            (TaskType::Override, 3, &["override_approved", "approved"]),
        ] {
            assert_eq!(task_type.default_outcomes().len(), count, "{task_type:?}");
            assert_eq!(yes(task_type), positive, "{task_type:?}");
        }
        for task_type in TaskType::ALL {
            assert_eq!(TaskType::from_wire_name(task_type.wire_name()), Some(task_type));
        }
        assert_eq!(TaskType::from_wire_name("chat"), None);
    }

    #[test]
    fn mail_addresses_are_told_from_roles_and_agents() {
        for yes in ["a@b", "ops+x@example.com", "böss@exämple.com"] {
            assert!(is_mail_address(yes), "{yes}");
        }
        let long = format!("{}@b", "x".repeat(320));
        for no in [
            "",
            "ops",
            "@b",
            "a@",
            "a b@c",
            "a@b@c",
            "agent://o/w/a@b",
            "a@b\r\nBcc: c@d",
            "<a@b>",
            "a@b,c@d",
            &long,
        ] {
            assert!(!is_mail_address(no), "{no}");
        }
    }

    #[test]
    fn a_task_with_outcomes_of_its_own_knows_no_others() {
        let task = HumanTask {
            allowed_outcomes: vec!["ship".into(), "declined".into()],
            ..HumanTask::default()
        };
        assert!(task.accepts("ship") && !task.accepts("approved"));
        assert_eq!(task.plain_outcome(true), Some("ship"));
        assert_eq!(task.plain_outcome(false), Some("declined"));
        assert_eq!(HumanTask::default().plain_outcome(false), Some("rejected"));
    }
}
