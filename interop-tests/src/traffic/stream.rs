//! What to generate: one stream of one kind toward one target, and its text form.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use tidegate_model::{AttackVector, PacketsPerSecond, ParsePrefixError, ParseRateError, Prefix};

/// The kind of traffic of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One attack vector.
    Attack(AttackVector),
    /// A mixture of everyday traffic: web, DNS, NTP, QUIC-like UDP and ICMP echo, both directions.
    Benign,
    /// Many new web clients within seconds, each with a complete handshake: no attack.
    FlashCrowd,
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Attack(vector) => vector.fmt(formatter),
            Self::Benign => formatter.pad("benign"),
            Self::FlashCrowd => formatter.pad("flash-crowd"),
        }
    }
}

/// Sends for `on` at the start of every `period`, then is silent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pulse {
    /// From one burst's start to the next.
    pub period: Duration,
    /// Length of a burst, at most `period`.
    pub on: Duration,
}

/// Which directions of a conversation are generated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Toward the target and back.
    Both,
    /// Toward the target only: what a one-way tap sees, and what may be sent onto an interface.
    Inbound,
}

/// One stream of traffic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stream {
    /// What it is made of.
    pub kind: Kind,
    /// The address that it goes to, or a prefix over whose addresses it spreads.
    pub target: Prefix,
    /// Frames a second, both directions together; within the burst for a pulsed stream. For a
    /// flood of connections, connections a second.
    pub rate: PacketsPerSecond,
    /// When it begins, from the scenario's start.
    pub start: Duration,
    /// How long it lasts.
    pub length: Duration,
    /// How many addresses it comes from; `None` is what the kind usually has.
    pub sources: Option<u32>,
    /// The prefix they lie in; `None` is the public address space.
    pub source_prefix: Option<Prefix>,
    /// Length of the IP packets in octets; `None` is what the kind usually has.
    pub packet_length: Option<u16>,
    /// Destination port of attack packets; `None` is what the kind usually has.
    pub port: Option<u16>,
    /// Bursts instead of a steady rate.
    pub pulse: Option<Pulse>,
    /// Directions of conversations.
    pub direction: Direction,
}

impl Stream {
    /// A stream of `kind` toward `target` with the defaults: 1000 frames a second for ten seconds.
    #[must_use]
    pub fn new(kind: Kind, target: Prefix) -> Self {
        Self {
            kind,
            target,
            rate: PacketsPerSecond(1000),
            start: Duration::ZERO,
            length: Duration::from_secs(10),
            sources: None,
            source_prefix: None,
            packet_length: None,
            port: None,
            pulse: None,
            direction: Direction::Both,
        }
    }

    /// An attack by `vector` on `target`.
    #[must_use]
    pub fn attack(vector: AttackVector, target: Prefix) -> Self {
        Self::new(Kind::Attack(vector), target)
    }

    /// Everyday traffic of `target`.
    #[must_use]
    pub fn benign(target: Prefix) -> Self {
        Self::new(Kind::Benign, target)
    }

    /// The same stream with another rate.
    #[must_use]
    pub fn rate(mut self, packets_per_second: u64) -> Self {
        self.rate = PacketsPerSecond(packets_per_second);
        self
    }

    /// The same stream from `start` on, for `length`.
    #[must_use]
    pub fn during(mut self, start: Duration, length: Duration) -> Self {
        self.start = start;
        self.length = length;
        self
    }
}

/// Names that stand for a kind with a modifier.
const PULSE: &str = "pulse";
const CARPET: &str = "carpet";

/// Burst of a `pulse` stream unless it says otherwise.
const DEFAULT_PULSE: Pulse =
    Pulse { period: Duration::from_secs(2), on: Duration::from_millis(500) };

