//! The tables about the network: `[speaker]`, `[owned]`, `[groups.*]`, `[detection]`,
//! `[severity]`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::time::Duration;

use tidegate_model::{
    AddressFamily, BitsPerSecond, Confidence, Limit, Metric, OwnedSpace, PacketsPerSecond, Prefix,
    Severity, Thresholds,
};

use super::conduct::{GivenModes, Single};
use super::prefixes::{PrefixList, holding};
use super::{MAX_NAME, Once, is_name};
use crate::policy::{
    Approvals, DEFAULT_GROUP, Group, Judging, Learning, Peer, ServicePort, SeverityScale,
    SpeakerIdentity, default_thresholds,
};
use crate::profile::read::words;
use crate::text::{Table, Value};

/// One tick of the detector: nothing can be judged faster.
const SHORTEST: Duration = Duration::from_millis(10);
/// An attack that is recognised later than this is as good as missed.
const LONGEST_TOLERANCE: Duration = Duration::from_secs(60);
/// Longer than every pulse that an attack is known to come in.
const LONGEST_EXIT_HOLD: Duration = Duration::from_secs(3_600);
/// No attack is more times over a threshold than this.
const MAX_FACTOR: f64 = 1e6;

/// An attack that lasts for longer is a state of affairs.
const LONGEST_DURATION: Duration = Duration::from_secs(7 * 86_400);

/// `severity.capacity`
fn shares(table: &Table<'_>, standard: [f64; 3]) -> Option<[f64; 3]> {
    let value = table.optional("capacity", "{ medium = 0.2, high = 0.5, critical = 0.8 }");
    let Some(value) = value else { return Some(standard) };
    let table = value.table()?;
    let [medium, high, critical] = standard;
    let share = |key, example, standard| {
        let value = table.optional(key, example);
        value.map_or(Some(standard), |value| value.float(0.001..=10.0))
    };
    let medium = share("medium", "0.2", medium);
    let high = share("high", "0.5", high);
    let critical = share("critical", "0.8", critical);
    table.finish();
    let (medium, high, critical) = (medium?, high?, critical?);
    if medium < high && high < critical {
        return Some([medium, high, critical]);
    }
    let message =
        format!("the shares do not ascend: medium {medium}, high {high}, critical {critical}");
    value.error(message, "write medium < high < critical; one that is left out has its default");
    None
}

/// `severity.duration`
fn durations(table: &Table<'_>) -> Option<[Option<Duration>; 3]> {
    let value = table.optional("duration", "{ high = \"10m\", critical = \"1h\" }");
    let Some(value) = value else { return Some([None; 3]) };
    let table = value.table()?;
    let after = |key, example| {
        let value = table.optional(key, example);
        let range = Duration::from_secs(1)..=LONGEST_DURATION;
        value.map_or(Some(None), |value| value.duration(range).map(Some))
    };
    let medium = after("medium", "\"5m\"");
    let high = after("high", "\"10m\"");
    let critical = after("critical", "\"1h\"");
    table.finish();
    let after = [medium?, high?, critical?];
    let given: Vec<Duration> = after.iter().copied().flatten().collect();
    if given.is_sorted_by(|left, right| left < right) {
        return Some(after);
    }
    value.error("the durations do not ascend", "write medium < high < critical, as far as given");
    None
}

/// `severity.uncertain`
fn uncertain(table: &Table<'_>, standard: &SeverityScale) -> Option<(Confidence, Severity)> {
    let value = table.optional("uncertain", "{ below = 0.5, at-most = \"medium\" }");
    let Some(value) = value else {
        return Some((standard.uncertain_below, standard.uncertain_at_most));
    };
    let table = value.table()?;
    let below = table.required("below", "0.5").map(|value| value.float(0.0..=1.0));
    let most = table
        .required("at-most", "\"medium\"")
        .map(|value| value.choice("a severity", &words(&Severity::ALL, Severity::name)));
    table.finish();
    Some((Confidence::new(below??), most??))
}

/// `[speaker]`
pub(super) struct Speaker<'a> {
    value: Value<'a>,
    pub(super) identity: Option<SpeakerIdentity>,
}

impl<'a> Once<'a> for Speaker<'a> {
    fn value(&self) -> &Value<'a> {
        &self.value
    }
}

impl<'a> Speaker<'a> {
    pub(super) fn read(value: &Value<'a>) -> Self {
        let identity = value.table().and_then(|table| {
            let asn = table.required("as", "65010").and_then(|value| as_number(&value));
            let router_id = table.required("router-id", "\"10.0.0.1\"");
            table.finish();
            let router_id = router_id.and_then(|value| router_id_of(&value));
            Some(SpeakerIdentity { asn: asn?, router_id: router_id? })
        });
        Self { value: value.clone(), identity }
    }
}

