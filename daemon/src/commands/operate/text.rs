//! Answers as text for people. Everything that may come from packets or peers is escaped.

use std::fmt::Write as _;
use std::time::Duration;

use anstyle::{AnsiColor, Style};
use comfy_table::{ColumnConstraint, ContentArrangement, Table, presets};
use jiff::Timestamp;
use tidegate_model::{BitsPerSecond, PacketsPerSecond};

use crate::api::v1;

pub(super) const BAD: Style = AnsiColor::Red.on_default().bold();
pub(super) const GOOD: Style = AnsiColor::Green.on_default().bold();
pub(super) const NOTE: Style = AnsiColor::Yellow.on_default().bold();
pub(super) const BOLD: Style = Style::new().bold();

/// Width where there is no terminal.
const NO_TERMINAL: u16 = 120;
/// What is narrower is not tried.
const NARROWEST: u16 = 60;

/// Columns of the terminal.
pub(super) fn width() -> u16 {
    use std::io::IsTerminal as _;
    let size = std::io::stdout().is_terminal().then(ratatui::crossterm::terminal::size);
    let columns = size.and_then(Result::ok).map(|(columns, _)| columns);
    columns.filter(|columns| *columns > 0).map_or(NO_TERMINAL, |columns| columns.max(NARROWEST))
}

/// Seconds since the Unix epoch.
pub(super) fn now() -> i64 {
    i64::try_from(crate::clock::Clock::unix_seconds()).unwrap_or(i64::MAX)
}

/// `text` with control characters made visible.
pub(super) fn escape(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut safe, character| {
        match character {
            '\n' => safe.push(character),
            control if control.is_control() => {
                let _ = write!(safe, "{}", control.escape_default());
            }
            plain => safe.push(plain),
        }
        safe
    })
}

pub(super) fn to_span(span: Duration) -> prost_types::Duration {
    prost_types::Duration {
        seconds: i64::try_from(span.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(span.subsec_nanos()).unwrap_or(0),
    }
}

fn clock(time: Option<&prost_types::Timestamp>) -> String {
    let time = time.and_then(|time| Timestamp::new(time.seconds, time.nanos).ok());
    time.map_or_else(|| "-".to_owned(), |time| time.strftime("%H:%M:%S%.3f").to_string())
}

/// `42 s`, `3 min`, `5 h`, `12 d`.
pub(super) fn short(seconds: i64) -> String {
    match seconds.max(0) {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7_200 => format!("{} min", seconds / 60),
        seconds @ 7_200..172_800 => format!("{} h", seconds / 3600),
        seconds => format!("{} d", seconds / 86_400),
    }
}

fn since(time: Option<&prost_types::Timestamp>, now: i64) -> String {
    time.map_or_else(|| "-".to_owned(), |time| short(now - time.seconds))
}

pub(super) fn packets(rate: Option<v1::Rate>) -> String {
    PacketsPerSecond(rate.unwrap_or_default().packets).to_string()
}

pub(super) fn bits(rate: Option<v1::Rate>) -> String {
    BitsPerSecond(rate.unwrap_or_default().bits).to_string()
}

/// A number with a space between thousands.
pub(super) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let lead = digits.len() % 3;
    digits.chars().enumerate().fold(String::new(), |mut text, (index, digit)| {
        if index > 0 && index % 3 == lead {
            text.push(',');
        }
        text.push(digit);
        text
    })
}

pub(super) fn severity(severity: v1::Severity) -> &'static str {
    match severity {
        v1::Severity::Unspecified => "-",
        v1::Severity::Low => "low",
        v1::Severity::Medium => "medium",
        v1::Severity::High => "high",
        v1::Severity::Critical => "critical",
    }
}

pub(super) fn status_word(status: v1::IncidentStatus) -> &'static str {
    match status {
        v1::IncidentStatus::Unspecified => "-",
        v1::IncidentStatus::Active => "ACTIVE",
        v1::IncidentStatus::Ended => "ended",
        v1::IncidentStatus::Closed => "closed",
    }
}

