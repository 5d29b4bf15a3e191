//! Provisions a bundle's agents and starts its parent intent.

use baton_protocol::address::{AGENT_CORE, Address};
use baton_protocol::proto::internal::{
    AgentRef, FindAgent, StartScenario, Status, command, query, query_reply, reply,
};
use baton_protocol::{ErrorCode, Route, ServiceError};
use tracing::field::display;

use super::super::accounts::NewAccount;
use super::super::idempotency::{claim, record_slot};
use super::super::{Caller, Failure, Service, unexpected};
use super::compile::person;
use super::plan::{Plan, plan};
use super::{Bundle, BundleAgent};

/// A started (or found) scenario.
#[derive(Debug, Clone)]
pub(crate) struct ScenarioApplied {
    pub intent_id: bytes::Bytes,
    pub scenario_id: String,
    pub compile_id: String,
    pub status: &'static str,
    pub pending_with: String,
    pub deadline_at_ms: u64,
    pub created_at_ms: u64,
    pub agents: Vec<StartedAgent>,
    pub warnings: Vec<String>,
    pub replayed: bool,
}

/// One agent of the bundle, resolved.
#[derive(Debug, Clone)]
pub(crate) struct StartedAgent {
    pub role: String,
    pub agent: AgentRef,
    pub display_name: String,
    /// Absent when the address is not registered.
    pub service_account_id: Option<String>,
    pub created: bool,
}

impl Service {
    /// Checks, compiles and starts a bundle. A bundle without steps is a direct intent.
    #[tracing::instrument(name = "scenario.apply", skip_all, fields(scenario_id = bundle.scenario_id, intent_id))]
    pub(crate) async fn apply_scenario(
        &self,
        caller: &Caller,
        bundle: Bundle,
    ) -> Result<ScenarioApplied, Failure> {
        let (plan, findings) = plan(&bundle);
        if let Some(error) = findings.errors.first() {
            return Err(ServiceError::new(ErrorCode::SchemaInvalid, error.clone()).into());
        }
        let mut agents = Vec::with_capacity(bundle.agents.len());
        for agent in &bundle.agents {
            agents.push(self.provision(caller, agent).await?);
        }
        let mut applied = if plan.steps.is_empty() {
            self.start_direct(caller, &bundle, &agents).await?
        } else {
            self.start_workflow(caller, &bundle, &plan, &agents).await?
        };
        applied.agents = agents;
        applied.warnings = findings.warnings;
        Ok(applied)
    }

    async fn provision(&self, caller: &Caller, agent: &BundleAgent) -> Result<StartedAgent, Failure> {
        let mut resolved = self.resolve_address(caller, &agent.address).await?;
        let role = agent.role.clone().unwrap_or_else(|| agent.address.clone());
        let query = query::Body::FindAgent(FindAgent {
            address: resolved.address.clone(),
        });
        let actor = Some(caller.actor(None, None));
        let (service_account_id, created) = match self.read(Route::Meta, actor, query).await {
            Ok(query_reply::Outcome::ServiceAccount(account)) => (Some(account.service_account_id), false),
            Ok(_) => return Err(unexpected("something else than an agent").into()),
            Err(error) if error.code.http() != 404 => return Err(error.into()),
            Err(_) if agent.create_if_missing && Address::parse(&agent.address)? != Address::AgentCore => {
                let put = self.put_account(caller, new_account(agent), true).await?;
                resolved.key.clone_from(&put.account.address);
                resolved.address = put.account.address;
                (Some(put.account.service_account_id), put.created)
            }
            Err(_) => {
                self.check_registered(&resolved).await?;
                (None, false)
            }
        };
        Ok(StartedAgent {
            display_name: agent.display_name.clone().unwrap_or_else(|| role.clone()),
            role,
            agent: resolved,
            service_account_id,
            created,
        })
    }