/// An AS number that a speaker may have.
pub(super) fn as_number(value: &Value<'_>) -> Option<u32> {
    let number = value.integer(1..=u32::MAX)?;
    let why = match number {
        23_456 => "AS_TRANS, RFC 6793 §9",
        65_535 | u32::MAX => "RFC 7300",
        _ => return Some(number),
    };
    let message = format!("AS {number} is reserved ({why})");
    value.error(
        message,
        "write the number that the registry gave, or a private one from 64512 to 65534",
    );
    None
}

fn router_id_of(value: &Value<'_>) -> Option<Ipv4Addr> {
    let text = value.string()?;
    match text.parse::<Ipv4Addr>() {
        Ok(address) if !address.is_unspecified() => Some(address),
        _ => {
            let message = format!("`{text}` is not a router id");
            value.error(
                message,
                "write an IPv4 address of this host other than 0.0.0.0, such as `10.0.0.1`",
            );
            None
        }
    }
}

/// `[owned]`
pub(super) struct Owned<'a> {
    value: Value<'a>,
    prefixes: Option<PrefixList<'a>>,
    never_touch: Option<PrefixList<'a>>,
}

impl<'a> Once<'a> for Owned<'a> {
    fn value(&self) -> &Value<'a> {
        &self.value
    }
}

impl<'a> Owned<'a> {
    pub(super) fn read(value: &Value<'a>) -> Self {
        let table = value.table();
        let lists = table.map(|table| {
            let prefixes = table.required("prefixes", "[\"203.0.113.0/24\"]");
            let never_touch = table.optional("never-touch", "[\"203.0.113.53\"]");
            table.finish();
            (
                prefixes.and_then(|value| PrefixList::read(&value)),
                never_touch.and_then(|value| PrefixList::read(&value)),
            )
        });
        let (prefixes, never_touch) = lists.unwrap_or_default();
        Self { value: value.clone(), prefixes, never_touch }
    }

    /// The owned prefixes, unless some could not be read.
    fn known(&self) -> Option<BTreeSet<Prefix>> {
        let list = self.prefixes.as_ref()?;
        list.whole.then(|| list.prefixes().collect())
    }

    /// Which address families are owned; none if some prefix could not be read.
    pub(super) fn families(&self) -> BTreeSet<AddressFamily> {
        self.known().into_iter().flatten().map(|prefix| prefix.family()).collect()
    }

    pub(super) fn check(&self) {
        for list in self.prefixes.iter().chain(&self.never_touch) {
            list.check_overlaps();
        }
        if let (Some(owned), Some(never_touch)) = (self.known(), &self.never_touch) {
            check_never_touch(&owned, never_touch);
        }
    }

    /// What may be touched; the addresses of sessions may not.
    pub(super) fn space(&self, peers: &[Peer]) -> OwnedSpace {
        let owned: Vec<Prefix> = self.prefixes.iter().flat_map(PrefixList::prefixes).collect();
        let mut never_touch: Vec<Prefix> =
            self.never_touch.iter().flat_map(PrefixList::prefixes).collect();
        let sessions = peers
            .iter()
            .flat_map(|peer| [Some(peer.location.prefix()), peer.local_address.map(Prefix::host)]);
        for session in sessions.flatten() {
            let inside = never_touch.iter().any(|prefix| prefix.contains(&session));
            if !inside && owned.iter().any(|prefix| prefix.overlaps(&session)) {
                never_touch.push(session);
            }
        }
        OwnedSpace { owned, never_touch }
    }
}

fn check_never_touch(owned: &BTreeSet<Prefix>, never_touch: &PrefixList<'_>) {
    let spared: BTreeSet<Prefix> = never_touch.prefixes().collect();
    // Of the never-touch prefixes those that hold an owned prefix, and how many are held by any.
    let mut wide = BTreeSet::new();
    let mut covered = 0;
    for prefix in owned {
        let holders: Vec<Prefix> = holding(*prefix).filter(|each| spared.contains(each)).collect();
        covered += usize::from(!holders.is_empty());
        wide.extend(holders);
    }
    if never_touch.whole && covered == owned.len() {
        let message = "`owned.never-touch` covers every owned prefix: nothing could be protected";
        never_touch.value.error(message, "list only the addresses that no mitigation may ever hit");
        return;
    }
    for (prefix, value) in &never_touch.items {
        if !wide.contains(prefix) && !holding(*prefix).any(|each| owned.contains(&each)) {
            let message = format!("`{prefix}` is not owned, so nothing would ever touch it");
            let help = "remove it, or correct it if an owned address is meant";
            value.error(message, help);
        }
    }
}

