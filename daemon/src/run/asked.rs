//! What people and programs ask of the running daemon. Every answer is given without waiting; who
//! asked may be gone.

use serde_json::json;
use tidegate_policy::Order;

use super::{Control, Line};
use crate::api::{Ask, NotOrdered, PanicOrder};

impl Control {
    /// Answers one ask.
    pub(super) fn answer(&mut self, ask: Ask) {
        let now = self.clock.now();
        match ask {
            Ask::View(to) => {
                drop(to.send(self.door.view(now, &self.engine, self.backends.ids())));
            }
            Ask::Order(order, to) => {
                let ordered = if self.engine.is_in_panic() && adds(&order) {
                    Err(NotOrdered::Panic)
                } else {
                    self.engine.order(now, &order).map_err(NotOrdered::from)
                };
                let ordered = ordered.map(|(attack, outputs)| {
                    self.carry_out(outputs);
                    attack
                });
                self.door.forget_view();
                drop(to.send(ordered));
            }
            Ask::Panic(order, to) => drop(to.send(self.panic(order))),
            Ask::Release(by, to) => drop(to.send(self.release(&by))),
            Ask::Audit(to) => {
                self.door.begin_audit(now, self.backends.ids(), to);
                self.backends.observe_all();
            }
            Ask::Apply(to) => {
                let number = self.reloader.request();
                self.door.await_policy(number, to);
            }
            Ask::Report(report, to) => {
                let reported = self.engine.report(now, *report).map(|(reported, outputs)| {
                    self.carry_out(outputs);
                    reported
                });
                drop(to.send(reported));
            }
            Ask::Baseline(address, to) => drop(to.send(self.engine.thresholds_of(address))),
        }
    }

    /// Withdraws everything; how many routes that is.
    fn panic(&mut self, order: PanicOrder) -> u32 {
        let now = self.clock.now();
        let held = self.engine.ledger().filter(|(_, entry)| entry.may_be_held()).count();
        let outputs = self.engine.panic(now);
        self.carry_out(outputs);
        tracing::warn!(by = order.by, reason = order.reason, "panic: everything is withdrawn");
        self.events.send(Line::Note {
            time: now,
            name: "panic",
            text: format!(
                "panic ordered by {}: everything is withdrawn: {}",
                order.by, order.reason
            ),
            fields: json!({ "by": order.by, "reason": order.reason, "withdrawing": held }),
        });
        self.door.set_panic(Some(PanicOrder { since: now, ..order }));
        self.door.forget_view();
        u32::try_from(held).unwrap_or(u32::MAX)
    }

    /// Ends a panic; the one that was in force.
    fn release(&mut self, by: &str) -> Option<PanicOrder> {
        let ended = self.door.set_panic(None)?;
        let now = self.clock.now();
        let outputs = self.engine.release(now);
        self.carry_out(outputs);
        tracing::warn!(by, "the panic is over");
        self.events.send(Line::Note {
            time: now,
            name: "panic-over",
            text: format!("{by} ended the panic"),
            fields: json!({ "by": by }),
        });
        self.door.forget_view();
        Some(ended)
    }
}

/// Whether the order may have something announced.
fn adds(order: &Order) -> bool {
    match order {
        Order::Approve { .. } | Order::Renew { .. } | Order::Announce { .. } => true,
        Order::Hold { .. } | Order::Resume { .. } | Order::Withdraw { .. } => false,
    }
}
