//! Agent addresses in every form the wire shows (surface 1.2), resolved to one canonical [`AgentRef`].

use crate::error::{ErrorCode, ServiceError};
use crate::limits::ADDRESS_CHARS_MAX;
use crate::proto::internal::AgentRef;
use crate::slot::Slot;

/// Scheme of every agent address.
pub const SCHEME: &str = "agent://";
/// Name of the built-in internal runtime.
pub const AGENT_CORE: &str = "agent_core";

/// The workspace in whose scope bare and legacy addresses are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    pub org_id: String,
    pub org_slug: String,
    pub workspace_id: String,
    pub workspace_slug: String,
}

/// What an address text says, before it is placed in a workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// `agent://org/ws/name`, or the same without scheme.
    Canonical {
        org: String,
        workspace: String,
        name: String,
    },
    /// A single segment: a name in the caller's own workspace, in lower case.
    Bare(String),
    /// The internal runtime, in any of its spellings.
    AgentCore,
    /// Anything else that is printable: an opaque literal, private to the caller's workspace.
    Legacy(String),
}

impl Address {
    /// Reads one address. Percent-decoding is the caller's work.
    ///
    /// # Errors
    /// `InvalidAgentAddress` when the text is empty, longer than 383 characters, or has white space or control
    /// characters in it.
    pub fn parse(text: &str) -> Result<Self, ServiceError> {
        let text = text.trim();
        if text.chars().count() > ADDRESS_CHARS_MAX {
            return Err(invalid(format!(
                "agent address is longer than {ADDRESS_CHARS_MAX} characters"
            )));
        }
        if text
            .chars()
            .any(|c| c.is_control() || c.is_whitespace() || c == '|')
        {
            return Err(invalid(
                "agent address holds white space, a control character or '|'".into(),
            ));
        }
        // Proxies collapse the double slash of an unescaped address in a path.
        let rest = text
            .strip_prefix(SCHEME)
            .or_else(|| text.strip_prefix("agent:/"))
            .unwrap_or(text);
        let rest = rest.trim_matches('/');
        if rest.is_empty() {
            return Err(invalid(
                "agent address is empty; use agent://org/workspace/name or a bare name".into(),
            ));
        }
        let segments: Vec<&str> = rest.split('/').collect();
        Ok(match segments.as_slice() {
            [AGENT_CORE] | [_, _, AGENT_CORE] => Self::AgentCore,
            // Accounts may be named in capitals; their addresses are not.
            [name] if is_sa_name(&name.to_ascii_lowercase()) => Self::Bare(name.to_ascii_lowercase()),
            [org, workspace, name] if is_slug(org) && is_slug(workspace) && is_sa_name(name) => {
                Self::Canonical {
                    org: (*org).to_owned(),
                    workspace: (*workspace).to_owned(),
                    name: (*name).to_owned(),
                }
            }
            _ if text.contains("://") && !text.starts_with(SCHEME) => Self::Legacy(text.to_owned()),
            _ => Self::Legacy(format!("{SCHEME}{rest}")),
        })
    }

    /// Places the address in `scope`. `Canonical` is taken as it stands: whether that organization and workspace
    /// exist is for the caller to find out, see [`literal_in`].
    #[must_use]
    pub fn resolve(&self, scope: &Scope) -> AgentRef {
        let in_scope = |name: &str| canonical(&scope.org_slug, &scope.workspace_slug, name);
        let address = match self {
            Self::Canonical { org, workspace, name } => canonical(org, workspace, name),
            Self::Bare(name) => in_scope(name),
            Self::AgentCore => in_scope(AGENT_CORE),
            Self::Legacy(literal) => return literal_in(literal, scope),
        };
        AgentRef {
            key: address.clone(),
            address,
            workspace_id: scope.workspace_id.clone(),
            org_id: scope.org_id.clone(),
        }
    }
}

/// An address keyed by its literal text inside `scope`: legacy addresses, and canonical ones whose organization
/// or workspace does not exist here.
#[must_use]
pub fn literal_in(literal: &str, scope: &Scope) -> AgentRef {
    AgentRef {
        address: literal.to_owned(),
        key: format!("{}|{literal}", scope.workspace_id),
        workspace_id: scope.workspace_id.clone(),
        org_id: scope.org_id.clone(),
    }
}

/// `agent://org/workspace/name`.
#[must_use]
pub fn canonical(org_slug: &str, workspace_slug: &str, name: &str) -> String {
    format!("{SCHEME}{org_slug}/{workspace_slug}/{name}")
}

/// The slot an agent's mailbox and intents live in.
#[must_use]
pub fn slot_of(agent: &AgentRef) -> Slot {
    Slot::of_key(&agent.key)
}

/// Whether this is the internal runtime, which has no mailbox.
#[must_use]
pub fn is_agent_core(agent: &AgentRef) -> bool {
    agent.address.rsplit('/').next() == Some(AGENT_CORE)
}

