//! Agents: registering them, finding them, what waits for them.

use crate::client::{Safety, unary};
use crate::submit::draw_key;
use crate::types::{Agent, Backlog, Registration};
use crate::{Client, Error};
use baton_protocol::proto::v1;
use baton_protocol::proto::v1::agent_service_client::AgentServiceClient;

/// An agent to register.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NewAgent {
    /// The last part of its address.
    pub name: String,
    pub display_name: Option<String>,
    /// `stream`, `poll`, `http`, `inbox` or `internal`.
    pub delivery_mode: Option<String>,
    /// Where its deliveries are posted. Of an agent that exists already nothing changes.
    pub callback_url: Option<String>,
    /// Also make a key for it. The answer shows it.
    pub create_key: bool,
    /// The same key with the same agent has the same answer, its new key included. Without one, a registration that
    /// makes a key or a secret draws one, so that its own retries are safe.
    pub idempotency_key: Option<String>,
}

impl Client {
    /// Registers an agent, or finds the one of this name.
    ///
    /// # Errors
    /// What any call gives.
    pub async fn register_agent(&self, agent: NewAgent) -> Result<Registration, Error> {
        let secret = agent.create_key || agent.callback_url.is_some();
        let drawn = || secret.then(draw_key);
        let request = v1::RegisterAgentRequest {
            name: agent.name,
            display_name: agent.display_name.unwrap_or_default(),
            delivery_mode: agent.delivery_mode.unwrap_or_default(),
            create_key: agent.create_key,
            idempotency_key: agent.idempotency_key.or_else(drawn).unwrap_or_default(),
            callback_url: agent.callback_url.unwrap_or_default(),
            callback_secret: String::new(),
        };
        let answer = unary!(
            self,
            Safety::Repeatable,
            AgentServiceClient.register_agent(request)
        )?;
        Ok(Registration {
            agent: required(answer.agent)?,
            created: answer.created,
            api_key: (!answer.api_key.is_empty()).then_some(answer.api_key),
            callback_secret: (!answer.callback_secret.is_empty()).then_some(answer.callback_secret),
        })
    }

    /// One agent by its address.
    ///
    /// # Errors
    /// `agent_not_found`, and what any call gives.
    pub async fn get_agent(&self, address: &str) -> Result<Agent, Error> {
        let request = v1::GetAgentRequest {
            address: address.to_owned(),
        };
        let answer = unary!(self, Safety::Repeatable, AgentServiceClient.get_agent(request))?;
        required(answer.agent)
    }

    /// All agents of the workspace.
    ///
    /// # Errors
    /// What any call gives.
    pub async fn list_agents(&self) -> Result<Vec<Agent>, Error> {
        let mut agents = Vec::new();
        let mut page_token = String::new();
        loop {
            let request = v1::ListAgentsRequest {
                page_size: 0,
                page_token,
            };
            let answer = unary!(self, Safety::Repeatable, AgentServiceClient.list_agents(request))?;
            agents.extend(answer.agents.into_iter().map(Agent::from_wire));
            if answer.next_page_token.is_empty() {
                return Ok(agents);
            }
            page_token = answer.next_page_token;
        }
    }

    /// What waits for an agent.
    ///
    /// # Errors
    /// What any call gives.
    pub async fn backlog(&self, agent: &str) -> Result<Backlog, Error> {
        let request = v1::GetBacklogRequest {
            agent: agent.to_owned(),
        };
        let answer = unary!(self, Safety::Repeatable, AgentServiceClient.get_backlog(request))?;
        Ok(Backlog::from_wire(&answer))
    }
}

fn required(agent: Option<v1::Agent>) -> Result<Agent, Error> {
    agent
        .map(Agent::from_wire)
        .ok_or_else(|| Error::Unexpected("the agent is missing".into()))
}
