//! The envelope in a policy body.

use baton_protocol::ServiceError;
use baton_protocol::proto::internal::EnvelopeLimits;

use super::json::{JsonObject, invalid};
use crate::service::Envelope;

const NAME: &str = "envelope_patch";

/// Reads `envelope_patch`: what is enforced is checked, what else is in it is kept as it is. Absent when there is none.
///
/// # Errors
/// `InvalidArgument`, naming the member.
pub(super) fn decode_envelope(body: &JsonObject) -> Result<Option<Envelope>, ServiceError> {
    let (Some(members), Some(patch)) = (body.members(NAME)?, body.object(NAME)?) else {
        return Ok(None);
    };
    let number = |name: &str| match patch.number(name)? {
        // Above every bound.
        Some(value) => Ok(Some(u32::try_from(value).unwrap_or(u32::MAX))),
        None => Ok::<_, ServiceError>(None),
    };
    let limits = EnvelopeLimits {
        max_retry_count: number("max_retry_count")?,
        retry_backoff_seconds: number("retry_backoff_seconds")?,
        execution_timeout_seconds: number("execution_timeout_seconds")?,
        ttl_seconds: number("ttl_seconds")?,
        expires_at_ms: patch.time_ms("expires_at")?,
    };
    limits.check()?;
    let enforced = [
        "max_retry_count",
        "retry_backoff_seconds",
        "execution_timeout_seconds",
        "ttl_seconds",
        "expires_at",
    ];
    let taken_away = members
        .iter()
        .find(|member| member.value == "null".as_bytes() && enforced.contains(&member.key.as_str()));
    if let Some(member) = taken_away {
        return Err(invalid(format!(
            "{NAME}.{} cannot be taken away; set another value",
            member.key
        )));
    }
    Ok(Some(Envelope {
        members,
        limits: (limits != EnvelopeLimits::default()).then_some(limits),
    }))
}