pub(super) fn state(state: v1::MitigationState) -> &'static str {
    use v1::MitigationState as State;
    match state {
        State::Unspecified => "-",
        State::Wanted => "wanted",
        State::Announcing => "announcing",
        State::Pending => "pending",
        State::Applied => "applied",
        State::Unknown => "unknown",
        State::Failed => "FAILED",
        State::Rejected => "REJECTED",
        State::Refused => "REFUSED",
        State::Withdrawing => "withdrawing",
        State::Proposed => "PROPOSED",
    }
}

/// Adds `line`, broken between words so that it fits into `width` behind `indent` blanks.
pub(super) fn wrapped(text: &mut String, line: &str, indent: usize, width: usize) {
    let room = width.saturating_sub(indent).max(40);
    let mut length = 0;
    let _ = write!(text, "{:indent$}", "");
    for word in line.split(' ') {
        let size = anstream::adapter::strip_str(word).to_string().chars().count();
        if length > 0 && length + 1 + size > room {
            let _ = write!(text, "\n{:indent$}", "");
            length = 0;
        } else if length > 0 {
            text.push(' ');
            length += 1;
        }
        text.push_str(word);
        length += size;
    }
    text.push('\n');
}

/// A table without lines that fits into `width`. The first column names things: it stays whole.
fn table(head: &[&str], rows: impl IntoIterator<Item = Vec<String>>, width: u16) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_width(width).set_header(head);
    for row in rows {
        table.add_row(row.iter().map(|cell| escape(cell)));
    }
    if let Some(first) = table.column_mut(0) {
        first.set_padding((0, 1)).set_constraint(ColumnConstraint::ContentWidth);
    }
    table.lines().fold(String::new(), |mut text, line| {
        text.push_str(line.trim_end());
        text.push('\n');
        text
    })
}

fn backend_state(backend: &v1::Backend) -> (Style, &'static str) {
    match backend.state() {
        v1::BackendState::Up => (GOOD, "up"),
        v1::BackendState::Down => (BAD, "DOWN"),
        v1::BackendState::Unspecified => (NOTE, "silent"),
    }
}

/// `tidegate status`.
pub(super) fn status(status: &v1::GetStatusResponse, now: i64, width: u16) -> String {
    let mut text = String::new();
    if let Some(panic) = &status.panic {
        let _ = writeln!(
            text,
            "{BAD}PANIC{BAD:#} ordered by {} {} ago{}: nothing is announced.\n\
             End it with `tidegate panic --release`.\n",
            escape(&panic.by),
            since(panic.since.as_ref(), now),
            reason(&panic.reason),
        );
    }
    let commit = match status.policy_commit.as_str() {
        "" => "not in Git".to_owned(),
        commit => format!("commit {commit}"),
    };
    let seen = if status.blind {
        format!("{BAD}BLIND{BAD:#}: nothing is seen now")
    } else {
        let lost = if status.lost == 0 {
            String::new()
        } else {
            format!(", {} lost", thousands(status.lost))
        };
        format!("{} packets since the start{lost}", thousands(status.packets))
    };
    let attacks = match status.attacks {
        0 => format!("{GOOD}none{GOOD:#}"),
        number => format!("{BAD}{number}{BAD:#}"),
    };
    let waiting = match status.proposals {
        0 => String::new(),
        number => format!(", {NOTE}{number} waiting for approval{NOTE:#}"),
    };
    for (name, value) in [
        ("tidegate", format!("{}, up {}", status.version, since(status.started.as_ref(), now))),
        ("watching", format!("{}: {seen}", escape(&status.interfaces.join(", ")))),
        ("policy", format!("{} ({})", escape(&status.policy_directory), escape(&commit))),
        ("attacks", attacks),
        ("mitigations", format!("{} of {} in place{waiting}", status.applied, status.mitigations)),
        ("you are", escape(&status.caller)),
    ] {
        let _ = writeln!(text, "{BOLD}{name:<12}{BOLD:#} {value}");
    }
    text.push('\n');
    text.push_str(&backends(&status.backends, now, width));
    text
}