/// Keys of the text form, with what they mean.
pub(crate) const KEYS: [(&str, &str); 13] = [
    ("target", "address, or prefix to spread over (required)"),
    ("rate", "frames a second: 2k, 1.5M (default 1k)"),
    ("for", "duration: 10s, 500ms, 2m (default 10s)"),
    ("start", "offset from the scenario's start (default 0s)"),
    ("sources", "number of source addresses"),
    ("from", "prefix of the source addresses"),
    ("length", "length of the IP packets in octets, 28 to 1500"),
    ("port", "destination port of attack packets"),
    ("vector", "vector of `pulse` and `carpet` (default udp-flood)"),
    ("period", "burst period (default 2s for `pulse`)"),
    ("on", "burst length (default 500ms for `pulse`)"),
    ("direction", "both or in (default both)"),
    ("mbps", "rate in Mbit/s instead of `rate`; needs `length`"),
];

/// Every name that may begin a stream, with what it is.
pub fn names() -> impl Iterator<Item = (String, &'static str)> {
    let mixtures = [
        ("benign", "web, DNS, NTP, QUIC-like UDP and ICMP echo, both directions"),
        ("flash-crowd", "many new web clients at once, with complete handshakes: no attack"),
        (PULSE, "a vector in bursts"),
        (CARPET, "a vector spread over every address of a prefix"),
    ];
    AttackVector::all()
        .map(|vector| (vector.to_string(), "attack vector"))
        .chain(mixtures.map(|(name, meaning)| (name.to_owned(), meaning)))
}

/// Text that is no stream.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseStreamError {
    /// The first part names nothing.
    #[error(
        "`{0}` is neither an attack vector nor a mixture; `tidegate-lab traffic --list` lists them"
    )]
    Name(String),
    /// A part that is not `key=value`.
    #[error("`{0}` is not `key=value`")]
    Pair(String),
    /// A key that does not exist.
    #[error("`{0}` is not a key of a stream; the keys are {keys}", keys = key_list())]
    Key(String),
    /// A key given twice.
    #[error("`{0}` is given twice")]
    Twice(String),
    /// No target.
    #[error("the stream `{0}` has no target; add `target=203.0.113.10`")]
    NoTarget(String),
    /// A target or source prefix that cannot be read.
    #[error(transparent)]
    Prefix(#[from] ParsePrefixError),
    /// A rate that cannot be read.
    #[error(transparent)]
    Rate(#[from] ParseRateError),
    /// A duration that cannot be read.
    #[error("`{0}` is not a duration; write a number and ms, s or m, such as `500ms`")]
    Duration(String),
    /// A number out of its range.
    #[error("`{key}={value}`: expected {expected}")]
    Number {
        /// The key.
        key: &'static str,
        /// What was given.
        value: String,
        /// What would have been right.
        expected: &'static str,
    },
    /// Keys that contradict each other.
    #[error("{0}")]
    Conflict(&'static str),
}

fn key_list() -> String {
    KEYS.map(|(key, _)| key).join(", ")
}

/// Reads `10s`, `500ms`, `1.5s`, `2m`.
///
/// # Errors
/// [`ParseStreamError::Duration`].
pub fn parse_duration(text: &str) -> Result<Duration, ParseStreamError> {
    let error = || ParseStreamError::Duration(text.to_owned());
    let unit = text.find(|c: char| c.is_ascii_alphabetic()).ok_or_else(error)?;
    let (number, unit) = text.split_at(unit);
    let scale = match unit {
        "us" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(error()),
    };
    let number: f64 = number.parse().map_err(|_| error())?;
    Duration::try_from_secs_f64(number * scale).map_err(|_| error())
}

fn number<T: FromStr + PartialOrd>(
    key: &'static str,
    value: &str,
    range: std::ops::RangeInclusive<T>,
    expected: &'static str,
) -> Result<T, ParseStreamError> {
    value
        .parse()
        .ok()
        .filter(|number| range.contains(number))
        .ok_or_else(|| ParseStreamError::Number { key, value: value.to_owned(), expected })
}

/// The keys of one stream, before they are checked against each other.
#[derive(Default)]
struct Pairs<'a> {
    given: Vec<(&'a str, &'a str)>,
}

impl<'a> Pairs<'a> {
    fn read(parts: impl Iterator<Item = &'a str>) -> Result<Self, ParseStreamError> {
        let mut pairs = Self::default();
        for part in parts {
            let (key, value) =
                part.split_once('=').ok_or_else(|| ParseStreamError::Pair(part.to_owned()))?;
            let (key, value) = (key.trim(), value.trim());
            if !KEYS.iter().any(|(known, _)| *known == key) {
                return Err(ParseStreamError::Key(key.to_owned()));
            }
            if pairs.get(key).is_some() {
                return Err(ParseStreamError::Twice(key.to_owned()));
            }
            pairs.given.push((key, value));
        }
        Ok(pairs)
    }

    fn get(&self, key: &str) -> Option<&'a str> {
        self.given.iter().find(|(given, _)| *given == key).map(|(_, value)| *value)
    }

    fn duration(&self, key: &str) -> Result<Option<Duration>, ParseStreamError> {
        self.get(key).map(parse_duration).transpose()
    }

    fn kind(&self, name: &str) -> Result<Kind, ParseStreamError> {
        let vector = |name: &str| {
            name.parse().map(Kind::Attack).map_err(|_| ParseStreamError::Name(name.to_owned()))
        };
        let modified = name == PULSE || name == CARPET;
        match (name, self.get("vector")) {
            (_, Some(_)) if !modified => {
                Err(ParseStreamError::Conflict("`vector` belongs to `pulse` and `carpet` only"))
            }
            ("benign", _) => Ok(Kind::Benign),
            ("flash-crowd", _) => Ok(Kind::FlashCrowd),
            (_, given) if modified => vector(given.unwrap_or("udp-flood")),
            _ => vector(name),
        }
    }

    fn pulse(&self, name: &str) -> Result<Option<Pulse>, ParseStreamError> {
        let (period, on) = (self.duration("period")?, self.duration("on")?);
        if name != PULSE && period.is_none() && on.is_none() {
            return Ok(None);
        }
        let pulse = Pulse {
            period: period.unwrap_or(DEFAULT_PULSE.period),
            on: on.unwrap_or(DEFAULT_PULSE.on),
        };
        if pulse.on.is_zero() || pulse.on > pulse.period {
            return Err(ParseStreamError::Conflict(
                "a burst must be longer than nothing and no longer than its period",
            ));
        }
        Ok(Some(pulse))
    }

    fn rate(&self, length: Option<u16>) -> Result<Option<PacketsPerSecond>, ParseStreamError> {
        match (self.get("rate"), self.get("mbps"), length) {
            (Some(_), Some(_), _) => {
                Err(ParseStreamError::Conflict("give `rate` or `mbps`, not both"))
            }
            (Some(rate), None, _) => Ok(Some(rate.parse()?)),
            (None, Some(mbps), Some(length)) => {
                let mbps: u64 = number("mbps", mbps, 1..=1_000_000, "1 to 1000000")?;
                let bits = (u64::from(length) + 14) * 8;
                Ok(Some(PacketsPerSecond((mbps * 1_000_000 / bits).max(1))))
            }
            (None, Some(_), None) => Err(ParseStreamError::Conflict("`mbps` needs `length`")),
            (None, None, _) => Ok(None),
        }
    }
}

