//! Agent addresses inside paths: escaped, unescaped, bare, or with a slash lost to a proxy.

use baton_protocol::ServiceError;
use percent_encoding::percent_decode_str;

use super::json::invalid;

/// What of an agent is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AgentResource {
    /// The directory entry.
    Entry,
    /// Deliveries as JSON.
    Intents,
    /// Deliveries as an event stream.
    Stream,
    /// Access policies, which this version does not serve.
    Later,
}

impl AgentResource {
    /// The endpoint's name for limits and metrics.
    pub(crate) fn endpoint(self) -> &'static str {
        match self {
            Self::Entry => "/v1/agents/{address}",
            Self::Intents => "/v1/agents/{address}/intents",
            Self::Stream => "/v1/agents/{address}/intents/stream",
            Self::Later => "other",
        }
    }
}

/// Splits what follows `/v1/agents/` into an address and the resource.
///
/// # Errors
/// `InvalidArgument` when the path is not UTF-8 once decoded.
pub(crate) fn parse_agent_path(rest: &str) -> Result<(String, AgentResource), ServiceError> {
    let decoded = percent_decode_str(rest).decode_utf8();
    let decoded = decoded.map_err(|_| invalid("the agent address in the path is not UTF-8"))?;
    let path = decoded.trim_end_matches('/');
    for (suffix, resource) in [
        ("/intents/stream", AgentResource::Stream),
        ("/intents", AgentResource::Intents),
        ("/policy", AgentResource::Later),
        ("/receive-override", AgentResource::Later),
    ] {
        if let Some(address) = path.strip_suffix(suffix)
            && !address.is_empty()
        {
            return Ok((address.to_owned(), resource));
        }
    }
    Ok((path.to_owned(), AgentResource::Entry))
}

#[cfg(test)]
mod tests {
    use super::*;
    use baton_protocol::address::Address;

    #[test]
    fn every_spelling_names_the_same_agent() {
        let expected = Address::parse("agent://acme/prod/worker").unwrap();
        for spelling in [
            "acme/prod/worker",
            "agent://acme/prod/worker",
            "agent:/acme/prod/worker",
            "agent%3A%2F%2Facme%2Fprod%2Fworker",
            "agent%3a//acme/prod/worker",
        ] {
            for (suffix, resource) in [
                ("", AgentResource::Entry),
                ("/", AgentResource::Entry),
                ("/intents", AgentResource::Intents),
                ("/intents/stream", AgentResource::Stream),
                ("/intents/stream/", AgentResource::Stream),
            ] {
                let (address, found) = parse_agent_path(&format!("{spelling}{suffix}")).unwrap();
                assert_eq!(found, resource, "{spelling}{suffix}");
                assert_eq!(Address::parse(&address).unwrap(), expected, "{spelling}{suffix}");
            }
        }
    }

    #[test]
    fn bare_and_legacy_names_work_in_paths() {
        let parse = |rest: &str| parse_agent_path(rest).unwrap();
        assert_eq!(parse("worker/intents"), ("worker".into(), AgentResource::Intents));
        assert_eq!(
            parse("agent://conformance/receiver/intents/stream"),
            ("agent://conformance/receiver".into(), AgentResource::Stream)
        );
        assert!(parse_agent_path("%ff/intents").is_err());
        assert_eq!(parse("worker/policy").1, AgentResource::Later);
        assert_eq!(parse("policy").1, AgentResource::Entry);
    }
}