fn backends(backends: &[v1::Backend], now: i64, width: u16) -> String {
    if backends.is_empty() {
        return format!(
            "{NOTE}No backend{NOTE:#}: the policy names no peer and no local response.\n"
        );
    }
    let widest = backends.iter().map(|backend| backend.name.chars().count()).max().unwrap_or(0);
    backends.iter().fold(String::new(), |mut text, backend| {
        let (style, word) = backend_state(backend);
        let line = format!(
            "{:<widest$}  {style}{word:<6}{style:#} {:>8}  {} of {} in place",
            escape(&backend.name),
            since(backend.since.as_ref(), now),
            backend.applied,
            backend.mitigations,
        );
        let _ = writeln!(text, "{line}");
        if !backend.why.is_empty() {
            let room = usize::from(width).saturating_sub(2);
            let why: String = escape(&backend.why).chars().take(room).collect();
            let _ = writeln!(text, "  {why}");
        }
        text
    })
}

fn reason(reason: &str) -> String {
    if reason.is_empty() { String::new() } else { format!(" ({})", escape(reason)) }
}

/// `tidegate incidents`.
pub(super) fn incidents(answer: &v1::ListIncidentsResponse, width: u16) -> String {
    if answer.incidents.is_empty() {
        return "No incident is recorded.\n".to_owned();
    }
    let rows = answer.incidents.iter().map(|it| {
        vec![
            it.id.clone(),
            it.target.clone(),
            it.vector.clone(),
            severity(it.severity()).to_owned(),
            status_word(it.status()).to_owned(),
            packets(it.peak),
            bits(it.peak),
        ]
    });
    let head = ["INCIDENT", "TARGET", "VECTOR", "SEVERITY", "STATUS", "PEAK", ""];
    table(&head, rows, width)
}

/// One line of `tidegate incidents --watch`.
pub(super) fn incident_change(told: &v1::WatchIncidentsResponse) -> String {
    use v1::watch_incidents_response::Change;
    let (style, word) = match told.change() {
        Change::Unspecified | Change::Updated => (Style::new(), "updated"),
        Change::Opened => (BAD, "opened"),
        Change::Escalated => (BAD, "escalated"),
        Change::Mitigated => (GOOD, "mitigated"),
        Change::NotEnforced => (BAD, "not enforced"),
        Change::Acknowledged => (NOTE, "acknowledged"),
        Change::Ended => (GOOD, "ended"),
        Change::Closed => (GOOD, "closed"),
    };
    let incident = told.incident.clone().unwrap_or_default();
    format!(
        "{}{} {style}{word:<12}{style:#} {} {} {}, {}{}\n",
        missed(told.missed),
        escape(&incident.id),
        escape(&incident.target),
        escape(&incident.vector),
        packets(incident.current),
        bits(incident.current),
        reason(&told.detail),
    )
}

fn missed(number: u64) -> String {
    if number == 0 { String::new() } else { format!("{NOTE}({number} missed){NOTE:#} ") }
}

/// `tidegate mitigations`.
pub(super) fn mitigations(answer: &v1::ListMitigationsResponse, now: i64, width: u16) -> String {
    let mut text = String::new();
    for hold in &answer.holds {
        let (attack, by) = (escape(&hold.attack), escape(&hold.by));
        let _ = writeln!(
            text,
            "{NOTE}{attack} is held{NOTE:#} as it is by {by}; `tidegate resume {attack}` ends that.",
        );
    }
    if answer.mitigations.is_empty() {
        text.push_str("Nothing is announced, wanted or proposed.\n");
        return text;
    }
    text.push_str(&mitigation_table(&answer.mitigations, now, width));
    let proposed = |it: &&v1::Mitigation| it.state() == v1::MitigationState::Proposed;
    if let Some(proposed) = answer.mitigations.iter().find(proposed) {
        let attack = proposed.attacks.first().map_or("ATTACK", String::as_str);
        let _ = writeln!(
            text,
            "\n{NOTE}PROPOSED{NOTE:#} waits for you: `tidegate approve {}`.",
            escape(attack)
        );
    }
    for it in answer.mitigations.iter().filter(|it| !it.why.is_empty() && !proposed(it)) {
        let line = format!("{} at {}: {}", it.nlri, it.backend, it.why);
        wrapped(&mut text, &escape(&line), 0, usize::from(width));
    }
    text
}