/// `[groups.*]`
#[derive(Default)]
pub(super) struct Groups<'a> {
    groups: BTreeMap<String, DraftGroup<'a>>,
}

struct DraftGroup<'a> {
    value: Value<'a>,
    prefixes: Option<PrefixList<'a>>,
    /// Only the limits that the text sets.
    limits: Vec<(Metric, Limit)>,
    /// The same for networks; `None` if the table is not there.
    prefix_limits: Option<Vec<(Metric, Limit)>>,
    capacity: Option<Limit>,
    allowed_ports: Vec<ServicePort>,
    modes: GivenModes,
}

impl<'a> Groups<'a> {
    pub(super) fn read(&mut self, value: &Value<'a>) {
        let Some(table) = value.table() else { return };
        for (name, value) in table.entries("{ prefixes = [\"203.0.113.0/25\"] }") {
            if !is_name(name) {
                let help = format!("write 1 to {MAX_NAME} letters, digits, `-`, `_` or `.`");
                value.error_at_key(format!("`{name}` is not a name of a group"), help);
            }
            let Some(group) = DraftGroup::read(name, &value) else { continue };
            if let Some(first) = self.groups.get(name) {
                let help = format!("put everything into the first, at {}", first.value.place());
                value.error(format!("a second group `{name}`"), help);
            } else {
                self.groups.insert(name.to_owned(), group);
            }
        }
    }

    /// Every name that a response may refer to.
    pub(super) fn names(&self) -> BTreeSet<&str> {
        self.groups.keys().map(String::as_str).chain([DEFAULT_GROUP]).collect()
    }

    /// Checks the prefixes and fills in what is inherited. `None` without owned prefixes.
    pub(super) fn resolve(
        &self,
        owned: Option<&Owned<'a>>,
        modes: Option<&Single<'a, GivenModes>>,
    ) -> Option<Vec<Group>> {
        let mut claimed: BTreeMap<Prefix, &str> = BTreeMap::new();
        for (name, group) in &self.groups {
            let Some(list) = &group.prefixes else { continue };
            list.check_overlaps();
            for (prefix, value) in &list.items {
                match claimed.get(prefix) {
                    Some(other) if other != name => {
                        let message = format!("`{prefix}` is in the groups `{other}` and `{name}`");
                        let help = "leave it in one; a longer prefix may be in another group";
                        value.error(message, help);
                    }
                    _ => {
                        claimed.insert(*prefix, name);
                    }
                }
            }
        }
        let owned = owned?.known()?;
        for group in self.groups.values() {
            for (prefix, value) in group.prefixes.iter().flat_map(|list| &list.items) {
                if !holding(*prefix).any(|each| owned.contains(&each)) {
                    let message = format!("`{prefix}` does not lie in an owned prefix");
                    let help = format!(
                        "correct it, or add it to `prefixes` in `[owned]`; owned is {}",
                        some_of(&owned)
                    );
                    value.error(message, help);
                }
            }
        }
        let unclaimed = owned.iter().copied().filter(|prefix| !claimed.contains_key(prefix));
        let modes = modes.map_or(Some(GivenModes::default()), |single| single.read)?;
        Some(self.inherit(unclaimed.collect(), modes.over(Approvals::default())))
    }

    fn inherit(&self, unclaimed: Vec<Prefix>, approvals: Approvals) -> Vec<Group> {
        let with = |mut thresholds: Thresholds, limits: &[(Metric, Limit)]| {
            for (metric, limit) in limits {
                thresholds.set(*metric, *limit);
            }
            thresholds
        };
        let base = Group {
            name: DEFAULT_GROUP.to_owned(),
            prefixes: Vec::new(),
            thresholds: default_thresholds(),
            prefix_thresholds: None,
            capacity: None,
            allowed_ports: Vec::new(),
            approvals,
        };
        let over = |base: &Group, name: &str, group: &DraftGroup<'_>| Group {
            name: name.to_owned(),
            prefixes: group.prefixes.iter().flat_map(PrefixList::prefixes).collect(),
            thresholds: with(base.thresholds, &group.limits),
            prefix_thresholds: match &group.prefix_limits {
                Some(limits) => Some(with(base.prefix_thresholds.unwrap_or_default(), limits)),
                None => base.prefix_thresholds,
            },
            capacity: group.capacity.or(base.capacity),
            allowed_ports: group.allowed_ports.clone(),
            approvals: group.modes.over(base.approvals),
        };
        let default = match self.groups.get(DEFAULT_GROUP) {
            Some(group) => over(&base, DEFAULT_GROUP, group),
            None => base,
        };
        let named = self.groups.iter().filter(|(name, _)| *name != DEFAULT_GROUP);
        let mut groups: Vec<Group> =
            named.map(|(name, group)| over(&default, name, group)).collect();
        groups.push(Group { prefixes: unclaimed, ..default });
        groups.sort_by(|left, right| left.name.cmp(&right.name));
        groups
    }
}

