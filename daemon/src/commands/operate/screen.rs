//! The screen of `tidegate top`: drawn from what was last heard, without asking anything.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Row, Table};

use super::text::{bits, escape, packets, severity, short, state, thousands};
use crate::api::v1;

/// Everything that is drawn.
#[derive(Clone, Debug, Default)]
pub(super) struct Shown {
    pub(super) status: v1::GetStatusResponse,
    pub(super) top: v1::GetTopResponse,
    pub(super) mitigations: v1::ListMitigationsResponse,
    /// Why what is shown is old.
    pub(super) trouble: Option<String>,
}

const HEAD: Style = Style::new().add_modifier(Modifier::BOLD);
const BAD: Style = Style::new().fg(Color::Red).add_modifier(Modifier::BOLD);
const GOOD: Style = Style::new().fg(Color::Green);
const NOTE: Style = Style::new().fg(Color::Yellow);

/// Draws the screen. It is made for 80 columns and 24 lines, and fills what there is more.
pub(super) fn draw(frame: &mut Frame<'_>, shown: &Shown, now: i64) {
    let backends = shown.status.backends.len().clamp(1, 4);
    let attacks = shown.top.attacks.len().clamp(1, 8);
    let height = |rows: usize| u16::try_from(rows).unwrap_or(u16::MAX).saturating_add(2);
    let rows = [
        Constraint::Length(2),
        Constraint::Max(height(attacks)),
        Constraint::Min(4),
        Constraint::Max(height(shown.mitigations.mitigations.len().clamp(1, 6))),
        Constraint::Max(height(backends).saturating_sub(1)),
        Constraint::Length(1),
    ];
    let [head, attacks, targets, mitigations, backends, foot] =
        Layout::vertical(rows).areas(frame.area());
    draw_head(frame, head, shown, now);
    draw_attacks(frame, attacks, shown, now);
    draw_targets(frame, targets, shown);
    draw_mitigations(frame, mitigations, shown, now);
    draw_backends(frame, backends, shown, now);
    let foot_text = match &shown.trouble {
        Some(trouble) => Line::styled(escape(trouble), BAD),
        None => Line::raw("q quit   `tidegate incident ID` the story   `tidegate panic` stops all"),
    };
    frame.render_widget(foot_text, foot);
}

fn draw_head(frame: &mut Frame<'_>, area: Rect, shown: &Shown, now: i64) {
    let status = &shown.status;
    let up = status.started.as_ref().map_or_else(|| "-".to_owned(), |at| short(now - at.seconds));
    let first = Line::from(vec![
        Span::styled("tidegate ", HEAD),
        Span::raw(format!("{}  up {up}  ", status.version)),
        match &status.panic {
            Some(panic) => Span::styled(format!("PANIC by {}", escape(&panic.by)), BAD),
            None if status.blind || shown.top.blind => Span::styled("BLIND", BAD),
            None if status.attacks > 0 => Span::styled(format!("{} attacks", status.attacks), BAD),
            None => Span::styled("no attack", GOOD),
        },
        Span::raw(match status.proposals {
            0 => String::new(),
            number => format!("  {number} proposals wait"),
        }),
    ]);
    let captured = shown.top.captured;
    let second = Line::raw(format!(
        "{}  {}  lost {}  {} of {} mitigations in place",
        packets(captured),
        bits(captured),
        thousands(shown.top.lost),
        status.applied,
        status.mitigations,
    ));
    frame.render_widget(ratatui::text::Text::from(vec![first, second]), area);
}

fn block(title: &str) -> Block<'_> {
    Block::new().borders(Borders::TOP).title(title).title_style(HEAD)
}

