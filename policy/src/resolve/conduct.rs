//! The tables about conduct: `[enforcement]`, `[effect]`, `[flapping]`, `[breaker]`, `[budgets]`,
//! `[approval]`, `[remotes]` and `[time]`.

use std::time::Duration;

use tidegate_model::Prefix;

use super::Once;
use super::prefixes::PrefixList;
use crate::planner::{MAX_CYCLES, MOST_NEW_TARGETS};
use crate::policy::{
    Approvals, BreakerLimits, Budgets, EffectAim, Enforcement, FlapBudget, Mode, Otherwise,
    SensorPlace,
};
use crate::profile::read::words;
use crate::text::{Table, Value};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);

/// A table that stands once, and what it says; `None` if faulty.
pub(super) struct Single<'a, T> {
    value: Value<'a>,
    pub(super) read: Option<T>,
}

impl<'a, T> Once<'a> for Single<'a, T> {
    fn value(&self) -> &Value<'a> {
        &self.value
    }
}

impl<'a, T> Single<'a, T> {
    /// Reads the table with `read`, and reports keys that it does not know.
    pub(super) fn read(value: &Value<'a>, read: impl FnOnce(&Table<'a>) -> Option<T>) -> Self {
        let read = value.table().and_then(|table| {
            let read = read(&table);
            table.finish();
            read
        });
        Self { value: value.clone(), read }
    }
}

/// What `single` says, or the default without it; `None` if faulty.
pub(super) fn or_default<T: Default>(single: Option<Single<'_, T>>) -> Option<T> {
    single.map_or_else(|| Some(T::default()), |single| single.read)
}

/// What follows when a mitigation is not enforced.
pub(super) fn otherwise(value: &Value<'_>) -> Option<Otherwise> {
    value.choice("`stay` or `next`", &words(Otherwise::ALL, Otherwise::name))
}

/// `[enforcement]`
pub(super) fn enforcement(table: &Table<'_>) -> Option<Enforcement> {
    let standard = Enforcement::default();
    let deadline = table
        .optional("deadline", "\"10s\"")
        .map_or(Some(standard.deadline), |value| value.duration(SECOND..=HOUR));
    let stays = table
        .optional("if-not-enforced", "\"next\"")
        .map_or(Some(standard.otherwise), |value| otherwise(&value));
    Some(Enforcement { deadline: deadline?, otherwise: stays? })
}

/// `[effect]`
pub(super) fn effect(table: &Table<'_>) -> Option<EffectAim> {
    let standard = EffectAim::default();
    let sensor =
        table.optional("sensor", "\"behind-filters\"").map_or(Some(standard.sensor), |value| {
            value.choice("a place of the sensor", &words(SensorPlace::ALL, SensorPlace::name))
        });
    let none_below = table
        .optional("none-below", "0.05")
        .map_or(Some(standard.none_below), |value| value.float(0.0..=0.5));
    let none_after = table
        .optional("none-after", "\"30s\"")
        .map_or(Some(standard.none_after), |value| value.duration(SECOND * 5..=DAY));
    Some(EffectAim { sensor: sensor?, none_below: none_below?, none_after: none_after? })
}

/// `[flapping]`
pub(super) fn flapping(table: &Table<'_>) -> Option<FlapBudget> {
    let standard = FlapBudget::default();
    let cycles = table
        .optional("cycles", "2")
        .map_or(Some(standard.cycles), |value| value.integer(1..=MAX_CYCLES));
    let within = table
        .optional("within", "\"1h\"")
        .map_or(Some(standard.within), |value| value.duration(SECOND..=DAY));
    Some(FlapBudget { cycles: cycles?, within: within? })
}

/// `[breaker]`
pub(super) fn breaker(table: &Table<'_>) -> Option<BreakerLimits> {
    let standard = BreakerLimits::default();
    let targets = table
        .optional("targets", "100")
        .map_or(Some(standard.targets), |value| value.integer(1..=MOST_NEW_TARGETS));
    let share = table
        .optional("share", "0.05")
        .map_or(Some(standard.share), |value| value.float(0.000_001..=1.0));
    let within = table
        .optional("within", "\"10s\"")
        .map_or(Some(standard.within), |value| value.duration(SECOND..=HOUR));
    let cool_down = table
        .optional("cool-down", "\"60s\"")
        .map_or(Some(standard.cool_down), |value| value.duration(SECOND..=DAY));
    Some(BreakerLimits { targets: targets?, share: share?, within: within?, cool_down: cool_down? })
}

