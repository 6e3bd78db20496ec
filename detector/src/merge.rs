//! Summaries of several meters that shared the traffic, as if there had been one.

use crate::summary::{TargetTraffic, TrafficSummary};

impl TrafficSummary {
    /// Adds what another meter counted: of the rest of the traffic in the same time, or of the time
    /// right after.
    ///
    /// Both meters must have been seeded alike, or sources are counted twice. Which one is added to
    /// which changes nothing but how far frequent values are known when there are many.
    pub fn merge(&mut self, other: Self) {
        let Self {
            start,
            end,
            targets,
            packets,
            malformed,
            not_ip,
            unprotected,
            evicted,
            lost,
            blind,
            dark_since,
        } = other;
        self.start = self.start.min(start);
        self.end = self.end.max(end);
        self.packets += packets;
        self.malformed += malformed;
        self.not_ip += not_ip;
        self.unprotected += unprotected;
        self.lost += lost;
        self.blind |= blind;
        self.dark_since = self.dark_since.max(dark_since);
        self.evicted.resize(self.evicted.len().max(evicted.len()), 0);
        for (mine, theirs) in self.evicted.iter_mut().zip(evicted) {
            *mine += theirs;
        }
        if !targets.is_empty() {
            self.targets = merge_sorted(std::mem::take(&mut self.targets), targets);
        }
    }
}

fn merge_sorted(left: Vec<TargetTraffic>, right: Vec<TargetTraffic>) -> Vec<TargetTraffic> {
    let mut merged = Vec::with_capacity(left.len() + right.len());
    let (mut left, mut right) = (left.into_iter().peekable(), right.into_iter().peekable());
    while let (Some(mine), Some(theirs)) = (left.peek(), right.peek()) {
        let order = mine.address.cmp(&theirs.address);
        let next = if order.is_gt() { right.next() } else { left.next() };
        let Some(mut next) = next else { break };
        if order.is_eq()
            && let Some(same) = right.next()
        {
            next.add_counts(&same);
            next.add_classes(&same);
            next.sampled.extend(same.sampled);
        }
        merged.push(next);
    }
    merged.extend(left);
    merged.extend(right);
    merged
}