fn mitigation_table(mitigations: &[v1::Mitigation], now: i64, width: u16) -> String {
    let rows = mitigations.iter().map(|it| {
        let route = it.route.clone().unwrap_or_default();
        let action = match it.kind() {
            v1::MitigationKind::Blackhole => "blackhole".to_owned(),
            _ => route.actions.join(" "),
        };
        let left = it.not_after.as_ref().map(|end| short(end.seconds - now));
        vec![
            it.attacks.join(" "),
            it.backend.clone(),
            state(it.state()).to_owned(),
            it.nlri.clone(),
            action,
            left.unwrap_or_else(|| "-".to_owned()),
        ]
    });
    table(&["ATTACK", "BACKEND", "STATE", "ROUTE", "ACTION", "LEFT"], rows, width)
}

/// One line of `tidegate mitigations --watch`.
pub(super) fn mitigation_event(told: &v1::WatchMitigationsResponse) -> String {
    use v1::watch_mitigations_response::Event;
    let (style, word) = match told.event() {
        Event::Unspecified => (Style::new(), "-"),
        Event::Decision => (BOLD, "decided"),
        Event::Announce => (Style::new(), "announce"),
        Event::Withdraw => (Style::new(), "withdraw"),
        Event::Applied => (GOOD, "done"),
        Event::Pending => (NOTE, "pending"),
        Event::Failed => (BAD, "failed"),
        Event::Refused => (BAD, "refused"),
    };
    let place = match told.backend.as_str() {
        "" => String::new(),
        backend => format!(" {} at {}", escape(&told.nlri), escape(backend)),
    };
    let attacks = if told.attacks.is_empty() {
        String::new()
    } else {
        format!(" {}", escape(&told.attacks.join(" ")))
    };
    format!(
        "{}{} {style}{word:<9}{style:#}{attacks}{place}{}\n",
        missed(told.missed),
        clock(told.time.as_ref()),
        reason(&told.reason),
    )
}

/// What follows from an order that `done` says.
pub(super) fn order(answer: &v1::OrderResponse, done: &str, width: u16) -> String {
    let mut text = format!("{BOLD}{}{BOLD:#}: {done}.\n", escape(&answer.attack));
    if !answer.mitigations.is_empty() {
        text.push_str(&mitigation_table(&answer.mitigations, now(), width));
    }
    text
}

/// `tidegate panic`.
pub(super) fn panicked(answer: &v1::PanicResponse, width: u16) -> String {
    let withdrawn = match answer.withdrawing {
        0 => "Nothing was announced".to_owned(),
        1 => "The one route that was announced is withdrawn".to_owned(),
        number => format!("All {number} routes are withdrawn"),
    };
    let confirmed = match answer.unconfirmed {
        0 => format!("{GOOD}confirmed{GOOD:#}"),
        number => format!("{BAD}{number} not confirmed yet{BAD:#}; see `tidegate mitigations`"),
    };
    let mut text = String::new();
    let line = format!(
        "{BAD}PANIC{BAD:#}: {withdrawn}, {confirmed}. Nothing is announced until \
         `tidegate panic --release`."
    );
    wrapped(&mut text, &line, 0, usize::from(width));
    text
}