/// `[budgets]`
pub(super) fn budgets(table: &Table<'_>) -> Option<Budgets> {
    let standard = Budgets::default();
    let number = |key, example, standard, most| {
        let value = table.optional(key, example);
        value.map_or(Some(standard), |value| value.integer(1..=most))
    };
    let mitigations =
        number("mitigations", "1000", standard.mitigations, Budgets::MOST_MITIGATIONS);
    let per_group = number("per-group", "200", standard.per_group, Budgets::MOST_MITIGATIONS);
    let rules_per_attack =
        number("rules-per-attack", "4", standard.rules_per_attack, Budgets::MOST_RULES_PER_ATTACK);
    let tcam_entries = table
        .optional("tcam-entries", "128")
        .map_or(Some(standard.tcam_entries), |value| value.integer(1..=Budgets::MOST_TCAM_ENTRIES));
    let collateral = table
        .optional("collateral", "0.001")
        .map_or(Some(standard.collateral), |value| value.float(0.0..=Budgets::MOST_COLLATERAL));
    let kernel_rules =
        number("kernel-rules", "200", standard.kernel_rules, Budgets::MOST_KERNEL_RULES);
    Some(Budgets {
        mitigations: mitigations?,
        per_group: per_group?,
        rules_per_attack: rules_per_attack?,
        tcam_entries: tcam_entries?,
        collateral: collateral?,
        kernel_rules: kernel_rules?,
    })
}

/// The modes that a table gives: of all groups, or of one. `None` is not given.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct GivenModes {
    local: Option<Mode>,
    flowspec: Option<Mode>,
    rtbh: Option<Mode>,
}

impl GivenModes {
    pub(super) fn read(table: &Table<'_>) -> Option<Self> {
        let mode = |key, example| {
            let value = table.optional(key, example);
            let known = words(Mode::ALL, Mode::name);
            value.map_or(Some(None), |value| value.choice("an approval mode", &known).map(Some))
        };
        let local = mode("local", "\"auto\"");
        let flowspec = mode("flowspec", "\"auto\"");
        let rtbh = mode("rtbh", "\"propose\"");
        Some(Self { local: local?, flowspec: flowspec?, rtbh: rtbh? })
    }

    /// What is given here, and for the rest what `base` says.
    pub(super) fn over(self, base: Approvals) -> Approvals {
        Approvals {
            local: self.local.unwrap_or(base.local),
            flowspec: self.flowspec.unwrap_or(base.flowspec),
            rtbh: self.rtbh.unwrap_or(base.rtbh),
        }
    }
}

/// What is said of remote prefixes.
#[derive(Clone, Debug, Default)]
pub(super) struct Remotes {
    pub(super) allowed: Vec<Prefix>,
    pub(super) trusted: Vec<Prefix>,
}

/// `[remotes]`
pub(super) fn remotes(table: &Table<'_>) -> Option<Remotes> {
    let prefixes = |key, example| {
        let Some(value) = table.optional(key, example) else { return Some(Vec::new()) };
        let list = PrefixList::read(&value)?;
        list.check_overlaps();
        Some(list.prefixes().collect())
    };
    let allowed = prefixes("allow", "[\"192.0.2.0/24\"]");
    let trusted = prefixes("trusted", "[\"198.51.100.0/24\"]");
    Some(Remotes { allowed: allowed?, trusted: trusted? })
}

/// `[time]`: minutes east of UTC.
pub(super) fn time(table: &Table<'_>) -> Option<i16> {
    let Some(value) = table.optional("utc-offset", "\"+01:00\"") else { return Some(0) };
    let text = value.string()?;
    let offset = utc_offset(text);
    if offset.is_none() {
        let message = format!("`{text}` is not an offset from UTC");
        value.error(message, "write hours and minutes east of it, such as `+01:00` or `-03:30`");
    }
    offset
}

fn utc_offset(text: &str) -> Option<i16> {
    let (sign, rest) = match text.split_at_checked(1)? {
        ("+", rest) => (1, rest),
        ("-", rest) => (-1, rest),
        _ => return None,
    };
    let minutes = minute_of_day(rest).filter(|minutes| *minutes <= 14 * 60)?;
    i16::try_from(minutes).ok().map(|minutes| sign * minutes)
}

/// `07:30`, up to `24:00`, in minutes.
pub(super) fn minute_of_day(text: &str) -> Option<u16> {
    let (hours, minutes) = text.split_once(':')?;
    let two = |text: &str| {
        let digits = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| text.parse::<u16>().ok()).flatten()
    };
    let (hours, minutes) = (two(hours)?, two(minutes)?);
    let total = hours * 60 + minutes;
    (minutes < 60 && total <= 24 * 60).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_are_read_strictly() {
        for (text, expected) in [
            ("+00:00", Some(0)),
            ("+05:45", Some(345)),
            ("-03:30", Some(-210)),
            ("+14:00", Some(840)),
            ("+14:01", None),
            ("01:00", None),
            ("+1:00", None),
            ("+01:60", None),
            ("+0100", None),
            ("é01:00", None),
            ("", None),
        ] {
            assert_eq!(utc_offset(text), expected, "{text}");
        }
        assert_eq!(minute_of_day("24:00"), Some(1440));
        assert_eq!(minute_of_day("24:01"), None);
    }
}
