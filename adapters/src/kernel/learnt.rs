//! The rules that peers ask for: a chain of their own, in the order of RFC 8955 §5.1.
//!
//! The first rule that matches a packet decides about it: what it lets through, no later one is
//! asked about, unless it says so itself (RFC 8955 §7.3, the terminal action). The chain is written
//! anew as a whole with every change, in one transaction.

use std::io;

use tidegate_model::{Nlri, Route, TrafficFilteringAction};

use super::KernelError;
use super::filter::{Untranslatable, translate};
use super::ruleset::{Change, Verdict};
use super::socket::{NetlinkSocket, Transaction};
use super::table::verdict;

/// Most netlink messages of one transaction: more do not fit a socket's buffer.
const MOST_CHANGES: usize = 400;

/// What is in the chain.
#[derive(Debug, Default)]
pub(super) struct Learnt {
    exists: bool,
    limits: Vec<String>,
}

impl Learnt {
    /// See [`Table::set_learnt`](super::table::Table::set_learnt).
    pub(super) fn set(
        &mut self,
        socket: &mut NetlinkSocket,
        routes: &[Route],
    ) -> Result<Vec<(Nlri, String)>, KernelError> {
        let mut refused = Vec::new();
        if !self.exists && routes.is_empty() {
            return Ok(refused);
        }
        let mut left: Vec<&Route> = routes.iter().collect();
        loop {
            let (changes, of_route, limits) = self.changes(&left, &mut refused);
            let errors = match socket.transact(&changes)? {
                Transaction::Done(_) => {
                    self.exists = true;
                    self.limits = limits;
                    return Ok(refused);
                }
                Transaction::Refused(errors) => errors,
            };
            // Without those that the kernel refuses; if it is not about any of them, it is serious.
            let mut gone = Vec::new();
            for (change, error) in errors {
                let Some(Some(nlri)) = of_route.get(change) else {
                    return Err(KernelError::transaction(error));
                };
                refused.push((nlri.clone(), io::Error::from_raw_os_error(error).to_string()));
                gone.push(nlri.clone());
            }
            left.retain(|route| !gone.contains(&route.nlri));
        }
    }

    /// The transaction, the rule that each of its changes is about, and the names of the limits.
    fn changes(
        &self,
        routes: &[&Route],
        refused: &mut Vec<(Nlri, String)>,
    ) -> (Vec<Change>, Vec<Option<Nlri>>, Vec<String>) {
        let mut changes = vec![if self.exists { Change::FlushLearnt } else { Change::LearntChain }];
        changes.extend(self.limits.iter().cloned().map(Change::DeleteLimit));
        let mut of_route = vec![None; changes.len()];
        let mut limits = Vec::new();
        for (number, route) in routes.iter().enumerate() {
            let known = refused.iter().any(|(nlri, _)| *nlri == route.nlri);
            let name = format!("learnt-{number}");
            let added = match added(route, &name) {
                Ok(added) if changes.len() + added.len() <= MOST_CHANGES => added,
                Ok(_) if known => continue,
                Ok(_) => {
                    refused.push((route.nlri.clone(), "there are too many rules".to_owned()));
                    continue;
                }
                Err(_) if known => continue,
                Err(why) => {
                    refused.push((route.nlri.clone(), why.to_string()));
                    continue;
                }
            };
            if added.iter().any(|change| matches!(change, Change::Limit(..))) {
                limits.push(name);
            }
            of_route.resize(changes.len() + added.len(), Some(route.nlri.clone()));
            changes.extend(added);
        }
        (changes, of_route, limits)
    }
}

/// The changes that carry out one rule.
fn added(route: &Route, limit: &str) -> Result<Vec<Change>, Untranslatable> {
    let Nlri::FlowSpec(rule) = &route.nlri else { return Err(Untranslatable::Unicast) };
    let goes_on = |action: &TrafficFilteringAction| {
        matches!(action, TrafficFilteringAction::TrafficAction { sample: false, terminal: true })
    };
    let go_on = route.actions.iter().any(goes_on);
    let acting: Vec<_> = route.actions.iter().filter(|one| !goes_on(one)).copied().collect();
    // Without an action it lets everything through.
    let verdict = if acting.is_empty() { None } else { Some(verdict(&acting)?) };
    let terms = translate(rule)?;
    let comment = super::ruleset::comment(0, &rule.to_string());
    let mut changes = Vec::new();
    let shared_limit = match verdict {
        Some(Verdict::DropOver(rate)) if terms.len() > 1 => {
            changes.push(Change::Limit(limit.to_owned(), rate));
            Some(limit.to_owned())
        }
        _ => None,
    };
    let rule = |term, verdict| Change::LearntRule {
        term,
        verdict,
        shared_limit: shared_limit.clone(),
        comment: comment.clone(),
    };
    if verdict.is_some() {
        changes.extend(terms.iter().cloned().map(|term| rule(term, verdict)));
    }
    if !go_on && verdict != Some(Verdict::Drop) {
        changes.extend(terms.into_iter().map(|term| rule(term, None)));
    }
    Ok(changes)
}
