//! Where an agent's deliveries are posted, and what the posts are signed with.

use crate::client::{Safety, unary};
use crate::submit::draw_key;
use crate::types::{Agent, CallbackChange};
use crate::{Client, Error};
use baton_protocol::proto::v1;
use baton_protocol::proto::v1::agent_service_client::AgentServiceClient;
use std::time::Duration;

/// What to change of an agent's callback; absent parts stay.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NewCallback {
    /// Empty = none.
    pub url: Option<String>,
    /// `http` makes pushes begin.
    pub delivery_mode: Option<String>,
}

impl Client {
    /// Sets where an agent's deliveries are posted; a callback that was disabled is taken up again.
    ///
    /// # Errors
    /// `agent_not_found`, `invalid_argument` for a URL that nothing can be posted to, and what any call gives.
    pub async fn set_callback(&self, agent: &str, callback: NewCallback) -> Result<CallbackChange, Error> {
        let request = v1::SetCallbackRequest {
            agent: agent.to_owned(),
            callback_url: callback.url,
            delivery_mode: callback.delivery_mode,
            idempotency_key: draw_key(),
        };
        let answer = unary!(self, Safety::Repeatable, AgentServiceClient.set_callback(request))?;
        changed(answer.agent, answer.callback_secret)
    }

    /// Makes another secret the one that posts are signed with: `secret`, or a drawn one. The one before signs beside
    /// it for `overlap` (a day when absent).
    ///
    /// # Errors
    /// `agent_not_found`, `invalid_argument` for a secret that is too short, and what any call gives.
    pub async fn rotate_callback_secret(
        &self,
        agent: &str,
        secret: Option<&str>,
        overlap: Option<Duration>,
    ) -> Result<CallbackChange, Error> {
        let seconds = |time: Duration| u32::try_from(time.as_secs()).unwrap_or(u32::MAX);
        let request = v1::RotateCallbackSecretRequest {
            agent: agent.to_owned(),
            callback_secret: secret.unwrap_or_default().to_owned(),
            overlap_seconds: overlap.map(seconds),
            idempotency_key: draw_key(),
        };
        let answer = unary!(
            self,
            Safety::Repeatable,
            AgentServiceClient.rotate_callback_secret(request)
        )?;
        changed(answer.agent, answer.callback_secret)
    }
}

fn changed(agent: Option<v1::Agent>, secret: String) -> Result<CallbackChange, Error> {
    let agent = agent.ok_or_else(|| Error::Unexpected("the agent is missing".into()))?;
    Ok(CallbackChange {
        agent: Agent::from_wire(agent),
        callback_secret: (!secret.is_empty()).then_some(secret),
    })
}