/// The first few prefixes, for people.
fn some_of(prefixes: &BTreeSet<Prefix>) -> String {
    const SHOWN: usize = 4;
    let shown: Vec<String> = prefixes.iter().take(SHOWN).map(|each| format!("`{each}`")).collect();
    let rest = prefixes.len() - shown.len();
    if rest == 0 { shown.join(", ") } else { format!("{} and {rest} more", shown.join(", ")) }
}

impl<'a> DraftGroup<'a> {
    fn read(name: &str, value: &Value<'a>) -> Option<Self> {
        let table = value.table()?;
        let prefixes = if name == DEFAULT_GROUP {
            let prefixes = table.optional("prefixes", "[]");
            if let Some(value) = prefixes {
                let message = "the group `default` has no prefixes of its own";
                let help =
                    "remove `prefixes`: the group holds every owned address that is in no other";
                value.error_at_key(message, help);
            }
            None
        } else {
            let prefixes = table.required("prefixes", "[\"203.0.113.0/25\"]");
            prefixes.and_then(|value| PrefixList::read(&value))
        };
        let read = |value: Option<Value<'_>>| {
            value.and_then(|value| value.table()).map(|table| limits(&table))
        };
        let thresholds = read(table.optional("thresholds", "{ total = { packets = \"100k\" } }"));
        let prefix_limits =
            read(table.optional("prefix-thresholds", "{ total = { packets = \"1M\" } }"));
        let capacity = table.optional("capacity", "{ bits = \"10G\" }");
        let allowed_ports = table.optional("allowed-ports", "[\"tcp/443\"]");
        let modes = table.optional("approval", "{ rtbh = \"propose\" }");
        table.finish();
        Some(Self {
            value: value.clone(),
            prefixes,
            limits: thresholds.unwrap_or_default(),
            prefix_limits,
            capacity: capacity.and_then(|value| limit(&value)),
            allowed_ports: allowed_ports.and_then(|value| ports(&value)).unwrap_or_default(),
            modes: modes
                .and_then(|value| Single::read(&value, GivenModes::read).read)
                .unwrap_or_default(),
        })
    }
}

/// No group offers more services that are worth listing.
const MAX_PORTS: usize = 256;

fn ports(value: &Value<'_>) -> Option<Vec<ServicePort>> {
    let items = value.list("\"tcp/443\"")?;
    if items.len() > MAX_PORTS {
        let message = format!("`{}` has more than {MAX_PORTS} services", value.name());
        value.error(message, "list those that must not be cut off");
        return None;
    }
    let ports: Vec<Option<ServicePort>> = items.iter().map(Value::parse).collect();
    let mut ports: Vec<ServicePort> = ports.into_iter().collect::<Option<_>>()?;
    ports.sort_unstable();
    ports.dedup();
    Some(ports)
}

fn limits(table: &Table<'_>) -> Vec<(Metric, Limit)> {
    let mut limits = Vec::new();
    for metric in Metric::ALL {
        let value = table.optional(metric.name(), "{ packets = \"100k\", bits = \"1G\" }");
        if let Some(limit) = value.and_then(|value| limit(&value)) {
            limits.push((metric, limit));
        }
    }
    table.finish();
    limits
}

fn limit(value: &Value<'_>) -> Option<Limit> {
    let table = value.table()?;
    let packets = table.optional("packets", "\"100k\"");
    let bits = table.optional("bits", "\"1G\"");
    table.finish();
    if packets.is_none() && bits.is_none() {
        let message = format!("`{}` has neither `packets` nor `bits`", value.name());
        value.error(message, value.example());
        return None;
    }
    let packets = match packets {
        None => None,
        Some(value) => {
            let rate = value.parse_number::<PacketsPerSecond>()?;
            Some(not_zero(&value, rate.0).map(PacketsPerSecond)?)
        }
    };
    let bits = match bits {
        None => None,
        Some(value) => {
            let rate = value.parse_number::<BitsPerSecond>()?;
            Some(not_zero(&value, rate.0).map(BitsPerSecond)?)
        }
    };
    Some(Limit { packets, bits })
}