/// The address segment for a service account's free-form `name`: the last segment of a full address, else the
/// name in lower case with every other character turned into `-`.
///
/// # Errors
/// `InvalidArgument` when nothing usable is left, or the name of the internal runtime.
pub fn sa_name_from(name: &str) -> Result<String, ServiceError> {
    let last = name
        .strip_prefix(SCHEME)
        .and_then(|rest| rest.rsplit('/').next())
        .unwrap_or(name);
    let cleaned: String = last
        .to_lowercase()
        .chars()
        .map(|c| {
            if c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '_' | '-') {
                c
            } else {
                '-'
            }
        })
        .take(63)
        .collect();
    let trimmed = cleaned
        .trim_matches(|c: char| !c.is_ascii_alphanumeric())
        .to_owned();
    if trimmed == AGENT_CORE {
        return Err(ServiceError::new(
            ErrorCode::InvalidArgument,
            "name agent_core is reserved for the internal runtime; choose another one",
        ));
    }
    if is_sa_name(&trimmed) {
        Ok(trimmed)
    } else {
        Err(ServiceError::new(
            ErrorCode::InvalidArgument,
            "name must leave 2 to 63 of a-z, 0-9, '.', '_', '-' once lowercased",
        ))
    }
}

fn invalid(message: String) -> ServiceError {
    ServiceError::new(ErrorCode::InvalidAgentAddress, message)
}

fn is_edge(c: u8) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit()
}

/// `[a-z0-9][a-z0-9-]{1,61}[a-z0-9]`
fn is_slug(text: &str) -> bool {
    let b = text.as_bytes();
    (3..=63).contains(&b.len())
        && is_edge(b[0])
        && is_edge(b[b.len() - 1])
        && b.iter().all(|&c| is_edge(c) || c == b'-')
}

/// `[a-z0-9][a-z0-9._-]{0,61}[a-z0-9]`
fn is_sa_name(text: &str) -> bool {
    let b = text.as_bytes();
    (2..=63).contains(&b.len())
        && is_edge(b[0])
        && is_edge(b[b.len() - 1])
        && b.iter().all(|&c| is_edge(c) || matches!(c, b'.' | b'_' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn scope() -> Scope {
        Scope {
            org_id: "o1".into(),
            org_slug: "acme".into(),
            workspace_id: "w1".into(),
            workspace_slug: "prod".into(),
        }
    }

    fn resolved(text: &str) -> AgentRef {
        Address::parse(text).unwrap().resolve(&scope())
    }

    #[test]
    fn every_spelling_of_one_agent_has_one_key() {
        for text in [
            "agent://acme/prod/payment-service-demo",
            "acme/prod/payment-service-demo",
            "agent:/acme/prod/payment-service-demo",
            "payment-service-demo",
            "agent://payment-service-demo",
            " payment-service-demo ",
        ] {
            let agent = resolved(text);
            assert_eq!(agent.key, "agent://acme/prod/payment-service-demo", "{text}");
            assert_eq!(agent.address, agent.key);
        }
    }

    #[test]
    fn legacy_addresses_are_literals_of_the_workspace() {
        let agent = resolved("agent://conformance/receiver");
        assert_eq!(agent.address, "agent://conformance/receiver");
        assert_eq!(agent.key, "w1|agent://conformance/receiver");
        assert_eq!(resolved("conformance/receiver").key, agent.key);
        assert_eq!(resolved("initiator://someone").address, "initiator://someone");
        assert_eq!(resolved("söme-agent").key, "w1|agent://söme-agent");
    }

    #[test]
    fn internal_runtime_is_recognised() {
        for text in ["agent_core", "agent://agent_core", "agent://acme/prod/agent_core"] {
            assert!(is_agent_core(&resolved(text)), "{text}");
        }
        assert!(!is_agent_core(&resolved("agent-core")));
    }

    #[test]
    fn bad_addresses_are_refused() {
        for text in ["", "  ", "agent://", "a b", "a\u{0}b", "a|b", &"x".repeat(384)] {
            let err = Address::parse(text).unwrap_err();
            assert_eq!(err.code, ErrorCode::InvalidAgentAddress, "{text:?}");
        }
    }

    #[test]
    fn service_account_names_become_segments() {
        assert_eq!(sa_name_from("Payment Service!").unwrap(), "payment-service");
        assert_eq!(sa_name_from("agent://acme/prod/worker").unwrap(), "worker");
        assert_eq!(
            sa_name_from("payment-service-demo").unwrap(),
            "payment-service-demo"
        );
        assert!(sa_name_from("!").is_err());
        // Its keys would act as the internal runtime.
        for reserved in [
            "agent_core",
            "Agent_Core",
            "agent://acme/prod/agent_core",
            "agent_core!",
        ] {
            assert!(sa_name_from(reserved).is_err(), "{reserved}");
        }
    }

    #[test]
    fn an_account_is_found_under_the_name_it_was_given() {
        let scope = scope();
        for name in ["UPPER-Case", "Payment_Service.2", "worker"] {
            let account = canonical(
                &scope.org_slug,
                &scope.workspace_slug,
                &sa_name_from(name).unwrap(),
            );
            for text in [name.to_owned(), format!("agent://{name}")] {
                assert_eq!(
                    Address::parse(&text).unwrap().resolve(&scope).key,
                    account,
                    "{text}"
                );
            }
        }
    }

    proptest! {
        #[test]
        fn parsing_never_panics_and_resolving_is_stable(text in ".{0,400}") {
            if let Ok(address) = Address::parse(&text) {
                let agent = address.resolve(&scope());
                prop_assert!(agent.address.chars().count() <= ADDRESS_CHARS_MAX + 40);
                let again = Address::parse(&agent.address).map(|a| a.resolve(&scope()).key);
                // Reading our own spelling again finds the same mailbox.
                prop_assert_eq!(again.ok(), Some(agent.key));
            }
        }
    }
}