/// `tidegate audit`.
pub(super) fn audit(answer: &v1::AuditResponse, width: u16) -> String {
    let mut text = String::new();
    for backend in &answer.backends {
        let name = escape(&backend.backend);
        if !backend.answered {
            let _ = writeln!(text, "{NOTE}{name}{NOTE:#}: no answer, {}", escape(&backend.why));
            continue;
        }
        let good = backend.missing.is_empty() && backend.unexpected.is_empty();
        let style = if good { GOOD } else { BAD };
        let _ = writeln!(
            text,
            "{style}{name}{style:#}: {} as in the ledger, {} missing, {} unexpected",
            backend.matching,
            backend.missing.len(),
            backend.unexpected.len(),
        );
        for (word, routes) in [("missing", &backend.missing), ("unexpected", &backend.unexpected)] {
            for route in routes {
                let _ = writeln!(text, "  {word}: {}", escape(route));
            }
        }
    }
    let verdict = if answer.clean {
        "Every backend holds what the ledger says."
    } else {
        "What is missing is announced again and what is unexpected withdrawn by itself; what stays \
         so is to be looked at."
    };
    wrapped(&mut text, verdict, 0, usize::from(width));
    text
}

/// `tidegate peers`.
pub(super) fn peers(answer: &v1::ListPeersResponse, width: u16) -> String {
    if answer.peers.is_empty() {
        return "The policy names no peer.\n".to_owned();
    }
    let rows = answer.peers.iter().map(|peer| {
        vec![
            peer.name.clone(),
            peer.address.clone(),
            peer.asn.to_string(),
            peer.state.clone(),
            short(peer.in_state_for.as_ref().map_or(0, |span| span.seconds)),
            peer.routes.to_string(),
            (peer.received_unicast + peer.received_flowspec).to_string(),
        ]
    });
    let mut text =
        table(&["PEER", "ADDRESS", "AS", "STATE", "FOR", "SENT", "RECEIVED"], rows, width);
    for peer in answer.peers.iter().filter(|peer| !peer.down.is_empty()) {
        let _ = writeln!(text, "{}: {}", escape(&peer.name), escape(&peer.down));
    }
    text
}

/// `tidegate peers NAME`.
pub(super) fn peer(peer: &v1::Peer) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        let _ = writeln!(text, "{BOLD}{name:<12}{BOLD:#} {}", escape(&value));
    };
    line("peer", format!("{} ({}, AS {})", peer.name, peer.address, peer.asn));
    let span = short(peer.in_state_for.as_ref().map_or(0, |span| span.seconds));
    let down = if peer.down.is_empty() { String::new() } else { format!(": {}", peer.down) };
    line("session", format!("{} for {span}{down}", peer.state));
    if let Some(agreed) = &peer.negotiated {
        let hold = agreed.hold_time.as_ref().map_or(0, |span| span.seconds);
        line("router id", format!("{}, hold time {hold} s", agreed.router_id));
        line("families", agreed.families.join(", "));
        let capabilities = [
            ("4-octet AS", agreed.four_octet_as),
            ("route refresh", agreed.route_refresh),
            ("enhanced route refresh", agreed.enhanced_refresh),
            ("extended messages", agreed.extended_messages),
            ("graceful restart", agreed.graceful_restart),
        ];
        let agreed_on = capabilities.iter().filter(|(_, has)| *has).map(|(name, _)| *name);
        line("capabilities", agreed_on.collect::<Vec<_>>().join(", "));
    }
    line(
        "routes",
        format!(
            "{} sent, {} withdraws unconfirmed, {} withheld, {} quarantined; {} unicast and {} \
             FlowSpec received",
            peer.routes,
            peer.unconfirmed_withdraws,
            peer.withheld,
            peer.quarantined,
            peer.received_unicast,
            peer.received_flowspec,
        ),
    );
    for (name, messages) in [("sent", &peer.sent), ("received", &peer.received)] {
        if let Some(it) = messages {
            let counts = format!(
                "{} OPEN, {} UPDATE, {} KEEPALIVE, {} NOTIFICATION, {} ROUTE-REFRESH",
                it.open, it.update, it.keepalive, it.notification, it.route_refresh
            );
            line(name, counts);
        }
    }
    line(
        "history",
        format!(
            "established {} times, {} connections failed, {} malformed UPDATE messages",
            peer.established, peer.connect_failures, peer.malformed_updates
        ),
    );
    for (name, error) in
        [("error sent", &peer.last_error_sent), ("error got", &peer.last_error_received)]
    {
        if let Some(it) = error {
            let age = it.age.as_ref().map_or(0, |span| span.seconds);
            line(name, format!("{}/{} {}, {} ago", it.code, it.subcode, it.text, short(age)));
        }
    }
    text
}

