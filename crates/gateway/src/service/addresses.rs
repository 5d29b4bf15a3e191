//! From the text of an address to the mailbox it names.

use baton_protocol::address::{Address, Scope, is_agent_core, literal_in, slot_of};
use baton_protocol::proto::internal::{AgentRef, FindAgent, GetTenant, query, query_reply};
use baton_protocol::{ErrorCode, IntentId, Route, ServiceError, Slot};

use super::{Caller, Service, unexpected};

impl Service {
    /// Resolves an address in the caller's workspace. A canonical address of a workspace that does not exist is a
    /// literal of the caller's workspace.
    ///
    /// # Errors
    /// `InvalidAgentAddress`; `ReceiverOrgClosed` for an address of another organization.
    pub(crate) async fn resolve_address(
        &self,
        caller: &Caller,
        text: &str,
    ) -> Result<AgentRef, ServiceError> {
        let scope = &caller.scope;
        let address = Address::parse(text)?;
        let Address::Canonical { org, workspace, .. } = &address else {
            return Ok(address.resolve(scope));
        };
        if *org == scope.org_slug && *workspace == scope.workspace_slug {
            return Ok(address.resolve(scope));
        }
        match self.tenant_by_slugs(org, workspace).await? {
            None => Ok(literal_in(&address.resolve(scope).address, scope)),
            Some(found) if found.org_id == scope.org_id || caller.is_operator() => {
                Ok(address.resolve(&found))
            }
            Some(_) => Err(ServiceError::new(
                ErrorCode::ReceiverOrgClosed,
                format!("organization {org} does not accept intents from other organizations"),
            )),
        }
    }

    async fn tenant_by_slugs(&self, org: &str, workspace: &str) -> Result<Option<Scope>, ServiceError> {
        self.tenant(GetTenant {
            org_slug: org.to_owned(),
            workspace_slug: workspace.to_owned(),
            ..GetTenant::default()
        })
        .await
    }

    /// The names and ids of a workspace; `None` when there is no such workspace.
    pub(super) async fn tenant(&self, query: GetTenant) -> Result<Option<Scope>, ServiceError> {
        let found = self
            .read_nearby(Route::Meta, None, query::Body::GetTenant(query))
            .await;
        match found {
            Ok(query_reply::Outcome::Tenant(view)) => {
                let (Some(org), Some(workspace)) = (view.organization, view.workspace) else {
                    return Ok(None);
                };
                Ok(Some(Scope {
                    org_id: org.org_id,
                    org_slug: org.slug,
                    workspace_id: workspace.workspace_id,
                    workspace_slug: workspace.slug,
                }))
            }
            Ok(_) => Err(unexpected("something else than a tenant")),
            Err(error) if error.code.http() == 404 => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Under strict addressing, refuses recipients that nobody registered.
    pub(super) async fn check_registered(&self, agent: &AgentRef) -> Result<(), ServiceError> {
        if !self.config.strict_addresses || is_agent_core(agent) {
            return Ok(());
        }
        if self.is_registered(agent).await? {
            return Ok(());
        }
        Err(ServiceError::new(
            ErrorCode::AgentNotFound,
            format!("agent {} is not registered", agent.address),
        ))
    }

    /// The agent that an escalation calls in: an `agent://` address, or the name of an agent that is registered.
    /// Anything else stands for people.
    pub(in crate::service) async fn escalation_agent(
        &self,
        caller: &Caller,
        text: &str,
    ) -> Result<Option<AgentRef>, ServiceError> {
        match Address::parse(text) {
            Err(_) | Ok(Address::AgentCore) => return Ok(None),
            Ok(_) => {}
        }
        let agent = self.resolve_address(caller, text).await?;
        if text.starts_with("agent://") {
            self.check_registered(&agent).await?;
            Ok(Some(agent))
        } else if self.is_registered(&agent).await? {
            Ok(Some(agent))
        } else {
            Ok(None)
        }
    }

    async fn is_registered(&self, agent: &AgentRef) -> Result<bool, ServiceError> {
        let query = query::Body::FindAgent(FindAgent {
            address: agent.address.clone(),
        });
        // A replica that lags may not know an agent that was registered a moment ago.
        if self.read_nearby(Route::Meta, None, query.clone()).await.is_ok() {
            return Ok(true);
        }
        match self.read(Route::Meta, None, query).await {
            Ok(_) => Ok(true),
            Err(error) if error.code.http() == 404 => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Mints an id in the slot of the recipient. The internal runtime has no mailbox: `free_slot`, or a random one.
    pub(super) fn mint_intent_id(&self, to_agent: &AgentRef, free_slot: Option<Slot>) -> IntentId {
        let random = u64::from_be_bytes(self.random());
        let slot = if is_agent_core(to_agent) {
            free_slot.unwrap_or_else(|| Slot::from_bits(u16::from_be_bytes(self.random())))
        } else {
            slot_of(to_agent)
        };
        IntentId::new(self.ports.environment.now_ms(), slot, random)
    }

    /// Resolves the owner scope of a call, without judging whether the caller may use it.
    pub(crate) async fn acting_for(
        &self,
        caller: &Caller,
        owner: Option<&str>,
    ) -> Result<Option<AgentRef>, ServiceError> {
        match owner {
            None => Ok(None),
            Some(text) => Ok(Some(self.resolve_address(caller, text).await?)),
        }
    }

    /// The owner whose inbox or deliveries are asked for: the caller itself unless named.
    ///
    /// # Errors
    /// `InvalidActorScope` when the caller's key does not cover that owner.
    pub(crate) async fn owner(&self, caller: &Caller, owner: Option<&str>) -> Result<AgentRef, ServiceError> {
        let owner = match self.acting_for(caller, owner).await? {
            Some(owner) => owner,
            None => caller.own_address(),
        };
        caller.check_owner(&owner)?;
        Ok(owner)
    }
}