fn draw_attacks(frame: &mut Frame<'_>, area: Rect, shown: &Shown, now: i64) {
    let rows = shown.top.attacks.iter().map(|it| {
        let style = if it.over { Style::new() } else { BAD };
        let response = match (it.held_by.as_str(), it.proposed.is_empty()) {
            ("", true) => it.response.clone(),
            ("", false) => "PROPOSED".to_owned(),
            (by, _) => format!("held by {by}"),
        };
        let age = it.onset.as_ref().map_or(0, |onset| now - onset.seconds);
        let cells = [
            it.id.clone(),
            it.target.clone(),
            it.vector.clone(),
            if it.over { "over".to_owned() } else { severity(it.severity()).to_owned() },
            packets(it.current),
            response,
            short(age),
        ];
        Row::new(cells.map(|cell| escape(&cell))).style(style)
    });
    let widths = [
        Constraint::Length(11),
        Constraint::Min(15),
        Constraint::Length(17),
        Constraint::Length(8),
        Constraint::Length(10),
        Constraint::Length(9),
        Constraint::Length(6),
    ];
    let head = Row::new(["ATTACK", "TARGET", "VECTOR", "SEVERITY", "NOW", "RESPONSE", "AGE"]);
    let table = Table::new(rows, widths).header(head.style(HEAD)).block(block("Attacks"));
    frame.render_widget(table, area);
}

fn draw_targets(frame: &mut Frame<'_>, area: Rect, shown: &Shown) {
    let rows = shown.top.targets.iter().map(|it| {
        let style = if it.attack.is_empty() { Style::new() } else { BAD };
        let cells = [
            it.target.clone(),
            packets(it.unasked),
            bits(it.unasked),
            packets(it.asked),
            bits(it.asked),
            it.attack.clone(),
        ];
        Row::new(cells.map(|cell| escape(&cell))).style(style)
    });
    let widths = [
        Constraint::Min(18),
        Constraint::Length(10),
        Constraint::Length(11),
        Constraint::Length(10),
        Constraint::Length(11),
        Constraint::Length(11),
    ];
    let head = Row::new(["TARGET", "UNASKED", "", "ASKED FOR", "", "ATTACK"]);
    let table = Table::new(rows, widths).header(head.style(HEAD)).block(block("Targets"));
    frame.render_widget(table, area);
}

fn draw_mitigations(frame: &mut Frame<'_>, area: Rect, shown: &Shown, now: i64) {
    let rows = shown.mitigations.mitigations.iter().map(|it| {
        let style = match it.state() {
            v1::MitigationState::Applied => GOOD,
            v1::MitigationState::Failed
            | v1::MitigationState::Rejected
            | v1::MitigationState::Refused => BAD,
            _ => NOTE,
        };
        let left = it.not_after.as_ref().map(|end| short(end.seconds - now));
        let cells = [
            it.attacks.join(" "),
            it.backend.clone(),
            state(it.state()).to_owned(),
            it.nlri.clone(),
            left.unwrap_or_default(),
        ];
        Row::new(cells.map(|cell| escape(&cell))).style(style)
    });
    let widths = [
        Constraint::Length(11),
        Constraint::Length(14),
        Constraint::Length(11),
        Constraint::Min(20),
        Constraint::Length(7),
    ];
    let head = Row::new(["ATTACK", "BACKEND", "STATE", "ROUTE", "LEFT"]);
    let table = Table::new(rows, widths).header(head.style(HEAD)).block(block("Mitigations"));
    frame.render_widget(table, area);
}

fn draw_backends(frame: &mut Frame<'_>, area: Rect, shown: &Shown, now: i64) {
    let rows = shown.status.backends.iter().map(|it| {
        let (style, word) = match it.state() {
            v1::BackendState::Up => (GOOD, "up"),
            v1::BackendState::Down => (BAD, "DOWN"),
            v1::BackendState::Unspecified => (NOTE, "silent"),
        };
        let since = it.since.as_ref().map_or_else(String::new, |at| short(now - at.seconds));
        let placed = format!("{}/{}", it.applied, it.mitigations);
        let cells = [it.name.clone(), word.to_owned(), since, placed, it.why.clone()];
        Row::new(cells.map(|cell| escape(&cell))).style(style)
    });
    let widths = [
        Constraint::Length(20),
        Constraint::Length(6),
        Constraint::Length(7),
        Constraint::Length(7),
        Constraint::Min(10),
    ];
    frame.render_widget(Table::new(rows, widths).block(block("Backends")), area);
}
