//! Scenarios: workflows of steps, each an intent to an agent.

use crate::client::{Safety, unary};
use crate::submit::draw_key;
use crate::types::{Intent, Scenario, Validation};
use crate::{Client, Error};
use baton_protocol::proto::v1;
use baton_protocol::proto::v1::scenario_service_client::ScenarioServiceClient;
use serde::Serialize;

impl Client {
    /// Starts a bundle. `key` makes repetitions of the whole call one scenario; without it, only the tries of this call
    /// are.
    ///
    /// # Errors
    /// A bundle with faults, and what any call gives.
    pub async fn apply_scenario(
        &self,
        bundle: &impl Serialize,
        key: Option<&str>,
    ) -> Result<Scenario, Error> {
        let request = v1::ApplyScenarioRequest {
            bundle_json: encode(bundle)?.into(),
            idempotency_key: key.map_or_else(draw_key, str::to_owned),
        };
        let answer = unary!(
            self,
            Safety::Repeatable,
            ScenarioServiceClient.apply_scenario(request)
        )?;
        Ok(Scenario {
            intent: Intent::required(answer.intent)?,
            compile_id: answer.compile_id,
            replayed: answer.replayed,
        })
    }

    /// Says everything that is wrong with a bundle; changes nothing.
    ///
    /// # Errors
    /// What any call gives. Faults of the bundle are an answer.
    pub async fn validate_scenario(&self, bundle: &impl Serialize) -> Result<Validation, Error> {
        let request = v1::ValidateScenarioRequest {
            bundle_json: encode(bundle)?.into(),
        };
        let answer = unary!(
            self,
            Safety::Repeatable,
            ScenarioServiceClient.validate_scenario(request)
        )?;
        Ok(Validation {
            valid: answer.valid,
            errors: answer.errors,
            warnings: answer.warnings,
        })
    }
}

fn encode(bundle: &impl Serialize) -> Result<Vec<u8>, Error> {
    serde_json::to_vec(bundle)
        .map_err(|error| Error::Invalid(format!("the bundle has no JSON form: {error}")))
}