impl FromStr for Stream {
    type Err = ParseStreamError;

    /// Reads `syn-flood,target=203.0.113.10,rate=50k,start=3s,for=4s`.
    fn from_str(text: &str) -> Result<Self, ParseStreamError> {
        let mut parts = text.split(',');
        let name = parts.next().unwrap_or_default().trim();
        let pairs = Pairs::read(parts)?;
        let kind = pairs.kind(name)?;
        let target =
            pairs.get("target").ok_or_else(|| ParseStreamError::NoTarget(name.to_owned()))?;
        let mut stream = Self::new(kind, target.parse()?);
        if name == CARPET && stream.target.is_host() {
            return Err(ParseStreamError::Conflict(
                "`carpet` needs a prefix as its target, such as `target=203.0.113.0/24`",
            ));
        }
        stream.pulse = pairs.pulse(name)?;
        if let Some(length) = pairs.get("length") {
            stream.packet_length = Some(number("length", length, 28..=1500, "28 to 1500")?);
        }
        if let Some(rate) = pairs.rate(stream.packet_length)? {
            stream.rate = rate;
        }
        stream.start = pairs.duration("start")?.unwrap_or(stream.start);
        stream.length = pairs.duration("for")?.unwrap_or(stream.length);
        if let Some(sources) = pairs.get("sources") {
            stream.sources = Some(number("sources", sources, 1..=u32::MAX, "at least 1")?);
        }
        stream.source_prefix = pairs.get("from").map(str::parse).transpose()?;
        if stream.source_prefix.is_some_and(|from| from.family() != stream.target.family()) {
            return Err(ParseStreamError::Conflict(
                "`from` and `target` must be of the same address family",
            ));
        }
        if let Some(port) = pairs.get("port") {
            stream.port = Some(number("port", port, 0..=u16::MAX, "0 to 65535")?);
        }
        let attack = matches!(kind, Kind::Attack(_));
        if !attack && ["length", "port", "period", "on"].iter().any(|key| pairs.get(key).is_some())
        {
            return Err(ParseStreamError::Conflict(
                "`length`, `port`, `period` and `on` belong to attack streams only",
            ));
        }
        stream.direction = match pairs.get("direction") {
            None | Some("both") => Direction::Both,
            Some("in") => Direction::Inbound,
            Some(value) => {
                let (key, value) = ("direction", value.to_owned());
                return Err(ParseStreamError::Number { key, value, expected: "both or in" });
            }
        };
        Ok(stream)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_read() {
        let stream: Stream =
            "syn-flood,target=203.0.113.10,rate=50k,start=3s,for=4s,sources=9,port=443,length=60"
                .parse()
                .unwrap();
        assert_eq!(stream.kind, Kind::Attack(AttackVector::SynFlood));
        assert_eq!(stream.rate, PacketsPerSecond(50_000));
        assert_eq!(stream.start, Duration::from_secs(3));
        assert_eq!(stream.length, Duration::from_secs(4));
        assert_eq!(
            (stream.sources, stream.port, stream.packet_length),
            (Some(9), Some(443), Some(60))
        );

        let stream: Stream = "pulse,target=2001:db8::1,on=100ms".parse().unwrap();
        assert_eq!(stream.kind, Kind::Attack(AttackVector::UdpFlood));
        assert_eq!(stream.pulse.unwrap().on, Duration::from_millis(100));

        let stream: Stream =
            "carpet, vector=ntp-amplification, target=203.0.113.0/24, length=468, mbps=100"
                .parse()
                .unwrap();
        assert_eq!(stream.rate, PacketsPerSecond(25_933));
        assert!("benign,target=203.0.113.1,direction=in".parse::<Stream>().is_ok());
    }

    #[test]
    fn mistakes_are_named() {
        for (text, part) in [
            ("", "neither an attack vector"),
            ("sin-flood,target=192.0.2.1", "neither an attack vector"),
            ("benign", "no target"),
            ("benign,target", "not `key=value`"),
            ("benign,target=192.0.2.1,speed=3", "not a key"),
            ("benign,target=192.0.2.1,rate=1,rate=2", "twice"),
            ("benign,target=192.0.2.1,rate=fast", "not a rate"),
            ("benign,target=192.0.2.1,for=10", "not a duration"),
            ("benign,target=192.0.2.1,for=-1s", "not a duration"),
            ("benign,target=192.0.2.1,vector=udp-flood", "belongs to"),
            ("benign,target=192.0.2.1,direction=out", "both or in"),
            ("benign,target=192.0.2.1,from=2001:db8::/32", "same address family"),
            ("benign,target=192.0.2.1,port=80", "attack streams only"),
            ("carpet,target=192.0.2.1", "needs a prefix"),
            ("pulse,target=192.0.2.1,on=3s", "no longer than its period"),
            ("udp-flood,target=192.0.2.1,length=9000", "28 to 1500"),
            ("udp-flood,target=192.0.2.1,mbps=10", "needs `length`"),
            ("udp-flood,target=192.0.2.1/24", "192.0.2.0/24"),
        ] {
            let error = text.parse::<Stream>().unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn every_name_reads_back() {
        for (name, _) in names() {
            let target = if name == CARPET { "192.0.2.0/24" } else { "192.0.2.1" };
            assert!(format!("{name},target={target}").parse::<Stream>().is_ok(), "{name}");
        }
    }
}