    async fn start_direct(
        &self,
        caller: &Caller,
        bundle: &Bundle,
        agents: &[StartedAgent],
    ) -> Result<ScenarioApplied, Failure> {
        let mut submit = bundle.intent.clone();
        submit.to_agent = Some(match agents {
            [only] => only.agent.address.clone(),
            _ => AGENT_CORE.to_owned(),
        });
        let pending_with = submit.to_agent.clone().unwrap_or_default();
        let deadline_at_ms = submit.deadline_at_ms;
        let reply = self.submit(caller, submit).await?;
        Ok(ScenarioApplied {
            compile_id: baton_protocol::IntentId::from_slice(&reply.submitted.intent_id)
                .map(|id| id.to_string())
                .unwrap_or_default(),
            status: reply.submitted.status().wire_name(),
            intent_id: reply.submitted.intent_id,
            scenario_id: bundle.scenario_id.clone(),
            pending_with,
            deadline_at_ms,
            created_at_ms: reply.submitted.created_at_ms,
            agents: Vec::new(),
            warnings: Vec::new(),
            replayed: reply.replayed,
        })
    }

    async fn start_workflow(
        &self,
        caller: &Caller,
        bundle: &Bundle,
        plan: &Plan,
        agents: &[StartedAgent],
    ) -> Result<ScenarioApplied, Failure> {
        let scenario = self.compile(caller, bundle, plan, agents).await?;
        let entry = scenario.steps.get(plan.entry as usize);
        let to_agent = match entry.and_then(|s| s.agent.clone()) {
            Some(agent) => agent,
            None => self.resolve_address(caller, AGENT_CORE).await?,
        };
        let claim = bundle.intent.idempotency.as_ref().map(|r| claim(caller, r));
        let intent_id = self.mint_intent_id(&to_agent, claim.as_ref().map(record_slot));
        tracing::Span::current().record("intent_id", display(intent_id));
        let mut submit = bundle.intent.clone();
        // The question of the intent is asked by the steps that have none of their own.
        submit.human_task = None;
        if let Some(reminders) = &mut submit.reminders {
            reminders.escalate_to = person(bundle, &reminders.escalate_to).to_owned();
        }
        let mut parent = self.submit_command(caller, submit, to_agent).await?;
        parent.actor = Some(caller.audited_actor(None, None));
        let reply = self
            .create_once(intent_id, claim, |claimed| {
                command::Body::StartScenario(StartScenario {
                    parent: Some(claimed.fill(parent.clone())),
                    scenario: Some(scenario.clone()),
                })
            })
            .await?;
        let started = match reply.outcome {
            Some(reply::Outcome::ScenarioStarted(started)) => started,
            Some(reply::Outcome::Rejected(rejection)) => return Err(rejection.into()),
            _ => return Err(unexpected("something else than a started scenario").into()),
        };
        let intent = started
            .intent
            .ok_or_else(|| unexpected("a scenario without its intent"))?;
        // Steps that finish at once may have ended it already; the answer knows three statuses (surface 5.3).
        let status = if matches!(intent.status(), Status::Delivered | Status::Waiting) {
            intent.status().wire_name()
        } else {
            Status::InProgress.wire_name()
        };
        let pending = intent.pending().map(|p| p.r#ref.clone());
        Ok(ScenarioApplied {
            intent_id: intent.intent_id,
            scenario_id: intent.scenario_id,
            compile_id: started.compile_id,
            status,
            pending_with: pending
                .filter(|p| !p.is_empty())
                .unwrap_or_else(|| intent.to_agent.map(|a| a.address).unwrap_or_default()),
            deadline_at_ms: intent.deadline_at_ms,
            created_at_ms: intent.created_at_ms,
            agents: Vec::new(),
            warnings: Vec::new(),
            replayed: reply.replayed,
        })
    }
}

fn new_account(agent: &BundleAgent) -> NewAccount {
    NewAccount {
        name: agent.address.clone(),
        display_name: agent.display_name.clone().unwrap_or_default(),
        delivery_mode: agent.delivery_mode.clone().unwrap_or_default(),
        callback_url: agent.callback_url.clone().unwrap_or_default(),
        ..NewAccount::default()
    }
}