pub(super) fn not_zero(value: &Value<'_>, rate: u64) -> Option<u64> {
    if rate > 0 {
        return Some(rate);
    }
    let message = format!("`{}` is zero: every packet would be an attack", value.name());
    value.error(message, "write the most that is normal for one host");
    None
}

/// `[detection]`
pub(super) struct Detection<'a> {
    value: Value<'a>,
    pub(super) judging: Option<Judging>,
}

impl<'a> Once<'a> for Detection<'a> {
    fn value(&self) -> &Value<'a> {
        &self.value
    }
}

impl<'a> Detection<'a> {
    pub(super) fn read(value: &Value<'a>) -> Self {
        let judging = value.table().and_then(|table| {
            let standard = Judging::default();
            let tolerance = table
                .optional("tolerance", "\"500ms\"")
                .map_or(Some(standard.tolerance), |value| {
                    value.duration(SHORTEST..=LONGEST_TOLERANCE)
                });
            let exit_ratio = table
                .optional("exit-ratio", "0.5")
                .map_or(Some(standard.exit_ratio), |value| value.float(0.01..=0.99));
            let exit_hold =
                table.optional("exit-hold", "\"10s\"").map_or(Some(standard.exit_hold), |value| {
                    value.duration(SHORTEST..=LONGEST_EXIT_HOLD)
                });
            let interface =
                table.optional("interface-thresholds", "{ total = { packets = \"5M\" } }");
            let interface = interface.map_or(Some(None), |value| {
                let mut thresholds = Thresholds::default();
                for (metric, limit) in limits(&value.table()?) {
                    thresholds.set(metric, limit);
                }
                Some(Some(thresholds))
            });
            let learning = table
                .optional("learning", "{ margin = 5.0, floor = 0.1 }")
                .map_or(Some(None), |value| learning(&value).map(Some));
            table.finish();
            Some(Judging {
                tolerance: tolerance?,
                exit_ratio: exit_ratio?,
                exit_hold: exit_hold?,
                interface: interface?,
                learning: learning?,
            })
        });
        Self { value: value.clone(), judging }
    }
}

fn learning(value: &Value<'_>) -> Option<Learning> {
    let (table, standard) = (value.table()?, Learning::default());
    let margin = table
        .optional("margin", "5.0")
        .map_or(Some(standard.margin), |value| value.float(1.0..=1000.0));
    let floor =
        table.optional("floor", "0.1").map_or(Some(standard.floor), |value| value.float(0.0..=1.0));
    let max_hosts =
        table.optional("max-hosts", "65536").map_or(Some(standard.max_hosts), |value| {
            value.integer(1..=1_000_000).and_then(|number| usize::try_from(number).ok())
        });
    table.finish();
    Some(Learning { margin: margin?, floor: floor?, max_hosts: max_hosts? })
}

/// `[severity]`
pub(super) struct Severities<'a> {
    value: Value<'a>,
    pub(super) scale: Option<SeverityScale>,
}

impl<'a> Once<'a> for Severities<'a> {
    fn value(&self) -> &Value<'a> {
        &self.value
    }
}

impl<'a> Severities<'a> {
    pub(super) fn read(value: &Value<'a>) -> Self {
        let scale = value.table().and_then(|table| {
            let standard = SeverityScale::default();
            let factor = |key, example, standard| {
                let value = table.optional(key, example);
                value.map_or(Some(standard), |value| value.float(1.0..=MAX_FACTOR))
            };
            let medium = factor("medium", "2.0", standard.medium);
            let high = factor("high", "5.0", standard.high);
            let critical = factor("critical", "20.0", standard.critical);
            let of_capacity = shares(&table, standard.of_capacity);
            let after = durations(&table);
            let uncertain = uncertain(&table, &standard);
            table.finish();
            let (uncertain_below, uncertain_at_most) = uncertain?;
            let scale = SeverityScale {
                medium: medium?,
                high: high?,
                critical: critical?,
                of_capacity: of_capacity?,
                after: after?,
                uncertain_below,
                uncertain_at_most,
            };
            if scale.medium < scale.high && scale.high < scale.critical {
                return Some(scale);
            }
            let SeverityScale { medium, high, critical, .. } = scale;
            let message = format!(
                "the severities do not ascend: medium {medium}, high {high}, critical {critical}"
            );
            table.error(message, "write medium < high < critical, such as 2.0, 5.0 and 20.0; one that is left out has its default");
            None
        });
        Self { value: value.clone(), scale }
    }
}
