//! The egress gate before daemons that encode for themselves.

use tidegate_bgpd::SessionParameters;
use tidegate_bgpd::convert::encode_announce;
use tidegate_bgpd::egress::{Gate, GatePolicy};
use tidegate_model::Route;

use super::wire::parameters;

/// Judges routes by the UPDATE that they would be.
#[derive(Clone, Debug)]
pub struct Guard {
    gate: Gate,
    parameters: SessionParameters,
}

impl Guard {
    /// By this policy of what may leave.
    #[must_use]
    pub fn new(policy: GatePolicy) -> Self {
        Self { gate: Gate::new(policy), parameters: parameters() }
    }

    /// # Errors
    /// Why the route must not leave, or cannot be written.
    pub fn check(&self, route: &Route) -> Result<(), String> {
        let packed =
            encode_announce(&self.parameters, &[route]).map_err(|error| error.to_string())?;
        self.gate.judge(&packed.message).map_err(|refusal| refusal.to_string())
    }
}