/// `tidegate peers NAME --routes`.
pub(super) fn adj_rib_out(answer: &v1::ListAdjRibOutResponse, width: u16) -> String {
    let mut text = "\nAdj-RIB-Out\n".to_owned();
    if answer.routes.is_empty() {
        text.push_str("nothing\n");
    } else {
        let rows = answer.routes.iter().map(|it| {
            let route = it.route.clone().unwrap_or_default();
            let delivery = match it.delivery() {
                v1::Delivery::Unspecified => "-",
                v1::Delivery::Waiting => "waiting",
                v1::Delivery::Unconfirmed => "sent",
                v1::Delivery::Confirmed => "confirmed",
            };
            let mut more = route.actions;
            more.extend(Some(route.next_hop).filter(|hop| !hop.is_empty()));
            more.extend(route.communities);
            more.extend(route.large_communities);
            vec![it.nlri.clone(), delivery.to_owned(), more.join(" ")]
        });
        text.push_str(&table(&["ROUTE", "DELIVERY", "WITH"], rows, width));
    }
    for nlri in &answer.unconfirmed_withdraws {
        let _ = writeln!(text, "withdrawn, not confirmed: {}", escape(nlri));
    }
    text
}

/// `tidegate peers NAME --received`.
pub(super) fn received(answer: &v1::ListReceivedRoutesResponse, width: u16) -> String {
    let mut text = "\nReceived\n".to_owned();
    if answer.routes.is_empty() {
        text.push_str("nothing\n");
        return text;
    }
    let rows = answer.routes.iter().map(|it| {
        let stale = if it.stale { "stale " } else { "" };
        vec![
            it.nlri.clone(),
            it.next_hop.clone(),
            it.neighbor_as.to_string(),
            format!("{stale}{}", it.verdict),
            it.actions.join(" "),
        ]
    });
    text.push_str(&table(&["ROUTE", "NEXT HOP", "FROM AS", "VERDICT", "ACTIONS"], rows, width));
    if answer.omitted > 0 {
        let _ = writeln!(text, "and {} more", answer.omitted);
    }
    text
}

/// `tidegate top` where there is no terminal.
pub(super) fn top(top: &v1::GetTopResponse, now: i64, width: u16) -> String {
    let lost = if top.lost > 0 { format!(", {} lost", thousands(top.lost)) } else { String::new() };
    let blind = if top.blind { ", BLIND for some of it" } else { "" };
    let mut text = format!(
        "{}: {}, {} captured in a second{lost}{blind}\n",
        clock(top.time.as_ref()),
        packets(top.captured),
        bits(top.captured),
    );
    if !top.attacks.is_empty() {
        let rows = top.attacks.iter().map(|it| {
            let over = if it.over { "over" } else { severity(it.severity()) };
            vec![
                it.id.clone(),
                it.target.clone(),
                it.vector.clone(),
                over.to_owned(),
                packets(it.current),
                it.response.clone(),
                since(it.onset.as_ref(), now),
            ]
        });
        text.push('\n');
        let head = ["ATTACK", "TARGET", "VECTOR", "SEVERITY", "NOW", "RESPONSE", "AGE"];
        text.push_str(&table(&head, rows, width));
    }
    if !top.targets.is_empty() {
        let rows = top.targets.iter().map(|it| {
            vec![
                it.target.clone(),
                packets(it.unasked),
                bits(it.unasked),
                packets(it.asked),
                bits(it.asked),
                it.attack.clone(),
            ]
        });
        text.push('\n');
        let head = ["TARGET", "UNASKED", "", "ASKED FOR", "", "ATTACK"];
        text.push_str(&table(&head, rows, width));
    }
    text
}
